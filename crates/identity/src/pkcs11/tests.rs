//! With SoftHSM; skipped, and said so, where it is not installed.

#[path = "../../tests/softhsm/mod.rs"]
mod softhsm;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use softhsm::PIN;

use super::{TokenError, TokenKey};
use crate::{KeyError, KeyPlace, PassphraseSource, SecretKey, SignError, rekey};

const KEY: &str = "pkcs11:token=test;object=node";

/// Runs a test of these in a process that has a token.
fn with_token(name: &str, test: impl FnOnce()) {
    softhsm::with_token(&format!("pkcs11::tests::{name}"), |_| test());
}

/// A source that gives this; the file is to be kept open.
fn gives(text: &str) -> (std::fs::File, PassphraseSource) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("writes");
    let source = format!("fd:{}", file.as_raw_fd()).parse();
    (file, source.expect("a source"))
}

fn at(uri: &str, pin: &PassphraseSource) -> KeyPlace {
    KeyPlace::new(Path::new(uri), pin.clone())
}

/// Why it is not opened.
fn refused(uri: &str, pin: &PassphraseSource) -> TokenError {
    match SecretKey::open(&at(uri, pin)) {
        Err(KeyError::Token(e)) => e,
        other => panic!("{uri}: {other:?}"),
    }
}

#[test]
fn a_key_is_made_in_the_token_and_signs_there() {
    with_token("a_key_is_made_in_the_token_and_signs_there", || {
        let (_file, pin) = gives(PIN);
        let made = SecretKey::generate(&at(KEY, &pin), false).expect("made");
        let found = SecretKey::open(&at(KEY, &pin)).expect("found");
        assert_eq!(found.public_key(), made.public_key());
        assert_eq!(found.derive("a"), None, "nothing comes out of a token");
        for n in 0..32_u8 {
            let signature = found.sign_der(&[n]).expect("signs");
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, made.public_key());
            assert!(public.verify(&[n], &signature).is_ok(), "{n}");
        }
        // By its identifier alone; a second key, and then the token alone is not enough.
        let by_id = "pkcs11:token=test;object=two;id=%07%08";
        let two = SecretKey::generate(&at(by_id, &pin), false).expect("made");
        let found = SecretKey::open(&at("pkcs11:id=%07%08", &pin)).expect("found");
        assert_eq!(found.public_key(), two.public_key());
        let e = refused("pkcs11:token=test", &pin);
        assert!(matches!(e, TokenError::Keys { count: 2, .. }), "{e}");
        let again = SecretKey::generate(&at(KEY, &pin), false);
        assert!(matches!(again, Err(KeyError::Token(TokenError::Exists(_)))));
        let kept = rekey(&at(KEY, &pin), &crate::Rekey::Decrypt);
        assert!(matches!(kept, Err(KeyError::NoFile(_))));
    });
}

#[test]
fn what_is_wrong_is_named() {
    with_token("what_is_wrong_is_named", || {
        let (_a, pin) = gives(PIN);
        let (_b, wrong) = gives("111111");
        let (_c, empty) = gives("");
        let uri = |e: TokenError| e.to_string();
        assert!(matches!(refused(KEY, &wrong), TokenError::Pin(_)));
        let e = uri(refused(KEY, &empty));
        assert!(
            e.contains("the token of pkcs11:token=test") && e.contains("empty"),
            "{e}"
        );
        assert!(matches!(
            refused("pkcs11:token=other", &pin),
            TokenError::Tokens { count: 0, .. }
        ));
        assert!(matches!(
            refused(KEY, &pin),
            TokenError::Keys { count: 0, .. }
        ));
        assert!(matches!(
            refused("pkcs11:token", &pin),
            TokenError::Uri { .. }
        ));
        let nowhere = format!("{KEY}?module-path=/nowhere.so");
        let e = uri(refused(&nowhere, &pin));
        assert!(e.contains("/nowhere.so"), "{e}");
        let none = SecretKey::generate(&at("pkcs11:token=test", &pin), false);
        assert!(matches!(none, Err(KeyError::Token(TokenError::Uri { .. }))));
        SecretKey::generate(&at(KEY, &pin), false).expect("made");
    });
}

#[test]
fn a_session_that_is_lost_is_an_error_and_the_next_one_is_new() {
    with_token(
        "a_session_that_is_lost_is_an_error_and_the_next_one_is_new",
        || {
            let (_file, pin) = gives(PIN);
            let key = TokenKey::generate(KEY, None, &pin).expect("made");
            assert_eq!(key.sign(b"a").expect("signs").len(), 64);
            key.lose();
            let e = key.sign(b"b").expect_err("lost");
            let said = SignError::Token(e).to_string();
            assert!(
                said.contains(KEY) && said.contains("the token failed"),
                "{said}"
            );
            assert_eq!(key.sign(b"c").expect("a new session").len(), 64);
        },
    );
}
