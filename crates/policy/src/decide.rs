//! The decision.

use std::fmt;

use ordonnans_label::{Clearance, Kind, Level, Name, State};
use ordonnans_message::{Digest, Header, MessageId, Recipient, Timestamp};

use crate::{NodeEntry, Register, RuleId};

/// How far a sender's clock may run ahead of ours, in milliseconds: five minutes, more than a free-running clock drifts in a week.
const CLOCK_AHEAD_MS: u64 = 5 * 60 * 1000;

/// What certificates say of their subjects: the clearance in the certificate a name was last seen with.
pub trait Statements {
    /// The clearance in the subject's certificate, or `None` where none is known: then the subject may hold nothing.
    fn certified(&self, name: &Name) -> Option<Clearance>;
}

impl<F: Fn(&Name) -> Option<Clearance>> Statements for F {
    fn certified(&self, name: &Name) -> Option<Clearance> {
        self(name)
    }
}

/// Proof that [`decide`] has said yes for one message and one recipient. Nobody else can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    message: MessageId,
    recipient: Name,
    register: Digest,
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
            "a recipient may not receive this message; check the addressee and the label"
        } else if self.rule == RuleId::LIFETIME {
            "the message has expired or carries a time in the future; check the clock and send it again"
        } else if [RuleId::DURATION, RuleId::ESTABLISHED, RuleId::VASTSTELLER].contains(&self.rule)
        {
            "from Dep.V up a label needs a duration and must be established by someone entitled to; complete the label"
        } else {
            "this node may not send this message; ask your security officer"
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

/// Whether the message may be accepted from its sender at all (POL-01 to POL-07). Asked once, before any recipient.
///
/// # Errors
/// The first rule that does not hold.
pub fn admit(
    register: &Register,
    says: &dyn Statements,
    header: &Header,
    now: Timestamp,
) -> Result<(), Refusal> {
    let hold = |holds: bool, rule| {
        if holds {
            Ok(())
        } else {
            Err(Refusal {
                rule,
                recipient: None,
            })
        }
    };
    let label = &header.label;
    let level = label.confidentiality.level();
    let sender = register.node(&header.originator).ok_or(Refusal {
        rule: RuleId::SENDER_KNOWN,
        recipient: None,
    })?;
    hold(sender.in_good_standing(now), RuleId::SENDER_STANDING)?;
    let cleared = effective(sender, says).is_some_and(|c| c.covers(&label.confidentiality));
    hold(cleared, RuleId::SENDER_CLEARED)?;
    hold(
        now < header.expires && header.created <= now.after(CLOCK_AHEAD_MS),
        RuleId::LIFETIME,
    )?;
    if level == Level::Ongerubriceerd {
        return Ok(());
    }
    hold(label.duration.is_some(), RuleId::DURATION)?;
    let State::Established { by } = &label.state else {
        return Err(Refusal {
            rule: RuleId::ESTABLISHED,
            recipient: None,
        });
    };
    let entitled = register
        .person(by)
        .and_then(|p| p.establishes)
        .is_some_and(|up_to| level <= up_to);
    hold(entitled, RuleId::VASTSTELLER)
}

/// Whether one recipient may have the message (POL-08 to POL-15). Asked on acceptance, and again at each delivery.
///
/// # Errors
/// The first rule that does not hold.
pub fn decide(
    register: &Register,
    says: &dyn Statements,
    header: &Header,
    to: &Recipient,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    let refuse = |rule| Refusal {
        rule,
        recipient: Some(to.node.clone()),
    };
    let hold = |holds: bool, rule| if holds { Ok(()) } else { Err(refuse(rule)) };
    let label = &header.label.confidentiality;
    let node = register
        .node(&to.node)
        .ok_or_else(|| refuse(RuleId::RECIPIENT_KNOWN))?;
    hold(node.in_good_standing(now), RuleId::RECIPIENT_STANDING)?;
    let holds = effective(node, says).ok_or_else(|| refuse(RuleId::RECIPIENT_LEVEL))?;
    hold(
        holds.policy() == label.policy() && label.level() <= holds.level(),
        RuleId::RECIPIENT_LEVEL,
    )?;
    hold(
        label
            .compartments()
            .all(|c| holds.compartments().contains(c)),
        RuleId::RECIPIENT_COMPARTMENTS,
    )?;
    hold(
        label
            .circles()
            .is_none_or(|c| !c.is_disjoint(holds.circles())),
        RuleId::RECIPIENT_CIRCLES,
    )?;
    // The three rules above name the reason; the lattice has the last word.
    hold(holds.covers(label), RuleId::RECIPIENT_LEVEL)?;
    match &to.person {
        None => hold(label.level() < Level::StgG, RuleId::NAMED_PERSON)?,
        Some(name) => {
            let person = register.person(name).filter(|p| p.node == to.node);
            let person = person.ok_or_else(|| refuse(RuleId::PERSON_KNOWN))?;
            hold(
                name.kind() == Kind::Person && person.clearance.covers(label),
                RuleId::PERSON_CLEARED,
            )?;
        }
    }
    Ok(Permit {
        message: header.id,
        recipient: to.node.clone(),
        register: register.digest(),
    })
}

/// The minimum of what certificate and register say. No certificate, no clearance.
fn effective(node: &NodeEntry, says: &dyn Statements) -> Option<Clearance> {
    says.certified(&node.name)?.meet(&node.clearance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::tests::GOOD;
    use ordonnans_message::{ContentRef, Precedence, Role, Sealing, sha256};

    fn now() -> Timestamp {
        "2026-11-23T00:00:00Z".parse().expect("a time")
    }

    fn name(s: &str) -> Name {
        s.parse().expect("a name")
    }

    fn top(_: &Name) -> Option<Clearance> {
        Clearance::new(Level::StgZg)
            .with_circle("ICCB")
            .and_then(|c| c.with_compartment("CYBER"))
            .ok()
    }

    fn header(label: &str) -> Header {
        let d = sha256(&[]);
        Header {
            id: MessageId::new(now(), [0; 10]),
            originator: name("ncc.node.crisis.example"),
            author: None,
            label: label.parse().expect("a label"),
            recipients: vec![to(None)],
            exercise: true,
            created: now(),
            expires: now().after(60_000),
            reply_by: None,
            references: vec![],
            supersedes: None,
            content: ContentRef {
                digest: d,
                length: 0,
            },
            attachments: vec![],
            sealing: Sealing {
                suite: 1,
                commitment: d,
                seals: d,
            },
        }
    }

    fn to(person: Option<&str>) -> Recipient {
        Recipient {
            node: name("locc.node.crisis.example"),
            person: person.map(name),
            role: Role::Action,
            precedence: Precedence::Routine,
        }
    }

    const DEP_V: &str = "Dep.V // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example";

    fn register(from: &str, by: &str) -> Register {
        assert!(GOOD.contains(from));
        Register::parse(&GOOD.replace(from, by)).expect("valid")
    }

    fn good() -> Register {
        Register::parse(GOOD).expect("valid")
    }

    fn admitted(r: &Register, h: &Header) -> Result<(), u16> {
        admit(r, &top, h, now()).map_err(|e| e.rule().number())
    }

    fn decided(r: &Register, h: &Header, to: &Recipient) -> Result<(), u16> {
        decide(r, &top, h, to, now())
            .map(drop)
            .map_err(|e| e.rule().number())
    }

    #[test]
    fn pol_01_sender_known() {
        let h = header(DEP_V);
        assert_eq!(admitted(&good(), &h), Ok(()));
        assert_eq!(
            admitted(
                &good(),
                &Header {
                    originator: name("x.node.crisis.example"),
                    ..h
                }
            ),
            Err(1)
        );
    }

    #[test]
    fn pol_02_sender_standing() {
        assert_eq!(
            admitted(
                &register("standing = \"active\"", "standing = \"suspended\""),
                &header(DEP_V)
            ),
            Err(2)
        );
        assert_eq!(
            admitted(&register("2030-12-31", "2026-11-22"), &header(DEP_V)),
            Err(2)
        );
        assert_eq!(
            admitted(&register("2030-12-31", "2026-11-23"), &header(DEP_V)),
            Ok(())
        );
    }

    #[test]
    fn pol_03_sender_cleared_by_certificate_and_register() {
        let low = |_: &Name| Some(Clearance::new(Level::Ongerubriceerd));
        let none = |_: &Name| None;
        let e = |says: &dyn Statements| {
            admit(&good(), says, &header(DEP_V), now()).map_err(|e| e.rule().number())
        };
        assert_eq!((e(&top), e(&low), e(&none)), (Ok(()), Err(3), Err(3)));
        assert_eq!(
            admitted(&good(), &header("Stg.C // KRING MCCB // TOT 2036-01-01")),
            Err(3)
        );
    }

    #[test]
    fn pol_04_lifetime() {
        let h = header(DEP_V);
        let at = |h: &Header, now| admit(&good(), &top, h, now).map_err(|e| e.rule().number());
        assert_eq!(
            at(&h, Timestamp::from_millis(h.expires.as_millis() - 1)),
            Ok(())
        );
        assert_eq!(at(&h, h.expires), Err(4));
        let ahead = |ms| Header {
            created: now().after(ms),
            expires: now().after(ms + 1),
            ..h.clone()
        };
        assert_eq!(at(&ahead(CLOCK_AHEAD_MS), now()), Ok(()));
        assert_eq!(at(&ahead(CLOCK_AHEAD_MS + 1), now()), Err(4));
    }

    #[test]
    fn pol_05_06_07_the_legal_act() {
        let r = good();
        assert_eq!(admitted(&r, &header("Ongerubriceerd")), Ok(()));
        assert_eq!(
            admitted(
                &r,
                &header("Dep.V // VASTGESTELD vermeer.person.crisis.example")
            ),
            Err(5)
        );
        assert_eq!(
            admitted(&r, &header("Dep.V // TOT GEBEURTENIS \"einde crisis\"")),
            Err(6)
        );
        for (label, verdict) in [
            (
                "Stg.G // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example",
                Ok(()),
            ),
            (
                "Stg.ZG // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example",
                Err(7),
            ),
            (
                "Dep.V // TOT 2036-01-01 // VASTGESTELD bos.person.crisis.example",
                Err(7),
            ),
            (
                "Dep.V // TOT 2036-01-01 // VASTGESTELD nemo.person.crisis.example",
                Err(7),
            ),
        ] {
            assert_eq!(admitted(&r, &header(label)), verdict, "{label}");
        }
    }

    #[test]
    fn pol_08_09_recipient_known_and_standing() {
        let h = header(DEP_V);
        assert_eq!(decided(&good(), &h, &to(None)), Ok(()));
        let stranger = Recipient {
            node: name("x.node.crisis.example"),
            ..to(None)
        };
        assert_eq!(decided(&good(), &h, &stranger), Err(8));
        assert_eq!(
            decided(
                &register("standing = \"active\"", "standing = \"suspended\""),
                &h,
                &to(None)
            ),
            Err(9)
        );
    }

    #[test]
    fn pol_10_recipient_level_is_the_minimum() {
        let h = header("Stg.C // TOT 2036-01-01");
        assert_eq!(decided(&good(), &h, &to(None)), Ok(()));
        assert_eq!(
            decided(
                &register("clearance = \"Stg.G\"", "clearance = \"Dep.V\""),
                &h,
                &to(None)
            ),
            Err(10)
        );
        let low = |_: &Name| Some(Clearance::new(Level::DepV));
        let none = |_: &Name| None;
        let foreign = |_: &Name| {
            Some(Clearance::under(
                "NATO".parse().expect("valid"),
                Level::StgZg.into(),
            ))
        };
        for says in [&low as &dyn Statements, &none, &foreign] {
            let e = decide(&good(), says, &h, &to(None), now()).expect_err("not cleared");
            assert_eq!(e.rule(), RuleId::RECIPIENT_LEVEL);
        }
    }

    #[test]
    fn pol_11_12_compartments_and_circles() {
        let r = good();
        assert_eq!(
            decided(
                &r,
                &header("Stg.C // COMPARTIMENT CYBER // TOT 2036-01-01"),
                &to(None)
            ),
            Err(11)
        );
        assert_eq!(
            decided(
                &r,
                &header("Stg.C // KRING ICCB // TOT 2036-01-01"),
                &to(None)
            ),
            Err(12)
        );
        assert_eq!(
            decided(&r, &header("Dep.V // KRING NIEMAND"), &to(None)),
            Err(12)
        );
        let ncc = Recipient {
            node: name("ncc.node.crisis.example"),
            ..to(None)
        };
        let both = header("Stg.C // KRING ICCB, MCCB // COMPARTIMENT CYBER // MERKING IETS");
        assert_eq!(
            decided(&r, &both, &ncc),
            Ok(()),
            "one circle is enough; a marking decides nothing"
        );
    }

    #[test]
    fn pol_13_14_15_named_persons() {
        let r = register("clearance = \"Stg.C\"", "clearance = \"Stg.G\"");
        let h = header("Stg.G // TOT 2036-01-01");
        assert_eq!(decided(&r, &h, &to(None)), Err(13));
        assert_eq!(
            decided(&r, &h, &to(Some("bos.person.crisis.example"))),
            Ok(())
        );
        assert_eq!(
            decided(&r, &h, &to(Some("nemo.person.crisis.example"))),
            Err(14)
        );
        assert_eq!(
            decided(&r, &h, &to(Some("vermeer.person.crisis.example"))),
            Err(14),
            "works elsewhere"
        );
        assert_eq!(
            decided(&good(), &h, &to(Some("bos.person.crisis.example"))),
            Err(15)
        );
        assert_eq!(
            decided(
                &good(),
                &header("Stg.C"),
                &to(Some("bos.person.crisis.example"))
            ),
            Ok(())
        );
    }

    #[test]
    fn a_permit_names_what_it_is_for() {
        let (r, h) = (good(), header(DEP_V));
        let p = decide(&r, &top, &h, &to(None), now()).expect("permitted");
        assert_eq!(
            (p.message(), p.recipient(), p.register()),
            (h.id, &h.recipients[0].node, r.digest())
        );
    }

    #[test]
    fn what_a_sender_hears_is_the_same_for_every_reason() {
        let h = header("Stg.C // KRING ICCB // COMPARTIMENT CYBER");
        let hear = |r: &Register| {
            decide(r, &top, &h, &to(None), now())
                .expect_err("no")
                .told_to_sender()
        };
        let low = register("clearance = \"Stg.G\"", "clearance = \"Dep.V\"");
        assert_eq!(hear(&low), hear(&good()));
    }
}
