//! Drafts: messages whose label is proposed, until a vaststeller establishes it (VIRBI 2025 articles 1 and 4).
//!
//! A draft is kept sealed to the node itself, like everything that has content. The vaststeller signs over its salted digest and the label; with that
//! statement it goes out as any message. The draft is gone when the broker has accepted it; refused, it is a draft again, and nothing is lost.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_message::{
    AttachmentRef, Content, Envelope, Header, MessageId, Precedence, Recipient, Role, SignedAct,
    SignedKeyPackage, SignedSecond, Timestamp, limits,
};
use ordonnans_seal::{Entropy, SystemEntropy, seal, verify_envelope, verify_statement};
use serde::{Deserialize, Serialize};

use crate::acts;
use crate::addressing::{Expanded, To};
use crate::desk::{Desk, internal, usage};
use crate::failure::{Exit, Failure};
use crate::local::Submission;
use crate::outgoing::Composed;

/// Names a draft at its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DraftId([u8; 8]);

impl DraftId {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for DraftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for DraftId {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, &'static str> {
        let bytes = HEXLOWER.decode(s.as_bytes()).ok();
        let id = bytes.and_then(|b| b.try_into().ok()).map(Self);
        id.ok_or("a draft is named by 16 digits of 0 to 9 and a to f")
    }
}

impl TryFrom<String> for DraftId {
    type Error = &'static str;

    fn try_from(s: String) -> Result<Self, &'static str> {
        s.parse()
    }
}

impl From<DraftId> for String {
    fn from(id: DraftId) -> Self {
        id.to_string()
    }
}

/// A draft as it is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) proposed: Timestamp,
    /// What was handed in, without what is content.
    pub(crate) message: Submission,
    /// The message it went out as, until the broker has decided.
    #[serde(default)]
    pub(crate) sent: Option<MessageId>,
    /// The message it is an extract of.
    #[serde(default)]
    pub(crate) parent: Option<MessageId>,
    /// The vaststeller's signed act in base64, where a second person is to sign, too.
    #[serde(default)]
    pub(crate) act: Option<String>,
    /// The content, sealed to the node itself, in base64.
    envelope: String,
}

impl Draft {
    fn envelope(&self) -> Result<Envelope, Failure> {
        let bytes = BASE64.decode(self.envelope.as_bytes()).map_err(internal)?;
        Envelope::decode(&bytes).map_err(internal)
    }

    /// The sealed attachments.
    pub(crate) fn attachments(&self) -> Result<Vec<AttachmentRef>, Failure> {
        Ok(self.envelope()?.header().attachments.clone())
    }
}

pub(crate) fn still_here(id: DraftId, draft: &Draft) -> Result<(), Failure> {
    match draft.sent {
        None => Ok(()),
        Some(message) => Err(Failure::new(
            Exit::Refused,
            format!("the draft {id} is on its way as {message}"),
            "wait for the broker: `ordonnans receipts` shows what it decides",
        )),
    }
}

impl Desk {
    /// Keeps a message until its label is established. The label is proposed, whatever was typed.
    pub(crate) fn propose(&self, s: &Submission) -> Result<DraftId, Failure> {
        self.propose_as(s, None)
    }

    /// The same of an extract, under whatever label.
    pub(crate) fn propose_extract(
        &self,
        s: &Submission,
        parent: MessageId,
    ) -> Result<DraftId, Failure> {
        self.propose_as(s, Some(parent))
    }

    fn propose_as(&self, s: &Submission, parent: Option<MessageId>) -> Result<DraftId, Failure> {
        // Whom it goes to is settled when it is established; a name that cannot be one is told now.
        let level = self.label(s)?.confidentiality.level();
        self.keys(s, level)?;
        let to = To {
            recipients: vec![],
            groups: vec![],
        };
        let Composed { header, content } = self.compose(s, to)?;
        let kept = self.keep_draft(s, header, &content, parent);
        if kept.is_err() {
            self.discard(&content.attachments)?;
        }
        kept
    }

    fn keep_draft(
        &self,
        s: &Submission,
        header: Header,
        content: &Content,
        parent: Option<MessageId>,
    ) -> Result<DraftId, Failure> {
        if parent.is_none() && !acts::needed(&header.label) {
            return Err(usage(
                "this label needs nobody to establish it",
                "send the message with `ordonnans send`",
            ));
        }
        let now = self.now();
        let own = SignedKeyPackage::decode(&self.package()?).map_err(internal)?;
        let own = verify_statement(own, &self.trust(), now).map_err(internal)?;
        let header = Header {
            recipients: vec![Recipient {
                node: self.name.clone(),
                person: None,
                role: Role::Info,
                precedence: Precedence::Routine,
            }],
            // It is not sent in this form, and lasts until it is established or discarded.
            expires: header.created.after(limits::MAX_LIFETIME_MS),
            ..header
        };
        let envelope = seal(header, content, &[own], &*self.signer(), &mut SystemEntropy);
        let envelope = envelope.map_err(internal)?;
        let draft = Draft {
            proposed: now,
            message: Submission {
                subject: String::new(),
                name: None,
                body: vec![],
                attachments: vec![],
                ..s.clone()
            },
            sent: None,
            parent,
            act: None,
            envelope: BASE64.encode(&envelope.encode()),
        };
        let mut id = [0; 8];
        SystemEntropy.fill(&mut id);
        self.spool.propose(DraftId(id), &draft)?;
        Ok(DraftId(id))
    }

    fn kept(&self, id: DraftId) -> Result<Draft, Failure> {
        self.spool.draft(id)?.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("there is no draft {id}"),
                "`ordonnans label drafts` lists them",
            )
        })
    }

    /// A draft and what is in it.
    pub(crate) fn draft(&self, id: DraftId) -> Result<(Draft, Header, Content), Failure> {
        let draft = self.kept(id)?;
        let envelope = draft.envelope()?;
        let header = envelope.header().clone();
        // Sealed by this node for itself: its certificate may have been renewed since.
        let verified =
            verify_envelope(envelope, &self.trust(), header.created).map_err(internal)?;
        let opened = self.open_own(&verified, None).map_err(|e| {
            Failure::new(
                Exit::Refused,
                format!("the draft {id}: {e}"),
                "a draft is kept as long as the key it is sealed to, at least 90 days; drop it with `ordonnans label discard`",
            )
        })?;
        Ok((draft, header, opened.content))
    }

    /// Sends a draft with the statement of its vaststeller.
    pub(crate) fn establish(
        &self,
        id: DraftId,
        act: &[u8],
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        self.go_out(id, act, None, expanded)
    }

    /// Reads the act by which a draft is established, and looks whether it is about this one.
    pub(crate) fn fitting(
        &self,
        draft: &Draft,
        content: &Content,
        act: &[u8],
    ) -> Result<SignedAct, Failure> {
        let wrong = |what: String| {
            Failure::new(
                Exit::Refused,
                what,
                "sign it with `ordonnans label establish DRAFT --as CERT --key KEY`",
            )
        };
        let act = SignedAct::decode(act).map_err(|e| wrong(format!("the statement: {e}")))?;
        let act = verify_statement(act, &self.trust(), self.now())
            .map_err(|e| wrong(format!("the vaststeller's certificate: {e}")))?
            .into_inner();
        let a = act.said();
        if a.subject != content.digest() || !self.fits(draft, a)? {
            return Err(wrong("the statement is about something else".into()));
        }
        self.usable(&a.label, &content.body)?;
        Ok(act)
    }

    /// Sends a draft with what was signed.
    pub(crate) fn go_out(
        &self,
        id: DraftId,
        act: &[u8],
        second: Option<SignedSecond>,
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        let (draft, header, content) = self.draft(id)?;
        still_here(id, &draft)?;
        let act = self.fitting(&draft, &content, act)?;
        let a = act.said();
        let level = a.label.confidentiality.level();
        let To { recipients, groups } = self.addressed(&draft.message, level, expanded)?;
        let (at, mut random) = (self.now(), [0; 10]);
        SystemEntropy.fill(&mut random);
        let header = Header {
            id: MessageId::new(at, random),
            label: a.label.clone(),
            recipients,
            groups,
            created: at,
            expires: draft.message.expires,
            act: Some(act),
            passed: self.passed(&draft, second)?,
            ..header
        };
        self.dispatch(Composed { header, content }, Some(id))
    }

    /// Drops a draft and its attachments.
    pub(crate) fn discard_draft(&self, id: DraftId) -> Result<(), Failure> {
        let draft = self.kept(id)?;
        still_here(id, &draft)?;
        let attachments = draft.attachments()?;
        self.spool.discard(id)?;
        for a in attachments {
            self.sealed.remove(&a.digest).map_err(internal)?;
        }
        Ok(())
    }
}
