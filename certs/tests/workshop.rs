//! The workshop on the disk, its program, and what openssl makes of its certificates.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ordonnans_certs::{Workshop, WorkshopError};
use ordonnans_identity::{FileSigner, Signer, Trust, Usage};
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_message::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

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

fn run(dir: &Path, args: &[&str]) -> std::process::ExitCode {
    let dir = dir.as_os_str().to_owned();
    let head = [OsString::from("ordonnans-ca"), "--dir".into(), dir];
    ordonnans_certs::run(head.into_iter().chain(args.iter().map(Into::into)))
}

fn code(of: std::process::ExitCode) -> String {
    format!("{of:?}")
}

#[test]
fn the_program_says_what_is_wrong_by_its_exit_code() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |args: &[&str]| code(run(dir.path(), args));
    let exit = |n: u8| code(n.into());
    assert_eq!(
        at(&["issue", "node", "a", "--clearance", "Stg.G"]),
        exit(2),
        "no workshop"
    );
    assert_eq!(at(&["init", "--structure", "Not A Name"]), exit(2));
    assert_eq!(at(&["init", "--structure", "crisis.example"]), exit(0));
    assert_eq!(at(&["init", "--structure", "crisis.example"]), exit(1));
    assert_eq!(
        at(&["issue", "node", "a"]),
        exit(2),
        "a node needs a clearance"
    );
    assert_eq!(at(&["issue", "node", "a", "--clearance", "Top"]), exit(2));
    let good = [
        "issue",
        "node",
        "a",
        "--clearance",
        "Stg.Geheim",
        "--circle",
        "ICCB",
    ];
    assert_eq!(at(&good), exit(0));
    assert_eq!(at(&good), exit(1));
    assert_eq!(at(&["issue", "broker", "b1"]), exit(0));
    assert_eq!(at(&["show", "--json"]), exit(0));
    let file = dir.path().join("issued/a.node.crisis.example/cert.pem");
    assert_eq!(at(&["show", file.to_str().expect("a path")]), exit(0));
    assert_eq!(at(&["show", "/dev/null"]), exit(2));
    assert_eq!(at(&["revoke", "a"]), exit(0));
    assert_eq!(at(&["revoke", "a"]), exit(1));
    assert_eq!(at(&["crl"]), exit(0));
    assert_eq!(at(&["nonsense"]), exit(2));
}

/// Whether `openssl verify` accepts a leaf, with every list checked.
fn openssl(trust: &Path, leaf: &Path) -> Option<bool> {
    let file = |name: &str| trust.join(name);
    let lists = leaf.with_file_name("lists.pem");
    let both =
        ["root.crl.pem", "issuing.crl.pem"].map(|n| std::fs::read(file(n)).unwrap_or_default());
    std::fs::write(&lists, both.concat()).expect("writes");
    let mut command = Command::new("openssl");
    command.args([
        "verify",
        "-x509_strict",
        "-crl_check_all",
        "-purpose",
        "sslclient",
    ]);
    command.arg("-CAfile").arg(file("root.pem"));
    command.arg("-untrusted").arg(file("issuing.pem"));
    command.arg("-CRLfile").arg(&lists).arg(leaf);
    match command.output() {
        Ok(out) => Some(out.status.success()),
        Err(_) => {
            eprintln!("skipped: openssl is not here");
            None
        }
    }
}

#[test]
fn openssl_accepts_what_it_should_and_rejects_what_it_should() {
    let (dir, other) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let mut w = workshop(dir.path());
    let (a, b) = (issue(&mut w, "a"), issue(&mut w, "b"));
    let mut strangers = workshop(other.path());
    let stranger = issue(&mut strangers, "a");
    w.revoke("b", now()).expect("revokes");
    let trust = w.trust_dir();
    let Some(good) = openssl(&trust, &a.join("cert.pem")) else {
        return;
    };
    assert!(good, "a good leaf");
    assert_eq!(openssl(&trust, &b.join("cert.pem")), Some(false), "revoked");
    assert_eq!(
        openssl(&trust, &stranger.join("cert.pem")),
        Some(false),
        "another workshop's"
    );
    std::fs::remove_file(trust.join("root.crl.pem")).expect("removes");
    assert_eq!(
        openssl(&trust, &a.join("cert.pem")),
        Some(false),
        "a list is missing"
    );
    let name: Name = "a.node.crisis.example".parse().expect("a name");
    assert_eq!(w.issued_dir(&name), a);
}
