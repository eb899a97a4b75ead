//! Reading a label.

use ordonnans_label::{
    CategoryType, Confidentiality, Duration, Kind, Label, Name, Policies, Policy, PolicyId, State,
};
use ordonnans_message::Timestamp;
use roxmltree::Node;

use super::{
    BOUNDS, InvalidXmlLabel, NAMESPACE, Originator, Root, Succession, XmlLabel, time, write,
};
use crate::NAMESPACE_OWN;
use crate::xml::{between, elements, parse, short, stray, text_of};

/// `IDType` (ADatP-4774 appendix 1, table 9).
const ID_TYPES: [&str; 8] = [
    "rfc822Name",
    "dNSName",
    "directoryName",
    "uniformResourceIdentifier",
    "iPAddress",
    "x400Address",
    "userPrincipalName",
    "jID",
];

/// Reads a label under these policies: at most [`super::MAX_XML_BYTES`], in UTF-8. Elements of other namespaces are passed over where the
/// schema allows them, and counted.
///
/// The policy is found by its name (case does not matter), and by its object identifier where one stands; the level by its name in the policy,
/// under the Dutch one also by the spellings of VIRBI 2025 article 4(2). The day of `ReviewDateTime` in UTC becomes the duration; without
/// one that of `SuccessionDateTime`. A day that has passed changes nothing.
///
/// # Errors
/// [`InvalidXmlLabel`] names the place. The label goes back to whoever made it: nothing is guessed, and nothing was taken from it.
pub fn read(bytes: &[u8], policies: &Policies) -> Result<XmlLabel, InvalidXmlLabel> {
    let document = parse(bytes, BOUNDS)?;
    of_node(document.root_element(), policies)
}

/// As [`read`], of an element within another document.
pub(crate) fn of_node(
    node: Node<'_, '_>,
    policies: &Policies,
) -> Result<XmlLabel, InvalidXmlLabel> {
    let name = node.tag_name();
    if name.namespace() != Some(NAMESPACE) {
        return Err(InvalidXmlLabel::Namespace(short(
            name.namespace().unwrap_or_default(),
        )));
    }
    let root = Root::of(name.name()).ok_or_else(|| InvalidXmlLabel::Root(short(name.name())))?;
    attributes(
        node,
        "label",
        &["Id", "ReviewDateTime"],
        "it has Id and ReviewDateTime",
    )?;
    let parts = parts(node, policies, true)?;
    let review = match node.attribute("ReviewDateTime") {
        None => None,
        Some(at) => Some(time::day(at.trim()).ok_or_else(|| InvalidXmlLabel::Time {
            place: "ReviewDateTime",
            found: short(at),
        })?),
    };
    let (state, event) = match &parts.act {
        None => (State::Proposed, None),
        Some(act) => (act.state.clone(), act.event.clone()),
    };
    let without = parts.act.as_ref().is_some_and(|a| a.without);
    if review.is_some() && (event.is_some() || without) {
        return Err(InvalidXmlLabel::Act(
            "it says Event or Review, and the label has a ReviewDateTime",
        ));
    }
    let after = parts.succession.as_ref().map(|s| s.at.date());
    if review.is_none() && after.is_none() && event.is_none() && !without {
        return Err(InvalidXmlLabel::NoReview);
    }
    Ok(XmlLabel {
        root,
        label: Label {
            confidentiality: parts.confidentiality,
            duration: event.or_else(|| review.or(after).map(Duration::Until)),
            state,
        },
        id: node.attribute("Id").map(short),
        created: parts.created,
        originator: parts.originator,
        privacy_mark: parts.privacy_mark,
        succession: parts.succession,
        foreign: parts.foreign,
    })
}

/// What stands in a label or in a successor.
struct Parts {
    confidentiality: Confidentiality,
    privacy_mark: Option<String>,
    originator: Option<Originator>,
    created: Timestamp,
    succession: Option<Succession>,
    act: Option<Act>,
    foreign: usize,
}

/// The element of our own.
struct Act {
    state: State,
    event: Option<Duration>,
    without: bool,
}

fn attributes(
    node: Node<'_, '_>,
    place: &'static str,
    known: &[&str],
    hint: &'static str,
) -> Result<(), InvalidXmlLabel> {
    match stray(node, known) {
        None => Ok(()),
        Some(found) => Err(InvalidXmlLabel::Attribute {
            place,
            found: short(found),
            hint,
        }),
    }
}

/// The elements of the standard with their places, and those of others.
type Sorted<'a, 'i> = (Vec<(usize, Node<'a, 'i>)>, Vec<Node<'a, 'i>>);

/// The elements of the standard in their order, each at most once unless it is the last that is repeated; then those of others. Gives each of the
/// first kind with its place in `names`.
fn in_order<'a, 'i>(
    node: Node<'a, 'i>,
    place: &'static str,
    names: &[&str],
    repeated: Option<&str>,
    hint: &'static str,
) -> Result<Sorted<'a, 'i>, InvalidXmlLabel> {
    if between(node) {
        return Err(InvalidXmlLabel::Text(place));
    }
    let (mut known, mut others) = (vec![], vec![]);
    let mut next = 0;
    for child in elements(node) {
        // The schema lets elements of other namespaces stand, and none without one (`xmlns=""`).
        let namespace = child.tag_name().namespace().filter(|n| !n.is_empty());
        if namespace.is_some_and(|n| n != NAMESPACE) {
            others.push(child);
            next = names.len();
            continue;
        }
        let found = child.tag_name().name();
        if namespace.is_some() && Root::of(found).is_some() {
            return Err(InvalidXmlLabel::TwoLabels);
        }
        let at = names.iter().position(|n| *n == found);
        let Some(at) = at.filter(|_| namespace.is_some()) else {
            return Err(InvalidXmlLabel::Element {
                place,
                found: short(found),
                hint,
            });
        };
        if at < next {
            return Err(InvalidXmlLabel::Order {
                place,
                found: short(found),
            });
        }
        next = if repeated == Some(found) { at } else { at + 1 };
        known.push((at, child));
    }
    Ok((known, others))
}

fn text(
    node: Node<'_, '_>,
    place: &'static str,
    name: &'static str,
) -> Result<String, InvalidXmlLabel> {
    let said = text_of(node).ok_or(InvalidXmlLabel::NotText(name))?;
    if said.is_empty() {
        return Err(InvalidXmlLabel::Missing {
            place,
            missing: name,
        });
    }
    Ok(said)
}

/// As [`text`], with each run of spaces as one (`xs:token`).
fn token(
    node: Node<'_, '_>,
    place: &'static str,
    name: &'static str,
) -> Result<String, InvalidXmlLabel> {
    let said = text(node, place, name)?;
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn moment(node: Node<'_, '_>, place: &'static str) -> Result<Timestamp, InvalidXmlLabel> {
    attributes(node, place, &[], "it has none")?;
    let said = text(node, "label", place)?;
    time::timestamp(&said).ok_or_else(|| InvalidXmlLabel::Time {
        place,
        found: short(&said),
    })
}

/// The content of a label. A successor has neither a successor of its own nor an act.
fn parts(node: Node<'_, '_>, policies: &Policies, whole: bool) -> Result<Parts, InvalidXmlLabel> {
    const NAMES: [&str; 4] = [
        "ConfidentialityInformation",
        "OriginatorID",
        "CreationDateTime",
        "SuccessionHandling",
    ];
    let names = if whole { &NAMES[..] } else { &NAMES[..3] };
    let (known, others) = in_order(
        node,
        "label",
        names,
        None,
        "it has ConfidentialityInformation, OriginatorID, CreationDateTime and SuccessionHandling",
    )?;
    let (mut information, mut originator, mut created, mut succession) = (None, None, None, None);
    for (at, child) in known {
        match at {
            0 => information = Some(self::information(child, policies)?),
            1 => originator = Some(self::originator(child)?),
            2 => created = Some(moment(child, "CreationDateTime")?),
            _ => succession = Some(self::succession(child, policies)?),
        }
    }
    let (confidentiality, privacy_mark, inner) = information.ok_or(InvalidXmlLabel::Missing {
        place: "label",
        missing: "ConfidentialityInformation",
    })?;
    let created = created.ok_or(InvalidXmlLabel::NoCreation)?;
    let (mut act, mut foreign) = (None, inner);
    for other in others {
        if other.tag_name().namespace() != Some(NAMESPACE_OWN) {
            foreign += 1;
        } else if other.tag_name().name() != "Act" || !whole || act.is_some() {
            return Err(InvalidXmlLabel::Act(
                "nothing else of that namespace stands in a label, and it stands once",
            ));
        } else {
            act = Some(self::act(other)?);
        }
    }
    Ok(Parts {
        confidentiality,
        privacy_mark,
        originator,
        created,
        succession,
        act,
        foreign,
    })
}

/// Policy, level and categories; the privacy mark; how many elements of others.
fn information(
    node: Node<'_, '_>,
    policies: &Policies,
) -> Result<(Confidentiality, Option<String>, usize), InvalidXmlLabel> {
    const PLACE: &str = "ConfidentialityInformation";
    attributes(node, PLACE, &[], "it has none")?;
    let (known, others) = in_order(
        node,
        PLACE,
        &[
            "PolicyIdentifier",
            "Classification",
            "PrivacyMark",
            "Category",
        ],
        Some("Category"),
        "it has PolicyIdentifier, Classification, PrivacyMark and Category",
    )?;
    let missing = |missing| InvalidXmlLabel::Missing {
        place: PLACE,
        missing,
    };
    let (mut policy, mut mark) = (None, None);
    let mut label: Option<(&Policy, Confidentiality)> = None;
    for (at, child) in known {
        match at {
            0 => policy = Some(self::policy(child, policies)?),
            1 => {
                let policy = policy.ok_or_else(|| missing("PolicyIdentifier"))?;
                label = Some((policy, classification(child, policy)?));
            }
            2 => {
                attributes(child, "PrivacyMark", &[], "it has none")?;
                mark = Some(text_of(child).ok_or(InvalidXmlLabel::NotText("PrivacyMark"))?);
            }
            _ => {
                let (policy, c) = label.take().ok_or_else(|| missing("Classification"))?;
                label = Some((policy, category(child, policy, c)?));
            }
        }
    }
    policy.ok_or_else(|| missing("PolicyIdentifier"))?;
    let (_, c) = label.ok_or_else(|| missing("Classification"))?;
    Ok((c, mark.filter(|m| !m.is_empty()), others.len()))
}

/// The arcs of `urn:oid:`; scheme and namespace in any case (RFC 8141 section 3.1).
fn oid(uri: &str) -> Option<&str> {
    let uri = uri.trim();
    let (scheme, arcs) = (uri.get(..8)?, uri.get(8..)?);
    let digits = |a: &str| !a.is_empty() && a.bytes().all(|b| b.is_ascii_digit());
    (scheme.eq_ignore_ascii_case("urn:oid:") && arcs.contains('.') && arcs.split('.').all(digits))
        .then_some(arcs)
}

fn policy<'p>(node: Node<'_, '_>, policies: &'p Policies) -> Result<&'p Policy, InvalidXmlLabel> {
    const PLACE: &str = "PolicyIdentifier";
    attributes(node, PLACE, &["URI"], "it has URI")?;
    let name = token(node, "ConfidentialityInformation", PLACE)?;
    let named = policies
        .iter()
        .find(|p| p.id().as_str().eq_ignore_ascii_case(&name));
    let Some(uri) = node.attribute("URI") else {
        return named.ok_or_else(|| InvalidXmlLabel::UnknownPolicy(short(&name)));
    };
    let arcs = oid(uri).ok_or_else(|| InvalidXmlLabel::PolicyUri(short(uri)))?;
    match (named, policies.of_oid(arcs)) {
        (Some(a), Some(b)) if a.id() == b.id() => Ok(a),
        (None, None) => Err(InvalidXmlLabel::UnknownPolicy(short(&name))),
        _ => Err(InvalidXmlLabel::PolicyDisagrees {
            name: short(&name),
            uri: short(uri),
        }),
    }
}

fn classification(node: Node<'_, '_>, policy: &Policy) -> Result<Confidentiality, InvalidXmlLabel> {
    const PLACE: &str = "Classification";
    if node.attribute("URI").is_some() {
        return Err(InvalidXmlLabel::ClassificationUri);
    }
    attributes(node, PLACE, &[], "it has none")?;
    let name = token(node, "ConfidentialityInformation", PLACE)?;
    let dutch = || {
        let level = name
            .parse()
            .ok()
            .filter(|_| *policy.id() == PolicyId::nl())?;
        policy
            .levels()
            .iter()
            .find(|l| l.classification.level() == level)
    };
    let level = policy.level(&name).or_else(dutch);
    let level = level.ok_or_else(|| InvalidXmlLabel::Level {
        policy: policy.id().to_string(),
        found: short(&name),
    })?;
    Ok(Confidentiality::under(
        policy.id().clone(),
        level.classification.clone(),
    ))
}

fn category(
    node: Node<'_, '_>,
    policy: &Policy,
    mut c: Confidentiality,
) -> Result<Confidentiality, InvalidXmlLabel> {
    const PLACE: &str = "Category";
    attributes(
        node,
        PLACE,
        &["Type", "TagName", "URI"],
        "it has Type, TagName and URI",
    )?;
    if between(node) {
        return Err(InvalidXmlLabel::Text(PLACE));
    }
    let given = |missing| {
        node.attribute(missing)
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .ok_or(InvalidXmlLabel::Missing {
                place: PLACE,
                missing,
            })
    };
    let (kind, name) = (given("Type")?, given("TagName")?);
    let kind = CategoryType::ALL
        .into_iter()
        .find(|k| write::word(*k) == kind)
        .ok_or_else(|| InvalidXmlLabel::CategoryType(short(kind)))?;
    let set = policy
        .set(kind, name)
        .ok_or_else(|| InvalidXmlLabel::TagSet {
            policy: policy.id().to_string(),
            found: short(name),
            kind: write::word(kind),
        })?;
    if let Some(uri) = node.attribute("URI")
        && (set.oid.is_none() || oid(uri) != set.oid.as_deref())
    {
        return Err(InvalidXmlLabel::TagSetUri {
            set: set.name.to_string(),
            uri: short(uri),
        });
    }
    let no_value = || InvalidXmlLabel::NoValue(set.name.to_string());
    let wrong = |found: &str, why| InvalidXmlLabel::Value {
        set: set.name.to_string(),
        found: short(found),
        why,
    };
    // What the label has of the set already: `Some(true)` is nobody. Nobody and somebody contradict each other.
    let before = |c: &Confidentiality| {
        c.categories(kind)
            .find(|(s, _)| **s == set.name)
            .map(|(_, values)| values.is_empty())
    };
    let had = before(&c);
    let mut any = false;
    for child in elements(node) {
        let name = child.tag_name();
        if name.namespace() != Some(NAMESPACE) || name.name() != "GenericValue" {
            return Err(match name.name() {
                found @ ("IntegerValue" | "BitStringValue") => {
                    InvalidXmlLabel::ValueForm(found.into())
                }
                found => InvalidXmlLabel::Element {
                    place: PLACE,
                    found: short(found),
                    hint: "it has GenericValue",
                },
            });
        }
        attributes(child, "GenericValue", &[], "it has none")?;
        let value = text_of(child).ok_or(InvalidXmlLabel::NotText("GenericValue"))?;
        c = c
            .with_value(kind, &set.name, &value)
            .map_err(|why| wrong(&value, why))?;
        any = true;
    }
    match (any, had) {
        (true, None | Some(false)) => Ok(c),
        (false, None) if kind == CategoryType::Permissive => {
            c.for_nobody_of(&set.name).map_err(|why| wrong("", why))
        }
        _ => Err(no_value()),
    }
}

fn originator(node: Node<'_, '_>) -> Result<Originator, InvalidXmlLabel> {
    const PLACE: &str = "OriginatorID";
    attributes(node, PLACE, &["IDType"], "it has IDType")?;
    let kind = node.attribute("IDType").ok_or(InvalidXmlLabel::Missing {
        place: PLACE,
        missing: "IDType",
    })?;
    let kind = ID_TYPES
        .into_iter()
        .find(|k| *k == kind)
        .ok_or_else(|| InvalidXmlLabel::IdType(short(kind)))?;
    let id = text(node, "label", PLACE)?;
    Ok(Originator { kind, id })
}

fn succession(node: Node<'_, '_>, policies: &Policies) -> Result<Succession, InvalidXmlLabel> {
    const PLACE: &str = "SuccessionHandling";
    attributes(node, PLACE, &[], "it has none")?;
    let (known, others) = in_order(
        node,
        PLACE,
        &["SuccessionDateTime", "SuccessorConfidentialityLabel"],
        None,
        "it has SuccessionDateTime and SuccessorConfidentialityLabel",
    )?;
    if let Some(other) = others.first() {
        return Err(InvalidXmlLabel::Element {
            place: PLACE,
            found: short(other.tag_name().name()),
            hint: "no element of another namespace",
        });
    }
    let (mut at, mut successor) = (None, None);
    for (which, child) in known {
        if which == 0 {
            at = Some(moment(child, "SuccessionDateTime")?);
        } else {
            attributes(
                child,
                "SuccessorConfidentialityLabel",
                &["Id", "ReviewDateTime"],
                "it has Id and ReviewDateTime",
            )?;
            successor = Some(parts(child, policies, false)?.confidentiality);
        }
    }
    let missing = |missing| InvalidXmlLabel::Missing {
        place: PLACE,
        missing,
    };
    Ok(Succession {
        at: at.ok_or_else(|| missing("SuccessionDateTime"))?,
        successor: successor.ok_or_else(|| missing("SuccessorConfidentialityLabel"))?,
    })
}

fn act(node: Node<'_, '_>) -> Result<Act, InvalidXmlLabel> {
    if stray(node, &["By", "Event", "Review", "State"]).is_some() {
        return Err(InvalidXmlLabel::Act(
            "it has By, Event, Review and State and no other attribute",
        ));
    }
    if elements(node).next().is_some() || between(node) {
        return Err(InvalidXmlLabel::Act("it is empty"));
    }
    let by = match node.attribute("By") {
        None => None,
        Some(by) => Some(
            by.parse::<Name>()
                .ok()
                .filter(|by| by.kind() == Kind::Person)
                .ok_or(InvalidXmlLabel::Act("By names no person"))?,
        ),
    };
    let state = match (node.attribute("State"), by) {
        (None | Some("PROPOSED"), None) => State::Proposed,
        (Some("ESTABLISHED"), Some(by)) => State::Established { by },
        _ => {
            return Err(InvalidXmlLabel::Act(
                "State is PROPOSED, or ESTABLISHED with the person in By",
            ));
        }
    };
    let event = match node.attribute("Event") {
        None => None,
        Some(event) => Some(Duration::event(event).map_err(|_| {
            InvalidXmlLabel::Act(
                "Event has 1 to 200 characters, none of them a quotation mark or //",
            )
        })?),
    };
    let without = match node.attribute("Review") {
        None => false,
        Some("NONE") if event.is_none() => true,
        _ => {
            return Err(InvalidXmlLabel::Act(
                "Review is NONE, and stands without Event",
            ));
        }
    };
    Ok(Act {
        state,
        event,
        without,
    })
}
