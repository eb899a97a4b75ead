//! Plain content, as it is before sealing.

use ordonnans_message::cbor::Writer;
use ordonnans_message::{AttachmentKey, Content, limits, sha256};

use crate::{Decoded, Source, facts};

fn decode(bytes: &[u8]) -> Decoded {
    let c = Content::decode(bytes)?;
    let all = facts([
        ("subject", c.subject.clone()),
        ("media_type", c.media_type.clone()),
        ("body", c.body.len().to_string()),
        ("attachments", c.attachments.len().to_string()),
        ("digest", c.digest().to_string()),
    ]);
    Ok((all, c.encode()))
}

pub(crate) fn source() -> Source {
    let text = Content {
        salt: [0x5a; 32],
        subject: "Oefening: waterstand Lobith".into(),
        media_type: "text/plain".into(),
        name: None,
        body: b"16,3 m boven NAP".to_vec(),
        attachments: vec![],
    };
    let file = Content {
        name: Some("bericht.txt".into()),
        attachments: vec![AttachmentKey {
            digest: sha256(&[b"sealed attachment"]),
            key: [0xab; 32],
            name: "kaart 🗺.png".into(),
            media_type: "image/png".into(),
            length: 70_000,
        }],
        ..text.clone()
    };
    let long = Content {
        subject: "é".repeat(limits::MAX_SUBJECT + 1),
        ..text.clone()
    };
    let whole = file.encode();
    let mut four = Writer::default();
    four.array(4)
        .bytes(&[0; 32])
        .text("")
        .text("")
        .option(None::<u8>, |_, _| ())
        .bytes(b"");
    let mut short = Writer::default();
    short.array(6).bytes(&[0; 31]).text("").text("");
    short.option(None::<u8>, |_, _| ()).bytes(b"").array(0);
    let mut number = Writer::default();
    number
        .array(6)
        .bytes(&[0; 32])
        .uint(1)
        .text("")
        .option(None::<u8>, |_, _| ());
    number.bytes(b"").array(0);
    let mut many = Writer::default();
    many.array(6)
        .bytes(&[0; 32])
        .text("")
        .text("")
        .option(None::<u8>, |_, _| ());
    many.bytes(b"").array(limits::MAX_ATTACHMENTS + 1);
    Source {
        file: "content",
        rule: "content",
        good: vec![
            ("a text".into(), text.encode()),
            ("a file with an attachment".into(), whole.clone()),
            ("empty".into(), Content::default().encode()),
        ],
        bad: vec![
            ("cut", whole[..whole.len() - 1].to_vec()),
            ("a byte over", [&whole[..], &[0]].concat()),
            ("four items", four.into_bytes()),
            ("a salt of 31 bytes", short.into_bytes()),
            ("a subject that is a number", number.into_bytes()),
            ("a subject of 257 characters", long.encode()),
            ("17 attachments announced", many.into_bytes()),
        ],
        decode,
    }
}
