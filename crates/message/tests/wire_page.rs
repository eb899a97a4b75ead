//! `docs/wire.md` says the numbers the code has.

use ordonnans_message::{
    DecodeError, Frame, Precedence, ReceiptKind, ReplyCode, SUITE_X_WING, limits,
};

const PAGE: &str = include_str!("../../../docs/wire.md");

#[track_caller]
fn has(row: &str) {
    assert!(PAGE.contains(row), "docs/wire.md lacks: {row}");
}

#[test]
fn reply_codes_and_receipts() {
    let codes: Vec<ReplyCode> = (0..=u8::MAX).filter_map(ReplyCode::from_code).collect();
    for c in &codes {
        has(&format!("\n| {} | {c:?} | ", c.code()));
    }
    has(&format!("\n| {} | AttachmentMissing | ", codes.len()));
    for k in (0..=u8::MAX).filter_map(ReceiptKind::from_code) {
        has(&format!("\n| {} | {k:?} | ", k.code()));
    }
}

#[test]
fn errors_and_words() {
    for e in [
        DecodeError::Truncated,
        DecodeError::Trailing,
        DecodeError::Form(""),
        DecodeError::Limit(""),
        DecodeError::NotDeterministic,
        DecodeError::Unknown(""),
        DecodeError::Unsupported(""),
    ] {
        has(&format!("\n| {} | ", e.name()));
    }
    let words: Vec<String> = Precedence::ALL
        .iter()
        .map(|p| format!("{} {p}", p.code()))
        .collect();
    has(&format!("Precedence: {}.", words.join(", ")));
    assert_eq!(SUITE_X_WING, 1);
}

#[test]
fn kinds_of_frames() {
    // The page numbers them without a gap; the decoder knows as many, and not one more.
    let rows = PAGE.split("\n## ").find(|s| s.starts_with("6. Frames"));
    let rows = rows.and_then(|s| s.split("\n\n").nth(1)).expect("a table");
    let kinds = rows.lines().skip(2).count();
    for kind in 0..=u8::MAX {
        // An unknown kind is told before a wrong count; six items are as many as a frame can have.
        let frame = [&[0x86][..], &head(kind), &[0xf6; 5]].concat();
        let known = Frame::decode(&frame) != Err(DecodeError::Unknown("frame kind"));
        assert_eq!(known, (1..=kinds).contains(&usize::from(kind)), "{kind}");
    }
    for (i, row) in rows.lines().skip(2).enumerate() {
        assert!(row.starts_with(&format!("| {} | ", i + 1)), "{row}");
    }
}

fn head(n: u8) -> Vec<u8> {
    if n < 24 { vec![n] } else { vec![0x18, n] }
}

#[test]
fn every_limit() {
    macro_rules! same {
        ($($name:ident)*) => {
            $(has(&format!("\n| `{}` | {} | ", stringify!($name), limits::$name));)*
        };
    }
    same!(
        MAX_CONTENT MAX_COPIES MAX_RECIPIENTS MAX_ATTACHMENTS MAX_ATTACHMENT MAX_REFERENCES MAX_HEADER MAX_SEAL MAX_SEALS MAX_CERTIFICATE
        MAX_SIGNATURE MAX_REQUEST MAX_ACT MAX_SECOND MAX_ENVELOPE MAX_FRAME MAX_STATEMENT MAX_CHECKPOINT MAX_DIRECTORY MAX_PAGE MAX_RECORD MAX_SUBJECT MAX_TEXT
        MAX_LIFETIME_MS MAX_CATALOG MAX_EXPLAINED MAX_STEPS MAX_FACT MAX_GROUPS MAX_GROUP
    );
    let rows = PAGE.lines().filter(|l| l.starts_with("| `MAX_")).count();
    assert_eq!(rows, 30, "a limit that is not in the code");
}
