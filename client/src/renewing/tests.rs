//! A renewal from the first request to the use, without a line.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ordonnans_certs::{Request, Workshop, request};
use ordonnans_identity::Trust;
use ordonnans_label::{Clearance, Kind, Level};
use ordonnans_message::Timestamp;
use ordonnans_transport::Lane;
use tempfile::TempDir;
use time::OffsetDateTime;

#[path = "../../../crates/identity/tests/softhsm/mod.rs"]
mod softhsm;

use super::*;
use crate::house::{House, begun, heard, name};
use crate::machine::Machine;
use softhsm::with_token;

const DAY: u64 = 24 * 60 * 60 * 1000;

/// A workshop on the disk, and a node whose certificate and key are files.
struct Shop {
    house: House,
    dir: TempDir,
    workshop: Workshop,
    config: Config,
}

impl Shop {
    fn new() -> Self {
        let (house, dir) = (House::new(), tempfile::tempdir().expect("a folder"));
        let at = time_of(&house);
        let mut workshop =
            Workshop::init(&dir.path().join("ca"), "crisis.example", at).expect("makes");
        let holds = Clearance::new(Level::StgG);
        for local in ["ncc", "def"] {
            let issued = workshop.issue(Kind::Node, local, &holds, 90, at);
            issued.expect("issues");
        }
        // The node's own folder, which the workshop does not write to.
        let own = dir.path().join("ncc");
        let issued = workshop.issued_dir(&name("ncc", Kind::Node));
        fs::create_dir(&own).expect("makes");
        for file in ["cert.pem", "key.pem"] {
            fs::rename(issued.join(file), own.join(file)).expect("moves");
        }
        let config = Config {
            certificate: own.join("cert.pem"),
            key: (&own.join("key.pem")).into(),
            trust: workshop.trust_dir(),
            ..house.config("data")
        };
        Self {
            house,
            dir,
            workshop,
            config,
        }
    }

    fn signer(&self) -> FileSigner {
        FileSigner::load(&self.config.certificate, &self.config.key).expect("they fit")
    }

    fn desk(&self) -> Arc<Desk> {
        let clock = Arc::clone(&self.house.clock);
        let desk = Desk::assemble(
            self.config.clone(),
            self.signer(),
            Trust::load_dir(&self.config.trust).expect("a trust"),
            Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed))),
        );
        Arc::new(desk.expect("a desk"))
    }

    /// Later, and with the lists of then.
    fn later(&mut self, days: u64) {
        self.house.later(days * DAY);
        self.workshop.lists(time_of(&self.house)).expect("lists");
    }

    /// Has the workshop sign what was said, by its rule; gives the certificate.
    fn signs(&mut self, asked: &Renewal) -> Certificate {
        let folder = self.dir.path().join("renewals");
        fs::create_dir_all(&folder).expect("makes");
        let file = folder.join("ncc.node.crisis.example.request.pem");
        fs::write(file, asked.to_pem()).expect("writes");
        let at = time_of(&self.house);
        let mut all = self.workshop.renew_folder(&folder, 90, at).expect("reads");
        let signed = all.remove(0).certificate.expect("by the rule");
        Certificate::from_pem(&fs::read(signed).expect("reads")).expect("a certificate")
    }
}

fn time_of(house: &House) -> OffsetDateTime {
    let seconds = house.clock.load(Ordering::Relaxed) / 1000;
    OffsetDateTime::from_unix_timestamp(seconds as i64).expect("a time")
}

/// What the machine asks now, if it asks.
fn asks(machine: &mut Machine) -> Option<Frame> {
    let all = heard(machine).into_iter();
    let mut asked = all.filter(|(_, f)| matches!(f, Frame::RenewalAsk { .. }));
    let first = asked.next();
    assert!(asked.next().is_none(), "once");
    first.map(|(lane, frame)| {
        assert_eq!(lane, Lane::Control);
        frame
    })
}

fn read(frame: &Frame, old: &Certificate) -> Renewal {
    let Frame::RenewalAsk { request, signature } = frame else {
        panic!("no request");
    };
    let asked = Renewal::check(request.to_vec(), old.clone(), signature.to_vec());
    asked.expect("the old key has signed it")
}

#[test]
fn the_daemon_asks_in_time_and_takes_what_is_its_own_alone() {
    let mut shop = Shop::new();
    let desk = shop.desk();
    let now = Instant::now();
    let mut machine = begun(&desk, now);
    assert!(asks(&mut machine).is_none(), "it has just been issued");
    shop.later(61);
    drop(desk.reload());
    machine.pump(now).expect("pumps");
    let frame = asks(&mut machine).expect("a third is left");
    let old = shop.signer().certificate().clone();
    let asked = read(&frame, &old);
    assert_ne!(asked.public_key()[..], *old.public_key(), "another key");
    // Again after a while, and the same bytes; then more and more rarely.
    let mut at = now;
    for wait in [61, 122, 244] {
        machine
            .pump(at + Duration::from_secs(wait - 1))
            .expect("pumps");
        assert!(asks(&mut machine).is_none(), "{wait}");
        at += Duration::from_secs(wait);
        machine.pump(at).expect("pumps");
        assert_eq!(asks(&mut machine).as_ref(), Some(&frame), "{wait}");
    }
    // What the broker says of it is in the warning.
    let of = frame.digest();
    let not = |code| Frame::NotKept {
        of,
        code,
        rule: None,
    };
    machine
        .take(not(ReplyCode::Unsupported), at)
        .expect("taken");
    assert!(
        desk.warnings()[0].contains("keeps no requests"),
        "{:?}",
        desk.warnings()
    );
    machine.take(not(ReplyCode::Busy), at).expect("taken");
    machine.take(Frame::Kept { of }, at).expect("taken");
    assert!(desk.warnings()[0].ends_with("the broker keeps its request for the next one"));
    // After a start it is the same request.
    drop((machine, desk));
    let desk = shop.desk();
    let mut machine = begun(&desk, now);
    assert_eq!(asks(&mut machine).as_ref(), Some(&frame));

    // What is not its own is refused by name, and nothing is changed.
    let at = time_of(&shop.house);
    let mut elsewhere =
        Workshop::init(&shop.dir.path().join("elsewhere"), "crisis.example", at).expect("makes");
    let holds = Clearance::new(Level::StgZg);
    let issued = |folder: &Path| {
        let text = fs::read(folder.join("cert.pem")).expect("reads");
        Certificate::from_pem(&text)
            .expect("a certificate")
            .der()
            .to_vec()
    };
    let others = issued(&shop.workshop.issued_dir(&name("def", Kind::Node)));
    let twin = issued(
        &elsewhere
            .issue(Kind::Node, "ncc", &holds, 90, at)
            .expect("issues"),
    );
    elsewhere.revoke("ncc", at).expect("revokes");
    let request = Request::from_pem(asked.to_pem().as_bytes()).expect("a request");
    let forged = issued(&elsewhere.sign(&request, &holds, 90, at).expect("signs"));
    for (der, why) in [
        (&b"none"[..], "cannot be read"),
        (&others, "names another subject"),
        (&twin, "not on the key"),
        (&forged, "is not believed: its chain does not hold"),
    ] {
        let certificate = Bytes::copy_from_slice(der);
        machine
            .take(Frame::Renewed { certificate }, now)
            .expect("taken");
        assert!(
            desk.warnings()[0].contains(why),
            "{why}: {:?}",
            desk.warnings()
        );
        assert_eq!(shop.signer().certificate(), &old);
        assert_eq!(desk.signer().certificate(), &old);
    }

    // Its own is taken, once; the line is told.
    let new = shop.signs(&asked);
    let told = desk.renewals();
    let certificate = Bytes::copy_from_slice(new.der());
    for _ in 0..2 {
        let certificate = certificate.clone();
        machine
            .take(Frame::Renewed { certificate }, now)
            .expect("taken");
    }
    assert_eq!(desk.signer().certificate(), &new);
    assert_eq!(shop.signer().certificate(), &new, "with the key of it");
    assert!(told.has_changed().expect("open"));
    assert!(desk.warnings().is_empty(), "{:?}", desk.warnings());
    let left = fs::read_dir(desk.config.data.join("renewal")).expect("a folder");
    assert_eq!(left.count(), 0);
    // The issuing certificate stands behind it, as a peer needs it that has another trust.
    let chain = fs::read_to_string(&shop.config.certificate).expect("reads");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    machine.pump(now + LONGEST).expect("pumps");
    assert!(asks(&mut machine).is_none(), "it is new");
}

#[test]
fn a_renewal_that_was_cut_short_is_finished_and_one_without_a_place_changes_nothing() {
    let mut shop = Shop::new();
    shop.later(61);
    let desk = shop.desk();
    let frame = asks(&mut begun(&desk, Instant::now())).expect("a third is left");
    let old = shop.signer().certificate().clone();
    let new = shop.signs(&read(&frame, &old));
    let files = Files::of(&shop.config);
    // The certificate has no place: neither has the key.
    let nowhere = Config {
        certificate: shop.dir.path().join("nowhere/cert.pem"),
        ..shop.config.clone()
    };
    fs::write(&files.certificate, pem("CERTIFICATE", new.der())).expect("writes");
    let e = finish(&nowhere).expect_err("no place").to_string();
    assert!(e.contains("nowhere/cert.pem cannot be written"), "{e}");
    assert_eq!(shop.signer().certificate(), &old);
    // Killed between the two: the key is the new one, the certificate the old one.
    let secret = read_secret_file(&files.key).expect("reads");
    let place = shop.config.key.file().expect("a file");
    replace_secret_file(place, &secret).expect("replaces");
    assert!(FileSigner::load(&shop.config.certificate, &shop.config.key).is_err());
    finish(&shop.config).expect("finishes");
    assert_eq!(shop.signer().certificate(), &new);
    assert!(!files.certificate.exists() && !files.key.exists());
    finish(&shop.config).expect("nothing to finish");
    // An older one that was left behind does not come back.
    fs::write(&files.certificate, pem("CERTIFICATE", old.der())).expect("writes");
    finish(&shop.config).expect("finishes");
    assert_eq!(shop.signer().certificate(), &new);
}

#[test]
fn a_configuration_without_renewal_leaves_it_to_a_person() {
    let mut shop = Shop::new();
    shop.later(61);
    shop.config.renew_percent = 0;
    let desk = shop.desk();
    assert!(asks(&mut begun(&desk, Instant::now())).is_none());
    assert!(desk.warnings()[0].contains("have a new one issued"));
}

#[test]
fn a_key_in_a_token_gets_another_certificate_and_stays_there() {
    let test = "renewing::tests::a_key_in_a_token_gets_another_certificate_and_stays_there";
    with_token(test, |_| {
        let mut shop = Shop::new();
        let uri = Path::new("pkcs11:token=test;object=node");
        shop.config.key = KeyPlace::new(uri, "credential:pin".parse().expect("a source"));
        let key = SecretKey::generate(&shop.config.key, false).expect("made");
        let (text, _) = request(&name("ncc", Kind::Node), &key).expect("asks");
        let first = Request::from_pem(text.as_bytes()).expect("a request");
        let (holds, at) = (Clearance::new(Level::StgG), time_of(&shop.house));
        // The one on a key in a file is not to be live beside it.
        shop.workshop.revoke("ncc", at).expect("revokes");
        let signed = shop.workshop.sign(&first, &holds, 90, at).expect("signs");
        fs::copy(signed.join("cert.pem"), &shop.config.certificate).expect("copies");
        shop.later(61);
        let (desk, now) = (shop.desk(), Instant::now());
        let mut machine = begun(&desk, now);
        let frame = asks(&mut machine).expect("a third is left");
        let old = shop.signer().certificate().clone();
        let asked = read(&frame, &old);
        assert_eq!(asked.public_key()[..], *old.public_key(), "the same key");
        machine.pump(now + Duration::from_secs(61)).expect("pumps");
        assert_eq!(asks(&mut machine), Some(frame), "the same bytes");
        let new = shop.signs(&asked);
        let certificate = Bytes::copy_from_slice(new.der());
        let renewed = Frame::Renewed { certificate };
        machine.take(renewed, now).expect("taken");
        assert_eq!(desk.signer().certificate(), &new);
        assert_eq!(shop.signer().certificate(), &new, "it fits the key");
        assert!(new.not_after() > old.not_after());
        assert!(desk.warnings().is_empty(), "{:?}", desk.warnings());
        let left = fs::read_dir(desk.config.data.join("renewal")).expect("a folder");
        assert_eq!(left.count(), 0, "no key was made beside it");
        // Killed before it was in its place: a start finishes it.
        let files = Files::of(&shop.config);
        fs::write(&files.certificate, pem("CERTIFICATE", new.der())).expect("writes");
        let before = pem("CERTIFICATE", old.der());
        fs::write(&shop.config.certificate, before).expect("writes");
        finish(&shop.config).expect("finishes");
        assert_eq!(shop.signer().certificate(), &new);
    });
}
