//! New authorities beside old ones, and the end of the old ones.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ordonnans_certs::{Workshop, WorkshopError};
use ordonnans_identity::clearance::constraint_of;
use ordonnans_identity::{Trust, Usage};
use ordonnans_label::{Clearance, Clearances, Kind, Level, Policies};
use ordonnans_message::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn workshop(dir: &Path) -> Workshop {
    Workshop::init(dir, "crisis.example", now()).expect("makes")
}

fn issue(w: &mut Workshop, local: &str) -> Result<CertificateDer<'static>, WorkshopError> {
    let holds = Clearance::new(Level::StgC);
    let dir = w.issue(Kind::Node, local, &holds, 90, now())?;
    Ok(CertificateDer::from_pem_file(dir.join("cert.pem")).expect("PEM"))
}

fn believed(w: &Workshop, der: &CertificateDer<'_>) -> bool {
    let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
    let at = Timestamp::from_millis(now().unix_timestamp().unsigned_abs() * 1000);
    trust.verify(der, Usage::Client, at).is_ok()
}

fn issuing(w: &mut Workshop) -> Result<String, WorkshopError> {
    w.rollover_issuing(&Clearances::default(), Policies::built_in(), now())
}

fn root(w: &mut Workshop) -> [String; 2] {
    let made = w.rollover_root(&Clearances::default(), Policies::built_in(), now());
    made.expect("another root")
}

fn by(w: &Workshop, local: &str) -> Vec<String> {
    let mut all: Vec<String> = w
        .issued()
        .filter(|(_, e)| e.name.local() == local)
        .map(|(_, e)| e.by.clone())
        .collect();
    all.sort();
    all
}

#[test]
fn another_issuing_authority_takes_over_and_the_old_one_goes_when_nobody_shows_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let (a, b) = (
        issue(&mut w, "a").expect("a"),
        issue(&mut w, "b").expect("b"),
    );
    assert_eq!(issuing(&mut w).expect("another"), "issuing-2");
    assert!(w.published() && believed(&w, &a) && believed(&w, &b));
    // A subject with a live certificate of the old one gets one of the new one, and no second.
    let again = issue(&mut w, "a").expect("of the new one");
    assert!(believed(&w, &a) && believed(&w, &again));
    assert_eq!(by(&w, "a"), ["issuing", "issuing-2"]);
    assert!(matches!(issue(&mut w, "a"), Err(WorkshopError::Live(_))));
    // Opened again, revocation reaches the certificates of both.
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert_eq!(w.revoke("a", now()).expect("revokes"), 2);
    assert!(!believed(&w, &a) && !believed(&w, &again) && believed(&w, &b));
    let again = issue(&mut w, "a").expect("anew");
    w.lists(now()).expect("publishes");
    // The old one is kept while somebody shows it.
    let refused = w.retire("issuing", false, now()).expect_err("in use");
    let refused = refused.to_string();
    assert!(
        refused.contains("1 subjects have no live certificate but one below 'issuing', such as b."),
        "{refused}"
    );
    assert!(believed(&w, &b));
    let moved = issue(&mut w, "b").expect("of the new one");
    w.retire("issuing", false, now()).expect("retires");
    assert!(!believed(&w, &b) && believed(&w, &moved) && believed(&w, &again));
    assert!(matches!(
        w.retire("issuing", true, now()),
        Err(WorkshopError::NoAuthority(_))
    ));
    for last in ["issuing-2", "root"] {
        assert!(matches!(
            w.retire(last, true, now()),
            Err(WorkshopError::Last(_))
        ));
    }
    // The root says so too.
    let list = CertificateRevocationListDer::from_pem_file(w.trust_dir().join("root.crl.pem"));
    let list = list.expect("PEM");
    let (_, list) = CertificateRevocationList::from_der(&list).expect("a list");
    assert_eq!(list.iter_revoked_certificates().count(), 1);
}

#[test]
fn another_root_stands_beside_the_first_whose_key_is_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let a = issue(&mut w, "a").expect("a");
    let key = dir.path().join("root/root.key.pem");
    let away = fs::read(&key).expect("reads");
    fs::remove_file(&key).expect("removes");
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert!(matches!(issuing(&mut w), Err(WorkshopError::KeyAway(n)) if n == "root"));
    assert_eq!(root(&mut w), ["root-2", "issuing-2"]);
    let b = issue(&mut w, "b").expect("of the new one");
    let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
    assert_eq!((trust.roots().len(), trust.lists().len()), (2, 4));
    assert!(believed(&w, &a) && believed(&w, &b));
    // The list of the root that is away stays; the others are made anew.
    let numbers = |w: &Workshop| -> Vec<String> {
        let t = Trust::load_dir(&w.trust_dir()).expect("trust");
        let mut all: Vec<_> = t.list_details().iter().collect();
        all.sort_by(|a, b| a.authority.cmp(&b.authority));
        all.iter().map(|l| l.number.to_string()).collect()
    };
    let before = numbers(&w);
    w.lists(now()).expect("publishes");
    // issuing, issuing 2, root, root 2
    assert_eq!(
        (before, numbers(&w)),
        (
            ["2", "2", "1", "2"].map(Into::into).into(),
            ["3", "3", "1", "3"].map(Into::into).into()
        )
    );
    w.retire("root", true, now()).expect("retires");
    assert!(!believed(&w, &a) && believed(&w, &b));
    let retired: Vec<_> = w
        .authorities()
        .iter()
        .map(|a| a.retired.is_some())
        .collect();
    assert_eq!(
        retired,
        [true, true, false, false],
        "with what stands below it"
    );
    // It comes home and changes nothing.
    fs::write(&key, away).expect("writes");
    let mut w = Workshop::open(dir.path()).expect("opens");
    w.lists(now()).expect("publishes");
    assert!(!believed(&w, &a) && believed(&w, &b));
}

#[test]
fn a_rollover_that_was_cut_short_is_mended() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let a = issue(&mut w, "a").expect("a");
    // Killed while the key was written, and after that but before the state knew it.
    for left in [".issuing-2.new", "issuing-2"] {
        fs::create_dir(dir.path().join(left)).expect("makes");
        fs::write(dir.path().join(left).join("issuing-2.key.pem"), "half").expect("writes");
    }
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert!(believed(&w, &a) && w.published());
    let before: Vec<(_, _)> = ["root.pem", "issuing.pem", "root.crl.pem", "issuing.crl.pem"]
        .map(|n| {
            (
                w.trust_dir().join(n),
                fs::read(w.trust_dir().join(n)).expect("reads"),
            )
        })
        .into();
    assert_eq!(issuing(&mut w).expect("another"), "issuing-2");
    let aside = fs::read_dir(dir.path()).expect("a folder").flatten();
    let aside = aside.filter(|e| {
        e.file_name()
            .to_string_lossy()
            .starts_with("issuing-2.unknown-")
    });
    assert_eq!(aside.count(), 1, "a key is never removed");
    let b = issue(&mut w, "b").expect("of the new one");
    // Killed after the state, at each of the files.
    let after: Vec<_> = before
        .iter()
        .map(|(p, _)| (p.clone(), fs::read(p).expect("reads")))
        .collect();
    for cut in 0..before.len() {
        for (i, (path, _)) in before.iter().enumerate() {
            let text = if i < cut { &after[i].1 } else { &before[i].1 };
            fs::write(path, text).expect("writes");
        }
        let mut w = Workshop::open(dir.path()).expect("opens");
        assert!(!w.published());
        // What lies there is whole and of before, or refused: it never believes more.
        let half = Trust::load_dir(&w.trust_dir());
        assert!(half.is_err() || !believed(&w, &b), "{cut}");
        w.lists(now()).expect("publishes");
        assert!(w.published() && believed(&w, &a) && believed(&w, &b));
    }
}

#[test]
fn a_lost_issuing_key_is_replaced_by_the_root_and_what_it_may_give_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let most = Clearance::new(Level::StgC);
    let policies = Policies::built_in();
    let mut w =
        Workshop::init_up_to(dir.path(), "crisis.example", &most, policies, now()).expect("makes");
    let a = issue(&mut w, "a").expect("a");
    fs::remove_file(dir.path().join("issuing/issuing.key.pem")).expect("lost");
    let mut w = Workshop::open(dir.path()).expect("opens");
    assert!(matches!(issue(&mut w, "b"), Err(WorkshopError::KeyAway(n)) if n == "issuing"));
    assert_eq!(issuing(&mut w).expect("another"), "issuing-2");
    let b = issue(&mut w, "b").expect("of the new one");
    assert!(believed(&w, &a) && believed(&w, &b));
    let of = |w: &Workshop| {
        let all = w.authorities().iter().filter(|a| !a.is_root());
        let all = all.map(|a| constraint_of(&a.certificate()).expect("read"));
        all.collect::<Vec<_>>()
    };
    assert!(of(&w)[0].is_some() && of(&w)[0] == of(&w)[1]);
    // Another on request.
    let less = Clearance::new(Level::DepV);
    w.rollover_issuing(&less, policies, now()).expect("another");
    assert_ne!(of(&w)[1], of(&w)[2]);
    assert!(matches!(
        issue(&mut w, "c"),
        Err(WorkshopError::Beyond { .. })
    ));
    w.retire("issuing", true, now()).expect("retires");
    assert!(!believed(&w, &a) && believed(&w, &b));
}

#[test]
fn a_renewed_certificate_stands_beside_the_one_that_is_about_to_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = workshop(dir.path());
    let old = issue(&mut w, "a").expect("a");
    assert!(matches!(issue(&mut w, "a"), Err(WorkshopError::Live(_))));
    let holds = Clearance::new(Level::StgC);
    let to = w
        .issue_beside(Kind::Node, "a", &holds, 90, now())
        .expect("renews");
    let new = CertificateDer::from_pem_file(to.join("cert.pem")).expect("PEM");
    assert!(old != new && believed(&w, &old) && believed(&w, &new));
    // The old files are kept; and who is revoked by name is revoked whole.
    assert_eq!(
        fs::read_dir(dir.path().join("issued"))
            .expect("there")
            .count(),
        2
    );
    assert_eq!(w.revoke("a", now()).expect("revokes"), 2);
    assert!(!believed(&w, &old) && !believed(&w, &new));
}

fn ca(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordonnans-ca"));
    command
        .arg("--dir")
        .arg(dir)
        .args(args)
        .output()
        .expect("runs")
}

#[test]
fn the_program_rolls_over_and_retires() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().join("w");
    let says = |args: &[&str]| {
        let out = ca(&at, args);
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let good = |args: &[&str]| {
        let (code, out, err) = says(args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out
    };
    good(&["init", "--structure", "crisis.example"]);
    good(&["issue", "node", "ncc", "--clearance", "Stg.C"]);
    assert_eq!(good(&["rollover", "issuing"]), "issuing-2\n");
    assert_eq!(good(&["rollover", "root"]), "root-2\nissuing-3\n");
    let (code, _, err) = says(&["retire", "root"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("1 subjects have no live certificate") && err.contains("Hint: issue them"),
        "{err}"
    );
    good(&["issue", "node", "ncc", "--clearance", "Stg.C"]);
    let rows = good(&["show", "--json"]);
    assert!(rows.contains("\"by\":\"issuing\"") && rows.contains("\"by\":\"issuing-3\""));
    good(&["retire", "root", "--with-live"]);
    let all = good(&["show", "--authorities", "--json"]);
    let all: Vec<serde_json::Value> = all
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let of = |field: &str| -> Vec<_> { all.iter().map(|r| r[field].clone()).collect() };
    assert_eq!(
        of("authority"),
        ["root", "issuing", "issuing-2", "root-2", "issuing-3"]
    );
    assert_eq!(
        of("standing"),
        ["retired", "retired", "retired", "in trust", "in trust"]
    );
    assert_eq!(of("list")[4], "4");
    assert!(good(&["show", "--authorities"]).contains("key here"));
    let (code, _, err) = says(&["retire", "root-3"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("no authority in trust is called 'root-3'"),
        "{err}"
    );
    let (code, ..) = says(&["show", "--authorities", "x.pem"]);
    assert_eq!(code, Some(2));
}
