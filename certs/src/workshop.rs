//! The workshop on the disk.
//!
//! | path | what |
//! |---|---|
//! | `root/` | the root's certificate and key, or `root.key.uri` that names the key in a token; kept offline, it is needed once a year for its own list |
//! | `issuing/` | the issuing authority's certificate and key (or `issuing.key.uri`), and `state.toml`: the authorities, and what they have issued and revoked |
//! | `root-2/`, `issuing-2/` … | those that came after them (`rollover.rs`) |
//! | `trust/` | what everyone gets: certificates and lists of the authorities that are in trust, made from the state |
//! | `issued/NAME/` | a subject's `cert.pem` (with the issuing certificate behind it) and, where the workshop made it, `key.pem` |
//!
//! Keys have mode 0600. Nothing is overwritten but lists and state, and those whole or not at all. Several processes may use one workshop.

mod keys;
mod renewal;

pub use keys::AuthorityKeys;
pub(crate) use keys::{is_encrypted, load_keys, make_key};
pub use renewal::{NotRenewed, Renewed};

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ordonnans_identity::clearance::constraint_of;
use ordonnans_identity::{
    Certified, KeyError, KeyFileError, PassphraseSource, Unwritable, pem, sync_folder_of,
    write_secret_file,
};
use ordonnans_label::{Clearances, InvalidName, Kind, Name, Policies};
use time::{Duration, OffsetDateTime};

use crate::holds::Holds;
use crate::mint::{Authority, MintError, Validity, common, constraint};
use crate::publishing::{held, keep_certificate};
use crate::request::{Fingerprint, Request};
use crate::state::{Entry, Held, Standing, State, io_at, lock, replace};

/// Lives, in days: the root is replaced by plan, a leaf every quarter, lists every month so that a lost list ends by itself.
pub(crate) const ROOT_DAYS: i64 = 3650;
pub(crate) const ISSUING_DAYS: i64 = 1825;
/// Clocks that are behind accept what was just made.
const BACKDATED: Duration = Duration::minutes(5);

/// Why the workshop did not do it.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// A workshop is here already.
    #[error("{0} is a workshop already; nothing was overwritten")]
    Exists(PathBuf),
    /// A folder of a workshop is here, without the rest.
    #[error("{0} is in the way; nothing was overwritten")]
    InTheWay(PathBuf),
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
    /// More than one subject has this local name.
    #[error("more than one subject is called '{0}'; nothing was revoked")]
    Ambiguous(String),
    /// The life asked for.
    #[error("a certificate lives from 1 to {ISSUING_DAYS} days")]
    Days,
    /// It would be valid when its issuer no longer is.
    #[error("a certificate cannot outlive the issuing authority, which ends {0}")]
    Outlives(time::Date),
    /// More than the issuing authority may give: whoever verifies the certificate would cut it to that (RFC 5913).
    #[error("the issuing authority may give at most {most}, and {asked} was asked for")]
    Beyond {
        /// The clearances asked for.
        asked: String,
        /// Those it may give.
        most: String,
    },
    /// A clearance that a certificate cannot carry.
    #[error("the clearance cannot stand in a certificate: {0}")]
    Clearance(#[from] Unwritable),
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
    /// An authority's key is not opened.
    #[error(transparent)]
    Secret(KeyError),
    /// A request that names a subject of another structure.
    #[error("{0} is not of this structure, so this workshop gives it no certificate")]
    Elsewhere(Name),
    /// Not to be renewed by the rule.
    #[error("the certificate of {name} is not renewed: {why}")]
    NotRenewed {
        /// Whose.
        name: Name,
        /// What the rule misses.
        why: &'static str,
    },
    /// A key that has a certificate already, or had one that was revoked.
    #[error(
        "this key is that of {0}, whose certificate is live or revoked; a subject has a key of its own, and a new one after a revocation"
    )]
    Reused(Name),
    /// The state file.
    #[error("{0} was damaged or edited; restore it")]
    State(PathBuf),
    /// An authority's certificate and key.
    #[error("the certificate and the key in {0} cannot be read, or do not belong together")]
    Authority(PathBuf),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The key of an authority is not here.
    #[error(
        "the key of '{0}' is not here; its place is {0}/{0}.key.pem, or {0}/{0}.key.uri where it is in a token"
    )]
    KeyAway(String),
    /// No authority of this name is in trust.
    #[error("no authority in trust is called '{0}'")]
    NoAuthority(String),
    /// Nobody could issue or be believed without it.
    #[error("'{0}' is the last one; nothing was retired")]
    Last(String),
    /// Subjects would be left without a certificate that is believed.
    #[error(
        "{count} subjects have no live certificate but one below '{authority}', such as {example}; nothing was retired"
    )]
    StillUsed {
        /// The authority that was to be retired.
        authority: String,
        /// How many.
        count: usize,
        /// Whose, for example.
        example: Name,
    },
    /// Minting.
    #[error(transparent)]
    Mint(MintError),
}

impl From<KeyError> for WorkshopError {
    fn from(e: KeyError) -> Self {
        match e {
            KeyError::File(e) => Self::Key(e),
            e => Self::Secret(e),
        }
    }
}

impl From<MintError> for WorkshopError {
    fn from(e: MintError) -> Self {
        match e {
            MintError::Clearance(why) => Self::Clearance(why),
            e => Self::Mint(e),
        }
    }
}

/// A certificate authority in a folder.
pub struct Workshop {
    pub(crate) dir: PathBuf,
    pub(crate) state: State,
    /// Those whose keys are here, by name: not the root's once it is kept offline, and none that was lost.
    pub(crate) keys: BTreeMap<String, Authority>,
    /// How keys are opened, and where those of new authorities are made.
    pub(crate) kept: AuthorityKeys,
    policies: Policies,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workshop({})", self.dir.display())
    }
}

/// The live certificates that a new one may stand beside.
enum Beside<'a> {
    /// None of the authority that issues.
    Nothing,
    /// Whichever there are.
    Whatever,
    /// The one of this serial number, which it renews.
    Renewed(&'a str),
}

pub(crate) fn validity(now: OffsetDateTime, days: i64) -> Validity {
    Validity {
        from: now - BACKDATED,
        until: now + Duration::days(days),
    }
}

/// Clearances as people write them.
fn written(all: &Clearances) -> String {
    let texts: Vec<_> = all.iter().map(|c| format!("'{c}'")).collect();
    if texts.is_empty() {
        "nothing that is known here".into()
    } else {
        texts.join(" and ")
    }
}

impl Workshop {
    /// Makes a root and an issuing authority for a structure, with both lists.
    ///
    /// # Errors
    /// [`WorkshopError::Exists`]; [`WorkshopError::InTheWay`]; [`WorkshopError::Structure`]; the disk.
    pub fn init(dir: &Path, structure: &str, now: OffsetDateTime) -> Result<Self, WorkshopError> {
        let (nothing, policies) = (Clearances::default(), Policies::built_in());
        Self::init_up_to(dir, structure, &nothing, policies, now)
    }

    /// The same, below whose issuing authority nobody can hold more than this, under these policies (RFC 5913): not what it does not name, neither a
    /// policy nor a value. Without any clearance the authority is held to nothing.
    ///
    /// # Errors
    /// As [`Self::init`]; [`WorkshopError::Clearance`]: nothing was made.
    pub fn init_up_to(
        dir: &Path,
        structure: &str,
        most: &impl Holds,
        policies: &Policies,
        now: OffsetDateTime,
    ) -> Result<Self, WorkshopError> {
        let keys = AuthorityKeys::new(PassphraseSource::terminal());
        Self::init_with(dir, structure, most, policies, &keys, now)
    }

    /// The same, with keys that are kept as `keys` says; a token in which a key of that name is already is refused.
    ///
    /// # Errors
    /// As [`Self::init_up_to`]. [`WorkshopError::Secret`]: folders were made, and are in the way of the next try.
    pub fn init_with(
        dir: &Path,
        structure: &str,
        most: &impl Holds,
        policies: &Policies,
        keys: &AuthorityKeys,
        now: OffsetDateTime,
    ) -> Result<Self, WorkshopError> {
        let constraint = constraint(&most.clearances(), policies)?;
        // Any local name shows whether the structure can end one.
        if Name::new("x", Kind::Node, structure).is_err() {
            return Err(WorkshopError::Structure(structure.into()));
        }
        if dir.join("issuing").join("state.toml").exists() {
            return Err(WorkshopError::Exists(dir.into()));
        }
        fs::create_dir_all(dir).map_err(io_at(dir))?;
        let folders = [
            ("root", 0o700),
            ("issuing", 0o700),
            ("trust", 0o777),
            ("issued", 0o777),
        ];
        for (folder, _) in folders {
            if dir.join(folder).symlink_metadata().is_ok() {
                return Err(WorkshopError::InTheWay(dir.join(folder)));
            }
        }
        for (folder, mode) in folders {
            // Not all the way: a folder that another makes meanwhile is in the way, too.
            let path = dir.join(folder);
            let made = fs::DirBuilder::new().mode(mode).create(&path);
            made.map_err(io_at(&path))?;
        }
        let key = |role: &str, uri: Option<&String>| {
            make_key(&dir.join(role), role, uri, keys.encrypt, keys)
        };
        let root = Authority::root(
            key("root", keys.root.as_ref())?,
            &common(structure, "root", 1),
            validity(now, ROOT_DAYS),
            None,
        )?;
        let issuing = root.issuing(
            key("issuing", keys.issuing.as_ref())?,
            &common(structure, "issuing", 1),
            structure,
            validity(now, ISSUING_DAYS),
            constraint,
        )?;
        let mut state = State::new(structure);
        for (name, under, authority) in [("root", None, &root), ("issuing", Some("root"), &issuing)]
        {
            keep_certificate(&dir.join(name), name, authority)?;
            state.authority.push(held(name, under, authority));
        }
        let here = [("root".to_owned(), root), ("issuing".to_owned(), issuing)];
        let mut workshop = Self {
            dir: dir.into(),
            state: State::new(structure),
            keys: here.into(),
            kept: keys.clone(),
            policies: policies.clone(),
        };
        workshop.publish(state, now)?;
        Ok(workshop)
    }

    /// Opens a workshop; a passphrase or PIN that it needs is asked for at the terminal.
    ///
    /// # Errors
    /// [`WorkshopError::Missing`]; a key whose file is open to others; [`WorkshopError::Authority`]; [`WorkshopError::State`].
    pub fn open(dir: &Path) -> Result<Self, WorkshopError> {
        Self::open_with(dir, &AuthorityKeys::new(PassphraseSource::terminal()))
    }

    /// The same, with another source of passphrases.
    ///
    /// # Errors
    /// As [`Self::open`]; [`WorkshopError::Secret`]: a key is not opened.
    pub fn open_with(dir: &Path, keys: &AuthorityKeys) -> Result<Self, WorkshopError> {
        let state_file = dir.join("issuing").join("state.toml");
        if !state_file.exists() {
            return Err(WorkshopError::Missing(dir.into()));
        }
        let state = State::load(&state_file)?;
        let mut here = BTreeMap::new();
        load_keys(dir, &state, keys, &mut here)?;
        Ok(Self {
            keys: here,
            kept: keys.clone(),
            dir: dir.into(),
            state,
            policies: Policies::built_in().clone(),
        })
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

    /// Roots and issuing authorities, the oldest first.
    #[must_use]
    pub fn authorities(&self) -> &[Held] {
        &self.state.authority
    }

    /// Whether an authority's key is here.
    #[must_use]
    pub fn has_key(&self, authority: &str) -> bool {
        self.keys.contains_key(authority)
    }

    /// Issues a certificate with one clearance or several, and its key, and gives the folder they are in. A subject whose certificate is over or revoked gets a new one; the old
    /// files are kept beside it.
    ///
    /// # Errors
    /// [`WorkshopError::Live`]; [`WorkshopError::Name`]; [`WorkshopError::Days`]; [`WorkshopError::Outlives`]; [`WorkshopError::Beyond`];
    /// [`WorkshopError::Clearance`]: nothing was made. The disk: what
    /// was made was not handed out; a subject that then has a live certificate has it revoked and asks again.
    pub fn issue(
        &mut self,
        kind: Kind,
        local: &str,
        holds: &impl Holds,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        let name = Name::new(local, kind, &self.state.structure)?;
        self.hand_out(name, None, Beside::Nothing, &holds.clearances(), days, now)
    }

    /// The same for a subject whose live certificate is about to end: that one stays valid, so that nobody stands still while they change places.
    ///
    /// # Errors
    /// As [`Self::issue`], but for [`WorkshopError::Live`].
    pub fn issue_beside(
        &mut self,
        kind: Kind,
        local: &str,
        holds: &impl Holds,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        let name = Name::new(local, kind, &self.state.structure)?;
        self.hand_out(name, None, Beside::Whatever, &holds.clearances(), days, now)
    }

    /// Issues a certificate on the key of a request, as [`Self::issue`] does, and gives the folder it is in. Whether the key is the subject's own was
    /// settled before, by comparing its fingerprint.
    ///
    /// # Errors
    /// As [`Self::issue`]; [`WorkshopError::Elsewhere`]; [`WorkshopError::Reused`].
    pub fn sign(
        &mut self,
        request: &Request,
        holds: &impl Holds,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        let name = request.name().clone();
        if name.structure() != self.state.structure {
            return Err(WorkshopError::Elsewhere(name));
        }
        self.hand_out(
            name,
            Some(request),
            Beside::Nothing,
            &holds.clearances(),
            days,
            now,
        )
    }

    fn hand_out(
        &mut self,
        name: Name,
        request: Option<&Request>,
        beside: Beside<'_>,
        holds: &Clearances,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        if !(1..=ISSUING_DAYS).contains(&days) {
            return Err(WorkshopError::Days);
        }
        let valid = validity(now, days);
        let says = Certified::of(holds, &self.policies)?;
        let _lock = self.lock()?;
        let (by, issuing) = self.issuer()?;
        if valid.until > issuing.until {
            return Err(WorkshopError::Outlives(issuing.until.date()));
        }
        let most = constraint_of(&issuing.certificate)
            .map_err(|_| WorkshopError::Authority(self.dir.join(&by)))?;
        if let Some(most) = &most
            && says.meet(most) != says
        {
            return Err(WorkshopError::Beyond {
                asked: written(holds),
                most: written(&most.clearances(&self.policies)),
            });
        }
        // After a rollover a subject has one of the old authority and one of the new for a while.
        let live = |e: &Entry| e.name == name && e.by == by && e.standing(now) == Standing::Live;
        match beside {
            Beside::Renewed(serial) => self.renewable(serial, &name, now)?,
            Beside::Nothing if self.state.issued.values().any(live) => {
                return Err(WorkshopError::Live(name));
            }
            Beside::Nothing | Beside::Whatever => {}
        }
        if let Some(print) = request.map(|r| r.fingerprint().to_string()) {
            // A key in a token stays when its certificate is renewed; one that was revoked does not come back.
            let renewed = matches!(beside, Beside::Renewed(_));
            let mut same = self.state.issued.values().filter(|e| e.key == print);
            let taken = |e: &&Entry| match e.standing(now) {
                Standing::Expired => e.name != name,
                Standing::Live => e.name != name || !renewed,
                Standing::Revoked => true,
            };
            if let Some(e) = same.find(taken) {
                return Err(WorkshopError::Reused(e.name.clone()));
            }
        }
        let serial = self.state.new_serial()?;
        let holds = (holds, &self.policies);
        let (certificate, print, key) = match request {
            None => {
                let issued = issuing.leaf(&name, holds, valid, serial, None)?;
                let print = Fingerprint::of(issued.public_key());
                (issued.certificate.clone(), print, Some(issued.key_pem()))
            }
            Some(r) => {
                let certificate = issuing.certify(r.key(), &name, holds, valid, serial, None)?;
                (certificate, r.fingerprint(), None)
            }
        };
        let serial = HEXLOWER.encode(&serial.to_be_bytes());
        let dir = self.issued_dir(&name);
        // What a run that was cut short left here was never handed out.
        let staged = dir.with_file_name(format!(".{name}.new"));
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(io_at(&staged))?;
        }
        fs::create_dir_all(&staged).map_err(io_at(&staged))?;
        if let Some(key) = key {
            write_secret_file(&staged.join("key.pem"), key.as_bytes())?;
        }
        let chain = pem("CERTIFICATE", &certificate) + &pem("CERTIFICATE", &issuing.certificate);
        replace(&staged.join("cert.pem"), &chain)?;
        // The state before the certificate is handed out: one that is not in it could never be revoked.
        let mut state = self.state.clone();
        let entry = Entry {
            name,
            until: valid.until.unix_timestamp(),
            revoked: None,
            by,
            key: print.to_string(),
        };
        state.issued.insert(serial.clone(), entry);
        self.save(state)?;
        if dir.exists() {
            let mut old = dir.clone().into_os_string();
            old.push(format!(".before-{serial}"));
            fs::rename(&dir, &old).map_err(io_at(&dir))?;
        }
        fs::rename(&staged, &dir)
            .and_then(|()| sync_folder_of(&dir))
            .map_err(io_at(&dir))?;
        Ok(dir)
    }

    /// Revokes the live certificates of a subject (by its name, or its local name where only one subject has it) or of a serial number in
    /// hexadecimal, and publishes a new list. Gives how many. A revocation whose list was not published, because that was cut short, is published now.
    ///
    /// # Errors
    /// [`WorkshopError::Unknown`] and [`WorkshopError::Ambiguous`]: nothing was revoked. The disk: revoke again.
    pub fn revoke(&mut self, who: &str, now: OffsetDateTime) -> Result<usize, WorkshopError> {
        let _lock = self.lock()?;
        let mut state = self.state.clone();
        let (mut revoked, mut before) = (0, 0);
        for serial in state.meant(who)? {
            if let Some(e) = state.issued.get_mut(&serial) {
                match e.standing(now) {
                    Standing::Live => {
                        e.revoked = Some(now.unix_timestamp());
                        revoked += 1;
                    }
                    Standing::Revoked => before += 1,
                    Standing::Expired => {}
                }
            }
        }
        if revoked == 0 && (before == 0 || self.published()) {
            return Err(WorkshopError::Unknown(who.chars().take(120).collect()));
        }
        self.publish(state, now)?;
        Ok(if revoked == 0 { before } else { revoked })
    }

    /// The authority that issues now, by name.
    fn issuer(&self) -> Result<(String, &Authority), WorkshopError> {
        let current = self.state.current().map(|a| a.name.clone());
        let name = current.unwrap_or_default();
        let key = self.keys.get(&name);
        let key = key.ok_or_else(|| WorkshopError::KeyAway(name.clone()))?;
        Ok((name, key))
    }

    /// Takes the workshop for one change, and what other processes have written meanwhile.
    pub(crate) fn lock(&mut self) -> Result<File, WorkshopError> {
        let held = lock(&self.dir.join("issuing").join("lock"))?;
        let state = State::load(&self.dir.join("issuing").join("state.toml"))?;
        if state.authority != self.state.authority {
            load_keys(&self.dir, &state, &self.kept, &mut self.keys)?;
        }
        self.state = state;
        Ok(held)
    }

    pub(crate) fn save(&mut self, state: State) -> Result<(), WorkshopError> {
        state.save(&self.dir.join("issuing").join("state.toml"))?;
        self.state = state;
        Ok(())
    }
}
