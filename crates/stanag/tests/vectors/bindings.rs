//! Bindings of STANAG 4778.

use ordonnans_label::Policies;
use ordonnans_message::sha256;
use ordonnans_stanag::binding::{Object, Subject, detached, encapsulating, read};

use crate::labels::{RELEASED, label, made, meaning};
use crate::{Read, Source, facts, with};

const REPORT: &[u8] = b"%PDF-1.7 an example\n";

fn read_binding(xml: &[u8]) -> Read {
    let binding = read(xml, Policies::built_in()).map_err(|e| e.name())?;
    let mut all = facts([
        ("signatures", binding.signatures.to_string()),
        ("one", binding.one().is_ok().to_string()),
    ]);
    for (i, bound) in binding.bound.iter().enumerate() {
        for l in &bound.labels {
            let facts = meaning(l);
            let key = format!("{i} {}", facts["element"]);
            all.insert(key, facts["label"].clone());
        }
        all.insert(format!("{i} other"), bound.other.to_string());
        for (j, object) in bound.objects.iter().enumerate() {
            let fact = match object {
                Object::Reference {
                    uri,
                    file_name,
                    media_type,
                    digest,
                    part,
                } => format!(
                    "<{uri}> file {file_name:?} type {media_type:?} sha256 {digest:?} part {part}"
                ),
                Object::Octets {
                    file_name,
                    media_type,
                    bytes,
                } => format!("{file_name}, {media_type}, {}", sha256(&[bytes])),
                Object::Element => "an element".to_owned(),
            };
            all.insert(format!("{i} object {j}"), fact);
        }
    }
    Ok(all)
}

/// A binding of example A, as another system may write it.
fn theirs(data: &str) -> String {
    format!(
        "<mb:BindingInformation xmlns:mb=\"urn:nato:stanag:4778:bindinginformation:1:0\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
         xmlns:xmime=\"http://www.w3.org/2005/05/xmlmime\">\n  <mb:MetadataBindingContainer Id=\"c1\">\n    <mb:MetadataBinding Id=\"b1\">\n\
         <mb:Metadata xmime:contentType=\"text/xml; charset=utf-8\">{RELEASED}</mb:Metadata>\n{data}\n    </mb:MetadataBinding>\n  \
         </mb:MetadataBindingContainer>\n</mb:BindingInformation>"
    )
}

fn own(label_text: &str, name: &str, inside: bool) -> String {
    let label = label(label_text);
    let by = "ncc.node.crisis.example".parse().expect("a name");
    let subject = Subject {
        label: &label,
        created: made(),
        originator: Some(&by),
        file_name: name,
        media_type: "application/pdf",
    };
    let policies = Policies::built_in();
    if inside {
        encapsulating(&subject, REPORT, policies)
    } else {
        detached(&subject, &sha256(&[REPORT]), policies)
    }
    .expect("written")
}

const REFERENCE: &str = "<mb:DataReference URI=\"rapport.pdf\"/>";

pub(crate) fn source() -> Source {
    let dutch = "Stg.C // KRING ICCB // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example";
    let nato = "NATO SECRET // ONLY NLD // TOT 2036-01-01";
    let good = [
        ("beside a file", own(dutch, "rapport 7 (é).pdf", false)),
        (
            "beside a file, with an alternative label",
            own(nato, "rapport.pdf", false),
        ),
        ("around a file", own(dutch, "rapport \"7\" <é>.pdf", true)),
        (
            "around a file, with an alternative label",
            own(nato, "rapport.pdf", true),
        ),
        ("another system's, beside a file", theirs(REFERENCE)),
        (
            "another system's, of a web page",
            theirs(
                "<mb:DataReference URI=\"https://example.org/a.pdf\" xmime:contentType=\"application/pdf\"/>",
            ),
        ),
        (
            "another system's, in the document itself",
            theirs("<mb:DataReference URI=\"#chap2\"/>"),
        ),
        (
            "another system's, of a part",
            theirs("<mb:DataReference URI=\"a.xml\"><ds:Transforms/></mb:DataReference>"),
        ),
        (
            "another system's, around XML",
            theirs("<mb:Data><order xmlns=\"urn:example\">march</order></mb:Data>"),
        ),
        (
            "another system's, signed",
            with(
                &theirs(REFERENCE),
                "<mb:MetadataBindingContainer",
                "<ds:Signature><ds:SignedInfo/></ds:Signature><mb:MetadataBindingContainer",
            ),
        ),
        (
            "another system's, of two files with other metadata",
            with(
                &theirs("<mb:DataReference URI=\"a.pdf\"/><mb:DataReference URI=\"b.pdf\"/>"),
                "<mb:Metadata ",
                "<mb:Metadata><dc:title xmlns:dc=\"http://purl.org/dc/elements/1.1/\">x</dc:title></mb:Metadata><mb:Metadata ",
            ),
        ),
        (
            "a path out of the folder is no file",
            theirs("<mb:DataReference URI=\"../a.pdf\"/>"),
        ),
        (
            "an escaped path is no file",
            theirs("<mb:DataReference URI=\"..%2Fa.pdf\"/>"),
        ),
    ];
    Source {
        what: "binding",
        read: read_binding,
        good: good.map(|(n, x)| (n.to_owned(), x)).into(),
        bad: bad(
            &own(dutch, "rapport.pdf", false),
            &own(dutch, "rapport.pdf", true),
        ),
        errors: &[
            "document-type",
            "malformed",
            "attribute-too-long",
            "too-deep",
            "root",
            "element",
            "attribute",
            "missing",
            "text",
            "two",
            "metadata-reference",
            "too-many-bindings",
            "digest",
            "octets",
            "media-type",
            // Of the label in it.
            "namespace",
            "no-review",
            "two-labels",
        ],
    }
}

fn bad(beside: &str, around: &str) -> Vec<(&'static str, String)> {
    let t = theirs(REFERENCE);
    let reference = "<mb:DataReference URI=\"rapport.pdf\"/>";
    let both = format!("{RELEASED}{RELEASED}");
    let one = format!("<mb:Metadata>{RELEASED}</mb:Metadata>");
    let piece = |from: &str, to: &str| {
        let start = t.find(from).expect("there");
        let end = t.find(to).expect("there") + to.len();
        t[start..end].to_owned()
    };
    let binding = piece("<mb:MetadataBinding Id", "</mb:MetadataBinding>");
    let container = piece(
        "<mb:MetadataBindingContainer",
        "</mb:MetadataBindingContainer>",
    );
    let metadata = piece("<mb:Metadata ", "</mb:Metadata>");
    let hex = sha256(&[REPORT]).to_string();
    vec![
        ("cut", t[..t.len() - 3].to_owned()),
        (
            "an entity around a file",
            format!("<!DOCTYPE l [<!ENTITY a \"b\">]>{t}"),
        ),
        ("a long address", with(&t, "rapport.pdf", &"a".repeat(4097))),
        (
            "deep data",
            theirs(&format!(
                "<mb:Data>{}{}</mb:Data>",
                "<a>".repeat(32),
                "</a>".repeat(32)
            )),
        ),
        ("a label alone", RELEASED.to_owned()),
        (
            "another version's namespace of bindings",
            t.replace("bindinginformation:1:0", "bindinginformation:2:0"),
        ),
        (
            "the container as the root",
            with(
                &container,
                "<mb:MetadataBindingContainer",
                "<mb:MetadataBindingContainer xmlns:mb=\"urn:nato:stanag:4778:bindinginformation:1:0\" xmlns:xmime=\"http://www.w3.org/2005/05/xmlmime\"",
            ),
        ),
        ("no container", with(&t, &container, "")),
        ("no binding", with(&t, &binding, "")),
        ("no metadata", with(&t, &metadata, "")),
        ("no data", with(&t, reference, "")),
        ("empty metadata", with(&t, RELEASED, "")),
        (
            "data before metadata",
            with(
                &with(&t, reference, ""),
                "<mb:Metadata ",
                &format!("{reference}<mb:Metadata "),
            ),
        ),
        (
            "a signature after the container",
            with(
                &t,
                "</mb:BindingInformation>",
                "<ds:Signature/></mb:BindingInformation><!---->",
            )
            .replace("<ds:Signature/>", "<mb:Signature/>"),
        ),
        (
            "an element without a namespace in the container",
            with(
                &t,
                "</mb:MetadataBindingContainer>",
                "<x/></mb:MetadataBindingContainer>",
            ),
        ),
        (
            "an identifier in the namespace of bindings",
            with(&t, " Id=\"b1\"", " mb:Id=\"b1\""),
        ),
        (
            "an address in the namespace of bindings",
            with(&t, "URI=\"rapport.pdf\"", "mb:URI=\"rapport.pdf\""),
        ),
        ("no address", with(&t, " URI=\"rapport.pdf\"", "")),
        (
            "text beside the label",
            with(&t, RELEASED, &format!("NATO SECRET{RELEASED}")),
        ),
        (
            "two labels in one piece of metadata",
            with(&t, RELEASED, &both),
        ),
        (
            "two labels of the originator",
            with(&t, reference, &format!("{one}{reference}")),
        ),
        (
            "two alternative labels of one policy",
            with(
                &t,
                reference,
                &format!(
                    "{0}{0}{reference}",
                    one.replace("originator", "alternative")
                ),
            ),
        ),
        (
            "a label elsewhere",
            with(
                &t,
                reference,
                &format!("<mb:MetadataReference URI=\"label.xml\"/>{reference}"),
            ),
        ),
        (
            "65 bindings",
            with(
                &with(&t, RELEASED, "<a xmlns=\"urn:x\"/>"),
                &with(&binding, RELEASED, "<a xmlns=\"urn:x\"/>"),
                &with(&binding, RELEASED, "<a xmlns=\"urn:x\"/>")
                    .replace(" Id=\"b1\"", "")
                    .repeat(65),
            ),
        ),
        (
            "no type of a file",
            theirs("<mb:DataReference URI=\"a\" xmime:contentType=\"pdf\"/>"),
        ),
        (
            "a digest of SHA-1",
            with(
                beside,
                "http://www.w3.org/2001/04/xmlenc#sha256",
                "http://www.w3.org/2000/09/xmldsig#sha1",
            ),
        ),
        ("a short digest", with(beside, &hex, &hex[..40])),
        (
            "a digest of nothing that is bound",
            with(
                beside,
                "sha256\" URI=\"rapport.pdf\"",
                "sha256\" URI=\"rapport2.pdf\"",
            ),
        ),
        ("a digest twice", {
            let from = beside.find("<ord:Digest").expect("there");
            let to = beside.find("</ord:Digest>").expect("there") + "</ord:Digest>".len();
            with(beside, &beside[from..to], &beside[from..to].repeat(2))
        }),
        ("no base64", with(around, "JVBERi0x", "JVBERi0_")),
        (
            "base64 without its padding",
            with(around, "=</ord:Octets>", "</ord:Octets>"),
        ),
        (
            "a file with a path",
            with(around, "Name=\"rapport.pdf\"", "Name=\"../rapport.pdf\""),
        ),
        (
            "a file without a type",
            with(around, " xmime:contentType=\"application/pdf\"", ""),
        ),
        (
            "a file without a name",
            with(around, " Name=\"rapport.pdf\"", ""),
        ),
        (
            "a file in an unknown element",
            around.replace("ord:Octets", "ord:Bytes"),
        ),
        (
            "a label in another namespace",
            with(
                &t,
                "confidentialitymetadatalabel:1:0",
                "confidentialitymetadatalabel:2:0",
            ),
        ),
        (
            "a label without a review",
            with(&t, " ReviewDateTime=\"2030-01-01T00:00:00Z\"", ""),
        ),
        (
            "a label in a label",
            with(
                &t,
                "</slab:originatorConfidentialityLabel>",
                &format!("{RELEASED}</slab:originatorConfidentialityLabel>"),
            ),
        ),
    ]
}
