//! Groups: who is in them, and which of the recipients of a message they mean when it is accepted.

use std::collections::BTreeSet;

use ordonnans_label::{Kind, Label, Level, Name};
use ordonnans_message::{
    Addressed, Addressee, Frame, Group, Header, Members, MessageId, Precedence, Recipient,
    ReplyCode, Role, Timestamp, limits,
};
use ordonnans_policy::{Question, Refusal, RuleId, admit, decide};

use crate::Session;
use crate::engine::Engine;

/// Whom a message reaches.
pub(crate) struct Reached {
    /// None of them where its groups have no members any more.
    pub(crate) recipients: Vec<Recipient>,
    /// Members of its groups that it does not reach.
    pub(crate) left_out: u16,
    /// The groups, each with how many of its members are reached.
    pub(crate) expanded: Vec<(Group, usize)>,
}

impl Engine {
    /// Says who of some groups may have a message of a label. Whoever may not send it learns of no group.
    pub(crate) fn expand_get(
        &mut self,
        now: Timestamp,
        session: Session,
        request: u32,
        groups: &[Group],
        label: &Label,
    ) {
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        if from.kind() != Kind::Node {
            return self.rejected(now, session, None, ReplyCode::NotPermitted);
        }
        let question = Question::supposed(&from, label, now);
        // Who establishes the label is asked when the message comes.
        let act = [RuleId::DURATION, RuleId::ESTABLISHED, RuleId::VASTSTELLER];
        let may = admit(&self.grounds(), &question, now);
        let may = may.map_or_else(|e| act.contains(&e.rule()), |()| true);
        let asked = groups.iter();
        let groups = asked.map(|g| self.expand(g, &from, label, now).filter(|_| may));
        let groups = groups.collect();
        self.send(session, Frame::Expanded { request, groups });
    }

    fn expand(&self, group: &Group, from: &Name, label: &Label, now: Timestamp) -> Option<Members> {
        let level = label.confidentiality.level();
        let all = self.register.members(group, level, now)?;
        let question = Question::supposed(from, label, now);
        let id = MessageId::new(now, [0; 10]);
        let may = |a: &Addressee| {
            let to = Recipient {
                node: a.node.clone(),
                person: a.person.clone(),
                role: Role::Info,
                precedence: Precedence::Routine,
            };
            decide(&self.grounds(), id, &question, &to, now).is_ok()
        };
        let (mut may, not): (Vec<_>, Vec<_>) = all.into_iter().partition(may);
        let beyond = may.len().saturating_sub(limits::MAX_RECIPIENTS);
        may.truncate(limits::MAX_RECIPIENTS);
        let left_out = u16::try_from(not.len() + beyond).unwrap_or(u16::MAX);
        Some(Members { may, left_out })
    }

    /// All rules of the sender and of every recipient. A no about the sender, or about somebody who is named, is a no to the whole message: one
    /// that reached some of its addressees only would say to each that the others have it. A member of a group who is none any more, or who may not
    /// have it, is left out.
    pub(crate) fn judge(&self, header: &Header, now: Timestamp) -> Result<Reached, Refusal> {
        let grounds = self.grounds();
        let question = Question {
            passed: self.passing(header),
            ..Question::of(header)
        };
        admit(&grounds, &question, now)?;
        let level = header.label.confidentiality.level();
        let (mut recipients, mut reached) = (vec![], BTreeSet::new());
        let members: Vec<BTreeSet<Addressee>> = header
            .groups
            .iter()
            .map(|a| self.register.members(&a.group, level, now))
            .map(|all| all.unwrap_or_default().into_iter().collect())
            .collect();
        let mut refused = None;
        for (place, to) in header.recipients.iter().enumerate() {
            let who = Addressee {
                node: to.node.clone(),
                person: to.person.clone(),
            };
            let decided = decide(&grounds, header.id, &question, to, now);
            if header.is_named(place) {
                decided?;
            } else {
                let of = |a: &Addressed| a.members.iter().any(|n| usize::from(*n) == place);
                let mut of = header.groups.iter().zip(&members).filter(|(a, _)| of(a));
                let member = of.any(|(_, all)| all.contains(&who));
                if let Err(refusal) = decided {
                    // Left out, its seal would still lie in what the others get: from Stg.G up nothing is sealed to a bare node.
                    if level >= Level::StgG && to.person.is_none() {
                        return Err(refusal);
                    }
                    refused = Some(refusal);
                    continue;
                }
                if !member {
                    continue;
                }
            }
            reached.insert(who);
            recipients.push(to.clone());
        }
        if let Some(refusal) = refused.filter(|_| recipients.is_empty()) {
            return Err(refusal);
        }
        let of_groups: BTreeSet<&Addressee> = members.iter().flatten().collect();
        let left = of_groups.iter().filter(|a| !reached.contains(**a)).count();
        let gone = header.recipients.len() - recipients.len();
        let expanded = header.groups.iter().zip(&members).map(|(a, all)| {
            let count = all.iter().filter(|m| reached.contains(*m)).count();
            (a.group.clone(), count)
        });
        Ok(Reached {
            expanded: expanded.collect(),
            left_out: u16::try_from(left.max(gone)).unwrap_or(u16::MAX),
            recipients,
        })
    }
}
