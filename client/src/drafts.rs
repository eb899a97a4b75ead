//! Drafts: messages whose label is proposed, until a vaststeller establishes it (VIRBI 2025 articles 1 and 4).
//!
//! A draft is kept sealed like everything that has content: to the node itself, and from Stg.G up to persons, whose commands open it and hand the
//! content over with what they signed. The vaststeller signs over its salted digest and the label; with that statement it goes out as any message. The
//! draft is gone when the broker has accepted it; refused, it is a draft again, and nothing is lost.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{
    AttachmentRef, Content, Digest, Envelope, Header, MessageId, Precedence, Recipient, Role,
    SignedAct, SignedKeyPackage, SignedSecond, Timestamp, limits,
};
use ordonnans_seal::{Entropy, SystemEntropy, Verified, seal, verify_envelope, verify_statement};
use serde::{Deserialize, Serialize};

use crate::acts;
use crate::address::name;
use crate::addressing::{Expanded, To};
use crate::belief::Belief;
use crate::desk::{Desk, internal, usage};
use crate::failure::{Exit, Failure};
use crate::incoming::Inside;
use crate::local::{Opener, Submission};
use crate::outgoing::{Composed, refused};

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
    /// Whether nobody can open it once it is on its way.
    #[serde(default)]
    pub(crate) once: bool,
    /// The salted digest of the content, which nobody here may be able to open.
    #[serde(default)]
    subject: Option<Digest>,
    /// The content, sealed to the node itself or to persons, in base64.
    envelope: String,
}

impl Draft {
    fn envelope(&self) -> Result<Envelope, Failure> {
        let bytes = BASE64.decode(self.envelope.as_bytes()).map_err(internal)?;
        Envelope::decode(&bytes).map_err(internal)
    }

    /// Who can open it: persons, or its node where there are none.
    pub(crate) fn held_by(&self) -> Result<Vec<Name>, Failure> {
        Ok(persons(self.envelope()?.header()))
    }

    /// The sealed attachments.
    pub(crate) fn attachments(&self) -> Result<Vec<AttachmentRef>, Failure> {
        Ok(self.envelope()?.header().attachments.clone())
    }
}

fn persons(header: &Header) -> Vec<Name> {
    let all = header.recipients.iter();
    all.filter_map(|r| r.person.clone()).collect()
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
    pub(crate) fn propose(&self, s: &Submission, openers: &[Opener]) -> Result<DraftId, Failure> {
        self.propose_as(s, None, openers)
    }

    /// The same of an extract, under whatever label.
    pub(crate) fn propose_extract(
        &self,
        s: &Submission,
        parent: MessageId,
        openers: &[Opener],
    ) -> Result<DraftId, Failure> {
        self.propose_as(s, Some(parent), openers)
    }

    fn propose_as(
        &self,
        s: &Submission,
        parent: Option<MessageId>,
        openers: &[Opener],
    ) -> Result<DraftId, Failure> {
        // Whom it goes to is settled when it is established; a name that cannot be one is told now.
        let level = self.label(s)?.confidentiality.level();
        self.keys(s, level)?;
        let to = To {
            recipients: vec![],
            groups: vec![],
        };
        let Composed { header, content } = self.compose(s, to)?;
        let kept = self.keep_draft(s, header, &content, parent, openers);
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
        openers: &[Opener],
    ) -> Result<DraftId, Failure> {
        if parent.is_none() && !acts::needed(&header.label) {
            return Err(usage(
                "this label needs nobody to establish it",
                "send the message with `ordonnans send`",
            ));
        }
        // Until it is signed, an extract is what it is made from.
        let label = match parent {
            None => header.label.clone(),
            Some(of) => self.proposed_label(of)?,
        };
        let level = label.confidentiality.level();
        let (recipients, keys) = self.holders(level, openers)?;
        let header = Header {
            label,
            recipients,
            // It is not sent in this form, and lasts until it is established or discarded.
            expires: header.created.after(limits::MAX_LIFETIME_MS),
            ..header
        };
        let envelope = seal(header, content, &keys, &*self.signer(), &mut SystemEntropy);
        let envelope = envelope.map_err(|e| refused(&e))?;
        let draft = Draft {
            proposed: self.now(),
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
            once: level >= Level::StgG && openers.iter().all(|o| matches!(o, Opener::Once(_))),
            subject: Some(content.digest()),
            envelope: BASE64.encode(&envelope.encode()),
        };
        let mut id = [0; 8];
        SystemEntropy.fill(&mut id);
        self.spool.propose(DraftId(id), &draft)?;
        Ok(DraftId(id))
    }

    /// Whom a draft of this level is sealed to, and their keys: the node, and from Stg.G up the persons who are named.
    fn holders(
        &self,
        level: Level,
        openers: &[Opener],
    ) -> Result<(Vec<Recipient>, Vec<Verified<SignedKeyPackage>>), Failure> {
        let holder = |person| Recipient {
            node: self.name.clone(),
            person,
            role: Role::Info,
            precedence: Precedence::Routine,
        };
        let named = self.named_openers(openers)?;
        if level < Level::StgG {
            if !named.is_empty() {
                return Err(usage(
                    "below Stg.G a draft is sealed to its node, and not to persons",
                    "leave --for out",
                ));
            }
            let own = SignedKeyPackage::decode(&self.package()?).map_err(internal)?;
            let own = verify_statement(own, &self.trust(), self.now()).map_err(internal)?;
            return Ok((vec![holder(None)], vec![own]));
        }
        let mut keys = vec![];
        for opener in openers {
            if let Opener::Key(package) | Opener::Once(package) = opener {
                keys.push(self.key_of_opener(package)?);
            }
        }
        let signing: BTreeSet<Name> = keys.iter().map(|k| k.get().said().name.clone()).collect();
        if let Some(both) = signing.intersection(&named).next() {
            return Err(usage(
                format!("{both} signs in this step"),
                "name with --for who is to sign later; who signs now can open the draft later with --seal-key FILE",
            ));
        }
        let holders = |names: &BTreeSet<Name>| -> Vec<Recipient> {
            names.iter().map(|p| holder(Some(p.clone()))).collect()
        };
        let (mut all, others) = (holders(&signing), holders(&named));
        keys.extend(self.all_known(&others, level)?);
        all.extend(others);
        if all.is_empty() {
            return Err(usage(
                "from Stg.G up a draft is sealed to persons, and none is named",
                "name whoever is to sign it with --for PERSON; who has a key, `ordonnans directory` shows",
            ));
        }
        Ok((all, keys))
    }

    fn named_openers(&self, openers: &[Opener]) -> Result<BTreeSet<Name>, Failure> {
        let named = openers.iter().filter_map(|o| match o {
            Opener::Named(text) => Some(text),
            Opener::Key(_) | Opener::Once(_) => None,
        });
        named
            .map(|text| {
                name(text, Kind::Person, self.name.structure())
                    .map_err(|e| usage(e.to_string(), "name a person of the register with --for"))
            })
            .collect()
    }

    fn key_of_opener(&self, package: &str) -> Result<Verified<SignedKeyPackage>, Failure> {
        let wrong = |why: String| {
            Failure::new(
                Exit::Refused,
                format!("the key of whoever signs: {why}"),
                "check the person's certificate; the workshop renews it",
            )
        };
        let bytes = BASE64.decode(package.as_bytes());
        let bytes = bytes.map_err(|e| wrong(e.to_string()))?;
        self.package_of_person(&bytes).map_err(wrong)
    }

    /// Whether the directory has no key for some opener, which a look at it may bring.
    pub(crate) fn unlisted(&self, openers: &[Opener]) -> Result<bool, Failure> {
        for name in self.named_openers(openers)? {
            let listed = self.spool.listed(&name)?;
            if listed.and_then(|l| l.package()).is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A draft.
    ///
    /// # Errors
    /// [`Failure`]: there is none of this name.
    pub(crate) fn kept(&self, id: DraftId) -> Result<Draft, Failure> {
        self.spool.draft(id)?.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("there is no draft {id}"),
                "`ordonnans label drafts` lists them",
            )
        })
    }

    /// The level at which a draft goes out: as its vaststeller has signed, and until then as it was proposed.
    pub(crate) fn level_of(&self, draft: &Draft) -> Result<Level, Failure> {
        let Some(act) = &draft.act else {
            return Ok(self.label(&draft.message)?.confidentiality.level());
        };
        let act = BASE64.decode(act.as_bytes()).map_err(internal)?;
        let act = SignedAct::decode(&act).map_err(internal)?;
        Ok(act.said().label.confidentiality.level())
    }

    /// A draft and what is in it, or what a person's command opens.
    pub(crate) fn inside(&self, id: DraftId) -> Result<(Draft, Inside), Failure> {
        let draft = self.kept(id)?;
        let envelope = draft.envelope()?;
        let header = envelope.header().clone();
        if !persons(&header).is_empty() {
            let inside = Inside::Sealed {
                received: header.created,
                belief: Belief::of(&self.trust()),
                envelope: Box::new(envelope),
                attachments: vec![],
            };
            return Ok((draft, inside));
        }
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
        Ok((draft, Inside::Open(opened.content, opened.copy)))
    }

    /// A draft and what is in it, which whoever opened it has handed over where persons hold it.
    pub(crate) fn draft(
        &self,
        id: DraftId,
        handed: Option<&Content>,
    ) -> Result<(Draft, Content), Failure> {
        let (draft, inside) = self.inside(id)?;
        let content = match (inside, handed) {
            (Inside::Open(content, _), _) => content,
            (Inside::Sealed { .. }, Some(content)) => content.clone(),
            (Inside::Sealed { .. }, None) => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("the draft {id} is sealed to persons"),
                    "sign it with --as CERT, --key KEY and --seal-key FILE",
                ));
            }
        };
        let known = draft
            .subject
            .map_or(handed.is_none(), |s| s == content.digest());
        if !known {
            return Err(Failure::new(
                Exit::Proof,
                format!("what was handed over is not the content of the draft {id}"),
                "look at it with `ordonnans label draft` and sign it again",
            ));
        }
        Ok((draft, content))
    }

    /// Sends a draft with the statement of its vaststeller.
    pub(crate) fn establish(
        &self,
        id: DraftId,
        act: &[u8],
        content: Option<&Content>,
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        self.go_out(id, act, None, content, expanded)
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
        let parent = draft.parent.map(|of| self.parent(of)).transpose()?;
        let level = a.label.confidentiality.level();
        let level = parent.map_or(level, |p| level.max(p.level()));
        if level >= Level::StgG && draft.held_by()?.is_empty() {
            return Err(Failure::new(
                Exit::Refused,
                "the draft was kept for its node, and from Stg.G up persons hold it",
                "propose it, or make the extract, anew with --for PERSON, and drop this one with `ordonnans label discard`",
            ));
        }
        Ok(act)
    }

    /// Sends a draft with what was signed.
    pub(crate) fn go_out(
        &self,
        id: DraftId,
        act: &[u8],
        second: Option<SignedSecond>,
        content: Option<&Content>,
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        let (draft, content) = self.draft(id, content)?;
        still_here(id, &draft)?;
        let header = draft.envelope()?.header().clone();
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

    /// Drops what nobody can open any more: its command ended before it was sent.
    pub(crate) fn drop_stranded(&self) -> Result<(), Failure> {
        for (id, draft) in self.spool.drafts()? {
            if draft.once && draft.sent.is_none() {
                self.discard_draft(id)?;
            }
        }
        Ok(())
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
