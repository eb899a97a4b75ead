//! What an officer should look at without having to search: somebody who reads, prints or exports more than people do, a receipt that does
//! not come, a clock that jumps, a witness who remembers another log.

use std::collections::BTreeMap;

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Level, Name};
use ordonnans_message::{MessageId, Precedence, Timestamp};

use crate::engine::Engine;

const OPEN: Level = Level::Ongerubriceerd;
/// Subjects that are counted at once. Beyond it those whose hour is over make room; each takes about 0.2 KiB.
const COUNTED: usize = 65_536;
/// How often it is looked for receipts that are late.
const LATE_EVERY_MS: u64 = 60_000;
/// Late copies that one look names; the others are counted.
const LATE_NAMED: usize = 64;
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
}

impl Default for AlarmLimits {
    /// What a duty officer does in a busy hour, with room.
    fn default() -> Self {
        Self {
            opened: 120,
            printed: 20,
            exported: 20,
            refused: 60,
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
    /// By subject and verb: when its hour began, and how often since.
    counts: BTreeMap<(Name, Verb), (Timestamp, u32)>,
    looked: Option<Timestamp>,
}

/// Within this time a receipt is due, in milliseconds: the delivery objectives of the military precedences, and a day for what may wait.
pub(crate) fn due_within(precedence: Precedence) -> u64 {
    let minutes = match precedence {
        Precedence::Override | Precedence::Flash => 10,
        Precedence::Immediate => 30,
        Precedence::Priority => 3 * 60,
        Precedence::Routine => 6 * 60,
        Precedence::Deferred => 24 * 60,
    };
    minutes * 60 * 1000
}

impl Engine {
    /// Makes an alarm: a record that every officer can read.
    pub(crate) fn alarm(&mut self, now: Timestamp, detail: Detail) {
        self.ledger.record(now, Verb::Alarm, OPEN, detail);
    }

    /// Counts what somebody did. The first time that it is more than the limit within an hour is an alarm.
    pub(crate) fn count(&mut self, now: Timestamp, who: &Name, verb: Verb) {
        let Some(limit) = self.settings.alarms.of(verb) else {
            return;
        };
        let counts = &mut self.alarms.counts;
        // A clock that was set back begins the hour anew.
        let over = |began: Timestamp| now.since(began) >= HOUR_MS || began > now;
        if counts.len() >= COUNTED {
            counts.retain(|_, (began, _)| !over(*began));
        }
        if counts.len() >= COUNTED {
            return;
        }
        let (began, times) = counts.entry((who.clone(), verb)).or_insert((now, 0));
        if over(*began) {
            (*began, *times) = (now, 0);
        }
        *times = times.saturating_add(1);
        if *times == limit.saturating_add(1) {
            let detail = Detail {
                who: Some(who.clone()),
                note: Some(format!(
                    "{} more than {limit} times within an hour",
                    verb.as_str()
                )),
                ..Detail::default()
            };
            self.alarm(now, detail);
        }
    }

    /// A copy whose receipt is late is an alarm, once a run.
    pub(crate) fn look_for_late(&mut self, now: Timestamp) {
        let looked = self.alarms.looked;
        if looked.is_some_and(|t| now >= t && now.since(t) < LATE_EVERY_MS) {
            return;
        }
        self.alarms.looked = Some(now);
        let late: Vec<(Name, crate::rows::Place, MessageId)> = self
            .mailbox
            .queues()
            .flat_map(|(node, queue)| {
                let late = queue.items.iter().filter(|(place, item)| {
                    let at = self.seen.get(&item.id).map_or(now, |s| s.at);
                    !item.late && now.since(at) >= due_within(place.0.0)
                });
                late.map(|(place, item)| (node.clone(), *place, item.id))
            })
            .collect();
        for (node, place, _) in &late {
            self.mailbox.note_late(node, *place);
        }
        for (node, place, id) in late.iter().take(LATE_NAMED) {
            let detail = Detail {
                to: Some(node.clone()),
                message: Some(*id),
                copy: self.copy(*id, node),
                note: Some(format!("no receipt in time, {}", place.0.0)),
                ..Detail::default()
            };
            let level = self.seen.get(id).map_or(OPEN, |s| s.level);
            self.ledger.record(now, Verb::Alarm, level, detail);
        }
        if late.len() > LATE_NAMED {
            let detail = Detail {
                note: Some(format!(
                    "{} more copies without a receipt in time",
                    late.len() - LATE_NAMED
                )),
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
