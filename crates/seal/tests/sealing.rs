//! Sealed by one node, opened by another, with certificates of a throwaway authority.

use ordonnans_certs::memory::Authority;
use ordonnans_certs::{Issued, Validity};
use ordonnans_identity::{FileSigner, Trust};
use ordonnans_label::{Clearance, Kind, Label, Level, Name};
use ordonnans_message::{
    Act, ActKind, Content, ContentRef, Envelope, Header, MessageId, Precedence, Receipt,
    ReceiptKind, Recipient, Role, Sealing, SignedKeyPackage, Timestamp, sha256,
};
use ordonnans_seal::{
    NodeSecret, NotAuthentic, OpenError, SealError, SeededEntropy, Verified, open, seal,
    sign_statement, verify_envelope, verify_statement,
};

struct House {
    authority: Authority,
    entropy: SeededEntropy,
}

struct Node {
    name: Name,
    issued: Issued,
    signer: FileSigner,
    secret: NodeSecret,
}

fn now() -> Timestamp {
    "2026-11-23T03:00:00Z".parse().expect("a time")
}

impl House {
    fn new() -> Self {
        let at = |s: &str| {
            let ms = s.parse::<Timestamp>().expect("a time").as_millis();
            std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)
        };
        let validity = Validity {
            from: at("2026-01-01T00:00:00Z").into(),
            until: at("2027-01-01T00:00:00Z").into(),
        };
        Self {
            authority: Authority::new("crisis.example", validity).expect("an authority"),
            entropy: SeededEntropy::new(1),
        }
    }

    fn node(&mut self, local: &str) -> Node {
        self.of(local, Kind::Node)
    }

    fn of(&mut self, local: &str, kind: Kind) -> Node {
        let name = Name::new(local, kind, "crisis.example").expect("a name");
        let issued = self
            .authority
            .issue(&name, &Clearance::new(Level::StgG))
            .expect("issues");
        let signer =
            FileSigner::from_der(&issued.certificate, &issued.key_pkcs8()).expect("a signer");
        Node {
            name,
            issued,
            signer,
            secret: NodeSecret::generate(&mut self.entropy),
        }
    }

    fn trust(&self) -> Trust {
        self.authority.trust().expect("trust")
    }

    fn package(&self, node: &Node) -> Verified<SignedKeyPackage> {
        let p = node.secret.package(&node.name, now().after(1000));
        let signed = sign_statement(&p, &node.signer).expect("signs");
        verify_statement(signed, &self.trust(), now()).expect("is its own")
    }
}

fn header(from: &Node, to: &[&Node]) -> Header {
    let d = sha256(&[]);
    let recipient = |n: &&Node| Recipient {
        node: n.name.clone(),
        person: None,
        role: Role::Action,
        precedence: Precedence::Flash,
    };
    Header {
        id: MessageId::new(now(), [0; 10]),
        originator: from.name.clone(),
        author: None,
        label: "Ongerubriceerd".parse().expect("a label"),
        recipients: to.iter().map(recipient).collect(),
        exercise: true,
        created: now(),
        expires: now().after(60_000),
        reply_by: None,
        references: vec![],
        supersedes: None,
        content: ContentRef {
            digest: d,
            length: 0,
        },
        attachments: vec![],
        sealing: Sealing {
            suite: 1,
            commitment: d,
            seals: d,
        },
        act: None,
        groups: vec![],
    }
}

fn content() -> Content {
    Content {
        subject: "onderwerp".into(),
        media_type: "text/plain".into(),
        body: b"inhoud".to_vec(),
        ..Content::default()
    }
}

#[test]
fn recipients_open_it_and_nobody_else_does() {
    let mut house = House::new();
    let (a, b, c) = (house.node("a"), house.node("b"), house.node("c"));
    let keys = [house.package(&a), house.package(&b)];
    let sealed = seal(
        header(&a, &[&a, &b]),
        &content(),
        &keys,
        &a.signer,
        &mut house.entropy,
    )
    .expect("seals");
    let received = Envelope::decode(&sealed.encode()).expect("decodes");
    let verified = verify_envelope(received, &house.trust(), now()).expect("authentic");
    assert_eq!(verified.signer().name(), &a.name);
    let b_keys = [b.secret];
    assert_eq!(open(&verified, &b_keys, &b.name), Ok(content()));
    assert_eq!(
        open(&verified, &[a.secret], &a.name),
        Ok(content()),
        "a copy for itself"
    );
    assert_eq!(
        open(&verified, &b_keys, &a.name),
        Err(OpenError::OtherKey),
        "another's seal"
    );
    assert_eq!(
        open(&verified, &[c.secret], &c.name),
        Err(OpenError::NotForUs)
    );
}

#[test]
fn another_header_around_the_same_seals_opens_nothing() {
    let mut house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let keys = [house.package(&b)];
    let sealed = seal(
        header(&a, &[&b]),
        &content(),
        &keys,
        &a.signer,
        &mut house.entropy,
    )
    .expect("seals");
    // The originator itself signs another label around the same sealed bytes.
    let relabelled = Header {
        label: "Dep.V // TOT 2036-01-01".parse().expect("a label"),
        ..sealed.header().clone()
    };
    let other = seal(relabelled, &content(), &keys, &a.signer, &mut house.entropy).expect("seals");
    let seals = ordonnans_message::Seal::encode_all(&sealed.seals().expect("seals"));
    let mixed = Envelope::new(other.signed().clone(), seals, sealed.content().clone());
    assert!(
        mixed.is_err(),
        "the signed header names its seals and content"
    );
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let mut house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let mut entropy = SeededEntropy::new(2);
    let mut try_seal =
        |keys: &[_], h: Header, c: &Content| seal(h, c, keys, &a.signer, &mut entropy).map(drop);
    let keys = [house.package(&b)];
    let h = || header(&a, &[&b]);
    assert_eq!(
        try_seal(&[], h(), &content()),
        Err(SealError::NoKey(b.name.clone()))
    );
    let later = Header {
        created: now().after(5000),
        ..h()
    };
    assert_eq!(
        try_seal(&keys, later, &content()),
        Err(SealError::KeyExpired(b.name.clone()))
    );
    let large = Content {
        body: vec![0; 65_520],
        ..content()
    };
    assert!(matches!(
        try_seal(&keys, h(), &large),
        Err(SealError::TooLarge { .. })
    ));
}

#[test]
fn a_signature_is_only_worth_its_certificate() {
    let mut house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let receipt = Receipt {
        message: MessageId::new(now(), [1; 10]),
        envelope: sha256(&[b"e"]),
        kind: ReceiptKind::Delivered,
        by: b.name.clone(),
        at: now(),
    };
    let own = sign_statement(&receipt, &b.signer).expect("signs");
    assert!(verify_statement(own.clone(), &house.trust(), now()).is_ok());
    let foreign = sign_statement(&receipt, &a.signer).expect("signs");
    assert_eq!(
        verify_statement(foreign, &house.trust(), now()),
        Err(NotAuthentic::Signer {
            signer: a.name.clone(),
            maker: b.name.clone()
        })
    );
    let stranger = House::new();
    assert!(
        verify_statement(own.clone(), &stranger.trust(), now()).is_err(),
        "another authority"
    );
    house.authority.revoke(&b.issued);
    assert!(
        verify_statement(own, &house.trust(), now()).is_err(),
        "revoked"
    );
}

#[test]
fn an_act_is_about_one_content_and_its_signer_counts() {
    let mut house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let (v, w) = (house.of("v", Kind::Person), house.of("w", Kind::Person));
    let keys = [house.package(&b)];
    let label: Label = format!("Dep.V // TOT 2036-01-01 // VASTGESTELD {}", v.name)
        .parse()
        .expect("a label");
    let act = Act {
        kind: ActKind::Establish,
        subject: content().digest(),
        label: label.clone(),
        node: a.name.clone(),
        by: v.name.clone(),
        at: now(),
        follows: None,
    };
    let with = |signed| Header {
        label: label.clone(),
        act: Some(signed),
        ..header(&a, &[&b])
    };
    let good = sign_statement(&act, &v.signer).expect("signs");
    let sealed = seal(
        with(good.clone()),
        &content(),
        &keys,
        &a.signer,
        &mut house.entropy,
    );
    let verified =
        verify_envelope(sealed.expect("seals"), &house.trust(), now()).expect("authentic");
    let opened = open(&verified, std::slice::from_ref(&b.secret), &b.name);
    assert_eq!(opened, Ok(content()));
    // Another salt is another content.
    let other = Content {
        salt: [1; 32],
        ..content()
    };
    let refused = seal(with(good), &other, &keys, &a.signer, &mut house.entropy);
    assert_eq!(refused.map(drop), Err(SealError::OtherContent));
    // Signed by somebody else than it names: whoever checks the envelope does not believe it.
    let forged = sign_statement(&act, &w.signer).expect("signs");
    let sealed = seal(
        with(forged),
        &content(),
        &keys,
        &a.signer,
        &mut house.entropy,
    );
    let verdict = verify_envelope(sealed.expect("seals"), &house.trust(), now()).map(drop);
    assert_eq!(
        verdict,
        Err(NotAuthentic::Signer {
            signer: w.name.clone(),
            maker: v.name.clone()
        })
    );
}
