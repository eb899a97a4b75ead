//! Renewal: a new certificate, on a new key or on the one in a token, on the word of the old one.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ordonnans_identity::{Certificate, Certified, Renewal};
use ordonnans_label::{Clearances, Kind, Name};
use ordonnans_message::Timestamp;
use time::OffsetDateTime;

use super::{Beside, Workshop, WorkshopError};
use crate::mint::has_signed;
use crate::request::{InvalidRequest, Request};
use crate::state::{Entry, Held, Standing, io_at, replace};

/// How the file of a request in a folder ends, and that of the certificate that is put beside it; before both stands the name of the subject.
const REQUEST: &str = ".request.pem";
const CERTIFICATE: &str = ".cert.pem";

/// Requests of a folder that are looked at in one run: many times the nodes of a structure.
const MAX_REQUESTS: usize = 10_000;

/// A request of a folder, and what became of it.
#[derive(Debug)]
pub struct Renewed {
    /// Its file.
    pub request: PathBuf,
    /// The file of the certificate, or why there is none.
    pub certificate: Result<PathBuf, NotRenewed>,
}

/// Why a request of a folder was passed over. The others were not held up by it.
#[derive(Debug, thiserror::Error)]
pub enum NotRenewed {
    /// It is none.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// Its file has the name of another.
    #[error("it is {0}'s, and its file is not called so")]
    FileName(Name),
    /// A person's, an officer's or a broker's.
    #[error("{0} is no node, and only nodes are renewed from a folder")]
    Kind(Name),
    /// The rule, or the disk.
    #[error(transparent)]
    Workshop(#[from] WorkshopError),
}

impl Workshop {
    /// Renews a certificate without anybody comparing a fingerprint, by a rule: the key of the old certificate has signed the request; that certificate is
    /// ours, of the same name, neither revoked nor over, and not renewed before; the key is another one, or the same where none of its certificates was
    /// revoked; and the new certificate says no more than the old one: the same, or what is asked for here where that is less.
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
            .map(Renewal::old)
            .ok_or_else(|| no("no old key has signed the request"))?;
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

    /// Renews what the nodes of a folder ask for, where a broker keeps their requests: each `NAME.request.pem` by the rule of [`Self::renew`], and only where
    /// half of the old certificate's life is over, so that nobody renews without end. The certificate is put beside it, as `NAME.cert.pem`. A request
    /// that was signed before gets the same certificate again.
    ///
    /// # Errors
    /// The folder cannot be read. What is wrong with one request is said in its own line and holds up no other.
    pub fn renew_folder(
        &mut self,
        folder: &Path,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<Renewed>, WorkshopError> {
        let mut requests = vec![];
        for item in fs::read_dir(folder).map_err(io_at(folder))? {
            let item = item.map_err(io_at(folder))?;
            // Not a pipe, and not a link to what is elsewhere: others write here.
            let plain = item.file_type().is_ok_and(|t| t.is_file());
            if plain && item.file_name().to_string_lossy().ends_with(REQUEST) {
                requests.push(item.path());
            }
            if requests.len() >= MAX_REQUESTS {
                break;
            }
        }
        requests.sort();
        let one = |request: PathBuf| Renewed {
            certificate: self.renew_file(folder, &request, days, now),
            request,
        };
        Ok(requests.into_iter().map(one).collect())
    }

    fn renew_file(
        &mut self,
        folder: &Path,
        file: &Path,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, NotRenewed> {
        let request = Request::load(file)?;
        let name = request.name().clone();
        let own = format!("{name}{REQUEST}");
        if file.file_name().is_none_or(|f| f != own.as_str()) {
            return Err(NotRenewed::FileName(name));
        }
        if name.kind() != Kind::Node {
            return Err(NotRenewed::Kind(name));
        }
        let issued = self.issued_dir(&name).join("cert.pem");
        if !self.is_signed(&request, &issued, now) {
            let old = request.renewal().map(Renewal::old);
            let millis = now.unix_timestamp().saturating_mul(1000);
            let at = Timestamp::from_millis(u64::try_from(millis).unwrap_or(0));
            if old.is_some_and(|old| !old.is_within(50, at)) {
                let why = "more than half of the old one's life is left";
                return Err(WorkshopError::NotRenewed { name, why }.into());
            }
            self.renew(&request, None, days, now)?;
        }
        let text = fs::read_to_string(&issued).map_err(io_at(&issued))?;
        let out = folder.join(format!("{name}{CERTIFICATE}"));
        replace(&out, &text)?;
        Ok(out)
    }

    /// Whether the certificate that was issued last is the live one for this request.
    fn is_signed(&self, request: &Request, issued: &Path, now: OffsetDateTime) -> bool {
        let certificate = fs::read(issued).ok();
        let certificate = certificate.and_then(|text| Certificate::from_pem(&text).ok());
        let Some((certificate, renewal)) = certificate.zip(request.renewal()) else {
            return false;
        };
        let entry = self
            .state
            .issued
            .get(&HEXLOWER.encode(certificate.serial()));
        certificate.public_key() == renewal.public_key()
            && certificate != *renewal.old()
            && entry.is_some_and(|e| e.standing(now) == Standing::Live)
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
