//! What the workshop has issued and revoked, and how it stays whole on the disk.
//!
//! Holds always: a serial number that left the workshop stands in the state, for the state is written before a certificate is handed out.
//! One process at a time changes it, under a lock, from what is on the disk then.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_identity::replace_file;
use ordonnans_label::Name;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::workshop::WorkshopError;

/// Bytes of a serial number.
const SERIAL: usize = 8;

/// What became of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be used.
    Live,
    /// It is over.
    Expired,
    /// It stands on the list.
    Revoked,
}

impl Standing {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// An authority of the workshop: what everyone sees of it. Its key is in the folder of its name, or kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The name by which the workshop knows it: `root`, `issuing`, and from the second on with a number, such as `issuing-2`.
    pub name: String,
    /// The root that it stands below; nothing for a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<String>,
    /// Its certificate, DER in base64.
    pub(crate) certificate: String,
    /// Its last list, DER in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) list: String,
    /// When it was taken out of trust, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<i64>,
}

impl Held {
    /// Whether it is a root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.under.is_none()
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        // It was looked at when the state was read.
        BASE64
            .decode(self.certificate.as_bytes())
            .unwrap_or_default()
    }

    /// Its last list, DER.
    #[must_use]
    pub fn list(&self) -> Vec<u8> {
        BASE64.decode(self.list.as_bytes()).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        BASE64.decode(self.list.as_bytes()).is_ok()
            && X509Certificate::from_der(&self.certificate()).is_ok()
    }
}

/// A certificate that was issued.
// Unknown keys are refused: a revocation that was read over would be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whom it names.
    pub name: Name,
    /// Until when, in seconds since 1970.
    pub until: i64,
    /// When it was revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<i64>,
    /// The authority that issued it.
    pub by: String,
    /// The fingerprint of its key: one that was revoked is not certified again.
    pub key: String,
}

impl Entry {
    /// What became of it by now.
    #[must_use]
    pub fn standing(&self, now: OffsetDateTime) -> Standing {
        if self.revoked.is_some() {
            Standing::Revoked
        } else if self.until <= now.unix_timestamp() {
            Standing::Expired
        } else {
            Standing::Live
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) structure: String,
    /// Number of the last list.
    pub(crate) list: u64,
    /// Roots and issuing authorities, the oldest first.
    pub(crate) authority: Vec<Held>,
    /// By serial number, hex.
    #[serde(default)]
    pub(crate) issued: BTreeMap<String, Entry>,
}

impl State {
    pub(crate) fn new(structure: &str) -> Self {
        Self {
            structure: structure.into(),
            list: 0,
            authority: vec![],
            issued: BTreeMap::new(),
        }
    }

    /// Reads the state, and refuses one from which a list would lack a certificate.
    pub(crate) fn load(path: &Path) -> Result<Self, WorkshopError> {
        let damaged = || WorkshopError::State(path.into());
        let text = fs::read_to_string(path).map_err(io_at(path))?;
        let state: Self = toml::from_str(&text).map_err(|_| damaged())?;
        let mut entries = state.issued.iter();
        let whole = state.authority.iter().all(Held::is_whole);
        if whole
            && state.current().is_some()
            && entries.all(|(s, e)| {
                decode(s).is_some()
                    && e.name.structure() == state.structure
                    && OffsetDateTime::from_unix_timestamp(e.until).is_ok()
                    && state.authority.iter().any(|a| a.name == e.by)
            })
        {
            Ok(state)
        } else {
            Err(damaged())
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), WorkshopError> {
        let text = toml::to_string(self).map_err(|_| WorkshopError::State(path.into()))?;
        replace(path, &text)
    }

    /// The authorities that are in trust.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Held> {
        self.authority.iter().filter(|a| a.retired.is_none())
    }

    /// The one that issues: the newest below a root that is in trust.
    pub(crate) fn current(&self) -> Option<&Held> {
        let under = |a: &Held| {
            a.under
                .as_ref()
                .is_some_and(|r| self.live().any(|l| l.name == *r))
        };
        self.live().filter(|a| under(a)).last()
    }

    /// A number no certificate here has: random, so that it tells nothing, and positive (RFC 5280 section 4.1.2.2).
    pub(crate) fn new_serial(&self) -> Result<u64, WorkshopError> {
        loop {
            let mut random = [0; SERIAL];
            SystemRandom::new()
                .fill(&mut random)
                .map_err(|_| WorkshopError::Random)?;
            let serial = u64::from_be_bytes(random) >> 1 | 1 << 62;
            let hex = HEXLOWER.encode(&serial.to_be_bytes());
            if !self.issued.contains_key(&hex) {
                return Ok(serial);
            }
        }
    }

    /// What the list of an issuing authority must name: every certificate of its own that was revoked, and when it was revoked, from the revocation until `keep` seconds after its
    /// own end, so that it stands on a list made after that end (RFC 5280 section 3.3).
    pub(crate) fn revoked(
        &self,
        by: &str,
        now: OffsetDateTime,
        keep: i64,
    ) -> Vec<(Vec<u8>, OffsetDateTime)> {
        let named = |(serial, e): (&String, &Entry)| {
            let at = OffsetDateTime::from_unix_timestamp(e.revoked?).unwrap_or(now);
            let over = e.until.saturating_add(keep) <= now.unix_timestamp();
            decode(serial).filter(|_| !over).map(|s| (s, at))
        };
        let own = self.issued.iter().filter(|(_, e)| e.by == by);
        own.filter_map(named).collect()
    }

    /// What the list of a root must name: authorities below it that were retired.
    pub(crate) fn retired(&self, root: &str) -> Vec<(Vec<u8>, OffsetDateTime)> {
        let named = |a: &Held| {
            let at = OffsetDateTime::from_unix_timestamp(a.retired?).ok()?;
            let der = a.certificate();
            let (_, x) = X509Certificate::from_der(&der).ok()?;
            Some((x.raw_serial().to_vec(), at))
        };
        let below = self.authority.iter();
        let below = below.filter(|a| a.under.as_deref() == Some(root));
        below.filter_map(named).collect()
    }

    /// The serial numbers of whom `who` means: a serial number, else a full name, else a local name that only one subject has.
    pub(crate) fn meant(&self, who: &str) -> Result<Vec<String>, WorkshopError> {
        let said = || who.chars().take(120).collect();
        // As openssl prints it, too.
        let hex = who.replace(':', "").to_ascii_lowercase();
        if self.issued.contains_key(&hex) {
            return Ok(vec![hex]);
        }
        let all = |is: &dyn Fn(&Name) -> bool| -> Vec<(&String, &Name)> {
            let named = self.issued.iter().map(|(s, e)| (s, &e.name));
            named.filter(|(_, name)| is(name)).collect()
        };
        let mut found = all(&|n| n.as_str() == who);
        if found.is_empty() {
            found = all(&|n| n.local() == who);
        }
        let Some((_, first)) = found.first() else {
            return Err(WorkshopError::Unknown(said()));
        };
        if found.iter().any(|(_, name)| name != first) {
            return Err(WorkshopError::Ambiguous(said()));
        }
        Ok(found
            .into_iter()
            .map(|(serial, _)| serial.clone())
            .collect())
    }
}

fn decode(serial: &str) -> Option<Vec<u8>> {
    let bytes = HEXLOWER.decode(serial.as_bytes()).ok()?;
    (bytes.len() == SERIAL).then_some(bytes)
}

/// Waits until no other process changes the workshop; it is let go when dropped.
pub(crate) fn lock(path: &Path) -> Result<File, WorkshopError> {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(path);
    file.and_then(|f| f.lock().map(|()| f)).map_err(io_at(path))
}

pub(crate) fn io_at(path: &Path) -> impl Fn(io::Error) -> WorkshopError + '_ {
    move |source| WorkshopError::Io {
        path: path.into(),
        source,
    }
}

/// Writes a file whole or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), WorkshopError> {
    replace_file(path, text.as_bytes(), 0o666).map_err(io_at(path))
}
