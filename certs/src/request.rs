//! Requests for certificates (PKCS#10, RFC 2986), and the fingerprint that two people compare.
//!
//! A request says one thing: whose key this is. It carries a name and a public key and is signed with that key. What the subject may hold, what the
//! certificate is for and how long it lives is said by whoever signs, and a request that asks for any of it is refused.

use std::fmt;
use std::path::Path;

use data_encoding::HEXUPPER;
use ordonnans_identity::{
    FileSigner, POINT, Renewal, SecretKey, SignError, certificate_request, pem,
};
use ordonnans_label::{InvalidName, Name};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo,
};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension};

/// Bytes of a request file: a hundred times what one with a name and a key needs.
const MAX_BYTES: u64 = 64 * 1024;

/// Groups of a fingerprint, of four hexadecimal digits each: 128 bits, so that nobody makes a second key of the same.
const GROUPS: usize = 8;

/// The fingerprint of a public key, as it is read out over the telephone: the first half of the SHA-256 of its `SubjectPublicKeyInfo`.
///
/// `openssl req -in request.pem -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum` says the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; GROUPS * 2]);

impl Fingerprint {
    pub(crate) fn of(key: &impl PublicKeyData) -> Self {
        let whole = digest(&SHA256, &key.subject_public_key_info());
        let mut half = [0; GROUPS * 2];
        half.copy_from_slice(&whole.as_ref()[..GROUPS * 2]);
        Self(half)
    }

    /// Whether a text says the same: all its digits, in any case, whatever stands between them.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let apart = |c: &char| !c.is_whitespace() && !matches!(c, '-' | ':' | '.');
        let digits: String = text.chars().filter(apart).collect();
        digits.to_ascii_uppercase() == HEXUPPER.encode(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.0.chunks(2).enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}", HEXUPPER.encode(group))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Why a request was refused. Nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// The file.
    #[error("the request {path} cannot be read: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Too large for a request.
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Something else.
    #[error("it is no certificate request in PEM (PKCS#10)")]
    Malformed,
    /// Whoever made it has another key than the one it names, or it was changed.
    #[error("its signature does not fit the key in it: it was damaged, or is somebody else's")]
    Signature,
    /// A key the programs do not use.
    #[error("its key is none on P-256, which is the only kind in use")]
    Key,
    /// No name, more than one, or one of another kind.
    #[error("it names its subject by other than exactly one DNS name")]
    Names,
    /// The name has not the form of a subject here.
    #[error("its name is not <name>.<kind>.<structure>: {0}")]
    Name(InvalidName),
    /// The old key has not signed this, or the certificate beside it is none.
    #[error(
        "it says that it renews a certificate, and the key of that certificate has not signed it"
    )]
    Renewal,
    /// It asks for what is not the subject's to say.
    #[error(
        "it asks for more than a name; what a certificate says beside that is said by whoever signs"
    )]
    Asks,
}

/// A request whose form and signature are right. Whether its key is the subject's own is for two people to compare.
#[derive(Debug)]
pub struct Request {
    name: Name,
    key: SubjectPublicKeyInfo,
    renewal: Option<Renewal>,
}

impl Request {
    /// Reads the first request of a PEM file, and checks it.
    ///
    /// # Errors
    /// [`InvalidRequest`].
    pub fn load(path: &Path) -> Result<Self, InvalidRequest> {
        let file = |source| InvalidRequest::File {
            path: path.into(),
            source,
        };
        if std::fs::metadata(path).map_err(file)?.len() > MAX_BYTES {
            return Err(InvalidRequest::TooLarge);
        }
        Self::from_pem(&std::fs::read(path).map_err(file)?)
    }

    /// The same from the text of the file.
    ///
    /// # Errors
    /// [`InvalidRequest`].
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidRequest> {
        if text.len() as u64 > MAX_BYTES {
            return Err(InvalidRequest::TooLarge);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(text)
            .map_err(|_| InvalidRequest::Malformed)?;
        let mut request = Self::from_der(&der)?;
        if Renewal::is_in(text) {
            let renewal = Renewal::from_pem(text).map_err(|_| InvalidRequest::Renewal)?;
            request.renewal = Some(renewal);
        }
        Ok(request)
    }

    fn from_der(der: &[u8]) -> Result<Self, InvalidRequest> {
        let (rest, x) =
            X509CertificationRequest::from_der(der).map_err(|_| InvalidRequest::Malformed)?;
        if !rest.is_empty() {
            return Err(InvalidRequest::Malformed);
        }
        let info = &x.certification_request_info;
        // The key before the signature: of other kinds the verifier knows more than is used here.
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|_| InvalidRequest::Key)?;
        let point = key.der_bytes();
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || point.len() != POINT || point[0] != 4 {
            return Err(InvalidRequest::Key);
        }
        x.verify_signature()
            .map_err(|_| InvalidRequest::Signature)?;
        let mut names = vec![];
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
                return Err(InvalidRequest::Asks);
            };
            for extension in &asked.extensions {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(san) => {
                        names.extend(&san.general_names);
                    }
                    _ => return Err(InvalidRequest::Asks),
                }
            }
        }
        let name = match names.as_slice() {
            [GeneralName::DNSName(name)] => name.parse().map_err(InvalidRequest::Name)?,
            _ => return Err(InvalidRequest::Names),
        };
        let renewal = None;
        Ok(Self { name, key, renewal })
    }

    /// Whom it says it names.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The fingerprint of its key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.key)
    }

    pub(crate) fn renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref()
    }

    pub(crate) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

/// A request (PEM) that the old key signs too: behind it stand the old certificate and the signature.
///
/// # Errors
/// [`SignError`]: the old key is out of reach.
pub fn renewing(request: &str, old: &FileSigner) -> Result<String, SignError> {
    let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes())
        .map_err(|_| SignError::Form)?;
    Ok(Renewal::sign(der.to_vec(), old)?.to_pem())
}

/// A request for a certificate on this key, PEM, and the key's fingerprint.
///
/// # Errors
/// [`SignError`]: the key could not sign.
pub fn request(name: &Name, key: &SecretKey) -> Result<(String, Fingerprint), SignError> {
    let made = certificate_request(name, key)?;
    let text = pem("CERTIFICATE REQUEST", &made);
    Ok((text, Fingerprint::of(&Held(key))))
}

/// A key as certificates are made with it.
pub(crate) struct Held<K>(pub(crate) K);

impl<K: std::borrow::Borrow<SecretKey>> PublicKeyData for Held<K> {
    fn der_bytes(&self) -> &[u8] {
        self.0.borrow().public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl<K: std::borrow::Borrow<SecretKey>> SigningKey for Held<K> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // What is wrong with a token is said where the key is opened; this error carries no text.
        let signed = self.0.borrow().sign_der(message);
        signed.map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
