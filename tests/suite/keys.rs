//! Where keys are: under a passphrase, and in a token. Those in a token are SoftHSM's; skipped, and said so, where it is not installed.

#[path = "../../crates/identity/tests/softhsm/mod.rs"]
mod softhsm;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ordonnans_broker::Broker;
use ordonnans_broker::config::Config;
use ordonnans_certs::{AuthorityKeys, Request, Workshop, request};
use ordonnans_exercise::own_address;
use ordonnans_identity::{
    FileSigner, InvalidSigner, KeyPlace, Rekey, SecretKey, Signer, Trust, Usage, rekey,
    verify_signature,
};
use ordonnans_label::{Clearance, Clearances, Level, Name, Policies};
use ordonnans_message::{Frame, PROTOCOL_VERSION};
use ordonnans_tests::house::{House, STRUCTURE, register_of};
use ordonnans_tests::site::{Site, WITHIN, now};
use ordonnans_transport::{
    ClientOptions, CloseCode, Identity, InvalidIdentity, Lane, Limits, connect,
};
use softhsm::{MODULE, with_token};
use time::OffsetDateTime;

fn uri(object: &str) -> PathBuf {
    format!("pkcs11:token=test;object={object}").into()
}

fn place(object: &str) -> KeyPlace {
    let source = "credential:pin".parse().expect("a source");
    KeyPlace::new(&uri(object), source)
}

/// A workshop whose two keys are in the token.
fn workshop(dir: &Path) -> Workshop {
    let keys = AuthorityKeys {
        root: Some(uri("root").display().to_string()),
        issuing: Some(uri("issuing").display().to_string()),
        ..AuthorityKeys::new("credential:pin".parse().expect("a source"))
    };
    let (most, policies) = (Clearances::default(), Policies::built_in());
    let at = OffsetDateTime::now_utc();
    let made = Workshop::init_with(dir, STRUCTURE, &most, policies, &keys, at);
    drop(made.expect("made"));
    // Opened again, it finds its keys by what it has written down.
    Workshop::open_with(dir, &keys).expect("opens")
}

/// Enrols a subject with a key in the token, and gives its certificate.
fn enrolled(w: &mut Workshop, name: &str) -> PathBuf {
    let name: Name = format!("{name}.{STRUCTURE}").parse().expect("a name");
    let key = SecretKey::generate(&place(name.local()), false).expect("made");
    let (text, print) = request(&name, &key).expect("asks");
    let asked = Request::from_pem(text.as_bytes()).expect("a request");
    assert_eq!(asked.fingerprint(), print);
    let holds = Clearance::new(Level::StgG);
    let dir = w
        .sign(&asked, &holds, 90, OffsetDateTime::now_utc())
        .expect("signs");
    dir.join("cert.pem")
}

/// Whether any file below has a private key in it.
fn has_key_file(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir).expect("a folder").flatten();
    files.map(|f| f.path()).any(|path| {
        if path.is_dir() {
            return !path.ends_with("tokens") && has_key_file(&path);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(11).any(|w| w == b"PRIVATE KEY")
    })
}

#[test]
fn a_workshop_in_a_token_certifies_keys_in_a_token() {
    with_token("a_workshop_in_a_token_certifies_keys_in_a_token", |dir| {
        let mut w = workshop(&dir.join("workshop"));
        let (person, other) = (
            enrolled(&mut w, "vermeer.person"),
            enrolled(&mut w, "b1.broker"),
        );
        let signer = FileSigner::load(&person, place("vermeer")).expect("fits");
        let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
        let certificate = signer.certificate();
        let believed = trust.verify(certificate.der(), Usage::Client, now());
        assert!(believed.is_ok(), "{believed:?}");
        let signature = signer.sign(b"an act").expect("signs");
        let how = signer.algorithm();
        assert!(verify_signature(certificate, how, b"an act", &signature).is_ok());
        assert!(verify_signature(certificate, how, b"an acT", &signature).is_err());
        // The key of another certificate.
        let mixed = FileSigner::load(&other, place("vermeer"));
        assert!(matches!(mixed, Err(InvalidSigner::Mismatch)), "{mixed:?}");
        let mixed = Identity::load(&other, place("vermeer"));
        assert!(matches!(mixed, Err(InvalidIdentity::Key)), "{mixed:?}");
        assert_eq!(
            w.revoke("vermeer", OffsetDateTime::now_utc())
                .expect("revokes"),
            1
        );
        let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
        assert!(
            trust
                .verify(certificate.der(), Usage::Client, now())
                .is_err()
        );
        assert!(!has_key_file(dir), "every key is in the token");
    });
}

#[test]
fn another_authority_has_a_key_of_its_own_in_the_token() {
    with_token(
        "another_authority_has_a_key_of_its_own_in_the_token",
        |dir| {
            let folder = dir.join("workshop");
            drop(workshop(&folder));
            let kept = |root: &str, issuing: &str| AuthorityKeys {
                root: Some(uri(root).display().to_string()),
                issuing: Some(uri(issuing).display().to_string()),
                ..AuthorityKeys::new("credential:pin".parse().expect("a source"))
            };
            let (most, policies) = (Clearances::default(), Policies::built_in());
            let at = OffsetDateTime::now_utc();
            // An object that is there is the key of another authority, and stays it.
            let mut w = Workshop::open_with(&folder, &kept("root", "issuing")).expect("opens");
            assert!(w.rollover_issuing(&most, policies, at).is_err());
            let mut w = Workshop::open_with(&folder, &kept("root-2", "issuing-2")).expect("opens");
            let made = w.rollover_root(&most, policies, at).expect("rolls over");
            assert_eq!(made, ["root-2", "issuing-2"]);
            // Opened again, each finds its own.
            let plain = AuthorityKeys::new("credential:pin".parse().expect("a source"));
            let mut w = Workshop::open_with(&folder, &plain).expect("opens");
            let all = ["root", "issuing", "root-2", "issuing-2"];
            assert!(all.iter().all(|name| w.has_key(name)));
            let person = enrolled(&mut w, "vermeer.person");
            let signer = FileSigner::load(&person, place("vermeer")).expect("fits");
            w.retire("root", true, at).expect("retires");
            let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
            let der = signer.certificate().der();
            assert!(trust.verify(der, Usage::Client, now()).is_ok());
            assert!(!has_key_file(dir), "every key is in the token");
        },
    );
}

#[test]
fn a_node_and_a_broker_meet_with_keys_in_a_token() {
    with_token("a_node_and_a_broker_meet_with_keys_in_a_token", |dir| {
        let mut w = workshop(&dir.join("workshop"));
        let (node, broker) = (enrolled(&mut w, "ncc.node"), enrolled(&mut w, "b1.broker"));
        let address = own_address().expect("an address");
        let register = register_of(&[("ncc".to_owned(), Level::StgG, true)], 1, None);
        std::fs::write(dir.join("register.toml"), register).expect("writes");
        let text = format!(
            "listen = \"{address}\"\ndata = \"data\"\ntrust = \"workshop/trust\"\nregister = \"register.toml\"\n\
             [identity]\ncertificate = \"{}\"\nkey = \"{}\"\nmodule = \"{MODULE}\"\npassphrase = \"credential:pin\"\n",
            broker.display(),
            uri("b1").display()
        );
        std::fs::write(dir.join("broker.toml"), text).expect("writes");
        let config = Config::load(&dir.join("broker.toml")).expect("a configuration");
        let identity = Identity::load(&node, place("ncc")).expect("fits");
        let trust = Trust::load_dir(&w.trust_dir()).expect("trust");
        let options = ClientOptions {
            hybrid_only: true,
            limits: Limits::default(),
            clock: Arc::new(now),
        };
        let name: Name = format!("b1.broker.{STRUCTURE}").parse().expect("a name");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let broker = Broker::start(config).await.expect("starts");
            let line = connect(address, &name, &identity, &trust, &options);
            let line = line.await.expect("connects");
            let hello = Frame::Hello {
                version: PROTOCOL_VERSION,
                checkpoint: None,
            };
            line.send(Lane::Control, hello.encode())
                .await
                .expect("sends");
            let heard = tokio::time::timeout(WITHIN, line.recv())
                .await
                .expect("in time");
            let (_, bytes) = heard.expect("hears");
            let frame = Frame::decode(&bytes).expect("a frame");
            assert!(matches!(frame, Frame::Welcome { .. }), "{frame:?}");
            line.finish(CloseCode::Done, "done").await;
            broker.stop().await.expect("stops");
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_opens_its_key_with_a_passphrase_from_a_descriptor_and_again_when_it_reloads() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut house = House::new();
    let site = Site::new(dir.path(), &mut house);
    let mut pipe = tempfile::tempfile().expect("a file");
    pipe.write_all(b"correct horse battery staple\n")
        .expect("writes");
    let from = format!("fd:{}", pipe.as_raw_fd());
    let new = Rekey::Encrypt(from.parse().expect("a source"));
    let key = dir.path().join("b1.key.pem");
    rekey(&KeyPlace::from(&key), &new).expect("encrypts");
    let text = std::fs::read_to_string(site.broker_toml()).expect("reads");
    let with = |source: &str| {
        let key = format!("key = \"b1.key.pem\"\npassphrase = \"{source}\"");
        let text = text.replace("key = \"b1.key.pem\"", &key);
        std::fs::write(site.broker_toml(), text).expect("writes");
        site.config()
    };
    let mut other = tempfile::tempfile().expect("a file");
    other.write_all(b"another passphrase\n").expect("writes");
    let wrong = Broker::start(with(&format!("fd:{}", other.as_raw_fd()))).await;
    let said = wrong.expect_err("another passphrase").to_string();
    assert!(
        said.contains("b1.key.pem") && said.contains("does not open it"),
        "{said}"
    );
    assert!(!said.contains("another passphrase"));

    let broker = Broker::start(with(&from)).await.expect("starts");
    // What was read from a descriptor can be read once: it is remembered.
    pipe.set_len(0).expect("empties");
    broker.reload().await.expect("reloads");
    let peer = site.peer(&house, 0).await.expect("comes in");
    peer.leave().await;
    broker.stop().await.expect("stops");
}
