//! Labels bound to files, by STANAG 4778 (ADatP-4778 edition A version 1; XSD version 1.4).
//!
//! [`detached`] gives a document that stands beside a file and names it; [`encapsulating`] one that holds the file. [`read`] takes both
//! back, and those of others as far as they bind labels of STANAG 4774.
//!
//! **No signature is made or verified**: 4778 makes it optional, and inside the system the envelope is signed. [`Binding::signatures`] says how
//! many stood there. A binding from elsewhere is a claim; whoever imports it weighs where it came from.
//!
//! Two things stand in the namespace [`crate::NAMESPACE_OWN`], where the schema allows elements of other namespaces: `Digest`, the SHA-256 of a
//! file that is named, and `Octets`, a file in base64. `Data` holds one element and no text, so bytes need an element.

use ordonnans_message::Digest;

use crate::label::{InvalidXmlLabel, Root, WriteError, XmlLabel};
use crate::xml::{Bounds, XmlError};

mod read;
mod write;

pub use read::read;
pub use write::{Subject, detached, encapsulating};

/// The namespace of bindings.
pub const NAMESPACE: &str = "urn:nato:stanag:4778:bindinginformation:1:0";
/// The namespace of `contentType`.
const MEDIA: &str = "http://www.w3.org/2005/05/xmlmime";
const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";
/// How SHA-256 is called (XML Encryption, section 5.7.2).
const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";

/// Bytes of a file that is held in a binding.
pub const MAX_DATA_BYTES: usize = 64 << 20;
/// Bytes of a binding: a file in base64, with lines of 64, and a megabyte around it.
pub const MAX_XML_BYTES: usize = MAX_DATA_BYTES / 3 * 4 + MAX_DATA_BYTES / 24 + (1 << 20);
/// Metadata bindings in one document, and objects.
pub const MAX_BINDINGS: usize = 64;
/// Bytes of the name of a file.
pub const MAX_FILE_NAME_BYTES: usize = 255;

const BOUNDS: Bounds = Bounds {
    bytes: MAX_XML_BYTES,
    tags: 16 * 1024,
    attributes: 16,
    value: 4096,
    text: MAX_XML_BYTES,
    depth: 32,
};

/// What a document binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Each `MetadataBinding`, in order.
    pub bound: Vec<Bound>,
    /// How many `ds:Signature` stood there. **None was verified.**
    pub signatures: usize,
}

/// Labels and what they are bound to: each label to each object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The labels; at most one of the originator, and one beside it for each policy.
    pub labels: Vec<XmlLabel>,
    /// How many other pieces of metadata were passed over.
    pub other: usize,
    /// The objects, one or more.
    pub objects: Vec<Object>,
}

/// What a label is bound to.
#[derive(Clone, PartialEq, Eq)]
pub enum Object {
    /// Something outside the binding.
    Reference {
        /// `@URI` as it stands; `""` and `#…` mean the document that the binding is in.
        uri: String,
        /// The name of a file in the same folder, where the URI is no more than that.
        file_name: Option<String>,
        /// `@contentType`.
        media_type: Option<String>,
        /// The SHA-256 of it. Compare it before the label is believed.
        digest: Option<Digest>,
        /// Whether only a part of it is meant (`ds:Transforms`). Which one is not read.
        part: bool,
    },
    /// A file that the binding holds.
    Octets {
        /// Its name.
        file_name: String,
        /// What it is.
        media_type: String,
        /// The file.
        bytes: Vec<u8>,
    },
    /// XML that the binding holds; it is not taken out.
    Element,
}

/// Prints no byte of a file.
impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reference {
                uri, digest, part, ..
            } => write!(f, "Reference({uri:?}, {digest:?}, part: {part})"),
            Self::Octets {
                file_name, bytes, ..
            } => write!(f, "Octets({file_name:?}, {} bytes)", bytes.len()),
            Self::Element => f.write_str("Element"),
        }
    }
}

/// Why a binding does not bind one label to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the binding binds labels to several things or to a part of one, or has no label of its originator; import what belongs together as one file with one label"
)]
pub struct NotOne;

impl Binding {
    /// The originator's label and the one file it is bound to.
    ///
    /// # Errors
    /// [`NotOne`]: more than one `MetadataBinding` or object, a part of one, XML instead of a file, or no `originatorConfidentialityLabel`
    /// (nor `ConfidentialityLabel`). Portions are labelled inside the system, not by bindings.
    pub fn one(&self) -> Result<(&XmlLabel, &Object), NotOne> {
        let [bound] = self.bound.as_slice() else {
            return Err(NotOne);
        };
        let [object] = bound.objects.as_slice() else {
            return Err(NotOne);
        };
        let mut own = bound
            .labels
            .iter()
            .filter(|l| matches!(l.root, Root::Originator | Root::Plain));
        match (own.next(), object) {
            (_, Object::Element | Object::Reference { part: true, .. }) | (None, _) => Err(NotOne),
            (Some(label), object) => Ok((label, object)),
        }
    }
}

/// Why a binding was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The label.
    #[error(transparent)]
    Label(#[from] WriteError),
    /// The name of the file.
    #[error(
        "'{0}' is no name of a file here; it has 1 to 255 bytes, no slash, backslash or control character, and is not . or .."
    )]
    FileName(String),
    /// The type of the file.
    #[error("'{0}' is no media type; write type/subtype, as in application/pdf")]
    MediaType(String),
    /// The file.
    #[error(
        "the file has more than 64 MiB; write a binding beside it instead of one that holds it"
    )]
    TooLong,
}

/// Why XML is no binding that is read here. Nothing was taken from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBinding {
    /// Not XML within the bounds.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A label in it.
    #[error("a label in the binding: {0}")]
    Label(#[from] InvalidXmlLabel),
    /// The outermost element.
    #[error(
        "'{0}' is no binding; write BindingInformation in urn:nato:stanag:4778:bindinginformation:1:0"
    )]
    Root(String),
    /// An element that may not stand there.
    #[error("{place}: '{found}' may not stand here; {hint}")]
    Element {
        /// The element it stands in.
        place: &'static str,
        /// What stands there.
        found: String,
        /// What may.
        hint: &'static str,
    },
    /// An attribute that the element does not have.
    #[error("{place}: there is no attribute '{found}'")]
    Attribute {
        /// The element.
        place: &'static str,
        /// The attribute.
        found: String,
    },
    /// An element or attribute is not there.
    #[error("{place}: '{missing}' is missing")]
    Missing {
        /// The element.
        place: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// Text between elements.
    #[error("{0} holds elements, and text stands between them")]
    Text(&'static str),
    /// `Metadata` or `Data` with several elements, or several labels of one kind for one object.
    #[error(
        "{0} holds two where one may stand; each label has a Metadata of its own, one from the originator and one beside it for each policy"
    )]
    Two(&'static str),
    /// Metadata that is somewhere else.
    #[error(
        "MetadataReference is not read: a label is not fetched from elsewhere; put it in Metadata"
    )]
    MetadataReference,
    /// More than [`MAX_BINDINGS`].
    #[error("the document has more than 64 metadata bindings or objects; bind fewer files in one")]
    TooMany,
    /// A digest that is none, or of something that is not bound.
    #[error("the element Digest of urn:ordonnans:stanag:1 is not right: {0}")]
    Digest(&'static str),
    /// A file that cannot be taken out.
    #[error("the element Octets of urn:ordonnans:stanag:1 is not right: {0}")]
    Octets(&'static str),
    /// A `contentType` that is none.
    #[error("'{0}' is no media type; write type/subtype, as in application/pdf")]
    MediaType(String),
}

impl InvalidBinding {
    /// A stable name, for logs and test vectors; where a label in it is wrong, that of its error.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Xml(e) => e.name(),
            Self::Label(e) => e.name(),
            Self::Root(_) => "root",
            Self::Element { .. } => "element",
            Self::Attribute { .. } => "attribute",
            Self::Missing { .. } => "missing",
            Self::Text(_) => "text",
            Self::Two(_) => "two",
            Self::MetadataReference => "metadata-reference",
            Self::TooMany => "too-many-bindings",
            Self::Digest(_) => "digest",
            Self::Octets(_) => "octets",
            Self::MediaType(_) => "media-type",
        }
    }
}

/// A name that is safe to make a file of in any folder.
#[must_use]
pub fn is_file_name(s: &str) -> bool {
    (1..=MAX_FILE_NAME_BYTES).contains(&s.len())
        && !matches!(s, "." | "..")
        && crate::xml::writable(s)
        && !s.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
}

/// `type/subtype`, with parameters or without (RFC 6838 section 4.2), at most 127 bytes.
#[must_use]
pub fn is_media_type(s: &str) -> bool {
    let token = |t: &str| {
        !t.is_empty()
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let plain = s.split(';').next().unwrap_or_default().trim_end();
    s.len() <= 127
        && s.bytes().all(|b| (b' '..=b'~').contains(&b))
        && plain
            .split_once('/')
            .is_some_and(|(a, b)| token(a) && token(b))
}

#[cfg(test)]
mod tests;
