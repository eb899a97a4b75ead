//! Tag sets and their values.

use ordonnans_label::{CategoryType, MAX_LISTED, MAX_SETS, MAX_VALUES, TagSet, Value};
use roxmltree::Node;

use super::InvalidSpif;
use super::draft::{DraftSet, Shown, Subject};
use super::marking::{is_shown, phrase};
use super::read::{Import, Tag, given, number, tag_key, truth, wrong};
use crate::xml::short;

impl Import<'_> {
    pub(super) fn tag_set<'a, 'i>(
        &mut self,
        node: Node<'a, 'i>,
        values: &mut Vec<(Subject, Node<'a, 'i>)>,
    ) -> Result<(), InvalidSpif> {
        let name = given(node, "name", "securityCategoryTagSet")?;
        let place = format!("securityCategoryTagSet '{}'", short(name));
        let oid = given(node, "id", &place)?.to_owned();
        let children = self.known(
            node,
            "securityCategoryTagSet",
            &["securityCategoryTag", "equivalentSecurityCategoryTagSet"],
        )?;
        for tag in children {
            if tag.tag_name().name() == "equivalentSecurityCategoryTagSet" {
                self.notes
                    .add(format!("{place}: equivalent tag sets are not carried over"));
                continue;
            }
            let (kind, key) = tag_key(tag, name, &place)?;
            let Some(kind) = kind else {
                self.notes.add(format!(
                    "{place}: a tag of type notApplicable is not carried over"
                ));
                self.tags.entry(key).or_default();
                continue;
            };
            let set = self.set(tag, kind, name, &oid, &place)?;
            self.tags.entry(key.clone()).or_default().insert(set);
            self.values(tag, set, &key, &place, values)?;
        }
        Ok(())
    }

    /// The set that the values of a tag go to: that of its tag set and type, or one of its own.
    fn set(
        &mut self,
        tag: Node<'_, '_>,
        kind: CategoryType,
        set: &str,
        oid: &str,
        place: &str,
    ) -> Result<usize, InvalidSpif> {
        let bound = |name: &'static str, unbounded: usize| match tag.attribute(name).map(str::trim)
        {
            None | Some("unbounded") => Ok(unbounded),
            Some(n) => number(n, place, name),
        };
        let min = bound("minSelection", 0)?;
        let most = bound("maxSelection", MAX_VALUES)?;
        let max = if truth(tag, "singleSelection", place)? {
            1
        } else {
            most
        };
        let mut name = set.to_owned();
        if let Some(at) = self
            .draft
            .sets
            .iter()
            .position(|s| s.kind == kind && s.name.eq_ignore_ascii_case(set))
        {
            if kind != CategoryType::Permissive {
                let Some(old) = self.draft.sets.get_mut(at) else {
                    return Ok(at);
                };
                if (old.min, old.max, min, max) != (0, MAX_VALUES, 0, MAX_VALUES) {
                    self.notes.add(format!(
                        "{place}: several tags of one type are one set here; how many values of each may stand is not carried over"
                    ));
                }
                (old.min, old.max) = (0, MAX_VALUES);
                return Ok(at);
            }
            let own = tag.attribute("name").unwrap_or("2").trim();
            name = format!("{set} - {own}");
            self.notes.add(format!(
                "{place}: it has several permissive tags; {} is a set of its own, and labels that have its values under the name of the tag set are refused",
                short(own)
            ));
        }
        let parsed: Result<TagSet, _> = name.parse();
        parsed.map_err(|_| {
            wrong(
                place,
                "name of a set here (letters, digits, spaces, - . _ ( ), at most 64)",
                &name,
            )
        })?;
        if max > MAX_VALUES {
            self.notes.add(format!(
                "{place}: a label here has at most {MAX_VALUES} values of one set"
            ));
        }
        if self.draft.sets.len() >= MAX_SETS {
            return Err(InvalidSpif::TooMany("sets, 16"));
        }
        self.draft.sets.push(DraftSet {
            name,
            kind,
            oid: oid.to_owned(),
            min,
            max: max.min(MAX_VALUES),
            open: false,
            values: vec![],
        });
        Ok(self.draft.sets.len() - 1)
    }

    fn values<'a, 'i>(
        &mut self,
        tag: Node<'a, 'i>,
        set: usize,
        key: &Tag,
        place: &str,
        values: &mut Vec<(Subject, Node<'a, 'i>)>,
    ) -> Result<(), InvalidSpif> {
        let mut any = false;
        for category in self.known(
            tag,
            "securityCategoryTag",
            &["tagCategory", "markingQualifier"],
        )? {
            if category.tag_name().name() == "markingQualifier" {
                self.notes.add(
                    "what stands before, between and after values in a marking is not carried over",
                );
                continue;
            }
            any = true;
            let name = given(category, "name", place)?;
            let here = format!("{place}, value '{}'", short(name));
            let code = given(category, "lacv", &here)?.to_owned();
            for gone in ["notBefore", "notAfter", "dateFormat"] {
                if category.has_attribute(gone) {
                    self.notes
                        .add(format!("{here}: {gone} is not carried over"));
                }
            }
            if truth(category, "obsolete", &here)? {
                self.notes
                    .add(format!("{here} is obsolete, and is carried over"));
            }
            let Some(draft) = self.draft.sets.get_mut(set) else {
                continue;
            };
            let place = (key.clone(), code);
            if category.has_attribute("userInput") {
                draft.open = true;
                self.notes.add(format!(
                    "{here}: people type it; any value may stand in the set, and what hangs on this one is not carried over"
                ));
                self.named.insert(place, None);
                continue;
            }
            let Ok(value) = name.parse::<Value>() else {
                self.notes.add(format!(
                    "{here}: it has characters that no value here may have, and is not carried over; labels with it are refused"
                ));
                self.named.insert(place, None);
                continue;
            };
            let value = value.as_str().to_owned();
            if draft.values.len() >= MAX_LISTED {
                return Err(InvalidSpif::TooMany("values in one set, 1024"));
            }
            if !draft.values.iter().any(|(v, _)| *v == value) {
                let (nl, en) = phrase(category);
                let en = en.filter(|p| is_shown(p)).unwrap_or_else(|| value.clone());
                let nl = nl.filter(|p| is_shown(p)).unwrap_or_else(|| en.clone());
                draft.values.push((value.clone(), Shown { nl, en }));
            }
            if self
                .named
                .insert(place, Some((set, value.clone())))
                .is_some()
            {
                return Err(wrong(
                    here,
                    "lacv of its own; another value of the tag has it",
                    name,
                ));
            }
            values.push((Subject::Value(set, value), category));
        }
        if !any && let Some(draft) = self.draft.sets.get_mut(set) {
            draft.open = true;
        }
        // A set whose every value was left behind still exists: its labels are refused, not read without it.
        if let Some(draft) = self.draft.sets.get_mut(set)
            && draft.values.is_empty()
            && !draft.open
        {
            return Err(wrong(
                place,
                "set that can be carried over; none of its values can stand here",
                &draft.name,
            ));
        }
        Ok(())
    }
}
