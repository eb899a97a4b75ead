//! Sealed by one node, opened by another, with certificates of a throwaway authority.

use ordonnans_certs::memory::Authority;
use ordonnans_certs::{Issued, Validity};
use ordonnans_identity::{FileSigner, Signer, Trust};
use ordonnans_label::{Clearance, Kind, Label, Level, Name};
use ordonnans_message::cose::{Draft, Purpose};
use ordonnans_message::{
    Act, ActKind, Content, ContentRef, CopyNumber, DecodeError, Envelope, Follows, Header, How,
    MessageId, PassedOn, Precedence, Receipt, ReceiptKind, Recipient, Role, Seal, SealedCopy,
    Sealing, Second, SignedKeyPackage, Timestamp, sha256,
};
use ordonnans_seal::{
    NotAuthentic, OpenError, Opened, SealError, SealSecret, SeededEntropy, Verified, open, seal,
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
    secret: SealSecret,
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
            secret: SealSecret::generate(&mut self.entropy),
        }
    }

    /// A person whose certificate ended yesterday.
    fn ended(&mut self, local: &str) -> Node {
        let at = |days: u64| {
            let ms = now().as_millis() - days * 86_400_000;
            std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)
        };
        let validity = Validity {
            from: at(100).into(),
            until: at(1).into(),
        };
        let name = Name::new(local, Kind::Person, "crisis.example").expect("a name");
        let holds = Clearance::new(Level::StgG);
        let issued = self.authority.issue_with(&name, &holds, validity, None);
        let issued = issued.expect("issues");
        let signer =
            FileSigner::from_der(&issued.certificate, &issued.key_pkcs8()).expect("a signer");
        Node {
            name,
            issued,
            signer,
            secret: SealSecret::generate(&mut self.entropy),
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
        passed: None,
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

/// What opens below Stg.C.
fn plain() -> Result<Opened, OpenError> {
    Ok(Opened {
        content: content(),
        copy: None,
    })
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
    assert_eq!(open(&verified, &b_keys, &b.name), plain());
    assert_eq!(
        open(&verified, &[a.secret], &a.name),
        plain(),
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
    assert_eq!(opened, plain());
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

/// What is passed on carries an act that was signed long before; an extract is signed now, and its second person counts as its first.
#[test]
fn who_signed_for_what_is_passed_on_counts_as_each_must() {
    let mut house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let (v, w, old) = (
        house.of("v", Kind::Person),
        house.of("w", Kind::Person),
        house.ended("old"),
    );
    let keys = [house.package(&b)];
    let parent = MessageId::new(now(), [9; 10]);
    let mut passing = |how, by: &Node, second: Option<(&Node, &Node)>| {
        let extract = how == How::Extract;
        let label: Label = format!("Dep.V // TOT 2036-01-01 // VASTGESTELD {}", by.name)
            .parse()
            .expect("a label");
        let act = Act {
            kind: if extract {
                ActKind::Extract
            } else {
                ActKind::Establish
            },
            subject: content().digest(),
            label: label.clone(),
            // Whose information it is, another than who passes it on.
            node: b.name.clone(),
            by: by.name.clone(),
            at: Timestamp::from_millis(now().as_millis() - 50 * 86_400_000),
            follows: extract.then_some(Follows {
                message: parent,
                act: sha256(&[b"the act in force"]),
            }),
        };
        let act = sign_statement(&act, &by.signer).expect("signs");
        let second = second.map(|(named, signs)| {
            let said = Second {
                act: act.digest(),
                by: named.name.clone(),
                at: now(),
            };
            sign_statement(&said, &signs.signer).expect("signs")
        });
        let header = Header {
            label,
            act: Some(act),
            passed: Some(PassedOn {
                how,
                parent,
                second,
            }),
            ..header(&a, &[&b])
        };
        let sealed = seal(header, &content(), &keys, &a.signer, &mut house.entropy);
        sealed.expect("seals")
    };
    let as_it_is = passing(How::AsItIs, &old, None);
    let mut by = |first, second| passing(How::Extract, first, second);
    let cases = [
        (by(&v, Some((&w, &w))), true, "two who are believed"),
        (by(&v, None), true, "whether a second must is a rule"),
        (by(&old, Some((&w, &w))), false, "who is not believed now"),
        (by(&v, Some((&old, &old))), false, "a second who is not"),
        (by(&v, Some((&w, &v))), false, "another than it names"),
        (as_it_is.clone(), true, "as it is, by who was believed then"),
    ];
    for (envelope, believed, what) in cases {
        let verdict = verify_envelope(envelope, &house.trust(), now());
        assert_eq!(verdict.is_ok(), believed, "{what}");
    }
    // Who opens it sees that it is the content the act is about.
    let verified = verify_envelope(as_it_is.clone(), &house.trust(), now()).expect("authentic");
    let opened = open(&verified, std::slice::from_ref(&b.secret), &b.name);
    assert_eq!(opened, plain());
    house.authority.revoke(&old.issued);
    let revoked = verify_envelope(as_it_is, &house.trust(), now());
    assert!(revoked.is_err(), "a revocation counts at any time");
}

/// A message at this level to persons, each with the node they are at.
fn to_persons(from: &Node, to: &[(&Node, &Node)], level: &str) -> Header {
    let mut h = header(from, &[]);
    h.label = format!("{level} // TOT 2036-01-01")
        .parse()
        .expect("a label");
    h.recipients = to
        .iter()
        .map(|(person, node)| Recipient {
            node: node.name.clone(),
            person: Some(person.name.clone()),
            role: Role::Action,
            precedence: Precedence::Flash,
        })
        .collect();
    h
}

#[test]
fn from_stg_g_up_only_the_named_persons_open_it_each_a_copy_of_its_own() {
    let mut house = House::new();
    let (a, b, c) = (house.node("a"), house.node("b"), house.node("c"));
    let mut person = |local: &str| house.of(local, Kind::Person);
    let (v, w, x) = (person("v"), person("w"), person("x"));
    let keys = [&b, &c, &v, &w, &x].map(|n| house.package(n));
    // Handed over out of order; two of them are at one node.
    let h = to_persons(&a, &[(&x, &c), (&w, &b), (&v, &b)], "Stg.G");
    let mut entropy = SeededEntropy::new(4);
    let sealed = seal(h.clone(), &content(), &keys, &a.signer, &mut entropy).expect("seals");
    let to: Vec<_> = sealed
        .seals()
        .expect("seals")
        .into_iter()
        .map(|s| (s.to, s.copy))
        .collect();
    let named = |n: &Node, copy| (n.name.clone(), Some(copy));
    assert_eq!(to, [named(&v, 1), named(&w, 2), named(&x, 3)]);
    let copies = sealed.copies().expect("copies");
    for (n, one) in copies.iter().enumerate() {
        let other = &copies[(n + 1) % 3];
        assert!(one.sealed != other.sealed && one.commitment != other.commitment);
    }
    let verified = verify_envelope(sealed, &house.trust(), now()).expect("authentic");
    for (number, p) in (1u32..).zip([&v, &w, &x]) {
        let opened = open(&verified, std::slice::from_ref(&p.secret), &p.name).expect("opens");
        assert_eq!(opened.content, content());
        assert_eq!(opened.copy, Some(CopyNumber { number, of: 3 }));
        assert_eq!(
            opened.copy.map(|c| c.to_string()),
            Some(format!("exemplaar {number} van 3"))
        );
    }
    // Their nodes have the bytes, and cannot open them; nor one person another's copy.
    for n in [&b, &c] {
        let with = open(&verified, std::slice::from_ref(&n.secret), &n.name);
        assert_eq!(with, Err(OpenError::NotForUs));
        let as_person = open(&verified, std::slice::from_ref(&n.secret), &v.name);
        assert_eq!(as_person, Err(OpenError::OtherKey));
    }
    let stolen = open(&verified, std::slice::from_ref(&w.secret), &v.name);
    assert_eq!(stolen, Err(OpenError::OtherKey));
    // A person without a live key: nothing is made.
    let without = &keys[..4];
    let refused = seal(h, &content(), without, &a.signer, &mut entropy).map(drop);
    assert_eq!(refused, Err(SealError::NoKey(x.name.clone())));
}

#[test]
fn at_stg_c_every_node_has_a_numbered_copy_and_all_must_fit() {
    let mut house = House::new();
    let (a, b, c) = (house.node("a"), house.node("b"), house.node("c"));
    let keys = [house.package(&b), house.package(&c)];
    let label = "Stg.C // TOT 2036-01-01".parse::<Label>().expect("a label");
    let h = |to: &[&Node]| Header {
        label: label.clone(),
        ..header(&a, to)
    };
    let mut entropy = SeededEntropy::new(5);
    let mut sealed = |to: &[&Node], c: &Content| seal(h(to), c, &keys, &a.signer, &mut entropy);
    let one = sealed(&[&c, &b], &content()).expect("seals");
    let verified = verify_envelope(one, &house.trust(), now()).expect("authentic");
    let opened = open(&verified, std::slice::from_ref(&c.secret), &c.name).expect("opens");
    assert_eq!(opened.copy, Some(CopyNumber { number: 2, of: 2 }));
    let body = |n: usize| Content {
        body: vec![7; n],
        ..content()
    };
    // One copy has the bound of any content, also of several.
    assert_eq!(sealed(&[&b, &c], &body(65_300)).map(drop), Ok(()));
    let large = sealed(&[&b, &c], &body(65_536)).map(drop);
    assert!(matches!(large, Err(SealError::TooLarge { .. })));
}

/// The originator signs a header around parts of its choice: what no stranger can do, and what a receiver must refuse all the same.
fn resigned(by: &Node, header: Header, seals: &[Seal], content: &[u8]) -> Envelope {
    let seals = Seal::encode_all(seals);
    let header = Header {
        content: ContentRef {
            digest: sha256(&[content]),
            length: u32::try_from(content.len()).expect("small"),
        },
        sealing: Sealing {
            seals: sha256(&[&seals]),
            ..header.sealing
        },
        ..header
    };
    let draft = Draft::new(
        Purpose::Envelope,
        by.signer.algorithm(),
        by.signer.certificate().der(),
        header.encode(),
    );
    let signature = by.signer.sign(&draft.to_be_signed()).expect("signs");
    let content = content.to_vec().into();
    Envelope::new(draft.finish(signature), seals, content).expect("fits")
}

#[test]
fn what_was_changed_is_refused_by_its_own_name() {
    let mut house = House::new();
    let (a, b, c) = (house.node("a"), house.node("b"), house.node("c"));
    let (v, w) = (house.of("v", Kind::Person), house.of("w", Kind::Person));
    let keys = [&v, &w].map(|n| house.package(n));
    let mut entropy = SeededEntropy::new(6);
    let h = to_persons(&a, &[(&v, &b), (&w, &c)], "Stg.G");
    let good = seal(h, &content(), &keys, &a.signer, &mut entropy).expect("seals");
    let (header, seals) = (good.header().clone(), good.seals().expect("seals"));
    let body = good.content().to_vec();
    let trust = house.trust();
    let believed = |e: Envelope| verify_envelope(e, &trust, now());
    let form = |e: Envelope| match believed(e) {
        Err(NotAuthentic::Seals(DecodeError::Form(what))) => what,
        other => panic!("not refused for its seals: {:?}", other.map(drop)),
    };
    let opens = |e: Envelope| {
        let e = believed(e).expect("authentic");
        open(&e, std::slice::from_ref(&v.secret), &v.name).map(drop)
    };
    let again = resigned(&a, header.clone(), &seals, &body);
    assert_eq!(opens(again), Ok(()), "nothing was changed");

    // The recipient list: one more, another, or in the place of a person the node.
    let mut more = header.clone();
    more.recipients.push(Recipient {
        node: b.name.clone(),
        person: Some(w.name.clone()),
        ..more.recipients[0].clone()
    });
    assert_eq!(form(resigned(&a, more, &seals, &body)), "seals");
    let mut other = header.clone();
    other.recipients[0].person = Some(w.name.clone());
    assert_eq!(form(resigned(&a, other, &seals, &body)), "sealed for");
    let mut to_node = seals.clone();
    to_node[0].to = b.name.clone();
    assert_eq!(
        form(resigned(&a, header.clone(), &to_node, &body)),
        "sealed for"
    );
    assert_eq!(
        form(resigned(&a, header.clone(), &seals[..1], &body)),
        "seals"
    );

    // Numbers.
    for copy in [None, Some(2), Some(9)] {
        let mut numbers = seals.clone();
        numbers[0].copy = copy;
        let e = resigned(&a, header.clone(), &numbers, &body);
        assert_eq!(form(e), "copy number");
    }

    // The ciphertexts: one too few, exchanged, exchanged and committed to.
    let mut copies = good.copies().expect("copies");
    let one = SealedCopy::encode_all(&copies[..1]);
    assert_eq!(form(resigned(&a, header.clone(), &seals, &one)), "copies");
    copies.swap(0, 1);
    let exchanged = SealedCopy::encode_all(&copies);
    let e = resigned(&a, header.clone(), &seals, &exchanged);
    assert_eq!(form(e), "commitment");
    let mut committed = header.clone();
    committed.sealing.commitment = SealedCopy::commitment_of_all(&copies);
    let e = resigned(&a, committed, &seals, &exchanged);
    assert_eq!(opens(e), Err(OpenError::Damaged));

    // The label, a time, the exercise flag, what it refers to: all are bound.
    let stg_zg = "Stg.ZG // TOT 2036-01-01".parse().expect("a label");
    let bound: [fn(&mut Header); 4] = [
        |h| h.expires = h.expires.after(1),
        |h| h.exercise = !h.exercise,
        |h| h.recipients[1].precedence = Precedence::Routine,
        |h| h.references = vec![h.id],
    ];
    let mut changed: Vec<Header> = bound
        .iter()
        .map(|change| {
            let mut h = header.clone();
            change(&mut h);
            h
        })
        .collect();
    changed.push(Header {
        label: stg_zg,
        ..header.clone()
    });
    for h in changed {
        let e = resigned(&a, h, &seals, &body);
        assert_eq!(opens(e), Err(OpenError::Damaged));
    }

    // Parts of a seal.
    type Change = fn(&mut Seal);
    let of_seal: [(Change, OpenError); 3] = [
        (|s| s.kid[0] ^= 1, OpenError::OtherKey),
        (|s| s.wrapped[0] ^= 1, OpenError::Damaged),
        (|s| s.enc[0] ^= 1, OpenError::Damaged),
    ];
    for (change, error) in of_seal {
        let mut all = seals.clone();
        change(&mut all[0]);
        let e = resigned(&a, header.clone(), &all, &body);
        assert_eq!(opens(e), Err(error));
    }

    // Whoever is not the originator cannot do any of this: a byte anywhere, and nobody believes it.
    let bytes = good.encode();
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let Ok(e) = Envelope::decode(&changed) else {
            continue;
        };
        assert!(believed(e).is_err(), "byte {at}");
    }
}

#[test]
fn a_key_that_is_not_its_owners_is_not_sealed_to() {
    let mut house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let (v, w) = (house.of("v", Kind::Person), house.of("w", Kind::Person));
    // Substituted in the directory: w's key, said to be v's, signed by w.
    let forged = w.secret.package(&v.name, now().after(1000));
    let forged = sign_statement(&forged, &w.signer).expect("signs");
    assert_eq!(
        verify_statement(forged, &house.trust(), now()).map(drop),
        Err(NotAuthentic::Signer {
            signer: w.name.clone(),
            maker: v.name.clone()
        })
    );
    // Another's own package, in the place of v's, is no key of v.
    let (own, others) = (house.package(&v), house.package(&w));
    let h = || to_persons(&a, &[(&v, &b)], "Stg.G");
    let mut entropy = SeededEntropy::new(7);
    let mut with = |keys: &[Verified<SignedKeyPackage>], h| {
        seal(h, &content(), keys, &a.signer, &mut entropy).map(drop)
    };
    assert_eq!(with(&[others], h()), Err(SealError::NoKey(v.name.clone())));
    // Stale by the time the message is made.
    let late = Header {
        created: now().after(1000),
        ..h()
    };
    let keys = [own.clone()];
    assert_eq!(
        with(&keys, late),
        Err(SealError::KeyExpired(v.name.clone()))
    );
    assert_eq!(with(&keys, h()), Ok(()));
    // Revoked: its package is believed no more, so there is none to seal to.
    house.authority.revoke(&v.issued);
    assert!(matches!(
        verify_statement(own.into_inner(), &house.trust(), now()),
        Err(NotAuthentic::Certificate(_))
    ));
}
