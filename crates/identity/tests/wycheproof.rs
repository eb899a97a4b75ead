//! Published edge cases of signatures (Wycheproof, CCTV) through the functions that verify statements, checkpoints and certificates.

mod published;

use ordonnans_identity::{ed25519, verify_with_key};
use ordonnans_message::cose::Algorithm;
use published::{bytes, cases, vectors};
use rustls_pki_types::SignatureVerificationAlgorithm;

/// A file's cases say `valid` where we do, and `invalid` where we do not.
fn agree(name: &str, verifies: impl Fn(&[u8], &[u8], &[u8]) -> bool) {
    cases(name, |group, case| {
        let key = &group["publicKey"];
        let form = if key["pk"].is_string() {
            "pk"
        } else {
            "uncompressed"
        };
        let key = bytes(key, form);
        let valid = verifies(&key, &bytes(case, "msg"), &bytes(case, "sig"));
        assert_eq!(valid, case["result"] == "valid", "{name}: {case}");
    });
}

#[test]
fn statements_are_verified_as_wycheproof_says() {
    let by = |algorithm| {
        move |key: &[u8], message: &[u8], signature: &[u8]| {
            verify_with_key(key, algorithm, message, signature).is_ok()
        }
    };
    agree("ecdsa_secp256r1_sha256_p1363", by(Algorithm::Es256));
    agree("ecdsa_secp384r1_sha384_p1363", by(Algorithm::Es384));
    agree("ed25519", by(Algorithm::EdDsa));
}

#[test]
fn checkpoints_are_verified_as_wycheproof_says() {
    agree("ed25519", |key, message, signature| {
        let key = key.try_into().expect("32 bytes");
        ed25519::verify(key, message, signature).is_ok()
    });
}

#[test]
fn certificates_are_verified_as_wycheproof_says() {
    let by = |algorithm: &'static dyn SignatureVerificationAlgorithm| {
        move |key: &[u8], message: &[u8], signature: &[u8]| {
            algorithm.verify_signature(key, message, signature).is_ok()
        }
    };
    agree(
        "ecdsa_secp256r1_sha256",
        by(webpki::ring::ECDSA_P256_SHA256),
    );
    agree(
        "ecdsa_secp384r1_sha384",
        by(webpki::ring::ECDSA_P384_SHA384),
    );
    agree("ed25519", by(webpki::ring::ED25519));
}

/// What no formula may accept (RFC 8032 section 5.1.7): a first half that is written otherwise than it must be, and low-order parts that do not cancel out
/// where no cofactor is multiplied. Of the rest either answer is allowed, and all our verifiers give the same.
#[test]
fn points_that_are_not_canonical_are_refused_and_all_verifiers_agree() {
    let Some(all) = vectors("cctv/ed25519/ed25519vectors.json") else {
        return;
    };
    let all = all.as_array().expect("cases");
    for case in all {
        let (key, signature) = (bytes(case, "key"), bytes(case, "sig"));
        let message = case["msg"].as_str().expect("text").as_bytes();
        let key: [u8; 32] = key.try_into().expect("32 bytes");
        let ours = ed25519::verify(&key, message, &signature).is_ok();
        let statement = verify_with_key(&key, Algorithm::EdDsa, message, &signature).is_ok();
        let certificate = webpki::ring::ED25519.verify_signature(&key, message, &signature);
        assert_eq!((ours, ours), (statement, certificate.is_ok()), "{case}");
        // A case without flags, as JSON has them, carries null.
        let flags = case["flags"].as_array().map_or(&[][..], Vec::as_slice);
        let refused = ["non_canonical_R", "low_order_residue"];
        if refused.iter().any(|f| flags.iter().any(|flag| flag == f)) {
            assert!(!ours, "{case}");
        }
    }
    println!("cctv ed25519: {} cases", all.len());
}
