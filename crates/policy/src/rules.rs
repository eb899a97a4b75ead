//! The rules by number. `docs/policy.md` says the same, and a test holds the two together.

use std::fmt;

/// The number of a rule. Prints as `POL-07`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u16);

impl RuleId {
    /// The number, as frames and audit records carry it.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "POL-{:02}", self.0)
    }
}

/// A rule and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub id: RuleId,
    /// What must hold, in one sentence.
    pub text: &'static str,
}

macro_rules! rules {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl RuleId {
            $(#[doc = $text] pub const $name: Self = Self($number);)*
        }

        /// Every rule, in the order of its number. Numbers are never used again.
        pub const RULES: &[Rule] = &[$(Rule { id: RuleId::$name, text: $text }),*];
    };
}

rules! {
    SENDER_KNOWN = 1, "The sender is a node of the register.";
    SENDER_STANDING = 2, "The sender's accreditation is valid and not suspended.";
    SENDER_CLEARED = 3, "The sender's effective clearance covers the label: the minimum of certificate, register and link.";
    LIFETIME = 4, "The message has not expired, and was not made in the future.";
    DURATION = 5, "From Dep.V up a Dutch label says until when, by day or event.";
    ESTABLISHED = 6, "From Dep.V up a Dutch label is established, not proposed.";
    VASTSTELLER = 7, "Who established the label is a person mandated for that level and the sender's information, at this time.";
    RECIPIENT_KNOWN = 8, "The recipient is a node of the register.";
    RECIPIENT_STANDING = 9, "The recipient's accreditation is valid and not suspended.";
    RECIPIENT_LEVEL = 10, "The recipient's effective clearance reaches the level of the label, under the same policy.";
    RECIPIENT_COMPARTMENTS = 11, "The recipient holds every compartment of the label.";
    RECIPIENT_CIRCLES = 12, "Where the label names circles, the recipient is in one of them; no circle left means nobody.";
    NAMED_PERSON = 13, "Stg.G and Stg.ZG go to a named person, never to a node as such.";
    PERSON_KNOWN = 14, "A named person is in the register, at the node the message goes to.";
    PERSON_CLEARED = 15, "The named person's own clearance covers the label, circles as POL-18 has them.";
    LABEL_VALID = 16, "The label is valid under its policy as it is in force: level and Dutch equal, tag sets, numbers of values, combinations.";
    LINK_STG_ZG = 17, "Stg.ZG goes over links that are accredited for it by name: the sender's and the recipient's.";
    MEMBER_WHEN_MADE = 18, "In one of the label's circles the recipient was a member when the message was made, and still is.";
    ASSURANCE = 19, "From Dep.V up a recipient outside the Rijksdienst has a decision, valid now, that it protects that level as the Rijksdienst does.";
    CONSENT = 20, "From the equal of Dep.V up information under another policy goes on only with its originator's consent, for this recipient, level and time.";
    STATEMENT = 21, "From Dep.V up a message under a Dutch label carries the signed statement of who established it, over content and label.";
    EVENT = 22, "An event that a Dutch label lasts until is one of the register's, which says who may declare it.";
    PARENT = 23, "What is passed on is a message that is known here and was not taken back, and that the sender sent or has.";
    UNCHANGED = 24, "What is passed on as it is keeps the label in force, by the act in force.";
    REPRODUCTION = 25, "Stg.G and Stg.ZG are not passed on as they are: a further copy is made by the originator.";
    EXTRACT = 26, "An extract is of a Dutch message, is not higher than it, and its act names the one in force on it.";
    EXTRACT_BY = 27, "An extract is signed by the vaststeller of its parent, or a registered successor, mandated now for the levels of both.";
    SECOND_SIGNED = 28, "An extract of Stg.C or higher carries the signature of a second person over the same act: content, label and parent.";
    SECOND_OTHER = 29, "The second person is another than the vaststeller.";
    SECOND_CLEARED = 30, "The second person is in the register and is cleared for the parent.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_without_a_gap() {
        for (i, rule) in RULES.iter().enumerate() {
            assert_eq!(usize::from(rule.id.number()), i + 1);
        }
        assert_eq!(RuleId::RECIPIENT_LEVEL.to_string(), "POL-10");
    }
}
