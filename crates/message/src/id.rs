//! Message identifiers: UUID version 7 (RFC 9562 section 5.7).

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid};

use crate::Timestamp;

/// Names one message for ever. Its first 48 bits are the time of its making, so ids sort roughly by age. Its maker
/// says that time.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct MessageId([u8; 16]);

/// Bytes or a text that are no message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a message id; it is a UUID of version 7 in lower case, as `send` and `inbox` print it"
)]
pub struct InvalidMessageId;

impl MessageId {
    /// A new id from the time and ten random bytes; the caller brings both.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        Self(
            Builder::from_unix_timestamp_millis(now.as_millis(), &random)
                .into_uuid()
                .into_bytes(),
        )
    }

    /// The time its maker put into it.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        let ms = self.0[..6].iter().fold(0, |t, b| t << 8 | u64::from(*b));
        Timestamp::from_millis(ms)
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for MessageId {
    type Error = InvalidMessageId;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidMessageId> {
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| InvalidMessageId)?;
        let right = bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10;
        if right {
            Ok(Self(bytes))
        } else {
            Err(InvalidMessageId)
        }
    }
}

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(s: &str) -> Result<Self, InvalidMessageId> {
        let id = Uuid::try_parse(s).map_err(|_| InvalidMessageId)?;
        let id = Self::try_from(id.as_bytes().as_slice())?;
        // One id, one text: the library also reads upper case, braces and no hyphens.
        if id.to_string() == s {
            Ok(id)
        } else {
            Err(InvalidMessageId)
        }
    }
}

impl TryFrom<String> for MessageId {
    type Error = InvalidMessageId;

    fn try_from(s: String) -> Result<Self, InvalidMessageId> {
        s.parse()
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_one_text() {
        let id = MessageId::new(Timestamp::from_millis(0x0123_4567_89ab), [0xff; 10]);
        assert_eq!(id.to_string(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(MessageId::try_from(id.as_bytes().as_slice()), Ok(id));
        for bad in [
            "",
            "01234567-89AB-7fff-bfff-ffffffffffff",
            "0123456789ab7fffbfffffffffffffff",
            "01234567-89ab-4fff-bfff-ffffffffffff",
        ] {
            assert_eq!(bad.parse::<MessageId>(), Err(InvalidMessageId), "{bad}");
        }
        assert_eq!(
            MessageId::try_from([0u8; 16].as_slice()),
            Err(InvalidMessageId)
        );
    }
}
