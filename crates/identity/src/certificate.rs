//! One certificate, read once.

use ordonnans_label::Name;
use ordonnans_message::{Digest, Timestamp, sha256};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{Certified, clearance};

/// A subject's certificate whose form is right. Only [`crate::Trust::verify`] says whether to believe it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    name: Name,
    certified: Certified,
    serial: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: Vec<u8>,
    client: bool,
    server: bool,
}

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// Not an X.509 certificate, or bytes are left over.
    #[error("not an X.509 certificate")]
    Malformed,
    /// No subject alternative name, more than one, or one of another kind than DNS.
    #[error("a certificate names its subject by exactly one DNS name and nothing else")]
    Names,
    /// The DNS name is not of the form `<name>.<kind>.<structure>`.
    #[error("the DNS name of the certificate is not <name>.<kind>.<structure>")]
    Name,
    /// No extended key usage, or one that allows neither side of a connection.
    #[error("the certificate lacks an extended key usage for TLS")]
    Usage,
    /// The key is of a kind that nothing here verifies with, such as RSA or a weak curve.
    #[error("the certificate's key is none of P-256, P-384 and Ed25519")]
    Key,
    /// The clearance attribute cannot be read.
    #[error("the certificate's clearance cannot be read")]
    Clearance,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`InvalidCertificate`]; the caller refuses the subject.
    pub fn parse_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let (rest, x) =
            X509Certificate::from_der(der).map_err(|_| InvalidCertificate::Malformed)?;
        if !rest.is_empty() {
            return Err(InvalidCertificate::Malformed);
        }
        let san = x
            .subject_alternative_name()
            .map_err(|_| InvalidCertificate::Names)?;
        let name = match san.as_ref().map(|s| s.value.general_names.as_slice()) {
            Some([GeneralName::DNSName(name)]) => {
                name.parse().map_err(|_| InvalidCertificate::Name)?
            }
            _ => return Err(InvalidCertificate::Names),
        };
        let usage = x
            .extended_key_usage()
            .map_err(|_| InvalidCertificate::Usage)?;
        let usage = usage.ok_or(InvalidCertificate::Usage)?.value;
        if !usage.client_auth && !usage.server_auth {
            return Err(InvalidCertificate::Usage);
        }
        if !strong(x.public_key()) {
            return Err(InvalidCertificate::Key);
        }
        let certified = clearance::extension(&x, clearance::EXTENSION)
            .and_then(|value| value.map_or(Ok(Certified::default()), clearance::from_extension))
            .map_err(|_| InvalidCertificate::Clearance)?;
        let time =
            |t: i64| Timestamp::from_millis(u64::try_from(t).unwrap_or(0).saturating_mul(1000));
        Ok(Self {
            name,
            certified,
            serial: x.tbs_certificate.raw_serial().to_vec(),
            not_before: time(x.validity().not_before.timestamp()),
            not_after: time(x.validity().not_after.timestamp()),
            public_key: x.public_key().subject_public_key.data.to_vec(),
            client: usage.client_auth,
            server: usage.server_auth,
            der: der.to_vec(),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`InvalidCertificate`]; [`InvalidCertificate::Malformed`] also where there is none.
    pub fn from_pem(text: &[u8]) -> Result<Self, InvalidCertificate> {
        let der = CertificateDer::from_pem_slice(text);
        Self::parse_der(&der.map_err(|_| InvalidCertificate::Malformed)?)
    }

    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whom it names.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What the subject may hold, by numbers; nothing where it says nothing. In a certificate from [`crate::Trust::verify`] this is cut to
    /// what the authorities above it may give (RFC 5913); in one that was only read it is what the certificate claims.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.certified
    }

    /// The same, with no more than this.
    pub(crate) fn within(mut self, limit: &Certified) -> Self {
        self.certified = self.certified.meet(limit);
        self
    }

    /// SHA-256 of the DER: what x5t carries.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        sha256(&[&self.der])
    }

    /// The serial number's bytes.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// From when it is valid.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is time for another one: a third of its life is left, or less.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.since(self.not_before);
        self.not_after.since(now) <= life / 3
    }

    /// Whether no more than so many hundredths of its life are left.
    #[must_use]
    pub fn is_within(&self, percent: u8, now: Timestamp) -> bool {
        let life = self.not_after.since(self.not_before);
        self.not_after.since(now) <= life / 100 * u64::from(percent)
    }

    /// The public key: the uncompressed point of an elliptic curve, or the 32 bytes of Ed25519.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Whether it may open connections.
    #[must_use]
    pub fn allows_client(&self) -> bool {
        self.client
    }

    /// Whether it may accept connections.
    #[must_use]
    pub fn allows_server(&self) -> bool {
        self.server
    }
}

/// Whether a key is of one of the three kinds (RFC 5480 section 2.1.1, RFC 8410 section 3).
fn strong(key: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = || {
        let named = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
        Some(named.to_id_string())
    };
    match key.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => matches!(
            curve().as_deref(),
            Some("1.2.840.10045.3.1.7" | "1.3.132.0.34")
        ),
        "1.3.101.112" => true,
        _ => false,
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.name)
    }
}
