//! What peers may ask about the rules before anything is sent.

use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Label, Level, State};
use ordonnans_message::{
    Addressee, ExplainedRule, Frame, Precedence, Recipient, ReplyCode, Role, Supposed, Timestamp,
    limits,
};
use ordonnans_policy::{Question, Verdict, catalog, explain};

use crate::Session;
use crate::engine::Engine;

fn recipients(to: Vec<Addressee>) -> Vec<Recipient> {
    to.into_iter()
        .map(|a| Recipient {
            node: a.node,
            person: a.person,
            role: Role::Action,
            precedence: Precedence::Routine,
        })
        .collect()
}

impl Engine {
    /// The labels that a node may use to these. It learns of no label that it is not cleared for itself.
    pub(crate) fn catalog_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        to: Vec<Addressee>,
    ) {
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        if from.kind() != Kind::Node {
            return self.rejected(now, session, None, ReplyCode::NotPermitted);
        }
        let mut labels: Vec<Label> = catalog(&self.grounds(), &from, &recipients(to), now)
            .into_iter()
            .map(|confidentiality| Label {
                confidentiality,
                duration: None,
                state: State::Proposed,
            })
            .collect();
        labels.truncate(limits::MAX_CATALOG);
        self.send(session, Frame::Catalog { request, labels });
    }

    /// Every rule with the fact it rests on, for officers. The facts tell what others hold, so an officer is told those of labels up to the own
    /// level only; the asking is recorded.
    pub(crate) fn explain_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        about: &Supposed,
    ) {
        let level = about.label.confidentiality.level();
        let officer = self.officer(session);
        let Some((officer, _)) = officer.filter(|(_, holds)| level <= holds.level()) else {
            return self.rejected(now, session, None, ReplyCode::NotPermitted);
        };
        let at = about.at.unwrap_or(now);
        let question = Question::supposed(&about.from, &about.label, at);
        let to = recipients(about.to.clone());
        let steps = explain(&self.grounds(), &question, &to, at);
        let rules = steps
            .into_iter()
            .take(limits::MAX_STEPS)
            .map(|s| ExplainedRule {
                rule: s.rule.number(),
                recipient: s.recipient,
                holds: s.verdict == Verdict::Holds,
                fact: s.fact.chars().take(limits::MAX_FACT).collect(),
            })
            .collect();
        let detail = Detail {
            who: Some(officer),
            to: Some(about.from.clone()),
            register: Some(self.in_force()),
            policy: self.book.digest_of(about.label.confidentiality.policy()),
            note: Some(format!("explained a message to {}", to.len())),
            ..Detail::default()
        };
        self.ledger
            .record(now, Verb::AuditRead, Level::Ongerubriceerd, detail);
        self.send(session, Frame::Explanation { request, rules });
    }
}
