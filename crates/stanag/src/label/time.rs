//! Times of XML Schema (`xs:dateTime`), with an offset or in UTC.

use ordonnans_label::Date;
use ordonnans_message::Timestamp;

const DAY: i64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before. A time without a zone is none: nobody could say when it is.
fn millis(s: &str) -> Option<i64> {
    let (day, rest) = s.split_once('T')?;
    let day: Date = day.parse().ok()?;
    let clock = rest.get(..8)?;
    let b = clock.as_bytes();
    if b[2] != b':' || b[5] != b':' {
        return None;
    }
    let (h, m, s) = (two(clock, 0)?, two(clock, 3)?, two(clock, 6)?);
    if h > 23 || m > 59 || s > 59 {
        return None;
    }
    let (fraction, zone) = match rest[8..].strip_prefix('.') {
        None => (0, &rest[8..]),
        Some(more) => {
            let digits = more.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=12).contains(&digits) {
                return None;
            }
            let ms: String = format!("{}000", &more[..digits]).chars().take(3).collect();
            (ms.parse().ok()?, &more[digits..])
        }
    };
    let offset = match zone.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (h, m) = (two(zone, 1)?, two(zone, 4)?);
            let minutes = h * 60 + m;
            if m > 59 || minutes > 14 * 60 {
                return None;
            }
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some(day.to_days() * DAY + ((h * 60 + m - offset) * 60 + s) * 1000 + fraction)
}

fn two(s: &str, at: usize) -> Option<i64> {
    let d = s.get(at..at + 2)?;
    d.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| d.parse().ok())?
}

/// A point in time, 1970 to 9999.
pub(super) fn timestamp(s: &str) -> Option<Timestamp> {
    let ms = u64::try_from(millis(s)?).ok()?;
    (ms <= Timestamp::MAX.as_millis()).then(|| Timestamp::from_millis(ms))
}

/// The day in UTC that a time falls on.
pub(super) fn day(s: &str) -> Option<Date> {
    Date::from_days(millis(s)?.div_euclid(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_an_offset() {
        let at = |s| timestamp(s).map(Timestamp::as_millis);
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(at("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(at("1970-01-01T00:00:00.1239-00:30"), Some(1_800_123));
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00+15:00",
            "1970-01-01T00:00:00.Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
            "1970-01-01T0é:00:0Z",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
        assert_eq!(
            day("1969-12-31T23:30:00Z")
                .map(|d| d.to_string())
                .as_deref(),
            Some("1969-12-31")
        );
        assert_eq!(
            day("2030-01-01T01:00:00+02:00")
                .map(|d| d.to_string())
                .as_deref(),
            Some("2029-12-31")
        );
    }
}
