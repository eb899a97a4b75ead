//! Published edge cases (Wycheproof) of the two halves of the hybrid key exchange: ML-KEM-768, and X25519.

#[path = "../../identity/tests/published/mod.rs"]
mod published;

use libcrux_ml_kem::mlkem768::{
    MlKem768Ciphertext, MlKem768PublicKey, decapsulate, encapsulate, generate_key_pair,
    validate_public_key,
};
use published::{bytes, cases};
use rustls::crypto::ring::kx_group::X25519;
use serde_json::Value;

/// Bytes of a known length; `None` where they have another, which the exchange refuses before it looks at them.
fn exactly<const N: usize>(value: &Value, key: &str) -> Option<[u8; N]> {
    bytes(value, key).try_into().ok()
}

#[test]
fn ml_kem_opens_what_it_must_and_in_one_way() {
    cases("mlkem_768", |_, case| {
        let valid = case["result"] == "valid";
        let (Some(seed), Some(sealed)) = (exactly(case, "seed"), exactly(case, "c")) else {
            assert!(!valid, "{case}");
            return;
        };
        let pair = generate_key_pair(seed);
        if case["ek"].is_string() {
            assert_eq!(
                pair.public_key().as_slice()[..],
                bytes(case, "ek"),
                "{case}"
            );
        }
        let secret = decapsulate(pair.private_key(), &MlKem768Ciphertext::from(sealed));
        assert_eq!(secret[..] == bytes(case, "K"), valid, "{case}");
    });
    cases("mlkem_768_keygen_seed", |_, case| {
        let pair = generate_key_pair(exactly(case, "seed").expect("64 bytes"));
        assert_eq!(
            pair.public_key().as_slice()[..],
            bytes(case, "ek"),
            "{case}"
        );
        assert_eq!(
            pair.private_key().as_slice()[..],
            bytes(case, "dk"),
            "{case}"
        );
    });
}

#[test]
fn ml_kem_refuses_keys_beyond_the_modulus() {
    cases("mlkem_768_encaps", |_, case| {
        let valid = case["result"] == "valid";
        let Some(key) = exactly(case, "ek") else {
            assert!(!valid, "{case}");
            return;
        };
        let key = MlKem768PublicKey::from(key);
        assert_eq!(validate_public_key(&key), valid, "{case}");
        if valid {
            let (sealed, secret) = encapsulate(&key, exactly(case, "m").expect("32 bytes"));
            assert_eq!(sealed.as_slice()[..], bytes(case, "c"), "{case}");
            assert_eq!(secret[..], bytes(case, "K"), "{case}");
        }
    });
}

/// Whoever sends a point of low order knows the secret whatever we chose (RFC 7748 section 6.1). The library takes no private key, so that of these vectors
/// only the public ones are used.
#[test]
fn x25519_refuses_every_point_of_low_order() {
    cases("x25519", |_, case| {
        let known = bytes(case, "shared").iter().all(|b| *b == 0);
        let agreed = X25519
            .start()
            .expect("starts")
            .complete(&bytes(case, "public"));
        assert_eq!(agreed.is_err(), known, "{case}");
    });
}
