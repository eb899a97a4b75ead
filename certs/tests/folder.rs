//! The folder in which a broker keeps what nodes ask for: each request is renewed by the rule, and one that is wrong holds up no other.

use std::fs;
use std::path::{Path, PathBuf};

use ordonnans_certs::{Renewed, Workshop};
use ordonnans_identity::{
    Certificate, FileSigner, Renewal, SecretKey, Signer, certificate_request,
};
use ordonnans_label::{Clearance, Kind, Level, Name};
use time::{Duration, OffsetDateTime};

const STRUCTURE: &str = "crisis.example";

fn name(local: &str, kind: Kind) -> Name {
    Name::new(local, kind, STRUCTURE).expect("a name")
}

/// What a subject asks that was issued something: its key stays here.
fn asks(w: &Workshop, name: &Name) -> String {
    let own = w.issued_dir(name);
    let old = FileSigner::load(&own.join("cert.pem"), &own.join("key.pem")).expect("fits");
    asks_for(name, &SecretKey::in_memory().expect("a key"), &old)
}

/// What is asked for a key by whoever has the old one.
fn asks_for(name: &Name, key: &SecretKey, old: &FileSigner) -> String {
    let request = certificate_request(name, key).expect("a request");
    Renewal::sign(request, old).expect("signs").to_pem()
}

fn run(
    w: &mut Workshop,
    folder: &Path,
    at: OffsetDateTime,
) -> Vec<(String, Result<PathBuf, String>)> {
    let all = w.renew_folder(folder, 90, at).expect("reads");
    let said = |one: Renewed| {
        let file = one
            .request
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into();
        (file, one.certificate.map_err(|e| e.to_string()))
    };
    all.into_iter().map(said).collect()
}

#[test]
fn the_nodes_of_a_folder_are_renewed_by_the_rule_each_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let begin = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a time");
    let mut w = Workshop::init(&dir.path().join("ca"), STRUCTURE, begin).expect("makes");
    let holds = Clearance::new(Level::StgC);
    for (kind, local) in [
        (Kind::Node, "ncc"),
        (Kind::Node, "def"),
        (Kind::Node, "locc"),
        (Kind::Person, "bos"),
    ] {
        w.issue(kind, local, &holds, 90, begin).expect("issues");
    }
    let folder = dir.path().join("renewals");
    fs::create_dir(&folder).expect("makes");
    let put = |file: &str, text: &str| fs::write(folder.join(file), text).expect("writes");
    let (ncc, bos) = (name("ncc", Kind::Node), name("bos", Kind::Person));
    put("ncc.node.crisis.example.request.pem", &asks(&w, &ncc));
    let early = run(&mut w, &folder, begin + Duration::days(44));
    let why = early[0].1.as_ref().expect_err("too early");
    assert!(why.contains("more than half"), "{why}");

    let later = begin + Duration::days(60);
    put("bos.person.crisis.example.request.pem", &asks(&w, &bos));
    put("def.node.crisis.example.request.pem", &asks(&w, &ncc));
    put("locc.node.crisis.example.request.pem", "nothing");
    put("ncc.node.crisis.example.request.new", "half");
    put("letter.txt", "no request");
    let outside = dir.path().join("outside.pem");
    fs::write(&outside, asks(&w, &ncc)).expect("writes");
    std::os::unix::fs::symlink(&outside, folder.join("toc.node.crisis.example.request.pem"))
        .expect("links");
    let link = folder.join("ncc.node.crisis.example.cert.new");
    std::os::unix::fs::symlink(dir.path().join("planted"), link).expect("links");
    let all = run(&mut w, &folder, later);
    let says = |file: &str| {
        let (_, said) = all.iter().find(|(f, _)| f.starts_with(file)).expect(file);
        said.clone()
    };
    assert_eq!(all.len(), 4, "{all:?}");
    for (file, why) in [
        ("bos.", "is no node"),
        ("def.", "its file is not called so"),
        ("locc.", "no certificate request"),
    ] {
        let said = says(file).expect_err(file);
        assert!(said.contains(why), "{file}: {said}");
    }
    let signed = says("ncc.").expect("by the rule");
    assert!(
        !dir.path().join("planted").exists(),
        "a link is not followed"
    );
    let first = fs::read(&signed).expect("is there");
    let certificate = Certificate::from_pem(&first).expect("a certificate");
    let request = fs::read(folder.join("ncc.node.crisis.example.request.pem")).expect("reads");
    let request = Renewal::from_pem(&request).expect("a renewal");
    assert_eq!(certificate.public_key(), request.public_key());
    assert!(certificate.not_after() > request.old().not_after());

    // The same request again, as after a run that was cut short: the same certificate, and no second one.
    let issued = w.issued().count();
    fs::remove_file(&signed).expect("removes");
    let again = run(&mut w, &folder, later + Duration::days(1));
    let (_, said) = again
        .iter()
        .find(|(f, _)| f.starts_with("ncc."))
        .expect("is there");
    assert_eq!(said.as_ref(), Ok(&signed));
    assert_eq!(fs::read(&signed).expect("is there"), first);
    assert_eq!(w.issued().count(), issued);
    // What was revoked meanwhile is not handed out again.
    w.revoke("ncc", later).expect("revokes");
    let after = run(&mut w, &folder, later + Duration::days(1));
    let (_, said) = after
        .iter()
        .find(|(f, _)| f.starts_with("ncc."))
        .expect("is there");
    let why = said.as_ref().expect_err("revoked");
    assert!(why.contains("was revoked"), "{why}");
}

#[test]
fn a_key_that_stays_is_renewed_until_a_certificate_on_it_is_revoked() {
    let dir = tempfile::tempdir().expect("a folder");
    let begin = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a time");
    let mut w = Workshop::init(&dir.path().join("ca"), STRUCTURE, begin).expect("makes");
    let (ncc, holds) = (name("ncc", Kind::Node), Clearance::new(Level::StgC));
    let own = w.issue(Kind::Node, "ncc", &holds, 90, begin);
    let own = own.expect("issues");
    // As a token would keep it: the workshop puts what it issued before aside.
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::rename(own.join("key.pem"), &key).expect("moves");
    fs::copy(own.join("cert.pem"), &certificate).expect("copies");
    let secret = SecretKey::open(&(&key).into()).expect("opens");
    let folder = dir.path().join("renewals");
    fs::create_dir(&folder).expect("makes");
    let asked = |w: &mut Workshop, days: i64| {
        let old = FileSigner::load(&certificate, &key).expect("fits");
        let text = asks_for(&ncc, &secret, &old);
        fs::write(folder.join("ncc.node.crisis.example.request.pem"), text).expect("writes");
        let said = run(w, &folder, begin + Duration::days(days)).remove(0).1?;
        fs::copy(&said, &certificate).expect("copies");
        let new = Certificate::from_pem(&fs::read(said).expect("reads")).expect("a certificate");
        assert_eq!(new.public_key(), old.certificate().public_key());
        assert!(new.not_after() > old.certificate().not_after());
        Ok::<_, String>(new)
    };
    let second = asked(&mut w, 60).expect("by the rule");
    asked(&mut w, 120).expect("once more, and the first is over");
    let serial: String = second.serial().iter().map(|b| format!("{b:02x}")).collect();
    let revoked = w.revoke(&serial, begin + Duration::days(130));
    assert_eq!(revoked.expect("revokes"), 1);
    let why = asked(&mut w, 175).expect_err("somebody else may have the key");
    assert!(why.contains("live or revoked"), "{why}");
}
