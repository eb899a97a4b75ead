//! Labels of STANAG 4774.

use ordonnans_label::{Label, Language, Policies};
use ordonnans_message::Timestamp;
use ordonnans_stanag::label::{NAMESPACE, read, write, write_alternative};

use crate::{Facts, Read, Source, facts, with};

/// Example A: released to countries.
pub(crate) const RELEASED: &str = r#"<slab:originatorConfidentialityLabel xmlns:slab="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0" ReviewDateTime="2030-01-01T00:00:00Z">
  <slab:ConfidentialityInformation>
    <slab:PolicyIdentifier URI="urn:oid:1.3.26.1.3.1">NATO</slab:PolicyIdentifier><slab:Classification>RESTRICTED</slab:Classification>
    <slab:Category TagName="Context" Type="PERMISSIVE"><slab:GenericValue>NATO</slab:GenericValue><slab:GenericValue>Releasable</slab:GenericValue></slab:Category>
    <slab:Category TagName="Releasable To" Type="PERMISSIVE"><slab:GenericValue>NATO</slab:GenericValue><slab:GenericValue>JPN</slab:GenericValue><slab:GenericValue>CHE</slab:GenericValue><slab:GenericValue>UKR</slab:GenericValue></slab:Category>
  </slab:ConfidentialityInformation><slab:CreationDateTime>2025-01-01T00:00:00Z</slab:CreationDateTime>
</slab:originatorConfidentialityLabel>"#;

/// Example B, with the attribute as the schema has it.
const OPERATIONS: &str = r#"<slab:originatorConfidentialityLabel xmlns:slab="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0" ReviewDateTime="2030-01-01T00:00:00Z">
  <slab:ConfidentialityInformation>
    <slab:PolicyIdentifier URI="urn:oid:1.3.26.1.3.1">NATO</slab:PolicyIdentifier><slab:Classification>UNCLASSIFIED</slab:Classification>
    <slab:Category TagName="Context" Type="PERMISSIVE" URI="urn:oid:1.3.26.1.4.4"><slab:GenericValue>NATO</slab:GenericValue><slab:GenericValue>Releasable</slab:GenericValue></slab:Category>
    <slab:Category TagName="Releasable To" Type="PERMISSIVE" URI="urn:oid:1.3.26.1.4.2"><slab:GenericValue>NATO</slab:GenericValue><slab:GenericValue>ISAF</slab:GenericValue><slab:GenericValue>KFOR</slab:GenericValue><slab:GenericValue>RESOLUTE SUPPORT</slab:GenericValue></slab:Category>
  </slab:ConfidentialityInformation><slab:CreationDateTime>2015-01-01T00:00:00Z</slab:CreationDateTime>
</slab:originatorConfidentialityLabel>"#;

/// Example C: a Dutch label in the long spelling, without the identifier.
const DUTCH: &str = r#"<slab:originatorConfidentialityLabel xmlns:slab="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0" ReviewDateTime="2035-01-01T00:00:00Z">
  <slab:ConfidentialityInformation>
    <slab:PolicyIdentifier>NL</slab:PolicyIdentifier><slab:Classification>Stg. GEHEIM</slab:Classification>
    <slab:Category TagName="Kring" Type="PERMISSIVE"><slab:GenericValue>NCC</slab:GenericValue><slab:GenericValue>DCC-DEF</slab:GenericValue></slab:Category>
    <slab:Category TagName="Compartiment" Type="RESTRICTIVE"><slab:GenericValue>CRYPTO</slab:GenericValue></slab:Category>
  </slab:ConfidentialityInformation><slab:CreationDateTime>2026-01-01T00:00:00Z</slab:CreationDateTime>
</slab:originatorConfidentialityLabel>"#;

/// A label with everything the schema has.
const FULL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- comments are passed over -->
<alternativeConfidentialityLabel xmlns="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0" xmlns:x="urn:example:more" Id="l1" x:more="1">
  <ConfidentialityInformation>
    <PolicyIdentifier>nato</PolicyIdentifier>
    <Classification>  top
      secret </Classification>
    <PrivacyMark>STAFF &amp; COMMAND</PrivacyMark>
    <Category Type="RESTRICTIVE" TagName="additional sensitivity"><GenericValue>ATOMAL</GenericValue></Category>
    <Category Type="RESTRICTIVE" TagName="Additional Sensitivity"><GenericValue><![CDATA[BOHEMIA]]></GenericValue></Category>
    <x:More/>
  </ConfidentialityInformation>
  <OriginatorID IDType="rfc822Name">author@example.org</OriginatorID>
  <CreationDateTime>2025-07-01T12:30:00.5+02:00</CreationDateTime>
  <SuccessionHandling>
    <SuccessionDateTime>2035-07-01T00:00:00Z</SuccessionDateTime>
    <SuccessorConfidentialityLabel>
      <ConfidentialityInformation><PolicyIdentifier>NATO</PolicyIdentifier><Classification>SECRET</Classification></ConfidentialityInformation>
      <CreationDateTime>2025-07-01T10:30:00Z</CreationDateTime>
    </SuccessorConfidentialityLabel>
  </SuccessionHandling>
  <x:More><x:Deeper/></x:More>
</alternativeConfidentialityLabel>"#;

/// Texts of labels that are written here.
const WRITTEN: &[&str] = &[
    "Ongerubriceerd // MERKING PERSOONSGEGEVENS",
    "Dep.V // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example",
    "Stg.C // TOT GEBEURTENIS \"einde van <de> oefening & 'nazorg'\" // VASTGESTELD jansen.person.crisis.example",
    "Stg.G // KRING ICCB, NAFIN // COMPARTIMENT CRYPTO, CYBER // MERKING EYES ONLY // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example",
    "Stg.ZG // KRING NIEMAND // TOT 2036-12-31",
    "COSMIC TOP SECRET // ONLY NLD // ADDITIONAL SENSITIVITY ATOMAL",
    "SECRET UE/EU SECRET // RELEASABLE TO UKR // TOT 2036-01-01",
];

pub(crate) fn meaning(xml: &ordonnans_stanag::label::XmlLabel) -> Facts {
    let c = &xml.label.confidentiality;
    let mut all = facts([
        ("element", xml.root.element().to_owned()),
        ("label", xml.label.to_string()),
        ("marking", Policies::built_in().marking(c, Language::En)),
        ("equal", c.level().to_string()),
        ("created", xml.created.to_string()),
        ("foreign", xml.foreign.to_string()),
    ]);
    let more = [
        ("id", xml.id.clone()),
        ("privacy mark", xml.privacy_mark.clone()),
        (
            "originator",
            xml.originator
                .as_ref()
                .map(|o| format!("{} {}", o.kind, o.id)),
        ),
        (
            "succession",
            xml.succession.as_ref().map(|s| {
                let marking = Policies::built_in().marking(&s.successor, Language::En);
                format!("{} {marking}", s.at)
            }),
        ),
    ];
    for (name, fact) in more {
        if let Some(fact) = fact {
            all.insert(name.into(), fact);
        }
    }
    all
}

fn read_label(xml: &[u8]) -> Read {
    read(xml, Policies::built_in())
        .map(|l| meaning(&l))
        .map_err(|e| e.name())
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(crate) fn made() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().expect("a time")
}

fn own() -> Vec<(String, String)> {
    let by = "ncc.node.crisis.example".parse().expect("a name");
    let mut all = vec![];
    for text in WRITTEN {
        let label = label(text);
        let xml = write(&label, made(), Some(&by), Policies::built_in()).expect(text);
        all.push(((*text).to_owned(), xml));
        let beside = write_alternative(&label, made(), None, Policies::built_in()).expect(text);
        all.extend(beside.map(|xml| (format!("beside {text}"), xml)));
    }
    all
}

pub(crate) fn source() -> Source {
    let mut good = vec![
        ("example A".to_owned(), RELEASED.to_owned()),
        ("example B".to_owned(), OPERATIONS.to_owned()),
        ("example C".to_owned(), DUTCH.to_owned()),
        (
            "everything that a label may have".to_owned(),
            FULL.to_owned(),
        ),
        (
            "of before version 1".to_owned(),
            RELEASED.replace("originatorConfidentialityLabel", "ConfidentialityLabel"),
        ),
        (
            "of metadata".to_owned(),
            RELEASED.replace(
                "originatorConfidentialityLabel",
                "metadataConfidentialityLabel",
            ),
        ),
    ];
    good.extend(own());
    Source {
        what: "label",
        read: read_label,
        good,
        bad: bad(),
        errors: ERRORS,
    }
}

const ERRORS: &[&str] = &[
    "encoding",
    "document-type",
    "too-many-tags",
    "too-many-equals",
    "too-many-attributes",
    "attribute-too-long",
    "text-too-long",
    "too-deep",
    "malformed",
    "namespace",
    "root",
    "element",
    "order",
    "two-labels",
    "attribute",
    "classification-uri",
    "missing",
    "no-creation",
    "no-review",
    "text",
    "not-text",
    "time",
    "policy-uri",
    "unknown-policy",
    "policy-disagrees",
    "level",
    "category-type",
    "tag-set",
    "tag-set-uri",
    "value-form",
    "value",
    "no-value",
    "id-type",
    "act",
];

fn bad() -> Vec<(&'static str, String)> {
    const CREATED: &str = "<slab:CreationDateTime>2025-01-01T00:00:00Z</slab:CreationDateTime>";
    const CONTEXT: &str = r#"<slab:Category TagName="Context" Type="PERMISSIVE">"#;
    let a = |old: &str, new: &str| with(RELEASED, old, new);
    let all = |old: &str, new: &str| RELEASED.replace(old, new);
    let beside = |more: &str| a(CREATED, &format!("{CREATED}{more}"));
    let act = |attributes: &str| {
        beside(&format!(
            "<o:Act xmlns:o=\"urn:ordonnans:stanag:1\" {attributes}/>"
        ))
    };
    let unreviewed = |act: &str| {
        with(
            &beside(&format!(
                "<o:Act xmlns:o=\"urn:ordonnans:stanag:1\" {act}/>"
            )),
            " ReviewDateTime=\"2030-01-01T00:00:00Z\"",
            "",
        )
    };
    let set = |values: &str| {
        with(
            DUTCH,
            "<slab:GenericValue>CRYPTO</slab:GenericValue>",
            values,
        )
    };
    vec![
        ("nothing", String::new()),
        ("cut", RELEASED[..RELEASED.len() - 9].to_owned()),
        ("two documents", format!("{RELEASED}{RELEASED}")),
        ("an unknown entity", a(">NATO<", ">&nato;<")),
        (
            "a prefix without a namespace",
            a("xmlns:slab", "xmlns:slob"),
        ),
        (
            "an attribute twice",
            a(
                "Type=\"PERMISSIVE\"",
                "Type=\"PERMISSIVE\" Type=\"PERMISSIVE\"",
            ),
        ),
        (
            "another encoding",
            format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{RELEASED}"),
        ),
        (
            "an entity",
            format!(
                "<!DOCTYPE l [<!ENTITY a \"NATO\">]>{}",
                a(">NATO<", ">&a;<")
            ),
        ),
        (
            "entities of entities",
            format!(
                "<!DOCTYPE l [<!ENTITY a \"NATO\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]>{}",
                a(">NATO<", ">&c;<")
            ),
        ),
        (
            "an entity of a file",
            format!(
                "<!DOCTYPE l [<!ENTITY a SYSTEM \"file:///etc/hostname\">]>{}",
                a(">NATO<", ">&a;<")
            ),
        ),
        ("many comments", a(CREATED, &"<!---->".repeat(2048))),
        (
            "many equals signs",
            a(CREATED, &format!("<!--{}-->", "=".repeat(8193))),
        ),
        (
            "seventeen attributes",
            a(
                "<slab:Classification",
                &format!(
                    "<slab:Classification{}",
                    (0..17).map(|i| format!(" a{i}=\"\"")).collect::<String>()
                ),
            ),
        ),
        (
            "a long attribute",
            a(
                "TagName=\"Context\"",
                &format!("TagName=\"{}\"", "C".repeat(2049)),
            ),
        ),
        ("long text", a("RESTRICTED", &"R".repeat(4097))),
        (
            "seventeen deep",
            beside(&format!(
                "{}{}",
                "<x:e xmlns:x=\"urn:x\">".repeat(16),
                "</x:e>".repeat(16)
            )),
        ),
        ("another version's namespace", all("label:1:0", "label:1:1")),
        (
            "no namespace",
            with(
                &all("slab:", ""),
                &format!(" xmlns:slab=\"{NAMESPACE}\""),
                "",
            )
            .replace("xmlns:", ""),
        ),
        (
            "the namespace of bindings",
            all(
                "urn:nato:stanag:4774:confidentialitymetadatalabel:1:0",
                "urn:nato:stanag:4778:bindinginformation:1:0",
            ),
        ),
        (
            "the wrong name of an alternative label",
            all(
                "originatorConfidentialityLabel",
                "alternateConfidentialityLabel",
            ),
        ),
        (
            "a capital at the start",
            all(
                "originatorConfidentialityLabel",
                "OriginatorConfidentialityLabel",
            ),
        ),
        (
            "the wrong name of the time",
            all("CreationDateTime", "CreationDataTime"),
        ),
        (
            "an element without a namespace",
            beside("<Note xmlns=\"\">x</Note>"),
        ),
        (
            "no review",
            a(" ReviewDateTime=\"2030-01-01T00:00:00Z\"", ""),
        ),
        ("no time of creation", a(CREATED, "")),
        ("two times of creation", beside(CREATED)),
        (
            "the originator after the time",
            beside(
                "<slab:OriginatorID IDType=\"dNSName\">ncc.node.crisis.example</slab:OriginatorID>",
            ),
        ),
        (
            "an element of another namespace before those of the standard",
            a(CREATED, &format!("<x:More xmlns:x=\"urn:x\"/>{CREATED}")),
        ),
        ("two labels in one element", beside(RELEASED)),
        ("the wrong attribute URL", a("URI=", "URL=")),
        (
            "an attribute in the namespace of the label",
            a("URI=", "slab:URI="),
        ),
        (
            "an attribute of the label that is none",
            a("ReviewDateTime=", "ReviewDate="),
        ),
        (
            "an identifier of the level",
            a(
                "<slab:Classification>",
                "<slab:Classification URI=\"urn:oid:1.3\">",
            ),
        ),
        (
            "no policy",
            a(
                "<slab:PolicyIdentifier URI=\"urn:oid:1.3.26.1.3.1\">NATO</slab:PolicyIdentifier>",
                "",
            ),
        ),
        (
            "no level",
            a("<slab:Classification>RESTRICTED</slab:Classification>", ""),
        ),
        ("an empty level", a("RESTRICTED", "  ")),
        (
            "no information",
            a(
                &RELEASED[RELEASED.find("<slab:Conf").expect("there")
                    ..RELEASED.find("<slab:Creation").expect("there")],
                "",
            ),
        ),
        (
            "text between elements",
            a(CREATED, &format!("NATO SECRET{CREATED}")),
        ),
        (
            "an element in the level",
            a(
                "RESTRICTED",
                "<slab:GenericValue>RESTRICTED</slab:GenericValue>",
            ),
        ),
        (
            "a day without a time",
            a("2030-01-01T00:00:00Z", "2030-01-01"),
        ),
        (
            "a time without a zone",
            a("2025-01-01T00:00:00Z", "2025-01-01T00:00:00"),
        ),
        ("a day that is none", a("2030-01-01T", "2030-02-30T")),
        (
            "an identifier that is none",
            a("urn:oid:1.3.26.1.3.1", "1.3.26.1.3.1"),
        ),
        (
            "an identifier as an address",
            a("urn:oid:1.3.26.1.3.1", "http://example.org/nato"),
        ),
        (
            "a policy that nobody knows",
            a(
                "<slab:PolicyIdentifier URI=\"urn:oid:1.3.26.1.3.1\">NATO<",
                "<slab:PolicyIdentifier>ACME<",
            ),
        ),
        (
            "the identifier of another policy",
            a("1.3.26.1.3.1", "2.25.1"),
        ),
        (
            "the name of another policy",
            a(">NATO</slab:Pol", ">EU</slab:Pol"),
        ),
        (
            "the name of the policy in the level",
            a("RESTRICTED", "NATO RESTRICTED"),
        ),
        (
            "a Dutch level under another policy",
            a("RESTRICTED", "Dep.V"),
        ),
        ("a type in lower case", a("PERMISSIVE", "permissive")),
        ("no type", a(" Type=\"PERMISSIVE\"", "")),
        ("no name of the set", a("TagName=\"Context\" ", "")),
        ("a set that nobody knows", a("\"Context\"", "\"Contexts\"")),
        (
            "a set of another type",
            a("Type=\"PERMISSIVE\"", "Type=\"RESTRICTIVE\""),
        ),
        (
            "the identifier of another set",
            with(OPERATIONS, "1.3.26.1.4.4", "1.3.26.1.4.2"),
        ),
        (
            "a value as a number",
            set("<slab:IntegerValue>4</slab:IntegerValue>"),
        ),
        (
            "a value as bits",
            set("<slab:BitStringValue>0101</slab:BitStringValue>"),
        ),
        (
            "a value in another element",
            set("<slab:Value>CRYPTO</slab:Value>"),
        ),
        ("an empty value", set("<slab:GenericValue/>")),
        (
            "a value with a comma",
            set("<slab:GenericValue>CRYPTO, CYBER</slab:GenericValue>"),
        ),
        ("a value as text", set("CRYPTO")),
        (
            "33 values",
            set(&(0..33)
                .map(|i| format!("<slab:GenericValue>V{i}</slab:GenericValue>"))
                .collect::<String>()),
        ),
        ("a restrictive category without a value", set("")),
        (
            "somebody and nobody",
            a(CONTEXT, &format!("{CONTEXT}</slab:Category>{CONTEXT}")),
        ),
        (
            "an originator of no type",
            a(
                CREATED,
                &format!("<slab:OriginatorID>ncc</slab:OriginatorID>{CREATED}"),
            ),
        ),
        (
            "an originator of an unknown type",
            a(
                CREATED,
                &format!("<slab:OriginatorID IDType=\"name\">ncc</slab:OriginatorID>{CREATED}"),
            ),
        ),
        (
            "a successor within a successor",
            with(
                FULL,
                "</SuccessorConfidentialityLabel>",
                "<SuccessionHandling/></SuccessorConfidentialityLabel>",
            ),
        ),
        (
            "succession without a time",
            with(
                FULL,
                "<SuccessionDateTime>2035-07-01T00:00:00Z</SuccessionDateTime>",
                "",
            ),
        ),
        ("established by nobody", act("State=\"ESTABLISHED\"")),
        (
            "established by a node",
            act("By=\"ncc.node.crisis.example\" State=\"ESTABLISHED\""),
        ),
        (
            "proposed by a person",
            act("By=\"jansen.person.crisis.example\" State=\"PROPOSED\""),
        ),
        (
            "a day and an event",
            act("Event=\"einde\" State=\"PROPOSED\""),
        ),
        ("a day and no review", act("Review=\"NONE\"")),
        ("an event with a separator", unreviewed("Event=\"a // b\"")),
        (
            "an event and no review",
            unreviewed("Event=\"einde\" Review=\"NONE\""),
        ),
        (
            "an attribute of the act that is none",
            act("Until=\"2030-01-01\""),
        ),
        (
            "the act twice",
            beside(&"<o:Act xmlns:o=\"urn:ordonnans:stanag:1\"/>".repeat(2)),
        ),
    ]
}

#[test]
fn what_is_read_is_written_and_read_back() {
    for (name, xml) in source().good {
        let first = read(xml.as_bytes(), Policies::built_in()).expect(&name);
        let again = write(&first.label, first.created, None, Policies::built_in()).expect(&name);
        let second = read(again.as_bytes(), Policies::built_in()).expect(&name);
        assert_eq!(first.label, second.label, "{name}");
        assert_eq!(first.created, second.created, "{name}");
    }
}
