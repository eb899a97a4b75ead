//! What openssl makes of the workshop's certificates and lists: a second opinion beside our own verifier.

use std::path::{Path, PathBuf};
use std::process::Command;

use ordonnans_certs::Workshop;
use ordonnans_identity::{Trust, Usage};
use ordonnans_label::{Clearance, Kind, Level, Policies};
use ordonnans_message::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn issue(w: &mut Workshop, kind: Kind, local: &str) -> PathBuf {
    let holds = Clearance::new(Level::StgG);
    let dir = w.issue(kind, local, &holds, 90, now()).expect("issues");
    dir.join("cert.pem")
}

/// Whether openssl is here; a test that needs it says that it was skipped.
fn present() -> bool {
    let here = Command::new("openssl").arg("version").output().is_ok();
    if !here {
        eprintln!("skipped: openssl is not here");
    }
    here
}

/// `openssl verify` with every list checked; what it says where it rejects.
fn openssl(trust: &Path, leaf: &Path, purpose: &str) -> Result<(), String> {
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-crl_check_all", "-purpose"]);
    command.arg(purpose);
    command.arg("-CAfile").arg(trust.join("root.pem"));
    command.arg("-untrusted").arg(trust.join("issuing.pem"));
    for name in ["root.crl.pem", "issuing.crl.pem"] {
        let list = trust.join(name);
        if list.exists() {
            command.arg("-CRLfile").arg(list);
        }
    }
    let out = command.arg(leaf).output().expect("runs");
    if out.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

fn ours(trust: &Path, leaf: &Path, usage: Usage) -> bool {
    let der = CertificateDer::from_pem_file(leaf).expect("PEM");
    let at = Timestamp::from_millis(now().unix_timestamp().unsigned_abs() * 1000);
    Trust::load_dir(trust).is_ok_and(|t| t.verify(&der, usage, at).is_ok())
}

/// Both verifiers accept it.
fn accepted(trust: &Path, leaf: &Path) {
    assert_eq!(openssl(trust, leaf, "sslclient"), Ok(()));
    assert!(ours(trust, leaf, Usage::Client));
}

/// Both verifiers reject it, and openssl for this reason.
fn rejected(trust: &Path, leaf: &Path, why: &str) {
    let said = openssl(trust, leaf, "sslclient").expect_err(why);
    assert!(said.contains(why), "{said}");
    assert!(!ours(trust, leaf, Usage::Client), "{why}");
}

#[test]
fn openssl_and_we_accept_and_reject_the_same() {
    if !present() {
        return;
    }
    let (dir, other) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    // With a constraint, which openssl does not know and need not.
    let (most, policies) = (Clearance::new(Level::StgG), Policies::built_in());
    let w = Workshop::init_up_to(dir.path(), "crisis.example", &most, policies, now());
    let mut w = w.expect("makes");
    let trust = w.trust_dir();
    let (a, b) = (
        issue(&mut w, Kind::Node, "a"),
        issue(&mut w, Kind::Node, "b"),
    );
    accepted(&trust, &a);
    accepted(&trust, &b);
    w.revoke("b", now()).expect("revokes");
    accepted(&trust, &a);
    rejected(&trust, &b, "certificate revoked");

    let mut twin = Workshop::init(other.path(), "crisis.example", now()).expect("makes");
    let stranger = issue(&mut twin, Kind::Node, "c");
    accepted(&twin.trust_dir(), &stranger);
    let said = openssl(&trust, &stranger, "sslclient").expect_err("another workshop's");
    assert!(said.contains("verification failed"), "{said}");
    assert!(!ours(&trust, &stranger, Usage::Client));

    for missing in ["root.crl.pem", "issuing.crl.pem"] {
        let (list, aside) = (trust.join(missing), dir.path().join(missing));
        std::fs::rename(&list, &aside).expect("moves");
        rejected(&trust, &a, "unable to get certificate CRL");
        std::fs::rename(&aside, &list).expect("moves");
    }
    accepted(&trust, &a);
}

#[test]
fn so_it_does_when_the_workshop_was_opened_again() {
    if !present() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    drop(Workshop::init(dir.path(), "crisis.example", now()).expect("makes"));
    let mut w = Workshop::open(dir.path()).expect("opens");
    let trust = w.trust_dir();
    let (a, b) = (
        issue(&mut w, Kind::Person, "a"),
        issue(&mut w, Kind::Officer, "b"),
    );
    w.revoke("b", now()).expect("revokes");
    accepted(&trust, &a);
    rejected(&trust, &b, "certificate revoked");
    // With the root elsewhere its list stays as it was.
    std::fs::remove_file(dir.path().join("root/root.key.pem")).expect("removes");
    let mut w = Workshop::open(dir.path()).expect("opens");
    w.lists(now()).expect("publishes");
    accepted(&trust, &a);
    rejected(&trust, &b, "certificate revoked");
}

#[test]
fn only_a_broker_is_a_server() {
    if !present() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut w = Workshop::init(dir.path(), "crisis.example", now()).expect("makes");
    let trust = w.trust_dir();
    for (kind, server) in [
        (Kind::Node, false),
        (Kind::Person, false),
        (Kind::Officer, false),
        (Kind::Broker, true),
    ] {
        let leaf = issue(&mut w, kind, "x");
        accepted(&trust, &leaf);
        let theirs = openssl(&trust, &leaf, "sslserver").is_ok();
        assert_eq!(theirs, server, "{kind:?}");
        assert_eq!(ours(&trust, &leaf, Usage::Server), server, "{kind:?}");
    }
}
