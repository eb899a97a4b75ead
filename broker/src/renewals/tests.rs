//! The folder of renewals, without sessions.

use ordonnans_certs::Workshop;
use ordonnans_identity::{FileSigner, SecretKey, Signer, certificate_request, pem};
use ordonnans_label::{Clearance, Level};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::*;

const STRUCTURE: &str = "crisis.example";

struct Bench {
    dir: TempDir,
    workshop: Workshop,
    at: OffsetDateTime,
    folder: Folder,
    line: BTreeMap<Name, Line>,
}

fn node(local: &str) -> Name {
    Name::new(local, Kind::Node, STRUCTURE).expect("a name")
}

fn of_file(path: &Path) -> Certificate {
    let text = fs::read(path).expect("reads");
    Certificate::from_pem(&text).expect("a certificate")
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let at = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a time");
        let workshop = Workshop::init(&dir.path().join("ca"), STRUCTURE, at).expect("makes");
        let folder = dir.path().join("renewals");
        make(&folder).expect("makes");
        make(&folder).expect("is there");
        Self {
            folder: Folder::new(folder),
            dir,
            workshop,
            at,
            line: BTreeMap::new(),
        }
    }

    fn file(&self, local: &str, ending: &str) -> PathBuf {
        self.folder.path.join(format!("{}{ending}", node(local)))
    }

    fn issue(&mut self, local: &str, days: i64) -> PathBuf {
        let holds = Clearance::new(Level::StgC);
        let issued = self
            .workshop
            .issue(Kind::Node, local, &holds, days, self.at);
        issued.expect("issues")
    }

    /// Has a node ask, and keeps it; gives the certificate that it shows on its line.
    fn asks(&mut self, local: &str) -> Certificate {
        let own = self.issue(local, 3);
        let old = FileSigner::load(&own.join("cert.pem"), &own.join("key.pem")).expect("fits");
        let key = SecretKey::in_memory().expect("a key");
        let request = certificate_request(&node(local), &key).expect("a request");
        let asked = Renewal::sign(request, &old).expect("signs");
        let (request, signature) = (asked.request().to_vec(), asked.signature().to_vec());
        let session = Session(1);
        let of = Digest::from([1; 32]);
        let (request, mut signature): (Bytes, Vec<u8>) = (request.into(), signature);
        let said = |peer: &Certificate, signature: &[u8]| {
            let signature = Bytes::copy_from_slice(signature);
            asked_of(session, of, peer, &request, &signature)
        };
        let text = said(old.certificate(), &signature).expect("its own key");
        keep(&self.folder.path, &node(local), &text).expect("keeps");
        keep(&self.folder.path, &node(local), &text).expect("keeps the same");
        signature[0] ^= 1;
        assert_eq!(
            said(old.certificate(), &signature),
            None,
            "another signature"
        );
        old.certificate().clone()
    }

    fn shows(&mut self, local: &str, number: u64, certificate: &Certificate) {
        let shows = certificate.fingerprint();
        self.line.insert(node(local), Line { number, shows });
    }

    /// Two looks: what has just been written counts from the second one on.
    fn looks(&mut self, seconds: i64) -> Vec<Found> {
        let trust = Trust::load_dir(&self.workshop.trust_dir()).expect("a trust");
        let at = self.at + Duration::seconds(seconds);
        let at = Timestamp::from_millis(at.unix_timestamp() as u64 * 1000);
        let mut look = || {
            let (found, done) = self.folder.look(&self.line, &trust, at);
            done.expect("looks");
            found
        };
        let first = look();
        let mut second = look();
        second.splice(0..0, first);
        second
    }
}

/// The text that is kept, where the request is taken.
fn asked_of(
    session: Session,
    of: Digest,
    peer: &Certificate,
    request: &Bytes,
    signature: &Bytes,
) -> Option<Bytes> {
    match asked(session, of, peer, request, signature) {
        Input::RenewalAsked { text, .. } => Some(text),
        Input::NotKept {
            code: ReplyCode::NotAuthentic,
            ..
        } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_its_nodes_own_is_put_aside_and_named() {
    let mut b = Bench::new();
    let shown = b.asks("ncc");
    b.shows("ncc", 1, &shown);
    let other = b.issue("def", 90);
    let certificate = pem("CERTIFICATE", shown.der());
    let mut elsewhere =
        Workshop::init(&b.dir.path().join("elsewhere"), STRUCTURE, b.at).expect("makes");
    let request = ordonnans_certs::Request::load(&b.file("ncc", REQUEST)).expect("a request");
    let holds = Clearance::new(Level::StgZg);
    let forged = elsewhere.sign(&request, &holds, 90, b.at).expect("signs");
    let copy = |path: &Path| fs::read_to_string(path.join("cert.pem")).expect("reads");
    for (local, text, why) in [
        ("ncc", "half a".to_owned(), Unfit::Form),
        ("ncc", String::new(), Unfit::Form),
        ("ncc", copy(&other), Unfit::Name),
        (
            "ncc",
            copy(&forged),
            Unfit::Untrusted("its chain does not hold"),
        ),
        ("def", copy(&other), Unfit::Unasked),
    ] {
        fs::write(b.file(local, CERTIFICATE), text).expect("writes");
        let node = Some(node(local));
        assert_eq!(b.looks(0), [Found::Unfit { node, why }]);
        assert!(!b.file(local, CERTIFICATE).exists() && b.file(local, REFUSED).exists());
        assert!(b.looks(0).is_empty(), "once");
    }
    // The old certificate itself is shown on the line already, and is on another key: it is taken away without a word.
    fs::write(b.file("ncc", CERTIFICATE), &certificate).expect("writes");
    assert!(b.looks(0).is_empty());
    assert!(!b.file("ncc", CERTIFICATE).exists() && b.file("ncc", REQUEST).exists());
    // Off the line it is what it is.
    b.line.clear();
    fs::write(b.file("ncc", CERTIFICATE), &certificate).expect("writes");
    let (node, why) = (Some(node("ncc")), Unfit::Key);
    assert_eq!(b.looks(0), [Found::Unfit { node, why }]);
    let stray = b.folder.path.join("letter.cert.pem");
    fs::write(&stray, &certificate).expect("writes");
    let why = Unfit::FileName;
    assert_eq!(b.looks(0), [Found::Unfit { node: None, why }]);
    // One that cannot be read is named, and holds up no other.
    let locked = b.file("toc", CERTIFICATE);
    fs::write(&locked, &certificate).expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    fs::set_permissions(&locked, mode).expect("changes");
    let unreadable = read(&locked).is_err();
    let why = if unreadable {
        Unfit::Unreadable
    } else {
        // This machine's user may read everything.
        Unfit::Name
    };
    let node = Some(self::node("toc"));
    assert_eq!(b.looks(0), [Found::Unfit { node, why }]);
    // A request is not written through a link.
    let elsewhere = b.dir.path().join("elsewhere.txt");
    let draft = b
        .folder
        .path
        .join(format!("{}.request.new", self::node("toc")));
    std::os::unix::fs::symlink(&elsewhere, draft).expect("links");
    keep(&b.folder.path, &self::node("toc"), b"text").expect("keeps");
    assert!(!elsewhere.exists() && b.file("toc", REQUEST).exists());
    // What is no plain file is not looked at.
    std::os::unix::fs::symlink(other.join("cert.pem"), b.file("locc", CERTIFICATE)).expect("links");
    assert!(b.looks(0).is_empty());
}

#[test]
fn a_certificate_is_given_until_it_is_shown_and_then_it_is_done_with() {
    let mut b = Bench::new();
    let old = b.asks("ncc");
    b.at += Duration::days(2);
    let folder = b.folder.path.clone();
    let signed = b.workshop.renew_folder(&folder, 90, b.at).expect("reads");
    let signed = signed[0].certificate.as_ref().expect("by the rule").clone();
    let new = of_file(&signed);
    assert!(b.looks(0).is_empty(), "it is not on the line");
    b.shows("ncc", 1, &old);
    let given = |b: &mut Bench, seconds| match &b.looks(seconds)[..] {
        [] => false,
        [
            Found::Signed {
                node: to,
                certificate,
            },
        ] => {
            assert_eq!((to, &certificate[..]), (&node("ncc"), new.der()));
            true
        }
        other => panic!("{other:?}"),
    };
    assert!(given(&mut b, 1));
    assert!(!given(&mut b, 60), "a minute has not passed");
    assert!(given(&mut b, 61));
    b.shows("ncc", 2, &old);
    assert!(given(&mut b, 62), "on another connection");
    b.shows("ncc", 3, &new);
    assert_eq!(
        b.looks(63),
        [Found::Shown {
            node: node("ncc"),
            certificate: new.fingerprint(),
            until: new.not_after(),
        }]
    );
    assert!(!b.file("ncc", REQUEST).exists() && !signed.exists());
    assert!(b.looks(64).is_empty() && b.folder.given.is_empty());
    // Brought once more, as from a copy of the folder: no news, and no alarm.
    fs::write(&signed, pem("CERTIFICATE", new.der())).expect("writes");
    assert!(b.looks(65).is_empty());
    assert!(!signed.exists());
}
