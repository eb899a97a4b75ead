//! Lists of revoked certificates (RFC 5280 section 5): whose, which number, until when they count, and what is said of one that is late.

use std::fmt;
use std::str::FromStr;

use ordonnans_message::{Digest, Timestamp};
use x509_parser::num_bigint::BigUint;

/// How long a list still counts after the next one was due, in hours, where nothing else is said: over a weekend somebody reaches the machine that
/// makes the lists.
pub const GRACE_HOURS: u64 = 72;
/// The most hours of it: lists live for 30 days, and with a longer grace their end would mean little.
pub const MAX_GRACE_HOURS: u64 = 720;

/// The number of a list (RFC 5280 section 5.2.3): it rises with every list an authority makes, and has at most 20 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListNumber(pub(crate) BigUint);

impl ListNumber {
    /// Digits of the largest number of 20 bytes.
    pub(crate) const DIGITS: usize = 49;
}

impl fmt::Display for ListNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no number of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number of a list of revoked certificates")]
pub struct InvalidNumber;

impl FromStr for ListNumber {
    type Err = InvalidNumber;

    fn from_str(s: &str) -> Result<Self, InvalidNumber> {
        let digits = s.bytes().all(|b| b.is_ascii_digit());
        if !digits || s.len() > Self::DIGITS {
            return Err(InvalidNumber);
        }
        s.parse().map(Self).map_err(|_| InvalidNumber)
    }
}

/// A list that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The authority, as people write its name.
    pub authority: String,
    /// SHA-256 over the authority's name and key: one that is made anew under the same name counts from the beginning.
    pub by: Digest,
    /// Its number.
    pub number: ListNumber,
    /// When the next one was due (`nextUpdate`).
    pub until: Timestamp,
    /// The authority's name as the verifier writes it.
    pub(crate) subject: Vec<u8>,
}

/// A list whose successor did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late<'a> {
    /// Which.
    pub list: &'a List,
    /// From when on nobody below its authority is believed.
    pub refused_from: Timestamp,
    /// Whether that is so already.
    pub refused: bool,
}

/// One sentence for an alarm, a log line or a status. It carries names, a number and times.
impl fmt::Display for Late<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let List {
            authority,
            number,
            until,
            ..
        } = self.list;
        write!(
            f,
            "the revocation list by '{authority}', number {number}, ended {until}; "
        )?;
        let from = self.refused_from;
        if self.refused {
            write!(f, "nobody below it is believed since {from}")
        } else {
            write!(
                f,
                "without a new one nobody below it is believed from {from} on"
            )
        }
    }
}
