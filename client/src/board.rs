//! The duty officer's board: each copy we sent, who has it, who opened it, who is late; what waits here for us; and what the broker asks us to look after.

use ordonnans_label::{Kind, Name};
use ordonnans_message::{
    Digest, MessageId, News, Precedence, Receipt, ReceiptKind, Recipient, Role, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::failure::Failure;
use crate::spool::{Sent, Verdict};

/// A recipient as it is kept of a message of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentTo {
    pub(crate) node: Name,
    pub(crate) person: Option<Name>,
    pub(crate) role: Role,
    pub(crate) precedence: Precedence,
}

impl From<&Recipient> for SentTo {
    fn from(r: &Recipient) -> Self {
        Self {
            node: r.node.clone(),
            person: r.person.clone(),
            role: r.role,
            precedence: r.precedence,
        }
    }
}

/// What the broker told us of a message, unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) originator: Name,
    pub(crate) at: Timestamp,
    /// What, in a word.
    pub(crate) what: String,
    pub(crate) node: Option<Name>,
    pub(crate) precedence: Option<Precedence>,
    pub(crate) count: Option<u16>,
}

impl Told {
    fn new(originator: Name, at: Timestamp, news: &News) -> Self {
        let (what, precedence, count) = match news {
            News::LeftOut { count } => ("left out", None, Some(*count)),
            News::Withheld { .. } => ("withheld", None, None),
            News::Expired { .. } => ("expired", None, None),
            News::Due { precedence } => ("due", Some(*precedence), None),
            News::Late { precedence, .. } => ("late", Some(*precedence), None),
            News::Superseded { .. } => ("superseded", None, None),
        };
        Self {
            originator,
            at,
            what: what.into(),
            node: news.node().cloned(),
            precedence,
            count,
        }
    }
}

/// When a copy must be there, opened where it is for action.
fn due(
    at: Timestamp,
    precedence: Precedence,
    reply_by: Option<Timestamp>,
    action: bool,
) -> Timestamp {
    let by = at.after(precedence.due_within_ms());
    match reply_by.filter(|_| action) {
        Some(reply_by) => by.min(reply_by),
        None => by,
    }
}

impl Desk {
    /// Keeps what the broker told us, and says it to whoever watches the log lines.
    pub(crate) fn told_of(
        &self,
        of: &Digest,
        id: MessageId,
        (originator, at): (Name, Timestamp),
        news: &News,
    ) -> Result<(), Failure> {
        let told = Told::new(originator, at, news);
        let node = told.node.as_ref().map(Name::as_str);
        match news {
            News::Due { .. } => tracing::warn!(%id, "a message here should be open by now"),
            News::LeftOut { count } => {
                tracing::warn!(%id, count, "members of a group do not get the message");
            }
            _ => tracing::warn!(%id, node, what = told.what, "a copy is not where it should be"),
        }
        self.spool.put_told(id, of, &told)?;
        self.tell();
        Ok(())
    }

    /// The board. Without `all`, what is done with is left out.
    pub(crate) fn board(&self, all: bool) -> Result<Value, Failure> {
        let now = self.now();
        let inbox = self.spool.inbox()?;
        let mut rows: Vec<(bool, Timestamp, Value)> = vec![];
        for (id, sent) in self.spool.all_sent()? {
            let answered = |node: &Name| {
                let by = |(e, _): &&(ordonnans_message::Envelope, _)| {
                    let h = e.header();
                    h.originator == *node && h.references.contains(&id)
                };
                inbox.iter().find(by).map(|(_, arrived)| arrived.received)
            };
            for (open, due, row) in self.copies_of(id, &sent, now, &answered)? {
                if open || all {
                    rows.push((open, due, row));
                }
            }
        }
        for (envelope, arrived) in &inbox {
            let h = envelope.header();
            let here: Vec<&Recipient> = h
                .recipients
                .iter()
                .filter(|r| r.node == self.name)
                .collect();
            let action = here.iter().any(|r| r.role == Role::Action);
            let precedence = here.iter().map(|r| r.precedence).max();
            let precedence = precedence.unwrap_or(Precedence::Deferred);
            let due = due(arrived.received, precedence, h.reply_by, action);
            let open = action && !arrived.opened && arrived.recalled.is_none();
            if open || all {
                let state = match (arrived.recalled, arrived.opened) {
                    (Some(_), _) => "recalled",
                    (None, true) => "opened",
                    (None, false) => "unopened",
                };
                let row = json!({
                    "id": h.id, "side": "received", "precedence": precedence.as_str(), "who": h.originator.local(),
                    "role": if action { "action" } else { "info" }, "state": state, "by": Value::Null, "at": arrived.received,
                    "due": due, "late": (open && now > due).then(|| span(now.since(due))), "told": self.words(h.id)?,
                });
                rows.push((open, due, row));
            }
        }
        for (id, told) in self.spool.told()? {
            let ours = told.originator == self.name;
            if told.what == "late" && !ours {
                let precedence = told.precedence.unwrap_or(Precedence::Routine);
                let row = json!({
                    "id": id, "side": "looked after", "precedence": precedence.as_str(),
                    "who": told.node.as_ref().map(Name::local), "role": "action", "state": "late",
                    "by": told.originator.local(), "at": told.at, "due": Value::Null, "late": span(now.since(told.at)), "told": Value::Null,
                });
                rows.push((true, told.at, row));
            }
        }
        // What is open first, and of that what is due first.
        rows.sort_by_key(|(open, due, _)| (!open, *due));
        Ok(rows.into_iter().map(|(_, _, row)| row).collect())
    }

    fn words(&self, id: MessageId) -> Result<Option<String>, Failure> {
        let told = self.spool.told_of(id)?;
        let word = |t: &Told| match (&t.count, &t.node) {
            (Some(n), _) => format!("{} {n}", t.what),
            (None, Some(node)) => format!("{} {}", t.what, node.local()),
            (None, None) => t.what.clone(),
        };
        let words: Vec<String> = told.iter().map(word).collect();
        Ok((!words.is_empty()).then(|| words.join(", ")))
    }

    fn copies_of(
        &self,
        id: MessageId,
        sent: &Sent,
        now: Timestamp,
        answered: &dyn Fn(&Name) -> Option<Timestamp>,
    ) -> Result<Vec<(bool, Timestamp, Value)>, Failure> {
        let receipts = self.spool.receipts(id)?;
        let told = self.spool.told_of(id)?;
        let recalled = receipts.iter().any(|r| r.kind == ReceiptKind::Recalled);
        let refused = matches!(sent.verdict, Some(Verdict::Refused { .. }));
        let accepted = match sent.verdict {
            Some(Verdict::Accepted { at, .. }) => Some(at),
            _ => None,
        };
        // A receipt names the person, not the node. Where it could be of several nodes it is shown for none; `receipts` has it.
        let theirs = |r: &Receipt, to: &SentTo| {
            let mut others = sent.to.iter().filter(|o| o.node != to.node);
            let named = sent.to.iter().any(|o| o.person.as_ref() == Some(&r.by));
            r.by.kind() == Kind::Person && !named && others.all(|o| o.person.is_some())
        };
        let mut rows = vec![];
        for to in &sent.to {
            let of = |kinds: &[ReceiptKind]| -> Option<&Receipt> {
                let by_them = |r: &&Receipt| match &to.person {
                    Some(person) if r.kind.is_of_reader() => r.by == *person,
                    _ => r.by == to.node || (r.kind.is_of_reader() && theirs(r, to)),
                };
                receipts
                    .iter()
                    .filter(by_them)
                    .find(|r| kinds.contains(&r.kind))
            };
            let delivered = of(&[ReceiptKind::Delivered]);
            let unusable = of(&[ReceiptKind::Refused]);
            let opened = of(&[
                ReceiptKind::Opened,
                ReceiptKind::Exported,
                ReceiptKind::Printed,
            ]);
            let answer = answered(&to.node).filter(|_| sent.reply_by.is_some());
            let over = |what: &str| {
                told.iter()
                    .any(|t| t.what == what && t.node.as_ref() == Some(&to.node))
            };
            let action = to.role == Role::Action;
            let (state, at, by) = match (refused, recalled, answer, opened, delivered) {
                (true, ..) => ("refused", None, None),
                (_, true, ..) => ("recalled", None, None),
                (_, _, Some(at), ..) => ("answered", Some(at), None),
                (_, _, _, Some(r), _) => ("opened", Some(r.at), Some(&r.by)),
                (_, _, _, _, Some(r)) => ("delivered", Some(r.at), None),
                _ if unusable.is_some() => ("unusable", None, None),
                _ if over("superseded") => ("superseded", None, None),
                _ if over("expired") => ("expired", None, None),
                _ if over("withheld") => ("withheld", None, None),
                _ if accepted.is_some() => ("with the broker", accepted, None),
                _ => ("in the outbox", None, None),
            };
            let done = match state {
                "refused" | "recalled" | "answered" | "superseded" | "expired" => true,
                "opened" => !action || sent.reply_by.is_none(),
                "delivered" => !action,
                _ => false,
            };
            let began = accepted.unwrap_or(sent.created);
            let due = match (opened, sent.reply_by) {
                (Some(_), Some(reply_by)) if action => reply_by,
                _ => due(began, to.precedence, sent.reply_by, action),
            };
            let who = match &to.person {
                Some(person) => format!("{}@{}", person.local(), to.node.local()),
                None => to.node.local().into(),
            };
            let row = json!({
                "id": id, "side": "sent", "precedence": to.precedence.as_str(), "who": who,
                "role": if action { "action" } else { "info" }, "state": state, "by": by.map(Name::local), "at": at,
                "due": due, "late": (!done && now > due).then(|| span(now.since(due))), "told": self.words(id)?,
            });
            rows.push((!done, due, row));
        }
        Ok(rows)
    }
}

/// A span of time as people say it.
fn span(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0..=59 => format!("{minutes} min"),
        60..=1439 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1440, minutes % 1440 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::{House, accepted, begun, message, receipts};
    use ordonnans_message::Frame;
    use std::time::Instant;

    const MINUTE: u64 = 60_000;

    fn of(board: &Value, id: MessageId) -> Vec<&Value> {
        let rows = board.as_array().expect("rows").iter();
        rows.filter(|r| r["id"] == json!(id)).collect()
    }

    #[test]
    fn the_board_says_who_has_it_who_opened_it_and_who_is_late() {
        let mut house = House::new();
        let (a, b) = house.pair();
        let now = Instant::now();
        let (mut at_a, mut at_b) = (begun(&a, now), begun(&b, now));
        let mut flash = message(&["locc"], b"x");
        flash.precedence = "FLASH".into();
        flash.info = vec!["ncc".into()];
        flash.info_precedence = Some("R".into());
        flash.reply_by = Some(a.now().after(60 * MINUTE));
        let id = a.submit(&flash).expect("submitted");
        let envelope = a.outgoing(id).expect("reads").expect("there");
        let state = |a: &Desk, who: &str| {
            let board = a.board(true).expect("a board");
            let rows = of(&board, id);
            let row = rows.iter().find(|r| r["who"] == who).expect("a row");
            (
                row["state"].clone(),
                row["late"].clone(),
                row["precedence"].clone(),
            )
        };
        let (late, flash_is) = (|text: &str| json!(text), json!("flash"));
        assert_eq!(
            state(&a, "locc"),
            (json!("in the outbox"), Value::Null, flash_is.clone())
        );
        house.later(11 * MINUTE);
        assert_eq!(
            state(&a, "locc"),
            (json!("in the outbox"), late("1 min"), flash_is)
        );
        assert_eq!(state(&a, "ncc").2, "routine");
        let Frame::Accepted { sequence, .. } = accepted(id) else {
            panic!("an answer");
        };
        let at = a.now();
        at_a.take(Frame::Accepted { id, at, sequence }, now)
            .expect("taken");
        assert_eq!(state(&a, "locc").0, "with the broker");
        assert_eq!(
            state(&a, "locc").1,
            Value::Null,
            "its time begins with its acceptance"
        );
        // The other node has it, and is late to open it: both boards say so.
        at_b.take(Frame::Deliver { envelope }, now).expect("taken");
        let delivered = receipts(&mut at_b).remove(0).encode();
        at_a.take(Frame::Receipt { receipt: delivered }, now)
            .expect("taken");
        assert_eq!(state(&a, "locc").0, "delivered");
        house.later(12 * MINUTE);
        let notice = |news| Frame::Notice {
            id,
            originator: a.name.clone(),
            at: a.now(),
            news,
        };
        let precedence = Precedence::Flash;
        at_b.take(notice(News::Due { precedence }), now)
            .expect("taken");
        let node = b.name.clone();
        at_a.take(notice(News::Late { node, precedence }), now)
            .expect("taken");
        let board = b.board(false).expect("a board");
        let row = of(&board, id)[0];
        assert_eq!(
            (&row["side"], &row["state"]),
            (&json!("received"), &json!("unopened"))
        );
        assert_eq!(
            (&row["late"], &row["told"]),
            (&json!("2 min"), &json!("due"))
        );
        assert_eq!(state(&a, "locc").1, "2 min");
        assert_eq!(
            of(&a.board(false).expect("a board"), id)[0]["told"],
            "late locc"
        );
        // Opened: now the answer is due; answered: done with.
        b.read(id, ReceiptKind::Opened, None).expect("opens");
        at_b.pump(now).expect("pumps");
        let opened = receipts(&mut at_b).pop().expect("a receipt").encode();
        at_a.take(Frame::Receipt { receipt: opened }, now)
            .expect("taken");
        assert_eq!(state(&a, "locc").0, "opened");
        assert_eq!(state(&a, "locc").1, Value::Null);
        let mut answer = message(&["ncc"], b"y");
        answer.references = vec![id];
        let answer = b.submit(&answer).expect("submitted");
        let envelope = b.outgoing(answer).expect("reads").expect("there");
        at_a.take(Frame::Deliver { envelope }, now).expect("taken");
        assert_eq!(state(&a, "locc").0, "answered");
        let open = a.board(false).expect("a board");
        let open: Vec<&Value> = of(&open, id).iter().map(|r| &r["who"]).collect();
        assert_eq!(open, ["ncc"], "what is done with is left out");
        // Somebody else's message that we are asked to look after.
        let other: MessageId = MessageId::new(a.now(), [9; 10]);
        let late = Frame::Notice {
            id: other,
            originator: b.name.clone(),
            at: a.now(),
            news: News::Late {
                node: crate::house::name("vr", Kind::Node),
                precedence,
            },
        };
        at_a.take(late, now).expect("taken");
        let board = a.board(false).expect("a board");
        let row = of(&board, other)[0];
        assert_eq!(
            (&row["side"], &row["who"], &row["by"]),
            (&json!("looked after"), &json!("vr"), &json!("locc"))
        );
        // What the originator is told stands among the receipts.
        let left = notice(News::LeftOut { count: 2 });
        at_a.take(left, now).expect("taken");
        let told = a.spool.told_of(id).expect("reads");
        assert!(
            told.iter()
                .any(|t| t.what == "left out" && t.count == Some(2))
        );
    }
}
