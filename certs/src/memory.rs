//! A throwaway authority in memory, for tests: the same minting code, nothing on disk.

use ordonnans_identity::{InvalidTrust, SecretKey, Trust};
use ordonnans_label::{Clearances, Name, Policies};
use rustls_pki_types::CertificateRevocationListDer;
use time::OffsetDateTime;

use crate::holds::Holds;
use crate::mint::{Authority as Minting, Flaw, Issued, MintError, Validity, common, constraint};

/// What the authorities are held to (RFC 5913): values of the extension, DER, or none. Nothing looks at them, so that a test can see a
/// bad one refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// The root's.
    pub root: Option<Vec<u8>>,
    /// The issuing authority's.
    pub issuing: Option<Vec<u8>>,
}

/// A root, an issuing authority and their lists.
pub struct Authority {
    structure: String,
    policies: Policies,
    root: Minting,
    issuing: Minting,
    validity: Validity,
    serial: u64,
    number: u64,
    revoked: Vec<(Vec<u8>, OffsetDateTime)>,
}

impl Authority {
    /// A new authority for a structure. Everything it makes is valid as given, unless said otherwise.
    ///
    /// # Errors
    /// [`MintError`]: the structure is no DNS name.
    pub fn new(structure: &str, validity: Validity) -> Result<Self, MintError> {
        Self::constrained(structure, validity, Constraints::default())
    }

    /// The same, below whose issuing authority nobody holds more than this, under the built-in policies. It issues more all the same, so that a test
    /// can see it cut.
    ///
    /// # Errors
    /// [`MintError`], also where a certificate cannot carry this.
    pub fn up_to(
        structure: &str,
        validity: Validity,
        most: &impl Holds,
    ) -> Result<Self, MintError> {
        let issuing = constraint(&most.clearances(), Policies::built_in())?;
        let root = None;
        Self::constrained(structure, validity, Constraints { root, issuing })
    }

    /// The same, with these values as constraints.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn constrained(
        structure: &str,
        validity: Validity,
        constraints: Constraints,
    ) -> Result<Self, MintError> {
        let key = || SecretKey::in_memory().ok_or(MintError::Key);
        let name = common(structure, "root", 1);
        let root = Minting::root(key()?, &name, validity, constraints.root)?;
        let name = common(structure, "issuing", 1);
        let issuing = root.issuing(key()?, &name, structure, validity, constraints.issuing)?;
        Ok(Self {
            structure: structure.into(),
            policies: Policies::built_in().clone(),
            root,
            issuing,
            validity,
            serial: 0,
            number: 1,
            revoked: vec![],
        })
    }

    /// Gives the issuing authority another constraint, or none where this is nothing: what it has issued is its own still, and may give less.
    ///
    /// # Errors
    /// [`MintError`], also where a certificate cannot carry this.
    pub fn constrain(&mut self, most: &impl Holds) -> Result<(), MintError> {
        let constraint = constraint(&most.clearances(), &self.policies)?;
        let (root, structure) = (&self.root, &self.structure);
        self.issuing = root.renewed(&self.issuing, structure, self.validity, constraint)?;
        Ok(())
    }

    /// From now on clearances are written under these policies.
    #[must_use]
    pub fn with_policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// The structure.
    #[must_use]
    pub fn structure(&self) -> &str {
        &self.structure
    }

    /// A certificate for a subject, with one clearance or several.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn issue(&mut self, name: &Name, holds: &impl Holds) -> Result<Issued, MintError> {
        self.issue_with(name, holds, self.validity, None)
    }

    /// A certificate with another validity, or with a flaw that must be refused.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn issue_with(
        &mut self,
        name: &Name,
        holds: &impl Holds,
        validity: Validity,
        flaw: Option<Flaw>,
    ) -> Result<Issued, MintError> {
        self.serial += 1;
        let holds: Clearances = holds.clearances();
        let holds = (&holds, &self.policies);
        self.issuing.leaf(name, holds, validity, self.serial, flaw)
    }

    /// Revokes a certificate: the next list names it.
    pub fn revoke(&mut self, issued: &Issued) {
        self.revoked
            .push((issued.serial.clone(), self.validity.from));
        self.number += 1;
    }

    /// The two lists as they are now: the root's, then the issuing authority's.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn lists(&self) -> Result<[CertificateRevocationListDer<'static>; 2], MintError> {
        Ok([
            self.root.list(&[], 1, self.validity)?,
            self.issuing
                .list(&self.revoked, self.number, self.validity)?,
        ])
    }

    /// The same lists, from when until when they are asked to be valid.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn lists_of(
        &self,
        validity: Validity,
    ) -> Result<[CertificateRevocationListDer<'static>; 2], MintError> {
        let issuing = &self.issuing;
        Ok([
            self.root.list(&[], self.number, validity)?,
            issuing.list(&self.revoked, self.number, validity)?,
        ])
    }

    /// A certificate by an authority below the issuing one, which may have none below it (its path length is 0), and a trust that has both.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn issue_from_below(
        &self,
        name: &Name,
        holds: &impl Holds,
    ) -> Result<(Issued, Result<Trust, InvalidTrust>), MintError> {
        let common = common(&self.structure, "issuing", 9);
        let below = &self.issuing;
        let key = SecretKey::in_memory().ok_or(MintError::Key)?;
        let below = below.issuing(key, &common, &self.structure, self.validity, None)?;
        let holds: Clearances = holds.clearances();
        let issued = below.leaf(name, (&holds, &self.policies), self.validity, 1, None)?;
        let mut lists: Vec<_> = self.lists()?.into();
        lists.push(below.list(&[], 1, self.validity)?);
        let issuing = vec![self.issuing.certificate.clone(), below.certificate.clone()];
        let roots = vec![self.root.certificate.clone()];
        Ok((issued, Trust::from_parts(roots, issuing, lists)))
    }

    /// What a subject trusts that has this structure's authorities and another's, each with its lists.
    ///
    /// # Errors
    /// [`InvalidTrust`], as [`Trust::from_parts`].
    pub fn trust_beside(&self, other: &Self) -> Result<Trust, InvalidTrust> {
        let (mut roots, mut issuing, mut lists) = (vec![], vec![], vec![]);
        for a in [self, other] {
            roots.push(a.root.certificate.clone());
            issuing.push(a.issuing.certificate.clone());
            lists.extend(a.lists().map_err(|_| InvalidTrust::List)?);
        }
        Trust::from_parts(roots, issuing, lists)
    }

    /// What a subject of the structure trusts, with these lists.
    ///
    /// # Errors
    /// [`InvalidTrust`], as [`Trust::from_parts`].
    pub fn trust_with(
        &self,
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Trust, InvalidTrust> {
        Trust::from_parts(
            vec![self.root.certificate.clone()],
            vec![self.issuing.certificate.clone()],
            lists,
        )
    }

    /// What a subject of the structure trusts now.
    ///
    /// # Errors
    /// [`InvalidTrust::List`] where the lists cannot be made.
    pub fn trust(&self) -> Result<Trust, InvalidTrust> {
        let lists = self.lists().map_err(|_| InvalidTrust::List)?;
        self.trust_with(lists.into())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.structure)
    }
}
