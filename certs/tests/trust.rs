//! What is believed and what is not: each trap of the verifier has a test.

use ordonnans_certs::memory::{Authority, Constraints};
use ordonnans_certs::{Flaw, Issued, Validity};
use ordonnans_identity::clearance::{constraint_of, constraints_value};
use ordonnans_identity::{
    Certificate, FileSigner, InvalidCertificate, InvalidTrust, MAX_LIST, MAX_TRUST_FILE, Signer,
    Trust, Untrusted, Usage, verify_signature,
};
use ordonnans_label::{Clearance, Clearances, Level, Name, Policies};
use ordonnans_message::Timestamp;
use time::{Duration, OffsetDateTime};

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).expect("a time")
}

fn days(from: i64, until: i64) -> Validity {
    Validity {
        from: start() + Duration::days(from),
        until: start() + Duration::days(until),
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_086_400_000)
}

fn authority() -> Authority {
    Authority::new("crisis.example", days(0, 30)).expect("made")
}

fn ncc() -> Name {
    "ncc.node.crisis.example".parse().expect("a name")
}

fn holds() -> Clearance {
    Clearance::new(Level::StgG)
        .with_circle("ICCB")
        .and_then(|c| c.with_compartment("CYBER"))
        .expect("valid")
}

fn verify(a: &Authority, i: &Issued, usage: Usage) -> Result<Certificate, Untrusted> {
    a.trust()
        .expect("trust")
        .verify(&i.certificate, usage, now())
}

fn flawed(flaw: Flaw) -> Result<Certificate, Untrusted> {
    let mut a = authority();
    let i = a
        .issue_with(&ncc(), &holds(), days(0, 30), Some(flaw))
        .expect("made");
    verify(&a, &i, Usage::Client)
}

#[test]
fn a_good_certificate_is_believed_and_says_who_and_what() {
    let mut a = authority();
    let i = a.issue(&ncc(), &holds()).expect("made");
    let c = verify(&a, &i, Usage::Client).expect("believed");
    let says = c.certified().clearances(Policies::built_in());
    assert_eq!((c.name(), says), (&ncc(), holds().into()));
    assert!(
        matches!(
            verify(&a, &i, Usage::Server),
            Err(Untrusted::Form(InvalidCertificate::Usage))
        ),
        "a node is no server"
    );
    let broker = a
        .issue(
            &"b1.broker.crisis.example".parse().expect("a name"),
            &holds(),
        )
        .expect("made");
    assert!(
        verify(&a, &broker, Usage::Server).is_ok() && verify(&a, &broker, Usage::Client).is_ok()
    );
}

#[test]
fn its_key_signs_and_another_does_not() {
    let mut a = authority();
    let i = a.issue(&ncc(), &holds()).expect("made");
    let other = a.issue(&ncc(), &holds()).expect("made");
    let s = FileSigner::from_der(&i.certificate, &i.key_pkcs8()).expect("fits");
    let signature = s.sign(b"text").expect("signs");
    assert_eq!(signature.len(), 64);
    assert!(verify_signature(s.certificate(), s.algorithm(), b"text", &signature).is_ok());
    assert!(verify_signature(s.certificate(), s.algorithm(), b"texT", &signature).is_err());
    assert!(
        FileSigner::from_der(&i.certificate, &other.key_pkcs8()).is_err(),
        "the key of another certificate"
    );
}

#[test]
fn a_certificate_with_a_flaw_is_refused() {
    assert_eq!(
        flawed(Flaw::NoUsage).map(drop),
        Err(InvalidCertificate::Usage.into())
    );
    for flaw in [Flaw::TwoNames, Flaw::NoName, Flaw::Uri] {
        assert_eq!(
            flawed(flaw).map(drop),
            Err(InvalidCertificate::Names.into()),
            "{flaw:?}"
        );
    }
    assert!(matches!(
        flawed(Flaw::CriticalClearance),
        Err(Untrusted::Chain(_))
    ));
}

#[test]
fn time_counts() {
    let mut a = authority();
    for (from, until, good) in [(0, 30, true), (2, 30, false), (0, 0, false)] {
        let validity = Validity {
            until: days(from, until).until + Duration::hours(1),
            ..days(from, until)
        };
        let i = a
            .issue_with(&ncc(), &holds(), validity, None)
            .expect("made");
        assert_eq!(
            verify(&a, &i, Usage::Client).is_ok(),
            good,
            "{from} to {until}"
        );
    }
    let i = a.issue(&ncc(), &holds()).expect("made");
    let late = Timestamp::from_millis(1_790_000_000_000 + 31 * 86_400_000);
    assert!(
        a.trust()
            .expect("trust")
            .verify(&i.certificate, Usage::Client, late)
            .is_err(),
        "lists expire too"
    );
}

#[test]
fn a_name_of_another_structure_or_authority_is_refused() {
    let mut a = authority();
    let i = a
        .issue(&"ncc.node.other.example".parse().expect("a name"), &holds())
        .expect("made");
    assert!(
        matches!(verify(&a, &i, Usage::Client), Err(Untrusted::Chain(_))),
        "outside the name constraint"
    );
    let mut twin = authority();
    let i = twin.issue(&ncc(), &holds()).expect("made");
    assert!(
        matches!(verify(&a, &i, Usage::Client), Err(Untrusted::Chain(_))),
        "same names, other keys"
    );
}

#[test]
fn revoked_is_refused_also_beside_an_older_list() {
    let mut a = authority();
    let (i, other) = (
        a.issue(&ncc(), &holds()).expect("made"),
        a.issue(&ncc(), &holds()).expect("made"),
    );
    let [root, before] = a.lists().expect("lists");
    a.revoke(&i);
    assert!(matches!(
        verify(&a, &i, Usage::Client),
        Err(Untrusted::Chain(_))
    ));
    assert!(verify(&a, &other, Usage::Client).is_ok(), "only the one");
    let [_, after] = a.lists().expect("lists");
    for order in [
        vec![root.clone(), before.clone(), after.clone()],
        vec![after, before, root],
    ] {
        let trust = a.trust_with(order).expect("trust");
        assert_eq!(trust.lists().len(), 2, "one list for each authority");
        assert!(trust.verify(&i.certificate, Usage::Client, now()).is_err());
    }
}

#[test]
fn trust_without_every_list_is_no_trust() {
    let a = authority();
    let [root, issuing] = a.lists().expect("lists");
    let refused = |lists| a.trust_with(lists).map(drop).expect_err("refused");
    assert!(matches!(refused(vec![]), InvalidTrust::NoList(_)));
    assert!(matches!(
        refused(vec![root.clone()]),
        InvalidTrust::NoList(_)
    ));
    assert!(matches!(
        refused(vec![issuing.clone()]),
        InvalidTrust::NoList(_)
    ));
    let [_, forged] = authority().lists().expect("lists");
    assert!(
        matches!(refused(vec![root.clone(), forged]), InvalidTrust::Forged(_)),
        "same name, other key"
    );
    let [_, stranger] = Authority::new("other.example", days(0, 30))
        .expect("made")
        .lists()
        .expect("lists");
    assert!(matches!(
        refused(vec![root, issuing, stranger]),
        InvalidTrust::Stranger(_)
    ));
}

#[test]
fn a_list_or_a_file_above_its_bound_is_not_read() {
    let a = authority();
    let [root, issuing] = a.lists().expect("lists");
    let refused = |bytes: usize| {
        let large = vec![0; bytes].into();
        let trust = a.trust_with(vec![root.clone(), issuing.clone(), large]);
        trust.map(drop).expect_err("refused")
    };
    let above = MAX_LIST + 1;
    assert_eq!(refused(above), InvalidTrust::LargeList(above));
    assert_eq!(refused(MAX_LIST), InvalidTrust::List, "read, and no list");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("root.crl.pem");
    let trust = || Trust::load_dir(dir.path()).map(drop).expect_err("refused");
    for (bytes, why) in [
        (MAX_TRUST_FILE + 1, InvalidTrust::LargeFile(file.clone())),
        (MAX_TRUST_FILE, InvalidTrust::File(file.clone())),
    ] {
        let made = std::fs::File::create(&file).and_then(|f| f.set_len(bytes));
        made.expect("made");
        assert_eq!(trust(), why);
    }
}

fn several(texts: &[&str]) -> Clearances {
    let read = |t: &&str| {
        let all = Policies::built_in();
        all.read_clearance(t).expect("a clearance")
    };
    texts.iter().map(read).collect()
}

/// What a subject that claims this is believed to hold below these authorities.
fn cut(mut a: Authority, claims: &Clearances) -> Clearances {
    let i = a.issue(&ncc(), claims).expect("made");
    let claimed = Certificate::parse_der(&i.certificate).expect("read");
    let claimed = claimed.certified().clearances(Policies::built_in());
    assert_eq!(claimed, *claims, "what was only read is the claim");
    let c = verify(&a, &i, Usage::Client).expect("believed");
    assert_eq!(c.der(), &*i.certificate);
    c.certified().clearances(Policies::built_in())
}

fn below(root: &[&str], issuing: &[&str]) -> Authority {
    let value = |texts: &[&str]| {
        let value = constraints_value(&several(texts), Policies::built_in());
        (!texts.is_empty()).then(|| value.expect("written"))
    };
    let constraints = Constraints {
        root: value(root),
        issuing: value(issuing),
    };
    Authority::constrained("crisis.example", days(0, 30), constraints).expect("made")
}

#[test]
fn nobody_holds_more_than_the_authorities_above_may_give() {
    let claims = several(&[
        "Stg.ZG // KRING ICCB, NCC // COMPARTIMENT CYBER",
        "NATO SECRET // CONTEXT NATO, KFOR",
    ]);
    let wide = several(&[
        "Stg.ZG // KRING ICCB, NCC // COMPARTIMENT CYBER, CRYPTO",
        "NATO SECRET // CONTEXT NATO, KFOR",
        "EU SECRET",
    ]);
    let of = |c: &Clearances| c.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wide = of(&wide);
    let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
    for (root, issuing, left) in [
        (&[][..], &[][..], &of(&claims)[..]),
        (&wide, &wide, &of(&claims)),
        (&[], &["Dep.V"], &["Dep.V".to_owned()]),
        (&["Dep.V"], &[], &["Dep.V".to_owned()]),
        (
            &["Stg.C // KRING ICCB, DCC"],
            &["Stg.G // KRING NCC, ICCB // COMPARTIMENT CYBER"],
            &["Stg.C // KRING ICCB".to_owned()],
        ),
        (
            &wide,
            &["NATO CONFIDENTIAL // CONTEXT KFOR"],
            &["NATO CONFIDENTIAL // CONTEXT KFOR".to_owned()],
        ),
        (&["NATO SECRET"], &["Stg.ZG"], &[]),
        (&["EU SECRET"], &[], &[]),
    ] {
        let held = of(&cut(below(root, issuing), &claims));
        assert_eq!(held, left, "{root:?} {issuing:?}");
    }
    let most = several(&["Stg.C"]);
    let a = Authority::up_to("crisis.example", days(0, 30), &most).expect("made");
    assert_eq!(cut(a, &claims), most);
}

#[test]
fn a_certificate_that_says_nothing_gets_nothing_from_a_constraint() {
    let mut a = below(&[], &["Stg.G"]);
    let i = a.issue(&ncc(), &Clearances::default()).expect("made");
    let c = verify(&a, &i, Usage::Client).expect("believed");
    assert!(c.certified().is_empty());
}

#[test]
fn a_constraint_that_cannot_be_read_is_no_trust() {
    // No clearance at all, and the fields of RFC 3281.
    for bad in [
        &[0x30, 0][..],
        &[0x30, 6, 0x30, 4, 0x80, 2, 0x2a, 3],
        &[5, 0],
    ] {
        let bad = || Some(bad.to_vec());
        for (constraints, named) in [
            (
                Constraints {
                    root: bad(),
                    issuing: None,
                },
                "crisis.example root",
            ),
            (
                Constraints {
                    root: None,
                    issuing: bad(),
                },
                "crisis.example issuing",
            ),
        ] {
            let a = Authority::constrained("crisis.example", days(0, 30), constraints);
            match a.expect("made").trust() {
                Err(InvalidTrust::Constraint(name)) => assert!(name.contains(named), "{name}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The constraint that examples of RFC 5913 use: three policies of RFC 3114, 1.2.840.113549.1.9.16.7.3, .2 and .1.
#[test]
fn the_published_constraint_leaves_nothing_of_ours() {
    let mut value = vec![0x30, 57];
    for (last, bits) in [(3, [2, 5, 0xe0]), (2, [2, 4, 0xf0]), (1, [2, 5, 0xe0])] {
        value.extend([
            0x30, 17, 6, 11, 42, 134, 72, 134, 247, 13, 1, 9, 16, 7, last, 3,
        ]);
        value.extend(bits);
    }
    let constraints = Constraints {
        root: None,
        issuing: Some(value),
    };
    let a = Authority::constrained("crisis.example", days(0, 30), constraints).expect("made");
    let trust = a.trust().expect("trust");
    let read = constraint_of(&trust.intermediates()[0]).expect("read");
    assert_eq!(read.expect("there").statements().count(), 3);
    assert_eq!(constraint_of(&trust.roots()[0]), Ok(None));
    assert_eq!(cut(a, &holds().into()), Clearances::default());
}

/// What a trust remembers of a certificate is what it would say anew, on both sides of every time at which that changes: also where a list still counts
/// for a while after its successor was due.
#[test]
fn what_is_remembered_is_what_would_be_said_anew() {
    let mut a = authority();
    let leaf = a
        .issue_with(&ncc(), &holds(), days(3, 9), None)
        .expect("made");
    let outlives = a
        .issue_with(&ncc(), &holds(), days(-5, 90), None)
        .expect("made");
    // The authorities end on day 30; these lists do so before.
    let early = a.lists_of(days(0, 12)).expect("lists");
    let day = 86_400_000;
    let began = 1_790_000_000_000;
    for (grace, last) in [(0, 12), (3, 15), (90, 30)] {
        let grace = std::time::Duration::from_millis(grace * 86_400_000);
        let fresh = || {
            let trust = a.trust_with(early.clone().into()).expect("trust");
            trust.with_grace(grace)
        };
        let remembers = fresh();
        let (mut yes, mut no) = (0, 0);
        let edges = [-5i64, 0, 3, 9, 12, 15, 30, 90].map(|d| began + d * day);
        let around = [-day, -1_000, -1, 0, 1, 999, 1_000, 1_001, day];
        let times = edges.iter().flat_map(|e| around.map(|d| e + d));
        // There, and back again: what is known of later counts for earlier.
        let there: Vec<i64> = times.collect();
        for ms in there.iter().chain(there.iter().rev()) {
            let at = Timestamp::from_millis(u64::try_from(*ms).expect("a time"));
            for usage in [Usage::Client, Usage::Server] {
                for i in [&leaf, &outlives] {
                    let said = remembers.verify(&i.certificate, usage, at);
                    assert_eq!(said, fresh().verify(&i.certificate, usage, at), "at {at}");
                    if said.is_ok() {
                        yes += 1;
                    } else {
                        no += 1;
                    }
                }
            }
            let believed = remembers.verify(&outlives.certificate, Usage::Client, at);
            // The last second of a certificate counts; that of a list does not.
            let last = began + last * day + if last == 30 { 1_000 } else { 0 };
            assert_eq!(believed.is_ok(), (began..last).contains(ms), "at {at}");
        }
        assert!(yes > 40 && no > 40, "{yes} {no}");
    }
}
