//! Reading an XML-SPIF.

use std::collections::{BTreeMap, BTreeSet};

use ordonnans_label::{CategoryType, Level, MAX_LEVELS, Policies, Policy, PolicyId};
use roxmltree::Node;

use super::draft::{Draft, DraftLevel, Shown};
use super::marking::{COLOURS, is_shown, phrase, qualifiers, replaced};
use super::{BOUNDS, Imported, InvalidSpif, NAMESPACE, Notes};
use crate::xml::{elements, parse, short};

/// Makes a policy file from an XML-SPIF of at most [`super::MAX_XML_BYTES`]. What its levels equal is taken from its equivalences to the policies
/// given here, found by their object identifiers.
///
/// # Errors
/// [`InvalidSpif`] names the place; nothing was taken from the file. It goes back to its keeper, or is corrected by one who knows the policy.
pub fn read(bytes: &[u8], policies: &Policies) -> Result<Imported, InvalidSpif> {
    let document = parse(bytes, BOUNDS)?;
    let root = document.root_element();
    if !root.has_tag_name((NAMESPACE, "SPIF")) {
        return Err(InvalidSpif::Root(short(root.tag_name().name())));
    }
    let version = root.attribute("schemaVersion").unwrap_or_default();
    if !matches!(version, "2.0" | "2.1") {
        return Err(InvalidSpif::Version(short(version)));
    }
    let mut import = Import {
        policies,
        notes: Notes::default(),
        ids: BTreeMap::new(),
        named: BTreeMap::new(),
        tags: BTreeMap::new(),
        terms: 0,
        draft: Draft {
            id: String::new(),
            oid: String::new(),
            version: match root.attribute("version").map(str::trim) {
                None => 1,
                Some(v) => number(v, "SPIF", "version")?,
            },
            levels: vec![],
            sets: vec![],
            rules: vec![],
        },
    };
    import.whole(root)?;
    let made = root.attribute("creationDate").unwrap_or_default();
    let comment = format!(
        "Made from an XML-SPIF {version} of {}. A draft: read it beside its source, set what each level equals, take out `unconfirmed`.",
        short(made)
    );
    let toml = import.draft.toml(&comment);
    Policy::parse(&toml)?;
    Ok(Imported {
        toml,
        notes: import.notes.0,
    })
}

/// Tag set, tag type and type of enumeration: what a reference names a tag by.
pub(super) type Tag = (String, String, String);

pub(super) struct Import<'p> {
    pub(super) policies: &'p Policies,
    pub(super) notes: Notes,
    /// Object identifiers of equivalent policies, by the name the file has for them.
    pub(super) ids: BTreeMap<String, String>,
    /// For each tag and `lacv`: the sets, and the value in it; `None` where it could not be carried over.
    pub(super) named: BTreeMap<(Tag, String), Option<(usize, String)>>,
    /// For each tag its sets.
    pub(super) tags: BTreeMap<Tag, BTreeSet<usize>>,
    pub(super) draft: Draft,
    /// Terms of all rules so far.
    pub(super) terms: usize,
}

pub(super) fn missing(place: impl Into<String>, missing: &'static str) -> InvalidSpif {
    InvalidSpif::Missing {
        place: place.into(),
        missing,
    }
}

pub(super) fn wrong(place: impl Into<String>, what: &'static str, found: &str) -> InvalidSpif {
    InvalidSpif::Value {
        place: place.into(),
        what,
        found: short(found),
    }
}

/// An attribute that must be there.
pub(super) fn given<'a>(
    node: Node<'a, '_>,
    name: &'static str,
    place: &str,
) -> Result<&'a str, InvalidSpif> {
    node.attribute(name)
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .ok_or_else(|| missing(place, name))
}

pub(super) fn number<T: std::str::FromStr>(
    s: &str,
    place: &str,
    what: &'static str,
) -> Result<T, InvalidSpif> {
    s.parse().map_err(|_| wrong(place, what, s))
}

pub(super) fn truth(
    node: Node<'_, '_>,
    name: &'static str,
    place: &str,
) -> Result<bool, InvalidSpif> {
    match node.attribute(name).map(str::trim) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(wrong(place, "truth value, true or false", other)),
    }
}

impl Import<'_> {
    /// The child elements of the schema. Those of other namespaces are noted.
    pub(super) fn known<'a, 'i>(
        &mut self,
        node: Node<'a, 'i>,
        place: &'static str,
        names: &[&str],
    ) -> Result<Vec<Node<'a, 'i>>, InvalidSpif> {
        let mut all = vec![];
        for child in elements(node) {
            let name = child.tag_name();
            // Files in use leave the namespace out of inner elements (the schema says `unqualified`); what they say counts.
            if name
                .namespace()
                .is_some_and(|n| !n.is_empty() && n != NAMESPACE)
            {
                self.notes.add(format!(
                    "{place}: the element {} of another namespace is not carried over",
                    short(name.name())
                ));
            } else if names.contains(&name.name()) {
                all.push(child);
            } else {
                return Err(InvalidSpif::Element {
                    place,
                    found: short(name.name()),
                });
            }
        }
        Ok(all)
    }

    fn whole(&mut self, root: Node<'_, '_>) -> Result<(), InvalidSpif> {
        let children = self.known(
            root,
            "SPIF",
            &[
                "defaultSecurityPolicyId",
                "securityPolicyId",
                "updateInfo",
                "securityClassifications",
                "securityCategoryTagSets",
                "privacyMarks",
                "equivalentPolicies",
                "markingData",
                "markingQualifier",
                "extensions",
            ],
        )?;
        if root.has_attribute("notBefore") || root.has_attribute("notAfter") {
            self.notes.add(
                "the file is valid for a time; a policy here is in force until it is taken out",
            );
        }
        let one = |name: &'static str| {
            let mut all = children.iter().filter(|c| c.tag_name().name() == name);
            match (all.next(), all.next()) {
                (_, Some(_)) => Err(wrong("SPIF", "element that may stand twice", name)),
                (one, None) => Ok(one.copied()),
            }
        };
        for (name, what) in [
            (
                "defaultSecurityPolicyId",
                "what holds for information without a label",
            ),
            ("privacyMarks", "the list of privacy marks"),
            ("extensions", "what others put there"),
        ] {
            if one(name)?.is_some() {
                self.notes
                    .add(format!("{name}: {what} is not carried over"));
            }
        }
        let policy = one("securityPolicyId")?.ok_or_else(|| missing("SPIF", "securityPolicyId"))?;
        let id = given(policy, "name", "securityPolicyId")?;
        let parsed: Result<PolicyId, _> = id.parse();
        parsed.map_err(|_| {
            wrong(
                "securityPolicyId",
                "name of a policy here (letters, digits, spaces, - . _ ( ), at most 64)",
                id,
            )
        })?;
        id.clone_into(&mut self.draft.id);
        given(policy, "id", "securityPolicyId")?.clone_into(&mut self.draft.oid);
        if let Some(all) = one("equivalentPolicies")? {
            for p in self.known(all, "equivalentPolicies", &["equivalentPolicy"])? {
                let name = given(p, "name", "equivalentPolicy")?.to_owned();
                let id = given(p, "id", "equivalentPolicy")?.to_owned();
                self.ids.insert(name, id);
            }
        }
        let levels = one("securityClassifications")?
            .ok_or_else(|| missing("SPIF", "securityClassifications"))?;
        let levels: Vec<Node<'_, '_>> = self
            .known(
                levels,
                "securityClassifications",
                &["securityClassification", "markingData", "markingQualifier"],
            )?
            .into_iter()
            .filter(|n| n.tag_name().name() == "securityClassification")
            .collect();
        self.levels(root, policy, &levels)?;
        let mut values = vec![];
        if let Some(sets) = one("securityCategoryTagSets")? {
            for set in self.known(sets, "securityCategoryTagSets", &["securityCategoryTagSet"])? {
                self.tag_set(set, &mut values)?;
            }
        }
        self.rules(&levels, &values)
    }

    fn levels(
        &mut self,
        root: Node<'_, '_>,
        policy: Node<'_, '_>,
        nodes: &[Node<'_, '_>],
    ) -> Result<(), InvalidSpif> {
        let mut all: Vec<(i64, Option<Level>, DraftLevel)> = vec![];
        if nodes.len() > MAX_LEVELS {
            return Err(InvalidSpif::TooMany("levels, 16"));
        }
        let [before, between, after] = qualifiers(root);
        let stands = replaced(root).or_else(|| replaced(policy));
        for node in nodes {
            let name = given(*node, "name", "securityClassification")?.to_owned();
            let place = format!("securityClassification '{}'", short(&name));
            let code = given(*node, "lacv", &place)?;
            let code: u8 = number(code, &place, "lacv of a level, 0 to 255")?;
            let order = given(*node, "hierarchy", &place)?;
            let order: i64 = number(order, &place, "hierarchy")?;
            if let Some((_, _, same)) = all.iter().find(|(o, _, l)| {
                *o == order || l.code == code || l.name.eq_ignore_ascii_case(&name)
            }) {
                return Err(InvalidSpif::Same(short(&same.name), short(&name)));
            }
            if truth(*node, "obsolete", &place)? {
                self.notes.add(format!(
                    "{place} is obsolete; it is carried over so that old labels can be read, and new ones can be made with it"
                ));
            }
            let equals = self.equals(*node, &place)?;
            let (nl, en) = phrase(*node);
            let own = replaced(*node).or_else(|| stands.clone());
            let own = own.unwrap_or_else(|| self.draft.id.clone());
            let shown = |phrase: Option<String>| {
                let phrase = phrase.unwrap_or_else(|| name.clone());
                let parts: Vec<&str> = [own.as_str(), phrase.as_str()]
                    .into_iter()
                    .filter(|p| !p.is_empty())
                    .collect();
                format!("{before}{}{after}", parts.join(&between))
                    .trim()
                    .to_owned()
            };
            let en = shown(en);
            let mut marking = Shown {
                nl: nl.map_or_else(|| en.clone(), |nl| shown(Some(nl))),
                en,
            };
            let taken = all.iter().any(|(_, _, l)| l.marking == marking);
            if taken || !is_shown(&marking.nl) || !is_shown(&marking.en) {
                marking = Shown::both(&format!("{} {name}", self.draft.id));
                self.notes.add(format!(
                    "{place}: its marking cannot be shown here, or is that of another level; it is shown as {}",
                    short(&marking.en)
                ));
            }
            all.push((
                order,
                equals,
                DraftLevel {
                    colour: self.colour(*node, &place),
                    name,
                    code,
                    equals: Level::StgZg,
                    marking,
                },
            ));
        }
        all.sort_by_key(|(order, ..)| *order);
        // A level that is said to equal more than a higher one pulls the higher one up, not the other way round.
        let mut least = Level::Ongerubriceerd;
        for (_, said, level) in &mut all {
            let Some(said) = said else { continue };
            if *said < least {
                self.notes.add(format!(
                    "securityClassification '{}': it is said to equal {said}, less than a level below it, and is held at {least}",
                    short(&level.name)
                ));
            }
            *said = least.max(*said);
            least = *said;
        }
        let mut above = Level::StgZg;
        for (_, said, level) in all.iter_mut().rev() {
            match said {
                Some(said) => above = *said,
                None => self.notes.add(format!(
                    "securityClassification '{}': no known policy is said to equal it; it is held at {above} until a person decides",
                    short(&level.name)
                )),
            }
            level.equals = above;
        }
        self.draft.levels = all.into_iter().map(|(_, _, l)| l).collect();
        Ok(())
    }

    /// The highest Dutch level that a level is said to equal, by way of a policy known here.
    fn equals(&mut self, node: Node<'_, '_>, place: &str) -> Result<Option<Level>, InvalidSpif> {
        let mut highest = None;
        let children = self.known(
            node,
            "securityClassification",
            &[
                "equivalentClassification",
                "markingData",
                "markingQualifier",
                "requiredCategory",
            ],
        )?;
        for e in children {
            if e.tag_name().name() != "equivalentClassification" {
                continue;
            }
            let name = given(e, "policyRef", place)?;
            if elements(e).next().is_some() {
                self.notes.add(format!(
                    "{place}: what a label needs besides to equal one of {} is not carried over",
                    short(name)
                ));
            }
            let code = given(e, "lacv", place)?;
            let Some(policy) = self.ids.get(name).and_then(|id| self.policies.of_oid(id)) else {
                self.notes.add(format!(
                    "equivalences to {}, which is not known here, are not carried over",
                    short(name)
                ));
                continue;
            };
            let code: u8 = number(code, place, "lacv of an equivalent level, 0 to 255")?;
            let level = policy
                .level_of_code(code)
                .ok_or_else(|| InvalidSpif::Reference {
                    place: place.to_owned(),
                    found: format!(
                        "level {code} of {}; the policy known here has none",
                        policy.id()
                    ),
                })?;
            highest = highest.max(Some(level.classification.level()));
        }
        Ok(highest)
    }

    fn colour(&mut self, node: Node<'_, '_>, place: &str) -> String {
        let said = node.attribute("color").unwrap_or_default().trim();
        let hex = said.strip_prefix('#').unwrap_or_default();
        if hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return said.to_ascii_lowercase();
        }
        if let Some((_, hex)) = COLOURS.iter().find(|(n, _)| n.eq_ignore_ascii_case(said)) {
            return (*hex).into();
        }
        self.notes.add(format!(
            "{place}: it has no colour that is known; it is shown in grey"
        ));
        "#808080".into()
    }
}

/// What the values of a tag do, and what it is named by; no type for `notApplicable`.
pub(super) fn tag_key(
    node: Node<'_, '_>,
    set: &str,
    place: &str,
) -> Result<(Option<CategoryType>, Tag), InvalidSpif> {
    let tag = given(node, "tagType", place)?;
    let mut inner = "";
    let kind = match tag {
        "restrictive" => Some(CategoryType::Restrictive),
        "permissive" => Some(CategoryType::Permissive),
        "tagType7" => Some(CategoryType::Informative),
        "notApplicable" => None,
        "enumerated" => {
            inner = given(node, "enumType", place)?;
            match inner {
                "restrictive" => Some(CategoryType::Restrictive),
                "permissive" => Some(CategoryType::Permissive),
                other => return Err(wrong(place, "enumType: restrictive or permissive", other)),
            }
        }
        other => {
            return Err(wrong(
                place,
                "tagType: restrictive, permissive, enumerated, tagType7 or notApplicable",
                other,
            ));
        }
    };
    Ok((kind, (set.to_owned(), tag.to_owned(), inner.to_owned())))
}
