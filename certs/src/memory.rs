//! A throwaway authority in memory, for tests: the same minting code, nothing on disk.

use ordonnans_identity::{InvalidTrust, SecretKey, Trust};
use ordonnans_label::{Clearances, Name, Policies};
use rustls_pki_types::CertificateRevocationListDer;
use time::OffsetDateTime;

use crate::holds::Holds;
use crate::mint::{Authority as Minting, Flaw, Issued, MintError, Validity, constraint};

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
        let root = Minting::root(key()?, structure, validity, constraints.root)?;
        let issuing = root.issuing(key()?, structure, validity, constraints.issuing)?;
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
