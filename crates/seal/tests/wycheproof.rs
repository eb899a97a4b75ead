//! Published edge cases (Wycheproof) of the primitives that content is sealed with: AES-256-GCM, and the HMAC of the key commitment.

#[path = "../../identity/tests/published/mod.rs"]
mod published;

use published::{bytes, cases};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

#[test]
fn aes_256_gcm_opens_what_wycheproof_calls_valid_and_nothing_else() {
    cases("aes_gcm", |group, case| {
        // Other sizes have no form here: keys have 32 bytes, nonces 12, tags 16.
        if group["keySize"] != 256 || group["tagSize"] != 128 {
            return;
        }
        let valid = case["result"] == "valid";
        let Ok(nonce) = Nonce::try_assume_unique_for_key(&bytes(case, "iv")) else {
            assert_ne!(group["ivSize"], 96);
            return;
        };
        let key = UnboundKey::new(&AES_256_GCM, &bytes(case, "key")).expect("32 bytes");
        let key = LessSafeKey::new(key);
        let mut sealed = [bytes(case, "ct"), bytes(case, "tag")].concat();
        let opened = key.open_in_place(nonce, Aad::from(bytes(case, "aad")), &mut sealed);
        assert_eq!(opened.is_ok(), valid, "{case}");
        let Ok(plain) = opened else {
            return;
        };
        assert_eq!(plain, bytes(case, "msg"), "{case}");
        let nonce = Nonce::try_assume_unique_for_key(&bytes(case, "iv")).expect("12 bytes");
        let mut again = bytes(case, "msg");
        key.seal_in_place_append_tag(nonce, Aad::from(bytes(case, "aad")), &mut again)
            .expect("seals");
        assert_eq!(
            again,
            [bytes(case, "ct"), bytes(case, "tag")].concat(),
            "{case}"
        );
    });
}

#[test]
fn hmac_sha_256_is_the_one_of_wycheproof() {
    cases("hmac_sha256", |group, case| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(case, "key"));
        let (tag, message) = (bytes(case, "tag"), bytes(case, "msg"));
        // Shorter tags are compared in part; here a tag is whole.
        if group["tagSize"] == 256 {
            let valid = hmac::verify(&key, &message, &tag).is_ok();
            assert_eq!(valid, case["result"] == "valid", "{case}");
        } else if case["result"] == "valid" {
            assert_eq!(
                hmac::sign(&key, &message).as_ref()[..tag.len()],
                tag,
                "{case}"
            );
        }
    });
}
