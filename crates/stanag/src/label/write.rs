//! Writing a label.

use std::fmt::Write as _;

use ordonnans_label::{CategoryType, Confidentiality, Duration, Label, Name, Policies, State};
use ordonnans_message::Timestamp;

use super::{MAX_XML_BYTES, NAMESPACE, Root, WriteError};
use crate::NAMESPACE_OWN;
use crate::xml::{escaped, writable};

/// The label as the originator's (`originatorConfidentialityLabel`), in UTF-8 without an XML declaration, so that it can stand in another
/// document. The originator is a name of the crisis structure, as `dNSName`.
///
/// # Errors
/// [`WriteError::NotValid`]: a label that is not valid under its policy, or whose policy is not among these, is not sent to a partner.
/// [`WriteError::Character`] and [`WriteError::TooLong`].
pub fn write(
    label: &Label,
    created: Timestamp,
    originator: Option<&Name>,
    policies: &Policies,
) -> Result<String, WriteError> {
    let act = act(label.duration.as_ref(), Some(&label.state))?;
    element(
        Root::Originator,
        &label.confidentiality,
        label.duration.as_ref(),
        created,
        originator,
        &act,
        policies,
    )
}

/// Beside a label of another policy, what it equals under the Dutch one (`alternativeConfidentialityLabel`; 4774.1 section 4.2, VIRBI 2025
/// article 2(3)): level and duration, without categories and without the legal act, which is the originator's. `None` for a Dutch label.
///
/// # Errors
/// As [`write()`].
pub fn write_alternative(
    label: &Label,
    created: Timestamp,
    originator: Option<&Name>,
    policies: &Policies,
) -> Result<Option<String>, WriteError> {
    let Some(equal) = label.confidentiality.alternative() else {
        return Ok(None);
    };
    element(
        Root::Alternative,
        &equal,
        label.duration.as_ref(),
        created,
        originator,
        &act(label.duration.as_ref(), None)?,
        policies,
    )
    .map(Some)
}

fn element(
    root: Root,
    c: &Confidentiality,
    duration: Option<&Duration>,
    created: Timestamp,
    originator: Option<&Name>,
    act: &str,
    policies: &Policies,
) -> Result<String, WriteError> {
    policies.check(c)?;
    let Some(policy) = policies.get(c.policy()) else {
        return Err(ordonnans_label::InvalidUnderPolicy::Policy(c.policy().clone()).into());
    };
    let root = root.element();
    let mut x = format!("<slab:{root} xmlns:slab=\"{NAMESPACE}\"");
    if let Some(Duration::Until(day)) = duration {
        let _ = write!(x, " ReviewDateTime=\"{day}T00:00:00Z\"");
    }
    let _ = write!(
        x,
        "><slab:ConfidentialityInformation><slab:PolicyIdentifier URI=\"urn:oid:{}\">{}</slab:PolicyIdentifier>\
         <slab:Classification>{}</slab:Classification>",
        policy.oid(),
        escaped(c.policy().as_str()),
        escaped(c.classification().name()),
    );
    for kind in CategoryType::ALL {
        for (set, values) in c.categories(kind) {
            if values.is_empty() && kind != CategoryType::Permissive {
                continue;
            }
            let name = escaped(set.as_str());
            let _ = write!(
                x,
                "<slab:Category TagName=\"{name}\" Type=\"{}\"",
                word(kind)
            );
            if let Some(oid) = policy
                .set(kind, set.as_str())
                .and_then(|s| s.oid.as_deref())
            {
                let _ = write!(x, " URI=\"urn:oid:{oid}\"");
            }
            x.push('>');
            for v in values {
                let v = escaped(v.as_str());
                let _ = write!(x, "<slab:GenericValue>{v}</slab:GenericValue>");
            }
            x.push_str("</slab:Category>");
        }
    }
    x.push_str("</slab:ConfidentialityInformation>");
    if let Some(by) = originator {
        let by = escaped(by.as_str());
        let _ = write!(
            x,
            "<slab:OriginatorID IDType=\"dNSName\">{by}</slab:OriginatorID>"
        );
    }
    let _ = write!(
        x,
        "<slab:CreationDateTime>{created}</slab:CreationDateTime>{act}</slab:{root}>"
    );
    if x.len() > MAX_XML_BYTES {
        return Err(WriteError::TooLong);
    }
    Ok(x)
}

/// How a type is written.
pub(super) fn word(kind: CategoryType) -> &'static str {
    match kind {
        CategoryType::Restrictive => "RESTRICTIVE",
        CategoryType::Permissive => "PERMISSIVE",
        CategoryType::Informative => "INFORMATIVE",
    }
}

/// The element of our own: who established the label, until which event it stands, and that it stands without end. Empty where there is
/// nothing to say.
fn act(duration: Option<&Duration>, state: Option<&State>) -> Result<String, WriteError> {
    if state.is_none() && matches!(duration, Some(Duration::Until(_))) {
        return Ok(String::new());
    }
    let mut x = format!("<ord:Act xmlns:ord=\"{NAMESPACE_OWN}\"");
    if let Some(State::Established { by }) = state {
        let _ = write!(x, " By=\"{}\"", escaped(by.as_str()));
    }
    match duration {
        Some(Duration::Until(_)) => {}
        Some(Duration::Event(event)) => {
            if !writable(event) {
                return Err(WriteError::Character("the event of the duration"));
            }
            let _ = write!(x, " Event=\"{}\"", escaped(event));
        }
        None => x.push_str(" Review=\"NONE\""),
    }
    match state {
        Some(State::Proposed) => x.push_str(" State=\"PROPOSED\""),
        Some(State::Established { .. }) => x.push_str(" State=\"ESTABLISHED\""),
        None => {}
    }
    x.push_str("/>");
    Ok(x)
}
