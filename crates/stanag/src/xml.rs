//! XML within bounds: what every document must keep before a tree is made of it, and the writing of text and attributes.
//!
//! [`parse`] first runs once over the bytes and counts. So the costs of the tree (which compares the attributes of an element pair by pair)
//! are bounded before any are made. The scan takes a document apart as the parser does as far as it is well-formed; where it is not, the
//! parser refuses it.

use roxmltree::{Document, Node, ParsingOptions};

/// The namespace of what the standards have no field for: the state of a label, a duration by event, and digests.
pub const NAMESPACE_OWN: &str = "urn:ordonnans:stanag:1";

/// Equals signs for each tag that a document may have.
const EQUALS: usize = 4;

/// What a document may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes in all.
    pub(crate) bytes: usize,
    /// Tags, comments and instructions in all.
    pub(crate) tags: usize,
    /// Attributes of one element, namespaces among them.
    pub(crate) attributes: usize,
    /// Bytes of one attribute.
    pub(crate) value: usize,
    /// Bytes of text between two tags.
    pub(crate) text: usize,
    /// Elements within each other.
    pub(crate) depth: usize,
}

/// Why bytes are no XML that is read here. Nothing was taken from them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// More bytes than this kind of document may have.
    #[error("the document has more than {0} bytes; it is refused unread")]
    TooLong(usize),
    /// Not UTF-8, or declared as something else.
    #[error("the document is not in UTF-8; write it anew in UTF-8")]
    Encoding,
    /// A document type, which is where entities are defined.
    #[error(
        "the document has a document type (DOCTYPE); these are never read, so take it out with its entities"
    )]
    DocumentType,
    /// Too many tags.
    #[error("the document has more than {0} tags and comments")]
    TooManyTags(usize),
    /// Too many equals signs: the parser takes room for an attribute for each, wherever it stands.
    #[error("the document has more than {0} equals signs, more than its tags may have attributes")]
    TooManyEquals(usize),
    /// Too many attributes on one element.
    #[error("an element at byte {at} has more than {most} attributes")]
    TooManyAttributes {
        /// Where it begins.
        at: usize,
        /// The bound.
        most: usize,
    },
    /// An attribute that is too long.
    #[error("an attribute at byte {at} has more than {most} bytes")]
    AttributeTooLong {
        /// Where it begins.
        at: usize,
        /// The bound.
        most: usize,
    },
    /// Text that is too long.
    #[error("the text at byte {at} has more than {most} bytes")]
    TextTooLong {
        /// Where it begins.
        at: usize,
        /// The bound.
        most: usize,
    },
    /// Elements within elements.
    #[error("elements at byte {at} are nested deeper than {most}")]
    TooDeep {
        /// Where the bound was passed.
        at: usize,
        /// The bound.
        most: usize,
    },
    /// Not well-formed; the text says what and where.
    #[error("the document is not well-formed XML: {0}")]
    Malformed(String),
}

impl XmlError {
    /// A stable name, for logs and test vectors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "too-long",
            Self::Encoding => "encoding",
            Self::DocumentType => "document-type",
            Self::TooManyTags(_) => "too-many-tags",
            Self::TooManyEquals(_) => "too-many-equals",
            Self::TooManyAttributes { .. } => "too-many-attributes",
            Self::AttributeTooLong { .. } => "attribute-too-long",
            Self::TextTooLong { .. } => "text-too-long",
            Self::TooDeep { .. } => "too-deep",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// The tree of a document that keeps its bounds.
pub(crate) fn parse(bytes: &[u8], bounds: Bounds) -> Result<Document<'_>, XmlError> {
    if bytes.len() > bounds.bytes {
        return Err(XmlError::TooLong(bounds.bytes));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Encoding)?;
    scan(bytes, bounds)?;
    // The parser takes room for a node for each `<` and for an attribute for each `=` before it looks at them, those in text too.
    let count = |wanted| bytes.iter().filter(|b| **b == wanted).count();
    if count(b'<') > bounds.tags {
        return Err(XmlError::TooManyTags(bounds.tags));
    }
    if count(b'=') > bounds.tags * EQUALS {
        return Err(XmlError::TooManyEquals(bounds.tags * EQUALS));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        // Each tag and the text after it make two nodes at most.
        nodes_limit: u32::try_from(2 * bounds.tags + 2).unwrap_or(u32::MAX),
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|e| match e {
        roxmltree::Error::DtdDetected => XmlError::DocumentType,
        e => XmlError::Malformed(e.to_string().chars().take(200).collect()),
    })
}

/// Where a needle ends, counted from the start of the bytes; their end where there is none.
fn past(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(needle.len())
        .position(|w| w == needle)
        .map_or(bytes.len(), |i| from + i + needle.len())
}

fn scan(bytes: &[u8], bounds: Bounds) -> Result<(), XmlError> {
    let (mut at, mut tags, mut depth) = (0, 0, 0usize);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let text = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
        if text > bounds.text {
            return Err(XmlError::TextTooLong {
                at,
                most: bounds.text,
            });
        }
        at += text;
        let rest = &bytes[at..];
        if rest.is_empty() {
            break;
        }
        tags += 1;
        if tags > bounds.tags {
            return Err(XmlError::TooManyTags(bounds.tags));
        }
        if rest.starts_with(b"<!--") {
            at = past(bytes, at + 4, b"-->");
        } else if rest.starts_with(b"<![CDATA[") {
            let end = past(bytes, at + 9, b"]]>");
            if end - at > bounds.text {
                return Err(XmlError::TextTooLong {
                    at,
                    most: bounds.text,
                });
            }
            at = end;
        } else if rest.starts_with(b"<!") {
            return Err(XmlError::DocumentType);
        } else if rest.starts_with(b"<?") {
            let end = past(bytes, at + 2, b"?>");
            if rest.starts_with(b"<?xml ") && !utf8(&bytes[at..end]) {
                return Err(XmlError::Encoding);
            }
            at = end;
        } else {
            let closing = rest.starts_with(b"</");
            let (end, empty) = tag(bytes, at, bounds)?;
            if closing {
                depth = depth.saturating_sub(1);
            } else if !empty {
                depth += 1;
            }
            if depth + usize::from(empty) > bounds.depth {
                return Err(XmlError::TooDeep {
                    at,
                    most: bounds.depth,
                });
            }
            at = end;
        }
    }
    Ok(())
}

/// Where the tag that begins here ends, and whether it closes itself.
fn tag(bytes: &[u8], start: usize, bounds: Bounds) -> Result<(usize, bool), XmlError> {
    let (mut at, mut attributes) = (start + 1, 0);
    while let Some(b) = bytes.get(at) {
        match b {
            b'>' => return Ok((at + 1, bytes[at - 1] == b'/')),
            b'"' | b'\'' => {
                let end = past(bytes, at + 1, &[*b]);
                attributes += 1;
                if end - at > bounds.value + 2 {
                    return Err(XmlError::AttributeTooLong {
                        at,
                        most: bounds.value,
                    });
                }
                if attributes > bounds.attributes {
                    return Err(XmlError::TooManyAttributes {
                        at: start,
                        most: bounds.attributes,
                    });
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok((bytes.len(), false))
}

/// Whether an XML declaration leaves the encoding at UTF-8.
fn utf8(declaration: &[u8]) -> bool {
    let text = String::from_utf8_lossy(declaration).to_ascii_lowercase();
    let Some((_, named)) = text.split_once("encoding") else {
        return true;
    };
    let named = named.trim_start_matches([' ', '\t', '\r', '\n', '=', '"', '\'']);
    named.starts_with("utf-8") || named.starts_with("us-ascii")
}

/// What an element says, where it holds text alone: comments are passed over, spaces at the ends go. `None` where an element is in it.
pub(crate) fn text_of(node: Node<'_, '_>) -> Option<String> {
    let mut all = String::new();
    for child in node.children() {
        if child.is_element() {
            return None;
        }
        if child.is_text() {
            all.push_str(child.text().unwrap_or_default());
        }
    }
    Some(all.trim().to_owned())
}

/// The child elements.
pub(crate) fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// Whether anything but space stands between the child elements.
pub(crate) fn between(node: Node<'_, '_>) -> bool {
    node.children()
        .filter(Node::is_text)
        .any(|t| !t.text().unwrap_or_default().trim().is_empty())
}

/// The first attribute that is not listed. The attributes of these standards have no namespace: one in that of its element is wrong too, one
/// in any other is somebody else's.
pub(crate) fn stray<'a>(node: Node<'a, '_>, known: &[&str]) -> Option<&'a str> {
    let own = node.tag_name().namespace();
    node.attributes()
        .find(|a| match a.namespace() {
            None => !known.contains(&a.name()),
            some => some == own,
        })
        .map(|a| a.name())
}

/// At most 60 characters of what was found, without control characters: enough to find it.
pub(crate) fn short(s: &str) -> String {
    s.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Whether XML 1.0 can carry every character (section 2.2, `Char`).
pub(crate) fn writable(s: &str) -> bool {
    s.chars().all(
        |c| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..),
    )
}

/// Text or the value of an attribute, in a form that stands in both.
pub(crate) fn escaped(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
    out
}
