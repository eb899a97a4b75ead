//! How a person opens what is sealed to them. The keys stay with whoever calls this: the daemon gets the signed receipt, and gives the sealed
//! message only when that is durable. It cannot open it, nor can who administers its machine.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_identity::{FileSigner, Signer, Trust};
use ordonnans_label::Name;
use ordonnans_message::{
    AttachmentKey, Content, CopyNumber, Envelope, MessageId, Receipt, ReceiptKind, Timestamp,
};
use ordonnans_seal::{
    NotAuthentic, Opened, SealSecret, SystemEntropy, Verified, open, open_attachment,
    sign_statement, verify_envelope,
};
use serde_json::{Value, json};

use crate::belief::Belief;
use crate::desk::{now, usage};
use crate::failure::{Exit, Failure};
use crate::keys::PUBLISHED_MS;
use crate::local::{Request, ask, undocumented};
use crate::signing;

/// A person at the command line: certificate and key, which sign, and the encryption keys that open.
#[derive(Debug)]
pub struct Person {
    signer: FileSigner,
    secrets: Vec<SealSecret>,
}

/// A person's encryption key. The one place where such a file is read.
fn secret(path: &Path) -> Result<SealSecret, Failure> {
    SealSecret::load(path).map_err(|e| {
        usage(
            format!("the encryption key {}: {e}", path.display()),
            "`ordonnans key make FILE` makes one, of mode 0600",
        )
    })
}

impl Person {
    /// Reads the files of a person. Several encryption keys may be given: the newest, and older ones for what was sealed to them.
    ///
    /// # Errors
    /// [`Failure`]: a file cannot be used.
    pub fn load(certificate: &Path, key: &Path, seal_keys: &[PathBuf]) -> Result<Self, Failure> {
        Ok(Self {
            signer: signing::person(certificate, key)?,
            secrets: seal_keys
                .iter()
                .map(|p| secret(p))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same where certificate and key are given; `None` where they are not.
    pub(crate) fn named(
        certificate: Option<&Path>,
        key: Option<&Path>,
        seal_keys: &[PathBuf],
    ) -> Result<Option<Self>, Failure> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Self::load(certificate, key, seal_keys).map(Some),
            _ => Ok(None),
        }
    }

    /// What signs.
    pub(crate) fn signer(&self) -> &FileSigner {
        &self.signer
    }

    /// What opens.
    pub(crate) fn secrets(&self) -> &[SealSecret] {
        &self.secrets
    }

    /// Who it is.
    pub(crate) fn name(&self) -> &Name {
        self.signer.certificate().name()
    }

    /// The receipt that is signed before anything is opened. Where the message is sealed to this person's own key, that key must be among the files:
    /// nobody signs for what they cannot read.
    pub(crate) fn receipt(
        &self,
        socket: &Path,
        id: MessageId,
        kind: ReceiptKind,
    ) -> Result<String, Failure> {
        let by = self.signer.certificate().name().clone();
        let request = Request::Prepare {
            id,
            by: by.clone(),
            kind,
        };
        let prepared = ask(socket, &request)?;
        if let Some(kid) = prepared["kid"].as_str()
            && kind != ReceiptKind::Destroyed
            && !self
                .secrets
                .iter()
                .any(|s| HEXLOWER.encode(&s.kid()) == kid)
        {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "the message is sealed to the encryption key {kid} of {by}, which was not given"
                ),
                "name its file with --seal-key FILE; it may be given more than once",
            ));
        }
        let broken = || Failure::internal("the daemon's answer is no receipt");
        let text = |k: &str| prepared[k].as_str().ok_or_else(broken);
        let receipt = Receipt {
            message: id,
            envelope: text("envelope")?.parse().map_err(undocumented)?,
            kind,
            by,
            at: text("at")?.parse().map_err(undocumented)?,
        };
        let signed =
            sign_statement(&receipt, &self.signer).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(BASE64.encode(&signed.encode()))
    }
}

/// Verifies an envelope at a time. Where the originator's certificate has ended since it was made, which no one is to blame for while it waits,
/// it is asked about the time it was made; a revocation counts at any time.
pub(crate) fn authentic(
    envelope: &Envelope,
    trust: &Trust,
    at: Timestamp,
) -> Result<Verified<Envelope>, NotAuthentic> {
    let created = envelope.header().created;
    match verify_envelope(envelope.clone(), trust, at) {
        Err(NotAuthentic::Certificate(why)) if created < at => {
            let then = verify_envelope(envelope.clone(), trust, created);
            then.map_err(|_| NotAuthentic::Certificate(why))
        }
        other => other,
    }
}

/// Opens what the daemon has given sealed. The inner failure says why it does not open.
pub(crate) fn unseal(
    sealed: &Value,
    me: &Name,
    secrets: &[SealSecret],
) -> Result<Result<Opened, String>, Failure> {
    let envelope = sealed["envelope"].as_str().unwrap_or_default();
    let envelope = BASE64.decode(envelope.as_bytes()).map_err(undocumented)?;
    let envelope = Envelope::decode(&envelope).map_err(undocumented)?;
    let belief: Belief = serde_json::from_value(sealed["belief"].clone()).map_err(undocumented)?;
    let received = sealed["received"].as_str().and_then(|t| t.parse().ok());
    let verified = match authentic(
        &envelope,
        &belief.trust()?,
        received.ok_or_else(|| undocumented(()))?,
    ) {
        Ok(verified) => verified,
        Err(e) => return Ok(Err(e.to_string())),
    };
    Ok(open(&verified, secrets, me).map_err(|e| e.to_string()))
}

/// What a reader is shown of an opened message, beside its header.
pub(crate) fn show(value: &mut Value, content: &Content, copy: Option<CopyNumber>) {
    value["copy"] = json!(copy.map(|c| c.to_string()));
    value["subject"] = json!(content.subject);
    value["media_type"] = json!(content.media_type);
    value["name"] = json!(content.name);
    let names: Vec<Value> = content
        .attachments
        .iter()
        .map(|a| json!({ "name": a.name, "media_type": a.media_type, "length": a.length }))
        .collect();
    value["attachments"] = json!(names);
}

/// The attachment a reader asks for, counted from 1.
pub(crate) fn chosen(content: &Content, n: usize) -> Result<&AttachmentKey, Failure> {
    let a = n.checked_sub(1).and_then(|n| content.attachments.get(n));
    let all = content.attachments.len();
    a.ok_or_else(|| usage(format!("the message has {all} attachments"), "count from 1"))
}

/// Opens a message for a reader. The receipt of this kind is durable at the daemon before anything is opened. The answer has what is known of the
/// message, and `body` in base64, or `saved` where an attachment, counted from 1, was written to a new file.
///
/// # Errors
/// [`Failure`]: the daemon, the reader is not one the message is for, or it does not open.
pub fn open_message(
    socket: &Path,
    id: MessageId,
    kind: ReceiptKind,
    reader: Option<&Person>,
    attachment: Option<(usize, PathBuf)>,
) -> Result<Value, Failure> {
    let receipt = reader.map(|r| r.receipt(socket, id, kind)).transpose()?;
    let request = Request::Read {
        id,
        kind,
        receipt,
        attachment: attachment.clone(),
    };
    let mut answer = ask(socket, &request)?;
    let sealed = answer.as_object_mut().and_then(|o| o.remove("sealed"));
    let (Some(sealed), Some(reader)) = (sealed, reader) else {
        return Ok(answer);
    };
    let does_not = |e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Proof,
            format!("the message was not opened: {e}"),
            "the receipt says otherwise: tell your security officer, and ask the originator to send it again",
        )
    };
    let opened = unseal(&sealed, reader.name(), &reader.secrets)?.map_err(|e| does_not(&e))?;
    show(&mut answer, &opened.content, opened.copy);
    match attachment {
        None => answer["body"] = json!(BASE64.encode(&opened.content.body)),
        Some((n, path)) => {
            let a = chosen(&opened.content, n)?;
            let file = sealed["attachments"][n - 1]
                .as_str()
                .ok_or_else(|| undocumented(()))?;
            let from = File::open(file).map_err(|e| does_not(&e))?;
            save(from, a, &path)?;
            answer["saved"] = json!(path);
        }
    }
    Ok(answer)
}

/// Opens a sealed attachment into a new file.
pub(crate) fn save(from: File, a: &AttachmentKey, to: &Path) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|e| {
            usage(
                format!("{} cannot be made: {e}", to.display()),
                "choose a new file in a folder that can be written",
            )
        })?;
    let opened = open_attachment(&mut BufReader::new(from), &mut file, &a.key)
        .map_err(|e| e.to_string())
        .and_then(|n| {
            if n == a.length {
                file.sync_all().map_err(|e| e.to_string())
            } else {
                Err("it has another length than stated".into())
            }
        });
    opened.map_err(|why| {
        // Half a file is worse than none.
        drop(fs::remove_file(to));
        Failure::new(
            Exit::Proof,
            format!("the attachment was not opened: {why}"),
            "ask the originator to send it again",
        )
    })
}

/// Makes an encryption key in a new file of mode 0600; gives how a seal names it.
///
/// # Errors
/// [`Failure`]: the file exists or cannot be made.
pub fn make_key(path: &Path) -> Result<Value, Failure> {
    let made = SealSecret::create(path, &mut SystemEntropy).map_err(|e| {
        usage(
            e.to_string(),
            "name a file that does not exist yet, in a folder of your own",
        )
    })?;
    Ok(json!({ "file": path, "kid": HEXLOWER.encode(&made.kid()) }))
}

/// Signs an encryption key as a person's and hands it to the daemon, for the directory. It can be sealed to until 90 days from now; publish the next
/// one, of another file, before.
///
/// # Errors
/// [`Failure`]: the files, or the daemon does not take it.
pub fn publish_key(
    socket: &Path,
    certificate: &Path,
    key: &Path,
    seal_key: &Path,
) -> Result<Value, Failure> {
    let (signer, secret) = (signing::person(certificate, key)?, secret(seal_key)?);
    let package = secret.package(signer.certificate().name(), now().after(PUBLISHED_MS));
    let signed = sign_statement(&package, &signer).map_err(|e| Failure::internal(e.to_string()))?;
    let package = BASE64.encode(&signed.encode());
    ask(socket, &Request::Publish { package })
}

/// Lines of a printed page, head and foot included.
const PAGE_LINES: usize = 60;
/// Characters of a printed line; a longer one goes on in the next.
const LINE_CHARS: usize = 100;

/// A text in pages, each with what stands at its head, and its number of how many (VIRBI 2013 annex 1, rows 6J and 6K).
pub(crate) fn pages(text: &str, head: &str) -> Vec<u8> {
    let mut lines = vec![];
    for line in text.lines() {
        let chars: Vec<char> = line.chars().filter(|c| *c != '\u{c}').collect();
        if chars.is_empty() {
            lines.push(String::new());
        }
        lines.extend(
            chars
                .chunks(LINE_CHARS)
                .map(|c| c.iter().collect::<String>()),
        );
    }
    let pages: Vec<&[String]> = lines.chunks(PAGE_LINES - 4).collect();
    let (of, mut out) = (pages.len().max(1), vec![]);
    for (n, page) in (1..).zip(if pages.is_empty() {
        vec![&[][..]]
    } else {
        pages
    }) {
        if n > 1 {
            out.push(b'\x0c');
        }
        // Nothing can fail that writes to memory.
        drop(writeln!(out, "{head}  -  bladzijde {n} van {of}\n"));
        for line in page {
            drop(writeln!(out, "{line}"));
        }
        drop(writeln!(out, "\n{head}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_the_number_of_the_copy() {
        let text = (0..130).map(|n| format!("regel {n}\n")).collect::<String>();
        let printed = String::from_utf8(pages(&text, "Stg.C - exemplaar 2 van 3")).expect("text");
        let all: Vec<&str> = printed.split('\u{c}').collect();
        assert_eq!(all.len(), 3);
        for (n, page) in (1..).zip(all) {
            assert!(page.contains(&format!("exemplaar 2 van 3  -  bladzijde {n} van 3")));
            assert!(page.lines().count() <= PAGE_LINES);
        }
        assert!((0..130).all(|n| printed.contains(&format!("regel {n}\n"))));
        let long = String::from_utf8(pages(&"x".repeat(250), "h")).expect("text");
        assert_eq!(long.matches('x').count(), 250);
        assert_eq!(pages("", "h"), b"h  -  bladzijde 1 van 1\n\n\nh\n");
    }
}
