//! What is law while a broker runs: registers that take force, and policies that change.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use ordonnans_audit::{Detail, Public, Verb};
use ordonnans_broker::Broker;
use ordonnans_client::officer::Officer;
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_tests::house::{House, STRUCTURE, register_text};
use ordonnans_tests::site::{Site, write_credentials};

struct Town {
    site: Site,
    dir: tempfile::TempDir,
}

impl Town {
    /// A broker's files, and certificates of the persons who may sign.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        for local in ["p-ncc", "p-def", "p-vr"] {
            let name = Name::new(local, Kind::Person, STRUCTURE).expect("a name");
            let issued = house.authority.issue(&name, &Clearance::new(Level::DepV));
            write_credentials(dir.path(), local, &issued.expect("a certificate"));
        }
        Self { site, dir }
    }

    fn put(&self, version: u64, suspended: Option<usize>, registrars: &str) {
        let text = register_text(version, suspended);
        let named = text.replacen('\n', &format!("\nregistrars = [{registrars}]\n"), 1);
        fs::write(self.dir.path().join("register.toml"), named).expect("written");
    }

    fn register(&self, words: &[&str]) -> ExitCode {
        let path = |w: &&str| match *w {
            w if w.ends_with(".toml") || w.ends_with(".pem") => self.dir.path().join(w).into(),
            w => OsString::from(w),
        };
        let all = ["ordonnans-broker", "register"].iter().chain(words);
        ordonnans_broker::run(all.map(path))
    }

    fn sign(&self, who: &str) -> bool {
        let (cert, key) = (format!("{who}.cert.pem"), format!("{who}.key.pem"));
        let words = ["sign", "register.toml", "--as", &cert, "--key", &key];
        self.register(&words) == ExitCode::SUCCESS
    }

    /// What the log says of registers: version and signers of each that took force.
    async fn told(&self) -> Vec<String> {
        let mut officer = Officer::connect(&self.site.officer())
            .await
            .expect("comes in");
        let page = officer.page(0, 256, None).await.expect("a page");
        let of = page.entries.into_iter().filter_map(|e| {
            let public = Public::decode(&e.public).ok()?;
            let (_, detail) = e.opened?;
            let note = Detail::decode(&detail).ok()?.note?;
            (public.verb == Verb::RegisterChanged).then_some(note)
        });
        of.collect()
    }
}

const BOTH: &str = "\"p-ncc\", \"p-def\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_register_takes_force_by_the_signatures_of_two() {
    let t = Town::new();
    t.put(1, Some(4), BOTH);
    let unsigned = Broker::start(t.site.config()).await.map(drop);
    let why = unsigned.expect_err("nobody has signed").to_string();
    assert!(why.contains("2 registrars, and has 0"), "{why}");
    assert!(t.sign("p-ncc") && t.sign("p-ncc") && t.sign("p-vr"));
    assert!(
        Broker::start(t.site.config()).await.is_err(),
        "one, twice, and who may not"
    );
    assert!(t.sign("p-def"));
    let broker = Broker::start(t.site.config()).await.expect("starts");

    // A node comes back into force: that widens.
    t.put(2, None, BOTH);
    assert!(t.sign("p-def"));
    let why = broker
        .reload()
        .await
        .expect_err("one is too few")
        .to_string();
    assert!(why.contains("widens access (node vr: active)"), "{why}");
    assert!(t.sign("p-ncc"));
    broker.reload().await.expect("both");
    // A node is taken out: one is enough, nobody is not.
    t.put(3, Some(1), BOTH);
    assert!(broker.reload().await.is_err());
    assert!(t.sign("p-def"));
    broker.reload().await.expect("one may stop a node");
    let told = t.told().await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].ends_with("took force at the start; signed by p-def, p-ncc"),
        "{told:?}"
    );
    assert!(
        told[1].contains("1 of them widening; signed by p-def, p-ncc"),
        "{told:?}"
    );
    assert!(told[2].ends_with("signed by p-def"), "{told:?}");
    broker.stop().await.expect("stops");

    // While it is down, somebody puts another in its place.
    let good = fs::read(t.dir.path().join("register.toml")).expect("read");
    t.put(4, None, "");
    let why = Broker::start(t.site.config()).await.map(drop);
    let why = why.expect_err("swapped").to_string();
    assert!(why.contains("has 0"), "{why}");
    t.put(2, None, BOTH);
    assert!(t.sign("p-def") && t.sign("p-ncc"));
    let why = Broker::start(t.site.config()).await.map(drop);
    let why = why.expect_err("an older one, rightly signed").to_string();
    assert!(
        why.contains("version 2, and version 3 is in force"),
        "{why}"
    );
    fs::write(t.dir.path().join("register.toml"), good).expect("written");
    let broker = Broker::start(t.site.config())
        .await
        .expect("the one in force needs no more");
    broker.stop().await.expect("stops");
}

#[test]
fn registers_are_checked_compared_and_signed_by_hand() {
    let t = Town::new();
    t.put(1, None, BOTH);
    fs::copy(
        t.dir.path().join("register.toml"),
        t.dir.path().join("old.toml"),
    )
    .expect("copied");
    assert_eq!(t.register(&["check", "register.toml"]), ExitCode::SUCCESS);
    t.put(2, Some(1), BOTH);
    assert_eq!(
        t.register(&["diff", "old.toml", "register.toml"]),
        ExitCode::SUCCESS
    );
    assert_eq!(
        t.register(&["diff", "register.toml", "old.toml"]),
        ExitCode::from(1)
    );
    t.put(1, Some(1), BOTH);
    let same_version = t.register(&["diff", "old.toml", "register.toml"]);
    assert_eq!(same_version, ExitCode::from(1));
    // A node is nobody who signs.
    assert!(!t.sign("bva"), "an officer is no person");
    t.put(1, None, "\"p-ncc\"");
    assert_eq!(t.register(&["check", "register.toml"]), ExitCode::from(1));
    t.put(1, None, "\"p-ncc\", \"nobody\"");
    assert_eq!(t.register(&["check", "register.toml"]), ExitCode::from(1));
    fs::write(t.dir.path().join("register.toml.sig"), "no base64!\n").expect("written");
    t.put(1, None, BOTH);
    assert!(!t.sign("p-ncc"), "what is broken is not written over");
}
