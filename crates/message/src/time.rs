//! Points in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use ordonnans_label::Date;

const DAY: u64 = 86_400_000;

/// A point in time, in milliseconds since the Unix epoch, up to the end of the year 9999.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(u64);

/// A text that is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time; write YYYY-MM-DDTHH:MM:SSZ or with milliseconds, in UTC")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The last millisecond of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// A point in time from its milliseconds; later than the year 9999 becomes [`Self::MAX`].
    #[must_use]
    pub fn from_millis(ms: u64) -> Self {
        Self(ms).min(Self::MAX)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by this many milliseconds, at most [`Self::MAX`].
    #[must_use]
    pub fn after(self, ms: u64) -> Self {
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// Milliseconds since an earlier point; 0 when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The day it falls on, in UTC.
    #[must_use]
    pub fn date(self) -> Date {
        let days = i64::try_from(self.0 / DAY).unwrap_or(i64::MAX);
        // Both ends of the range of a timestamp are days of the calendar.
        Date::from_days(days)
            .or_else(|| Date::from_days(0))
            .unwrap_or_else(|| unreachable!("1970-01-01 is a day"))
    }
}

/// Whoever reads the clock; a time before 1970 is 1970.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Self::from_millis(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 % DAY;
        let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        write!(f, "{}T{h:02}:{m:02}:{s:02}.{ms:03}Z", self.date())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(s: &str) -> Result<Self, InvalidTimestamp> {
        let (date, time) = s.split_once('T').ok_or(InvalidTimestamp)?;
        let date: Date = date.parse().map_err(|_| InvalidTimestamp)?;
        let days = u64::try_from(date.to_days()).map_err(|_| InvalidTimestamp)?;
        let time = time.strip_suffix('Z').ok_or(InvalidTimestamp)?;
        let b = time.as_bytes();
        let shape = (b.len() == 8 || b.len() == 12)
            && b.iter().enumerate().all(|(i, c)| match i {
                2 | 5 => *c == b':',
                8 => *c == b'.',
                _ => c.is_ascii_digit(),
            });
        if !shape {
            return Err(InvalidTimestamp);
        }
        let part = |r: std::ops::Range<usize>| time[r].parse::<u64>().map_err(|_| InvalidTimestamp);
        let (h, m, s) = (part(0..2)?, part(3..5)?, part(6..8)?);
        let ms = if b.len() == 12 { part(9..12)? } else { 0 };
        if h > 23 || m > 59 || s > 59 {
            return Err(InvalidTimestamp);
        }
        Ok(Self(
            days * DAY + h * 3_600_000 + m * 60_000 + s * 1000 + ms,
        ))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(s: String) -> Result<Self, InvalidTimestamp> {
        s.parse()
    }
}

impl From<Timestamp> for String {
    fn from(t: Timestamp) -> Self {
        t.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back(ms in 0..=Timestamp::MAX.as_millis()) {
            let t = Timestamp::from_millis(ms);
            prop_assert_eq!(t.to_string().parse(), Ok(t));
        }
    }

    #[test]
    fn known_times() {
        let t = Timestamp::from_millis(1_752_192_000_123);
        assert_eq!(t.to_string(), "2025-07-11T00:00:00.123Z");
        assert_eq!(
            "2025-07-11T00:00:00Z".parse(),
            Ok(Timestamp::from_millis(1_752_192_000_000))
        );
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
        for bad in [
            "2025-07-11",
            "2025-07-11T24:00:00Z",
            "2025-07-11T00:00:00",
            "2025-07-11T00:00:00+00:00",
            "1969-12-31T00:00:00Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(InvalidTimestamp), "{bad}");
        }
        assert_eq!(Timestamp::MAX.after(1), Timestamp::MAX);
    }
}
