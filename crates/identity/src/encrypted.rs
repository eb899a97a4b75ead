//! Private keys at rest under a passphrase: `EncryptedPrivateKeyInfo` (PKCS#8, RFC 5958 section 3) with PBES2 (RFC 8018 section 6.2).
//!
//! Written: scrypt (RFC 7914) with N = 2^14, r = 8, p = 1, and AES-256-CBC. Read: scrypt or PBKDF2 with HMAC-SHA-256, and AES-256-CBC, which is what
//! `openssl pkcs8 -topk8 -v2 aes-256-cbc` makes with and without `-scrypt`. PBES1, DES, 3DES and SHA-1 are refused by name.

use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::EncryptionScheme as Scheme;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Prf};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::{Passphrase, der};

/// A guess costs about 30 ms and 16 MiB (RFC 7914 section 2): the most that openssl opens, too, with its own bounds.
const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 1;

/// What a file may make its reader do: scrypt over 1 GiB in all, ten million rounds of PBKDF2.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
const MAX_ROUNDS: u32 = 10_000_000;

/// The label of the PEM (RFC 7468 section 11).
pub(crate) const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// Why an encrypted key was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// Not `EncryptedPrivateKeyInfo`.
    #[error("it is no encrypted key of PKCS#8")]
    Malformed,
    /// A scheme that is too weak, or unknown.
    #[error(
        "it is encrypted otherwise than with PBES2, scrypt or PBKDF2-SHA256, and AES-256-CBC; encrypt it anew"
    )]
    Scheme,
    /// More work than a key file may ask for.
    #[error("its key derivation asks for more work than is done; encrypt it anew")]
    Cost,
    /// The passphrase is another one, or the file was changed.
    #[error("the passphrase does not open it")]
    Passphrase,
}

/// The key inside, PKCS#8 DER.
pub(crate) fn open(der: &[u8], with: &Passphrase) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let sealed = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| {
        if has_form(der) {
            DecryptError::Scheme
        } else {
            DecryptError::Malformed
        }
    })?;
    let Scheme::Pbes2(how) = &sealed.encryption_algorithm else {
        return Err(DecryptError::Scheme);
    };
    if !matches!(how.encryption, EncryptionScheme::Aes256Cbc { .. }) {
        return Err(DecryptError::Scheme);
    }
    match &how.kdf {
        Kdf::Pbkdf2(p) if p.prf != Pbkdf2Prf::HmacWithSha256 => return Err(DecryptError::Scheme),
        Kdf::Pbkdf2(p) if p.iteration_count > MAX_ROUNDS => return Err(DecryptError::Cost),
        Kdf::Scrypt(p)
            if p.cost_parameter
                .saturating_mul(128)
                .saturating_mul(p.block_size.into())
                .saturating_mul(p.parallelization.into())
                > MAX_SCRYPT_BYTES =>
        {
            return Err(DecryptError::Cost);
        }
        Kdf::Pbkdf2(_) | Kdf::Scrypt(_) => {}
        _ => return Err(DecryptError::Scheme),
    }
    let opened = how.decrypt(with.expose(), sealed.encrypted_data.as_bytes());
    let key = opened
        .map(Zeroizing::new)
        .map_err(|_| DecryptError::Passphrase)?;
    // CBC does not authenticate: of 256 wrong passphrases one leaves a padding that looks right.
    if PrivateKeyInfoRef::try_from(key.as_slice()).is_err() {
        return Err(DecryptError::Passphrase);
    }
    Ok(key)
}

/// Whether this is an encrypted key of any scheme: an algorithm, and octets (RFC 5958 section 3).
fn has_form(der: &[u8]) -> bool {
    let Some(mut inside) = der::only(der, der::SEQUENCE) else {
        return false;
    };
    let mut next = |tag| der::next(&mut inside, tag).is_some();
    next(der::SEQUENCE) && next(der::OCTET_STRING)
}

/// A key (PKCS#8 DER) under a passphrase, as PEM; `None` where the system gives no random numbers.
pub(crate) fn seal(pkcs8: &[u8], with: &Passphrase) -> Option<Zeroizing<String>> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = SystemRandom::new();
    random.fill(&mut salt).ok()?;
    random.fill(&mut iv).ok()?;
    let cost = pkcs8::pkcs5::scrypt::Params::new(LOG_N, R, P).ok()?;
    let how = Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).ok()?;
    let data = how.encrypt(with.expose(), pkcs8).ok()?;
    let sealed = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: how.into(),
        encrypted_data: OctetStringRef::new(&data).ok()?,
    };
    let document = SecretDocument::try_from(&sealed).ok()?;
    document.to_pem(LABEL, pkcs8::LineEnding::LF).ok()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn phrase(text: &str) -> Passphrase {
        Passphrase::of(text)
    }

    fn der(pem: &str) -> Vec<u8> {
        let body: String = pem.lines().filter(|l| !l.starts_with("--")).collect();
        BASE64.decode(body.as_bytes()).expect("base 64")
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let how = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = ring::signature::EcdsaKeyPair::generate_pkcs8(how, &SystemRandom::new());
        let key = key.expect("a key");
        let pem = seal(key.as_ref(), &phrase("correct horse")).expect("sealed");
        assert!(
            pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
            "a label"
        );
        let again = seal(key.as_ref(), &phrase("correct horse")).expect("sealed");
        assert_ne!(pem, again, "salt and vector are new");
        let bytes = der(&pem);
        let opened = open(&bytes, &phrase("correct horse")).expect("opens");
        assert_eq!(opened.as_slice(), key.as_ref());
        let other = open(&bytes, &phrase("correct horsf"));
        assert_eq!(other.expect_err("another"), DecryptError::Passphrase);
        // What opens, and is no key, is the sign of another passphrase.
        let padded = der(&seal(b"no key", &phrase("correct horse")).expect("sealed"));
        let none = open(&padded, &phrase("correct horse"));
        assert_eq!(none.expect_err("no key"), DecryptError::Passphrase);
        for cut in 0..bytes.len() {
            assert!(
                open(&bytes[..cut], &phrase("correct horse")).is_err(),
                "{cut}"
            );
        }
    }

    #[test]
    fn weak_and_costly_schemes_are_refused_before_any_work() {
        let costly = |kdf: Kdf, encryption: EncryptionScheme| {
            let sealed = EncryptedPrivateKeyInfoRef {
                encryption_algorithm: Parameters { kdf, encryption }.into(),
                encrypted_data: OctetStringRef::new(&[0; 16]).expect("bytes"),
            };
            let document = SecretDocument::try_from(&sealed).expect("encodes");
            open(document.as_bytes(), &phrase("correct horse")).expect_err("refused")
        };
        let cbc = || EncryptionScheme::Aes256Cbc { iv: [0; 16] };
        let rounds =
            |n| pkcs8::pkcs5::pbes2::Pbkdf2Params::hmac_sha256(n, &[1; 16]).expect("bounds");
        assert_eq!(
            costly(rounds(MAX_ROUNDS + 1).into(), cbc()),
            DecryptError::Cost
        );
        let scrypt = pkcs8::pkcs5::scrypt::Params::new(21, 8, 1).expect("bounds");
        let scrypt = pkcs8::pkcs5::pbes2::ScryptParams::from_params_and_salt(scrypt, &[1; 16]);
        assert_eq!(
            costly(scrypt.expect("bounds").into(), cbc()),
            DecryptError::Cost
        );
        let mut sha1 = rounds(1000);
        sha1.prf = Pbkdf2Prf::HmacWithSha1;
        assert_eq!(costly(sha1.into(), cbc()), DecryptError::Scheme);
        let small = EncryptionScheme::Aes128Cbc { iv: [0; 16] };
        assert_eq!(costly(rounds(1000).into(), small), DecryptError::Scheme);
    }
}
