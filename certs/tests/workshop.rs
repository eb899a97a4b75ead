//! The workshop on the disk.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ordonnans_certs::{Standing, Workshop, WorkshopError};
use ordonnans_identity::{FileSigner, Signer, Trust, Usage};
use ordonnans_label::{Clearance, Kind, Level, Policies};
use ordonnans_message::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn stamp() -> Timestamp {
    Timestamp::from_millis(now().unix_timestamp().unsigned_abs() * 1000)
}

fn workshop(dir: &Path) -> Workshop {
    Workshop::init(dir, "crisis.example", now()).expect("makes")
}

fn issue(w: &mut Workshop, local: &str) -> PathBuf {
    let holds = Clearance::new(Level::StgG)
        .with_circle("ICCB")
        .expect("a circle");
    w.issue(Kind::Node, local, &holds, 90, now())
        .expect("issues")
}

fn believed(w: &Workshop, dir: &Path) -> bool {
    let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
    let der = CertificateDer::from_pem_file(dir.join("cert.pem")).expect("PEM");
    trust.verify(&der, Usage::Client, stamp()).is_ok()
}

/// Folders of subjects.
fn issued(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("a folder").count()
}

fn standings(w: &Workshop) -> Vec<(String, Standing)> {
    let mut all: Vec<_> = w
        .issued()
        .map(|(_, e)| (e.name.as_str().to_owned(), e.standing(now())))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn what_it_makes_is_believed_until_it_is_revoked() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let (a, b) = (issue(&mut w, "a"), issue(&mut w, "b"));
    let signer = FileSigner::load(&a.join("cert.pem"), &a.join("key.pem")).expect("fits");
    assert_eq!(
        signer.certificate().name().as_str(),
        "a.node.crisis.example"
    );
    assert!(believed(&w, &a) && believed(&w, &b));
    // Opened again, it goes on where it was.
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert_eq!(w.revoke("a", now()).expect("revokes"), 1);
    assert!(!believed(&w, &a) && believed(&w, &b));
    // The root may be elsewhere meanwhile.
    std::fs::remove_file(dir.path().join("root/root.key.pem")).expect("removes");
    let mut w = Workshop::open(dir.path()).expect("opens");
    let again = issue(&mut w, "a");
    assert_eq!(again, a);
    assert_eq!(issued(&dir.path().join("issued")), 3, "the old one is kept");
    assert!(
        believed(&w, &again),
        "a new certificate after the revoked one"
    );
    assert!(matches!(
        w.revoke("nobody", now()),
        Err(WorkshopError::Unknown(_))
    ));
}

#[test]
fn keys_are_private_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let a = issue(&mut w, "a");
    for key in [
        a.join("key.pem"),
        dir.path().join("root/root.key.pem"),
        dir.path().join("issuing/issuing.key.pem"),
    ] {
        let mode = std::fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    assert!(matches!(
        Workshop::init(dir.path(), "crisis.example", now()),
        Err(WorkshopError::Exists(_))
    ));
    let holds = Clearance::new(Level::DepV);
    assert!(matches!(
        w.issue(Kind::Node, "a", &holds, 90, now()),
        Err(WorkshopError::Live(_))
    ));
    assert!(matches!(
        w.issue(Kind::Node, "b", &holds, 0, now()),
        Err(WorkshopError::Days)
    ));
    assert!(matches!(
        w.issue(Kind::Node, "B b", &holds, 9, now()),
        Err(WorkshopError::Name(_))
    ));
    let open = dir.path().join("issuing/issuing.key.pem");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("sets");
    assert!(matches!(
        Workshop::open(dir.path()),
        Err(WorkshopError::Key(_))
    ));
    assert!(matches!(
        Workshop::open(&dir.path().join("none")),
        Err(WorkshopError::Missing(_))
    ));
}

#[test]
fn a_local_name_that_two_subjects_have_revokes_neither() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let node = issue(&mut w, "ncc");
    let holds = Clearance::new(Level::DepV);
    w.issue(Kind::Person, "ncc", &holds, 90, now())
        .expect("issues");
    assert!(matches!(
        w.revoke("ncc", now()),
        Err(WorkshopError::Ambiguous(_))
    ));
    assert!(believed(&w, &node));
    // A serial number, as openssl prints it.
    let person = |(_, e): &(&str, &ordonnans_certs::Entry)| e.name.kind() == Kind::Person;
    let serial = w.issued().find(person).expect("issued").0.to_uppercase();
    assert_eq!(w.revoke(&serial, now()).expect("revokes"), 1);
    assert!(
        matches!(w.revoke("ncc", now()), Err(WorkshopError::Ambiguous(_))),
        "still two, so that a repeated command does not reach the other"
    );
    let expected = [
        ("ncc.node.crisis.example".to_owned(), Standing::Live),
        ("ncc.person.crisis.example".to_owned(), Standing::Revoked),
    ];
    assert_eq!(standings(&w), expected);
}

#[test]
fn what_many_issue_at_once_is_all_known() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(workshop(dir.path()));
    std::thread::scope(|s| {
        for i in 0..8 {
            let dir = dir.path();
            // Opened before the others have issued: what it read is old by the time it writes.
            let mut w = Workshop::open(dir).expect("opens");
            s.spawn(move || issue(&mut w, &format!("n{i}")));
        }
    });
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert_eq!(w.issued().count(), 8);
    for i in 0..8 {
        assert_eq!(w.revoke(&format!("n{i}"), now()).expect("known"), 1);
    }
}

#[test]
fn a_run_that_was_cut_short_is_mended() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    // A folder that was begun and not handed out.
    let staged = dir.path().join("issued/.a.node.crisis.example.new");
    std::fs::create_dir(&staged).expect("makes");
    std::fs::write(staged.join("key.pem"), "half").expect("writes");
    let a = issue(&mut w, "a");
    assert!(believed(&w, &a) && !staged.exists());
    // A revocation in the state whose list was not written.
    let list = w.trust_dir().join("issuing.crl.pem");
    let before = std::fs::read(&list).expect("a list");
    assert_eq!(w.revoke("a", now()).expect("revokes"), 1);
    std::fs::write(&list, &before).expect("writes");
    assert!(!w.published() && believed(&w, &a));
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert_eq!(w.revoke("a", now()).expect("again"), 1);
    assert!(w.published() && !believed(&w, &a));
    assert!(matches!(
        w.revoke("a", now()),
        Err(WorkshopError::Unknown(_))
    ));
}

#[test]
fn nothing_that_lies_there_is_overwritten_by_init() {
    for folder in ["root", "issuing", "trust", "issued"] {
        let dir = tempfile::tempdir().expect("a folder");
        let mine = dir.path().join(folder).join("root.pem");
        std::fs::create_dir(dir.path().join(folder)).expect("makes");
        std::fs::write(&mine, "mine").expect("writes");
        assert!(matches!(
            Workshop::init(dir.path(), "crisis.example", now()),
            Err(WorkshopError::InTheWay(_))
        ));
        assert_eq!(std::fs::read_to_string(&mine).expect("there"), "mine");
        assert_eq!(issued(dir.path()), 1, "nothing was made beside it");
    }
}

#[test]
fn a_state_that_would_lose_a_revocation_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    issue(&mut w, "a");
    w.revoke("a", now()).expect("revokes");
    let file = dir.path().join("issuing/state.toml");
    let good = std::fs::read_to_string(&file).expect("a state");
    let serial = w.issued().next().expect("issued").0.to_owned();
    for (from, to) in [
        (serial.as_str(), "zz"),
        (serial.as_str(), "00ff"),
        ("revoked =", "withdrawn ="),
        ("crisis.example\"", "other.example\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        std::fs::write(&file, &bad).expect("writes");
        let opened = Workshop::open(dir.path());
        assert!(matches!(opened, Err(WorkshopError::State(_))), "{from}");
        assert!(matches!(w.lists(now()), Err(WorkshopError::State(_))));
    }
}

#[test]
fn an_authority_with_the_key_of_another_is_refused() {
    let (dir, other) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    drop((workshop(dir.path()), workshop(other.path())));
    let key = "issuing/issuing.key.pem";
    std::fs::copy(other.path().join(key), dir.path().join(key)).expect("copies");
    assert!(matches!(
        Workshop::open(dir.path()),
        Err(WorkshopError::Authority(_))
    ));
}

#[test]
fn nothing_outlives_its_issuer_and_a_subject_gets_anew_what_is_over() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(workshop(dir.path()));
    let mut w = Workshop::open(dir.path()).expect("opens");
    let holds = Clearance::new(Level::DepV);
    let late = now() + Duration::days(1800);
    assert!(matches!(
        w.issue(Kind::Node, "a", &holds, 90, late),
        Err(WorkshopError::Outlives(_))
    ));
    let a = w.issue(Kind::Node, "a", &holds, 20, late).expect("issues");
    assert_eq!(
        w.issue(Kind::Node, "a", &holds, 2, late + Duration::days(21))
            .expect("the first is over"),
        a
    );
    assert_eq!(w.issued().count(), 2);
}

#[test]
fn a_revoked_certificate_stays_on_the_list_beyond_its_end() {
    use rustls_pki_types::CertificateRevocationListDer as List;
    use x509_parser::prelude::{CertificateRevocationList, FromDer};
    let dir = tempfile::tempdir().expect("a folder");
    let (mut w, start) = (workshop(dir.path()), now());
    let revoked_at = start + Duration::days(1);
    issue(&mut w, "a");
    w.revoke("a", revoked_at).expect("revokes");
    // Its end is at day 90; RFC 5280 section 3.3 asks for one more list after that.
    for (day, listed) in [(2, true), (89, true), (110, true), (121, false)] {
        w.lists(start + Duration::days(day)).expect("publishes");
        let der = List::from_pem_file(w.trust_dir().join("issuing.crl.pem")).expect("PEM");
        let (_, list) = CertificateRevocationList::from_der(&der).expect("a list");
        let entry = list.iter_revoked_certificates().next();
        assert_eq!(entry.is_some(), listed, "day {day}");
        if let Some(e) = entry {
            let at = e.revocation_date.timestamp();
            assert_eq!(at, revoked_at.unix_timestamp(), "when it was revoked");
            assert!(e.reason_code().is_none(), "nobody gave a reason");
        }
    }
}

#[test]
fn what_an_authority_may_give_is_in_its_certificate() {
    let dir = tempfile::tempdir().expect("a folder");
    let most = Clearance::new(Level::StgC)
        .with_circle("ICCB")
        .expect("a circle");
    let policies = Policies::built_in();
    let unknown = Clearance::new(Level::StgC)
        .with_value(&"Ring".parse().expect("a set"), "A")
        .expect("valid");
    let made = Workshop::init_up_to(dir.path(), "crisis.example", &unknown, policies, now());
    assert!(matches!(made, Err(WorkshopError::Clearance(_))));
    assert_eq!(issued(dir.path()), 0, "nothing was made");
    let w = Workshop::init_up_to(dir.path(), "crisis.example", &most, policies, now());
    let opened = Workshop::open(dir.path()).expect("opens");
    for mut w in [w.expect("makes"), opened] {
        let high = Clearance::new(Level::StgG);
        let beyond = w.issue(Kind::Node, "b", &high, 90, now());
        assert!(matches!(beyond, Err(WorkshopError::Beyond { .. })));
        assert_eq!(w.issued().filter(|(_, e)| e.name.local() == "b").count(), 0);
    }
    let mut w = Workshop::open(dir.path()).expect("opens");
    let a = w.issue(Kind::Node, "a", &most, 90, now()).expect("issues");
    assert!(believed(&w, &a));
}
