//! How the vectors are made: good envelopes, and everything that somebody who carries one, or its originator, can change in it.

use ordonnans_identity::Signer;
use ordonnans_label::Level;
use ordonnans_message::cose::{Algorithm, Draft as Signing, Purpose};
use ordonnans_message::{AttachmentKey, Content, Header, MessageId, Precedence, Seal, SealedCopy};
use ordonnans_seal::{seal, sign_statement};
use ordonnans_tests::house::{Draft, House, night};

use super::changes::{
    ANY, Change, FULL, attached, carried, fitting, group, label, resigned, seals_of, signed,
    splice, together,
};
use super::*;

const NCC: usize = 0;
const DEF: usize = 1;
const LOCC: usize = 2;
const POLITIE: usize = 3;
/// An hour.
const LIFETIME: u64 = 3_600_000;

struct Maker {
    house: House,
    trust: Trust,
    seeds: BTreeMap<Name, [u8; 32]>,
    good: Vec<(String, Envelope, BTreeMap<Name, String>)>,
    bad: Vec<Bad>,
    entropy: SeededEntropy,
}

impl Maker {
    fn new() -> Self {
        let mut house = House::new();
        // Whoever still believes this one is wrong.
        house.authority.revoke(&house.nodes[POLITIE].issued);
        // The keys of the house are drawn in this order.
        let mut entropy = SeededEntropy::new(7);
        let mut seeds = BTreeMap::new();
        for node in &house.nodes {
            for name in [&node.name, node.vaststeller.certificate().name()] {
                let mut seed = [0; 32];
                entropy.fill(&mut seed);
                seeds.insert(name.clone(), seed);
            }
        }
        Self {
            trust: house.authority.trust().expect("trust"),
            house,
            seeds,
            good: vec![],
            bad: vec![],
            entropy: SeededEntropy::new(11),
        }
    }

    fn draft(&self, from: usize, to: &[usize], level: Level) -> Draft {
        Draft {
            from,
            to: to.to_vec(),
            level,
            circle: false,
            precedence: Precedence::Routine,
            lifetime: LIFETIME,
            body: b"inhoud".to_vec(),
        }
    }

    fn secret(&self, name: &Name) -> SealSecret {
        SealSecret::generate(&mut Seed(self.seeds[name].to_vec()))
    }

    fn keep(&mut self, name: &str, e: Envelope) -> Envelope {
        let verified = verify_envelope(e.clone(), &self.trust, night()).expect("authentic");
        let mut opens = BTreeMap::new();
        for seal in e.seals().expect("seals") {
            let opened = open(&verified, &[self.secret(&seal.to)], &seal.to).expect("opens");
            opens.insert(seal.to, sha256(&[&opened.content.body]).to_string());
        }
        self.good.push((name.into(), e.clone(), opens));
        e
    }

    /// Something that must be refused.
    fn refuse(&mut self, of: &str, name: &str, bytes: &[u8], holder: Option<&Name>) {
        let good = self.good.iter().find(|(n, ..)| n == of).expect("kept");
        let holder = holder.unwrap_or(good.2.keys().next().expect("a holder"));
        let secret = self.secret(holder);
        let refused = refused(bytes, &self.trust, night(), (&secret, holder));
        let (refused_by, error) = refused.unwrap_or_else(|| panic!("{of}, {name}: it opens"));
        let bad = Bad {
            name: name.into(),
            of: of.into(),
            splice: splice(&good.1.encode(), bytes),
            holder: holder.clone(),
            refused_by: refused_by.into(),
            error: error.into(),
        };
        self.bad.push(bad);
    }

    /// Each change of the header, by who carries it and by its originator.
    fn header(&mut self, of: &str, e: &Envelope, changes: &[(&str, Change)]) {
        for (name, change) in changes {
            let mut header = e.header().clone();
            change(&mut header);
            if header == *e.header() {
                continue;
            }
            self.refuse(
                of,
                &format!("{name}, on its way"),
                &carried(e, &header),
                None,
            );
            let by = &self.house.nodes[NCC].signer;
            let bytes = resigned(by, &header, &seals_of(e), e.content());
            self.refuse(of, &format!("{name}, by its originator"), &bytes, None);
        }
    }

    /// Other seals and another content, which the originator signs.
    fn parts(&mut self, of: &str, name: &str, e: &Envelope, seals: &[Seal], content: &[u8]) {
        let seals = Seal::encode_all(seals);
        let header = fitting(e.header(), &seals, content);
        let bytes = resigned(&self.house.nodes[NCC].signer, &header, &seals, content);
        let holder = e.seals().expect("seals")[0].to.clone();
        self.refuse(of, name, &bytes, Some(&holder));
    }

    fn signature(&mut self, of: &str, e: &Envelope) {
        let (s, seals) = (e.signed().clone(), seals_of(e));
        let with = |algorithm, certificate: &[u8], signature: &[u8]| {
            let signed = signed(e.header(), algorithm, certificate, signature);
            together(&signed, &seals, e.content())
        };
        let mut flipped = s.signature().to_vec();
        flipped[5] ^= 1;
        let bytes = with(s.algorithm(), s.certificate(), &flipped);
        self.refuse(of, "another signature", &bytes, None);
        let bytes = with(Algorithm::EdDsa, s.certificate(), s.signature());
        self.refuse(of, "another algorithm", &bytes, None);
        let others = self.house.nodes[DEF].issued.certificate.clone();
        let bytes = with(s.algorithm(), &others, s.signature());
        self.refuse(of, "the certificate of another", &bytes, None);
        let bytes = resigned(
            &self.house.nodes[DEF].signer,
            e.header(),
            &seals,
            e.content(),
        );
        self.refuse(of, "signed by another", &bytes, None);
        let stranger = House::new();
        let bytes = resigned(&stranger.nodes[NCC].signer, e.header(), &seals, e.content());
        self.refuse(
            of,
            "signed by one of the same name, of another authority",
            &bytes,
            None,
        );
        let by = &self.house.nodes[NCC].signer;
        let receipt = Signing::new(
            Purpose::Receipt,
            s.algorithm(),
            s.certificate(),
            e.header().encode(),
        );
        let signature = by.sign(&receipt.to_be_signed()).expect("signs");
        let bytes = with(s.algorithm(), s.certificate(), &signature);
        self.refuse(of, "signed as a receipt", &bytes, None);
    }

    fn seals(&mut self, of: &str, e: &Envelope) {
        type Seals = fn(&mut Vec<Seal>);
        let changes: [(&str, Seals); 10] = [
            ("a seal less", |s| drop(s.pop())),
            ("a seal twice", |s| s.push(s[0].clone())),
            ("seals in another order", |s| s.swap(0, 1)),
            ("a seal for another", |s| s[0].to = s[1].to.clone()),
            ("the seal of another", |s| {
                (s[0].kid, s[0].enc, s[0].wrapped) =
                    (s[1].kid, s[1].enc.clone(), s[1].wrapped.clone());
            }),
            ("another key of its holder", |s| s[0].kid[0] ^= 1),
            ("another copy number", |s| {
                s[0].copy = Some(s[0].copy.map_or(1, |n| n + 1))
            }),
            ("another encapsulation", |s| s[0].enc[7] ^= 1),
            ("another wrapped key", |s| s[0].wrapped[7] ^= 1),
            ("a wrapped key cut short", |s| s[0].wrapped.truncate(47)),
        ];
        for (name, change) in changes {
            let mut seals = e.seals().expect("seals");
            change(&mut seals);
            self.parts(
                of,
                &format!("{name}, by its originator"),
                e,
                &seals,
                e.content(),
            );
            let signed = e.signed().encode();
            let bytes = together(&signed, &Seal::encode_all(&seals), e.content());
            self.refuse(of, &format!("{name}, on its way"), &bytes, None);
        }
    }

    fn content(&mut self, of: &str, e: &Envelope) {
        let (seals, whole) = (e.seals().expect("seals"), e.content().to_vec());
        let mut flipped = whole.clone();
        flipped[9] ^= 1;
        for (name, content) in [
            ("another content", &flipped[..]),
            ("a content cut short", &whole[..whole.len() - 1]),
            ("no content", &[]),
        ] {
            let bytes = together(&e.signed().encode(), &seals_of(e), content);
            self.refuse(of, &format!("{name}, on its way"), &bytes, None);
            self.parts(
                of,
                &format!("{name}, by its originator"),
                e,
                &seals,
                content,
            );
        }
    }

    /// What was sealed in another message, in this one.
    fn transplanted(&mut self, of: &str, e: &Envelope, other: &Envelope) {
        let mut header = e.header().clone();
        (header.content, header.sealing) = (other.header().content, other.header().sealing);
        let by = &self.house.nodes[NCC].signer;
        let bytes = resigned(by, &header, &seals_of(other), other.content());
        self.refuse(of, "seals and content of another message", &bytes, None);
        let bytes = together(&e.signed().encode(), &seals_of(other), other.content());
        self.refuse(of, "the header of another message", &bytes, None);
    }

    /// Sealed to a key that is not the recipient's, by an originator who was given a wrong one.
    fn wrong_key(&mut self, of: &str, e: &Envelope) {
        let (def, politie) = (&self.house.nodes[DEF], &self.house.nodes[POLITIE]);
        let (right, name) = (def.secret.kid(), def.name.clone());
        let wrong = politie.secret.package(&name, night().after(LIFETIME));
        let wrong = sign_statement(&wrong, &def.signer).expect("signs");
        let wrong = verify_statement(wrong, &self.trust, night()).expect("its own");
        let keys = [wrong, self.house.nodes[LOCC].package.clone()];
        let by = &self.house.nodes[NCC].signer;
        let header = e.header().clone();
        let sealed = seal(header, &plain(), &keys, by, &mut self.entropy).expect("seals");
        let bytes = sealed.encode();
        self.refuse(of, "sealed to the key of another", &bytes, Some(&name));
        let mut seals = sealed.seals().expect("seals");
        seals[0].kid = right;
        let seals = Seal::encode_all(&seals);
        let header = fitting(sealed.header(), &seals, sealed.content());
        let by = &self.house.nodes[NCC].signer;
        let bytes = resigned(by, &header, &seals, sealed.content());
        let said = "sealed to the key of another, as if to its own";
        self.refuse(of, said, &bytes, Some(&name));
        let third = self.house.nodes[POLITIE].name.clone();
        let said = "opened by one who is no recipient";
        self.refuse(of, said, &e.encode(), Some(&third));
    }

    fn keys(&self) -> Vec<Key> {
        let until = night().after(LIFETIME);
        let (ncc, def, politie) = (
            &self.house.nodes[NCC],
            &self.house.nodes[DEF],
            &self.house.nodes[POLITIE],
        );
        let own = sign_statement(&def.secret.package(&def.name, until), &def.signer);
        let own = own.expect("signs");
        let substituted = sign_statement(&ncc.secret.package(&def.name, until), &ncc.signer);
        let revoked = sign_statement(
            &politie.secret.package(&politie.name, until),
            &politie.signer,
        );
        let with = |package: ordonnans_message::KeyPackage| {
            let s = own.signed();
            let draft = Signing::new(
                Purpose::KeyPackage,
                s.algorithm(),
                s.certificate(),
                ordonnans_message::Statement::encode(&package),
            );
            draft.finish(s.signature().to_vec()).encode().to_vec()
        };
        let all = [
            ("its own", own.encode().to_vec()),
            (
                "substituted, and signed by who did it",
                substituted.expect("signs").encode().to_vec(),
            ),
            (
                "another public key under its signature",
                with(ncc.secret.package(&def.name, until)),
            ),
            (
                "a longer life under its signature",
                with(def.secret.package(&def.name, until.after(1))),
            ),
            (
                "another name under its signature",
                with(def.secret.package(&ncc.name, until)),
            ),
            (
                "of one who is revoked",
                revoked.expect("signs").encode().to_vec(),
            ),
        ];
        let key = |(name, bytes): (&str, Vec<u8>)| {
            let hex = HEXLOWER.encode(&bytes);
            let error = key_refused(&hex, &self.trust, night());
            Key {
                name: name.into(),
                error,
                hex,
            }
        };
        all.map(key).into()
    }
}

fn plain() -> Content {
    Content {
        salt: [5; 32],
        subject: "s".into(),
        media_type: "text/plain".into(),
        body: b"inhoud".to_vec(),
        ..Content::default()
    }
}

/// A message with everything a header can have.
fn full(m: &mut Maker, of: &Envelope) -> Envelope {
    let ncc = &m.house.nodes[NCC];
    let person = ncc.vaststeller.certificate().name().clone();
    let attachment = attached(1);
    let content = Content {
        attachments: vec![AttachmentKey {
            digest: attachment.digest,
            key: [6; 32],
            name: "kaart.png".into(),
            media_type: "image/png".into(),
            length: 0,
        }],
        ..plain()
    };
    let text = format!("Dep.V // KRING ICCB // TOT 2036-01-01 // VASTGESTELD {person}");
    let act = m
        .house
        .establishes(NCC, label(&text), content.digest(), night());
    let header = Header {
        id: MessageId::new(night(), [2; 10]),
        author: Some(person),
        label: label(&text),
        reply_by: Some(night().after(1)),
        references: vec![of.header().id],
        supersedes: Some(of.header().id),
        attachments: vec![attachment],
        act: Some(act),
        groups: vec![group("allen")],
        ..of.header().clone()
    };
    let keys = [DEF, LOCC].map(|n| m.house.nodes[n].package.clone());
    seal(header, &content, &keys, &ncc.signer, &mut m.entropy).expect("seals")
}

/// Everything.
pub(crate) fn set() -> Set {
    let mut m = Maker::new();
    let sealed = |m: &mut Maker, to: &[usize], level| {
        let draft = m.draft(NCC, to, level);
        let mut entropy = SeededEntropy::new(to.len() as u64 + u64::from(level as u8));
        m.house.seal(&draft, night(), &mut entropy).into_inner()
    };
    let first = sealed(&mut m, &[DEF, LOCC], Level::Ongerubriceerd);
    let e = m.keep("to two nodes", first);
    m.header("to two nodes", &e, ANY);
    m.signature("to two nodes", &e);
    m.seals("to two nodes", &e);
    m.content("to two nodes", &e);
    m.wrong_key("to two nodes", &e);
    let draft = m.draft(NCC, &[DEF, LOCC], Level::Ongerubriceerd);
    let other = m.house.seal(&draft, night(), &mut m.entropy).into_inner();
    m.transplanted("to two nodes", &e, &other);
    let revoked = {
        let draft = m.draft(POLITIE, &[DEF, LOCC], Level::Ongerubriceerd);
        m.house.seal(&draft, night(), &mut m.entropy).into_inner()
    };
    m.refuse(
        "to two nodes",
        "of one who is revoked",
        &revoked.encode(),
        None,
    );

    let everything = full(&mut m, &e);
    let everything = m.keep("with everything", everything);
    m.header("with everything", &everything, ANY);
    m.header("with everything", &everything, FULL);
    // By its originator only the broker sees it, which has the bytes.
    let mut longer = everything.header().clone();
    longer.attachments[0].length += 1;
    let said = "another length of an attachment, on its way";
    m.refuse(
        "with everything",
        said,
        &carried(&everything, &longer),
        None,
    );

    let numbered = sealed(&mut m, &[DEF, LOCC], Level::StgC);
    let numbered = m.keep("numbered copies", numbered);
    m.seals("numbered copies", &numbered);
    m.content("numbered copies", &numbered);
    let (seals, mut copies) = (
        numbered.seals().expect("seals"),
        numbered.copies().expect("copies"),
    );
    let less = SealedCopy::encode_all(&copies[..1]);
    m.parts("numbered copies", "a copy less", &numbered, &seals, &less);
    copies.swap(0, 1);
    let swapped = SealedCopy::encode_all(&copies);
    m.parts(
        "numbered copies",
        "copies exchanged",
        &numbered,
        &seals,
        &swapped,
    );
    let mut header = fitting(numbered.header(), &seals_of(&numbered), &swapped);
    header.sealing.commitment = SealedCopy::commitment_of_all(&copies);
    let by = &m.house.nodes[NCC].signer;
    let bytes = resigned(by, &header, &seals_of(&numbered), &swapped);
    m.refuse(
        "numbered copies",
        "copies exchanged, and committed to",
        &bytes,
        None,
    );

    let persons = sealed(&mut m, &[DEF, NCC], Level::StgG);
    let persons = m.keep("to persons", persons);
    m.seals("to persons", &persons);
    let mut seals = persons.seals().expect("seals");
    seals[0].to = m.house.nodes[DEF].name.clone();
    let said = "the node in the place of its person";
    m.parts("to persons", said, &persons, &seals, persons.content());
    finished(m, &other)
}

fn finished(m: Maker, other: &Envelope) -> Set {
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    let (ncc, def) = (&m.house.nodes[NCC], &m.house.nodes[DEF]);
    let first = &m.good[0].1;
    let same_id = {
        let header = Header {
            id: first.header().id,
            ..other.header().clone()
        };
        let keys = [DEF, LOCC].map(|n| m.house.nodes[n].package.clone());
        let mut entropy = SeededEntropy::new(12);
        seal(header, &plain(), &keys, &ncc.signer, &mut entropy).expect("seals")
    };
    let late = first.header().expires.after(1);
    let unchanged = first.encode();
    let again: [(&str, &[u8], bool, &Name, Timestamp); 6] = [
        ("the same bytes", &unchanged, true, &ncc.name, night()),
        (
            "the same bytes, when their time is over",
            &unchanged,
            true,
            &ncc.name,
            late,
        ),
        (
            "the same bytes, brought by another",
            &unchanged,
            true,
            &def.name,
            night(),
        ),
        (
            "another message under its id",
            &same_id.encode(),
            true,
            &ncc.name,
            night(),
        ),
        (
            "brought by another before it came",
            &unchanged,
            false,
            &def.name,
            night(),
        ),
        (
            "for the first time when its time is over",
            &unchanged,
            false,
            &ncc.name,
            late,
        ),
    ];
    let again = again.map(|(name, bytes, first, from, at)| Again {
        name: name.into(),
        of: m.good[0].0.clone(),
        splice: splice(&unchanged, bytes),
        first,
        from: from.clone(),
        at,
        answer: String::new(),
    });
    let mut holders = vec![];
    for node in &m.house.nodes {
        let persons = (node.vaststeller.certificate().name(), &node.persons);
        for (name, issued) in [(&node.name, &node.issued), persons] {
            holders.push(Holder {
                name: name.clone(),
                seed: hex(&m.seeds[name]),
                certificate: hex(&issued.certificate),
            });
        }
    }
    let [root_list, issuing_list] = [0, 1].map(|n| hex(&m.trust.lists()[n]));
    let mut set = Set {
        rule: "tampered".into(),
        note: "a throwaway structure: certificates, signatures and seals are real, and the keys to open stand here".into(),
        now: night(),
        trust: Anchors {
            root: hex(&m.trust.roots()[0]),
            issuing: hex(&m.trust.intermediates()[0]),
            root_list,
            issuing_list,
        },
        keys: m.keys(),
        holders,
        good: m
            .good
            .into_iter()
            .map(|(name, e, opens)| Good {
                name,
                opens,
                hex: hex(&e.encode()),
            })
            .collect(),
        bad: m.bad,
        again: vec![],
    };
    set.again = again
        .into_iter()
        .map(|a| Again {
            answer: set.answer(&a),
            ..a
        })
        .collect();
    set
}
