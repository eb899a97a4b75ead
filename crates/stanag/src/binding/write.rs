//! Writing a binding.

use std::fmt::Write as _;

use data_encoding::BASE64;
use ordonnans_label::{Label, Name, Policies};
use ordonnans_message::{Digest, Timestamp};

use super::{BindError, MAX_DATA_BYTES, MEDIA, NAMESPACE, SHA256, is_file_name, is_media_type};
use crate::NAMESPACE_OWN;
use crate::label::{write, write_alternative};
use crate::xml::{escaped, short};

/// What is bound: a label, and the file it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The label. Where it is of another policy, what it equals under the Dutch one stands beside it.
    pub label: &'a Label,
    /// When the label was made.
    pub created: Timestamp,
    /// Who made it.
    pub originator: Option<&'a Name>,
    /// The name of the file, without a folder.
    pub file_name: &'a str,
    /// What it is, as in `application/pdf`.
    pub media_type: &'a str,
}

/// The binding of a file that stands beside it in the same folder (ADatP-4778 section 3.2, *detached*), with the SHA-256 of the file.
///
/// # Errors
/// [`BindError::Label`]: a label that is not valid is bound to nothing. [`BindError::FileName`] and [`BindError::MediaType`] say what may
/// stand there.
pub fn detached(
    subject: &Subject<'_>,
    digest: &Digest,
    policies: &Policies,
) -> Result<String, BindError> {
    let mut x = begin(subject, policies)?;
    let uri = uri(subject.file_name);
    let _ = write!(
        x,
        "<mb:DataReference xmlns:xmime=\"{MEDIA}\" URI=\"{uri}\" xmime:contentType=\"{}\"/></mb:MetadataBinding>\n\
         <ord:Digest xmlns:ord=\"{NAMESPACE_OWN}\" Algorithm=\"{SHA256}\" URI=\"{uri}\">{digest}</ord:Digest>\n{END}",
        escaped(subject.media_type),
    );
    Ok(x)
}

/// A document that holds the file with its label (ADatP-4778 section 3.2, *encapsulating*).
///
/// # Errors
/// As [`detached`], and [`BindError::TooLong`] for a file of more than [`MAX_DATA_BYTES`].
pub fn encapsulating(
    subject: &Subject<'_>,
    bytes: &[u8],
    policies: &Policies,
) -> Result<String, BindError> {
    if bytes.len() > MAX_DATA_BYTES {
        return Err(BindError::TooLong);
    }
    let mut x = begin(subject, policies)?;
    x.reserve_exact(BASE64.encode_len(bytes.len()) + 1024);
    let _ = write!(
        x,
        "<mb:Data><ord:Octets xmlns:ord=\"{NAMESPACE_OWN}\" xmlns:xmime=\"{MEDIA}\" Name=\"{}\" xmime:contentType=\"{}\">",
        escaped(subject.file_name),
        escaped(subject.media_type),
    );
    BASE64.encode_append(bytes, &mut x);
    let _ = write!(x, "</ord:Octets></mb:Data></mb:MetadataBinding>\n{END}");
    Ok(x)
}

const END: &str = "</mb:MetadataBindingContainer></mb:BindingInformation>\n";

/// Up to and with the labels.
fn begin(s: &Subject<'_>, policies: &Policies) -> Result<String, BindError> {
    if !is_file_name(s.file_name) {
        return Err(BindError::FileName(short(s.file_name)));
    }
    if !is_media_type(s.media_type) {
        return Err(BindError::MediaType(short(s.media_type)));
    }
    let mut x = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <mb:BindingInformation xmlns:mb=\"{NAMESPACE}\"><mb:MetadataBindingContainer><mb:MetadataBinding>\n"
    );
    let own = write(s.label, s.created, s.originator, policies)?;
    let beside = write_alternative(s.label, s.created, s.originator, policies)?;
    for label in [Some(own), beside].into_iter().flatten() {
        let _ = writeln!(x, "<mb:Metadata>{label}</mb:Metadata>");
    }
    Ok(x)
}

/// A file of the same folder (RFC 3986 section 4.2): every byte but the unreserved ones is escaped, so no name can be a scheme or a path.
fn uri(file_name: &str) -> String {
    let mut x = String::with_capacity(file_name.len());
    for b in file_name.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            x.push(char::from(b));
        } else {
            let _ = write!(x, "%{b:02X}");
        }
    }
    x
}
