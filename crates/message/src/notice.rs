//! What the broker tells nodes about copies, unasked.

use ordonnans_label::Name;

use crate::Precedence;
use crate::cbor::{DecodeError, Reader, Writer};
use crate::header::{name, precedence};

/// Something about a message that a node is to know. None of it says why: whoever is told may not be cleared for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// 0, to the originator: so many members of the groups it was for do not get it.
    LeftOut {
        /// How many.
        count: u16,
    },
    /// 1, to the originator: the copy for this node is held back, for it may not have it as things are.
    Withheld {
        /// The node.
        node: Name,
    },
    /// 2, to the originator: its time was over before this node had it.
    Expired {
        /// The node.
        node: Name,
    },
    /// 3, to a recipient: it should have been opened, or answered, by now.
    Due {
        /// How fast it had to be.
        precedence: Precedence,
    },
    /// 4, to the originator and to the contact for what is late: this node was reminded and is late still.
    Late {
        /// The node.
        node: Name,
        /// How fast it had to be.
        precedence: Precedence,
    },
    /// 5, to the originator: another message took its place before this node had it.
    Superseded {
        /// The node.
        node: Name,
    },
}

impl News {
    /// The node whose copy it is about, where it is about one.
    #[must_use]
    pub fn node(&self) -> Option<&Name> {
        match self {
            Self::LeftOut { .. } | Self::Due { .. } => None,
            Self::Withheld { node }
            | Self::Expired { node }
            | Self::Late { node, .. }
            | Self::Superseded { node } => Some(node),
        }
    }

    /// The number in encodings.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::LeftOut { .. } => 0,
            Self::Withheld { .. } => 1,
            Self::Expired { .. } => 2,
            Self::Due { .. } => 3,
            Self::Late { .. } => 4,
            Self::Superseded { .. } => 5,
        }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        let number = match self {
            Self::LeftOut { count } => u64::from(*count),
            Self::Due { precedence } | Self::Late { precedence, .. } => precedence.code().into(),
            Self::Withheld { .. } | Self::Expired { .. } | Self::Superseded { .. } => 0,
        };
        w.array(3).uint(self.code().into());
        w.option(self.node(), |w, n| {
            w.text(n.as_str());
        });
        w.uint(number);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("news", 3)?;
        let code = r.uint("news", u64::MAX)?;
        let node = r.option(|r| name(r, "node"))?;
        let nothing = |r: &mut Reader<'_>| r.uint("news", 0);
        Ok(match (code, node) {
            (0, None) => {
                let count = r.uint("left out", u16::MAX.into())?;
                let count = u16::try_from(count).unwrap_or(u16::MAX);
                Self::LeftOut { count }
            }
            (1, Some(node)) => nothing(r).map(|_| Self::Withheld { node })?,
            (2, Some(node)) => nothing(r).map(|_| Self::Expired { node })?,
            (3, None) => Self::Due {
                precedence: precedence(r)?,
            },
            (4, Some(node)) => Self::Late {
                node,
                precedence: precedence(r)?,
            },
            (5, Some(node)) => nothing(r).map(|_| Self::Superseded { node })?,
            (0..=5, _) => return Err(DecodeError::Form("news")),
            _ => return Err(DecodeError::Unknown("news")),
        })
    }
}
