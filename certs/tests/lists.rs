//! Lists that are late, and lists that are put back.

use std::time::Duration;

use ordonnans_certs::Validity;
use ordonnans_certs::memory::Authority;
use ordonnans_identity::{ListNumbers, NumbersError, Trust, Usage};
use ordonnans_label::{Clearance, Level};
use ordonnans_message::Timestamp;
use time::OffsetDateTime;

const BEGAN: i64 = 1_790_000_000;
const HOUR: u64 = 3_600;

fn hours(from: i64, until: i64) -> Validity {
    let at = |h: i64| OffsetDateTime::from_unix_timestamp(BEGAN + h * 3_600).expect("a time");
    Validity {
        from: at(from),
        until: at(until),
    }
}

fn at(hour: u64, seconds: u64) -> Timestamp {
    Timestamp::from_millis((BEGAN.unsigned_abs() + hour * HOUR + seconds) * 1_000)
}

fn authority() -> Authority {
    Authority::new("crisis.example", hours(-1, 1_000)).expect("made")
}

fn trust(a: &Authority) -> Trust {
    a.trust().expect("trust")
}

#[test]
fn a_late_list_is_an_alarm_first_and_refuses_later() {
    let mut a = authority();
    let name = "ncc.node.crisis.example".parse().expect("a name");
    let i = a.issue(&name, &Clearance::new(Level::StgC)).expect("made");
    let lists = a.lists_of(hours(-1, 10)).expect("lists");
    let with = |grace| {
        let trust = a.trust_with(lists.clone().into()).expect("trust");
        trust.with_grace(Duration::from_secs(grace * HOUR))
    };
    let believed = |t: &Trust, now| t.verify(&i.certificate, Usage::Client, now).is_ok();
    let t = with(5);
    assert_eq!(t.grace(), Duration::from_secs(5 * HOUR));
    for (now, late, refused) in [
        (at(9, HOUR - 1), false, false),
        (at(10, 0), true, false),
        (at(14, HOUR - 1), true, false),
        (at(15, 0), true, true),
    ] {
        let said: Vec<_> = t.late(now).collect();
        assert_eq!(said.len(), if late { 2 } else { 0 }, "both lists, at {now}");
        assert!(said.iter().all(|l| l.refused == refused), "at {now}");
        assert_eq!(believed(&t, now), !refused, "at {now}");
    }
    let said: Vec<String> = t.late(at(10, 0)).map(|l| l.to_string()).collect();
    let issuing = said.iter().find(|s| s.contains("issuing")).expect("named");
    assert!(issuing.contains("number 1, ended ") && issuing.contains("believed from"));
    // No grace: it ends where the next one was due.
    let none = with(0);
    assert!(believed(&none, at(9, HOUR - 1)) && !believed(&none, at(10, 0)));
}

#[test]
fn a_list_that_is_put_back_is_refused_by_its_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("crl.numbers");
    let mut a = authority();
    let i = a.issue(
        &"ncc.node.crisis.example".parse().expect("a name"),
        &Clearance::new(Level::StgC),
    );
    let before = trust(&a);
    a.revoke(&i.expect("made"));
    let after = trust(&a);
    let mut numbers = ListNumbers::open(&path).expect("begins");
    assert!(!numbers.was_found());
    numbers.accept(&before).expect("the first");
    numbers.accept(&after).expect("a newer one");
    numbers.accept(&after).expect("the same again");
    let refused = |n: &mut ListNumbers| n.accept(&before).expect_err("older").to_string();
    let said = refused(&mut numbers);
    assert!(
        said.contains("issuing' has number 1, and number 2"),
        "{said}"
    );
    // After a start likewise.
    let mut numbers = ListNumbers::open(&path).expect("opens");
    assert!(numbers.was_found());
    assert_eq!(refused(&mut numbers), said);
    assert!(numbers.check(&after).is_ok() && numbers.check(&before).is_err());
    // An authority that was made anew under the same name begins anew.
    numbers.accept(&trust(&authority())).expect("another key");
    assert_eq!(refused(&mut numbers), said);
    assert!(!dir.path().join("crl.new").exists());
}

#[test]
fn a_record_that_is_missing_begins_anew_and_a_damaged_one_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("crl.numbers");
    let a = authority();
    ListNumbers::open(&path)
        .and_then(|mut n| n.accept(&trust(&a)))
        .expect("kept");
    let good = std::fs::read_to_string(&path).expect("reads");
    for at in 0..good.len() {
        let mut bad = good.clone().into_bytes();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).expect("writes");
        let e = ListNumbers::open(&path).expect_err("damaged");
        assert!(matches!(e, NumbersError::Damaged(_)), "byte {at}: {e}");
        std::fs::write(&path, &good[..at]).expect("writes");
        let e = ListNumbers::open(&path).expect_err("cut off");
        assert!(e.to_string().contains("crl.numbers"), "{e}");
    }
    std::fs::remove_file(&path).expect("removes");
    let mut numbers = ListNumbers::open(&path).expect("begins anew");
    assert!(!numbers.was_found() && numbers.accept(&trust(&a)).is_ok());
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), good);
    // A disk that takes nothing leaves what was.
    std::fs::create_dir(dir.path().join("crl.new")).expect("makes");
    let mut newer = authority();
    let i = newer.issue(
        &"a.node.crisis.example".parse().expect("a name"),
        &Clearance::new(Level::DepV),
    );
    newer.revoke(&i.expect("made"));
    let e = numbers.accept(&trust(&newer)).expect_err("not written");
    assert!(matches!(e, NumbersError::Io { .. }), "{e}");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), good);
}
