//! The plain content: what is sealed and what a reader sees. The subject line and the media type live here and nowhere else.

use std::fmt;

use crate::cbor::{DecodeError, Reader, Writer, exactly};
use crate::header::digest;
use crate::{Digest, limits, sha256};

/// An attachment as the reader of the content learns of it: where it is and what opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct AttachmentKey {
    /// SHA-256 of the sealed bytes, as in the header.
    pub digest: Digest,
    /// The key of the attachment.
    pub key: [u8; 32],
    /// File name as the sender gave it. A reader must not use it as a path.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Number of plain bytes.
    pub length: u64,
}

/// What a message says. Prints as its length, so that no log line, error or panic can carry it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Random: so that [`Self::digest`] tells nothing of what is in here.
    pub salt: [u8; 32],
    /// Subject line, at most [`limits::MAX_SUBJECT`] characters.
    pub subject: String,
    /// Media type of the body.
    pub media_type: String,
    /// File name of the body, where it was a file.
    pub name: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// The attachments, at most [`limits::MAX_ATTACHMENTS`].
    pub attachments: Vec<AttachmentKey>,
}

impl Content {
    /// The one byte form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads content.
    ///
    /// # Errors
    /// [`DecodeError`] names the part, never what it holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exactly(bytes, Self::read, |c, w| c.write(w))
    }

    /// What names it to those who may not see it: SHA-256 over the whole, salt and all.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[b"ordonnans/1 subject", &self.encode()])
    }

    fn write(&self, w: &mut Writer) {
        w.array(6)
            .bytes(&self.salt)
            .text(&self.subject)
            .text(&self.media_type);
        w.option(self.name.as_deref(), |w, n| {
            w.text(n);
        });
        w.bytes(&self.body).array(self.attachments.len());
        for a in &self.attachments {
            w.array(5)
                .bytes(a.digest.as_bytes())
                .bytes(&a.key)
                .text(&a.name)
                .text(&a.media_type)
                .uint(a.length);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("content", 6)?;
        let salt = r.fixed("content salt")?;
        let subject = r.text("subject", 4 * limits::MAX_SUBJECT)?.to_owned();
        if subject.chars().count() > limits::MAX_SUBJECT {
            return Err(DecodeError::Limit("subject"));
        }
        let media_type = r.text("media type", limits::MAX_TEXT)?.to_owned();
        let name = r.option(|r| r.text("file name", 4 * limits::MAX_TEXT).map(str::to_owned))?;
        let body = r.bytes("body", limits::MAX_CONTENT)?.to_vec();
        let n = r.array("attachments", limits::MAX_ATTACHMENTS)?;
        let attachments = (0..n).map(|_| attachment(r)).collect::<Result<_, _>>()?;
        Ok(Self {
            salt,
            subject,
            media_type,
            name,
            body,
            attachments,
        })
    }
}

fn attachment(r: &mut Reader<'_>) -> Result<AttachmentKey, DecodeError> {
    r.tuple("attachment", 5)?;
    Ok(AttachmentKey {
        digest: digest(r, "attachment")?,
        key: r.fixed("attachment key")?,
        name: r.text("file name", 4 * limits::MAX_TEXT)?.to_owned(),
        media_type: r.text("media type", limits::MAX_TEXT)?.to_owned(),
        length: r.uint("attachment", limits::MAX_ATTACHMENT)?,
    })
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Content({} bytes, {} attachments)",
            self.body.len(),
            self.attachments.len()
        )
    }
}

impl fmt::Debug for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttachmentKey({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Content {
        let a = AttachmentKey {
            digest: sha256(&[b"a"]),
            key: [0xab; 32],
            name: "kaart 🗺.png".into(),
            media_type: "image/png".into(),
            length: 3,
        };
        Content {
            salt: [7; 32],
            subject: "geheim onderwerp".into(),
            media_type: "text/plain".into(),
            name: None,
            body: b"geheime inhoud".to_vec(),
            attachments: vec![a],
        }
    }

    #[test]
    fn there_and_back() {
        for c in [
            sample(),
            Content::default(),
            Content {
                name: Some("x".into()),
                ..sample()
            },
        ] {
            assert_eq!(Content::decode(&c.encode()), Ok(c));
        }
        let long = Content {
            subject: "é".repeat(257),
            ..sample()
        };
        assert_eq!(
            Content::decode(&long.encode()),
            Err(DecodeError::Limit("subject"))
        );
    }

    #[test]
    fn prints_nothing_of_it() {
        let c = sample();
        assert_eq!(
            format!("{c:?} {:?}", c.attachments[0]),
            "Content(14 bytes, 1 attachments) AttachmentKey(3 bytes)"
        );
    }
}
