//! One of our policy files from an XML-SPIF (schema versions 2.0 and 2.1 of xmlspif.org).
//!
//! An import is a draft that a person reads before it is in force: nobody's signature is verified, and what a level equals under the Dutch
//! policy is what the file claims. So **every level and set is `unconfirmed`**, and what could not be carried over stands in
//! [`Imported::notes`]. Where something is not known, the draft is the stricter of what it may be:
//!
//! - A level that is said to equal none of a policy known here equals what the next higher level equals, the highest Stg.ZG.
//! - A rule that asks for a value that cannot be carried over makes what it hangs on unusable.
//! - Two permissive tags of one tag set stay two sets: united, one value would do where one of each is asked.
//! - An element that the schema does not have is refused: it may be a rule.

use ordonnans_label::InvalidPolicy;

use crate::xml::{Bounds, XmlError};

mod draft;
mod marking;
mod read;
mod rules;
mod sets;

pub use read::read;

/// The namespace of schema 2.1 and the versions before it.
pub const NAMESPACE: &str = "http://www.xmlspif.org/spif";
/// Bytes of an XML-SPIF.
pub const MAX_XML_BYTES: usize = 4 << 20;
/// Notes of one import; the last says that there are more.
pub const MAX_NOTES: usize = 256;

const BOUNDS: Bounds = Bounds {
    bytes: MAX_XML_BYTES,
    tags: 64 * 1024,
    attributes: 32,
    value: 4096,
    text: 4096,
    depth: 24,
};

/// A policy file made from an XML-SPIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of the policy file; `Policy::parse` reads it.
    pub toml: String,
    /// What the file says and the policy does not, and what was put in its place. Each for a person to look at.
    pub notes: Vec<String>,
}

/// Why XML is no XML-SPIF that is read here. Nothing was taken from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpif {
    /// Not XML within the bounds.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The outermost element.
    #[error("'{0}' is no SPIF; write SPIF in http://www.xmlspif.org/spif")]
    Root(String),
    /// Another version of the schema.
    #[error(
        "the schema version '{0}' is not read; ask for the policy in version 2.1, later ones mark otherwise"
    )]
    Version(String),
    /// An element that the schema does not have there.
    #[error(
        "{place}: there is no element '{found}' in schema 2.1, and it may be a rule; take it out or write it as the schema has it"
    )]
    Element {
        /// The element it stands in.
        place: &'static str,
        /// What stands there.
        found: String,
    },
    /// An element or attribute is not there.
    #[error("{place}: '{missing}' is missing or empty")]
    Missing {
        /// The element.
        place: String,
        /// What is missing.
        missing: &'static str,
    },
    /// A value that an attribute may not have.
    #[error("{place}: '{found}' is no {what}")]
    Value {
        /// The element.
        place: String,
        /// What it should be.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// Two levels with one place in the order, name or `lacv`.
    #[error(
        "the levels '{0}' and '{1}' have the same place, name or number; each has its own, so their keeper has to decide"
    )]
    Same(String, String),
    /// A reference to a level, set or value that is not in the file.
    #[error("{place}: the file has no {found}")]
    Reference {
        /// Where it is named.
        place: String,
        /// What is named.
        found: String,
    },
    /// More of something than a policy here may have.
    #[error(
        "the file has more than a policy here may have of {0}; split it, or write the policy by hand"
    )]
    TooMany(&'static str),
    /// The policy that came out is none.
    #[error("what the file says is no policy here: {0}")]
    Policy(#[from] InvalidPolicy),
}

impl InvalidSpif {
    /// A stable name, for logs and test vectors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Xml(e) => e.name(),
            Self::Root(_) => "root",
            Self::Version(_) => "version",
            Self::Element { .. } => "element",
            Self::Missing { .. } => "missing",
            Self::Value { .. } => "value",
            Self::Same(..) => "same",
            Self::Reference { .. } => "reference",
            Self::TooMany(_) => "too-many",
            Self::Policy(_) => "policy",
        }
    }
}

/// What there is to tell about an import.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// Adds a note, once.
    fn add(&mut self, note: impl Into<String>) {
        let note = note.into();
        if self.0.len() < MAX_NOTES && !self.0.contains(&note) {
            self.0.push(note);
            if self.0.len() == MAX_NOTES {
                self.0.pop();
                self.0
                    .push("there is more that is not told here; read the file beside it".into());
            }
        }
    }
}
