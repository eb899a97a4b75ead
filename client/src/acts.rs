//! Acts on labels as a node knows them: those of its own persons on their way to the broker, and those it was told of.
//!
//! A message keeps the label it came with; what followed stands beside it, act by act, each naming the one before.

use bytes::Bytes;
use data_encoding::BASE64;
use ordonnans_label::{Label, Level, Name};
use ordonnans_message::{
    Digest, Frame, MessageId, ReplyCode, SignedAct, SignedDeclaration, Timestamp,
};
use ordonnans_seal::verify_statement;
use serde::{Deserialize, Serialize};

use crate::desk::{Desk, internal, usage};
use crate::failure::{Exit, Failure};

/// Whether a label must be established by a person before a message goes out under it: Dutch, from Dep.V up.
pub(crate) fn needed(label: &Label) -> bool {
    let c = &label.confidentiality;
    c.level() > Level::Ongerubriceerd && c.alternative().is_none()
}

/// Why such a label is not taken without a duration.
pub(crate) fn endless() -> Failure {
    usage(
        "from Dep.V up a label says until when",
        "add // TOT 2036-01-01, or // TOT GEBEURTENIS \"an event of the register\"",
    )
}

/// An act or a declaration of this node's, by the digest of its frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Statement {
    /// The frame, in base64.
    frame: String,
    pub(crate) verdict: Option<Answered>,
}

/// What the broker said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum Answered {
    /// It is in force.
    Kept,
    /// It is not.
    Refused {
        /// Why, in a word.
        code: String,
        /// The rule, where one forbids it.
        rule: Option<u16>,
    },
}

impl Statement {
    pub(crate) fn frame(&self) -> Result<Bytes, Failure> {
        let bytes = BASE64.decode(self.frame.as_bytes()).map_err(internal)?;
        Ok(bytes.into())
    }
}

/// A label that is to be weighed again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Review {
    pub(crate) by: Name,
    /// The event that happened; without one its day has passed.
    pub(crate) event: Option<String>,
    /// When this node was told.
    pub(crate) since: Timestamp,
}

fn unknown(id: MessageId) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("no label of {id} was established by a person, or the message is not here"),
        "`ordonnans inbox` and `ordonnans receipts` list messages; one without rubricering has no act",
    )
}

impl Desk {
    /// The acts on a message that this node sent or has, in their line; the last is in force.
    pub(crate) fn history(&self, id: MessageId) -> Result<Vec<SignedAct>, Failure> {
        let first = match self.spool.sent(id)?.and_then(|s| s.act) {
            Some(text) => {
                let bytes = BASE64.decode(text.as_bytes()).map_err(internal)?;
                Some(SignedAct::decode(&bytes).map_err(internal)?)
            }
            None => self
                .spool
                .incoming(id)?
                .and_then(|e| e.header().act.clone()),
        };
        let first = first.ok_or_else(|| unknown(id))?;
        let mut known = self.spool.acts(self.line_of(id)?)?;
        let mut acts = vec![first];
        // Each names the one before; what does not follow on the line is not in force.
        while let Some(last) = acts.last().map(SignedAct::digest) {
            let (subject, node) = (acts[0].said().subject, acts[0].said().node.clone());
            let follows = |a: &SignedAct| {
                let a = a.said();
                a.follows.is_some_and(|f| f.act == last) && a.subject == subject && a.node == node
            };
            match known.iter().position(follows) {
                Some(i) => acts.push(known.swap_remove(i)),
                None => break,
            }
        }
        Ok(acts)
    }

    /// The label in force of a message whose label was revised since it came; `None` where it was not.
    pub(crate) fn revised(&self, id: MessageId) -> Result<Option<Label>, Failure> {
        if self.spool.acts(self.line_of(id)?)?.is_empty() {
            return Ok(None);
        }
        let acts = self.history(id)?;
        Ok(acts.iter().skip(1).last().map(|a| a.said().label.clone()))
    }

    /// Keeps an act or a declaration until the broker has answered. Gives the digest of its frame.
    pub(crate) fn state(&self, frame: &Frame) -> Result<Digest, Failure> {
        let wrong = |e: &dyn std::fmt::Display| {
            Failure::new(
                Exit::Refused,
                format!("the statement is not right: {e}"),
                "sign it again, with a certificate that is believed here",
            )
        };
        match frame {
            Frame::Act { act } => {
                let act = SignedAct::decode(act).map_err(|e| wrong(&e))?;
                verify_statement(act, &self.trust(), self.now()).map_err(|e| wrong(&e))?;
            }
            Frame::Declare { declaration } => {
                let d = SignedDeclaration::decode(declaration).map_err(|e| wrong(&e))?;
                verify_statement(d, &self.trust(), self.now()).map_err(|e| wrong(&e))?;
            }
            _ => return Err(internal("no statement")),
        }
        let (of, bytes) = (frame.digest(), frame.encode());
        let statement = Statement {
            frame: BASE64.encode(&bytes),
            verdict: None,
        };
        self.spool.put_statement(&of, &statement)?;
        self.statements().insert(of, bytes);
        self.work();
        Ok(of)
    }

    /// The broker has answered a statement of ours. One that is in force now stands beside its message.
    pub(crate) fn answered(&self, of: &Digest, verdict: Answered) -> Result<(), Failure> {
        let Some(mut statement) = self.spool.statement(of)? else {
            return Ok(());
        };
        let act = match Frame::decode(&statement.frame()?) {
            Ok(Frame::Act { act }) if verdict == Answered::Kept => SignedAct::decode(&act).ok(),
            _ => None,
        };
        statement.verdict = Some(verdict);
        if let Some(act) = act {
            self.spool.keep_act(&act)?;
        }
        self.spool.put_statement(of, &statement)?;
        self.statements().remove(of);
        self.tell();
        Ok(())
    }

    /// The broker passes on an act on a message that this node has or is due. Gives whether it is kept.
    pub(crate) fn told(&self, bytes: &[u8]) -> Result<bool, Failure> {
        let Ok(act) = SignedAct::decode(bytes) else {
            return Ok(false);
        };
        // It may have waited longer than its certificate lasted.
        let (now, then) = (self.now(), act.said().at);
        let believed = verify_statement(act.clone(), &self.trust(), now)
            .or_else(|_| verify_statement(act.clone(), &self.trust(), then.min(now)));
        if believed.is_err() || act.said().follows.is_none() {
            return Ok(false);
        }
        self.spool.keep_act(&act)?;
        self.tell();
        Ok(true)
    }

    /// The broker says that a label is due for review.
    pub(crate) fn due(
        &self,
        id: MessageId,
        by: Name,
        event: Option<Box<str>>,
    ) -> Result<(), Failure> {
        let review = Review {
            by,
            event: event.map(Into::into),
            since: self.now(),
        };
        self.spool.put_review(id, &review)?;
        self.tell();
        Ok(())
    }
}

/// The answer of the broker, from its frame.
pub(crate) fn refused(code: ReplyCode, rule: Option<u16>) -> Answered {
    Answered::Refused {
        code: format!("{code:?}"),
        rule,
    }
}
