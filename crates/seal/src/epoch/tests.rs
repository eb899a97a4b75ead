//! Epochs: many messages to the same holders, whose key is wrapped once.

use ordonnans_certs::Validity;
use ordonnans_certs::memory::Authority;
use ordonnans_identity::{FileSigner, Trust};
use ordonnans_label::{Clearance, Kind, Level};
use ordonnans_message::cose::Purpose;
use ordonnans_message::{
    Content, ContentRef, MessageId, Precedence, Recipient, Role, SUITE_EPOCH, Sealing,
    SignedKeyPackage, Timestamp,
};

use super::*;
use crate::signed::sign;
use crate::{
    NotAuthentic, OpenError, SealError, SealSecret, SeededEntropy, Verified, open, open_with,
    seal_in_epoch, sign_statement, verify_envelope, verify_statement,
};

struct Node {
    name: Name,
    signer: FileSigner,
    secret: [SealSecret; 1],
}

struct House {
    trust: Trust,
    entropy: SeededEntropy,
    nodes: Vec<Node>,
    keys: Vec<Verified<SignedKeyPackage>>,
    count: u8,
}

fn now() -> Timestamp {
    "2026-11-23T03:00:00Z".parse().expect("a time")
}

impl House {
    fn new(nodes: usize) -> Self {
        let at = |day: u64| {
            let ms = now().as_millis() + day * 86_400_000 - 86_400_000;
            std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)
        };
        let (from, until) = (at(0).into(), at(9).into());
        let mut authority =
            Authority::new("crisis.example", Validity { from, until }).expect("an authority");
        let mut entropy = SeededEntropy::new(1);
        let mut node = |n: usize| {
            let name = Name::new(&format!("n{n:02}"), Kind::Node, "crisis.example");
            let name = name.expect("a name");
            let issued = authority.issue(&name, &Clearance::new(Level::DepV));
            let issued = issued.expect("issues");
            let signer = FileSigner::from_der(&issued.certificate, &issued.key_pkcs8());
            Node {
                name,
                signer: signer.expect("a signer"),
                secret: [SealSecret::generate(&mut entropy)],
            }
        };
        let nodes: Vec<Node> = (0..nodes).map(&mut node).collect();
        let trust = authority.trust().expect("trust");
        let key = |n: &Node| {
            let package = n.secret[0].package(&n.name, now().after(1000));
            let signed = sign_statement(&package, &n.signer).expect("signs");
            verify_statement(signed, &trust, now()).expect("is its own")
        };
        Self {
            keys: nodes.iter().map(key).collect(),
            trust,
            entropy,
            nodes,
            count: 0,
        }
    }

    fn header(&mut self, to: &[usize], label: &str) -> Header {
        self.count += 1;
        let none = sha256(&[]);
        let recipient = |n: &usize| Recipient {
            node: self.nodes[*n].name.clone(),
            person: None,
            role: Role::Action,
            precedence: Precedence::Routine,
        };
        Header {
            id: MessageId::new(now(), [self.count; 10]),
            originator: self.nodes[0].name.clone(),
            author: None,
            label: label.parse().expect("a label"),
            recipients: to.iter().map(recipient).collect(),
            exercise: true,
            created: now(),
            expires: now().after(60_000),
            reply_by: None,
            references: vec![],
            supersedes: None,
            content: ContentRef {
                digest: none,
                length: 0,
            },
            attachments: vec![],
            sealing: Sealing {
                suite: 1,
                commitment: none,
                seals: none,
            },
            act: None,
            groups: vec![],
            passed: None,
        }
    }

    /// A message of the first node to some, who have the key but for those `to_wrap`.
    fn message(&mut self, epoch: &EpochKey, to: &[usize], to_wrap: &[usize]) -> Verified<Envelope> {
        let header = self.header(to, "Ongerubriceerd");
        let (nodes, entropy) = (&self.nodes, &mut self.entropy);
        let without = |n: &Name| !to_wrap.iter().any(|w| nodes[*w].name == *n);
        let signer = &nodes[0].signer;
        let sealed = seal_in_epoch(
            epoch,
            &without,
            header,
            &text(),
            &self.keys,
            signer,
            entropy,
        );
        let sealed = Envelope::decode(&sealed.expect("seals").encode()).expect("decodes");
        verify_envelope(sealed, &self.trust, now()).expect("authentic")
    }

    fn opens(
        &self,
        m: &Verified<Envelope>,
        n: usize,
        grant: Option<&Grant>,
    ) -> Result<(), OpenError> {
        let node = &self.nodes[n];
        let opened = open_with(m, &node.secret, &node.name, grant)?;
        assert_eq!(opened.content, text());
        Ok(())
    }

    fn grant(&self, m: &Verified<Envelope>, n: usize) -> Option<Grant> {
        let grant = Grant::of(m.get(), &self.nodes[n].name).expect("reads")?.1;
        assert_eq!(Grant::decode(&grant.encode()).as_ref(), Ok(&grant));
        Some(grant)
    }
}

fn text() -> Content {
    Content {
        body: b"inhoud".to_vec(),
        ..Content::default()
    }
}

#[test]
fn a_key_is_wrapped_once_and_opens_what_follows_to_the_same_holders() {
    let mut house = House::new(4);
    let to = [0, 1, 2];
    let epoch = EpochKey::generate(&mut house.entropy);
    let first = house.message(&epoch, &to, &to);
    assert_eq!(first.get().header().sealing.suite, SUITE_EPOCH);
    assert_eq!(first.get().epoch(), Ok(Some(epoch.id())));
    let grants = to.map(|n| house.grant(&first, n).expect("it brings one"));
    assert!(house.grant(&first, 3).is_none());
    for n in to {
        assert_eq!(house.opens(&first, n, None), Ok(()), "{n}");
    }
    // One has not answered: it is wrapped for it again.
    let second = house.message(&epoch, &to, &[2]);
    let third = house.message(&epoch, &to, &[]);
    for (n, grant) in to.into_iter().zip(&grants) {
        assert_eq!(house.opens(&second, n, Some(grant)), Ok(()), "{n}");
        assert_eq!(house.opens(&third, n, Some(grant)), Ok(()), "{n}");
        let without = house.opens(&third, n, None);
        assert_eq!(without, Err(OpenError::OtherEpoch), "{n}");
        // Somebody else's is none.
        let other = &grants[(n + 1) % 3];
        assert_eq!(
            house.opens(&third, n, Some(other)),
            Err(OpenError::OtherEpoch)
        );
    }
    assert_eq!(house.opens(&second, 2, None), Ok(()));
    assert_eq!(house.opens(&third, 3, None), Err(OpenError::NotForUs));
    // The key of another epoch opens nothing.
    let other = EpochKey::generate(&mut house.entropy);
    let fourth = house.message(&other, &to, &[]);
    let wrong = house.opens(&fourth, 1, Some(&grants[1]));
    assert_eq!(wrong, Err(OpenError::Damaged));
    assert_eq!(format!("{epoch:?}").len(), "EpochKey(EpochId())".len() + 32);
}

#[test]
fn what_many_are_sealed_for_again_is_small() {
    let mut house = House::new(30);
    let to: Vec<usize> = (0..30).collect();
    let epoch = EpochKey::generate(&mut house.entropy);
    let first = house.message(&epoch, &to, &to).get().encode().len();
    let later = house.message(&epoch, &to, &[]).get().encode().len();
    assert_eq!((first - later) / 30, 1_208, "a seal for each of the thirty");
}

#[test]
fn a_key_that_was_given_for_some_opens_nothing_for_others() {
    let mut house = House::new(4);
    let epoch = EpochKey::generate(&mut house.entropy);
    let first = house.message(&epoch, &[0, 1, 2], &[0, 1, 2]);
    let grant = house.grant(&first, 1).expect("it brings one");
    // The originator goes on with the same key for fewer, for more and for others.
    for to in [&[1, 2][..], &[0, 1, 2, 3], &[0, 1, 3]] {
        let m = house.message(&epoch, to, &[]);
        assert_eq!(
            house.opens(&m, 1, Some(&grant)),
            Err(OpenError::Damaged),
            "{to:?}"
        );
    }
    // The order of the recipients says nothing.
    let m = house.message(&epoch, &[2, 0, 1], &[]);
    assert_eq!(house.opens(&m, 1, Some(&grant)), Ok(()));
    // Whoever was a holder and is not named any more has no door to it, with or without the key.
    let m = house.message(&epoch, &[0, 2], &[]);
    assert_eq!(house.opens(&m, 1, Some(&grant)), Err(OpenError::NotForUs));
}

#[test]
fn one_ciphertext_opens_to_one_text_whatever_keys_its_originator_gave() {
    let mut house = House::new(3);
    let one = EpochKey::generate(&mut house.entropy);
    // Another key under the same id, for the second holder.
    let two = EpochKey {
        id: one.id,
        key: fresh(&mut house.entropy),
    };
    let to = [0, 1, 2];
    let (honest, other) = (house.message(&one, &to, &to), house.message(&two, &to, &to));
    let grants = [
        house.grant(&honest, 1).expect("it brings one"),
        house.grant(&other, 2).expect("it brings one"),
    ];
    let m = house.message(&one, &to, &[]);
    assert_eq!(house.opens(&m, 1, Some(&grants[0])), Ok(()));
    assert_eq!(
        house.opens(&m, 2, Some(&grants[1])),
        Err(OpenError::Damaged)
    );
}

#[test]
fn seals_are_of_its_holders_each_once_and_in_their_order() {
    let mut house = House::new(4);
    let epoch = EpochKey::generate(&mut house.entropy);
    let m = house.message(&epoch, &[0, 1, 2], &[0, 1, 2]).into_inner();
    let seals = m.seals().expect("seals");
    let other = house.message(&epoch, &[0, 3], &[3]).into_inner();
    let other = other.seals().expect("seals").remove(0);
    let numbered = Seal {
        copy: Some(1),
        ..seals[1].clone()
    };
    let [a, b, c] = [0, 1, 2].map(|n| seals[n].clone());
    for (changed, fits) in [
        (vec![a.clone(), c.clone()], Ok(())),
        (vec![b.clone(), a.clone()], Err("sealed for")),
        (vec![a.clone(), a.clone()], Err("sealed for")),
        (vec![a.clone(), other], Err("sealed for")),
        (vec![a, b, c.clone(), c], Err("sealed for")),
        (vec![numbered], Err("copy number")),
    ] {
        let seals = Seal::encode_of_epoch(epoch.id(), &changed);
        let mut header = m.header().clone();
        header.sealing.seals = sha256(&[&seals]);
        let signer = &house.nodes[0].signer;
        let signed = sign(Purpose::Envelope, header.encode(), signer).expect("signs");
        let made = Envelope::new(signed, seals, m.content().clone()).expect("fits");
        let verified = verify_envelope(made, &house.trust, now()).map(drop);
        let expected = fits.map_err(|why| NotAuthentic::Seals(DecodeError::Form(why)));
        assert_eq!(verified, expected);
    }
}

#[test]
fn a_changed_seal_and_numbered_copies_are_refused() {
    let mut house = House::new(3);
    let epoch = EpochKey::generate(&mut house.entropy);
    let header = house.header(&[0, 1, 2], "Stg.C // TOT 2036-01-01");
    let none = |_: &Name| false;
    let refused = seal_in_epoch(
        &epoch,
        &none,
        header,
        &text(),
        &house.keys,
        &house.nodes[0].signer,
        &mut house.entropy,
    );
    assert_eq!(refused, Err(SealError::Numbered));
    let m = house.message(&epoch, &[0, 1, 2], &[1]);
    let node = &house.nodes[1];
    assert!(open(&m, &node.secret, &node.name).is_ok());
    let mut grant = house.grant(&m, 1).expect("it brings one");
    let later = house.message(&epoch, &[0, 1, 2], &[]);
    assert_eq!(house.opens(&later, 1, Some(&grant)), Ok(()));
    grant.seal.wrapped[0] ^= 1;
    assert_eq!(
        house.opens(&later, 1, Some(&grant)),
        Err(OpenError::Damaged)
    );
}
