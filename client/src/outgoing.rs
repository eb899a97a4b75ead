//! What goes out: sealed, signed and kept until the broker has decided.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::BASE64;
use ordonnans_label::{Kind, Label};
use ordonnans_message::{
    AttachmentKey, AttachmentRef, Content, ContentRef, Header, MessageId, Receipt, ReceiptKind,
    SUITE_X_WING, Sealing, SignedReceipt, limits, sha256,
};
use ordonnans_seal::{
    Entropy, SealError, SystemEntropy, seal_attachment, sign_statement, verify_statement,
};
use ordonnans_store::AttachmentStore;

use crate::acts;
use crate::address::name;
use crate::addressing::{Expanded, To};
use crate::board::SentTo;
use crate::desk::{Desk, internal, lock, usage};
use crate::drafts::DraftId;
use crate::failure::{Exit, Failure};
use crate::local::Submission;
use crate::passing::as_it_is;
use crate::spool::{Sent, Verdict};

/// How the file begins that an attachment is sealed into before its digest is known.
const DRAFT: &str = "sealing-";

/// A message that is complete but for seals and signatures.
pub(crate) struct Composed {
    pub(crate) header: Header,
    pub(crate) content: Content,
}

impl Desk {
    /// The label as it was typed.
    pub(crate) fn label(&self, s: &Submission) -> Result<Label, Failure> {
        let label = self.policies().read(&s.label).map_err(|e| {
            usage(
                format!("the label: {e}"),
                "for example -l \"Dep.V // TOT 2036-01-01\"",
            )
        })?;
        self.usable(&label, &s.body)?;
        Ok(label)
    }

    /// Whether a label is one that its policy allows, lasts until something where it must, and protects every marked portion of the text.
    pub(crate) fn usable(&self, label: &Label, body: &[u8]) -> Result<(), Failure> {
        let policies = self.policies();
        let c = &label.confidentiality;
        policies.check(c).map_err(|e| {
            usage(
                format!("the label: {e}"),
                "`ordonnans label parse` checks one; docs/policies.md says what a policy asks",
            )
        })?;
        if acts::needed(label) && label.duration.is_none() {
            return Err(acts::endless());
        }
        let text = std::str::from_utf8(body).unwrap_or_default();
        let open = policies
            .portions(text)
            .find(|p| !c.protects(&p.confidentiality));
        match open {
            None => Ok(()),
            Some(part) => Err(usage(
                format!(
                    "line {} is marked {}, which the label {c} does not protect",
                    part.line, part.confidentiality
                ),
                "`ordonnans label join --file FILE` says what the whole needs",
            )),
        }
    }

    /// A message that is complete but for seals and signatures. Its attachments are sealed and kept.
    pub(crate) fn compose(&self, s: &Submission, to: To) -> Result<Composed, Failure> {
        let label = self.label(s)?;
        let structure = self.name.structure();
        let author = s.author.as_ref().map(|a| name(a, Kind::Person, structure));
        let author = author
            .transpose()
            .map_err(|e| usage(e.to_string(), "name a person of the register"))?;
        let To { recipients, groups } = to;
        let (attachments, sealed) = self.seal_files(&s.attachments)?;
        let (at, none) = (self.now(), sha256(&[]));
        let (mut random, mut salt) = ([0; 10], [0; 32]);
        SystemEntropy.fill(&mut random);
        SystemEntropy.fill(&mut salt);
        let header = Header {
            id: MessageId::new(at, random),
            originator: self.name.clone(),
            author,
            label,
            recipients,
            exercise: s.exercise,
            created: at,
            expires: s.expires,
            reply_by: s.reply_by,
            references: s.references.clone(),
            supersedes: s.supersedes,
            content: ContentRef {
                digest: none,
                length: 0,
            },
            attachments: sealed,
            sealing: Sealing {
                suite: SUITE_X_WING,
                commitment: none,
                seals: none,
            },
            act: None,
            groups,
            passed: None,
        };
        let content = Content {
            salt,
            subject: s.subject.clone(),
            media_type: s.media_type.clone(),
            name: s.name.clone(),
            body: s.body.clone(),
            attachments,
        };
        Ok(Composed { header, content })
    }

    /// Seals, signs and keeps a message to named recipients.
    #[cfg(test)]
    pub(crate) fn submit(&self, s: &Submission) -> Result<MessageId, Failure> {
        self.submit_to(s, &Expanded::new())
    }

    /// Seals, signs and keeps a message, its groups expanded. When this returns it is never lost.
    pub(crate) fn submit_to(
        &self,
        s: &Submission,
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        let label = self.label(s)?;
        let level = label.confidentiality.level();
        let to = self.addressed(s, level, expanded)?;
        self.all_known(&to.recipients, level)?;
        if acts::needed(&label) {
            return Err(Failure::new(
                Exit::Refused,
                "from Dep.V up a message goes out with the signed statement of its vaststeller",
                "sign it with --as CERT --key KEY, or keep it with `ordonnans label propose` until it is established",
            ));
        }
        let composed = self.compose(s, to)?;
        let attachments = composed.content.attachments.clone();
        let sent = self.dispatch(composed, None);
        if sent.is_err() {
            self.discard(&attachments)?;
        }
        sent
    }

    /// Seals, signs and keeps a message that is complete, and notes it in the draft it comes from, where there is one.
    pub(crate) fn dispatch(
        &self,
        composed: Composed,
        draft: Option<DraftId>,
    ) -> Result<MessageId, Failure> {
        let Composed { header, content } = composed;
        let level = header.label.confidentiality.level();
        let keys = self.all_known(&header.recipients, level)?;
        let signer = self.signer();
        let envelope = lock(&self.epochs)
            .seal(header, &content, &keys, &*signer, &mut SystemEntropy)
            .map_err(|e| refused(&e))?;
        let header = envelope.header();
        let sent = Sent {
            envelope: envelope.digest(),
            precedence: header.precedence(),
            created: header.created,
            expires: header.expires,
            label: header.label.to_string(),
            recipients: header
                .recipients
                .iter()
                .map(|r| r.node.to_string())
                .collect(),
            act: header.act.as_ref().map(|a| BASE64.encode(&a.encode())),
            passed: as_it_is(header),
            exercise: header.exercise,
            to: header.recipients.iter().map(SentTo::from).collect(),
            reply_by: header.reply_by,
            draft,
            verdict: None,
        };
        self.spool.submit(&envelope, &sent)?;
        self.outbox().insert(header);
        self.work();
        Ok(header.id)
    }

    fn seal_files(
        &self,
        paths: &[PathBuf],
    ) -> Result<(Vec<AttachmentKey>, Vec<AttachmentRef>), Failure> {
        if paths.len() > limits::MAX_ATTACHMENTS {
            return Err(usage(
                format!(
                    "a message has at most {} attachments",
                    limits::MAX_ATTACHMENTS
                ),
                "send several messages, or pack the files",
            ));
        }
        let (mut keys, mut refs) = (vec![], vec![]);
        for path in paths {
            let unreadable = |e: &dyn std::fmt::Display| {
                usage(
                    format!("the attachment {} cannot be sealed: {e}", path.display()),
                    "check the file; an attachment has at most 1 GiB",
                )
            };
            let mut from = File::open(path).map_err(|e| unreadable(&e))?;
            let mut to = draft_in(&self.config.data).map_err(internal)?;
            let sealed = seal_attachment(&mut from, &mut to.file, &mut SystemEntropy)
                .map_err(|e| unreadable(&e))?;
            to.file.sync_all().map_err(internal)?;
            to.keep(&self.sealed, &sealed.reference)?;
            let file_name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            keys.push(AttachmentKey {
                digest: sealed.reference.digest,
                key: sealed.key,
                name: file_name
                    .unwrap_or_default()
                    .chars()
                    .take(limits::MAX_TEXT)
                    .collect(),
                media_type: "application/octet-stream".into(),
                length: sealed.length,
            });
            refs.push(sealed.reference);
        }
        Ok((keys, refs))
    }

    /// Keeps sealed bytes to be sent along.
    pub(crate) fn adopt(&self, from: &mut File, of: &AttachmentRef) -> Result<(), Failure> {
        let mut to = draft_in(&self.config.data).map_err(internal)?;
        std::io::copy(from, &mut to.file).map_err(internal)?;
        to.file.sync_all().map_err(internal)?;
        to.keep(&self.sealed, of)
    }

    /// Notes what the broker decided on a message of ours; its sealed attachments are no longer needed here, unless it is a draft again.
    pub(crate) fn decided(&self, id: MessageId, verdict: Verdict) -> Result<(), Failure> {
        let refused = matches!(verdict, Verdict::Refused { .. });
        self.spool.decided(id, verdict)?;
        let again = refused && self.spool.sent(id)?.is_some_and(|s| s.draft.is_some());
        let gone = self.outbox().remove(id);
        for a in gone.into_iter().filter(|_| !again) {
            self.sealed.remove(&a.digest).map_err(internal)?;
        }
        self.tell();
        Ok(())
    }

    /// Keeps a receipt for a message of ours, where it is one.
    pub(crate) fn receipted(&self, bytes: &[u8]) -> Result<Option<Receipt>, Failure> {
        let Ok(receipt) = SignedReceipt::decode(bytes) else {
            return Ok(None);
        };
        let Ok(receipt) = verify_statement(receipt, &self.trust(), self.now()) else {
            return Ok(None);
        };
        let r = receipt.get().said().clone();
        if r.kind == ReceiptKind::Recalled {
            return Ok(self.recalled(&r)?.then_some(r));
        }
        let sent = self.spool.sent(r.message)?;
        if sent.is_none_or(|s| s.envelope != r.envelope) {
            return Ok(None);
        }
        self.spool.receipted(receipt.get())?;
        lock(&self.epochs).answered(&r);
        Ok(Some(r))
    }

    /// Takes a message of ours back.
    pub(crate) fn recall(&self, id: MessageId) -> Result<(), Failure> {
        let no = |what: String, hint: &str| Failure::new(Exit::Refused, what, hint);
        let sent = self.spool.sent(id)?;
        let Some(sent) = sent else {
            return Err(no(
                format!("{id} is no message of ours"),
                "`ordonnans receipts` lists ours",
            ));
        };
        if !matches!(sent.verdict, Some(Verdict::Accepted { .. })) {
            let hint = "wait for the broker's verdict; what it refused went nowhere";
            return Err(no(format!("the broker has not accepted {id}"), hint));
        }
        let receipt = Receipt {
            message: id,
            envelope: sent.envelope,
            kind: ReceiptKind::Recalled,
            by: self.name.clone(),
            at: self.now(),
        };
        let receipt = sign_statement(&receipt, &*self.signer()).map_err(internal)?;
        self.spool.receipted(&receipt)?;
        self.owe(&receipt)
    }

    /// The envelope of a message that waits for the broker.
    pub(crate) fn outgoing(&self, id: MessageId) -> Result<Option<Bytes>, Failure> {
        self.spool.outgoing(id)
    }

    /// Attachments of a message that did not come about.
    pub(crate) fn discard(&self, attachments: &[AttachmentKey]) -> Result<(), Failure> {
        for a in attachments {
            self.sealed.remove(&a.digest).map_err(internal)?;
        }
        Ok(())
    }

    /// Removes what sealing left half done.
    pub(crate) fn clear_drafts(&self) -> std::io::Result<()> {
        for item in std::fs::read_dir(&self.config.data)? {
            let item = item?;
            if item.file_name().to_string_lossy().starts_with(DRAFT) {
                std::fs::remove_file(item.path())?;
            }
        }
        Ok(())
    }
}

pub(crate) fn refused(e: &SealError) -> Failure {
    let (exit, hint) = match e {
        SealError::NoKey(_) | SealError::KeyExpired(_) | SealError::KeyUnusable(_) => (
            Exit::Refused,
            "a daemon publishes a key when it connects, a person with `ordonnans key publish`; `ordonnans directory` shows who has one",
        ),
        SealError::OtherContent => (
            Exit::Refused,
            "have this draft established anew: `ordonnans label establish`",
        ),
        SealError::TooLarge { .. } => (
            Exit::Usage,
            "give the file with --attach; from Stg.C up every recipient has a copy of its own, which all must fit",
        ),
        SealError::Header(_) => (
            Exit::Usage,
            "check recipients and times: a message has 1 to 64 recipients, each once, and lives at most 30 days",
        ),
        SealError::Numbered => (Exit::Internal, "report this"),
        SealError::Sign(_) => (Exit::Internal, "check the node's key"),
    };
    Failure::new(exit, e.to_string(), hint)
}

/// A file that is sealed into before its digest is known.
struct SealedFile {
    file: File,
    path: PathBuf,
}

fn draft_in(dir: &Path) -> std::io::Result<SealedFile> {
    let mut random = [0; 8];
    SystemEntropy.fill(&mut random);
    let path = dir.join(format!("{DRAFT}{:016x}", u64::from_be_bytes(random)));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    Ok(SealedFile { file, path })
}

impl SealedFile {
    /// Moves the sealed bytes to where attachments are kept.
    fn keep(self, store: &AttachmentStore, of: &AttachmentRef) -> Result<(), Failure> {
        store.adopt(&self.path, &of.digest).map_err(internal)
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        // Gone already where it was kept.
        drop(std::fs::remove_file(&self.path));
    }
}
