//! Calendar dates (ISO 8601, proleptic Gregorian), without a time of day.

use std::fmt;
use std::str::FromStr;

/// A day, 0001-01-01 to 9999-12-31. Ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// A text or number that is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date; write YYYY-MM-DD, a day that exists")]
pub struct InvalidDate;

fn leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_length(year: u16, month: u8) -> u8 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Date {
    /// The day, or `None` where the calendar has no such day.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let real = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=month_length(year, month)).contains(&day);
        real.then_some(Self { year, month, day })
    }

    /// Days since 1970-01-01; negative before.
    #[must_use]
    pub fn to_days(self) -> i64 {
        // Years counted from March, so that the leap day ends the year.
        let (y, m) = (i64::from(self.year), i64::from(self.month));
        let y = if m <= 2 { y - 1 } else { y };
        let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468
    }

    /// The day a number of days after 1970-01-01, or `None` outside the years 1 to 9999.
    #[must_use]
    pub fn from_days(days: i64) -> Option<Self> {
        let z = days.checked_add(719_468)?;
        let era = z.div_euclid(146_097);
        let of_era = z.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = u8::try_from(of_year - (153 * shifted + 2) / 5 + 1).ok()?;
        let month = u8::try_from(if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        })
        .ok()?;
        let year = u16::try_from(year_of_era + era * 400 + i64::from(month <= 2)).ok()?;
        Self::new(year, month, day)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(s: &str) -> Result<Self, InvalidDate> {
        let b = s.as_bytes();
        let shape = b.len() == 10
            && b.iter().enumerate().all(|(i, c)| {
                if i == 4 || i == 7 {
                    *c == b'-'
                } else {
                    c.is_ascii_digit()
                }
            });
        if !shape {
            return Err(InvalidDate);
        }
        let part = |r: std::ops::Range<usize>| s[r].parse::<u16>().map_err(|_| InvalidDate);
        let small = |r| part(r).and_then(|n| u8::try_from(n).map_err(|_| InvalidDate));
        Self::new(part(0..4)?, small(5..7)?, small(8..10)?).ok_or(InvalidDate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("1969-12-31", -1),
            ("2026-11-23", 20_780),
        ] {
            let d: Date = text.parse().expect("a day");
            assert_eq!(d.to_days(), days, "{text}");
            assert_eq!(d.to_string(), text);
        }
    }

    #[test]
    fn days_that_do_not_exist() {
        for s in [
            "2025-02-29",
            "1900-02-29",
            "2025-13-01",
            "2025-00-01",
            "2025-04-31",
            "0000-01-01",
            "25-01-01",
            "2025-1-1",
            "2025-01-01T",
            "+025-01-01",
        ] {
            assert_eq!(s.parse::<Date>(), Err(InvalidDate), "{s}");
        }
    }

    proptest! {
        #[test]
        fn days_and_back(n in -719_162i64..=2_932_896) {
            let d = Date::from_days(n).expect("within the calendar");
            prop_assert_eq!(d.to_days(), n);
            prop_assert_eq!(d.to_string().parse::<Date>(), Ok(d));
        }
    }
}
