//! Names as a duty officer types them.
//!
//! Inside one structure the short form is enough: `ncc` is `ncc.node.<structure>`, and
//! `jansen@ncc` is the person `jansen.person.<structure>` at that node. A full name always works,
//! on either side of the `@`.

use ordonnans_label::{Kind, Name};

/// Where a message goes: a node and, above Stg.C, the person there who may open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The node whose daemon receives the message.
    pub node: Name,
    /// The person at that node the message is for.
    pub person: Option<Name>,
}

/// An address that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address: {why}")]
pub struct InvalidAddress {
    /// What was typed, cut at 120 characters.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Reads `text` as a name of `kind`: short inside `structure`, or in full.
///
/// # Errors
/// The text is neither a short name nor a full name of that kind.
pub fn name(text: &str, kind: Kind, structure: &str) -> Result<Name, InvalidAddress> {
    let invalid = |why: String| InvalidAddress {
        text: text.chars().take(120).collect(),
        why,
    };
    if !text.contains('.') {
        return Name::new(text, kind, structure).map_err(|e| invalid(e.to_string()));
    }
    let full: Name = text.parse().map_err(|e| invalid(format!("{e}")))?;
    if full.kind() != kind {
        return Err(invalid(format!("it does not name a {}", kind.as_str())));
    }
    Ok(full)
}

impl Address {
    /// Reads `node` or `person@node`, each short or in full.
    ///
    /// # Errors
    /// See [`InvalidAddress`].
    pub fn parse(text: &str, structure: &str) -> Result<Self, InvalidAddress> {
        match text.split_once('@') {
            None => Ok(Self {
                node: name(text, Kind::Node, structure)?,
                person: None,
            }),
            Some((person, node)) => Ok(Self {
                node: name(node, Kind::Node, structure)?,
                person: Some(name(person, Kind::Person, structure)?),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_forms_name_the_same() {
        let short = Address::parse("jansen@ncc", "crisis.example").expect("good");
        let full = Address::parse(
            "jansen.person.crisis.example@ncc.node.crisis.example",
            "crisis.example",
        )
        .expect("good");
        assert_eq!(short, full);
        assert_eq!(short.node.as_str(), "ncc.node.crisis.example");
        assert!(
            Address::parse("ncc", "crisis.example")
                .expect("good")
                .person
                .is_none()
        );
    }

    #[test]
    fn a_name_of_another_kind_or_form_is_refused() {
        for text in [
            "",
            "@",
            "@ncc",
            "jansen@",
            "n c c",
            "b1.broker.crisis.example",
            "ncc@jansen.person.crisis.example",
        ] {
            assert!(Address::parse(text, "crisis.example").is_err(), "{text}");
        }
    }
}
