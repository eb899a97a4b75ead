use std::io::{Seek, Write};
use std::os::fd::AsRawFd;

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::*;

/// A source that gives this; the file is to be kept open.
fn gives(text: &str) -> (std::fs::File, PassphraseSource) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("writes");
    file.rewind().expect("rewinds");
    let source = format!("fd:{}", file.as_raw_fd());
    (file, source.parse().expect("a source"))
}

fn place(path: &Path, source: &PassphraseSource) -> KeyPlace {
    KeyPlace::new(path, source.clone())
}

#[test]
fn a_key_is_made_encrypted_changed_and_decrypted() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("key.pem");
    let (_a, one) = gives("correct horse battery");
    let (_b, two) = gives("staple of the battery");
    let made = SecretKey::generate(&place(&path, &one), true).expect("made");
    let text = std::fs::read_to_string(&path).expect("reads");
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let key = |source: &PassphraseSource| SecretKey::open(&place(&path, source));
    assert_eq!(key(&one).expect("opens").public_key(), made.public_key());
    let wrong = key(&two).expect_err("another passphrase").to_string();
    assert!(
        wrong.contains("does not open it") && wrong.contains("key.pem"),
        "{wrong}"
    );

    let again = SecretKey::generate(&place(&path, &one), false).expect_err("is there");
    assert!(matches!(again, KeyError::File(KeyFileError::Io { .. })));
    let sealed = rekey(&place(&path, &one), &Rekey::Encrypt(two.clone()));
    assert!(matches!(sealed, Err(KeyError::Sealed(_))));
    assert_eq!(
        std::fs::read_to_string(&path).expect("reads"),
        text,
        "as it was"
    );

    rekey(&place(&path, &one), &Rekey::Change(two.clone())).expect("changes");
    assert!(key(&one).is_err());
    assert_eq!(key(&two).expect("opens").public_key(), made.public_key());
    rekey(&place(&path, &two), &Rekey::Decrypt).expect("decrypts");
    let plain = rekey(&place(&path, &two), &Rekey::Decrypt);
    assert!(matches!(plain, Err(KeyError::Plain(_))));
    rekey(&place(&path, &one), &Rekey::Encrypt(one.clone())).expect("encrypts");
    assert_eq!(key(&one).expect("opens").public_key(), made.public_key());
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("a folder").count(),
        1,
        "no draft is left"
    );
}

#[test]
fn a_signature_in_der_is_the_same_signature() {
    let pkcs8 = new_pkcs8().expect("a key");
    let key = SecretKey::from_pkcs8(&pkcs8).expect("a key");
    for n in 0..64_u8 {
        let signature = key.sign_der(&[n]).expect("signs");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key());
        assert!(public.verify(&[n], &signature).is_ok(), "{n}");
    }
    assert_eq!(key.derive("a"), key.derive("a"));
    assert_ne!(key.derive("a"), key.derive("b"));
    assert_eq!(format!("{key:?}"), "SecretKey");
}

#[test]
fn what_is_no_key_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("key.pem");
    let (_a, source) = gives("correct horse battery");
    let open = || SecretKey::open(&place(&path, &source)).expect_err("no key");
    write_secret_file(&path, b"nonsense").expect("writes");
    assert!(matches!(open(), KeyError::Form(_)));
    replace_secret_file(&path, plain(&[1, 2, 3]).as_bytes()).expect("writes");
    assert!(matches!(open(), KeyError::Kind(_)));
    let label = encrypted::LABEL;
    let short = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    replace_secret_file(&path, short.as_bytes()).expect("writes");
    let KeyError::Encrypted { why, .. } = open() else {
        panic!("another error");
    };
    assert_eq!(why, DecryptError::Malformed);
    let source = KeyPlace::configured(dir.path(), &path, Some("hunter2"), None);
    assert!(source.is_err());
}

#[test]
fn a_relative_path_starts_at_the_folder_and_a_uri_does_not() {
    let folder = Path::new("/etc/ordonnans");
    let at = |place: &str| {
        let place = KeyPlace::configured(folder, Path::new(place), Some("terminal"), None);
        place.expect("a source").to_string()
    };
    assert_eq!(at("key.pem"), "/etc/ordonnans/key.pem");
    assert_eq!(at("pkcs11:token=a"), "pkcs11:token=a");
}
