//! Enrolment as the people at both ends meet it: the key is made where it stays, and two of them compare a fingerprint.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ordonnans_certs::{InvalidRequest, Request};
use ordonnans_identity::{FileSigner, Signer, Trust, Usage};
use ordonnans_label::{Level, Policies};
use ordonnans_message::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType, SignatureAlgorithm,
};
use time::OffsetDateTime;

const NAME: &str = "ncc.node.crisis.example";
const PHRASE: &str = "correct horse battery staple";

fn program(dir: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_ordonnans-ca"));
    c.current_dir(dir).env("CREDENTIALS_DIRECTORY", dir);
    c.env_remove("ORDONNANS_PASSPHRASE_FROM")
        .stdin(Stdio::null());
    c
}

fn run(dir: &Path, args: &[&str]) -> Output {
    program(dir).args(args).output().expect("runs")
}

fn good(dir: &Path, args: &[&str]) -> String {
    let o = run(dir, args);
    let said = String::from_utf8_lossy(&o.stderr);
    assert_eq!(o.status.code(), Some(0), "{args:?}: {said}");
    assert!(!said.contains(PHRASE));
    String::from_utf8(o.stdout).expect("text")
}

/// What must fail: nothing on stdout, on stderr one sentence with `about` in it and one hint.
fn bad(dir: &Path, args: &[&str], code: i32, about: &str) {
    let o = run(dir, args);
    let said = String::from_utf8_lossy(&o.stderr);
    assert_eq!(o.status.code(), Some(code), "{args:?}: {said}");
    assert!(o.stdout.is_empty(), "{args:?}");
    let lines: Vec<_> = said.lines().collect();
    let right =
        matches!(lines[..], [what, hint] if what.contains(about) && hint.starts_with("Hint: "));
    assert!(right && !said.contains(PHRASE), "{args:?}: {said}");
}

fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    good(dir.path(), &["init", "--structure", "crisis.example"]);
    dir
}

/// Makes a request and gives its fingerprint as it was printed.
fn asked(dir: &Path, more: &[&str]) -> String {
    let args = [&["request", NAME, "--key", "key.pem"], more].concat();
    let said = good(dir, &args);
    let print = said.lines().find_map(|l| l.strip_prefix("fingerprint"));
    print.expect("a fingerprint").trim().to_owned()
}

fn sign(print: &str) -> [&str; 6] {
    let request = "request.pem";
    [
        "sign",
        request,
        "--clearance",
        "Stg.G // KRING ICCB",
        "--fingerprint",
        print,
    ]
}

/// What the certificate holds, verified with what everyone gets.
fn level(dir: &Path, key: &str) -> Option<Level> {
    let cert = dir.join("workshop/issued").join(NAME).join("cert.pem");
    let signer = FileSigner::load(&cert, &dir.join(key)).expect("fits");
    let trust = Trust::load_dir(&dir.join("workshop/trust")).expect("trust");
    let now = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs() * 1000;
    let now = Timestamp::from_millis(now);
    let der = signer.certificate().der();
    let believed = trust.verify(der, Usage::Client, now).expect("believed");
    let holds = believed.certified().clearances(Policies::built_in());
    holds.nl().map(|c| c.level())
}

#[test]
fn a_key_that_never_left_is_certified_after_its_fingerprint_was_compared() {
    let dir = workshop();
    let at = dir.path();
    let print = asked(at, &[]);
    assert_eq!(print.len(), 8 * 4 + 7, "eight groups of four: {print}");
    let mode = std::fs::metadata(at.join("key.pem"))
        .expect("a key")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let shown = good(at, &["show", "request.pem"]);
    assert!(shown.contains(&print) && shown.contains(NAME), "{shown}");

    let other = print.replacen(|c: char| c.is_ascii_hexdigit(), "x", 1);
    bad(
        at,
        &sign(&other),
        1,
        "is not the one at ncc.node.crisis.example",
    );
    bad(at, &sign(&print[..34]), 1, "is not the one at");
    bad(
        at,
        &["sign", "request.pem", "--clearance", "Stg.G"],
        1,
        &print,
    );
    bad(
        at,
        &["sign", "request.pem", "--fingerprint", &print],
        2,
        "--clearance",
    );
    assert!(
        !at.join("workshop/issued").join(NAME).exists(),
        "nothing was signed"
    );

    let heard = print.to_lowercase().replace(' ', "-");
    let folder = good(at, &sign(&heard));
    assert_eq!(folder, format!("workshop/issued/{NAME}\n"));
    assert_eq!(level(at, "key.pem"), Some(Level::StgG));
    let files = std::fs::read_dir(at.join("workshop/issued").join(NAME)).expect("a folder");
    assert_eq!(files.count(), 1, "the workshop has no key of it");
    bad(at, &sign(&print), 1, "has a live certificate");
}

#[test]
fn a_key_that_was_revoked_is_not_certified_again() {
    let dir = workshop();
    let at = dir.path();
    let print = asked(at, &[]);
    good(at, &sign(&print));
    good(at, &["revoke", NAME]);
    bad(
        at,
        &sign(&print),
        1,
        "this key is that of ncc.node.crisis.example",
    );
    std::fs::remove_file(at.join("key.pem")).expect("a key");
    std::fs::remove_file(at.join("request.pem")).expect("a request");
    good(at, &sign(&asked(at, &[])));
    assert_eq!(level(at, "key.pem"), Some(Level::StgG));
    // Nor one that the workshop made.
    good(at, &["issue", "node", "vr", "--clearance", "Stg.G"]);
    good(at, &["revoke", "vr"]);
    let key = "workshop/issued/vr.node.crisis.example/key.pem";
    let name = "vr.node.crisis.example";
    let said = good(
        at,
        &["request", name, "--have", "--key", key, "--out", "vr.pem"],
    );
    let print = said.lines().nth(1).expect("a fingerprint");
    let print = print.trim_start_matches("fingerprint").trim();
    let args = [
        "sign",
        "vr.pem",
        "--clearance",
        "Stg.G",
        "--fingerprint",
        print,
    ];
    bad(at, &args, 1, "this key is that of vr.node.crisis.example");
}

#[test]
fn nothing_is_overwritten_and_a_request_is_made_again_on_the_same_key() {
    let dir = workshop();
    let at = dir.path();
    let print = asked(at, &[]);
    let again = ["request", NAME, "--key", "key.pem"];
    bad(at, &again, 1, "request.pem is there already");
    bad(
        at,
        &[&again[..], &["--out", "two.pem"]].concat(),
        1,
        "key.pem",
    );
    assert_eq!(asked(at, &["--out", "two.pem", "--have"]), print);
    bad(
        at,
        &["request", "ncc", "--key", "k"],
        2,
        "'ncc' is no full name",
    );
    let strange = [
        "request",
        "ncc.node.other.example",
        "--key",
        "k",
        "--out",
        "o.pem",
    ];
    let said = good(at, &strange);
    let print = said
        .lines()
        .nth(1)
        .and_then(|l| l.strip_prefix("fingerprint"));
    let print = print.expect("a fingerprint").trim();
    let args = [
        "sign",
        "o.pem",
        "--clearance",
        "Dep.V",
        "--fingerprint",
        print,
    ];
    bad(at, &args, 1, "is not of this structure");
}

#[test]
fn an_encrypted_key_serves_with_its_passphrase_and_is_never_printed() {
    let dir = workshop();
    let at = dir.path();
    std::fs::write(at.join("phrase"), format!("{PHRASE}\n")).expect("writes");
    std::fs::write(at.join("other"), "another passphrase").expect("writes");
    let from = ["--passphrase", "credential:phrase"];
    let print = asked(at, &[&["--encrypt"], &from[..]].concat());
    let text = std::fs::read_to_string(at.join("key.pem")).expect("a key");
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let have = [
        "request", NAME, "--key", "key.pem", "--have", "--out", "two.pem",
    ];
    bad(
        at,
        &[&have[..], &["--passphrase", "credential:other"]].concat(),
        1,
        "does not open it",
    );
    bad(
        at,
        &[&have[..], &["--passphrase", "credential:none"]].concat(),
        1,
        "credential:none",
    );
    bad(
        at,
        &[&have[..], &["--passphrase", PHRASE]].concat(),
        2,
        "names no source",
    );
    // From a descriptor, and from the source that the environment names.
    let piped = |args: &str, source: &str| {
        let program = env!("CARGO_BIN_EXE_ordonnans-ca");
        let script = format!("exec {program} {args} 3<phrase");
        let mut c = Command::new("sh");
        c.args(["-c", &script])
            .current_dir(at)
            .env("ORDONNANS_PASSPHRASE_FROM", source);
        c.output().expect("runs")
    };
    let o = piped(&have.join(" "), "fd:3");
    let said = String::from_utf8_lossy(&o.stdout);
    assert!(o.status.success() && said.contains(&print), "{o:?}");
    assert_eq!(piped("key decrypt key.pem", "fd:9").status.code(), Some(1));
    let o = piped("key decrypt key.pem", "fd:3");
    assert!(o.status.success(), "{o:?}");
    good(at, &sign(&print));
    assert_eq!(level(at, "key.pem"), Some(Level::StgG));
    good(
        at,
        &[
            "key",
            "encrypt",
            "key.pem",
            "--passphrase",
            "credential:phrase",
        ],
    );
    let new = ["--new-passphrase", "credential:other"];
    good(
        at,
        &[&["key", "change", "key.pem"], &new[..], &from].concat(),
    );
    bad(
        at,
        &[&["key", "decrypt", "key.pem"], &from[..]].concat(),
        1,
        "does not open it",
    );
    std::fs::write(at.join("short"), "elevenchars").expect("writes");
    bad(
        at,
        &[
            "key",
            "change",
            "key.pem",
            "--new-passphrase",
            "credential:short",
            "--passphrase",
            "credential:other",
        ],
        1,
        "at least 12 characters",
    );
}

#[test]
fn the_keys_of_the_workshop_can_be_encrypted() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    std::fs::write(at.join("phrase"), PHRASE).expect("writes");
    let from = ["--passphrase", "credential:phrase"];
    good(
        at,
        &[
            &["init", "--structure", "crisis.example", "--encrypt"],
            &from[..],
        ]
        .concat(),
    );
    for key in ["root/root.key.pem", "issuing/issuing.key.pem"] {
        let text = std::fs::read_to_string(at.join("workshop").join(key)).expect("a key");
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{key}"
        );
    }
    let print = asked(at, &[]);
    bad(
        at,
        &[&sign(&print)[..], &["--passphrase", "credential:none"]].concat(),
        1,
        "credential:none",
    );
    good(at, &[&sign(&print)[..], &from].concat());
    assert_eq!(level(at, "key.pem"), Some(Level::StgG));
    good(at, &[&["crl"], &from[..]].concat());
}

/// A request as somebody else's program makes it.
fn made(alg: &'static SignatureAlgorithm, change: impl Fn(&mut CertificateParams)) -> String {
    let key = KeyPair::generate_for(alg).expect("a key");
    let mut p = CertificateParams::default();
    p.subject_alt_names = vec![SanType::DnsName(NAME.try_into().expect("a name"))];
    change(&mut p);
    let made = p.serialize_request(&key).expect("a request");
    made.pem().expect("PEM")
}

#[test]
fn requests_that_are_not_one_name_and_one_key_of_our_kind_are_refused() {
    let p256 = &PKCS_ECDSA_P256_SHA256;
    let read = |text: &str| Request::from_pem(text.as_bytes());
    let right = made(p256, |_| {});
    assert_eq!(read(&right).expect("right").name().as_str(), NAME);
    let dns = |n: &str| SanType::DnsName(n.try_into().expect("a name"));
    let two = read(&made(p256, |p| {
        p.subject_alt_names.push(dns("b.node.crisis.example"))
    }));
    assert!(matches!(two, Err(InvalidRequest::Names)));
    let none = read(&made(p256, |p| p.subject_alt_names.clear()));
    assert!(matches!(none, Err(InvalidRequest::Names)));
    let uri = SanType::URI("crisis://ncc".try_into().expect("a URI"));
    let uri = read(&made(p256, |p| p.subject_alt_names = vec![uri.clone()]));
    assert!(matches!(uri, Err(InvalidRequest::Names)));
    let form = read(&made(p256, |p| {
        p.subject_alt_names = vec![dns("www.example")]
    }));
    assert!(matches!(form, Err(InvalidRequest::Name(_))));
    for other in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        assert!(matches!(
            read(&made(other, |_| {})),
            Err(InvalidRequest::Key)
        ));
    }
    // A clearance, an authority, or anything else beside the name.
    let clearance = read(&made(p256, |p| {
        p.custom_extensions = vec![CustomExtension::from_oid_content(
            &[2, 5, 29, 9],
            vec![0x30, 0],
        )];
    }));
    assert!(matches!(clearance, Err(InvalidRequest::Asks)));
    let authority = read(&made(p256, |p| {
        p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }));
    assert!(matches!(authority, Err(InvalidRequest::Asks)));
    for text in [
        "",
        "nonsense",
        &right.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
    ] {
        assert!(
            matches!(read(text), Err(InvalidRequest::Malformed)),
            "{text}"
        );
    }
    let large = format!("{}{right}", " ".repeat(70_000));
    assert!(matches!(read(&large), Err(InvalidRequest::TooLarge)));
    // No changed bit gives another name or another key. (One of how the signature is written down may be read over.)
    let is = read(&right).expect("right").fingerprint();
    let body: String = right.lines().filter(|l| !l.starts_with("--")).collect();
    let der = data_encoding::BASE64
        .decode(body.as_bytes())
        .expect("base 64");
    for i in 0..der.len() {
        let mut changed = der.clone();
        changed[i] ^= 1;
        let text = data_encoding::BASE64.encode(&changed);
        let text = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"
        );
        if let Ok(read) = read(&text) {
            assert_eq!(
                (read.name().as_str(), read.fingerprint()),
                (NAME, is),
                "byte {i}"
            );
        }
    }
}

#[test]
fn openssl_reads_our_files_and_makes_ones_that_we_read() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not here");
        return;
    }
    let dir = workshop();
    let at = dir.path();
    let openssl = |args: &str| {
        let script = format!("set -e; {args}");
        let o = Command::new("sh")
            .args(["-c", &script])
            .current_dir(at)
            .output()
            .expect("runs");
        assert!(
            o.status.success(),
            "{args}: {}",
            String::from_utf8_lossy(&o.stderr)
        );
        String::from_utf8(o.stdout).expect("text")
    };
    let print = asked(at, &[]);
    let sum = openssl(
        "openssl req -in request.pem -pubkey -noout -verify 2>/dev/null | openssl pkey -pubin -outform DER | sha256sum",
    );
    let digits = print.replace(' ', "").to_lowercase();
    assert!(sum.starts_with(&digits), "{sum} and {print}");
    // Our encrypted key in openssl, and openssl's with both derivations here.
    std::fs::write(at.join("phrase"), PHRASE).expect("writes");
    let from = ["--passphrase", "credential:phrase"];
    good(at, &[&["key", "encrypt", "key.pem"], &from[..]].concat());
    openssl("openssl pkey -in key.pem -passin file:phrase -out plain.pem");
    for (i, derivation) in ["-v2prf hmacWithSHA256 -iter 600000", "-scrypt"]
        .iter()
        .enumerate()
    {
        openssl(&format!(
            "umask 077; openssl pkcs8 -topk8 -in plain.pem -v2 aes-256-cbc {derivation} -passout file:phrase -out {i}.pem"
        ));
        let (key, out) = (format!("{i}.pem"), format!("{i}.req.pem"));
        let said = good(
            at,
            &[
                &["request", NAME, "--have", "--key", &key, "--out", &out],
                &from[..],
            ]
            .concat(),
        );
        assert!(said.contains(&print), "{said}");
    }
    // What is too weak is named; OpenSSL 3 makes the older schemes with its legacy provider alone.
    openssl(
        "umask 077; openssl pkcs8 -topk8 -in plain.pem -v2 des3 -passout file:phrase -out weak.pem",
    );
    let weak = [
        "request",
        NAME,
        "--have",
        "--key",
        "weak.pem",
        "--out",
        "w.req.pem",
    ];
    bad(
        at,
        &[&weak[..], &from].concat(),
        1,
        "encrypted otherwise than with PBES2",
    );
}

/// Types a line at a prompt of a program behind a terminal, and gives everything that was on the screen.
fn typed(dir: &Path, args: &str, lines: &[&str]) -> Option<(bool, String)> {
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_ordonnans-ca"));
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]);
    script
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = script.spawn().ok()?;
    let (mut input, mut output) = (child.stdin.take()?, child.stdout.take()?);
    let (mut screen, mut waiting) = (String::new(), lines.iter());
    let mut next = waiting.next();
    let mut seen = 0;
    let mut buffer = [0; 1024];
    loop {
        let n = output.read(&mut buffer).unwrap_or(0);
        if n == 0 {
            break;
        }
        screen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        // A prompt ends with a colon or a bracket and a space.
        if let Some(line) = next
            && screen.len() > seen
            && (screen.ends_with(": ") || screen.ends_with("] "))
        {
            seen = screen.len();
            writeln!(input, "{line}").expect("writes");
            next = waiting.next();
        }
    }
    let status = child.wait().expect("ends");
    Some((status.success(), screen))
}

#[test]
fn a_passphrase_is_typed_without_echo_and_a_fingerprint_is_asked_about() {
    let dir = workshop();
    let at = dir.path();
    let make = format!("request {NAME} --key key.pem --encrypt");
    let Some((done, screen)) = typed(at, &make, &[PHRASE, PHRASE]) else {
        eprintln!("skipped: script(1) is not here");
        return;
    };
    assert!(
        done && screen.contains("New passphrase for key.pem: "),
        "{screen}"
    );
    assert!(!screen.contains("horse"), "it was echoed");
    let make = format!("request {NAME} --key two.pem --encrypt --out two.req.pem");
    let (done, screen) = typed(at, &make, &[PHRASE, "another one, by mistake"]).expect("script");
    assert!(!done && screen.contains("are not the same"), "{screen}");
    let sign = "sign request.pem --clearance Stg.G";
    let (done, screen) = typed(at, sign, &["no"]).expect("script");
    assert!(!done && screen.contains("nothing was signed"), "{screen}");
    let (done, screen) = typed(at, sign, &["yes"]).expect("script");
    assert!(
        done && screen.contains("Does ncc.node.crisis.example read out the same?"),
        "{screen}"
    );
}

/// Asks for the renewal of what was issued last, with a new key.
fn renewal(dir: &Path, old: &str, new: &str) -> String {
    let cert = format!("{old}.cert.pem");
    std::fs::copy(
        dir.join("workshop/issued").join(NAME).join("cert.pem"),
        dir.join(&cert),
    )
    .expect("a certificate");
    let (key, old_key) = (format!("{new}.pem"), format!("{old}.pem"));
    let out = format!("{new}.req.pem");
    let args = [
        "request",
        NAME,
        "--key",
        &key,
        "--out",
        &out,
        "--renew",
        &cert,
        "--old-key",
        &old_key,
    ];
    good(dir, &args);
    out
}

#[test]
fn a_certificate_is_renewed_by_the_rule_and_by_nothing_less() {
    let dir = workshop();
    let at = dir.path();
    let print = asked(at, &[]);
    good(at, &sign(&print));
    let two = renewal(at, "key", "two");
    let renew = |request: &str, more: &[&str]| {
        let args = [&["sign", request, "--renew"], more].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let refused = |args: Vec<String>, why: &str| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        bad(at, &args, 1, why);
    };
    let done = |args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        good(at, &args);
    };
    refused(renew("request.pem", &[]), "no old key has signed");
    refused(renew(&two, &["--clearance", "Stg.ZG"]), "more is asked for");
    refused(
        renew(&two, &["--clearance", "Stg.C // KRING NCC"]),
        "more is asked for",
    );
    let text = std::fs::read_to_string(at.join(&two)).expect("a request");
    // The signature is over this request, by the key of that certificate.
    let (_, rest) = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .expect("two parts");
    let other = std::fs::read_to_string(at.join("request.pem")).expect("a request");
    for (name, forged) in [
        (
            "swapped.pem",
            format!("{other}-----BEGIN CERTIFICATE-----{rest}"),
        ),
        (
            "cut.pem",
            text.replace("-----END ORDONNANS RENEWAL-----", ""),
        ),
    ] {
        std::fs::write(at.join(name), forged).expect("writes");
        refused(renew(name, &[]), "has not signed it");
    }
    // The certificate of another authority, with the same name and its own key.
    good(
        at,
        &[
            "--dir",
            "elsewhere",
            "init",
            "--structure",
            "crisis.example",
        ],
    );
    let theirs = [
        "--dir",
        "elsewhere",
        "issue",
        "node",
        "ncc",
        "--clearance",
        "Stg.ZG",
    ];
    good(at, &theirs);
    let folder = format!("elsewhere/issued/{NAME}");
    let (cert, key) = (format!("{folder}/cert.pem"), format!("{folder}/key.pem"));
    let args = [
        "request",
        NAME,
        "--key",
        "four.pem",
        "--out",
        "four.req.pem",
        "--renew",
        &cert,
        "--old-key",
        &key,
    ];
    good(at, &args);
    refused(
        renew("four.req.pem", &[]),
        "of no issuing authority in trust",
    );

    done(renew(&two, &["--days", "100"]));
    assert_eq!(
        level(at, "two.pem"),
        Some(Level::StgG),
        "the same as before"
    );
    let again = renewal(at, "two", "three");
    // The old key is live still, and renews nothing more.
    refused(renew(&two, &["--days", "110"]), "renewed already");
    done(renew(&again, &["--clearance", "Dep.V", "--days", "120"]));
    assert_eq!(
        level(at, "three.pem"),
        Some(Level::DepV),
        "less, where that is asked for"
    );
    let last = renewal(at, "three", "five");
    good(at, &["revoke", NAME]);
    refused(renew(&last, &["--days", "130"]), "was revoked");
}

#[test]
fn a_rollover_keeps_keys_as_they_were_kept_and_a_certificate_is_renewed_across_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    std::fs::write(at.join("phrase"), PHRASE).expect("writes");
    let ca = |args: &[&str]| good(at, &[&["--passphrase", "credential:phrase"], args].concat());
    ca(&["init", "--structure", "crisis.example", "--encrypt"]);
    let print = asked(at, &[]);
    ca(&sign(&print));
    assert_eq!(ca(&["rollover", "issuing"]), "issuing-2\n");
    assert_eq!(ca(&["rollover", "root"]), "root-2\nissuing-3\n");
    for name in ["root", "issuing", "issuing-2", "root-2", "issuing-3"] {
        let file = at.join("workshop").join(name);
        let key = std::fs::read_to_string(file.join(format!("{name}.key.pem"))).expect("a key");
        assert!(key.contains("BEGIN ENCRYPTED PRIVATE KEY"), "{name}");
    }
    bad(
        at,
        &["rollover", "issuing", "--root-key", "pkcs11:token=x"],
        2,
        "no root is made",
    );
    // The certificate of the old authority asks for one of the new one, and nobody compares a fingerprint.
    let two = renewal(at, "key", "two");
    ca(&["sign", &two, "--renew", "--days", "100"]);
    assert_eq!(level(at, "two.pem"), Some(Level::StgG));
    let shown = ca(&["show", "--json"]);
    assert!(shown.contains("\"by\":\"issuing-3\""), "{shown}");
    // A key has one certificate, of whichever authority.
    bad(
        at,
        &[&["--passphrase", "credential:phrase"], &sign(&print)[..]].concat(),
        1,
        "has a live certificate already",
    );
    // What a retired authority has issued renews nothing.
    let three = renewal(at, "two", "three");
    ca(&["rollover", "issuing"]);
    ca(&["retire", "issuing-3", "--with-live"]);
    bad(
        at,
        &[
            "--passphrase",
            "credential:phrase",
            "sign",
            &three,
            "--renew",
        ],
        1,
        "of no issuing authority in trust",
    );
}
