//! A throwaway authority in memory, for tests: the same minting code, nothing on disk.

use ordonnans_identity::{InvalidTrust, Trust};
use ordonnans_label::{Clearance, Name};
use rustls_pki_types::CertificateRevocationListDer;
use time::OffsetDateTime;

use crate::mint::{Authority as Minting, Flaw, Issued, MintError, Validity};

/// A root, an issuing authority and their lists.
pub struct Authority {
    structure: String,
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
        let root = Minting::root(structure, validity)?;
        let issuing = root.issuing(structure, validity)?;
        Ok(Self {
            structure: structure.into(),
            root,
            issuing,
            validity,
            serial: 0,
            number: 1,
            revoked: vec![],
        })
    }

    /// The structure.
    #[must_use]
    pub fn structure(&self) -> &str {
        &self.structure
    }

    /// A certificate for a subject.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn issue(&mut self, name: &Name, holds: &Clearance) -> Result<Issued, MintError> {
        self.issue_with(name, holds, self.validity, None)
    }

    /// A certificate with another validity, or with a flaw that must be refused.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn issue_with(
        &mut self,
        name: &Name,
        holds: &Clearance,
        validity: Validity,
        flaw: Option<Flaw>,
    ) -> Result<Issued, MintError> {
        self.serial += 1;
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
