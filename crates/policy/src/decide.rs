//! The decision: the rules, asked one by one.

use std::fmt;
use std::ops::ControlFlow;

use ordonnans_label::{
    CategoryType, Clearance, Clearances, Confidentiality, Duration, Kind, Label, Level, Name,
    PolicyId, State, TagSet, Value,
};
use ordonnans_message::{Digest, Header, How, MessageId, Recipient, Timestamp};

use crate::passing::{Passed, passing};
use crate::register::{Link, Memberships};
use crate::{Book, NodeEntry, Register, RuleId};

/// How far a sender's clock may run ahead of ours, in milliseconds: five minutes, more than a free-running clock drifts in a week.
const CLOCK_AHEAD_MS: u64 = 5 * 60 * 1000;

/// What a message that is only thought of lives, in milliseconds.
const AN_HOUR_MS: u64 = 60 * 60 * 1000;

/// What certificates say of their subjects: the clearances in the certificate a name was last seen with.
pub trait Statements {
    /// The clearances in the subject's certificate, or `None` where none is known: then the subject may hold nothing.
    fn certified(&self, name: &Name) -> Option<&Clearances>;
}

impl Statements for std::collections::BTreeMap<Name, Clearances> {
    fn certified(&self, name: &Name) -> Option<&Clearances> {
        self.get(name)
    }
}

/// What a decision rests on.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    /// The register in force.
    pub register: &'a Register,
    /// The policies in force.
    pub book: &'a Book,
    /// What certificates say.
    pub says: &'a dyn Statements,
}

impl fmt::Debug for Grounds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grounds({})", self.register.digest())
    }
}

/// What is asked about: a message, or one that is only thought of.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The node that sends it.
    pub originator: &'a Name,
    /// Its label in force.
    pub label: &'a Label,
    /// When it was made.
    pub created: Timestamp,
    /// When its information was: of what is passed on as it is, its parent.
    pub made: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// Whether a signed statement of who established the label comes with it. That it is about this label, and that its signature is right, is
    /// settled where messages are read; of one that is only thought of it is supposed.
    pub stated: bool,
    /// What it passes on. Left out where a message that was accepted is judged again: what it rests on was settled then.
    pub passed: Option<Passed<'a>>,
}

impl<'a> Question<'a> {
    /// About a message that is only thought of, as at this time: it would live an hour, and come with a statement of who established it.
    #[must_use]
    pub fn supposed(originator: &'a Name, label: &'a Label, at: Timestamp) -> Self {
        Self {
            originator,
            label,
            created: at,
            made: at,
            expires: at.after(AN_HOUR_MS),
            stated: true,
            passed: None,
        }
    }

    /// About a message under the label it came with; what it passes on is added by whoever knows the parent.
    #[must_use]
    pub fn of(header: &'a Header) -> Self {
        let passed = header.passed.as_ref();
        let as_it_is = passed.filter(|p| p.how == How::AsItIs);
        Self {
            originator: &header.originator,
            label: &header.label,
            created: header.created,
            // Who came to a circle since does not get by a detour what was there before (POL-18).
            made: as_it_is.map_or(header.created, |p| p.parent.made().min(header.created)),
            expires: header.expires,
            stated: header.act.is_some(),
            passed: None,
        }
    }
}

/// Proof that [`decide`] has said yes for one message and one recipient. Nobody else can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    message: MessageId,
    recipient: Name,
    register: Digest,
    policy: Option<Digest>,
}

impl Permit {
    /// The message.
    #[must_use]
    pub fn message(&self) -> MessageId {
        self.message
    }

    /// The node that may have it.
    #[must_use]
    pub fn recipient(&self) -> &Name {
        &self.recipient
    }

    /// The register the decision rests on.
    #[must_use]
    pub fn register(&self) -> Digest {
        self.register
    }

    /// The policy of the label.
    #[must_use]
    pub fn policy(&self) -> Option<Digest> {
        self.policy
    }
}

/// A no, with its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    rule: RuleId,
    recipient: Option<Name>,
}

impl Refusal {
    /// The rule that does not hold.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// The recipient it does not hold for; `None` where it is about the sender or the message.
    #[must_use]
    pub fn recipient(&self) -> Option<&Name> {
        self.recipient.as_ref()
    }

    /// What the sender may know. About a recipient it says one thing for every reason, so that asking about a recipient does not
    /// reveal what that recipient holds.
    #[must_use]
    pub fn told_to_sender(&self) -> &'static str {
        if self.recipient.is_some() {
            return "a recipient may not receive this message; check the addressee and the label";
        }
        match self.rule {
            RuleId::LIFETIME => {
                "the message has expired or carries a time in the future; check the clock and send it again"
            }
            RuleId::DURATION
            | RuleId::EVENT
            | RuleId::ESTABLISHED
            | RuleId::VASTSTELLER
            | RuleId::STATEMENT => {
                "from Dep.V up a label needs a duration, by day or an event of the register, and the signed statement of someone entitled to establish it; `ordonnans label propose` keeps the message until then"
            }
            RuleId::PARENT => {
                "what is passed on is not known to the broker any more, was taken back, or never came to this node; make a message of your own, established anew"
            }
            RuleId::UNCHANGED => {
                "what is passed on keeps the label in force; what is to go lower is an extract: `ordonnans extract`"
            }
            RuleId::REPRODUCTION => {
                "from Stg.G up a further copy is made by the originator, with its vaststeller's statement; ask there"
            }
            RuleId::EXTRACT
            | RuleId::EXTRACT_BY
            | RuleId::SECOND_SIGNED
            | RuleId::SECOND_OTHER
            | RuleId::SECOND_CLEARED => {
                "an extract is signed by its parent's vaststeller and, of Stg.C or higher, by a second person who is cleared for the parent; `ordonnans extract --help` says how"
            }
            RuleId::LABEL_VALID => {
                "the label is not valid under its policy; `ordonnans label parse` says what is wrong with it"
            }
            _ => "this node may not send this message; ask your security officer",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.recipient {
            None => write!(f, "{}", self.rule),
            Some(name) => write!(f, "{} for {name}", self.rule),
        }
    }
}

/// Whoever asks the rules. One stops at the first no, the other wants them all with their facts.
pub(crate) trait Asker {
    /// Hears a verdict, and whether to go on.
    fn hear(
        &mut self,
        rule: RuleId,
        holds: bool,
        fact: impl FnOnce() -> String,
    ) -> ControlFlow<RuleId>;
}

/// Stops at the first no and asks for no facts.
struct Decider;

impl Asker for Decider {
    #[inline]
    fn hear(
        &mut self,
        rule: RuleId,
        holds: bool,
        _fact: impl FnOnce() -> String,
    ) -> ControlFlow<RuleId> {
        if holds {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(rule)
        }
    }
}

/// Whether the message may be accepted from its sender at all. Asked once when it arrives, and again, where it waits, before each delivery.
///
/// # Errors
/// The first rule that does not hold.
pub fn admit(g: &Grounds<'_>, q: &Question<'_>, now: Timestamp) -> Result<(), Refusal> {
    match sender(&mut Decider, g, q, now) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(rule) => Err(Refusal {
            rule,
            recipient: None,
        }),
    }
}

/// Whether one recipient may have the message. Asked on acceptance, and again at each delivery.
///
/// # Errors
/// The first rule that does not hold.
pub fn decide(
    g: &Grounds<'_>,
    message: MessageId,
    q: &Question<'_>,
    to: &Recipient,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    match recipient(&mut Decider, g, q, to, now) {
        ControlFlow::Continue(()) => Ok(Permit {
            message,
            recipient: to.node.clone(),
            register: g.register.digest(),
            policy: g.book.digest_of(q.label.confidentiality.policy()),
        }),
        ControlFlow::Break(rule) => Err(Refusal {
            rule,
            recipient: Some(to.node.clone()),
        }),
    }
}

/// The rules about sender and message, in the order of asking.
pub(crate) fn sender(
    a: &mut impl Asker,
    g: &Grounds<'_>,
    q: &Question<'_>,
    now: Timestamp,
) -> ControlFlow<RuleId> {
    let c = &q.label.confidentiality;
    let (level, from) = (c.level(), q.originator);
    let valid = g.book.policies().check(c);
    a.hear(RuleId::LABEL_VALID, valid.is_ok(), || match &valid {
        Ok(()) => format!("{c} is a label of {}", c.policy()),
        Err(why) => why.to_string(),
    })?;
    let Some(node) = g.register.node(from) else {
        a.hear(RuleId::SENDER_KNOWN, false, || unknown(g, from))?;
        return ControlFlow::Break(RuleId::SENDER_KNOWN);
    };
    a.hear(RuleId::SENDER_KNOWN, true, || known(g, from))?;
    a.hear(RuleId::SENDER_STANDING, node.in_good_standing(now), || {
        standing(node)
    })?;
    let holds = Effective::of(g, node, c.policy());
    a.hear(
        RuleId::SENDER_CLEARED,
        holds.as_ref().is_some_and(|e| e.covers(c)),
        || of(holds.as_ref(), node, c.policy()),
    )?;
    a.hear(
        RuleId::LINK_STG_ZG,
        level < Level::StgZg || accredited(node),
        || link(node),
    )?;
    a.hear(
        RuleId::LIFETIME,
        now < q.expires && q.created <= now.after(CLOCK_AHEAD_MS),
        || format!("made {}, expires {}", q.created, q.expires),
    )?;
    if let Some(p) = &q.passed {
        passing(a, g, q, p, now)?;
    }
    // Under another policy the legal act is its originator's, and so is the duration (VIRBI 2025 articles 2(3) and 5).
    if level == Level::Ongerubriceerd || c.alternative().is_some() {
        return ControlFlow::Continue(());
    }
    a.hear(RuleId::DURATION, q.label.duration.is_some(), || {
        match &q.label.duration {
            None => "the label names neither day nor event".into(),
            Some(Duration::Until(day)) => format!("until {day}"),
            Some(Duration::Event(event)) => format!("until \"{event}\""),
        }
    })?;
    if let Some(Duration::Event(event)) = &q.label.duration {
        let known = g.register.event(event);
        a.hear(RuleId::EVENT, known.is_some(), || match known {
            Some(e) => format!(
                "\"{}\" is declared by {}",
                e.name,
                Name::locals(&e.declared_by)
            ),
            None => format!("the register has no event \"{event}\""),
        })?;
    }
    let State::Established { by } = &q.label.state else {
        a.hear(RuleId::ESTABLISHED, false, || "only proposed".into())?;
        return ControlFlow::Break(RuleId::ESTABLISHED);
    };
    a.hear(RuleId::ESTABLISHED, true, || format!("by {by}"))?;
    let mandate = g.register.person(by).and_then(|p| p.mandate.as_ref());
    // What is passed on is the information of whoever its parent was of; as it is, its label is in force already.
    let passed = q.passed.as_ref();
    let stands = passed.is_some_and(|p| p.how == How::AsItIs);
    let of = passed.and_then(|p| p.parent?.in_force);
    let whose = of.map_or(from, |f| f.node);
    a.hear(
        RuleId::VASTSTELLER,
        stands || may_establish(g.register, by, whose, [level; 2], now),
        || match mandate {
            _ if stands => format!("{by}; in force here"),
            None => format!("{by} has no mandate"),
            Some(m) => format!(
                "{by} is mandated up to {} until {} by {} for {}",
                m.grant.up_to,
                m.grant.until,
                m.grant.decision,
                Name::locals(&m.nodes)
            ),
        },
    )?;
    a.hear(RuleId::STATEMENT, q.stated, || {
        if q.stated {
            format!("a statement signed by {by}")
        } else {
            format!("no statement signed by {by}")
        }
    })
}

/// Whether a person may act on a label of this node's information, at these levels: mandated up to the highest of them at this time.
#[must_use]
pub fn may_establish(
    register: &Register,
    person: &Name,
    node: &Name,
    levels: [Level; 2],
    now: Timestamp,
) -> bool {
    let mandate = register.person(person).and_then(|p| p.mandate.as_ref());
    let highest = levels[0].max(levels[1]);
    mandate.is_some_and(|m| m.nodes.contains(node) && m.grant.reaches(highest, now))
}

/// The rules about one recipient, in the order of asking.
pub(crate) fn recipient(
    a: &mut impl Asker,
    g: &Grounds<'_>,
    q: &Question<'_>,
    to: &Recipient,
    now: Timestamp,
) -> ControlFlow<RuleId> {
    let c = &q.label.confidentiality;
    let level = c.level();
    let Some(node) = g.register.node(&to.node) else {
        a.hear(RuleId::RECIPIENT_KNOWN, false, || unknown(g, &to.node))?;
        return ControlFlow::Break(RuleId::RECIPIENT_KNOWN);
    };
    a.hear(RuleId::RECIPIENT_KNOWN, true, || known(g, &to.node))?;
    a.hear(
        RuleId::RECIPIENT_STANDING,
        node.in_good_standing(now),
        || standing(node),
    )?;
    let holds = Effective::of(g, node, c.policy());
    a.hear(
        RuleId::RECIPIENT_LEVEL,
        holds.as_ref().is_some_and(|e| e.reaches(c)),
        || of(holds.as_ref(), node, c.policy()),
    )?;
    let Some(holds) = holds else {
        return ControlFlow::Break(RuleId::RECIPIENT_LEVEL);
    };
    a.hear(RuleId::RECIPIENT_COMPARTMENTS, holds.every(c), || {
        of(Some(&holds), node, c.policy())
    })?;
    a.hear(RuleId::RECIPIENT_CIRCLES, holds.one_of_each(c), || {
        of(Some(&holds), node, c.policy())
    })?;
    let member = |m: &Memberships| {
        c.circles().is_none_or(|circles| {
            circles.iter().any(|v| {
                holds.one(&TagSet::kring(), v)
                    && m.get(v)
                        .is_some_and(|s| s.contains(q.made) && s.contains(now))
            })
        })
    };
    a.hear(RuleId::MEMBER_WHEN_MADE, member(&node.memberships), || {
        times(&node.memberships, c, q.made)
    })?;
    a.hear(
        RuleId::LINK_STG_ZG,
        level < Level::StgZg || accredited(node),
        || link(node),
    )?;
    let assured = |n: &NodeEntry| n.assurance.as_ref().is_some_and(|s| s.reaches(level, now));
    a.hear(
        RuleId::ASSURANCE,
        level == Level::Ongerubriceerd || node.rijksdienst || assured(node),
        || match (&node.assurance, node.rijksdienst) {
            (_, true) => format!("{} is inside the Rijksdienst", node.name.local()),
            (None, _) => "outside the Rijksdienst, without an assurance decision".into(),
            (Some(s), _) => format!(
                "outside the Rijksdienst, assured up to {} until {} by {}",
                s.up_to, s.until, s.decision
            ),
        },
    )?;
    let own = || {
        g.register
            .node(q.originator)
            .is_some_and(|n| n.speaks_for.contains(c.policy()))
    };
    let consent = || g.register.consent(c.policy(), level, &to.node, now);
    a.hear(
        RuleId::CONSENT,
        level == Level::Ongerubriceerd || c.alternative().is_none() || own() || consent().is_some(),
        || match consent() {
            _ if c.alternative().is_none() => "a Dutch label".into(),
            _ if own() => format!("{} speaks for {}", q.originator.local(), c.policy()),
            None => format!(
                "no consent of {} for {} to {}",
                c.policy(),
                c,
                to.node.local()
            ),
            Some(k) => format!(
                "consent of {} up to {} until {} by {}",
                k.policy, k.grant.up_to, k.grant.until, k.grant.decision
            ),
        },
    )?;
    let Some(name) = &to.person else {
        return a.hear(RuleId::NAMED_PERSON, level < Level::StgG, || {
            format!("addressed to {}, no person", to.node.local())
        });
    };
    a.hear(RuleId::NAMED_PERSON, true, || {
        format!("addressed to {name}")
    })?;
    let person = g.register.person(name).filter(|p| p.node == to.node);
    a.hear(RuleId::PERSON_KNOWN, person.is_some(), || match person {
        Some(_) => format!("{name} works at {}", to.node.local()),
        None => format!("{name} is not registered at {}", to.node.local()),
    })?;
    let Some(person) = person else {
        return ControlFlow::Break(RuleId::PERSON_KNOWN);
    };
    let held = person.clearances.under(c.policy());
    a.hear(
        RuleId::PERSON_CLEARED,
        name.kind() == Kind::Person
            && held.is_some_and(|h| h.covers(c))
            && member(&person.memberships),
        || match held {
            None => format!("{name} has no clearance under {}", c.policy()),
            Some(h) => format!("{name} holds {h}"),
        },
    )
}

/// The minimum of what certificate, register and link say, without making it: each is asked.
struct Effective<'a> {
    certified: &'a Clearance,
    registered: &'a Clearance,
    link: Option<&'a Link>,
}

impl<'a> Effective<'a> {
    /// `None` where certificate or register say nothing under the policy: then nothing may be held.
    fn of(g: &Grounds<'a>, node: &'a NodeEntry, policy: &PolicyId) -> Option<Self> {
        Some(Self {
            certified: g.says.certified(&node.name)?.under(policy)?,
            registered: node.clearances.under(policy)?,
            link: node.link.as_ref(),
        })
    }

    fn reaches(&self, c: &Confidentiality) -> bool {
        let link = self.link.map_or(Level::Ongerubriceerd, |l| l.grant.up_to);
        self.certified.highest().reaches(c.classification())
            && self.registered.highest().reaches(c.classification())
            && c.level() <= link
    }

    fn one(&self, set: &TagSet, value: &Value) -> bool {
        self.certified.held(set).contains(value) && self.registered.held(set).contains(value)
    }

    fn every(&self, c: &Confidentiality) -> bool {
        c.categories(CategoryType::Restrictive)
            .all(|(set, values)| values.iter().all(|v| self.one(set, v)))
    }

    fn one_of_each(&self, c: &Confidentiality) -> bool {
        c.categories(CategoryType::Permissive)
            .all(|(set, values)| values.iter().any(|v| self.one(set, v)))
    }

    fn covers(&self, c: &Confidentiality) -> bool {
        self.reaches(c) && self.every(c) && self.one_of_each(c)
    }
}

fn accredited(node: &NodeEntry) -> bool {
    node.link.as_ref().is_some_and(|l| l.stg_zg.is_some())
}

fn known(g: &Grounds<'_>, name: &Name) -> String {
    format!(
        "{} is a node of register version {}",
        name.local(),
        g.register.version()
    )
}

fn unknown(g: &Grounds<'_>, name: &Name) -> String {
    format!(
        "{name} is no node of register version {}",
        g.register.version()
    )
}

fn standing(node: &NodeEntry) -> String {
    format!(
        "{:?}, accredited until {}{}",
        node.standing,
        node.accredited_until,
        node.accreditation
            .as_deref()
            .map_or_else(String::new, |d| format!(" by {d}"))
    )
}

fn of(e: Option<&Effective<'_>>, node: &NodeEntry, policy: &PolicyId) -> String {
    let registered = node.clearances.under(policy);
    match e {
        Some(e) => format!(
            "certificate {}; register {}; {}",
            e.certified,
            e.registered,
            link(node)
        ),
        None => format!(
            "register {}; no believed certificate with a clearance under {policy}",
            registered.map_or_else(|| "nothing".into(), ToString::to_string)
        ),
    }
}

fn link(node: &NodeEntry) -> String {
    match &node.link {
        None => "link not approved".into(),
        Some(l) => format!(
            "link approved up to {} until {} by {}{}",
            l.grant.up_to,
            l.grant.until,
            l.grant.decision,
            l.stg_zg
                .as_deref()
                .map_or_else(String::new, |a| format!(", accredited for Stg.ZG by {a}"))
        ),
    }
}

fn times(m: &Memberships, c: &Confidentiality, made: Timestamp) -> String {
    let Some(circles) = c.circles() else {
        return "the label names no circle".into();
    };
    let open = |t: Option<Timestamp>| t.map_or_else(|| "open".into(), |t| t.to_string());
    let spans: Vec<String> = circles
        .iter()
        .filter_map(|v| {
            let s = m.get(v)?;
            Some(format!("{v} from {} to {}", open(s.since), open(s.until)))
        })
        .collect();
    format!("made {made}; member of {}", spans.join(", "))
}

#[cfg(test)]
mod tests;
