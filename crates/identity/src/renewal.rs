//! Requests for certificates (PKCS#10, RFC 2986), and those that renew one: the key of the old certificate has signed them too.
//!
//! A request carries a name and a public key, and nothing that a subject could ask for itself. A renewal is a text of three PEM blocks: the request, the
//! old certificate, and [`LABEL`], which is the old key's signature over `ordonnans/1 renewal`, a zero byte and the DER of the request. Whether the request
//! is as it should be is for whoever signs to see; here it is only looked whose it is.

use ordonnans_label::Name;
use ordonnans_message::cose::Algorithm;
use ordonnans_message::limits;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::{
    Certificate, FileSigner, POINT, SecretKey, SignError, Signer, der, signer::verify_with_key,
};

/// What stands before the bytes of a request that an old key signs, so that no other signature of that key is one.
const RENEWAL: &[u8] = b"ordonnans/1 renewal\0";

/// The label of that signature in the text.
const LABEL: &str = "ORDONNANS RENEWAL";

/// Bytes of the text of a renewal: twice what its three parts have at their bounds.
const MAX_TEXT: usize = 64 * 1024;

// Contents of OBJECT IDENTIFIERs: commonName and organizationName (X.520), ecPublicKey and secp256r1 (RFC 5480), ecdsa-with-SHA256 (RFC 5758),
// extensionRequest (RFC 2985), subjectAltName (RFC 5280).
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANISATION: &[u8] = &[0x55, 4, 10];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ECDSA_SHA_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// `[0]` of a request's attributes, and `[2]` of a DNS name.
const ATTRIBUTES: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;

/// PEM (RFC 7468) of something that is no secret.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// A request (PKCS#10, DER) for a certificate that names this subject, on this key.
///
/// # Errors
/// [`SignError`]: the key is out of reach.
pub fn certificate_request(name: &Name, key: &SecretKey) -> Result<Vec<u8>, SignError> {
    let sequence = |parts: &[&[u8]]| der::tlv(der::SEQUENCE, &parts.concat());
    let oid = |content: &[u8]| der::tlv(der::OID, content);
    let bits = |octets: &[u8]| der::tlv(der::BIT_STRING, &[&[0], octets].concat());
    let named = |kind: &[u8], text: &str| {
        let pair = sequence(&[&oid(kind), &der::tlv(der::UTF8, text.as_bytes())]);
        der::tlv(der::SET, &pair)
    };
    let subject = sequence(&[
        &named(ORGANISATION, "Ordonnans"),
        &named(COMMON_NAME, name.as_str()),
    ]);
    let kind = sequence(&[&oid(EC_PUBLIC_KEY), &oid(P_256)]);
    let spki = sequence(&[&kind, &bits(key.public_key())]);
    let dns = sequence(&[&der::tlv(DNS_NAME, name.as_str().as_bytes())]);
    let extension = sequence(&[&oid(ALTERNATIVE_NAME), &der::tlv(der::OCTET_STRING, &dns)]);
    let extensions = der::tlv(der::SET, &sequence(&[&extension]));
    let attributes = der::tlv(
        ATTRIBUTES,
        &sequence(&[&oid(EXTENSION_REQUEST), &extensions]),
    );
    let info = sequence(&[&der::unsigned(&[0]), &subject, &spki, &attributes]);
    let signature = bits(&key.sign_der(&info)?);
    Ok(sequence(&[
        &info,
        &sequence(&[&oid(ECDSA_SHA_256)]),
        &signature,
    ]))
}

/// Why something is no renewal. Nobody acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRenewal {
    /// Larger than any.
    #[error("it is larger than a request for a renewal can be")]
    TooLarge,
    /// No request on a key on P-256, no certificate, or no signature.
    #[error("it is no request, certificate and signature of a renewal")]
    Form,
    /// The old key has not signed this request.
    #[error("the key of the old certificate has not signed it")]
    Signature,
}

/// A request for the next certificate of a subject, which the key of the one before has signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Renewal {
    request: Vec<u8>,
    key: [u8; POINT],
    old: Certificate,
    signature: Vec<u8>,
}

impl Renewal {
    /// Has the old key sign a request (DER).
    ///
    /// # Errors
    /// [`SignError`]: the old key is out of reach, or this is no request.
    pub fn sign(request: Vec<u8>, old: &FileSigner) -> Result<Self, SignError> {
        let signature = old.sign(&[RENEWAL, &request].concat())?;
        let key = key_of(&request).ok_or(SignError::Form)?;
        let old = old.certificate().clone();
        Ok(Self {
            request,
            key,
            old,
            signature,
        })
    }

    /// A request (DER) that is said to renew this certificate: the signature is checked.
    ///
    /// # Errors
    /// [`InvalidRenewal`].
    pub fn check(
        request: Vec<u8>,
        old: Certificate,
        signature: Vec<u8>,
    ) -> Result<Self, InvalidRenewal> {
        if request.len() > limits::MAX_REQUEST {
            return Err(InvalidRenewal::TooLarge);
        }
        let key = key_of(&request).ok_or(InvalidRenewal::Form)?;
        let message = [RENEWAL, &request].concat();
        verify_with_key(old.public_key(), Algorithm::Es256, &message, &signature)
            .map_err(|_| InvalidRenewal::Signature)?;
        Ok(Self {
            request,
            key,
            old,
            signature,
        })
    }

    /// Whether a text has the signature of a renewal in it.
    #[must_use]
    pub fn is_in(text: &[u8]) -> bool {
        let begin = format!("-----BEGIN {LABEL}-----");
        text.windows(begin.len()).any(|w| w == begin.as_bytes())
    }

    /// Reads the three blocks, and checks the signature.
    ///
    /// # Errors
    /// [`InvalidRenewal`].
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidRenewal> {
        if text.len() > MAX_TEXT {
            return Err(InvalidRenewal::TooLarge);
        }
        let parts = || {
            let whole = std::str::from_utf8(text).ok()?;
            let (_, rest) = whole.split_once(&format!("-----BEGIN {LABEL}-----"))?;
            let (body, _) = rest.split_once(&format!("-----END {LABEL}-----"))?;
            let body: String = body.split_ascii_whitespace().collect();
            let signature = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
            let request = CertificateSigningRequestDer::from_pem_slice(text).ok()?;
            let old = CertificateDer::from_pem_slice(text).ok()?;
            let old = Certificate::parse_der(&old).ok()?;
            Some((request.to_vec(), old, signature))
        };
        let (request, old, signature) = parts().ok_or(InvalidRenewal::Form)?;
        Self::check(request, old, signature)
    }

    /// The three blocks.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let request = pem("CERTIFICATE REQUEST", &self.request);
        let old = pem("CERTIFICATE", self.old.der());
        request + &old + &pem(LABEL, &self.signature)
    }

    /// The request, DER.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The key that is to be certified: an uncompressed point.
    #[must_use]
    pub fn public_key(&self) -> &[u8; POINT] {
        &self.key
    }

    /// The certificate that is renewed. Its key has signed; whether to believe it is for [`crate::Trust::verify`] to say.
    #[must_use]
    pub fn old(&self) -> &Certificate {
        &self.old
    }

    /// The old key's signature, r and s.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renewal({})", self.old.name())
    }
}

/// The key of a request, where it is one on P-256.
fn key_of(request: &[u8]) -> Option<[u8; POINT]> {
    let (rest, x) = X509CertificationRequest::from_der(request).ok()?;
    let spki = &x.certification_request_info.subject_pki;
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let known = spki.algorithm.algorithm.as_bytes() == EC_PUBLIC_KEY && curve.as_bytes() == P_256;
    let point: [u8; POINT] = spki.subject_public_key.data.as_ref().try_into().ok()?;
    (rest.is_empty() && known && point[0] == 4).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyPlace, PassphraseSource, write_secret_file};

    fn name() -> Name {
        "ncc.node.crisis.example".parse().expect("a name")
    }

    #[test]
    fn a_request_has_the_key_it_was_made_on_and_is_signed_with_it() {
        let key = SecretKey::in_memory().expect("a key");
        let request = certificate_request(&name(), &key).expect("a request");
        assert_eq!(key_of(&request).as_ref(), Some(key.public_key()));
        let (_, x) = X509CertificationRequest::from_der(&request).expect("reads");
        x.verify_signature().expect("its own");
        for cut in 0..request.len() {
            assert_eq!(key_of(&request[..cut]), None);
        }
    }

    #[test]
    fn a_key_is_made_as_the_other_one_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let (old, new) = (dir.path().join("old.pem"), dir.path().join("new.pem"));
        let phrase = dir.path().join("phrase");
        std::fs::write(&phrase, "correct horse battery").expect("writes");
        let file = std::fs::File::open(&phrase).expect("opens");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let source: PassphraseSource = format!("fd:{fd}").parse().expect("a source");
        let place = KeyPlace::new(&old, source);
        SecretKey::generate(&place, true).expect("made");
        let made = SecretKey::generate_like(&place.at_file(&new), &place).expect("made");
        let text = std::fs::read_to_string(&new).expect("reads");
        assert!(text.contains("ENCRYPTED PRIVATE KEY"), "{text}");
        let opened = SecretKey::open(&place.at_file(&new)).expect("the same passphrase");
        assert_eq!(opened.public_key(), made.public_key());
        // Never in the place of one, and not from a token.
        assert!(SecretKey::generate_like(&place.at_file(&new), &place).is_err());
        let token = KeyPlace::from(std::path::Path::new("pkcs11:token=a;object=b"));
        let third = place.at_file(&dir.path().join("third.pem"));
        let e = SecretKey::generate_like(&third, &token).expect_err("a token");
        assert!(matches!(e, crate::KeyError::NoFile(_)));
        write_secret_file(&dir.path().join("plain.pem"), b"none").expect("writes");
        let plain = place.at_file(&dir.path().join("plain.pem"));
        assert!(SecretKey::generate_like(&third, &plain).is_err());
    }
}
