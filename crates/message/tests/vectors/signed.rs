//! Signed objects: envelopes, receipts, key packages, approvals, acts, declarations and orders.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use ordonnans_label::{Level, Name};
use ordonnans_message::Statement as _;
use ordonnans_message::cbor::Writer;
use ordonnans_message::cose::{Algorithm, Draft, Purpose};
use ordonnans_message::{
    Act, ActKind, Addressed, Approval, AttachmentRef, ContentRef, Declaration, Digest, Envelope,
    EpochId, Follows, Header, KeyPackage, MessageId, Order, OrderKind, Precedence, Receipt,
    ReceiptKind, Recipient, Role, Seal, Sealing, SignedAct, SignedApproval, SignedDeclaration,
    SignedKeyPackage, SignedOrder, SignedReceipt, Timestamp, key_id, limits, sha256,
};

use crate::{Decoded, Source, facts};

const CERTIFICATE: &[u8] = b"dummy certificate";
const SIGNATURE: [u8; 64] = [0x99; 64];
const CONTENT: &[u8] = b"dummy sealed content";
pub(crate) const CREATED: u64 = 1_790_000_000_000;

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn id(n: u8) -> MessageId {
    MessageId::new(Timestamp::from_millis(CREATED), [n; 10])
}

pub(crate) fn sign(purpose: Purpose, payload: Vec<u8>) -> Vec<u8> {
    Draft::new(purpose, Algorithm::Es256, CERTIFICATE, payload)
        .finish(SIGNATURE.to_vec())
        .encode()
        .into()
}

/// COSE_Sign1 as nobody should write it.
struct Odd<'a> {
    tag: u64,
    protected: Vec<u8>,
    key: u64,
    certificate: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

fn protected(algorithm: i64, kind: u64) -> Vec<u8> {
    let mut w = Writer::default();
    w.map(3).uint(1).int(algorithm);
    let thumbprint = sha256(&[CERTIFICATE]);
    w.uint(34).array(2).int(-16).bytes(thumbprint.as_bytes());
    w.int(-65_537).uint(kind);
    w.into_bytes()
}

impl<'a> Odd<'a> {
    fn of(payload: &'a [u8]) -> Self {
        Self {
            tag: 18,
            protected: protected(-7, 0),
            key: 33,
            certificate: CERTIFICATE,
            payload,
            signature: &SIGNATURE,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.tag(self.tag).array(4).bytes(&self.protected);
        w.map(1).uint(self.key).bytes(self.certificate);
        w.bytes(self.payload).bytes(self.signature);
        w.into_bytes()
    }
}

/// Signed objects that are wrong around a payload that is right.
pub(crate) fn odd(payload: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let good = || Odd::of(payload);
    let with = |algorithm, kind| Odd {
        protected: protected(algorithm, kind),
        ..good()
    };
    let mut short = Writer::default();
    short.map(1).uint(1).int(-7);
    vec![
        ("another tag", Odd { tag: 98, ..good() }.encode()),
        ("algorithm -37", with(-37, 0).encode()),
        ("a batch signature", with(-7, 1).encode()),
        ("signature kind 2", with(-7, 2).encode()),
        (
            "neither x5t nor kind",
            Odd {
                protected: short.into_bytes(),
                ..good()
            }
            .encode(),
        ),
        (
            "another unprotected header",
            Odd { key: 34, ..good() }.encode(),
        ),
        (
            "another certificate than x5t says",
            Odd {
                certificate: b"another",
                ..good()
            }
            .encode(),
        ),
        (
            "a signature above its limit",
            Odd {
                signature: &[0; limits::MAX_SIGNATURE + 1],
                ..good()
            }
            .encode(),
        ),
    ]
}

fn seals() -> Bytes {
    Seal::encode_all(&[Seal {
        to: name("locc.node.crisis.example"),
        kid: key_id(b"dummy public key"),
        copy: None,
        enc: vec![0xe1; 1120],
        wrapped: vec![0xe2; 48],
    }])
}

/// The seals of a message of an epoch whose key every recipient has.
fn of_epoch() -> Bytes {
    Seal::encode_of_epoch(EpochId::new([0xe0; 16]), &[])
}

pub(crate) fn header(full: bool) -> Header {
    let label = if full {
        "Stg.G // KRING ICCB // COMPARTIMENT CRYPTO // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example"
    } else {
        "Ongerubriceerd"
    };
    let t = Timestamp::from_millis(CREATED);
    let person = full.then(|| name("vermeer.person.crisis.example"));
    Header {
        id: id(1),
        originator: name("ncc.node.crisis.example"),
        author: full.then(|| name("jansen.person.crisis.example")),
        label: label.parse().expect("a label"),
        recipients: vec![Recipient {
            node: name("locc.node.crisis.example"),
            person,
            role: if full { Role::Info } else { Role::Action },
            precedence: Precedence::Flash,
        }],
        exercise: full,
        created: t,
        expires: t.after(86_400_000),
        reply_by: full.then(|| t.after(3_600_000)),
        references: if full { vec![id(2), id(3)] } else { vec![] },
        supersedes: full.then(|| id(4)),
        content: ContentRef {
            digest: sha256(&[CONTENT]),
            length: u32::try_from(CONTENT.len()).expect("short"),
        },
        attachments: if full {
            vec![AttachmentRef {
                digest: sha256(&[b"sealed attachment"]),
                length: 70_032,
            }]
        } else {
            vec![]
        },
        sealing: Sealing {
            suite: 1,
            commitment: sha256(&[b"dummy commitment"]),
            seals: sha256(&[&seals()]),
        },
        act: full.then(|| {
            let act = act(ActKind::Establish, label);
            SignedAct::decode(&sign(Purpose::Act, act.encode())).expect("an act")
        }),
        passed: None,
        groups: if full {
            vec![Addressed {
                group: "circle:ICCB".parse().expect("a group"),
                members: vec![0],
            }]
        } else {
            vec![]
        },
    }
}

pub(crate) const ESTABLISHED: &str =
    "Stg.C // KRING ICCB // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example";

pub(crate) fn act(kind: ActKind, label: &str) -> Act {
    let follows = Follows {
        message: id(1),
        act: sha256(&[b"the act before"]),
    };
    Act {
        kind,
        subject: sha256(&[b"salted content"]),
        label: label.parse().expect("a label"),
        node: name("ncc.node.crisis.example"),
        by: name("jansen.person.crisis.example"),
        at: Timestamp::from_millis(CREATED - 60_000),
        follows: (kind != ActKind::Establish).then_some(follows),
    }
}

pub(crate) fn acts() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedAct::decode(bytes)?;
        let a = s.said();
        let mut all = facts([
            ("act", a.kind.as_str().to_owned()),
            ("subject", a.subject.to_string()),
            ("label", a.label.to_string()),
            ("node", a.node.to_string()),
            ("by", a.by.to_string()),
            ("at", a.at.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        if let Some(f) = a.follows {
            all.insert("message".into(), f.message.to_string());
            all.insert("follows".into(), f.act.to_string());
        }
        Ok((all, s.encode().into()))
    };
    let ended = "Ongerubriceerd // VASTGESTELD jansen.person.crisis.example";
    let good: Vec<(String, Vec<u8>)> = [
        ("a label is established", act(ActKind::Establish, ESTABLISHED)),
        (
            "a label is revised",
            act(
                ActKind::Revise,
                "Dep.V // TOT GEBEURTENIS \"einde crisis\" // VASTGESTELD jansen.person.crisis.example",
            ),
        ),
        ("a rubricering is ended", act(ActKind::End, ended)),
        (
            "an extract gets its label",
            act(
                ActKind::Extract,
                "Dep.V // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example",
            ),
        ),
    ]
    .into_iter()
    .map(|(n, a)| (n.to_owned(), sign(Purpose::Act, a.encode())))
    .collect();
    let with = |kind, change: fn(&mut Act)| {
        let mut a = act(kind, ESTABLISHED);
        change(&mut a);
        sign(Purpose::Act, a.encode())
    };
    let plain = act(ActKind::Establish, ESTABLISHED).encode();
    let whole = good[0].1.clone();
    let mut kind = plain.clone();
    assert_eq!(kind[1..3], [1, 1]);
    kind[2] = 5;
    let mut bad = vec![
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("act kind 5", sign(Purpose::Act, kind)),
        ("signed as a receipt", {
            let mut w = Writer::default();
            w.bytes(&sign(Purpose::Receipt, plain.clone()));
            w.into_bytes()
        }),
        (
            "signed by a node",
            with(ActKind::Establish, |a| a.by = a.node.clone()),
        ),
        (
            "a person's information",
            with(ActKind::Establish, |a| a.node = a.by.clone()),
        ),
        (
            "another vaststeller in the label",
            with(ActKind::Establish, |a| {
                a.by = name("vermeer.person.crisis.example");
            }),
        ),
        (
            "a label that is only proposed",
            with(ActKind::Establish, |a| {
                a.label = "Dep.V // TOT 2036-01-01".parse().expect("a label");
            }),
        ),
        (
            "a label of another policy",
            with(ActKind::Establish, |a| {
                a.label = "NATO SECRET // VASTGESTELD jansen.person.crisis.example"
                    .parse()
                    .expect("a label");
            }),
        ),
        (
            "the first act follows another",
            with(ActKind::Revise, |a| a.kind = ActKind::Establish),
        ),
        (
            "a revision that follows nothing",
            with(ActKind::Establish, |a| a.kind = ActKind::Revise),
        ),
        (
            "an extract of nothing",
            with(ActKind::Establish, |a| a.kind = ActKind::Extract),
        ),
        (
            "an end that is no end",
            with(ActKind::Revise, |a| a.kind = ActKind::End),
        ),
    ];
    bad.extend(odd(&plain));
    Source {
        file: "act",
        rule: "signed-act",
        good,
        bad,
        decode,
    }
}

pub(crate) fn declarations() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedDeclaration::decode(bytes)?;
        let d = s.said();
        let all = facts([
            ("event", d.event.to_string()),
            ("by", d.by.to_string()),
            ("at", d.at.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        Ok((all, s.encode().into()))
    };
    let declaration = |event: &str| {
        let d = Declaration {
            event: event.into(),
            by: name("jansen.person.crisis.example"),
            at: Timestamp::from_millis(CREATED),
        };
        sign(Purpose::Declaration, d.encode())
    };
    let good = declaration("einde crisis");
    Source {
        file: "declaration",
        rule: "signed-declaration",
        good: vec![("an event has happened".into(), good.clone())],
        bad: vec![
            ("cut", good[..good.len() - 1].to_vec()),
            ("a byte over", [&good[..], &[0]].concat()),
            ("an event above its limit", declaration(&"e".repeat(801))),
        ],
        decode,
    }
}

pub(crate) fn orders() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedOrder::decode(bytes)?;
        let o = s.said();
        let all = facts([
            (
                "order",
                match &o.what {
                    OrderKind::Open { .. } => "open",
                    OrderKind::Close { .. } => "close",
                    OrderKind::Review { .. } => "review",
                }
                .into(),
            ),
            ("by", o.by.to_string()),
            ("at", o.at.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        Ok((all, s.encode().into()))
    };
    let order = |what| {
        let o = Order {
            what,
            by: name("bva.officer.crisis.example"),
            at: Timestamp::from_millis(CREATED),
        };
        sign(Purpose::Order, o.encode())
    };
    let open = |incident: &str, messages: usize| {
        order(OrderKind::Open {
            incident: incident.into(),
            messages: (0..messages).map(|n| id(n as u8)).collect(),
        })
    };
    let good = open("uitval-2026-1", 2);
    Source {
        file: "order",
        rule: "signed-order",
        good: vec![
            ("an incident is opened".into(), good.clone()),
            (
                "an incident is closed".into(),
                order(OrderKind::Close {
                    incident: "uitval-2026-1".into(),
                }),
            ),
            (
                "a review is signed off".into(),
                order(OrderKind::Review {
                    level: Level::StgC,
                    from: 7,
                    until: 900,
                    page: sha256(&[b"page"]),
                }),
            ),
        ],
        bad: vec![
            ("cut", good[..good.len() - 1].to_vec()),
            ("a byte over", [&good[..], &[0]].concat()),
            ("an incident about nothing", open("uitval", 0)),
            ("an incident about 33 messages", open("uitval", 33)),
            ("an incident without a name", open("", 1)),
            ("an incident with a path for a name", open("../uitval", 1)),
            ("a name of 65 characters", open(&"e".repeat(65), 1)),
        ],
        decode,
    }
}

pub(crate) fn approvals() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedApproval::decode(bytes)?;
        let a = s.said();
        let all = facts([
            ("register", a.register.to_string()),
            ("version", a.version.to_string()),
            ("by", a.by.to_string()),
            ("at", a.at.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        Ok((all, s.encode().into()))
    };
    let approval = Approval {
        register: sha256(&[b"version = 3"]),
        version: 3,
        by: name("jansen.person.crisis.example"),
        at: Timestamp::from_millis(CREATED),
    };
    let plain = approval.encode();
    let good = sign(Purpose::Approval, plain.clone());
    Source {
        file: "approval",
        rule: "signed-approval",
        good: vec![("of a register".into(), good.clone())],
        bad: vec![
            ("cut", good[..good.len() - 1].to_vec()),
            (
                "no time",
                sign(
                    Purpose::Approval,
                    [&[0xa3][..], &plain[1..plain.len() - 10]].concat(),
                ),
            ),
            (
                "an unknown key",
                sign(
                    Purpose::Approval,
                    [&[0xa5][..], &plain[1..], &[9, 0]].concat(),
                ),
            ),
        ],
        decode,
    }
}

/// The three parts of an envelope.
fn parts(signed: &[u8], seals: &[u8], content: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.array(3).bytes(signed).bytes(seals).bytes(content);
    w.into_bytes()
}

pub(crate) fn around(header: Vec<u8>) -> Vec<u8> {
    parts(&sign(Purpose::Envelope, header), &seals(), CONTENT)
}

pub(crate) fn envelopes() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let e = Envelope::decode(bytes)?;
        e.seals()?;
        let all = facts([
            ("id", e.header().id.to_string()),
            ("label", e.header().label.to_string()),
            ("binding", e.header().binding().to_string()),
            ("digest", e.digest().to_string()),
            ("to_be_signed", HEXLOWER.encode(&e.signed().to_be_signed())),
        ]);
        Ok((all, e.encode().into()))
    };
    let (full, least) = (header(true), header(false));
    let changed = |change: fn(&mut Header)| {
        let mut h = header(false);
        change(&mut h);
        around(h.encode())
    };
    let plain = least.encode();
    // A map of nine pairs; the last is 13, the sealing, of 71 bytes with its key.
    assert_eq!(plain[0], 0xa9);
    let raw = |head: u8, rest: &[u8]| around([&[head][..], rest].concat());
    let good = around(plain.clone());
    let signed = sign(Purpose::Envelope, plain.clone());
    let mut version = plain.clone();
    version[2] = 2;
    let mut bad = vec![
        ("nothing", vec![]),
        ("cut", good[..good.len() - 1].to_vec()),
        ("a byte over", [&good[..], &[0]].concat()),
        ("two parts", [&[0x82][..], &good[1..]].concat()),
        (
            "other seals than were signed",
            parts(&signed, &[0x80], CONTENT),
        ),
        (
            "other content than was signed",
            parts(&signed, &seals(), b"x"),
        ),
        ("header version 2", around(version)),
        (
            "an unknown header key",
            raw(0xaa, &[&plain[1..], &[17, 0]].concat()),
        ),
        (
            "header keys out of order",
            raw(0xaa, &[&plain[1..], &[0, 1]].concat()),
        ),
        ("no sealing", raw(0xa8, &plain[1..plain.len() - 71])),
        ("nobody to send it to", changed(|h| h.recipients.clear())),
        (
            "the same recipient twice",
            changed(|h| h.recipients.push(h.recipients[0].clone())),
        ),
        (
            "65 recipients",
            changed(|h| h.recipients = vec![h.recipients[0].clone(); limits::MAX_RECIPIENTS + 1]),
        ),
        (
            "a person as originator",
            changed(|h| h.originator = name("jansen.person.crisis.example")),
        ),
        (
            "a node as author",
            changed(|h| h.author = Some(name("ncc.node.crisis.example"))),
        ),
        (
            "expired when it was made",
            changed(|h| h.expires = h.created),
        ),
        (
            "a lifetime above its limit",
            changed(|h| h.expires = h.created.after(limits::MAX_LIFETIME_MS + 1)),
        ),
        ("suite 3", changed(|h| h.sealing.suite = 3)),
        (
            "an epoch at Stg.C",
            changed(|h| {
                h.sealing.suite = 2;
                h.label = "Stg.C".parse().expect("a label");
            }),
        ),
        (
            "seals of an epoch without its id",
            changed(|h| h.sealing.suite = 2),
        ),
        (
            "an act on another label",
            changed(|h| {
                let act = act(ActKind::Establish, ESTABLISHED).encode();
                h.act = SignedAct::decode(&sign(Purpose::Act, act)).ok();
            }),
        ),
        (
            "an act that revises",
            changed(|h| {
                let act = act(ActKind::Revise, ESTABLISHED);
                h.label = act.label.clone();
                h.act = SignedAct::decode(&sign(Purpose::Act, act.encode())).ok();
            }),
        ),
        (
            "an act on the information of another node",
            changed(|h| {
                let mut act = act(ActKind::Establish, ESTABLISHED);
                act.node = name("locc.node.crisis.example");
                h.label = act.label.clone();
                h.act = SignedAct::decode(&sign(Purpose::Act, act.encode())).ok();
            }),
        ),
        (
            "content above its limit",
            changed(|h| h.content.length = 163_841),
        ),
        (
            "17 attachments",
            changed(|h| {
                let digest = Digest::from([0; 32]);
                h.attachments = vec![AttachmentRef { digest, length: 1 }; 17];
            }),
        ),
    ];
    bad.extend(crate::passing::bad());
    let odd = odd(&plain);
    bad.extend(
        odd.into_iter()
            .map(|(n, s)| (n, parts(&s, &seals(), CONTENT))),
    );
    let mut epoch = header(false);
    epoch.sealing.suite = 2;
    epoch.sealing.seals = sha256(&[&of_epoch()]);
    let epoch = sign(Purpose::Envelope, epoch.encode());
    let in_epoch = parts(&epoch, &of_epoch(), CONTENT);
    Source {
        file: "envelope",
        rule: "envelope",
        good: vec![
            ("the least a message can have".into(), good),
            (
                "everything a message can have".into(),
                around(full.encode()),
            ),
            ("a message of an epoch".into(), in_epoch),
            (
                "a message that is passed on as it is".into(),
                crate::passing::as_it_is(),
            ),
            (
                "an extract with a second signature".into(),
                crate::passing::extract(),
            ),
        ],
        bad,
        decode,
    }
}

pub(crate) fn receipts() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedReceipt::decode(bytes)?;
        let r = s.said();
        let all = facts([
            ("message", r.message.to_string()),
            ("envelope", r.envelope.to_string()),
            ("by", r.by.to_string()),
            ("at", r.at.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        Ok((all, s.encode().into()))
    };
    let receipt = |kind, by| Receipt {
        message: id(1),
        envelope: sha256(&[b"envelope"]),
        kind,
        by: name(by),
        at: Timestamp::from_millis(CREATED + 5),
    };
    let node = "locc.node.crisis.example";
    let kinds = [
        ("delivered to a node", ReceiptKind::Delivered, node),
        (
            "opened by a person",
            ReceiptKind::Opened,
            "vermeer.person.crisis.example",
        ),
        ("refused by a node", ReceiptKind::Refused, node),
        (
            "exported by a person",
            ReceiptKind::Exported,
            "vermeer.person.crisis.example",
        ),
        (
            "printed by a person",
            ReceiptKind::Printed,
            "vermeer.person.crisis.example",
        ),
        ("destroyed by a node", ReceiptKind::Destroyed, node),
        (
            "recalled by its originator",
            ReceiptKind::Recalled,
            "ncc.node.crisis.example",
        ),
    ];
    let good: Vec<(String, Vec<u8>)> = kinds
        .into_iter()
        .map(|(n, kind, by)| {
            let payload = receipt(kind, by).encode();
            (n.to_owned(), sign(Purpose::Receipt, payload))
        })
        .collect();
    let plain = receipt(ReceiptKind::Delivered, node).encode();
    let signed = |payload: Vec<u8>| sign(Purpose::Receipt, payload);
    // The kind stands behind the id (18 bytes with its key) and the digest (35 bytes): key 3, value 1.
    let at = 1 + 18 + 35 + 1;
    assert_eq!(plain[at - 1..=at], [3, 1]);
    let mut kind = plain.clone();
    kind[at] = 8;
    let whole = signed(plain.clone());
    let mut bad = vec![
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("a byte over", [&whole[..], &[0]].concat()),
        ("receipt kind 8", signed(kind)),
        (
            "an unknown key",
            signed([&[0xa6][..], &plain[1..], &[6, 0]].concat()),
        ),
        (
            "a payload with a byte over",
            signed([&plain[..], &[0]].concat()),
        ),
        (
            "no time",
            signed([&[0xa4][..], &plain[1..plain.len() - 10]].concat()),
        ),
        (
            "a payload above its limit",
            signed(vec![0; limits::MAX_STATEMENT + 1]),
        ),
    ];
    bad.extend(odd(&plain));
    Source {
        file: "receipt",
        rule: "signed-receipt",
        good,
        bad,
        decode,
    }
}

pub(crate) fn key_packages() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedKeyPackage::decode(bytes)?;
        let p = s.said();
        let all = facts([
            ("name", p.name.to_string()),
            ("kid", HEXLOWER.encode(&p.kid())),
            ("not_after", p.not_after.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        Ok((all, s.encode().into()))
    };
    let package = |suite, length| {
        let package = KeyPackage {
            name: name("locc.node.crisis.example"),
            suite,
            public: vec![0xd0; length],
            not_after: Timestamp::from_millis(CREATED),
        };
        sign(Purpose::KeyPackage, package.encode())
    };
    let good = package(1, 1216);
    Source {
        file: "key-package",
        rule: "signed-key-package",
        good: vec![("a key of a node".into(), good.clone())],
        bad: vec![
            ("cut", good[..good.len() - 1].to_vec()),
            ("a byte over", [&good[..], &[0]].concat()),
            ("suite 2", package(2, 1216)),
            ("a key above its limit", package(1, limits::MAX_SEAL + 1)),
        ],
        decode,
    }
}
