//! Making certificates and lists: the profile, in one place.

use std::sync::Arc;

use ordonnans_identity::{SecretKey, Unwritable, clearance};
use ordonnans_label::{Clearances, Kind, Name, Policies};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    PublicKeyData, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::request::Held;

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The certificate or list.
    #[error("the certificate could not be made: {0}")]
    Certificate(rcgen::Error),
    /// The key that should sign it is out of reach.
    #[error(
        "the key could not sign; where it is in a token, the token was taken out or has closed"
    )]
    Key,
    /// The clearances that should stand in it.
    #[error("the clearance cannot stand in a certificate: {0}")]
    Clearance(#[from] Unwritable),
}

impl From<rcgen::Error> for MintError {
    fn from(e: rcgen::Error) -> Self {
        match e {
            // What `Held` says, which is all that it can.
            rcgen::Error::RemoteKeyError => Self::Key,
            e => Self::Certificate(e),
        }
    }
}

/// From when until when something is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: OffsetDateTime,
    /// The last second.
    pub until: OffsetDateTime,
}

/// A certificate and its key, as an authority hands them out.
pub struct Issued {
    /// Whom it names.
    pub name: Name,
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// Its serial number.
    pub serial: Vec<u8>,
    /// Its key.
    key: KeyPair,
}

impl Issued {
    /// The key, PKCS#8 DER. It is a secret: the caller keeps it in a file of mode 0600 or in memory.
    #[must_use]
    pub fn key_pkcs8(&self) -> Vec<u8> {
        self.key.serialize_der()
    }

    /// The public key.
    pub(crate) fn public_key(&self) -> &impl PublicKeyData {
        &self.key
    }

    /// The key, PKCS#8 PEM: a secret likewise.
    pub(crate) fn key_pem(&self) -> Zeroizing<String> {
        self.key.serialize_pem().into()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({})", self.name)
    }
}

/// A flaw that a certificate is given on purpose, so that a test can see it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No extended key usage.
    NoUsage,
    /// A second DNS name.
    TwoNames,
    /// No name at all.
    NoName,
    /// A URI beside the DNS name.
    Uri,
    /// The clearance extension is critical.
    CriticalClearance,
    /// The DNS name has a kind that there is not.
    OtherKind,
    /// The key is RSA of 1024 bits.
    WeakKey,
}

/// The public half of an RSA key of 1024 bits whose other half nobody has; RSAPublicKey of RFC 8017, appendix A.1.1. The libraries here make none.
struct Weak;

#[rustfmt::skip]
const WEAK: [u8; 140] = [
    0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00, 0xb4, 0x08, 0x77, 0xb8, 0x8a, 0x89, 0xcf, 0x1c, 0x27,
    0xfa, 0xcc, 0x3a, 0x28, 0x63, 0x90, 0x66, 0xda, 0xea, 0x0f, 0xee, 0xf3, 0x4c, 0xdc, 0xcb, 0x39,
    0x61, 0xca, 0xf4, 0x2b, 0xb6, 0xda, 0xa8, 0xcd, 0x80, 0x5a, 0x4c, 0xdc, 0x6d, 0x52, 0x8f, 0xa6,
    0x25, 0xdd, 0x64, 0x4e, 0x8c, 0x59, 0x18, 0xc6, 0x09, 0xbf, 0x01, 0xc2, 0x87, 0x7e, 0xd8, 0xf3,
    0xc6, 0xd8, 0x12, 0xcb, 0x09, 0x6c, 0x2f, 0xca, 0x54, 0xe2, 0x26, 0xcd, 0x70, 0x2c, 0xc9, 0x8a,
    0x57, 0xdc, 0x75, 0x82, 0x1a, 0xf2, 0x14, 0x2e, 0xdb, 0xe7, 0xbb, 0x77, 0x68, 0x6b, 0x80, 0x27,
    0x91, 0x4b, 0x26, 0x8a, 0x2a, 0x25, 0x3c, 0xa6, 0x3e, 0xa6, 0x3d, 0x66, 0x7e, 0xfa, 0xa0, 0xcb,
    0x37, 0x5d, 0xf1, 0x82, 0xfe, 0x62, 0xba, 0x13, 0xa2, 0x23, 0x0f, 0xde, 0xe7, 0x6e, 0xaa, 0x0c,
    0xd3, 0xe0, 0xae, 0xd3, 0x4a, 0x8a, 0xc1, 0x02, 0x03, 0x01, 0x00, 0x01,
];

impl PublicKeyData for Weak {
    fn der_bytes(&self) -> &[u8] {
        &WEAK
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

/// The name of an authority: the first one has no number.
pub(crate) fn common(structure: &str, role: &str, generation: usize) -> String {
    match generation {
        ..=1 => format!("{structure} {role}"),
        n => format!("{structure} {role} {n}"),
    }
}

pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    /// The last second it is valid.
    pub(crate) until: OffsetDateTime,
    issuer: Issuer<'static, Held<Arc<SecretKey>>>,
    key: Arc<SecretKey>,
}

/// The names of a subject whose common name is this.
pub(crate) fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Ordonnans");
    name.push(DnType::CommonName, common);
    name
}

/// Whether the authority of one certificate has signed another.
pub(crate) fn has_signed(authority: &[u8], certificate: &[u8]) -> bool {
    let Ok((_, x)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok((_, authority)) = X509Certificate::from_der(authority) else {
        return false;
    };
    x.issuer() == authority.subject() && x.verify_signature(Some(authority.public_key())).is_ok()
}

/// What an authority may give, as its extension carries it (RFC 5913); nothing means that it is not held to anything.
pub(crate) fn constraint(
    up_to: &Clearances,
    policies: &Policies,
) -> Result<Option<Vec<u8>>, MintError> {
    if up_to.iter().next().is_none() {
        return Ok(None);
    }
    Ok(Some(clearance::constraints_value(up_to, policies)?))
}

/// The value of an authority's constraint, as its certificate carries it.
pub(crate) fn constraint_of_certificate(der: &[u8]) -> Option<Vec<u8>> {
    let (_, x) = X509Certificate::from_der(der).ok()?;
    let oid: Vec<String> = clearance::CONSTRAINTS.iter().map(u64::to_string).collect();
    let oid = oid.join(".");
    let mut all = x.extensions().iter();
    let found = all.find(|e| e.oid.to_id_string() == oid)?;
    Some(found.value.to_vec())
}

fn constrain(p: &mut CertificateParams, constraint: Option<Vec<u8>>) {
    // Not critical: the verifier refuses critical extensions it does not know.
    p.custom_extensions = constraint
        .map(|value| CustomExtension::from_oid_content(clearance::CONSTRAINTS, value))
        .into_iter()
        .collect();
}

fn params(common: &str, validity: Validity) -> CertificateParams {
    let mut p = CertificateParams::default();
    p.distinguished_name = named(common);
    p.not_before = validity.from;
    p.not_after = validity.until;
    p.use_authority_key_identifier_extension = true;
    p
}

impl Authority {
    fn new(
        certificate: CertificateDer<'static>,
        p: CertificateParams,
        key: Arc<SecretKey>,
    ) -> Self {
        Self {
            certificate,
            until: p.not_after,
            issuer: Issuer::new(p, Held(Arc::clone(&key))),
            key,
        }
    }

    /// An offline root on this key, and the value of its constraint.
    pub(crate) fn root(
        key: SecretKey,
        common: &str,
        validity: Validity,
        constraint: Option<Vec<u8>>,
    ) -> Result<Self, MintError> {
        let key = Arc::new(key);
        let mut p = params(common, validity);
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        constrain(&mut p, constraint);
        let certificate = p.self_signed(&Held(&*key))?.der().clone();
        Ok(Self::new(certificate, p, key))
    }

    /// An authority as it was kept: its certificate, PEM, and its key. A key of another certificate is refused: nobody would believe
    /// what it signs.
    pub(crate) fn load(certificate: &str, key: SecretKey) -> Result<Self, MintError> {
        let unread = |_| rcgen::Error::CouldNotParseCertificate;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let key = Arc::new(key);
        let (_, x) = X509Certificate::from_der(&der).map_err(unread)?;
        if key.public_key()[..] != *x.public_key().subject_public_key.data {
            return Err(rcgen::Error::CouldNotParseKeyPair.into());
        }
        Ok(Self {
            until: x.validity().not_after.to_datetime(),
            issuer: Issuer::from_ca_cert_der(&der, Held(Arc::clone(&key)))?,
            certificate: der,
            key,
        })
    }

    /// The issuing authority on this key: signs leaves only, and only below the structure. Nobody below it holds more than its constraint says.
    pub(crate) fn issuing(
        &self,
        key: SecretKey,
        common: &str,
        structure: &str,
        validity: Validity,
        constraint: Option<Vec<u8>>,
    ) -> Result<Self, MintError> {
        self.issuing_of(Arc::new(key), common, structure, validity, constraint)
    }

    /// The same issuing authority with another constraint: its name and key stay, and what it has signed.
    pub(crate) fn renewed(
        &self,
        issuing: &Self,
        structure: &str,
        validity: Validity,
        constraint: Option<Vec<u8>>,
    ) -> Result<Self, MintError> {
        let (key, common) = (Arc::clone(&issuing.key), common(structure, "issuing", 1));
        self.issuing_of(key, &common, structure, validity, constraint)
    }

    fn issuing_of(
        &self,
        key: Arc<SecretKey>,
        common: &str,
        structure: &str,
        validity: Validity,
        constraint: Option<Vec<u8>>,
    ) -> Result<Self, MintError> {
        let mut p = params(common, validity);
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let permitted_subtrees = vec![GeneralSubtree::DnsName(structure.into())];
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees,
            excluded_subtrees: vec![],
        });
        constrain(&mut p, constraint);
        let certificate = p.signed_by(&Held(&*key), &self.issuer)?.der().clone();
        Ok(Self::new(certificate, p, key))
    }

    /// A leaf and its key. `serial` must be new for this authority. One that holds nothing says nothing of it.
    pub(crate) fn leaf(
        &self,
        name: &Name,
        holds: (&Clearances, &Policies),
        validity: Validity,
        serial: u64,
        flaw: Option<Flaw>,
    ) -> Result<Issued, MintError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Issued {
            name: name.clone(),
            certificate: self.certify(&key, name, holds, validity, serial, flaw)?,
            serial: serial.to_be_bytes().to_vec(),
            key,
        })
    }

    /// The certificate of a leaf whose key is its own.
    pub(crate) fn certify(
        &self,
        key: &impl PublicKeyData,
        name: &Name,
        (holds, policies): (&Clearances, &Policies),
        validity: Validity,
        serial: u64,
        flaw: Option<Flaw>,
    ) -> Result<CertificateDer<'static>, MintError> {
        let mut p = params(name.as_str(), validity);
        p.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = match (flaw, name.kind()) {
            (Some(Flaw::NoUsage), _) => vec![],
            (_, Kind::Broker) => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let dns = |n: &str| n.try_into().map(SanType::DnsName);
        p.subject_alt_names = match flaw {
            Some(Flaw::NoName) => vec![],
            Some(Flaw::OtherKind) => {
                let other = format!("{}.printer.{}", name.local(), name.structure());
                vec![dns(&other)?]
            }
            Some(Flaw::TwoNames) => vec![dns(name.as_str())?, dns(&format!("x{name}"))?],
            Some(Flaw::Uri) => vec![
                dns(name.as_str())?,
                SanType::URI("crisis://other".try_into()?),
            ],
            _ => vec![dns(name.as_str())?],
        };
        if holds.iter().next().is_some() {
            let value = clearance::extension_value(holds, policies)?;
            let mut extension = CustomExtension::from_oid_content(clearance::EXTENSION, value);
            extension.set_criticality(flaw == Some(Flaw::CriticalClearance));
            p.custom_extensions = vec![extension];
        }
        let certificate = match flaw {
            Some(Flaw::WeakKey) => p.signed_by(&Weak, &self.issuer)?,
            _ => p.signed_by(key, &self.issuer)?,
        };
        Ok(certificate.der().clone())
    }

    /// The list of what this authority has revoked: serial numbers, and when. It gives no reasons: nobody is asked for one.
    pub(crate) fn list(
        &self,
        revoked: &[(Vec<u8>, OffsetDateTime)],
        number: u64,
        validity: Validity,
    ) -> Result<CertificateRevocationListDer<'static>, MintError> {
        let revoked_certs = revoked
            .iter()
            .map(|(serial, at)| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: *at,
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: validity.from,
            next_update: validity.until,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.der().clone())
    }
}
