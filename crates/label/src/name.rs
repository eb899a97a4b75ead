//! Names of subjects: what a certificate's one DNS SAN says (RFC 5280 section 4.2.1.6).

use std::fmt;
use std::str::FromStr;

/// What a subject is. It is the second part of a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A message broker.
    Broker,
    /// The endpoint of an organisation.
    Node,
    /// A security officer, who inspects the audit log.
    Officer,
    /// A human with an own certificate.
    Person,
}

impl Kind {
    /// The word that stands in a name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Node => "node",
            Self::Officer => "officer",
            Self::Person => "person",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        match s {
            "broker" => Ok(Self::Broker),
            "node" => Ok(Self::Node),
            "officer" => Ok(Self::Officer),
            "person" => Ok(Self::Person),
            _ => Err(InvalidName::Kind),
        }
    }
}

/// A subject: `<name>.<kind>.<structure>`, for instance `lot-c.node.crisis.example`.
///
/// At most 120 bytes of lower-case letters, digits, hyphens and dots: a DNS name, because that is the only form that name
/// constraints of an issuing authority bind in the verifier in use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(Box<str>);

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Longer than 120 bytes.
    #[error("a name has at most 120 bytes")]
    TooLong,
    /// Fewer than three parts, or a part that is no DNS label of lower-case letters, digits and inner hyphens.
    #[error(
        "a name reads <name>.<kind>.<structure> in lower-case letters, digits and hyphens, as in ncc.node.crisis.example"
    )]
    Form,
    /// The second part is none of the four kinds.
    #[error("the second part of a name is node, person, officer or broker")]
    Kind,
}

impl Name {
    /// Largest length in bytes. Leaves room in the 253 bytes of a DNS name.
    pub const MAX_BYTES: usize = 120;

    /// Puts a name together.
    ///
    /// # Errors
    /// [`InvalidName`] says which part is wrong.
    pub fn new(local: &str, kind: Kind, structure: &str) -> Result<Self, InvalidName> {
        if local.contains('.') {
            return Err(InvalidName::Form);
        }
        format!("{local}.{kind}.{structure}").parse()
    }

    /// The first part: `lot-c`.
    #[must_use]
    pub fn local(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// The first parts of several, for people: `jansen, vermeer`.
    #[must_use]
    pub fn locals<'a>(names: impl IntoIterator<Item = &'a Self>) -> String {
        let all: Vec<&str> = names.into_iter().map(Self::local).collect();
        all.join(", ")
    }

    /// What the subject is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        // The constructor let nothing else in.
        self.0
            .split('.')
            .nth(1)
            .and_then(|k| k.parse().ok())
            .unwrap_or(Kind::Node)
    }

    /// Everything after the kind: `crisis.example`.
    #[must_use]
    pub fn structure(&self) -> &str {
        self.0.splitn(3, '.').nth(2).unwrap_or_default()
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        if s.len() > Self::MAX_BYTES {
            return Err(InvalidName::TooLong);
        }
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let label = |p: &str| {
            (1..=63).contains(&p.len())
                && p.bytes().all(inner)
                && !p.starts_with('-')
                && !p.ends_with('-')
        };
        let parts: Vec<&str> = s.split('.').collect();
        if parts.len() < 3 || !parts.iter().all(|p| label(p)) {
            return Err(InvalidName::Form);
        }
        parts[1].parse::<Kind>()?;
        Ok(Self(s.into()))
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<Name> for String {
    fn from(n: Name) -> Self {
        n.0.into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let n: Name = "lot-c.node.crisis.example".parse().expect("a name");
        assert_eq!(
            (n.local(), n.kind(), n.structure()),
            ("lot-c", Kind::Node, "crisis.example")
        );
        assert_eq!(Name::new("lot-c", Kind::Node, "crisis.example"), Ok(n));
    }

    #[test]
    fn refused() {
        for (text, why) in [
            ("", InvalidName::Form),
            ("ncc.node", InvalidName::Form),
            ("NCC.node.crisis.example", InvalidName::Form),
            ("ncc.node.crisis.", InvalidName::Form),
            ("-ncc.node.crisis", InvalidName::Form),
            ("*.node.crisis.example", InvalidName::Form),
            ("ncc.server.crisis.example", InvalidName::Kind),
        ] {
            assert_eq!(text.parse::<Name>(), Err(why), "{text}");
        }
        let long = |n: usize| format!("{}.node.{}.x", "a".repeat(60), "b".repeat(n));
        assert_eq!(long(52).len(), 120);
        assert!(long(52).parse::<Name>().is_ok());
        assert_eq!(long(53).parse::<Name>(), Err(InvalidName::TooLong));
        assert_eq!(Name::new("a.b", Kind::Node, "x"), Err(InvalidName::Form));
    }
}
