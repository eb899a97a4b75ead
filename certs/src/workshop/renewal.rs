//! Renewal: a new certificate for a new key, on the word of the old one.

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use ordonnans_identity::Certified;
use ordonnans_label::{Clearances, Name};
use time::OffsetDateTime;

use super::{Beside, Workshop, WorkshopError};
use crate::mint::has_signed;
use crate::request::Request;
use crate::state::{Entry, Held, Standing};

impl Workshop {
    /// Renews a certificate without anybody comparing a fingerprint, by a rule: the key of the old certificate has signed the request; that certificate is
    /// ours, of the same name, neither revoked nor over, and not renewed before; the key is another one; and the new certificate says no more than the old one:
    /// the same, or what is asked for here where that is less.
    ///
    /// # Errors
    /// As [`Self::sign`]; [`WorkshopError::NotRenewed`] says what the rule misses.
    pub fn renew(
        &mut self,
        request: &Request,
        holds: Option<&Clearances>,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        let name = request.name().clone();
        let no = |why| WorkshopError::NotRenewed {
            name: name.clone(),
            why,
        };
        let old = request
            .renewal()
            .ok_or_else(|| no("no old key has signed the request"))?;
        let old = &old.certificate;
        if old.name() != &name {
            return Err(no("the old certificate names another subject"));
        }
        // After a rollover it may be of the one before.
        let ours = |a: &Held| !a.is_root() && has_signed(&a.certificate(), old.der());
        if !self.state.live().any(ours) {
            return Err(no(
                "the old certificate is of no issuing authority in trust here",
            ));
        }
        let as_before = old.certified().clearances(&self.policies);
        let holds = holds.unwrap_or(&as_before);
        let says = Certified::of(holds, &self.policies)?;
        if says.meet(old.certified()) != says {
            return Err(no(
                "more is asked for than the old one says; that is signed by a person",
            ));
        }
        let serial = HEXLOWER.encode(old.serial());
        self.hand_out(
            name,
            Some(request),
            Beside::Renewed(&serial),
            holds,
            days,
            now,
        )
    }

    /// Whether the certificate of this serial number may be renewed: it is live, and no later one of its subject is.
    pub(super) fn renewable(
        &self,
        serial: &str,
        name: &Name,
        now: OffsetDateTime,
    ) -> Result<(), WorkshopError> {
        let no = |why| WorkshopError::NotRenewed {
            name: name.clone(),
            why,
        };
        let old = self.state.issued.get(serial).filter(|e| e.name == *name);
        let old = old.ok_or_else(|| no("the old certificate is not of this workshop"))?;
        match old.standing(now) {
            Standing::Live => {}
            Standing::Expired => return Err(no("the old certificate is over")),
            Standing::Revoked => return Err(no("the old certificate was revoked")),
        }
        if !self.state.live().any(|a| a.name == old.by) {
            return Err(no("the authority of the old certificate was retired"));
        }
        let mut all = self.state.issued.iter();
        let later = |(s, e): (&String, &Entry)| {
            s != serial
                && e.name == *name
                && e.standing(now) == Standing::Live
                && e.until >= old.until
        };
        if all.any(later) {
            return Err(no(
                "it was renewed already, or the new one would not outlive it",
            ));
        }
        Ok(())
    }
}
