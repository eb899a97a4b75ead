//! What an officer should look at without having to search: somebody who reads, prints or exports more than people do, a receipt that does
//! not come, a clock that jumps, a witness who remembers another log.

use std::collections::BTreeMap;

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Level, Name};
use ordonnans_message::Timestamp;

use crate::engine::Engine;

const OPEN: Level = Level::Ongerubriceerd;
/// Subjects that are counted at once. Beyond it those whose hour is over make room; each takes about 0.2 KiB.
const COUNTED: usize = 65_536;
/// A step of the clock that is an alarm, in milliseconds.
const STEP_MS: u64 = 60_000;

/// How much one person or node may do within an hour before it is an alarm. None of it stops anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmLimits {
    /// Messages opened.
    pub opened: u32,
    /// Messages printed.
    pub printed: u32,
    /// Messages exported.
    pub exported: u32,
    /// Things refused.
    pub refused: u32,
    /// Messages from Stg.C up that were opened, printed or exported, together.
    pub state_secret: u32,
}

impl Default for AlarmLimits {
    /// What a duty officer does in a busy hour, with room.
    fn default() -> Self {
        Self {
            opened: 120,
            printed: 20,
            exported: 20,
            refused: 60,
            state_secret: 40,
        }
    }
}

impl AlarmLimits {
    fn of(&self, verb: Verb) -> Option<u32> {
        match verb {
            Verb::Opened => Some(self.opened),
            Verb::Printed => Some(self.printed),
            Verb::Exported => Some(self.exported),
            Verb::Refused => Some(self.refused),
            _ => None,
        }
    }
}

/// An hour, in milliseconds.
const HOUR_MS: u64 = 60 * 60 * 1000;

/// What was counted, and what was said already.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// By subject and what it did: when its hour began, and how often since.
    counts: BTreeMap<(Name, &'static str), (Timestamp, u32)>,
}

impl Engine {
    /// Makes an alarm: a record that every officer can read.
    pub(crate) fn alarm(&mut self, now: Timestamp, detail: Detail) {
        self.ledger.record(now, Verb::Alarm, OPEN, detail);
    }

    /// Counts what somebody did to something of a level. The first time that it is more than the limit within an hour is an alarm.
    pub(crate) fn count(&mut self, now: Timestamp, who: &Name, verb: Verb, level: Level) {
        if let Some(limit) = self.settings.alarms.of(verb) {
            self.count_as(now, who, verb.as_str(), limit);
        }
        let taken = matches!(verb, Verb::Opened | Verb::Printed | Verb::Exported);
        if taken && level >= Level::StgC {
            let limit = self.settings.alarms.state_secret;
            self.count_as(
                now,
                who,
                "Stg.C or higher opened, printed or exported",
                limit,
            );
        }
    }

    fn count_as(&mut self, now: Timestamp, who: &Name, what: &'static str, limit: u32) {
        let counts = &mut self.alarms.counts;
        // A clock that was set back begins the hour anew.
        let over = |began: Timestamp| now.since(began) >= HOUR_MS || began > now;
        if counts.len() >= COUNTED {
            counts.retain(|_, (began, _)| !over(*began));
        }
        if counts.len() >= COUNTED {
            return;
        }
        let (began, times) = counts.entry((who.clone(), what)).or_insert((now, 0));
        if over(*began) {
            (*began, *times) = (now, 0);
        }
        *times = times.saturating_add(1);
        if *times == limit.saturating_add(1) {
            let detail = Detail {
                who: Some(who.clone()),
                note: Some(format!("{what} more than {limit} times within an hour")),
                ..Detail::default()
            };
            self.alarm(now, detail);
        }
    }

    pub(crate) fn clock_alarm(&mut self, now: Timestamp, step_ms: u64) {
        if step_ms < STEP_MS {
            return;
        }
        let detail = Detail {
            who: Some(self.settings.broker.clone()),
            note: Some(format!("the clock was set by {step_ms} ms")),
            ..Detail::default()
        };
        self.alarm(now, detail);
    }

    pub(crate) fn alarm_of(&mut self, now: Timestamp, who: Option<Name>, note: &str) {
        let detail = Detail {
            who,
            note: Some(note.into()),
            ..Detail::default()
        };
        self.alarm(now, detail);
    }
}
