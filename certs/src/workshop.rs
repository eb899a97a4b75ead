//! The workshop on the disk.
//!
//! | path | what |
//! |---|---|
//! | `root/` | the root's certificate and key, or `root.key.uri` that names the key in a token; kept offline, it is needed once a year for its own list |
//! | `issuing/` | the issuing authority's certificate, key and `state.toml`: what it has issued and revoked |
//! | `trust/` | what everyone gets: both certificates and both lists of revoked certificates |
//! | `issued/NAME/` | a subject's `cert.pem` (with the issuing certificate behind it) and, where the workshop made it, `key.pem` |
//!
//! Keys have mode 0600. Nothing is overwritten but lists and state, and those whole or not at all. Several processes may use one workshop.

mod keys;
mod renewal;

pub use keys::AuthorityKeys;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_identity::clearance::constraint_of;
use ordonnans_identity::{
    Certified, KeyError, KeyFileError, PassphraseSource, SecretKey, Unwritable, write_secret_file,
};
use ordonnans_label::{Clearances, InvalidName, Kind, Name, Policies};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use self::keys::key_place;
use crate::holds::Holds;
use crate::mint::{Authority, MintError, Validity, constraint};
use crate::request::{Fingerprint, Request};
use crate::state::{Entry, Standing, State, io_at, lock, replace, sync_folder_of};

/// Lives, in days: the root is replaced by plan, a leaf every quarter, lists every month so that a lost list ends by itself.
const ROOT_DAYS: i64 = 3650;
const ISSUING_DAYS: i64 = 1825;
const LIST_DAYS: i64 = 30;
/// The root's own list needs the root, which is offline.
const ROOT_LIST_DAYS: i64 = 365;
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
    dir: PathBuf,
    state: State,
    /// Absent once the root is kept offline.
    root: Option<Authority>,
    issuing: Authority,
    /// What the issuing authority is held to.
    most: Option<Certified>,
    policies: Policies,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workshop({})", self.dir.display())
    }
}

fn validity(now: OffsetDateTime, days: i64) -> Validity {
    Validity {
        from: now - BACKDATED,
        until: now + Duration::days(days),
    }
}

/// PEM (RFC 7468).
pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = format!("-----BEGIN {kind}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text + &format!("-----END {kind}-----\n")
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
        let key = |name: &str, uri: &Option<String>| {
            let folder = dir.join(name);
            if let Some(uri) = uri {
                replace(&folder.join(format!("{name}.key.uri")), &format!("{uri}\n"))?;
            }
            let place = key_place(&folder, name, keys)?;
            Ok::<_, WorkshopError>(SecretKey::generate(&place, keys.encrypt)?)
        };
        let root = key("root", &keys.root)?;
        let root = Authority::root(root, structure, validity(now, ROOT_DAYS), None)?;
        let issuing = key("issuing", &keys.issuing)?;
        let life = validity(now, ISSUING_DAYS);
        let issuing = root.issuing(issuing, structure, life, constraint)?;
        for (name, authority) in [("root", &root), ("issuing", &issuing)] {
            let text = pem("CERTIFICATE", &authority.certificate);
            let folder = dir.join(name);
            replace(&folder.join(format!("{name}.pem")), &text)?;
            replace(&dir.join("trust").join(format!("{name}.pem")), &text)?;
        }
        let mut workshop = Self {
            dir: dir.into(),
            state: State::new(structure),
            root: Some(root),
            most: constraint_of(&issuing.certificate)
                .map_err(|_| WorkshopError::Authority(dir.join("issuing")))?,
            issuing,
            policies: policies.clone(),
        };
        workshop.publish(State::new(structure), now)?;
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
        let load = |name: &str| {
            let folder = dir.join(name);
            let path = folder.join(format!("{name}.pem"));
            let certificate = fs::read_to_string(&path).map_err(io_at(&path))?;
            let key = match SecretKey::open(&key_place(&folder, name, keys)?) {
                Err(KeyError::Form(_) | KeyError::Kind(_)) => {
                    return Err(WorkshopError::Authority(folder));
                }
                key => key?,
            };
            Authority::load(&certificate, key).map_err(|_| WorkshopError::Authority(folder))
        };
        let here = |file: &str| dir.join("root").join(file).exists();
        let here = here("root.key.pem") || here("root.key.uri");
        let issuing = load("issuing")?;
        Ok(Self {
            root: here.then(|| load("root")).transpose()?,
            most: constraint_of(&issuing.certificate)
                .map_err(|_| WorkshopError::Authority(dir.join("issuing")))?,
            issuing,
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

    /// Whether the issuing list in `trust` is the last one made; not so where its making was cut short, and [`Self::lists`] mends it.
    #[must_use]
    pub fn published(&self) -> bool {
        let path = self.trust_dir().join("issuing.crl.pem");
        let Ok(der) = CertificateRevocationListDer::from_pem_file(path) else {
            return false;
        };
        let Ok((_, list)) = CertificateRevocationList::from_der(&der) else {
            return false;
        };
        list.crl_number()
            .is_some_and(|n| *n == self.state.list.into())
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
        self.hand_out(name, None, None, &holds.clearances(), days, now)
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
        self.hand_out(name, Some(request), None, &holds.clearances(), days, now)
    }

    fn hand_out(
        &mut self,
        name: Name,
        request: Option<&Request>,
        renews: Option<&str>,
        holds: &Clearances,
        days: i64,
        now: OffsetDateTime,
    ) -> Result<PathBuf, WorkshopError> {
        if !(1..=ISSUING_DAYS).contains(&days) {
            return Err(WorkshopError::Days);
        }
        let valid = validity(now, days);
        if valid.until > self.issuing.until {
            return Err(WorkshopError::Outlives(self.issuing.until.date()));
        }
        let says = Certified::of(holds, &self.policies)?;
        if let Some(most) = &self.most
            && says.meet(most) != says
        {
            return Err(WorkshopError::Beyond {
                asked: written(holds),
                most: written(&most.clearances(&self.policies)),
            });
        }
        let _lock = self.lock()?;
        let live = |e: &Entry| e.name == name && e.standing(now) == Standing::Live;
        match renews {
            Some(serial) => self.renewable(serial, &name, now)?,
            None if self.state.issued.values().any(live) => return Err(WorkshopError::Live(name)),
            None => {}
        }
        if let Some(print) = request.map(|r| r.fingerprint().to_string()) {
            let mut same = self.state.issued.values().filter(|e| e.key == print);
            if let Some(e) = same.find(|e| e.name != name || e.standing(now) != Standing::Expired) {
                return Err(WorkshopError::Reused(e.name.clone()));
            }
        }
        let serial = self.state.new_serial()?;
        let holds = (holds, &self.policies);
        let (certificate, print, key) = match request {
            None => {
                let issued = self.issuing.leaf(&name, holds, valid, serial, None)?;
                let print = Fingerprint::of(issued.public_key());
                (issued.certificate.clone(), print, Some(issued.key_pem()))
            }
            Some(r) => {
                let (key, issuing) = (r.key(), &self.issuing);
                let certificate = issuing.certify(key, &name, holds, valid, serial, None)?;
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
        let chain =
            pem("CERTIFICATE", &certificate) + &pem("CERTIFICATE", &self.issuing.certificate);
        replace(&staged.join("cert.pem"), &chain)?;
        // The state before the certificate is handed out: one that is not in it could never be revoked.
        let mut state = self.state.clone();
        let entry = Entry {
            name,
            until: valid.until.unix_timestamp(),
            revoked: None,
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

    /// Publishes the lists anew, with a higher number; the root's own only where the root is here.
    ///
    /// # Errors
    /// The disk: publish again.
    pub fn lists(&mut self, now: OffsetDateTime) -> Result<(), WorkshopError> {
        let _lock = self.lock()?;
        self.publish(self.state.clone(), now)
    }

    fn publish(&mut self, mut state: State, now: OffsetDateTime) -> Result<(), WorkshopError> {
        state.list += 1;
        let number = state.list;
        let revoked = state.revoked(now, LIST_DAYS * 86_400);
        let when = validity(now, LIST_DAYS);
        let mut lists = vec![("issuing", self.issuing.list(&revoked, number, when)?)];
        if let Some(root) = &self.root {
            let when = validity(now, ROOT_LIST_DAYS);
            lists.push(("root", root.list(&[], number, when)?));
        }
        // The state first: a revocation that was made is on every later list.
        self.save(state)?;
        for (name, list) in lists {
            let path = self.trust_dir().join(format!("{name}.crl.pem"));
            replace(&path, &pem("X509 CRL", &list))?;
        }
        Ok(())
    }

    /// Takes the workshop for one change, and what other processes have written meanwhile.
    fn lock(&mut self) -> Result<File, WorkshopError> {
        let held = lock(&self.dir.join("issuing").join("lock"))?;
        self.state = State::load(&self.dir.join("issuing").join("state.toml"))?;
        Ok(held)
    }

    fn save(&mut self, state: State) -> Result<(), WorkshopError> {
        state.save(&self.dir.join("issuing").join("state.toml"))?;
        self.state = state;
        Ok(())
    }
}
