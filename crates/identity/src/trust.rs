//! Whom to believe: one root, its issuing authorities, and exactly one list of revoked certificates for each.
//!
//! An authority may be held to what those below it can be cleared for (RFC 5913). Such a constraint only ever takes away, and one that cannot be
//! read is no trust at all.
//!
//! A list counts until the next one was due, and for a stated time of grace after that: a crisis must not stop because somebody could not reach the
//! machine that makes the lists. Within the grace only the age of the list is overlooked, and [`Trust::late`] says so; everything else counts as always.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ordonnans_message::{Timestamp, sha256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
    VerifiedPath, anchor_from_trusted_cert, ring as algorithms,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::lists::{Late, List, ListNumber};
use crate::remembered::Remembered;
use crate::{Certificate, Certified, InvalidCertificate, clearance};

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// Opening a connection, or signing as a subject.
    Client,
    /// Accepting connections.
    Server,
}

/// Bytes of one list of revoked certificates: more than a hundred thousand entries. Each chain is looked up in all of them.
pub const MAX_LIST: usize = 4 << 20;
/// Bytes of one file of the folder: a few lists of that size, as PEM.
pub const MAX_TRUST_FILE: u64 = 24 << 20;

/// Why trust cannot be placed in a set of files. The broker does not start, or keeps what it had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrust {
    /// A file is missing or is not PEM.
    #[error("{0} cannot be read as PEM")]
    File(PathBuf),
    /// An authority's certificate cannot be read.
    #[error("an authority's certificate cannot be read")]
    Authority,
    /// A list of revoked certificates cannot be read.
    #[error("a list of revoked certificates cannot be read")]
    List,
    /// A list above [`MAX_LIST`]. It is not read.
    #[error(
        "a list of revoked certificates has {0} bytes, at most {MAX_LIST} are taken; let certificates live shorter, for what has ended leaves the list, or divide the structure among more issuing authorities"
    )]
    LargeList(usize),
    /// A file above [`MAX_TRUST_FILE`]. It is not read to its end.
    #[error(
        "{0} has more than {MAX_TRUST_FILE} bytes, which no file of the trust folder may have; put back the one the authority made"
    )]
    LargeFile(PathBuf),
    /// There is no root.
    #[error("there is no root certificate")]
    NoRoot,
    /// An authority has no list: without one, its revoked certificates would be believed.
    #[error("the authority '{0}' has no list of revoked certificates; add its CRL")]
    NoList(String),
    /// A list of an authority that is not here.
    #[error("a list of revoked certificates is by '{0}', who is no authority here; remove it")]
    Stranger(String),
    /// A list whose signature does not fit: forged, or of another authority of the same name.
    #[error("the list of revoked certificates by '{0}' has a wrong signature")]
    Forged(String),
    /// Two authorities of one name with different keys: the verifier would take the list of either for the other's.
    #[error("two authorities are called '{0}' and have different keys; keep one of them")]
    Twins(String),
    /// What those below an authority may be cleared for cannot be read.
    #[error("the clearance constraint in the certificate of the authority '{0}' cannot be read")]
    Constraint(String),
}

/// Why a certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It has the wrong form.
    #[error(transparent)]
    Form(#[from] InvalidCertificate),
    /// The chain, the time, the usage or the revocation says no.
    #[error("the certificate is not believed: {0}")]
    Chain(webpki::Error),
}

impl Untrusted {
    /// The same in a few words of our own, for a record: none of them comes from the certificate.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Form(_) => "it has another form",
            Self::Chain(webpki::Error::CertRevoked) => "it is revoked",
            Self::Chain(webpki::Error::CertExpired { .. }) => "it has ended",
            Self::Chain(webpki::Error::CertNotValidYet { .. }) => "it is not valid yet",
            Self::Chain(webpki::Error::CrlExpired { .. }) => "a list above it is beyond its grace",
            Self::Chain(webpki::Error::UnknownIssuer) => "its authority is not in trust",
            Self::Chain(webpki::Error::UnknownRevocationStatus) => "no list says of it",
            Self::Chain(webpki::Error::NameConstraintViolation) => {
                "its name is not its authority's to give"
            }
            Self::Chain(_) => "its chain does not hold",
        }
    }

    /// Whether the one thing wrong is that a list on the path is beyond its grace: new lists mend it.
    #[must_use]
    pub fn is_stale_list(&self) -> bool {
        matches!(self, Self::Chain(webpki::Error::CrlExpired { .. }))
    }
}

/// Roots, issuing authorities and one CRL for each.
#[derive(Clone)]
pub struct Trust {
    roots: Vec<CertificateDer<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// The same, read; shared, for a list may have ten thousand entries.
    parsed: Arc<Vec<CertRevocationList<'static>>>,
    details: Vec<List>,
    /// How long a list still counts after its successor was due, in milliseconds.
    grace: u64,
    /// When authorities begin and end.
    lifetimes: Vec<Timestamp>,
    /// The constraint of each anchor, and of each issuing authority.
    root_limits: Vec<Option<Certified>>,
    issuing_limits: Vec<Option<Certified>>,
    remembered: Arc<Remembered>,
}

/// From when on an authority counts, and from when on no more: the verifier counts whole seconds, and the last one in.
fn lifetime(a: &X509Certificate<'_>) -> [Timestamp; 2] {
    let (from, until) = (a.validity().not_before, a.validity().not_after);
    [
        seconds(from.timestamp()),
        seconds(until.timestamp().saturating_add(1)),
    ]
}

fn seconds(t: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(t).unwrap_or(0).saturating_mul(1000))
}

impl Trust {
    /// The certificate (DER) of the issuing authority that a certificate says it is of, where that is one of these. Whether it is, [`Self::verify`] says.
    #[must_use]
    pub fn issuer_of(&self, certificate: &[u8]) -> Option<&[u8]> {
        let (_, of) = X509Certificate::from_der(certificate).ok()?;
        let is = |der: &&CertificateDer<'_>| {
            let read = X509Certificate::from_der(der);
            read.is_ok_and(|(_, a)| a.subject().as_raw() == of.issuer().as_raw())
        };
        self.intermediates.iter().find(is).map(AsRef::as_ref)
    }

    /// Reads `root.pem`, `issuing.pem`, `root.crl.pem` and `issuing.crl.pem` of a folder. Each may hold several.
    ///
    /// # Errors
    /// [`InvalidTrust`] names the file or the authority.
    pub fn load_dir(dir: &Path) -> Result<Self, InvalidTrust> {
        fn all<T: PemObject>(path: PathBuf) -> Result<Vec<T>, InvalidTrust> {
            let mut text = vec![];
            let bounded = File::open(&path).map(|f| f.take(MAX_TRUST_FILE + 1));
            match bounded.and_then(|mut f| f.read_to_end(&mut text)) {
                Err(_) => return Err(InvalidTrust::File(path)),
                Ok(n) if n as u64 > MAX_TRUST_FILE => return Err(InvalidTrust::LargeFile(path)),
                Ok(_) => {}
            }
            let items: Result<Vec<T>, _> = T::pem_slice_iter(&text).collect();
            let items = items.ok().filter(|items| !items.is_empty());
            items.ok_or(InvalidTrust::File(path))
        }
        let mut lists: Vec<CertificateRevocationListDer<'static>> = all(dir.join("root.crl.pem"))?;
        lists.extend(all(dir.join("issuing.crl.pem"))?);
        Self::from_parts(
            all(dir.join("root.pem"))?,
            all(dir.join("issuing.pem"))?,
            lists,
        )
    }

    /// Puts trust together from DER. Of several lists by one authority the one with the highest number is kept: the verifier
    /// would take the first, and an old list beside a new one would bring revoked certificates back.
    ///
    /// # Errors
    /// [`InvalidTrust`] where an authority has no list, a list has no authority, a signature does not fit, or a constraint cannot be read.
    pub fn from_parts(
        roots: Vec<CertificateDer<'static>>,
        intermediates: Vec<CertificateDer<'static>>,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, InvalidTrust> {
        if roots.is_empty() {
            return Err(InvalidTrust::NoRoot);
        }
        let mut authorities = vec![];
        for der in roots.iter().chain(&intermediates) {
            let (_, x) = X509Certificate::from_der(der).map_err(|_| InvalidTrust::Authority)?;
            authorities.push(x);
        }
        for (i, a) in authorities.iter().enumerate() {
            let twin = |b: &&X509Certificate<'_>| {
                a.subject().as_raw() == b.subject().as_raw()
                    && a.public_key().raw != b.public_key().raw
            };
            if authorities[..i].iter().any(|b| twin(&b)) {
                return Err(InvalidTrust::Twins(a.subject().to_string()));
            }
        }
        let mut newest: BTreeMap<Vec<u8>, (List, &CertificateRevocationListDer<'static>)> =
            BTreeMap::new();
        let lifetimes: Vec<Timestamp> = authorities.iter().flat_map(lifetime).collect();
        for der in &lists {
            if der.len() > MAX_LIST {
                return Err(InvalidTrust::LargeList(der.len()));
            }
            let (_, list) =
                CertificateRevocationList::from_der(der).map_err(|_| InvalidTrust::List)?;
            let issuer = list.issuer().as_raw().to_vec();
            let named = list.issuer().to_string();
            let mut own = authorities
                .iter()
                .zip(roots.iter().chain(&intermediates))
                .filter(|(a, _)| a.subject().as_raw() == issuer)
                .peekable();
            if own.peek().is_none() {
                return Err(InvalidTrust::Stranger(named));
            }
            let signed = |(a, _): &(&X509Certificate<'_>, &CertificateDer<'_>)| {
                BorrowedCertRevocationList::from_der(der).is_ok()
                    && list.verify_signature(a.public_key()).is_ok()
            };
            let Some((by, certificate)) = own.find(signed) else {
                return Err(InvalidTrust::Forged(named));
            };
            let number = list.crl_number().cloned().ok_or(InvalidTrust::List)?;
            let until = list.next_update().ok_or(InvalidTrust::List)?;
            let subject = anchor_from_trusted_cert(certificate)
                .map_err(|_| InvalidTrust::Authority)?
                .subject
                .to_vec();
            let details = List {
                authority: named,
                by: sha256(&[&issuer, by.public_key().raw]),
                number: ListNumber(number),
                until: seconds(until.timestamp()),
                subject,
            };
            let older = |(other, _): &(List, _)| other.number < details.number;
            if newest.get(&issuer).is_none_or(older) {
                newest.insert(issuer, (details, der));
            }
        }
        if let Some(bare) = authorities
            .iter()
            .find(|a| !newest.contains_key(a.subject().as_raw()))
        {
            return Err(InvalidTrust::NoList(bare.subject().to_string()));
        }
        let limit = |a: &X509Certificate<'_>| {
            clearance::constraint_in(a)
                .map_err(|_| InvalidTrust::Constraint(a.subject().to_string()))
        };
        let mut root_limits = authorities
            .iter()
            .map(limit)
            .collect::<Result<Vec<_>, _>>()?;
        let issuing_limits = root_limits.split_off(roots.len());
        let anchors = roots
            .iter()
            .map(|r| {
                anchor_from_trusted_cert(r)
                    .map(|a| a.to_owned())
                    .map_err(|_| InvalidTrust::Authority)
            })
            .collect::<Result<_, _>>()?;
        let (details, lists): (Vec<_>, Vec<_>) = newest
            .into_values()
            .map(|(details, der)| (details, der.clone()))
            .unzip();
        let parsed = lists
            .iter()
            .map(|der| {
                let list = OwnedCertRevocationList::from_der(der);
                list.map(Into::into).map_err(|_| InvalidTrust::List)
            })
            .collect::<Result<Vec<_>, _>>()?;
        drop(authorities);
        let trust = Self {
            roots,
            intermediates,
            lists,
            anchors,
            parsed: Arc::new(parsed),
            details,
            grace: 0,
            lifetimes,
            root_limits,
            issuing_limits,
            remembered: Arc::new(Remembered::new(vec![])),
        };
        Ok(trust.with_grace(Duration::ZERO))
    }

    /// The same, where a list still counts for this long after the next one was due; by itself that is not at all. From then on nobody below its
    /// authority is believed.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let ends = self.details.iter().map(|l| self.over(l));
        let edges = self.lifetimes.iter().copied().chain(ends).collect();
        // What was said by another grace does not hold.
        self.remembered = Arc::new(Remembered::new(edges));
        self
    }

    /// How long a list still counts after the next one was due.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace)
    }

    /// From when on nobody below the authority of a list is believed.
    fn over(&self, list: &List) -> Timestamp {
        Timestamp::from_millis(list.until.as_millis().saturating_add(self.grace))
    }

    /// Lists whose successors were due and are not here: an alarm, within the grace and beyond it.
    pub fn late(&self, now: Timestamp) -> impl Iterator<Item = Late<'_>> {
        let late = self.details.iter().filter(move |l| l.until <= now);
        late.map(move |list| {
            let refused_from = self.over(list);
            Late {
                list,
                refused_from,
                refused: refused_from <= now,
            }
        })
    }

    /// Whose lists are in force, with their numbers and ends.
    #[must_use]
    pub fn list_details(&self) -> &[List] {
        &self.details
    }

    /// Reads a certificate and checks its chain, its time, its usage, its name constraints, and that nobody on the path is revoked. What it says of
    /// clearances is cut to what every authority on the path may give; to nothing, where they have nothing in common.
    ///
    /// # Errors
    /// [`Untrusted`]; the subject is refused.
    pub fn verify(
        &self,
        leaf: &[u8],
        usage: Usage,
        now: Timestamp,
    ) -> Result<Certificate, Untrusted> {
        if let Some(known) = self.remembered.of(leaf, usage, now) {
            return Ok(known);
        }
        let certificate = self.judge(leaf, usage, now)?;
        self.remembered.keep(leaf, usage, now, &certificate);
        Ok(certificate)
    }

    fn judge(&self, leaf: &[u8], usage: Usage, now: Timestamp) -> Result<Certificate, Untrusted> {
        let certificate = Certificate::parse_der(leaf)?;
        let der = CertificateDer::from(leaf);
        let lists: Vec<&CertRevocationList<'_>> = self.parsed.iter().collect();
        let Ok(revocation) = RevocationOptionsBuilder::new(&lists) else {
            return Err(Untrusted::Chain(webpki::Error::UnknownRevocationStatus));
        };
        let revocation = revocation
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            // Below, with the grace.
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build();
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.as_millis()));
        let fresh = |path: &VerifiedPath<'_>| self.fresh(path, now, time);
        let purpose = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        let allowed = match usage {
            Usage::Client => certificate.allows_client(),
            Usage::Server => certificate.allows_server(),
        };
        if !allowed {
            return Err(InvalidCertificate::Usage.into());
        }
        let limits = EndEntityCert::try_from(&der)
            .and_then(|cert| {
                cert.verify_for_usage(
                    &[
                        algorithms::ECDSA_P256_SHA256,
                        algorithms::ECDSA_P384_SHA384,
                        algorithms::ED25519,
                    ],
                    &self.anchors,
                    &self.intermediates,
                    time,
                    purpose,
                    Some(revocation),
                    Some(&fresh),
                )
                .map(|path| self.limits(&path))
            })
            .map_err(Untrusted::Chain)?;
        Ok(limits.into_iter().fold(certificate, Certificate::within))
    }

    /// Whether no list on a path is beyond its grace.
    fn fresh(
        &self,
        path: &VerifiedPath<'_>,
        now: Timestamp,
        time: UnixTime,
    ) -> Result<(), webpki::Error> {
        let issuing = path.intermediate_certificates().map(|c| c.subject());
        let mut issuers = issuing.chain(std::iter::once(path.anchor().subject.as_ref()));
        let over = issuers.find_map(|name| {
            let of = |l: &&List| l.subject == name && self.over(l) <= now;
            self.details.iter().find(of)
        });
        match over {
            None => Ok(()),
            Some(list) => Err(webpki::Error::CrlExpired {
                time,
                next_update: UnixTime::since_unix_epoch(Duration::from_millis(
                    list.until.as_millis(),
                )),
            }),
        }
    }

    /// The constraints on a path. Of roots with one name and key, which the verifier takes for one, all count.
    fn limits(&self, path: &VerifiedPath<'_>) -> Vec<&Certified> {
        let anchor = path.anchor();
        let roots = self.anchors.iter().zip(&self.root_limits).filter(|(a, _)| {
            a.subject == anchor.subject
                && a.subject_public_key_info == anchor.subject_public_key_info
        });
        let issuing = self.intermediates.iter().zip(&self.issuing_limits);
        let issuing = issuing.filter(|(der, _)| {
            let mut on_path = path.intermediate_certificates();
            on_path.any(|c| c.der() == **der)
        });
        let all = roots.map(|(_, l)| l).chain(issuing.map(|(_, l)| l));
        all.flatten().collect()
    }

    /// The roots, DER.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The issuing authorities, DER.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// One list of revoked certificates for each authority, DER.
    #[must_use]
    pub fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Trust({} roots, {} issuing, {} lists)",
            self.roots.len(),
            self.intermediates.len(),
            self.lists.len()
        )
    }
}
