//! Authorities on the disk, and what everyone gets of them: `trust`, made from the state alone, so that a run that was cut short is mended by the next one.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ordonnans_identity::pem;
use time::OffsetDateTime;

use crate::mint::Authority;
use crate::state::{Held, State, replace};
use crate::workshop::{Workshop, WorkshopError, validity};

/// Lives of lists, in days: a month, so that one that was lost or held back ends by itself.
const LIST_DAYS: i64 = 30;
/// The root's own list needs the root, which is offline.
const ROOT_LIST_DAYS: i64 = 365;

/// What everyone sees of an authority.
pub(crate) fn held(name: &str, under: Option<&str>, authority: &Authority) -> Held {
    Held {
        name: name.into(),
        under: under.map(Into::into),
        certificate: BASE64.encode(&authority.certificate),
        list: String::new(),
        retired: None,
    }
}

/// Writes an authority's certificate into its folder.
pub(crate) fn keep_certificate(
    folder: &Path,
    name: &str,
    a: &Authority,
) -> Result<(), WorkshopError> {
    let text = pem("CERTIFICATE", &a.certificate);
    replace(&folder.join(format!("{name}.pem")), &text)
}

impl Workshop {
    /// Whether the files in `trust` are those that were made last; not so where their making was cut short, and [`Self::lists`] mends it.
    #[must_use]
    pub fn published(&self) -> bool {
        let mut files = self.trust_files().into_iter();
        files.all(|(path, text)| fs::read_to_string(path).is_ok_and(|there| there == text))
    }

    /// Publishes the lists anew, with a higher number; those of authorities whose keys are not here stay as they are.
    ///
    /// # Errors
    /// The disk: publish again.
    pub fn lists(&mut self, now: OffsetDateTime) -> Result<(), WorkshopError> {
        let _lock = self.lock()?;
        self.publish(self.state.clone(), now)
    }

    pub(crate) fn publish(
        &mut self,
        mut state: State,
        now: OffsetDateTime,
    ) -> Result<(), WorkshopError> {
        state.list += 1;
        let said = state.clone();
        let live = state.authority.iter_mut().filter(|a| a.retired.is_none());
        for a in live {
            let Some(key) = self.keys.get(&a.name) else {
                continue;
            };
            let (revoked, days) = if a.is_root() {
                (said.retired(&a.name), ROOT_LIST_DAYS)
            } else {
                (said.revoked(&a.name, now, LIST_DAYS * 86_400), LIST_DAYS)
            };
            let list = key.list(&revoked, said.list, validity(now, days))?;
            a.list = BASE64.encode(&list);
        }
        // The state first: a revocation that was made is on every later list.
        self.save(state)?;
        for (path, text) in self.trust_files() {
            replace(&path, &text)?;
        }
        Ok(())
    }

    /// What everyone gets, by the state.
    fn trust_files(&self) -> [(PathBuf, String); 4] {
        let file = |name: &str, kind: &str, root: bool, der: &dyn Fn(&Held) -> Vec<u8>| {
            let all = self.state.live().filter(|a| a.is_root() == root);
            let text = all.map(|a| pem(kind, &der(a))).collect();
            (self.trust_dir().join(name), text)
        };
        [
            file("root.pem", "CERTIFICATE", true, &Held::certificate),
            file("issuing.pem", "CERTIFICATE", false, &Held::certificate),
            file("root.crl.pem", "X509 CRL", true, &Held::list),
            file("issuing.crl.pem", "X509 CRL", false, &Held::list),
        ]
    }
}
