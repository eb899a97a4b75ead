//! What a peer may ask about rules before it sends: which labels it may use, and, for officers, why or why not.

use ordonnans_label::{Label, Name};

use crate::cbor::{DecodeError, Reader, Writer};
use crate::header::{name, time};
use crate::label::{decode_label, encode_label};
use crate::{Timestamp, limits};

/// Somebody a message would be for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addressee {
    /// The node.
    pub node: Name,
    /// The person there, where one is meant.
    pub person: Option<Name>,
}

/// A message that is only thought of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposed {
    /// Who would send it.
    pub from: Name,
    /// To whom, 1 to [`limits::MAX_EXPLAINED`].
    pub to: Vec<Addressee>,
    /// Under which label.
    pub label: Label,
    /// When; `None` is now.
    pub at: Option<Timestamp>,
}

/// A rule that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRule {
    /// Its number.
    pub rule: u16,
    /// For which recipient, or `None` for sender and message.
    pub recipient: Option<Name>,
    /// Whether it holds.
    pub holds: bool,
    /// The fact it rests on, at most [`limits::MAX_FACT`] characters.
    pub fact: String,
}

pub(crate) fn write_addressees(w: &mut Writer, all: &[Addressee]) {
    w.array(all.len());
    for a in all {
        w.array(2).text(a.node.as_str());
        w.option(a.person.as_ref(), |w, p| {
            w.text(p.as_str());
        });
    }
}

pub(crate) fn read_addressees(
    r: &mut Reader<'_>,
    min: usize,
    max: usize,
) -> Result<Vec<Addressee>, DecodeError> {
    let n = r.array("recipients", max)?;
    if n < min {
        return Err(DecodeError::Form("recipients"));
    }
    let one = |r: &mut Reader<'_>| {
        r.tuple("recipient", 2)?;
        Ok(Addressee {
            node: name(r, "recipient")?,
            person: r.option(|r| name(r, "recipient"))?,
        })
    };
    (0..n).map(|_| one(r)).collect()
}

impl Supposed {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.text(self.from.as_str());
        write_addressees(w, &self.to);
        encode_label(&self.label, w);
        w.option(self.at, |w, t| {
            w.uint(t.as_millis());
        });
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: name(r, "sender")?,
            to: read_addressees(r, 1, limits::MAX_EXPLAINED)?,
            label: decode_label(r)?,
            at: r.option(|r| time(r, "time"))?,
        })
    }
}

impl ExplainedRule {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(4).uint(self.rule.into());
        w.option(self.recipient.as_ref(), |w, n| {
            w.text(n.as_str());
        });
        w.bool(self.holds).text(&self.fact);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.tuple("rule", 4)?;
        let rule = u16::try_from(r.uint("rule", u16::MAX.into())?).unwrap_or(u16::MAX);
        let recipient = r.option(|r| name(r, "recipient"))?;
        let holds = r.bool("verdict")?;
        let fact = r.text("fact", 4 * limits::MAX_FACT)?.to_owned();
        if fact.chars().count() > limits::MAX_FACT {
            return Err(DecodeError::Limit("fact"));
        }
        Ok(Self {
            rule,
            recipient,
            holds,
            fact,
        })
    }
}
