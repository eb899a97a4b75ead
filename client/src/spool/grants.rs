//! What messages of epochs open with that leave this node out: wrapped keys, as they came, which end with the key they are wrapped to.

use ordonnans_label::Name;
use ordonnans_message::{EpochId, Header, MessageId, Timestamp};
use ordonnans_seal::Grant;
use ordonnans_store as store;

use super::{Spool, broken};
use crate::failure::Failure;

const GRANTS: &str = "grants";
pub(super) const GRANTED: &str = "granted";

/// What is kept of the key of an epoch beside a message that arrived.
#[derive(Debug)]
pub(crate) enum Granted {
    /// It is of none.
    None,
    /// It brings the key for others of its epoch.
    Brings(EpochId, Grant),
    /// It leaves this node out, and opens with this.
    Needs(Grant),
}

/// Grants of one originator: those of its epochs in a month and more.
const MAX_GRANTS: usize = 1024;

fn grants_of(from: &Name) -> Vec<u8> {
    [from.as_str().as_bytes(), &[0]].concat()
}

impl Spool {
    /// Keeps what a message that arrives brings of its epoch, or needs of it.
    pub(super) fn keep_grant(
        &self,
        header: &Header,
        received: Timestamp,
        grant: &Granted,
        batch: &mut store::SpoolBatch,
    ) -> Result<(), Failure> {
        match grant {
            Granted::None => {}
            Granted::Brings(epoch, grant) => {
                let from = grants_of(&header.originator);
                self.make_room(&from, batch)?;
                let row = [&received.as_millis().to_be_bytes()[..], &grant.encode()].concat();
                batch.put(GRANTS, &[&from[..], epoch.as_bytes()].concat(), &row);
            }
            Granted::Needs(grant) => batch.put(GRANTED, header.id.as_bytes(), &grant.encode()),
        }
        Ok(())
    }

    /// The oldest grants of an originator go where it has too many.
    fn make_room(&self, from: &[u8], batch: &mut store::SpoolBatch) -> Result<(), Failure> {
        let mut rows = self.0.range(GRANTS, from).map_err(broken)?;
        if rows.len() >= MAX_GRANTS {
            rows.sort_by(|(_, a), (_, b)| a.get(..8).cmp(&b.get(..8)));
            for (key, _) in &rows[..=rows.len() - MAX_GRANTS] {
                batch.remove(GRANTS, key);
            }
        }
        Ok(())
    }

    /// What messages of an epoch open with that leave this node out.
    pub(crate) fn grant(&self, from: &Name, epoch: EpochId) -> Result<Option<Grant>, Failure> {
        let key = [&grants_of(from)[..], epoch.as_bytes()].concat();
        let row = self.0.get(GRANTS, &key).map_err(broken)?;
        let grant = |r: Vec<u8>| Grant::decode(r.get(8..).unwrap_or_default()).map_err(broken);
        row.map(grant).transpose()
    }

    /// What this message opens with, where it leaves this node out.
    pub(crate) fn granted(&self, id: MessageId) -> Result<Option<Grant>, Failure> {
        let row = self.0.get(GRANTED, id.as_bytes()).map_err(broken)?;
        row.map(|r| Grant::decode(&r).map_err(broken)).transpose()
    }

    /// Removes the grants that no key opens any more.
    pub(crate) fn forget_grants(&self, opens: impl Fn([u8; 8]) -> bool) -> Result<(), Failure> {
        let mut batch = store::SpoolBatch::new();
        for (table, at) in [(GRANTS, 8), (GRANTED, 0)] {
            for (key, row) in self.0.range(table, &[]).map_err(broken)? {
                let grant = Grant::decode(row.get(at..).unwrap_or_default()).map_err(broken)?;
                if !opens(grant.kid()) {
                    batch.remove(table, &key);
                }
            }
        }
        self.apply(batch)
    }
}
