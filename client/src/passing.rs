//! Passing a message on: as it is, or as an extract (`policy.md`, POL-23 to POL-30).
//!
//! What is passed on as it is gets new copies, sealed for others; content, label and the act in force stay what they are. An extract begins as a draft of its own
//! content: the parent's vaststeller signs, and of Stg.C or higher a second person over the same act, each at their own time with their own key.

use data_encoding::BASE64;
use ordonnans_label::{Label, Level, State};
use ordonnans_message::{
    Act, ActKind, AttachmentRef, Content, Follows, Header, How, MessageId, PassedOn, ReceiptKind,
    SignedAct, SignedSecond,
};
use ordonnans_seal::verify_statement;
use serde_json::{Value, json};

use crate::addressing::Expanded;
use crate::desk::{Desk, internal, usage};
use crate::drafts::{Draft, DraftId, still_here};
use crate::failure::{Exit, Failure};
use crate::incoming::Inside;
use crate::local::{Opener, Submission};
use crate::outgoing::Composed;

/// The message whose acts count for one that passes it on as it is.
pub(crate) fn as_it_is(header: &Header) -> Option<MessageId> {
    let passed = header.passed.as_ref()?;
    (passed.how == How::AsItIs).then_some(passed.parent)
}

/// What an inbox shows of what a message passes on.
pub(crate) fn shown(header: &Header) -> Value {
    header.passed.as_ref().map_or(Value::Null, |p| {
        let second = p.second.as_ref().map(|s| &s.said().by);
        json!({ "how": p.how.as_str(), "parent": p.parent, "second": second })
    })
}

/// What an extract is made from.
pub(crate) struct Parent {
    /// The act in force on it, and the message it is about.
    pub(crate) follows: Follows,
    pub(crate) act: Act,
    exercise: bool,
}

impl Parent {
    pub(crate) fn level(&self) -> Level {
        self.act.label.confidentiality.level()
    }

    /// Whether a second person signs, too.
    pub(crate) fn needs_second(&self) -> bool {
        self.level() >= Level::StgC
    }

    fn is_of(&self, act: &Act) -> bool {
        act.kind == ActKind::Extract
            && act.follows == Some(self.follows)
            && act.node == self.act.node
    }
}

fn no(what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(Exit::Refused, what, hint)
}

impl Desk {
    /// The message whose acts are those of this one.
    pub(crate) fn line_of(&self, id: MessageId) -> Result<MessageId, Failure> {
        let sent = self.spool.sent(id)?.and_then(|s| s.passed);
        let passed = match sent {
            None => self.spool.incoming(id)?.and_then(|e| as_it_is(e.header())),
            sent => sent,
        };
        Ok(passed.unwrap_or(id))
    }

    /// The label of a message in the inbox that may be passed on as it is; the broker decides on the rest.
    pub(crate) fn passable(&self, id: MessageId) -> Result<Label, Failure> {
        let came = self.message(id)?.header().label.clone();
        // What came sealed to persons this daemon does not open, whatever label it has since.
        let sealed_to = came.confidentiality.level();
        let label = self.revised(id)?.unwrap_or(came);
        if self
            .spool
            .arrived(id)?
            .is_some_and(|a| a.recalled.is_some())
        {
            return Err(no(
                format!("{id} was taken back by its originator (POL-23)"),
                "destroy it: `ordonnans destroy ID`",
            ));
        }
        if label.confidentiality.level().max(sealed_to) >= Level::StgG {
            return Err(no(
                format!(
                    "{id} may not be passed on: from Stg.G up a further copy is made by the originator (POL-25)"
                ),
                "ask the originator to send it to them, with its vaststeller's statement",
            ));
        }
        Ok(label)
    }

    /// Passes a message on as it is; `s` says to whom. First the receipt *opened* is kept, as for every reader.
    pub(crate) fn forward(
        &self,
        id: MessageId,
        receipt: Option<&[u8]>,
        s: &Submission,
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        let label = self.passable(id)?;
        let to = self.addressed(s, label.confidentiality.level(), expanded)?;
        self.all_known(&to.recipients, label.confidentiality.level())?;
        let line = self.line_of(id)?;
        let envelope = self.message(id)?;
        // Without an act nobody established it: then what came is what goes on.
        let act = match envelope.header().act {
            Some(_) => self.history(id)?.pop(),
            None => None,
        };
        let parent = if act.is_some() { line } else { id };
        let read = self.read(id, ReceiptKind::Opened, receipt)?;
        let Inside::Open(content, _) = read.inside else {
            return Err(internal("it is sealed to a person"));
        };
        for a in &read.header.attachments {
            self.send_again(a)?;
        }
        let composed = self.compose(s, to)?;
        let header = Header {
            label,
            exercise: read.header.exercise,
            attachments: read.header.attachments,
            act,
            passed: Some(PassedOn {
                how: How::AsItIs,
                parent,
                second: None,
            }),
            ..composed.header
        };
        self.dispatch(Composed { header, content }, None)
    }

    /// What an extract of a message that this node sent or has is made from.
    pub(crate) fn parent(&self, id: MessageId) -> Result<Parent, Failure> {
        let history = self.history(id).map_err(|_| {
            no(
                format!("{id} has no label that a person established here, so nothing is an extract of it"),
                "`ordonnans inbox` and `receipts` list messages; what has no rubricering is sent as any message, and under another policy its originator makes the extract",
            )
        })?;
        let act = history.last().ok_or_else(|| internal("no act"))?;
        let exercise = match self.spool.sent(id)? {
            Some(sent) => sent.exercise,
            None => self.message(id)?.header().exercise,
        };
        Ok(Parent {
            follows: Follows {
                message: self.line_of(id)?,
                act: act.digest(),
            },
            act: act.said().clone(),
            exercise,
        })
    }

    /// Keeps an extract as a draft, until it is signed.
    pub(crate) fn extract(
        &self,
        of: MessageId,
        s: &Submission,
        openers: &[Opener],
    ) -> Result<DraftId, Failure> {
        let parent = self.parent(of)?;
        let c = &self.label(s)?.confidentiality;
        if c.alternative().is_some() {
            return Err(usage(
                "an extract of a Dutch message has a Dutch label",
                "what goes to partners under their policy is a message of its own",
            ));
        }
        if c.level() > parent.level() {
            return Err(usage(
                format!(
                    "an extract is not higher than its parent, which is {}",
                    parent.level()
                ),
                "what adds to it is a message of its own; name the other with --reference",
            ));
        }
        let message = Submission {
            exercise: s.exercise || parent.exercise,
            ..s.clone()
        };
        self.propose_extract(&message, of, openers)
    }

    /// The label of an extract of a message until it is signed: that of the message.
    pub(crate) fn proposed_label(&self, of: MessageId) -> Result<Label, Failure> {
        Ok(Label {
            state: State::Proposed,
            ..self.parent(of)?.act.label
        })
    }

    /// What whoever signs an extract is told of it: `parent`, `follows` and `node` of the act, whether a `second` signs, and the `act` that is there.
    pub(crate) fn extract_of(&self, draft: &Draft) -> Result<Value, Failure> {
        let Some(of) = draft.parent else {
            return Ok(Value::Null);
        };
        let parent = self.parent(of)?;
        Ok(json!({
            "of": of, "parent": parent.follows.message, "follows": parent.follows.act,
            "node": parent.act.node, "level": parent.level(), "second": parent.needs_second(),
            "act": draft.act,
        }))
    }

    /// Keeps the vaststeller's act of an extract that a second person signs, too. Gives false where nobody else must sign.
    pub(crate) fn sign_first(
        &self,
        id: DraftId,
        act: &[u8],
        content: Option<&Content>,
    ) -> Result<bool, Failure> {
        let mut draft = self.kept(id)?;
        let Some(of) = draft.parent else {
            return Ok(false);
        };
        if !self.parent(of)?.needs_second() {
            return Ok(false);
        }
        still_here(id, &draft)?;
        let (_, content) = self.draft(id, content)?;
        self.fitting(&draft, &content, act)?;
        draft.act = Some(BASE64.encode(act));
        self.spool.propose(id, &draft)?;
        Ok(true)
    }

    /// Sends an extract with the word of a second person.
    pub(crate) fn second(
        &self,
        id: DraftId,
        second: &[u8],
        content: Option<&Content>,
        expanded: &Expanded,
    ) -> Result<MessageId, Failure> {
        let draft = self.kept(id)?;
        let Some(act) = &draft.act else {
            return Err(no(
                format!("nobody has established the draft {id} yet"),
                "the parent's vaststeller signs first: `ordonnans label establish DRAFT --as CERT --key KEY`",
            ));
        };
        let act = BASE64.decode(act.as_bytes()).map_err(internal)?;
        let wrong = |what: String| {
            no(
                what,
                "sign it with `ordonnans label second DRAFT --as CERT --key KEY`",
            )
        };
        let second = SignedSecond::decode(second)
            .map_err(|e| wrong(format!("the second signature: {e}")))?;
        let second = verify_statement(second, &self.trust(), self.now())
            .map_err(|e| wrong(format!("the second person's certificate: {e}")))?
            .into_inner();
        let signed = SignedAct::decode(&act).map_err(internal)?;
        if second.said().act != signed.digest() {
            return Err(wrong(
                "the second signature is over another content, label or parent (POL-28)".into(),
            ));
        }
        if second.said().by == signed.said().by {
            return Err(same_person());
        }
        self.go_out(id, &act, Some(second), content, expanded)
    }

    /// Whether an act establishes this draft, of an extract too.
    pub(crate) fn fits(&self, draft: &Draft, act: &Act) -> Result<bool, Failure> {
        match draft.parent {
            None => Ok(act.kind == ActKind::Establish && act.node == self.name),
            Some(of) => Ok(self.parent(of)?.is_of(act)),
        }
    }

    /// What the header of a draft that goes out says of its parent.
    pub(crate) fn passed(
        &self,
        draft: &Draft,
        second: Option<SignedSecond>,
    ) -> Result<Option<PassedOn>, Failure> {
        let Some(of) = draft.parent else {
            return Ok(None);
        };
        Ok(Some(PassedOn {
            how: How::Extract,
            parent: self.parent(of)?.follows.message,
            second,
        }))
    }

    /// A sealed attachment that came in goes out again, as it is.
    fn send_again(&self, a: &AttachmentRef) -> Result<(), Failure> {
        let mut from = self.attachments.read(&a.digest).map_err(internal)?;
        self.adopt(&mut from, a)
    }
}

/// What is wanted where the broker refuses to pass a message on, after the number of the rule.
pub(crate) fn wanted(rule: u64) -> &'static str {
    match rule {
        23 => ": a parent that it knows, that was not taken back, and that this node sent or has",
        24 => ": the label in force and its act; what is to go lower is an extract",
        25 => ": from Stg.G up the originator sends it",
        26 => ": an act on a Dutch parent as it is now, not above it; have it established anew",
        27 => ": the signature of the parent's vaststeller, or of a registered successor",
        28 => ": a second signature, over this content, label and parent",
        29 => ": two persons",
        30 => ": a second person in the register who is cleared for the parent",
        _ => "",
    }
}

/// Why one person is not two.
pub(crate) fn same_person() -> Failure {
    no(
        "the second signature is by the vaststeller (POL-29)",
        "another person signs with `ordonnans label second DRAFT --as CERT --key KEY`",
    )
}
