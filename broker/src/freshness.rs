//! Whether lists of revoked certificates are late, and the broker's own certificate is to be renewed: what `status` warns of, and what is an alarm.
//!
//! A late list is said twice: when its successor was due, and when its grace is over and nobody below its authority is believed any more. A list that
//! came in its place and is late in turn is said anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ordonnans_identity::{Certificate, ListNumber, Trust};
use ordonnans_message::{Digest, Timestamp};

use crate::admin::ListStatus;

/// What there is to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// What was not said before, and is an alarm.
    pub(crate) alarms: Vec<String>,
    /// Everything that holds now.
    pub(crate) warnings: Vec<String>,
}

/// Remembers what was said.
pub(crate) struct Freshness {
    own: Mutex<Certificate>,
    /// By authority: the number of the late list, and whether it was said that its grace is over.
    said: Mutex<BTreeMap<Digest, (ListNumber, bool)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Freshness {
    pub(crate) fn new(own: Certificate) -> Self {
        Self {
            own: own.into(),
            said: Mutex::default(),
        }
    }

    /// The broker shows another certificate from now on.
    pub(crate) fn renewed(&self, own: Certificate) {
        *lock(&self.own) = own;
    }

    /// Until when the own certificate is valid.
    pub(crate) fn certificate_until(&self) -> Timestamp {
        lock(&self.own).not_after()
    }

    /// Looks at the lists and the own certificate.
    pub(crate) fn look(&self, trust: &Trust, now: Timestamp) -> Said {
        let (mut all, mut late) = (Said::default(), BTreeMap::new());
        let mut said = lock(&self.said);
        for l in trust.late(now) {
            let this = (l.list.number.clone(), l.refused);
            if said.get(&l.list.by) != Some(&this) {
                all.alarms.push(l.to_string());
            }
            all.warnings.push(l.to_string());
            late.insert(l.list.by, this);
        }
        *said = late;
        let own = lock(&self.own);
        if own.is_due(now) {
            all.warnings.push(format!(
                "the broker's own certificate ends {}; have a new one issued",
                own.not_after()
            ));
        }
        all
    }
}

/// The lists in force, for `status`.
pub(crate) fn lists(trust: &Trust) -> Vec<ListStatus> {
    let of = |l: &ordonnans_identity::List| ListStatus {
        authority: l.authority.clone(),
        number: l.number.to_string(),
        until: l.until.to_string(),
    };
    trust.list_details().iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ordonnans_certs::Validity;
    use ordonnans_certs::memory::Authority;
    use ordonnans_label::{Clearance, Level};
    use time::OffsetDateTime;

    use super::*;

    const BEGAN: i64 = 1_790_000_000;

    fn hours(from: i64, until: i64) -> Validity {
        let at = |h: i64| OffsetDateTime::from_unix_timestamp(BEGAN + h * 3_600).expect("a time");
        Validity {
            from: at(from),
            until: at(until),
        }
    }

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_millis((BEGAN + hour * 3_600).unsigned_abs() * 1_000)
    }

    #[test]
    fn a_late_list_is_said_when_it_is_late_and_when_its_grace_is_over() {
        let mut a = Authority::new("crisis.example", hours(0, 1_000)).expect("made");
        let name = "b1.broker.crisis.example".parse().expect("a name");
        let holds = Clearance::new(Level::Ongerubriceerd);
        let mut own = |until| {
            let i = a.issue_with(&name, &holds, hours(0, until), None);
            Certificate::parse_der(&i.expect("made").certificate).expect("read")
        };
        let (short, long) = (own(90), own(900));
        let with = |a: &Authority, until| {
            let lists = a.lists_of(hours(0, until)).expect("lists");
            let trust = a.trust_with(lists.into()).expect("trust");
            trust.with_grace(Duration::from_secs(5 * 3_600))
        };
        let first = with(&a, 10);
        let f = Freshness::new(short);
        let counts = |trust: &Trust, hour| {
            let said = f.look(trust, at(hour));
            (said.alarms.len(), said.warnings.len())
        };
        // Two lists, each said once at each of its edges.
        assert_eq!(counts(&first, 9), (0, 0));
        assert_eq!(counts(&first, 10), (2, 2));
        assert_eq!(counts(&first, 14), (0, 2));
        assert_eq!(counts(&first, 15), (2, 2));
        assert_eq!(counts(&first, 16), (0, 2));
        // New ones end it, and are late in turn.
        let i = a.issue(&name, &holds).expect("made");
        a.revoke(&i);
        let second = with(&a, 30);
        assert_eq!(counts(&second, 16), (0, 0));
        assert_eq!(counts(&second, 31), (2, 2));
        assert_eq!(lists(&second)[0].number, "2");
        // The own certificate has a third of its life left: a warning and no alarm.
        let third = with(&a, 500);
        assert_eq!(counts(&third, 59), (0, 0));
        assert_eq!(counts(&third, 61), (0, 1));
        f.renewed(long);
        assert_eq!(counts(&third, 61), (0, 0));
        assert_eq!(f.certificate_until(), at(900));
    }
}
