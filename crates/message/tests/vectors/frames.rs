//! Frames.

use bytes::Bytes;
use ordonnans_label::{Level, Name};
use ordonnans_message::cbor::Writer;
use ordonnans_message::{
    Addressee, AuditQuery, DirectoryEntry, ExplainedRule, Frame, Members, MessageId, News,
    Precedence, ProofOf, Readers, ReceiptKind, ReplyCode, Supposed, Timestamp, limits, sha256,
};

use crate::{Decoded, Source, facts};

fn decode(bytes: &[u8]) -> Decoded {
    let frame = Frame::decode(bytes)?;
    Ok((
        facts([("frame", word(&frame).into())]),
        frame.encode().into(),
    ))
}

fn word(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello { .. } => "Hello",
        Frame::Welcome { .. } => "Welcome",
        Frame::Publish { .. } => "Publish",
        Frame::Accepted { .. } => "Accepted",
        Frame::Refused { .. } => "Refused",
        Frame::Deliver { .. } => "Deliver",
        Frame::Receipt { .. } => "Receipt",
        Frame::ReceiptStored { .. } => "ReceiptStored",
        Frame::KeyPackage { .. } => "KeyPackage",
        Frame::KeyPackageStored => "KeyPackageStored",
        Frame::DirectoryGet => "DirectoryGet",
        Frame::Directory { .. } => "Directory",
        Frame::AttachmentOffer { .. } => "AttachmentOffer",
        Frame::AttachmentState { .. } => "AttachmentState",
        Frame::AttachmentGet { .. } => "AttachmentGet",
        Frame::AuditGet { .. } => "AuditGet",
        Frame::AuditPage { .. } => "AuditPage",
        Frame::CatalogGet { .. } => "CatalogGet",
        Frame::Catalog { .. } => "Catalog",
        Frame::ExplainGet { .. } => "ExplainGet",
        Frame::Explanation { .. } => "Explanation",
        Frame::Act { .. } => "Act",
        Frame::Declare { .. } => "Declare",
        Frame::ReviewDue { .. } => "ReviewDue",
        Frame::Kept { .. } => "Kept",
        Frame::NotKept { .. } => "NotKept",
        Frame::WatchGet { .. } => "WatchGet",
        Frame::ProofGet { .. } => "ProofGet",
        Frame::Proof { .. } => "Proof",
        Frame::CheckpointGet { .. } => "CheckpointGet",
        Frame::Checkpoint { .. } => "Checkpoint",
        Frame::Cosign { .. } => "Cosign",
        Frame::Order { .. } => "Order",
        Frame::ReadersGet { .. } => "ReadersGet",
        Frame::Readers { .. } => "Readers",
        Frame::Notice { .. } => "Notice",
        Frame::ExpandGet { .. } => "ExpandGet",
        Frame::Expanded { .. } => "Expanded",
        Frame::RenewalAsk { .. } => "RenewalAsk",
        Frame::Renewed { .. } => "Renewed",
    }
}

/// The example key of C2SP signed-note.
const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

fn id() -> MessageId {
    MessageId::new(Timestamp::from_millis(1_790_000_000_000), [0x5a; 10])
}

fn name() -> Name {
    "ncc.node.crisis.example".parse().expect("a name")
}

/// Every kind, with and without what may be left out.
fn good() -> Vec<(String, Vec<u8>)> {
    let digest = sha256(&[b"sealed attachment"]);
    let dummy = Bytes::from_static(b"dummy");
    let text = "b1.broker.crisis.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n";
    let checkpoint = Some(text.to_owned());
    let hello = |checkpoint| Frame::Hello {
        version: 1,
        checkpoint,
    };
    let refused = |all: bool| Frame::Refused {
        id: all.then(id),
        code: if all {
            ReplyCode::NotPermitted
        } else {
            ReplyCode::Malformed
        },
        rule: all.then_some(7),
        recipient: all.then(name),
        retry_after_ms: all.then_some(5_000),
    };
    let entry = |package| DirectoryEntry {
        name: name(),
        title: "Nationaal Crisiscentrum".into(),
        package,
    };
    let addressee = |person: Option<&str>| Addressee {
        node: name(),
        person: person.map(|p| p.parse().expect("a name")),
    };
    let label = |text: &str| text.parse().expect("a label");
    let group = |text: &str| text.parse().expect("a group");
    let (node, precedence) = (name(), Precedence::Flash);
    let news = [
        ("two are left out", News::LeftOut { count: 2 }),
        ("it is held back", News::Withheld { node: name() }),
        ("its time is over", News::Expired { node: name() }),
        ("it should be open by now", News::Due { precedence }),
        ("it is late", News::Late { node, precedence }),
        ("another took its place", News::Superseded { node: name() }),
    ];
    let query = |message| Frame::AuditGet {
        request: 4,
        query: Box::new(AuditQuery {
            from: 1 << 40,
            limit: 256,
            message,
            ..AuditQuery::default()
        }),
    };
    let narrow = AuditQuery {
        since: Some(Timestamp::from_millis(1_790_000_000_000)),
        until: Some(Timestamp::from_millis(1_790_000_000_123)),
        level: Some(Level::StgG),
        verb: Some(2),
        rule: Some(7),
        node: Some(name()),
        person: Some("bos.person.crisis.example".parse().expect("a name")),
        ..AuditQuery::default()
    };
    let frames = vec![
        ("a first greeting", hello(None)),
        ("a greeting with a checkpoint", hello(checkpoint.clone())),
        (
            "the broker's greeting",
            Frame::Welcome {
                broker: "b1.broker.crisis.example".parse().expect("a name"),
                checkpoint: checkpoint.clone(),
                key: KEY.into(),
                proof: vec![digest],
            },
        ),
        (
            "a message to the broker",
            Frame::Publish {
                envelope: dummy.clone(),
            },
        ),
        (
            "it is durable",
            Frame::Accepted {
                id: id(),
                at: Timestamp::from_millis(1_790_000_000_123),
                sequence: u64::MAX,
            },
        ),
        ("it is refused, with all that can be said", refused(true)),
        ("it is refused, and could not be read", refused(false)),
        (
            "a message from the broker",
            Frame::Deliver {
                envelope: dummy.clone(),
            },
        ),
        (
            "a receipt",
            Frame::Receipt {
                receipt: dummy.clone(),
            },
        ),
        (
            "the receipt is durable",
            Frame::ReceiptStored {
                id: id(),
                kind: ReceiptKind::Opened,
                by: name(),
            },
        ),
        (
            "a key package",
            Frame::KeyPackage {
                package: dummy.clone(),
            },
        ),
        ("the key package is durable", Frame::KeyPackageStored),
        ("the directory, please", Frame::DirectoryGet),
        (
            "the directory",
            Frame::Directory {
                version: 3,
                entries: vec![entry(Some(dummy.clone())), entry(None)],
                more: false,
            },
        ),
        (
            "an attachment will come",
            Frame::AttachmentOffer {
                digest,
                length: limits::MAX_ATTACHMENT,
            },
        ),
        (
            "half of it is there",
            Frame::AttachmentState {
                digest,
                have: 65_536,
            },
        ),
        (
            "the rest of it, please",
            Frame::AttachmentGet {
                digest,
                offset: 65_536,
            },
        ),
        ("records, please", query(None)),
        ("records of a message, please", query(Some(id()))),
        (
            "records, one of them open",
            Frame::AuditPage {
                request: 4,
                records: vec![dummy.clone(), dummy.clone()],
                details: vec![None, Some(dummy)],
                checkpoint,
                next: Some(7),
            },
        ),
        (
            "which labels to these",
            Frame::CatalogGet {
                request: 5,
                to: vec![
                    addressee(None),
                    addressee(Some("bos.person.crisis.example")),
                ],
            },
        ),
        (
            "these labels",
            Frame::Catalog {
                request: 5,
                labels: vec![label("Dep.V // KRING ICCB"), label("NATO SECRET")],
            },
        ),
        (
            "why not",
            Frame::ExplainGet {
                request: 6,
                about: Box::new(Supposed {
                    from: name(),
                    to: vec![addressee(None)],
                    label: label("NATO SECRET // CONTEXT NATO"),
                    at: Some(Timestamp::from_millis(1_790_000_000_123)),
                }),
            },
        ),
        (
            "therefore",
            Frame::Explanation {
                request: 6,
                rules: vec![
                    ExplainedRule {
                        rule: 16,
                        recipient: None,
                        holds: true,
                        fact: "NATO SECRET is a label of NATO".into(),
                    },
                    ExplainedRule {
                        rule: 20,
                        recipient: Some(name()),
                        holds: false,
                        fact: "no consent".into(),
                    },
                ],
            },
        ),
        (
            "this label is revised",
            Frame::Act {
                act: Bytes::from_static(b"dummy act"),
            },
        ),
        (
            "this event has happened",
            Frame::Declare {
                declaration: Bytes::from_static(b"dummy declaration"),
            },
        ),
        (
            "weigh it again, for its day has passed",
            Frame::ReviewDue {
                id: id(),
                by: name(),
                event: None,
            },
        ),
        (
            "weigh it again, for the event was declared",
            Frame::ReviewDue {
                id: id(),
                by: name(),
                event: Some("einde crisis".into()),
            },
        ),
        (
            "kept",
            Frame::Kept {
                of: sha256(&[b"a frame"]),
            },
        ),
        (
            "not kept",
            Frame::NotKept {
                of: sha256(&[b"a frame"]),
                code: ReplyCode::NotPermitted,
                rule: Some(7),
            },
        ),
        (
            "records as they are made",
            Frame::WatchGet {
                request: 7,
                query: Box::new(narrow),
            },
        ),
        (
            "prove that it is in",
            Frame::ProofGet {
                request: 8,
                of: ProofOf::Inclusion {
                    sequence: 3,
                    size: 9,
                },
            },
        ),
        (
            "prove that it goes on",
            Frame::ProofGet {
                request: 8,
                of: ProofOf::Consistency { first: 3, size: 9 },
            },
        ),
        (
            "the root of then",
            Frame::ProofGet {
                request: 8,
                of: ProofOf::Root { size: 3 },
            },
        ),
        (
            "the proof",
            Frame::Proof {
                request: 8,
                hashes: Some(vec![digest, sha256(&[b"another"])]),
            },
        ),
        (
            "there is no proof",
            Frame::Proof {
                request: 8,
                hashes: None,
            },
        ),
        ("sign it now", Frame::CheckpointGet { request: 9 }),
        (
            "signed",
            Frame::Checkpoint {
                request: Some(9),
                checkpoint: text.to_owned(),
                proof: vec![],
            },
        ),
        (
            "a new checkpoint for witnesses",
            Frame::Checkpoint {
                request: None,
                checkpoint: text.to_owned(),
                proof: vec![digest],
            },
        ),
        (
            "countersigned",
            Frame::Cosign {
                key: KEY.into(),
                size: 9,
                line: "\u{2014} example.com/foo bm90IGEgc2lnbmF0dXJl".into(),
            },
        ),
        (
            "an order",
            Frame::Order {
                order: Bytes::from_static(b"dummy order"),
            },
        ),
        (
            "who could read it there",
            Frame::ReadersGet {
                request: 10,
                nodes: vec![name()],
                level: Level::StgG,
            },
        ),
        (
            "these could",
            Frame::Readers {
                request: 10,
                rows: vec![Readers {
                    node: name(),
                    title: "Nationaal Crisiscentrum".into(),
                    rijksdienst: true,
                    on_line: false,
                    bva: None,
                    persons: vec!["bos.person.crisis.example".parse().expect("a name")],
                }],
            },
        ),
        (
            "who of these groups may have it",
            Frame::ExpandGet {
                request: 11,
                groups: vec![group("role:hoofd-piket"), group("list:avond")],
                label: Box::new(label("Dep.V // KRING ICCB")),
            },
        ),
        (
            "these may, and two may not",
            Frame::Expanded {
                request: 11,
                groups: vec![
                    None,
                    Some(Members {
                        may: vec![addressee(Some("bos.person.crisis.example"))],
                        left_out: 2,
                    }),
                    Some(Members::default()),
                ],
            },
        ),
        (
            "a node asks for its next certificate",
            Frame::RenewalAsk {
                request: vec![0x30; 300].into(),
                signature: vec![7; 64].into(),
            },
        ),
        (
            "and gets it",
            Frame::Renewed {
                certificate: vec![0x30; 600].into(),
            },
        ),
    ]
    .into_iter()
    .chain(news.into_iter().map(|(what, news)| {
        let frame = Frame::Notice {
            id: id(),
            originator: name(),
            at: Timestamp::from_millis(1_790_000_000_123),
            news,
        };
        (what, frame)
    }));
    frames
        .map(|(name, frame)| (name.to_owned(), frame.encode().into()))
        .collect()
}

fn bytes(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w);
    w.into_bytes()
}

fn null(w: &mut Writer) -> &mut Writer {
    w.option(None::<u8>, |_, _| ())
}

pub(crate) fn source() -> Source {
    let id = *id().as_bytes();
    let mut other_version = id;
    other_version[6] = 0x4a;
    let hello = |version| {
        bytes(|w| {
            null(w.array(3).uint(1).uint(version));
        })
    };
    let offer = |length| {
        bytes(|w| {
            w.array(3).uint(13).bytes(&[0; 32]).uint(length);
        })
    };
    let refused = |code| {
        bytes(|w| {
            null(null(null(null(w.array(6).uint(5)).uint(code))));
        })
    };
    let stored = |id: &[u8], kind, by: &str| {
        bytes(|w| {
            w.array(4).uint(8).bytes(id).uint(kind).text(by);
        })
    };
    let who = "ncc.node.crisis.example";
    let page = |limit| {
        bytes(|w| {
            w.array(3).uint(16).uint(1).array(10).uint(0).uint(limit);
            for _ in 0..8 {
                null(w);
            }
        })
    };
    let mut not_utf8 = stored(&id, 1, who);
    let last = not_utf8.len() - 1;
    not_utf8[last] = 0xff;
    let bad = vec![
        ("nothing", vec![]),
        ("the head alone", vec![0x81]),
        ("an empty array", vec![0x80]),
        ("no array", vec![0x0b]),
        ("a byte over", vec![0x81, 0x0b, 0x00]),
        ("kind 0", vec![0x81, 0x00]),
        ("kind 22", vec![0x81, 0x16]),
        ("a negative kind", vec![0x81, 0x20]),
        ("a kind in two bytes", vec![0x81, 0x18, 0x0b]),
        ("a length in two bytes", vec![0x98, 0x01, 0x0b]),
        ("an array of indefinite length", vec![0x9f, 0x0b, 0xff]),
        ("a field over", vec![0x82, 0x0b, 0x00]),
        (
            "2^32 - 1 items announced",
            vec![0x9a, 0xff, 0xff, 0xff, 0xff],
        ),
        (
            "2^40 bytes announced",
            vec![0x82, 0x03, 0x5b, 0, 0, 1, 0, 0, 0, 0, 0],
        ),
        (
            "bytes of indefinite length",
            vec![0x82, 0x03, 0x5f, 0x41, 0x00, 0xff],
        ),
        ("a text where bytes belong", vec![0x82, 0x03, 0x61, b'a']),
        ("arrays in arrays", vec![0x81; 64]),
        ("version 65,536", hello(65_536)),
        (
            "a checkpoint above its limit",
            bytes(|w| {
                let text = "x".repeat(limits::MAX_CHECKPOINT + 1);
                w.array(3).uint(1).uint(1).text(&text);
            }),
        ),
        ("a message id of 15 bytes", stored(&id[..15], 1, who)),
        (
            "a message id of another version",
            stored(&other_version, 1, who),
        ),
        ("receipt kind 8", stored(&id, 8, who)),
        (
            "a name in capitals",
            stored(&id, 1, "NCC.node.crisis.example"),
        ),
        (
            "a name of no kind",
            stored(&id, 1, "ncc.host.crisis.example"),
        ),
        ("a name that is not UTF-8", not_utf8),
        ("reply code 0", refused(0)),
        ("reply code 12", refused(12)),
        (
            "undefined where null belongs",
            vec![0x86, 0x05, 0xf7, 0x01, 0xf6, 0xf6, 0xf6],
        ),
        (
            "an attachment above its limit",
            offer(limits::MAX_ATTACHMENT + 1),
        ),
        (
            "a digest of 31 bytes",
            bytes(|w| {
                w.array(3).uint(13).bytes(&[0; 31]).uint(1);
            }),
        ),
        ("a page of 257 records", page(257)),
        (
            "a time after the year 9999",
            bytes(|w| {
                let ms = Timestamp::MAX.as_millis() + 1;
                w.array(4).uint(4).bytes(&id).uint(ms).uint(0);
            }),
        ),
        (
            "fewer details than records",
            bytes(|w| {
                w.array(6).uint(17).uint(1).array(1).bytes(b"r").array(0);
                null(null(w));
            }),
        ),
        (
            "a catalogue for nobody",
            bytes(|w| {
                w.array(3).uint(18).uint(1).array(0);
            }),
        ),
        (
            "65 addressees announced",
            bytes(|w| {
                w.array(3).uint(18).uint(1).array(65);
            }),
        ),
        (
            "257 labels announced",
            bytes(|w| {
                w.array(3).uint(19).uint(1).array(257);
            }),
        ),
        (
            "an explanation for 17",
            bytes(|w| {
                w.array(6).uint(20).uint(1).text(who).array(17);
            }),
        ),
        (
            "a proof of no kind",
            bytes(|w| {
                w.array(3).uint(28).uint(1).array(3).uint(4).uint(0).uint(1);
            }),
        ),
        (
            "a proof of 131 hashes announced",
            bytes(|w| {
                w.array(3).uint(29).uint(1).array(131);
            }),
        ),
        (
            "readers of level 5",
            bytes(|w| {
                w.array(4).uint(34).uint(1).array(0).uint(5);
            }),
        ),
        (
            "65 nodes announced",
            bytes(|w| {
                w.array(4).uint(34).uint(1).array(65);
            }),
        ),
        (
            "a fact of 401 characters",
            bytes(|w| {
                null(w.array(3).uint(21).uint(1).array(1).array(4).uint(1));
                w.bool(true).text(&"x".repeat(401));
            }),
        ),
        (
            "groups of nobody",
            bytes(|w| {
                w.array(4).uint(37).uint(1).array(0);
            }),
        ),
        (
            "a group of no kind",
            bytes(|w| {
                w.array(4).uint(37).uint(1).array(1).text("node:ncc");
            }),
        ),
        (
            "17 groups announced",
            bytes(|w| {
                w.array(3).uint(38).uint(1).array(17);
            }),
        ),
        (
            "a request of 4097 bytes",
            bytes(|w| {
                w.array(3).uint(39).bytes(&[0x30; 4097]).bytes(&[7; 64]);
            }),
        ),
        (
            "a request without a signature",
            bytes(|w| {
                w.array(2).uint(39).bytes(&[0x30; 300]);
            }),
        ),
        (
            "a certificate of 8193 bytes",
            bytes(|w| {
                w.array(2).uint(40).bytes(&[0x30; 8193]);
            }),
        ),
        (
            "news of kind 6",
            bytes(|w| {
                w.array(5).uint(36).bytes(&id).text(who).uint(1);
                w.array(3).uint(6).text(who).uint(0);
            }),
        ),
        (
            "news without its node",
            bytes(|w| {
                w.array(5).uint(36).bytes(&id).text(who).uint(1);
                null(w.array(3).uint(1)).uint(0);
            }),
        ),
        (
            "129 directory entries announced",
            bytes(|w| {
                w.array(4).uint(12).uint(1).array(limits::MAX_DIRECTORY + 1);
            }),
        ),
    ];
    Source {
        file: "frame",
        rule: "frame",
        good: good(),
        bad,
        decode,
    }
}
