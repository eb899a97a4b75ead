//! How long details of the log are kept. The public part of a record and its place in the tree stay for ever.

use bytes::Bytes;
use ordonnans_audit::{Detail, Verb};
use ordonnans_label::Level;
use ordonnans_message::cbor::{DecodeError, Reader, Writer, exactly};
use ordonnans_message::{MessageId, Timestamp};

use crate::effects::Effect;
use crate::engine::Engine;
use crate::{Table, Write};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Where the row stands.
pub(crate) const THROUGH: &[u8] = b"through";
/// Where it stands that the clock jumped, so that a broker that is started again by the wrong clock knows it, too.
pub(crate) const DOUBT: &[u8] = b"clock-in-doubt";
/// A clock that is further ahead of the last record than this may be wrong, in milliseconds: nothing is destroyed for [`PAUSE_TICKS`].
const AHEAD_MS: u64 = 30 * DAY_MS;
/// Ticks for which nothing is destroyed after the clock jumped: a day, in which somebody sees the alarm.
const PAUSE_TICKS: u32 = 24 * 60 * 60;
/// A jump of the clock after which nothing is destroyed for a while, in milliseconds.
const STEP_MS: u64 = 60 * 60 * 1000;

/// How long details are kept, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Of every record.
    pub days: u32,
    /// Of what an incident was about, from its end, at Dep.V and below.
    pub incident_days: u32,
    /// The same from Stg.C up.
    pub state_secret_incident_days: u32,
}

impl Default for Retention {
    /// Three months, three years and five years, as Vir-bi 2004 had it at the least.
    fn default() -> Self {
        Self {
            days: 92,
            incident_days: 3 * 366,
            state_secret_incident_days: 5 * 366,
        }
    }
}

/// What was destroyed already.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// The last day, counted from 1970.
    through: Option<u64>,
    /// Ticks for which nothing is destroyed.
    pause: u32,
    /// Whether the row says that the clock jumped.
    doubt: bool,
}

fn day(at: Timestamp) -> u64 {
    at.as_millis() / DAY_MS
}

fn put(through: u64) -> Write {
    let mut w = Writer::default();
    w.uint(through);
    Write::Put {
        table: Table::Standing,
        key: Bytes::from_static(THROUGH),
        value: w.into_bytes().into(),
    }
}

impl Engine {
    pub(crate) fn take_up_retention(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        let read = |r: &mut Reader<'_>| r.uint("day", u64::MAX);
        let through = exactly(value, read, |n, w| {
            w.uint(*n);
        })?;
        self.dropped.through = Some(through);
        Ok(())
    }

    /// At a start: what was to be destroyed is destroyed again, for nobody knows whether it was; and a clock far ahead of the last record is
    /// not acted upon at once.
    pub(crate) fn begin_retention(&mut self, now: Timestamp, last: Timestamp) {
        let new = last == Timestamp::default();
        if self.dropped.doubt {
            self.dropped.pause = PAUSE_TICKS;
        }
        match self.dropped.through {
            Some(through) => self.drop_through(through),
            None => {
                let through = day(now).saturating_sub(1);
                self.dropped.through = Some(through);
                self.ledger.write(put(through));
            }
        }
        if !new && now.since(last) > AHEAD_MS {
            self.doubt_clock();
            let days = now.since(last) / DAY_MS;
            let note = format!(
                "the clock is {days} days ahead of the last record; no detail is destroyed for a day"
            );
            self.alarm_of(now, None, &note);
        }
    }

    /// Whether the clock jumped lately, so that nothing is destroyed by it.
    pub(crate) fn clock_in_doubt(&self) -> bool {
        self.dropped.pause > 0
    }

    pub(crate) fn pause_retention(&mut self, step_ms: u64) {
        if step_ms >= STEP_MS {
            self.doubt_clock();
        }
    }

    pub(crate) fn take_up_doubt(&mut self) {
        self.dropped.doubt = true;
    }

    fn doubt_clock(&mut self) {
        self.dropped.pause = PAUSE_TICKS;
        self.dropped.doubt = true;
        self.ledger.write(Write::Put {
            table: Table::Standing,
            key: Bytes::from_static(DOUBT),
            value: Bytes::new(),
        });
    }

    /// A day has passed in which nobody set the clock.
    fn believe_clock(&mut self) {
        self.dropped.doubt = false;
        self.ledger.write(Write::Delete {
            table: Table::Standing,
            key: Bytes::from_static(DOUBT),
        });
    }

    fn kept(&self) -> Vec<(MessageId, String)> {
        // Where a message is of several, the last counts: the one that keeps it longest.
        let mut all: Vec<_> = self.incidents.iter().collect();
        all.sort_by_key(|(_, i)| i.closed.unwrap_or(Timestamp::MAX));
        all.into_iter()
            .flat_map(|(name, i)| i.messages.iter().map(|id| (*id, name.clone())))
            .collect()
    }

    fn drop_through(&mut self, through: u64) {
        let keep = self.kept();
        self.out.push(Effect::DropDetails { through, keep });
    }

    /// Destroys what is due: a day of details at a time, and what was kept for incidents that ended long ago.
    pub(crate) fn keep_for_a_time(&mut self, now: Timestamp) {
        if self.dropped.pause > 0 {
            self.dropped.pause -= 1;
            if self.dropped.pause == 0 {
                self.believe_clock();
            }
            return;
        }
        let due = day(now).checked_sub(u64::from(self.settings.retention.days) + 1);
        let next = self.dropped.through.map(|d| d + 1);
        if let (Some(due), Some(next)) = (due, next)
            && next <= due
        {
            self.dropped.through = Some(next);
            self.ledger.write(put(next));
            let date = Timestamp::from_millis(next * DAY_MS).to_string();
            let detail = Detail {
                who: Some(self.settings.broker.clone()),
                note: Some(format!("of {}", date.split('T').next().unwrap_or_default())),
                ..Detail::default()
            };
            self.ledger
                .record(now, Verb::DetailsDropped, Level::Ongerubriceerd, detail);
            self.drop_through(next);
        }
        let over = |i: &crate::incidents::Incident| {
            let days = if i.level >= Level::StgC {
                self.settings.retention.state_secret_incident_days
            } else {
                self.settings.retention.incident_days
            };
            let closed = i
                .closed
                .is_some_and(|t| now.since(t) >= u64::from(days) * DAY_MS);
            closed.then_some(i.level)
        };
        let mut ended = self
            .incidents
            .iter()
            .filter_map(|(n, i)| Some((n.clone(), over(i)?)));
        let Some((name, level)) = ended.next() else {
            return;
        };
        self.incidents.remove(&name);
        self.ledger.write(Write::Delete {
            table: Table::Incidents,
            key: Bytes::copy_from_slice(name.as_bytes()),
        });
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            note: Some(format!("of the incident {name}")),
            ..Detail::default()
        };
        self.ledger.record(now, Verb::DetailsDropped, level, detail);
        self.out.push(Effect::DropIncident { incident: name });
    }
}
