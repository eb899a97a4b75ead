//! The label in CBOR: what `docs/wire.cddl` calls `label`.
//!
//! Only the Dutch policy has a form here yet; a label under another is refused, never guessed at.

use ordonnans_label::{
    Confidentiality, Date, Duration, InvalidValue, Kind, Label, Level, Name, PolicyId, State, Value,
};

use crate::cbor::{DecodeError, Reader, Writer};

const MAX_VALUE_BYTES: usize = 4 * ordonnans_label::MAX_VALUE_CHARS;
const MAX_EVENT_BYTES: usize = 4 * ordonnans_label::MAX_EVENT_CHARS;

/// Writes a label.
pub fn encode_label(l: &Label, w: &mut Writer) {
    let c = &l.confidentiality;
    let compartments: Vec<&Value> = c.compartments().collect();
    let markings: Vec<&Value> = c.markings().collect();
    let pairs = 2
        + usize::from(!compartments.is_empty())
        + usize::from(c.circles().is_some())
        + usize::from(!markings.is_empty())
        + usize::from(l.duration.is_some())
        + usize::from(matches!(l.state, State::Established { .. }));
    w.map(pairs);
    w.uint(1).text(c.policy().as_str());
    w.uint(2).uint(u64::from(c.level().code()));
    if !compartments.is_empty() {
        values(w.uint(3), &compartments);
    }
    if let Some(circles) = c.circles() {
        values(w.uint(4), &circles.iter().collect::<Vec<_>>());
    }
    if !markings.is_empty() {
        values(w.uint(5), &markings);
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
}

fn values(w: &mut Writer, list: &[&Value]) {
    w.array(list.len());
    for v in list {
        w.text(v.as_str());
    }
}

/// Reads a label.
///
/// # Errors
/// [`DecodeError::Unknown`] for a policy or part this version does not know; [`DecodeError::Form`] for anything a label may not
/// hold, such as a vaststeller who is no person.
pub fn decode_label(r: &mut Reader<'_>) -> Result<Label, DecodeError> {
    let (mut policy, mut level, mut by, mut duration) = (None, None, None, None);
    let (mut compartments, mut circles, mut markings) = (vec![], None, vec![]);
    r.map("label", 8, |r, key| {
        match key {
            1 => policy = Some(r.parsed::<PolicyId>("label policy", MAX_VALUE_BYTES)?),
            2 => {
                let code = r.uint("label level", 4)?;
                level = u8::try_from(code).ok().and_then(Level::from_code);
            }
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
            _ => return Err(DecodeError::Unknown("label part")),
        }
        Ok(())
    })?;
    let policy = policy.ok_or(DecodeError::Form("label policy"))?;
    if policy != PolicyId::nl() {
        return Err(DecodeError::Unknown("label policy"));
    }
    let mut c = Confidentiality::under(policy, level.ok_or(DecodeError::Form("label level"))?);
    c = fill(c, &compartments, Confidentiality::with_compartment)?;
    if let Some(circles) = circles {
        c = fill(c.for_nobody(), &circles, Confidentiality::with_circle)?;
    }
    c = fill(c, &markings, Confidentiality::with_marking)?;
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
    with: fn(Confidentiality, &str) -> Result<Confidentiality, InvalidValue>,
) -> Result<Confidentiality, DecodeError> {
    list.iter()
        .try_fold(c, |c, v| with(c, v))
        .map_err(|_| DecodeError::Form("label category"))
}
