//! What goes with what.

use std::collections::BTreeSet;

use ordonnans_label::Need;
use roxmltree::Node;

use super::InvalidSpif;
use super::draft::{Rule, Subject};
use super::read::{Import, given, missing, tag_key, truth, wrong};
use crate::xml::{elements, short, text_of};

/// Terms of all rules together: what a policy of the largest size could use.
const MAX_TERMS: usize = 16 * 1024;

impl Import<'_> {
    pub(super) fn rules(
        &mut self,
        levels: &[Node<'_, '_>],
        values: &[(Subject, Node<'_, '_>)],
    ) -> Result<(), InvalidSpif> {
        for level in levels {
            let name = level
                .attribute("name")
                .unwrap_or_default()
                .trim()
                .to_owned();
            let when = Subject::Level(name.clone());
            for needed in elements(*level).filter(|e| e.tag_name().name() == "requiredCategory") {
                self.required(
                    &when,
                    needed,
                    &format!("securityClassification '{}'", short(&name)),
                )?;
            }
        }
        for (when, category) in values {
            self.of_value(when, *category)?;
        }
        Ok(())
    }

    fn of_value(&mut self, when: &Subject, node: Node<'_, '_>) -> Result<(), InvalidSpif> {
        let place = format!(
            "tagCategory '{}'",
            short(node.attribute("name").unwrap_or_default())
        );
        let (mut without, mut within) = (BTreeSet::new(), vec![]);
        if let Some(level) = node.attribute("requiredClass") {
            within.push(self.level(level, &place)?);
        }
        let children = self.known(
            node,
            "tagCategory",
            &[
                "equivalentSecCategoryTag",
                "markingData",
                "markingQualifier",
                "excludedClass",
                "requiredClass",
                "requiredCategory",
                "excludedCategory",
            ],
        )?;
        for child in children {
            match child.tag_name().name() {
                "excludedClass" => {
                    without.insert(self.level(&text_of(child).unwrap_or_default(), &place)?);
                }
                "requiredClass" => {
                    within.push(self.level(&text_of(child).unwrap_or_default(), &place)?);
                }
                "requiredCategory" => self.required(when, child, &place)?,
                "excludedCategory" => {
                    // A value that could not be carried over stands in no label, so it needs no rule.
                    for term in self.terms(child, &place)? {
                        without.extend(self.but(when, term));
                        if without.len() > MAX_TERMS {
                            return Err(InvalidSpif::TooMany("terms of rules, 16384"));
                        }
                    }
                }
                "equivalentSecCategoryTag" => self
                    .notes
                    .add("equivalent values of other policies are not carried over"),
                _ => {}
            }
        }
        self.rule(when, Need::Some, within)?;
        self.rule(when, Need::None, without.into_iter().collect())
    }

    /// A term without the value it hangs on.
    fn but(&self, when: &Subject, term: Subject) -> Vec<Subject> {
        match (when, &term) {
            (Subject::Value(own, value), Subject::Set(set)) if own == set => self
                .draft
                .sets
                .get(*set)
                .into_iter()
                .flat_map(|s| &s.values)
                .filter(|(v, _)| v != value)
                .map(|(v, _)| Subject::Value(*set, v.clone()))
                .collect(),
            _ if term == *when => vec![],
            _ => vec![term],
        }
    }

    fn rule(&mut self, when: &Subject, needs: Need, of: Vec<Subject>) -> Result<(), InvalidSpif> {
        self.terms += of.len();
        if self.terms > MAX_TERMS {
            return Err(InvalidSpif::TooMany("terms of rules, 16384"));
        }
        if !of.is_empty() {
            self.draft.rules.push(Rule {
                when: when.clone(),
                needs,
                of,
            });
        }
        Ok(())
    }

    fn level(&self, name: &str, place: &str) -> Result<Subject, InvalidSpif> {
        let name = name.trim();
        self.draft
            .levels
            .iter()
            .find(|l| l.name == name)
            .map(|l| Subject::Level(l.name.clone()))
            .ok_or_else(|| InvalidSpif::Reference {
                place: place.to_owned(),
                found: format!("level '{}'", short(name)),
            })
    }

    fn required(
        &mut self,
        when: &Subject,
        node: Node<'_, '_>,
        place: &str,
    ) -> Result<(), InvalidSpif> {
        let operation = given(node, "operation", place)?;
        let needs = match operation {
            "onlyOne" => Need::One,
            "oneOrMore" => Need::Some,
            "all" => Need::All,
            other => return Err(wrong(place, "operation: onlyOne, oneOrMore or all", other)),
        };
        let mut of = vec![];
        let mut lost = false;
        let groups = self.known(node, "requiredCategory", &["categoryGroup"])?;
        if groups.is_empty() {
            return Err(missing(place, "categoryGroup"));
        }
        for group in groups {
            let terms = self.terms(group, place)?;
            lost |= terms.is_empty();
            of.extend(terms);
        }
        if of.is_empty() || (lost && needs == Need::All) {
            self.notes.add(format!(
                "{place}: it needs a value that could not be carried over, so no label may have it"
            ));
            self.rule(when, Need::None, vec![when.clone()])
        } else {
            self.rule(when, needs, of)
        }
    }

    /// What a reference names: a value, or whole sets. Empty for a value that could not be carried over.
    fn terms(&self, node: Node<'_, '_>, place: &str) -> Result<Vec<Subject>, InvalidSpif> {
        let set = given(node, "tagSetRef", place)?;
        let (_, key) = tag_key(node, set, place)?;
        let code = node
            .attribute("lacv")
            .map(str::trim)
            .filter(|c| !c.is_empty());
        let unknown = || InvalidSpif::Reference {
            place: place.to_owned(),
            found: format!("tag {} {} of '{}' with this lacv", key.1, key.2, short(set)),
        };
        match code.filter(|_| !truth(node, "all", place).unwrap_or(true)) {
            Some(code) => match self.named.get(&(key.clone(), code.to_owned())) {
                Some(Some((set, value))) => Ok(vec![Subject::Value(*set, value.clone())]),
                Some(None) => Ok(vec![]),
                None => Err(unknown()),
            },
            None => {
                truth(node, "all", place)?;
                let sets = self.tags.get(&key).ok_or_else(unknown)?;
                Ok(sets.iter().map(|s| Subject::Set(*s)).collect())
            }
        }
    }
}
