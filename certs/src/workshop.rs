//! The workshop on the disk.
//!
//! | path | what |
//! |---|---|
//! | `root/` | the root's certificate and key; kept offline, it is needed once a year for its own list |
//! | `issuing/` | the issuing authority's certificate, key and `state.toml`: what it has issued and revoked |
//! | `trust/` | what everyone gets: both certificates and both lists of revoked certificates |
//! | `issued/NAME/` | a subject's `cert.pem` (with the issuing certificate behind it) and `key.pem` |
//!
//! Keys have mode 0600. Nothing is overwritten but lists and state, and those whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_identity::{KeyFileError, read_secret_file, write_secret_file};
use ordonnans_label::{Clearance, InvalidName, Kind, Name};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::mint::{Authority, MintError, Validity};

/// Lives, in days: the root is replaced by plan, a leaf every quarter, lists every month so that a lost list ends by itself.
const ROOT_DAYS: i64 = 3650;
const ISSUING_DAYS: i64 = 1825;
const LIST_DAYS: i64 = 30;
/// The root's own list needs the root, which is offline.
const ROOT_LIST_DAYS: i64 = 365;
/// Clocks that are behind accept what was just made.
const BACKDATED: Duration = Duration::minutes(5);

/// Why the workshop did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// A workshop is here already.
    #[error("{0} is a workshop already; nothing was overwritten")]
    Exists(PathBuf),
    /// No workshop is here.
    #[error("{0} is no workshop")]
    Missing(PathBuf),
    /// The name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The structure is no DNS name.
    #[error("'{0}' is no name of a structure; it is a DNS name like crisis.example")]
    Structure(String),
    /// The subject has a certificate that is neither revoked nor over.
    #[error("{0} has a live certificate already; nothing was overwritten")]
    Live(Name),
    /// Nothing of this name or serial number is live.
    #[error("no live certificate of '{0}'")]
    Unknown(String),
    /// The life asked for.
    #[error("a certificate lives from 1 to {ISSUING_DAYS} days")]
    Days,
    /// A file.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The state file.
    #[error("{0} was damaged or edited; restore it")]
    State(PathBuf),
    /// Minting.
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// What became of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It may be used.
    Live,
    /// It stands on the list.
    Revoked,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whom it names.
    pub name: Name,
    /// Until when, in seconds since 1970.
    pub until: i64,
    /// What became of it.
    pub standing: Standing,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    structure: String,
    /// Number of the last list.
    list: u64,
    /// By serial number, hex.
    #[serde(default)]
    issued: BTreeMap<String, Entry>,
}

/// A certificate authority in a folder.
pub struct Workshop {
    dir: PathBuf,
    state: State,
    /// Absent once the root is kept offline.
    root: Option<Authority>,
    issuing: Authority,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workshop({})", self.dir.display())
    }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> WorkshopError + '_ {
    move |source| WorkshopError::Io {
        path: path.into(),
        source,
    }
}

fn validity(now: OffsetDateTime, days: i64) -> Validity {
    Validity {
        from: now - BACKDATED,
        until: now + Duration::days(days),
    }
}

/// PEM (RFC 7468).
fn pem(kind: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = format!("-----BEGIN {kind}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text + &format!("-----END {kind}-----\n")
}

/// Writes a file whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), WorkshopError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(io_at(path))
}

impl Workshop {
    /// Makes a root and an issuing authority for a structure, with both lists.
    ///
    /// # Errors
    /// [`WorkshopError::Exists`]; [`WorkshopError::Structure`]; the disk.
    pub fn init(dir: &Path, structure: &str, now: OffsetDateTime) -> Result<Self, WorkshopError> {
        // Any local name shows whether the structure can end one.
        if Name::new("x", Kind::Node, structure).is_err() {
            return Err(WorkshopError::Structure(structure.into()));
        }
        if dir.join("root").exists() || dir.join("issuing").exists() {
            return Err(WorkshopError::Exists(dir.into()));
        }
        for folder in ["root", "issuing", "trust", "issued"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(io_at(&path))?;
        }
        let root = Authority::root(structure, validity(now, ROOT_DAYS))?;
        let issuing = root.issuing(structure, validity(now, ISSUING_DAYS))?;
        for (name, authority) in [("root", &root), ("issuing", &issuing)] {
            let text = pem("CERTIFICATE", &authority.certificate);
            let folder = dir.join(name);
            write_secret_file(
                &folder.join(format!("{name}.key.pem")),
                authority.key_pem().as_bytes(),
            )?;
            replace(&folder.join(format!("{name}.pem")), &text)?;
            replace(&dir.join("trust").join(format!("{name}.pem")), &text)?;
        }
        let mut workshop = Self {
            dir: dir.into(),
            state: State {
                structure: structure.into(),
                list: 0,
                issued: BTreeMap::new(),
            },
            root: Some(root),
            issuing,
        };
        workshop.lists(now)?;
        Ok(workshop)
    }

    /// Opens a workshop.
    ///
    /// # Errors
    /// [`WorkshopError::Missing`]; a key whose file is open to others; [`WorkshopError::State`].
    pub fn open(dir: &Path) -> Result<Self, WorkshopError> {
        let state_file = dir.join("issuing").join("state.toml");
        if !state_file.exists() {
            return Err(WorkshopError::Missing(dir.into()));
        }
        let text = fs::read_to_string(&state_file).map_err(io_at(&state_file))?;
        let state = toml::from_str(&text).map_err(|_| WorkshopError::State(state_file))?;
        let load = |name: &str| {
            let folder = dir.join(name);
            let path = folder.join(format!("{name}.pem"));
            let certificate = fs::read_to_string(&path).map_err(io_at(&path))?;
            let key_file = folder.join(format!("{name}.key.pem"));
            let key = read_secret_file(&key_file)?;
            let key =
                std::str::from_utf8(&key).map_err(|_| WorkshopError::State(key_file.clone()))?;
            Ok::<_, WorkshopError>(Authority::load(&certificate, key)?)
        };
        let here = dir.join("root").join("root.key.pem").exists();
        Ok(Self {
            root: here.then(|| load("root")).transpose()?,
            issuing: load("issuing")?,
            dir: dir.into(),
            state,
        })
    }

    /// The structure.
    #[must_use]
    pub fn structure(&self) -> &str {
        &self.state.structure
    }

    /// What everyone gets: a folder with both certificates and both lists.
    #[must_use]
    pub fn trust_dir(&self) -> PathBuf {
        self.dir.join("trust")
    }

    /// The folder of a subject's certificate and key.
    #[must_use]
    pub fn issued_dir(&self, name: &Name) -> PathBuf {
        self.dir.join("issued").join(name.as_str())
    }

    /// Everything issued, by serial number in hexadecimal.
    pub fn issued(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.state.issued.iter().map(|(s, e)| (s.as_str(), e))
    }

    /// Issues a certificate and its key, and gives the folder they are in. A subject whose certificate is over or revoked gets a new one; the old
    /// files are kept beside it.
    ///
    /// # Errors
    /// [`WorkshopError::Live`]; [`WorkshopError::Name`]; [`WorkshopError::Days`]; the disk.
    pub fn issue(
        &mut self,
        kind: Kind,
        local: &str,
        holds: &Clearance,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        let name = Name::new(local, kind, &self.state.structure)?;
        if !(1..=ISSUING_DAYS).contains(&days) {
            return Err(WorkshopError::Days);
        }
        let live = |e: &Entry| e.name == name && self.live(e, now);
        if self.state.issued.values().any(live) {
            return Err(WorkshopError::Live(name));
        }
        let serial = self.new_serial();
        let issued = self
            .issuing
            .leaf(&name, holds, validity(now, days), serial, None)?;
        let dir = self.issued_dir(&name);
        if dir.exists() {
            let old = dir.with_file_name(format!("{name}.until-{}", now.unix_timestamp()));
            fs::rename(&dir, &old).map_err(io_at(&old))?;
        }
        fs::create_dir_all(&dir).map_err(io_at(&dir))?;
        write_secret_file(&dir.join("key.pem"), issued.key_pem().as_bytes())?;
        let chain = pem("CERTIFICATE", &issued.certificate)
            + &pem("CERTIFICATE", &self.issuing.certificate);
        replace(&dir.join("cert.pem"), &chain)?;
        let entry = Entry {
            name,
            until: (now + Duration::days(days)).unix_timestamp(),
            standing: Standing::Live,
        };
        self.state
            .issued
            .insert(HEXLOWER.encode(&issued.serial), entry);
        self.save()?;
        Ok(dir)
    }

    fn live(&self, e: &Entry, now: OffsetDateTime) -> bool {
        e.standing == Standing::Live && e.until > now.unix_timestamp()
    }

    /// A number no certificate here has: random, so that it tells nothing, and positive as RFC 5280 asks.
    fn new_serial(&self) -> u64 {
        loop {
            let mut random = [0; 8];
            let drawn = SystemRandom::new().fill(&mut random);
            assert!(drawn.is_ok(), "the system gives no random numbers");
            let serial = u64::from_be_bytes(random) >> 1 | 1 << 62;
            if !self
                .state
                .issued
                .contains_key(&HEXLOWER.encode(&serial.to_be_bytes()))
            {
                return serial;
            }
        }
    }

    /// Revokes the live certificates of a subject (by its name, or its local name where only one subject has it) or of a serial number, and
    /// publishes a new list. Gives how many.
    ///
    /// # Errors
    /// [`WorkshopError::Unknown`]; the disk.
    pub fn revoke(&mut self, who: &str, now: OffsetDateTime) -> Result<usize, WorkshopError> {
        let at = now.unix_timestamp();
        let mut revoked = 0;
        for (serial, e) in &mut self.state.issued {
            let meant = serial == who || e.name.as_str() == who || e.name.local() == who;
            if meant && e.standing == Standing::Live && e.until > at {
                e.standing = Standing::Revoked;
                revoked += 1;
            }
        }
        if revoked == 0 {
            return Err(WorkshopError::Unknown(who.chars().take(120).collect()));
        }
        self.lists(now)?;
        Ok(revoked)
    }

    /// Publishes the lists anew, with a higher number; the root's own only where the root is here.
    ///
    /// # Errors
    /// The disk.
    pub fn lists(&mut self, now: OffsetDateTime) -> Result<(), WorkshopError> {
        self.state.list += 1;
        // A revoked certificate stays on the list until it would be over.
        let revoked: Vec<Vec<u8>> = self
            .state
            .issued
            .iter()
            .filter(|(_, e)| e.standing == Standing::Revoked && e.until > now.unix_timestamp())
            .filter_map(|(serial, _)| HEXLOWER.decode(serial.as_bytes()).ok())
            .collect();
        let number = self.state.list;
        let mut lists = vec![(
            "issuing",
            self.issuing
                .list(&revoked, number, validity(now, LIST_DAYS))?,
        )];
        if let Some(root) = &self.root {
            let when = validity(now, ROOT_LIST_DAYS);
            lists.push(("root", root.list(&[], number, when)?));
        }
        self.save()?;
        for (name, list) in lists {
            let path = self.trust_dir().join(format!("{name}.crl.pem"));
            replace(&path, &pem("X509 CRL", &list))?;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), WorkshopError> {
        let path = self.dir.join("issuing").join("state.toml");
        let text = toml::to_string(&self.state).map_err(|_| WorkshopError::State(path.clone()))?;
        replace(&path, &text)
    }
}
