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

#[cfg(test)]
mod tests {
    use ordonnans_message::cbor::Writer;

    use super::*;

    fn grant(kid: u8) -> Grant {
        let mut w = Writer::default();
        w.array(5).bytes(&[1; 32]).text("ncc.node.crisis.example");
        w.bytes(&[kid; 8]).bytes(&[2; 1120]).bytes(&[3; 48]);
        Grant::decode(&w.into_bytes()).expect("a grant")
    }

    #[test]
    fn grants_are_bounded_by_originator_and_end_with_their_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(&dir.path().join("spool.redb")).expect("opens");
        let name = |n: &str| format!("{n}.node.crisis.example").parse().expect("a name");
        let (ncc, def): (Name, Name) = (name("ncc"), name("def"));
        let epoch = |n: usize| EpochId::new((n as u128).to_be_bytes());
        let mut batch = store::SpoolBatch::new();
        for n in 0..MAX_GRANTS {
            // Given in another order than that of their ids.
            let at = ((n * 7) % MAX_GRANTS) as u64 + 1;
            let row = [&at.to_be_bytes()[..], &grant(1).encode()].concat();
            for from in [&ncc, &def] {
                let key = [&grants_of(from)[..], epoch(n).as_bytes()].concat();
                batch.put(GRANTS, &key, &row);
            }
        }
        spool.apply(batch).expect("keeps");
        assert_eq!(spool.grant(&ncc, epoch(0)).expect("reads"), Some(grant(1)));
        let mut batch = store::SpoolBatch::new();
        spool
            .make_room(&grants_of(&ncc), &mut batch)
            .expect("reads");
        spool.apply(batch).expect("removes");
        let kept = |from: &Name| {
            spool
                .0
                .range(GRANTS, &grants_of(from))
                .expect("reads")
                .len()
        };
        assert_eq!((kept(&ncc), kept(&def)), (MAX_GRANTS - 1, MAX_GRANTS));
        assert!(
            spool.grant(&ncc, epoch(0)).expect("reads").is_none(),
            "the oldest"
        );
        spool.forget_grants(|kid| kid == [1; 8]).expect("reads");
        assert_eq!(kept(&def), MAX_GRANTS);
        spool.forget_grants(|kid| kid == [2; 8]).expect("removes");
        assert_eq!((kept(&ncc), kept(&def)), (0, 0));
    }
}
