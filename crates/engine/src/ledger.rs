//! What one input has changed so far, and the tree that its records go to.

use ordonnans_audit::{ClockQuality, Detail, Record, Verb, merkle::Frontier};
use ordonnans_label::Level;
use ordonnans_message::Timestamp;
use ordonnans_seal::Entropy;

use crate::{Commit, Seq, Write};

/// Collects records and rows; the only place where a commit is made.
pub(crate) struct Ledger {
    frontier: Frontier,
    seq: Seq,
    at: Timestamp,
    pub(crate) clock: ClockQuality,
    entropy: Box<dyn Entropy>,
    records: Vec<Record>,
    writes: Vec<Write>,
}

impl Ledger {
    pub(crate) fn new(
        frontier: Frontier,
        seq: Seq,
        at: Timestamp,
        clock: ClockQuality,
        entropy: Box<dyn Entropy>,
    ) -> Self {
        Self {
            frontier,
            seq,
            at,
            clock,
            entropy,
            records: vec![],
            writes: vec![],
        }
    }

    /// Adds a record and gives its sequence number. Its time never runs back, whatever the clock does.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        verb: Verb,
        level: Level,
        detail: Detail,
    ) -> u64 {
        self.at = self.at.max(now);
        let sequence = self.frontier.head().size;
        let mut salt = [0; 32];
        self.entropy.fill(&mut salt);
        let record = Record::new(sequence, self.at, self.clock, verb, level, detail, salt);
        self.frontier.append(record.public.leaf());
        self.records.push(record);
        sequence
    }

    pub(crate) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// The number of the last commit made.
    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Records so far.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.head().size
    }

    /// The commit of everything since the last one; `None` where nothing changed.
    pub(crate) fn close(&mut self, now: Timestamp) -> Option<Commit> {
        if self.records.is_empty() && self.writes.is_empty() {
            return None;
        }
        self.at = self.at.max(now);
        self.seq = Seq(self.seq.0 + 1);
        Some(Commit {
            seq: self.seq,
            at: self.at,
            records: std::mem::take(&mut self.records),
            head: self.frontier.head(),
            writes: std::mem::take(&mut self.writes),
        })
    }
}
