//! Everything about a certificate, a chain or a list that is wrong, each refused with a reason of its own.

use std::collections::BTreeSet;

use ordonnans_certs::memory::Authority;
use ordonnans_certs::{Flaw, Issued, Validity};
use ordonnans_identity::{InvalidTrust, Trust, Usage};
use ordonnans_label::{Clearance, Level, Name};
use ordonnans_message::Timestamp;
use time::{Duration, OffsetDateTime};

const STRUCTURE: &str = "crisis.example";

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).expect("a time")
}

fn days(from: i64, until: i64) -> Validity {
    Validity {
        from: start() + Duration::days(from),
        until: start() + Duration::days(until),
    }
}

/// The second day.
fn now() -> Timestamp {
    Timestamp::from_millis(1_790_086_400_000)
}

fn authority() -> Authority {
    Authority::new(STRUCTURE, days(0, 30)).expect("made")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn ncc() -> Name {
    name("ncc.node.crisis.example")
}

fn holds() -> Clearance {
    Clearance::new(Level::StgC)
}

/// Why a trust cannot be placed, or does not believe a certificate; nothing where it does.
fn why(trust: Result<Trust, InvalidTrust>, i: &Issued, usage: Usage) -> Option<String> {
    match trust {
        Err(e) => Some(e.to_string()),
        Ok(t) => {
            let said = t.verify(&i.certificate, usage, now());
            said.err().map(|e| e.to_string())
        }
    }
}

fn flawed(flaw: Flaw) -> Option<String> {
    let mut a = authority();
    let i = a.issue_with(&ncc(), &holds(), days(0, 30), Some(flaw));
    why(a.trust(), &i.expect("made"), Usage::Client)
}

fn living(from: i64, until: i64) -> Option<String> {
    let mut a = authority();
    let i = a.issue_with(&ncc(), &holds(), days(from, until), None);
    why(a.trust(), &i.expect("made"), Usage::Client)
}

/// A good certificate, and a trust with other lists than it should have.
fn listed(
    lists: impl FnOnce(&mut Authority, &Issued) -> Result<Trust, InvalidTrust>,
) -> Option<String> {
    let mut a = authority();
    let i = a.issue(&ncc(), &holds()).expect("made");
    let trust = lists(&mut a, &i);
    why(trust, &i, Usage::Client)
}

#[test]
fn each_is_refused_with_its_own_reason() {
    let twin = || {
        let mut twin = authority();
        let i = twin.issue(&ncc(), &holds()).expect("made");
        why(authority().trust(), &i, Usage::Client)
    };
    let stranger = || {
        let mut other = Authority::new("other.example", days(0, 30)).expect("made");
        let i = other.issue(&name("ncc.node.other.example"), &holds());
        why(authority().trust(), &i.expect("made"), Usage::Client)
    };
    let outside = || {
        let mut a = authority();
        let i = a.issue(&name("ncc.node.other.example"), &holds());
        why(a.trust(), &i.expect("made"), Usage::Client)
    };
    let server = || {
        let mut a = authority();
        let i = a.issue(&ncc(), &holds()).expect("made");
        why(a.trust(), &i, Usage::Server)
    };
    let deep = || {
        let a = authority();
        let (i, trust) = a.issue_from_below(&ncc(), &holds()).expect("made");
        why(trust, &i, Usage::Client)
    };
    let foreign_lists = |structure: &str| {
        let other = Authority::new(structure, days(0, 30)).expect("made");
        let [_, issuing] = other.lists().expect("lists");
        listed(|a, _| {
            let [root, _] = a.lists().expect("lists");
            a.trust_with(vec![root, issuing])
        })
    };
    let grace = std::time::Duration::from_secs(3600);
    let stale = |until: i64| {
        listed(|a, _| {
            let lists = a.lists_of(days(-30, until)).expect("lists");
            a.trust_with(lists.into()).map(|t| t.with_grace(grace))
        })
    };
    let cases: [(&str, Option<String>, &str); 22] = [
        (
            "a wrong authority of the same name",
            twin(),
            "InvalidSignatureForPublicKey",
        ),
        (
            "a wrong authority of another name",
            stranger(),
            "UnknownIssuer",
        ),
        ("expired", living(-9, 0), "CertExpired"),
        ("not yet valid", living(2, 30), "CertNotValidYet"),
        ("two names", flawed(Flaw::TwoNames), "exactly one DNS name"),
        ("no name", flawed(Flaw::NoName), "exactly one DNS name"),
        (
            "a name of another form",
            flawed(Flaw::Uri),
            "exactly one DNS name",
        ),
        (
            "a name of another kind",
            flawed(Flaw::OtherKind),
            "not <name>.<kind>.<structure>",
        ),
        (
            "a name outside its issuer's constraint",
            outside(),
            "NameConstraintViolation",
        ),
        (
            "no extended key usage",
            flawed(Flaw::NoUsage),
            "lacks an extended key usage",
        ),
        (
            "a node as a server",
            server(),
            "lacks an extended key usage",
        ),
        (
            "a critical extension",
            flawed(Flaw::CriticalClearance),
            "UnsupportedCriticalExtension",
        ),
        (
            "a weak key",
            flawed(Flaw::WeakKey),
            "none of P-256, P-384 and Ed25519",
        ),
        ("a chain too long", deep(), "PathLenConstraintViolated"),
        (
            "no list at all",
            listed(|a, _| a.trust_with(vec![])),
            "has no list",
        ),
        (
            "the root's list alone",
            listed(|a, _| {
                let [root, _] = a.lists().expect("lists");
                a.trust_with(vec![root])
            }),
            "issuing' has no list",
        ),
        (
            "a list by another of the same name",
            foreign_lists(STRUCTURE),
            "wrong signature",
        ),
        (
            "a list by a stranger",
            foreign_lists("other.example"),
            "who is no authority here",
        ),
        ("a stale list", stale(0), "CrlExpired"),
        (
            "revoked",
            listed(|a, i| {
                a.revoke(i);
                a.trust()
            }),
            "CertRevoked",
        ),
        (
            "revoked on a list within its grace",
            listed(|a, i| {
                a.revoke(i);
                let day = days(-30, 1);
                let lists = a.lists_of(day).expect("lists");
                a.trust_with(lists.into()).map(|t| t.with_grace(grace))
            }),
            "CertRevoked",
        ),
        (
            "two authorities of one name",
            listed(|a, _| a.trust_beside(&authority())),
            "have different keys",
        ),
    ];
    for (what, said, reason) in &cases {
        let said = said
            .as_ref()
            .unwrap_or_else(|| panic!("{what} is believed"));
        assert!(said.contains(reason), "{what}: {said}");
    }
    // Where one reason stands for several, these are of one kind.
    let reasons: BTreeSet<&str> = cases.iter().map(|(_, _, r)| *r).collect();
    assert_eq!(reasons.len(), cases.len() - 4);
    // And what is right is believed, so that none of the above is refused for something else.
    assert_eq!(living(0, 30), None);
    assert_eq!(stale(1), None, "within its grace");
    let other = Authority::new("other.example", days(0, 30)).expect("made");
    assert_eq!(listed(|a, _| a.trust_beside(&other)), None);
}
