//! New authorities beside the old ones, and the end of the old ones, while everyone goes on.
//!
//! A rollover only adds: everyone gets a trust that believes the old and the new, then subjects get certificates of the new, and only when nobody shows
//! one of the old is the old one retired. Each authority has a name of its own, such as `crisis.example issuing 2`: a list is found by its issuer's name, and
//! two keys under one name would be taken for each other.
//!
//! An authority is in use once the state names it. A run that was killed before leaves a folder that the state does not know, which the next one puts
//! aside; a run that was killed after leaves `trust` to be written, which `crl` does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;

use ordonnans_identity::SecretKey;
use ordonnans_identity::sync_folder_of;
use ordonnans_label::{Clearances, Name, Policies};
use time::OffsetDateTime;

use crate::holds::Holds;
use crate::mint::{Authority, MintError, common, constraint, constraint_of_certificate};
use crate::publishing::{held, keep_certificate};
use crate::state::{Entry, Held, Standing, State, io_at};
use crate::workshop::{
    ISSUING_DAYS, ROOT_DAYS, Workshop, WorkshopError, is_encrypted, make_key, validity,
};

/// What an authority is held to: what the one before it is, or something else.
enum Up {
    Same,
    To(Option<Vec<u8>>),
}

impl Workshop {
    /// Makes another issuing authority below the newest root, whose key must be here. From then on it issues, and what the one before has issued is
    /// believed as before. Without clearances it is held to what that one is held to. Gives its name.
    ///
    /// # Errors
    /// [`WorkshopError::KeyAway`]: bring the root's key. [`WorkshopError::Clearance`]. The disk: nothing is in use, or [`Workshop::lists`] publishes it.
    pub fn rollover_issuing(
        &mut self,
        up_to: &impl Holds,
        policies: &Policies,
        now: OffsetDateTime,
    ) -> Result<String, WorkshopError> {
        let up = up(&up_to.clearances(), policies)?;
        let _lock = self.lock()?;
        let root = self.state.live().filter(|a| a.is_root()).last();
        let root = root.map(|a| a.name.clone()).unwrap_or_default();
        let mut state = self.state.clone();
        let name = self.add_issuing(&mut state, &root, up, now)?;
        self.publish(state, now)?;
        Ok(name)
    }

    /// Makes another root, and an issuing authority below it. Both roots are in trust from then on, and no key of the old one is needed. Gives the names of
    /// the root and of the authority.
    ///
    /// # Errors
    /// As [`Self::rollover_issuing`].
    pub fn rollover_root(
        &mut self,
        up_to: &impl Holds,
        policies: &Policies,
        now: OffsetDateTime,
    ) -> Result<[String; 2], WorkshopError> {
        let up = up(&up_to.clearances(), policies)?;
        let _lock = self.lock()?;
        let mut state = self.state.clone();
        let (name, common) = next(&state, "root");
        let root = self.settle("root", &name, now, |key| {
            Authority::root(key, &common, validity(now, ROOT_DAYS), None)
        })?;
        state.authority.push(held(&name, None, &root));
        self.keys.insert(name.clone(), root);
        let issuing = self.add_issuing(&mut state, &name, up, now)?;
        self.publish(state, now)?;
        Ok([name, issuing])
    }

    /// Takes an authority out of trust, and with a root those below it: nobody believes what they have issued once the new `trust` is everywhere. An issuing
    /// authority stands on its root's list from the next one on that its root signs. Its key is no longer needed. Where subjects have no other live
    /// certificate than one below it, it is kept, unless they are given up.
    ///
    /// # Errors
    /// [`WorkshopError::NoAuthority`], [`WorkshopError::Last`], [`WorkshopError::StillUsed`]: nothing was retired. The disk: retire again, or
    /// [`Workshop::lists`] publishes it.
    pub fn retire(
        &mut self,
        authority: &str,
        with_live: bool,
        now: OffsetDateTime,
    ) -> Result<(), WorkshopError> {
        let _lock = self.lock()?;
        let said = || authority.chars().take(64).collect::<String>();
        let mut state = self.state.clone();
        if !state.live().any(|a| a.name == authority) {
            return Err(WorkshopError::NoAuthority(said()));
        }
        let goes = |name: &str, under: Option<&str>| name == authority || under == Some(authority);
        for a in &mut state.authority {
            if a.retired.is_none() && goes(&a.name, a.under.as_deref()) {
                a.retired = Some(now.unix_timestamp());
            }
        }
        if state.current().is_none() {
            return Err(WorkshopError::Last(said()));
        }
        let stays = |by: &str| state.live().any(|a| a.name == by);
        let was = |by: &str| self.state.live().any(|a| a.name == by);
        let live = |e: &&Entry| e.standing(now) == Standing::Live && was(&e.by);
        let (kept, gone): (Vec<&Entry>, Vec<&Entry>) = state
            .issued
            .values()
            .filter(live)
            .partition(|e| stays(&e.by));
        let kept: BTreeSet<&Name> = kept.iter().map(|e| &e.name).collect();
        let left = gone.iter().map(|e| &e.name).filter(|n| !kept.contains(n));
        let left: BTreeSet<&Name> = left.collect();
        if let Some(first) = left.first()
            && !with_live
        {
            return Err(WorkshopError::StillUsed {
                authority: said(),
                count: left.len(),
                example: (*first).clone(),
            });
        }
        self.publish(state, now)
    }

    fn add_issuing(
        &mut self,
        state: &mut State,
        root: &str,
        up: Up,
        now: OffsetDateTime,
    ) -> Result<String, WorkshopError> {
        let key = self.keys.get(root);
        let key = key.ok_or_else(|| WorkshopError::KeyAway(root.into()))?;
        let constraint = match up {
            Up::To(constraint) => constraint,
            Up::Same => {
                let before = state.current().map(Held::certificate);
                before.and_then(|der| constraint_of_certificate(&der))
            }
        };
        let (name, common) = next(state, "issuing");
        let valid = validity(now, ISSUING_DAYS);
        let valid = crate::Validity {
            // A root near its end can give no more than it has.
            until: valid.until.min(key.until),
            ..valid
        };
        let issuing = self.settle("issuing", &name, now, |new| {
            key.issuing(new, &common, &state.structure, valid, constraint)
        })?;
        state.authority.push(held(&name, Some(root), &issuing));
        self.keys.insert(name.clone(), issuing);
        Ok(name)
    }

    /// Makes an authority in a folder of its own, whole or not at all, on a new key that is kept as those before it are, or as [`Self::open_with`] was told. A
    /// key that was made in a token stays there, whatever comes after.
    fn settle(
        &self,
        role: &str,
        name: &str,
        now: OffsetDateTime,
        make: impl FnOnce(SecretKey) -> Result<Authority, MintError>,
    ) -> Result<Authority, WorkshopError> {
        let (folder, staged) = (self.dir.join(name), self.dir.join(format!(".{name}.new")));
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(io_at(&staged))?;
        }
        if folder.exists() {
            // The state does not know it: a run that was cut short, or a state from a copy. A key is never removed.
            let aside = format!("{name}.unknown-{}", now.unix_timestamp());
            fs::rename(&folder, self.dir.join(aside)).map_err(io_at(&folder))?;
        }
        let made = fs::DirBuilder::new().mode(0o700).create(&staged);
        made.map_err(io_at(&staged))?;
        let uri = match role {
            "root" => &self.kept.root,
            _ => &self.kept.issuing,
        };
        let current = self.state.current().map(|a| a.name.as_str());
        let encrypt = self.kept.encrypt || current.is_some_and(|c| is_encrypted(&self.dir, c));
        let key = make_key(&staged, name, uri.as_ref(), encrypt, &self.kept)?;
        let authority = make(key)?;
        keep_certificate(&staged, name, &authority)?;
        fs::rename(&staged, &folder)
            .and_then(|()| sync_folder_of(&folder))
            .map_err(io_at(&folder))?;
        Ok(authority)
    }
}

fn up(up_to: &Clearances, policies: &Policies) -> Result<Up, WorkshopError> {
    Ok(match constraint(up_to, policies)? {
        None => Up::Same,
        to => Up::To(to),
    })
}

/// The next name of a role, as the workshop knows it and as it stands in the certificate.
fn next(state: &State, role: &str) -> (String, String) {
    let of_role = |a: &&Held| a.is_root() == (role == "root");
    let n = state.authority.iter().filter(of_role).count() + 1;
    (format!("{role}-{n}"), common(&state.structure, role, n))
}
