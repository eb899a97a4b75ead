//! How levels and values are shown: the phrases of a SPIF, as far as a marking here can say them.

use roxmltree::Node;

use super::NAMESPACE;
use crate::xml::{elements, text_of};

/// What is shown in a marking has 1 to 120 characters and none that separates parts of a label.
pub(super) fn is_shown(s: &str) -> bool {
    (1..=120).contains(&s.chars().count())
        && s.trim() == s
        && !s.contains("//")
        && !s.chars().any(|c| c.is_control() || c == ';')
}

/// The 16 colours of the schema, and two that files in use have.
pub(super) const COLOURS: [(&str, &str); 18] = [
    ("aqua", "#00ffff"),
    ("black", "#000000"),
    ("blue", "#0000ff"),
    ("fuschia", "#ff00ff"),
    ("fuchsia", "#ff00ff"),
    ("gray", "#808080"),
    ("green", "#008000"),
    ("lime", "#00ff00"),
    ("maroon", "#800000"),
    ("navy", "#000080"),
    ("olive", "#808000"),
    ("orange", "#ffa500"),
    ("purple", "#800080"),
    ("red", "#ff0000"),
    ("silver", "#c0c0c0"),
    ("teal", "#008080"),
    ("white", "#ffffff"),
    ("yellow", "#ffff00"),
];

/// The phrase of a marking, in Dutch and English, that is shown at all: English is what has no language.
pub(super) fn phrase(node: Node<'_, '_>) -> (Option<String>, Option<String>) {
    let (mut nl, mut en) = (None, None);
    for data in elements(node).filter(|e| e.has_tag_name((NAMESPACE, "markingData"))) {
        let codes: Vec<String> = elements(data).filter_map(text_of).collect();
        let hidden = |c: &String| {
            matches!(
                c.as_str(),
                "noMarkingDisplay" | "portionMarking" | "xHeader" | "inputTitle" | "replacePolicy"
            )
        };
        let Some(phrase) = data
            .attribute("phrase")
            .filter(|_| !codes.iter().any(hidden))
        else {
            continue;
        };
        let language = data
            .attribute(("http://www.w3.org/XML/1998/namespace", "lang"))
            .unwrap_or("en");
        let slot = match language.split('-').next() {
            Some("nl") => &mut nl,
            Some("en") => &mut en,
            _ => continue,
        };
        if slot.is_none() {
            *slot = Some(phrase.trim().to_owned());
        }
    }
    (nl, en)
}

/// What stands in the place of the policy's name, where something does.
pub(super) fn replaced(node: Node<'_, '_>) -> Option<String> {
    elements(node)
        .filter(|e| e.has_tag_name((NAMESPACE, "markingData")))
        .find(|d| {
            elements(*d)
                .filter_map(text_of)
                .any(|c| c == "replacePolicy")
        })
        .map(|d| d.attribute("phrase").unwrap_or_default().trim().to_owned())
}

/// Before, between and after the parts of the policy's marking.
pub(super) fn qualifiers(node: Node<'_, '_>) -> [String; 3] {
    let mut all = [String::new(), " ".into(), String::new()];
    for q in elements(node)
        .filter(|e| e.has_tag_name((NAMESPACE, "markingQualifier")))
        .flat_map(elements)
    {
        let which = match q.attribute("qualifierCode") {
            Some("prefix") => 0,
            Some("separator") => 1,
            Some("suffix") => 2,
            _ => continue,
        };
        if let (Some(slot), Some(text)) = (all.get_mut(which), q.attribute("markingQualifier")) {
            text.clone_into(slot);
        }
    }
    all
}
