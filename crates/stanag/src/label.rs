//! Confidentiality labels of STANAG 4774 (ADatP-4774 edition A version 1; XSD version 1.3).
//!
//! [`write()`] and [`write_alternative`] give the XML of a [`Label`]; [`read`] takes it back under the policies in force. Elements and
//! attributes stand in one order, so one label has one text.
//!
//! What 4774 has no field for stands in one element of the namespace [`crate::NAMESPACE_OWN`], after all others, where the schema allows
//! elements of other namespaces: whether the label is proposed or established and by whom (VIRBI 2025 articles 1 and 4), and a duration
//! that ends with an *event*, or that there is none. 4774 knows a review by time only, and its text asks for one on every label without
//! `SuccessionHandling`. A label whose duration is an event or is absent has **no `ReviewDateTime`**: a day would be invented. It is valid
//! by the schema; a reader that passes over the element sees a label without a duration. A label with neither the element nor a review is refused.
//!
//! A permissive set without values, which is nobody, is written as a `Category` without `GenericValue` and read back as nobody. A foreign
//! reader may take it for no limit: send such a label to no partner without an agreement on it.

use ordonnans_label::{Confidentiality, InvalidUnderPolicy, Label};
use ordonnans_message::Timestamp;

use crate::XmlError;
use crate::xml::Bounds;

mod read;
mod time;
mod write;

pub(crate) use read::of_node;
pub use read::read;
pub use write::{write, write_alternative};

/// The namespace of labels.
pub const NAMESPACE: &str = "urn:nato:stanag:4774:confidentialitymetadatalabel:1:0";
/// Bytes of a label as XML.
pub const MAX_XML_BYTES: usize = 64 * 1024;

pub(crate) const BOUNDS: Bounds = Bounds {
    bytes: MAX_XML_BYTES,
    tags: 2048,
    attributes: 16,
    value: 2048,
    text: 4096,
    depth: 16,
};

/// Which element the label is (4774 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `originatorConfidentialityLabel`: what the originator gave; never overwritten.
    Originator,
    /// `alternativeConfidentialityLabel`: what it equals under another policy.
    Alternative,
    /// `metadataConfidentialityLabel`: the label of metadata. Read only.
    Metadata,
    /// `ConfidentialityLabel`, of before version 1. Read only.
    Plain,
}

impl Root {
    /// All, in the order of the standard.
    pub const ALL: [Self; 4] = [
        Self::Originator,
        Self::Alternative,
        Self::Metadata,
        Self::Plain,
    ];

    /// The local name of the element.
    #[must_use]
    pub fn element(self) -> &'static str {
        match self {
            Self::Originator => "originatorConfidentialityLabel",
            Self::Alternative => "alternativeConfidentialityLabel",
            Self::Metadata => "metadataConfidentialityLabel",
            Self::Plain => "ConfidentialityLabel",
        }
    }

    pub(crate) fn of(element: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.element() == element)
    }
}

/// Who made a label, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originator {
    /// `IDType`: one of the eight of the schema. Ours is `dNSName`.
    pub kind: &'static str,
    /// The identifier.
    pub id: String,
}

/// What the label says will follow it (4774.1 section 4.3). **Never applied here**: at the end of a duration a person weighs again (VIRBI
/// 2025 article 5), so it is something to show to that person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// From when.
    pub at: Timestamp,
    /// The label after it.
    pub successor: Confidentiality,
}

/// A label as it was read, with what stood beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XmlLabel {
    /// Which element it was.
    pub root: Root,
    /// The label. Whether it is valid under its policy, `Policies::check` says. *Established* is what the text claims: it is worth as much as
    /// the signature around it.
    pub label: Label,
    /// `@Id`.
    pub id: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub originator: Option<Originator>,
    /// `PrivacyMark`: shown, decides nothing.
    pub privacy_mark: Option<String>,
    /// What is to follow it.
    pub succession: Option<Succession>,
    /// How many elements of other namespaces were passed over.
    pub foreign: usize,
}

/// Why a label was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Not valid under its policy, or its policy is not known.
    #[error("the label is not valid, so it is not written: {0}")]
    NotValid(#[from] InvalidUnderPolicy),
    /// A character that XML 1.0 cannot carry.
    #[error("{0} has a character that XML cannot carry")]
    Character(&'static str),
    /// More than [`MAX_XML_BYTES`].
    #[error("the label as XML has more than 64 KiB")]
    TooLong,
}

/// Why XML is no label that is read here. Each names the place; nothing was taken from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidXmlLabel {
    /// Not XML within the bounds.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The outermost element is in another namespace, or in none.
    #[error(
        "the label is in the namespace '{0}'; it belongs in urn:nato:stanag:4774:confidentialitymetadatalabel:1:0"
    )]
    Namespace(String),
    /// The outermost element is no label.
    #[error(
        "'{0}' is no label; write originatorConfidentialityLabel or alternativeConfidentialityLabel"
    )]
    Root(String),
    /// An element that may not stand there.
    #[error("{place}: there is no element '{found}' in it; {hint}")]
    Element {
        /// The element it stands in.
        place: &'static str,
        /// What stands there.
        found: String,
        /// What may.
        hint: &'static str,
    },
    /// An element that stands too late, or twice.
    #[error("{place}: '{found}' stands twice or out of order")]
    Order {
        /// The element it stands in.
        place: &'static str,
        /// What stands there.
        found: String,
    },
    /// A second label within the first.
    #[error("two labels stand in one element; each has its own")]
    TwoLabels,
    /// An attribute that the element does not have.
    #[error("{place}: there is no attribute '{found}'; {hint}")]
    Attribute {
        /// The element.
        place: &'static str,
        /// The attribute.
        found: String,
        /// What may stand there.
        hint: &'static str,
    },
    /// `Classification/@URI`.
    #[error("Classification has no attribute URI (4774.1 forbids it); take it out")]
    ClassificationUri,
    /// An element or attribute is not there.
    #[error("{place}: '{missing}' is missing or empty")]
    Missing {
        /// The element.
        place: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// No `CreationDateTime`.
    #[error("CreationDateTime is missing; every label has one")]
    NoCreation,
    /// No `ReviewDateTime`, and nothing in its place.
    #[error(
        "ReviewDateTime is missing; every label without SuccessionHandling has one, so its originator has to add it"
    )]
    NoReview,
    /// Text between elements.
    #[error("{0} holds elements, and text stands between them")]
    Text(&'static str),
    /// An element within one that holds text.
    #[error("{0} holds text, not elements")]
    NotText(&'static str),
    /// No time.
    #[error(
        "{place}: '{found}' is no time; write YYYY-MM-DDTHH:MM:SSZ, 1970 to 9999, with Z or an offset"
    )]
    Time {
        /// Where.
        place: &'static str,
        /// What stands there.
        found: String,
    },
    /// `PolicyIdentifier/@URI` is no object identifier.
    #[error("'{0}' is no identifier of a policy; write urn:oid: and its arcs")]
    PolicyUri(String),
    /// Nothing here knows the policy.
    #[error("no policy '{0}' is known here; add its file")]
    UnknownPolicy(String),
    /// Name and object identifier name two policies, or one of them none.
    #[error("the policy is called '{name}' and identified as '{uri}'; the two do not agree")]
    PolicyDisagrees {
        /// The name.
        name: String,
        /// The URI.
        uri: String,
    },
    /// The policy has no such level.
    #[error("the policy {policy} has no level '{found}'; the name of the policy is no part of it")]
    Level {
        /// The policy.
        policy: String,
        /// The level.
        found: String,
    },
    /// A type that does not exist.
    #[error(
        "'{0}' is no type of category; write RESTRICTIVE, PERMISSIVE or INFORMATIVE in capitals"
    )]
    CategoryType(String),
    /// The policy has no such set of this type.
    #[error("the policy {policy} has no tag set '{found}' of type {kind}")]
    TagSet {
        /// The policy.
        policy: String,
        /// The set.
        found: String,
        /// The type.
        kind: &'static str,
    },
    /// `Category/@URI` is not that of the set.
    #[error("the tag set '{set}' is not identified by '{uri}'")]
    TagSetUri {
        /// The set.
        set: String,
        /// The URI.
        uri: String,
    },
    /// `IntegerValue` or `BitStringValue`.
    #[error("'{0}' is not read (4774.1): write each value in a GenericValue, by name")]
    ValueForm(String),
    /// A value that cannot be one.
    #[error("'{found}' in {set}: {why}")]
    Value {
        /// The set.
        set: String,
        /// The value.
        found: String,
        /// What is wrong with it.
        why: ordonnans_label::InvalidValue,
    },
    /// A restrictive or informative category says nothing.
    #[error("the category '{0}' has no value; leave it out")]
    NoValue(String),
    /// An `IDType` that the schema does not have.
    #[error("'{0}' is no IDType; ours is dNSName")]
    IdType(String),
    /// The element of our own namespace is not what we write.
    #[error("the element Act of urn:ordonnans:stanag:1 is not right: {0}")]
    Act(&'static str),
}

impl InvalidXmlLabel {
    /// A stable name, for logs and test vectors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Xml(e) => e.name(),
            Self::Namespace(_) => "namespace",
            Self::Root(_) => "root",
            Self::Element { .. } => "element",
            Self::Order { .. } => "order",
            Self::TwoLabels => "two-labels",
            Self::Attribute { .. } => "attribute",
            Self::ClassificationUri => "classification-uri",
            Self::Missing { .. } => "missing",
            Self::NoCreation => "no-creation",
            Self::NoReview => "no-review",
            Self::Text(_) => "text",
            Self::NotText(_) => "not-text",
            Self::Time { .. } => "time",
            Self::PolicyUri(_) => "policy-uri",
            Self::UnknownPolicy(_) => "unknown-policy",
            Self::PolicyDisagrees { .. } => "policy-disagrees",
            Self::Level { .. } => "level",
            Self::CategoryType(_) => "category-type",
            Self::TagSet { .. } => "tag-set",
            Self::TagSetUri { .. } => "tag-set-uri",
            Self::ValueForm(_) => "value-form",
            Self::Value { .. } => "value",
            Self::NoValue(_) => "no-value",
            Self::IdType(_) => "id-type",
            Self::Act(_) => "act",
        }
    }
}

#[cfg(test)]
mod tests;
