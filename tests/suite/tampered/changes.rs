//! What can be changed in the header of a message, and how an envelope is put together around it.

use data_encoding::HEXLOWER;
use ordonnans_identity::{FileSigner, Signer};
use ordonnans_label::Label;
use ordonnans_message::cbor::Writer;
use ordonnans_message::cose::{Algorithm, Draft as Signing, Purpose};
use ordonnans_message::{
    Addressed, AttachmentRef, ContentRef, Envelope, Group, GroupKind, Header, MessageId,
    Precedence, Recipient, Role, Seal, Sealing, Timestamp, sha256,
};
use ordonnans_tests::house::night;

use super::Splice;

pub(crate) type Change = fn(&mut Header);

/// What changes in a header of any message.
pub(crate) const ANY: &[(&str, Change)] = &[
    ("another id", |h| h.id = MessageId::new(night(), [9; 10])),
    ("another originator", |h| {
        h.originator = h.recipients[0].node.clone()
    }),
    ("a lower level", |h| h.label = label("Ongerubriceerd")),
    ("a higher level", |h| {
        h.label = label("Stg.C // TOT 2036-01-01")
    }),
    ("a recipient more", |h| {
        let node = "vr.node.crisis.example".parse().expect("a name");
        h.recipients.push(Recipient {
            node,
            ..h.recipients[0].clone()
        });
    }),
    ("a recipient less", |h| drop(h.recipients.pop())),
    ("another recipient", |h| {
        h.recipients[0].node = "vr.node.crisis.example".parse().expect("a name");
    }),
    ("recipients in another order", |h| h.recipients.swap(0, 1)),
    ("a person as recipient", |h| {
        h.recipients[0].person = Some("p-def.person.crisis.example".parse().expect("a name"));
    }),
    ("another role", |h| h.recipients[0].role = Role::Info),
    ("another precedence", |h| {
        h.recipients[0].precedence = Precedence::Flash
    }),
    ("no exercise", |h| h.exercise = false),
    ("created earlier", |h| {
        h.created = Timestamp::from_millis(h.created.as_millis() - 1)
    }),
    ("expires later", |h| h.expires = h.expires.after(1)),
    ("an author", |h| {
        h.author = Some("p-locc.person.crisis.example".parse().expect("a name"))
    }),
    ("a time to reply by", |h| h.reply_by = Some(h.expires)),
    ("a reference", |h| {
        h.references = vec![MessageId::new(night(), [8; 10])]
    }),
    ("supersedes another", |h| {
        h.supersedes = Some(MessageId::new(night(), [7; 10]))
    }),
    ("another digest of the content", |h| {
        h.content.digest = sha256(&[b"another"])
    }),
    ("another length of the content", |h| h.content.length += 1),
    ("an attachment more", |h| h.attachments.push(attached(9))),
    ("another suite", |h| h.sealing.suite = 3),
    ("another commitment", |h| {
        h.sealing.commitment = sha256(&[b"another"])
    }),
    ("another digest of the seals", |h| {
        h.sealing.seals = sha256(&[b"another"])
    }),
    ("a group", |h| h.groups = vec![group("allen")]),
];

/// What changes in a header that has everything.
pub(crate) const FULL: &[(&str, Change)] = &[
    ("without its author", |h| h.author = None),
    ("without its duration", |h| {
        h.label = label("Dep.V // VASTGESTELD p-ncc.person.crisis.example")
    }),
    ("without its circle", |h| {
        h.label = label("Dep.V // TOT 2036-01-01 // VASTGESTELD p-ncc.person.crisis.example");
    }),
    ("without a time to reply by", |h| h.reply_by = None),
    ("without its references", |h| h.references.clear()),
    ("supersedes nothing", |h| h.supersedes = None),
    ("another digest of an attachment", |h| {
        h.attachments[0].digest = sha256(&[b"another"])
    }),
    ("without its attachment", |h| h.attachments.clear()),
    ("without its act", |h| h.act = None),
    ("without its groups", |h| h.groups.clear()),
    ("another group", |h| h.groups = vec![group("andere")]),
];

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub(crate) fn attached(n: u8) -> AttachmentRef {
    AttachmentRef {
        digest: sha256(&[&[n]]),
        length: 16,
    }
}

pub(crate) fn group(name: &str) -> Addressed {
    Addressed {
        group: Group::new(GroupKind::List, name).expect("a group"),
        members: vec![0],
    }
}

/// An envelope by its parts, whether or not they fit.
pub(crate) fn together(signed: &[u8], seals: &[u8], content: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.array(3).bytes(signed).bytes(seals).bytes(content);
    w.into_bytes()
}

/// A header with a signature, whosever it is.
pub(crate) fn signed(
    header: &Header,
    algorithm: Algorithm,
    certificate: &[u8],
    signature: &[u8],
) -> Vec<u8> {
    let draft = Signing::new(Purpose::Envelope, algorithm, certificate, header.encode());
    draft.finish(signature.to_vec()).encode().to_vec()
}

/// The same header changed by who has no key: the signature stays.
pub(crate) fn carried(e: &Envelope, header: &Header) -> Vec<u8> {
    let s = e.signed();
    let signed = signed(header, s.algorithm(), s.certificate(), s.signature());
    together(&signed, &seals_of(e), e.content())
}

pub(crate) fn seals_of(e: &Envelope) -> Vec<u8> {
    Seal::encode_all(&e.seals().expect("seals")).to_vec()
}

/// Parts of somebody's choice, rightly signed: what no stranger can do.
pub(crate) fn resigned(by: &FileSigner, header: &Header, seals: &[u8], content: &[u8]) -> Vec<u8> {
    let certificate = by.certificate().der();
    let draft = || {
        let payload = header.encode();
        Signing::new(Purpose::Envelope, by.algorithm(), certificate, payload)
    };
    let signature = by.sign(&draft().to_be_signed()).expect("signs");
    together(&draft().finish(signature).encode(), seals, content)
}

/// The header for these seals and this content.
pub(crate) fn fitting(header: &Header, seals: &[u8], content: &[u8]) -> Header {
    Header {
        content: ContentRef {
            digest: sha256(&[content]),
            length: u32::try_from(content.len()).expect("small"),
        },
        sealing: Sealing {
            seals: sha256(&[seals]),
            ..header.sealing
        },
        ..header.clone()
    }
}

pub(crate) fn splice(good: &[u8], bad: &[u8]) -> Splice {
    let same = |(a, b): &(&u8, &u8)| a == b;
    let at = good.iter().zip(bad).take_while(same).count();
    let (g, b) = (&good[at..], &bad[at..]);
    let tail = g.iter().rev().zip(b.iter().rev()).take_while(same).count();
    Splice {
        at,
        drop: g.len() - tail,
        put: HEXLOWER.encode(&b[..b.len() - tail]),
    }
}
