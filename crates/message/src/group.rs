//! Groups that a message may be addressed to, and what the broker says of their members.

use std::fmt;
use std::str::FromStr;

use crate::asking::{read_addressees, write_addressees};
use crate::cbor::{DecodeError, Reader, Writer};
use crate::{Addressee, limits};

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// A duty role, that persons hold by turns.
    Role,
    /// A circle of those who need to know.
    Circle,
    /// A distribution list of the register.
    List,
}

impl GroupKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Role, Self::Circle, Self::List];

    /// The word in front of the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Circle => "circle",
            Self::List => "list",
        }
    }
}

/// A group of the register: `role:NAME`, `circle:NAME` or `list:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    kind: GroupKind,
    name: Box<str>,
}

/// A text that names no group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a group; write role:NAME, circle:NAME or list:NAME, at most 64 characters")]
pub struct InvalidGroup;

impl Group {
    /// A group of this kind and name.
    ///
    /// # Errors
    /// [`InvalidGroup`]: the name is empty, longer than [`limits::MAX_GROUP`] characters, or has control characters.
    pub fn new(kind: GroupKind, name: &str) -> Result<Self, InvalidGroup> {
        let length = name.chars().count();
        if length == 0 || length > limits::MAX_GROUP || name.chars().any(char::is_control) {
            return Err(InvalidGroup);
        }
        Ok(Self {
            kind,
            name: name.into(),
        })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> GroupKind {
        self.kind
    }

    /// Its name in the register.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.text(&self.to_string());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let most = 4 * limits::MAX_GROUP + 8;
        let text = r.text("group", most)?;
        text.parse().map_err(|_| DecodeError::Form("group"))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for Group {
    type Err = InvalidGroup;

    fn from_str(s: &str) -> Result<Self, InvalidGroup> {
        let (kind, name) = s.split_once(':').ok_or(InvalidGroup)?;
        let kind = GroupKind::ALL.into_iter().find(|k| k.as_str() == kind);
        Self::new(kind.ok_or(InvalidGroup)?, name)
    }
}

/// A group that a message was addressed to, and which of its recipients that means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addressed {
    /// The group.
    pub group: Group,
    /// Places among the recipients of the header, ascending; none of them is named beside the group.
    pub members: Vec<u16>,
}

impl Addressed {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(2);
        self.group.write(w);
        w.array(self.members.len());
        for n in &self.members {
            w.uint((*n).into());
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("group", 2)?;
        let group = Group::read(r)?;
        let n = r.array("members", limits::MAX_RECIPIENTS)?;
        let member = |r: &mut Reader<'_>| {
            let n = r.uint("member", limits::MAX_RECIPIENTS as u64 - 1)?;
            Ok(u16::try_from(n).unwrap_or(u16::MAX))
        };
        let members = (0..n)
            .map(|_| member(r))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { group, members })
    }
}

/// Who of a group may have a message of the label asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those who may, at most [`limits::MAX_RECIPIENTS`].
    pub may: Vec<Addressee>,
    /// How many may not. Who they are is not said.
    pub left_out: u16,
}

impl Members {
    pub(crate) fn write(&self, w: &mut Writer) {
        write_addressees(w.array(2), &self.may);
        w.uint(self.left_out.into());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("members", 2)?;
        let may = read_addressees(r, 0, limits::MAX_RECIPIENTS)?;
        let left_out = r.uint("left out", u16::MAX.into())?;
        Ok(Self {
            may,
            left_out: u16::try_from(left_out).unwrap_or(u16::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_groups() {
        let group: Group = "role:hoofd piket".parse().expect("a group");
        assert_eq!(
            (group.kind(), group.name()),
            (GroupKind::Role, "hoofd piket")
        );
        assert_eq!(group.to_string(), "role:hoofd piket");
        let long = format!("list:{}", "x".repeat(limits::MAX_GROUP + 1));
        for bad in [
            "",
            "role",
            "role:",
            "node:ncc",
            "ROLE:x",
            "list:a\nb",
            &long,
        ] {
            assert_eq!(bad.parse::<Group>(), Err(InvalidGroup), "{bad}");
        }
    }
}
