//! What one input has changed so far, and the tree that its records go to.

use ordonnans_audit::{ClockQuality, Detail, MAX_NOTE_CHARS, Record, Verb, merkle::Frontier};
use ordonnans_label::Level;
use ordonnans_message::Timestamp;
use ordonnans_seal::Entropy;

use crate::{Commit, Seq, Write};

/// Bytes of a note at most: with it the longest detail and its salt stay below [`ordonnans_message::limits::MAX_RECORD`].
const MAX_NOTE_BYTES: usize = 2 * MAX_NOTE_CHARS;

fn clip(note: &mut String) {
    let ends = note.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends
        .take(MAX_NOTE_CHARS)
        .take_while(|end| *end <= MAX_NOTE_BYTES)
        .last();
    note.truncate(end.unwrap_or(0));
}

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

    /// Adds a record and gives its sequence number. Its time never runs back, whatever the clock does. A note that is too long is cut.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        verb: Verb,
        level: Level,
        mut detail: Detail,
    ) -> u64 {
        if let Some(note) = &mut detail.note {
            clip(note);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use ordonnans_audit::InForce;
    use ordonnans_message::{MessageId, limits, sha256};

    #[test]
    fn the_longest_detail_can_be_read_again() {
        let longest: ordonnans_label::Name = format!("{}.node.{}", "a".repeat(50), "b".repeat(60))
            .parse()
            .unwrap_or_else(|e| panic!("{e}"));
        for note in ["x", "\u{e9}", "\u{20ac}", "\u{1f6a8}"] {
            let mut note = note.repeat(900);
            clip(&mut note);
            assert!(note.chars().count() >= 100);
            let digest = Some(sha256(&[b"it"]));
            let detail = Detail {
                who: Some(longest.clone()),
                person: Some(longest.clone()),
                to: Some(longest.clone()),
                message: Some(MessageId::new(Timestamp::MAX, [255; 10])),
                digest,
                rule: Some(u16::MAX),
                register: digest.map(|digest| InForce {
                    version: u64::MAX,
                    digest,
                }),
                policy: digest,
                copy: Some(u32::MAX),
                note: Some(note),
            };
            let bytes = detail.encode();
            // Three names may be a few bytes longer than these.
            assert!(
                32 + bytes.len() + 3 * 16 + 48 <= limits::MAX_RECORD,
                "{}",
                bytes.len()
            );
            assert_eq!(Detail::decode(&bytes), Ok(detail));
        }
    }
}
