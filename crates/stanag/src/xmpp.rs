//! Catalogues of XEP-0258 version 1.1: the labels that may be used to somebody, for clients that let people choose one.
//!
//! Written, not read: it is for programs beside ours. A label in it is the ESS label (RFC 2634) in base64 that the caller gives; the marking and its colours
//! are for people.

use std::fmt::Write as _;

use data_encoding::BASE64;

use crate::xml::{escaped, writable};

/// The namespace of catalogues.
pub const CATALOG: &str = "urn:xmpp:sec-label:catalog:2";
/// The namespace of labels.
pub const LABEL: &str = "urn:xmpp:sec-label:0";
/// The namespace of ESS labels.
pub const ESS: &str = "urn:xmpp:sec-label:ess:0";

/// A label that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// How it is typed here; what people choose by.
    pub selector: String,
    /// How it is shown.
    pub marking: String,
    /// The background of the marking, `#rrggbb`.
    pub colour: String,
    /// The ESS label, DER.
    pub ess: Vec<u8>,
}

/// The catalogue for messages to `to`. An item with a character that XML cannot carry is left out: nobody could choose it.
#[must_use]
pub fn catalog(to: &str, items: &[Item]) -> String {
    let mut x = format!(
        "<catalog xmlns=\"{CATALOG}\" to=\"{}\" restrict=\"true\">\n",
        escaped(to)
    );
    let fits = |i: &&Item| {
        [&i.selector, &i.marking, &i.colour]
            .iter()
            .all(|s| writable(s))
    };
    for i in items.iter().filter(fits) {
        let _ = writeln!(
            x,
            "<item selector=\"{}\"><securitylabel xmlns=\"{LABEL}\"><displaymarking fgcolor=\"white\" bgcolor=\"{}\">{}</displaymarking>\
             <label><esssecuritylabel xmlns=\"{ESS}\">{}</esssecuritylabel></label></securitylabel></item>",
            escaped(&i.selector),
            escaped(&i.colour),
            escaped(&i.marking),
            BASE64.encode(&i.ess),
        );
    }
    x + "</catalog>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_choose_and_what_is_sent() {
        let item = |selector: &str, ess: &[u8]| Item {
            selector: selector.into(),
            marking: "X <A> & \"B\"".into(),
            colour: "#c0392b".into(),
            ess: ess.into(),
        };
        // The label of the example in XEP-0258.
        let ess = [0x31, 6, 2, 1, 4, 6, 1, 0x29];
        let text = catalog(
            "ncc.node.crisis.example",
            &[item("X A", &ess), item("\u{1}", &ess)],
        );
        let document = roxmltree::Document::parse(&text).expect("well-formed");
        let root = document.root_element();
        assert!(root.has_tag_name((CATALOG, "catalog")));
        assert_eq!(root.attribute("to"), Some("ncc.node.crisis.example"));
        let items: Vec<_> = root
            .children()
            .filter(|n| n.has_tag_name((CATALOG, "item")))
            .collect();
        assert_eq!(items.len(), 1, "what XML cannot carry is left out");
        assert_eq!(items[0].attribute("selector"), Some("X A"));
        let text = |name| {
            document
                .descendants()
                .find(|n| n.has_tag_name(name))
                .and_then(|n| n.text())
        };
        assert_eq!(text((LABEL, "displaymarking")), Some("X <A> & \"B\""));
        assert_eq!(text((ESS, "esssecuritylabel")), Some("MQYCAQQGASk="));
    }
}
