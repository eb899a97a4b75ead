//! Reading a binding.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ordonnans_label::{Policies, PolicyId};
use ordonnans_message::Digest;
use roxmltree::Node;

use super::{
    BOUNDS, Binding, Bound, InvalidBinding, MAX_BINDINGS, MAX_DATA_BYTES, MEDIA, NAMESPACE, Object,
    SHA256, SIGNATURE, is_file_name, is_media_type,
};
use crate::NAMESPACE_OWN;
use crate::label::{self, Root, XmlLabel, of_node};
use crate::xml::{between, elements, parse, short, stray, text_of};

/// Reads a binding of at most [`super::MAX_XML_BYTES`], with its labels under these policies. Metadata that is no label is passed over, and
/// elements of other namespaces where the schema allows them. Signatures are counted.
///
/// # Errors
/// [`InvalidBinding`] names the place. The binding goes back to whoever made it; nothing was taken from it.
pub fn read(bytes: &[u8], policies: &Policies) -> Result<Binding, InvalidBinding> {
    const PLACE: &str = "BindingInformation";
    let document = parse(bytes, BOUNDS)?;
    let root = document.root_element();
    if !root.has_tag_name((NAMESPACE, PLACE)) {
        return Err(InvalidBinding::Root(short(root.tag_name().name())));
    }
    let hint = "it has ds:Signature, then MetadataBindingContainer";
    let (mut signatures, mut bound, mut last) = (0, vec![], false);
    check(root, PLACE, &["Id"])?;
    for child in elements(root) {
        if child.has_tag_name((SIGNATURE, "Signature")) && bound.is_empty() && !last {
            signatures += 1;
        } else if child.has_tag_name((NAMESPACE, "MetadataBindingContainer")) && !last {
            container(child, policies, &mut bound)?;
        } else if other(child) && !bound.is_empty() {
            last = true;
        } else {
            return Err(element(PLACE, child, hint));
        }
    }
    if bound.is_empty() {
        return Err(InvalidBinding::Missing {
            place: PLACE,
            missing: "MetadataBindingContainer",
        });
    }
    Ok(Binding { bound, signatures })
}

fn element(place: &'static str, found: Node<'_, '_>, hint: &'static str) -> InvalidBinding {
    InvalidBinding::Element {
        place,
        found: short(found.tag_name().name()),
        hint,
    }
}

/// Whether an element is of another namespace than bindings, and of one at all.
fn other(node: Node<'_, '_>) -> bool {
    node.tag_name()
        .namespace()
        .is_some_and(|n| !n.is_empty() && n != NAMESPACE)
}

/// Attributes, and that an element holds elements only.
fn check(node: Node<'_, '_>, place: &'static str, known: &[&str]) -> Result<(), InvalidBinding> {
    if let Some(found) = stray(node, known) {
        return Err(InvalidBinding::Attribute {
            place,
            found: short(found),
        });
    }
    if between(node) {
        return Err(InvalidBinding::Text(place));
    }
    Ok(())
}

fn container(
    node: Node<'_, '_>,
    policies: &Policies,
    bound: &mut Vec<Bound>,
) -> Result<(), InvalidBinding> {
    const PLACE: &str = "MetadataBindingContainer";
    check(node, PLACE, &["Id"])?;
    let (first, mut last) = (bound.len(), false);
    for child in elements(node) {
        if child.has_tag_name((NAMESPACE, "MetadataBinding")) && !last {
            if bound.len() >= MAX_BINDINGS {
                return Err(InvalidBinding::TooMany);
            }
            bound.push(metadata_binding(child, policies)?);
            if bound.iter().map(|b| b.objects.len()).sum::<usize>() > MAX_BINDINGS {
                return Err(InvalidBinding::TooMany);
            }
        } else if other(child) && bound.len() > first {
            last = true;
            if child.tag_name().namespace() == Some(NAMESPACE_OWN) {
                digest(child, bound.get_mut(first..).unwrap_or_default())?;
            }
        } else {
            return Err(element(
                PLACE,
                child,
                "it has MetadataBinding, then elements of other namespaces",
            ));
        }
    }
    if bound.len() == first {
        return Err(InvalidBinding::Missing {
            place: PLACE,
            missing: "MetadataBinding",
        });
    }
    Ok(())
}

fn metadata_binding(node: Node<'_, '_>, policies: &Policies) -> Result<Bound, InvalidBinding> {
    const PLACE: &str = "MetadataBinding";
    check(node, PLACE, &["Id"])?;
    let missing = |missing| InvalidBinding::Missing {
        place: PLACE,
        missing,
    };
    let mut bound = Bound {
        labels: vec![],
        other: 0,
        objects: vec![],
    };
    for child in elements(node) {
        let name = child.tag_name();
        match (name.namespace() == Some(NAMESPACE), name.name()) {
            (true, "Metadata") if bound.objects.is_empty() => match metadata(child, policies)? {
                None => bound.other += 1,
                Some(label) if bound.labels.iter().any(|l| kind(l) == kind(&label)) => {
                    return Err(InvalidBinding::Two(PLACE));
                }
                Some(label) => bound.labels.push(label),
            },
            (true, "MetadataReference") => return Err(InvalidBinding::MetadataReference),
            (true, "Data") => bound.objects.push(data(child)?),
            (true, "DataReference") => bound.objects.push(reference(child)?),
            _ => {
                return Err(element(
                    PLACE,
                    child,
                    "it has Metadata, then Data or DataReference",
                ));
            }
        }
    }
    if bound.labels.is_empty() && bound.other == 0 {
        return Err(missing("Metadata"));
    }
    if bound.objects.is_empty() {
        return Err(missing("Data"));
    }
    Ok(bound)
}

/// What may stand once beside an object: one label of the originator, and of each other type one for each policy.
fn kind(l: &XmlLabel) -> (Root, Option<&PolicyId>) {
    match l.root {
        Root::Originator | Root::Plain => (Root::Originator, None),
        root => (root, Some(l.label.confidentiality.policy())),
    }
}

/// The one element in it.
fn only<'a, 'i>(node: Node<'a, 'i>, place: &'static str) -> Result<Node<'a, 'i>, InvalidBinding> {
    check(node, place, &["encoding"])?;
    let mut all = elements(node);
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(InvalidBinding::Missing {
            place,
            missing: "an element",
        }),
        _ => Err(InvalidBinding::Two(place)),
    }
}

fn metadata(node: Node<'_, '_>, policies: &Policies) -> Result<Option<XmlLabel>, InvalidBinding> {
    let one = only(node, "Metadata")?;
    // A root with the name of a label in another namespace is no other metadata, but a label gone wrong.
    if one.tag_name().namespace() != Some(label::NAMESPACE)
        && Root::of(one.tag_name().name()).is_none()
    {
        return Ok(None);
    }
    Ok(Some(of_node(one, policies)?))
}

fn media_type(node: Node<'_, '_>) -> Result<Option<String>, InvalidBinding> {
    match node.attribute((MEDIA, "contentType")) {
        None => Ok(None),
        Some(m) if is_media_type(m) => Ok(Some(m.to_owned())),
        Some(m) => Err(InvalidBinding::MediaType(short(m))),
    }
}

fn data(node: Node<'_, '_>) -> Result<Object, InvalidBinding> {
    let wrong = InvalidBinding::Octets;
    let one = only(node, "Data")?;
    if one.tag_name().namespace() != Some(NAMESPACE_OWN) {
        return Ok(Object::Element);
    }
    if one.tag_name().name() != "Octets" || stray(one, &["Name"]).is_some() {
        return Err(wrong("it is called Octets and has Name and contentType"));
    }
    let file_name = one
        .attribute("Name")
        .filter(|n| is_file_name(n))
        .ok_or(wrong(
            "Name is the name of a file without a folder, of at most 255 bytes",
        ))?;
    let media_type = media_type(one)?.ok_or(wrong("contentType is missing"))?;
    let text = text_of(one).ok_or(wrong("it holds base64 and no elements"))?;
    let base64: Vec<u8> = text
        .into_bytes()
        .into_iter()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let bytes = BASE64
        .decode(&base64)
        .map_err(|_| wrong("it holds no base64, with its padding"))?;
    if bytes.len() > MAX_DATA_BYTES {
        return Err(wrong("the file has more than 64 MiB"));
    }
    Ok(Object::Octets {
        file_name: file_name.into(),
        media_type,
        bytes,
    })
}

fn reference(node: Node<'_, '_>) -> Result<Object, InvalidBinding> {
    const PLACE: &str = "DataReference";
    check(node, PLACE, &["URI", "encoding"])?;
    let uri = node.attribute("URI").ok_or(InvalidBinding::Missing {
        place: PLACE,
        missing: "URI",
    })?;
    let mut part = false;
    for child in elements(node) {
        if part || !child.has_tag_name((SIGNATURE, "Transforms")) {
            return Err(element(PLACE, child, "it has ds:Transforms once"));
        }
        part = true;
    }
    Ok(Object::Reference {
        uri: uri.to_owned(),
        file_name: file_name(uri),
        media_type: media_type(node)?,
        digest: None,
        part,
    })
}

/// The file that a reference without scheme, folder, query and fragment names (RFC 3986 section 4.2).
fn file_name(uri: &str) -> Option<String> {
    if uri.contains([':', '/', '?', '#', '\\']) {
        return None;
    }
    let mut bytes = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let Some((b, more)) = rest.split_first() {
        rest = more;
        if *b != b'%' {
            bytes.push(*b);
            continue;
        }
        let [byte] = *HEXLOWER_PERMISSIVE.decode(rest.get(..2)?).ok()? else {
            return None;
        };
        bytes.push(byte);
        rest = rest.get(2..)?;
    }
    String::from_utf8(bytes).ok().filter(|n| is_file_name(n))
}

/// The digest of a reference that stands before it in the same container.
fn digest(node: Node<'_, '_>, bound: &mut [Bound]) -> Result<(), InvalidBinding> {
    let wrong = InvalidBinding::Digest;
    if node.tag_name().name() != "Digest" || stray(node, &["Algorithm", "URI"]).is_some() {
        return Err(wrong("it is called Digest and has Algorithm and URI"));
    }
    if node.attribute("Algorithm") != Some(SHA256) {
        return Err(wrong(
            "Algorithm is http://www.w3.org/2001/04/xmlenc#sha256",
        ));
    }
    let value: Digest = text_of(node)
        .and_then(|t| t.parse().ok())
        .ok_or(wrong("it holds 64 hexadecimal digits in lower case"))?;
    let wanted = node.attribute("URI").ok_or(wrong("URI is missing"))?;
    let mut found = false;
    for object in bound.iter_mut().flat_map(|b| &mut b.objects) {
        if let Object::Reference { uri, digest, .. } = object
            && uri == wanted
        {
            if digest.is_some() {
                return Err(wrong("a reference has two digests"));
            }
            *digest = Some(value);
            found = true;
        }
    }
    if found {
        Ok(())
    } else {
        Err(wrong("no DataReference has its URI"))
    }
}
