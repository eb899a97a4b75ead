//! The label in CBOR: what `docs/wire.cddl` calls `label`.
//!
//! A Dutch label has a short form. One under another policy carries the name of its classification and the Dutch level equal to it, and its
//! categories with their sets: so it can be read, compared and shown without that policy. Whether policy, level and equal are real,
//! the rules say.

use std::collections::BTreeSet;

use ordonnans_label::{
    CategoryType, Classification, Confidentiality, Date, Duration, InvalidValue, Kind, Label,
    Level, MAX_SETS, Name, PolicyId, State, TagSet, Value,
};

use crate::cbor::{DecodeError, Reader, Writer};

const MAX_VALUE_BYTES: usize = 4 * ordonnans_label::MAX_VALUE_CHARS;
const MAX_EVENT_BYTES: usize = 4 * ordonnans_label::MAX_EVENT_CHARS;
/// The highest place a classification may have: more levels than any policy.
const MAX_RANK: u64 = 63;

/// Writes a label.
pub fn encode_label(l: &Label, w: &mut Writer) {
    let c = &l.confidentiality;
    let dutch = c.alternative().is_none();
    let compartments: Vec<&Value> = c.compartments().collect();
    let markings: Vec<&Value> = c.markings().collect();
    let sets: Vec<(CategoryType, &TagSet, &BTreeSet<Value>)> = CategoryType::ALL
        .into_iter()
        .flat_map(|kind| {
            c.categories(kind)
                .map(move |(set, values)| (kind, set, values))
        })
        .filter(|(kind, _, values)| !values.is_empty() || *kind == CategoryType::Permissive)
        .collect();
    let own = if dutch {
        usize::from(!compartments.is_empty())
            + usize::from(c.circles().is_some())
            + usize::from(!markings.is_empty())
    } else {
        1 + usize::from(!sets.is_empty())
    };
    let act = usize::from(l.duration.is_some())
        + usize::from(matches!(l.state, State::Established { .. }));
    w.map(2 + own + act);
    w.uint(1).text(c.policy().as_str());
    w.uint(2).uint(u64::from(c.classification().rank()));
    if dutch && !compartments.is_empty() {
        values(w.uint(3), compartments.into_iter());
    }
    if dutch && let Some(circles) = c.circles() {
        values(w.uint(4), circles.iter());
    }
    if dutch && !markings.is_empty() {
        values(w.uint(5), markings.into_iter());
    }
    match &l.duration {
        None => {}
        Some(Duration::Until(day)) => {
            w.uint(6).text(&day.to_string());
        }
        Some(Duration::Event(event)) => {
            w.uint(7).text(event);
        }
    }
    if let State::Established { by } = &l.state {
        w.uint(8).text(by.as_str());
    }
    if dutch {
        return;
    }
    w.uint(9)
        .array(2)
        .text(c.classification().name())
        .uint(c.level().code().into());
    if !sets.is_empty() {
        w.uint(10).array(sets.len());
        for (kind, set, of) in sets {
            w.array(3).uint(kind.code().into()).text(set.as_str());
            values(w, of.iter());
        }
    }
}

fn values<'a>(w: &mut Writer, list: impl ExactSizeIterator<Item = &'a Value>) {
    w.array(list.len());
    for v in list {
        w.text(v.as_str());
    }
}

/// Reads a label.
///
/// # Errors
/// [`DecodeError::Unknown`] for a part this version does not know; [`DecodeError::Form`] for anything a label may not
/// hold, such as a vaststeller who is no person, or parts of a Dutch label in one of another policy.
pub fn decode_label(r: &mut Reader<'_>) -> Result<Label, DecodeError> {
    let (mut policy, mut rank, mut by, mut duration) = (None, None, None, None);
    let (mut compartments, mut circles, mut markings) = (vec![], None, vec![]);
    let (mut classification, mut sets) = (None, None);
    r.map("label", 8, |r, key| {
        match key {
            1 => policy = Some(r.parsed::<PolicyId>("label policy", MAX_VALUE_BYTES)?),
            2 => rank = u8::try_from(r.uint("label level", MAX_RANK)?).ok(),
            3 => compartments = some(list(r)?)?,
            4 => circles = Some(list(r)?),
            5 => markings = some(list(r)?)?,
            6 => duration = Some(Duration::Until(r.parsed::<Date>("label date", 10)?)),
            7 if duration.is_none() => {
                let event = r.text("label event", MAX_EVENT_BYTES)?;
                duration =
                    Some(Duration::event(event).map_err(|_| DecodeError::Form("label event"))?);
            }
            7 => return Err(DecodeError::Form("label duration")),
            8 => by = Some(r.parsed::<Name>("label vaststeller", Name::MAX_BYTES)?),
            9 => {
                r.tuple("label classification", 2)?;
                let name = r.text("label classification", MAX_VALUE_BYTES)?.to_owned();
                classification = Some((name, level(r)?));
            }
            10 => sets = Some(foreign(r)?),
            _ => return Err(DecodeError::Unknown("label part")),
        }
        Ok(())
    })?;
    let policy = policy.ok_or(DecodeError::Form("label policy"))?;
    let rank = rank.ok_or(DecodeError::Form("label level"))?;
    let mut c;
    if policy == PolicyId::nl() {
        if classification.is_some() || sets.is_some() {
            return Err(DecodeError::Form("label classification"));
        }
        let level = Level::from_code(rank).ok_or(DecodeError::Limit("label level"))?;
        c = Confidentiality::new(level);
        c = fill(c, &compartments, Confidentiality::with_compartment)?;
        if let Some(circles) = circles {
            c = fill(c.for_nobody(), &circles, Confidentiality::with_circle)?;
        }
        c = fill(c, &markings, Confidentiality::with_marking)?;
    } else {
        if !compartments.is_empty() || circles.is_some() || !markings.is_empty() {
            return Err(DecodeError::Form("label category"));
        }
        let (name, level) = classification.ok_or(DecodeError::Form("label classification"))?;
        let classification = Classification::new(rank, &name, level)
            .map_err(|_| DecodeError::Form("label classification"))?;
        c = Confidentiality::under(policy, classification);
        for (kind, set, of) in sets.unwrap_or_default() {
            if kind == CategoryType::Permissive {
                c = c
                    .for_nobody_of(&set)
                    .map_err(|_| DecodeError::Form("label category"))?;
            }
            c = fill(c, &of, |c, v| c.with_value(kind, &set, v))?;
        }
    }
    let state = match by {
        None => State::Proposed,
        Some(by) if by.kind() == Kind::Person => State::Established { by },
        Some(_) => return Err(DecodeError::Form("label vaststeller")),
    };
    Ok(Label {
        confidentiality: c,
        duration,
        state,
    })
}

fn level(r: &mut Reader<'_>) -> Result<Level, DecodeError> {
    u8::try_from(r.uint("label level", 4)?)
        .ok()
        .and_then(Level::from_code)
        .ok_or(DecodeError::Unknown("label level"))
}

/// The values of one set of another policy.
type ForeignSet = (CategoryType, TagSet, Vec<Box<str>>);

/// The sets of a label under another policy: by type, then by name, each once and none of them empty unless it is permissive.
fn foreign(r: &mut Reader<'_>) -> Result<Vec<ForeignSet>, DecodeError> {
    let n = r.array("label category", MAX_SETS)?;
    let mut sets = vec![];
    for _ in 0..n {
        r.tuple("label category", 3)?;
        let kind = u8::try_from(r.uint("label category", 2)?)
            .ok()
            .and_then(CategoryType::from_code)
            .ok_or(DecodeError::Unknown("label category"))?;
        let set = r.parsed::<TagSet>("label category", MAX_VALUE_BYTES)?;
        let of = list(r)?;
        let of = if kind == CategoryType::Permissive {
            of
        } else {
            some(of)?
        };
        sets.push((kind, set, of));
    }
    // An empty list has no form: it is left out.
    if sets.is_empty() {
        Err(DecodeError::Form("label category"))
    } else {
        Ok(sets)
    }
}

/// Restrictive and informative sets without a value are left out, so an empty one has no form.
fn some(list: Vec<Box<str>>) -> Result<Vec<Box<str>>, DecodeError> {
    if list.is_empty() {
        Err(DecodeError::Form("label category"))
    } else {
        Ok(list)
    }
}

fn list(r: &mut Reader<'_>) -> Result<Vec<Box<str>>, DecodeError> {
    let n = r.array("label category", ordonnans_label::MAX_VALUES)?;
    (0..n)
        .map(|_| r.text("label category", MAX_VALUE_BYTES).map(Into::into))
        .collect()
}

fn fill(
    c: Confidentiality,
    list: &[Box<str>],
    with: impl Fn(Confidentiality, &str) -> Result<Confidentiality, InvalidValue>,
) -> Result<Confidentiality, DecodeError> {
    list.iter()
        .try_fold(c, |c, v| with(c, v))
        .map_err(|_| DecodeError::Form("label category"))
}
