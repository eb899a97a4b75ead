use super::*;
use ordonnans_label::Level;

/// Two nodes of the Rijksdienst, one outside it, one of a partner nation; persons at three.
pub(crate) const GOOD: &str = r#"
    version = 3
    structure = "crisis.example"
    circle = [{ name = "ICCB", title = "Commissie" }, { name = "MCCB", title = "Commissie" }]
    officer = [{ name = "bva", clearance = "Stg.ZG" }]
    [[node]]
    name = "ncc"
    title = "Nationaal Crisiscentrum"
    clearance = "Stg.ZG"
    also = ["NATO SECRET // CONTEXT NATO"]
    circles = ["ICCB"]
    compartments = ["CYBER"]
    rijksdienst = true
    link = { up_to = "Stg.ZG", decision = "NCC-1", until = "2030-12-31", stg_zg = "Z-1" }
    accredited_until = "2030-12-31"
    standing = "active"
    bva = "bva@ncc.example"
    [[node]]
    name = "locc"
    title = "LOCC"
    clearance = "Stg.ZG"
    also = ["NATO SECRET // CONTEXT NATO"]
    circles = [{ name = "MCCB", since = "2026-11-01", until = "2026-12-01T12:00:00Z" }]
    rijksdienst = true
    link = { up_to = "Stg.ZG", decision = "LOCC-1", until = "2030-12-31", stg_zg = "Z-2" }
    accredited_until = "2030-12-31"
    accreditation = "SG-7"
    standing = "active"
    [[node]]
    name = "vrz"
    title = "Veiligheidsregio Zeeland"
    clearance = "Stg.C"
    rijksdienst = false
    assurance = { up_to = "Dep.V", decision = "SG-8", until = "2030-12-31" }
    link = { up_to = "Stg.C", decision = "VRZ-1", until = "2030-12-31" }
    accredited_until = "2030-12-31"
    standing = "active"
    [[node]]
    name = "shape"
    title = "SHAPE"
    clearance = "Ongerubriceerd"
    also = ["NATO SECRET // CONTEXT NATO"]
    rijksdienst = false
    assurance = { up_to = "Stg.G", decision = "NATO-1", until = "2030-12-31" }
    link = { up_to = "Stg.G", decision = "NATO-2", until = "2030-12-31" }
    accredited_until = "2030-12-31"
    standing = "active"
    speaks_for = ["NATO"]
    [[person]]
    name = "vermeer"
    node = "ncc"
    clearance = "Stg.ZG"
    circles = ["ICCB"]
    compartments = ["CYBER"]
    mandate = { up_to = "Stg.ZG", decision = "SG-9", until = "2030-12-31" }
    [[person]]
    name = "bos"
    node = "locc"
    clearance = "Stg.G"
    also = ["NATO CONFIDENTIAL // CONTEXT NATO"]
    circles = [{ name = "MCCB", since = "2026-11-10" }]
    [[person]]
    name = "smit"
    node = "locc"
    clearance = "Stg.ZG"
    mandate = { up_to = "Stg.C", decision = "SG-10", until = "2030-12-31", nodes = ["ncc", "locc"] }
    succeeds = ["jansen"]
    [[event]]
    name = "einde"
    title = "Einde van de crisis"
    declared_by = ["vermeer", "bos"]
    [[role]]
    name = "officier-van-dienst"
    title = "Officier van dienst"
    held_by = ["smit", "bos"]
    [[consent]]
    policy = "NATO"
    up_to = "CONFIDENTIAL"
    to = ["locc"]
    decision = "NATO-3"
    until = "2030-12-31"
"#;

#[test]
fn the_document_s_example_is_a_register() {
    let page = include_str!("../../../../docs/policy.md");
    let example = page
        .split("```toml")
        .nth(1)
        .and_then(|t| t.split("```").next());
    let r = Register::parse(example.expect("an example")).expect("valid");
    assert_eq!((r.version(), r.nodes().count()), (3, 3));
}

fn name(s: &str) -> Name {
    s.parse().expect("a name")
}

fn at(t: &str) -> Timestamp {
    t.parse().expect("a time")
}

#[test]
fn reads_what_it_says() {
    let r = Register::parse(GOOD).expect("valid");
    assert_eq!(
        (
            r.version(),
            r.structure(),
            r.nodes().count(),
            r.circles().count()
        ),
        (3, "crisis.example", 4, 2)
    );
    let person = r
        .person(&name("smit.person.crisis.example"))
        .expect("there");
    let mandate = person.mandate.as_ref().expect("mandated");
    assert_eq!((mandate.grant.up_to, mandate.nodes.len()), (Level::StgC, 2));
    let own = r
        .person(&name("vermeer.person.crisis.example"))
        .expect("there");
    let own = own.mandate.as_ref().expect("mandated");
    assert!(own.nodes.contains(&name("ncc.node.crisis.example")) && own.nodes.len() == 1);
    let ncc = r.node(&name("ncc.node.crisis.example")).expect("there");
    assert_eq!(
        ncc.clearances
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [
            "NATO SECRET // CONTEXT NATO",
            "Stg.ZG // COMPARTIMENT CYBER // KRING ICCB"
        ]
    );
    assert!(r.officer(&name("bva.officer.crisis.example")).is_some());
}

#[test]
fn the_last_day_of_an_accreditation_counts() {
    let r = Register::parse(GOOD).expect("valid");
    let n = r.nodes().next().expect("a node");
    assert!(n.in_good_standing(at("2030-12-31T23:59:59Z")));
    assert!(!n.in_good_standing(at("2031-01-01T00:00:00Z")));
    let link = n.link.as_ref().expect("a link");
    assert!(link.grant.reaches(Level::StgZg, at("2030-12-31T23:59:59Z")));
    assert!(!link.grant.reaches(Level::StgZg, at("2031-01-01T00:00:00Z")));
}

#[test]
fn a_membership_has_its_times() {
    let r = Register::parse(GOOD).expect("valid");
    let n = r.node(&name("locc.node.crisis.example")).expect("there");
    let span = n
        .memberships
        .get(&"MCCB".parse().expect("valid"))
        .expect("a member");
    for (t, inside) in [
        ("2026-10-31T23:59:59Z", false),
        ("2026-11-01T00:00:00Z", true),
        ("2026-12-01T11:59:59Z", true),
        ("2026-12-01T12:00:00Z", false),
    ] {
        assert_eq!(span.contains(at(t)), inside, "{t}");
    }
    assert!(Span::default().contains(Timestamp::default()));
}

/// The file `docs/vectors/register.json`: the good register above, and what is wrong with others.
#[derive(serde::Serialize, serde::Deserialize)]
struct Vectors {
    rule: String,
    note: String,
    good: String,
    bad: Vec<Bad>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Bad {
    from: String,
    to: String,
    error: String,
}

#[test]
fn each_inconsistency_is_named() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/vectors/register.json"
    );
    let text = std::fs::read_to_string(path).expect("the file");
    let mut all: Vectors = serde_json::from_str(&text).expect("vectors");
    let write = std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some();
    if write {
        all.good = GOOD.into();
    }
    assert_eq!(all.good, GOOD);
    for case in &mut all.bad {
        assert!(GOOD.contains(&case.from), "{}", case.from);
        let e = Register::parse(&GOOD.replacen(&case.from, &case.to, 1))
            .expect_err(&case.to)
            .to_string();
        if write {
            case.error = e;
        } else {
            assert_eq!(e, case.error, "{}", case.to);
        }
    }
    if write {
        let text = serde_json::to_string_pretty(&all).expect("JSON") + "\n";
        std::fs::write(path, text).expect("written");
    }
}

#[test]
fn a_change_says_whether_it_widens() {
    let old = Register::parse(GOOD).expect("valid");
    assert_eq!(old.changes(&old), []);
    let text = GOOD.replace("[\"vermeer\", \"bos\"]", "[\"vermeer\"]");
    let fewer = old.changes(&Register::parse(&text).expect("valid"));
    assert_eq!(fewer.len(), 1);
    assert!(
        !fewer[0].widens
            && fewer[0]
                .to_string()
                .contains("event einde: declared by others")
    );
    for (from, to, says, widens) in [
        ("version = 3", "version = 4", "", false),
        (
            "succeeds = [\"jansen\"]",
            "succeeds = [\"jansen\", \"vermeer\"]",
            "person smit: succeeds vermeer",
            true,
        ),
        (
            "succeeds = [\"jansen\"]",
            "",
            "person smit: no longer succeeds jansen",
            false,
        ),
        (
            "title = \"LOCC\"",
            "title = \"LOCC-KCR2\"",
            "node locc: another title",
            false,
        ),
        (
            "clearance = \"Stg.C\"",
            "clearance = \"Stg.G\"",
            "node vrz: clearance Stg.G, was Stg.C",
            true,
        ),
        (
            "clearance = \"Stg.C\"",
            "clearance = \"Dep.V\"",
            "node vrz: clearance Dep.V, was Stg.C",
            false,
        ),
        (
            "circles = [\"ICCB\"]",
            "circles = []",
            "node ncc: clearance Stg.ZG // COMPARTIMENT CYBER, was",
            false,
        ),
        (
            "circles = [\"ICCB\"]",
            "circles = [\"ICCB\", \"MCCB\"]",
            "node ncc: clearance",
            true,
        ),
        (
            "compartments = [\"CYBER\"]",
            "compartments = [\"ATOM\"]",
            "node ncc: clearance",
            true,
        ),
        (
            "also = [\"NATO CONFIDENTIAL // CONTEXT NATO\"]",
            "",
            "person bos: clearance NATO CONFIDENTIAL // CONTEXT NATO withdrawn",
            false,
        ),
        (
            "also = [\"NATO CONF",
            "also = [\"EU SECRET\", \"NATO CONF",
            "person bos: clearance EU SECRET, had none",
            true,
        ),
        (
            "since = \"2026-11-01\"",
            "since = \"2026-11-02\"",
            "other times in circle MCCB",
            false,
        ),
        (
            "since = \"2026-11-01\", ",
            "",
            "other times in circle MCCB",
            true,
        ),
        (
            ", until = \"2026-12-01T12:00:00Z\"",
            "",
            "other times in circle MCCB",
            true,
        ),
        (
            "rijksdienst = true",
            "rijksdienst = false",
            "node ncc: now outside",
            false,
        ),
        (
            "rijksdienst = false",
            "rijksdienst = true",
            "node vrz: now inside",
            true,
        ),
        (
            "assurance = { up_to = \"Dep.V\", decision = \"SG-8\", until = \"2030-12-31\" }",
            "",
            "assurance withdrawn",
            false,
        ),
        (
            "up_to = \"Dep.V\", decision = \"SG-8\"",
            "up_to = \"Stg.C\", decision = \"SG-8\"",
            "assurance up to Stg.C",
            true,
        ),
        (
            "decision = \"SG-8\", until = \"2030",
            "decision = \"SG-8\", until = \"2031",
            "assurance up to Dep.V until 2031",
            true,
        ),
        (
            "decision = \"SG-8\", until = \"2030",
            "decision = \"SG-8\", until = \"2029",
            "assurance up to Dep.V until 2029",
            false,
        ),
        (
            ", stg_zg = \"Z-2\"",
            "",
            "no longer accredited for Stg.ZG",
            false,
        ),
        (
            "decision = \"VRZ-1\", until = \"2030-12-31\"",
            "decision = \"VRZ-1\", until = \"2030-12-31\", stg_zg = \"Z\"",
            "accredited for Stg.ZG by Z",
            true,
        ),
        (
            "accredited_until = \"2030-12-31\"",
            "accredited_until = \"2031-12-31\"",
            "node ncc: accredited until 2031",
            true,
        ),
        (
            "standing = \"active\"",
            "standing = \"suspended\"",
            "node ncc: suspended",
            false,
        ),
        (
            "speaks_for = [\"NATO\"]",
            "speaks_for = [\"NATO\", \"EU\"]",
            "speaks for EU",
            true,
        ),
        (
            "speaks_for = [\"NATO\"]",
            "",
            "no longer speaks for NATO",
            false,
        ),
        (
            "name = \"bos\"\n    node = \"locc\"",
            "name = \"bos\"\n    node = \"ncc\"",
            "person bos: works at ncc",
            true,
        ),
        (
            "nodes = [\"ncc\", \"locc\"]",
            "nodes = [\"ncc\", \"vrz\"]",
            "mandate for vrz",
            true,
        ),
        (
            "nodes = [\"ncc\", \"locc\"]",
            "nodes = [\"ncc\"]",
            "mandate no longer for locc",
            false,
        ),
        (
            "up_to = \"Stg.C\", decision = \"SG-10\"",
            "up_to = \"Stg.G\", decision = \"SG-10\"",
            "mandate up to Stg.G",
            true,
        ),
        (
            "name = \"bva\", clearance = \"Stg.ZG\"",
            "name = \"bva\", clearance = \"Stg.G\"",
            "officer bva: clearance Stg.G",
            false,
        ),
        (
            "name = \"bva\"",
            "name = \"bvb\"",
            "officer bvb: added",
            true,
        ),
        (
            "up_to = \"CONFIDENTIAL\"",
            "up_to = \"SECRET\"",
            "consent: added: NATO up to Stg.G to locc",
            true,
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let new = Register::parse(&GOOD.replacen(from, to, 1)).expect(to);
        let changes = old.changes(&new);
        if says.is_empty() {
            assert_eq!(changes, [], "{to}");
            continue;
        }
        let found = changes
            .iter()
            .find(|c| format!("{}: {}", c.entry, c.what).contains(says));
        let found = found.unwrap_or_else(|| panic!("{to}: {changes:?}"));
        assert_eq!(found.widens, widens, "{to}: {found}");
        // What goes one way comes back the other.
        if !widens && !matches!(to, x if x.contains("title")) {
            let back = new.changes(&old);
            assert!(back.iter().any(|c| c.widens), "{to}: back {back:?}");
        }
    }
    let without = GOOD.split("[[consent]]").next().expect("a head");
    let changes = old.changes(&Register::parse(without).expect("valid"));
    assert_eq!(
        changes.iter().map(|c| c.widens).collect::<Vec<_>>(),
        [false]
    );
}

#[test]
fn who_stands_for_whom() {
    let r = Register::parse(GOOD).expect("valid");
    let n = |local: &str| name(&format!("{local}.person.crisis.example"));
    assert!(r.stands_for(&n("vermeer"), &n("vermeer")));
    assert!(r.stands_for(&n("smit"), &n("jansen")), "registered");
    assert!(!r.stands_for(&n("jansen"), &n("smit")), "not the other way");
    assert!(!r.stands_for(&n("bos"), &n("jansen")));
    assert!(
        r.stands_for(&n("nobody"), &n("nobody")),
        "whether they may act, the mandate says"
    );
    assert_eq!(r.text(), GOOD);
    assert_eq!((r.persons().count(), r.officers().count()), (3, 1));
    assert_eq!((r.consents().len(), r.events().count()), (1, 1));
}

#[test]
fn another_decision_for_the_same_widens_nothing() {
    let old = Register::parse(GOOD).expect("valid");
    let text = GOOD.replace("decision = \"SG-9\"", "decision = \"SG-11\"");
    let changes = old.changes(&Register::parse(&text).expect("valid"));
    assert_eq!(changes.len(), 1);
    assert!(!changes[0].widens, "{}", changes[0]);
    // Times of a circle: only a longer membership widens.
    let from = "since = \"2026-11-01\"";
    for (to, widens) in [
        ("since = \"2026-10-31\"", true),
        ("since = \"2026-11-02\"", false),
    ] {
        let text = GOOD.replacen(from, to, 1);
        let changes = old.changes(&Register::parse(&text).expect("valid"));
        assert_eq!(changes.iter().any(|c| c.widens), widens, "{to}");
    }
    let until = GOOD.find("until = \"2026-12-01T12:00:00Z\"");
    assert!(until.is_some());
    for (to, widens) in [
        ("until = \"2026-12-02\"", true),
        ("until = \"2026-11-30\"", false),
    ] {
        let text = GOOD.replacen("until = \"2026-12-01T12:00:00Z\"", to, 1);
        let changes = old.changes(&Register::parse(&text).expect("valid"));
        assert_eq!(changes.iter().any(|c| c.widens), widens, "{to}");
    }
}

#[test]
fn four_eyes_are_two_and_a_register_has_a_bound() {
    let one = GOOD.replacen(
        "version = 3",
        "version = 3\n    registrars = [\"vermeer\"]",
        1,
    );
    assert_eq!(Register::parse(&one), Err(InvalidRegister::OneRegistrar));
    let two = one.replace("[\"vermeer\"]\n", "[\"vermeer\", \"bos\"]\n");
    assert_eq!(Register::parse(&two).map(|r| r.registrars().len()), Ok(2));
    let fill = |n: usize| format!("{GOOD}{}", " ".repeat(n - GOOD.len()));
    assert!(Register::parse(&fill(MAX_REGISTER)).is_ok());
    let over = Register::parse(&fill(MAX_REGISTER + 1));
    assert_eq!(over, Err(InvalidRegister::TooLong(MAX_REGISTER + 1)));
}

proptest::proptest! {
    /// A register that was changed somewhere is a register or is refused, and nothing else happens.
    #[test]
    fn a_changed_register_is_read_or_refused(at in 0..GOOD.len(), by in 0u8.., cut in proptest::bool::ANY) {
        let mut bytes = GOOD.as_bytes().to_vec();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= by;
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(register) = Register::parse(&text) {
            let old = Register::parse(GOOD).expect("valid");
            let changes = old.changes(&register).len() + register.changes(&old).len();
            proptest::prop_assert!(changes > 0 || old.digest() != register.digest() || by == 0);
        }
    }
}

#[test]
fn a_role_stands_for_its_holders() {
    let named = |who: &str| GOOD.replace("[\"vermeer\", \"bos\"]", who);
    let n = |local: &str| name(&format!("{local}.person.crisis.example"));
    let r = Register::parse(&named("[\"vermeer\", \"officier-van-dienst\"]")).expect("valid");
    let declared_by = &r.event("einde").expect("there").declared_by;
    assert_eq!(*declared_by, [n("bos"), n("smit"), n("vermeer")].into());
    assert_eq!(r.roles().count(), 1);
    // A change of shift is a change of what the role may do, where something names it.
    let other = named("[\"vermeer\", \"officier-van-dienst\"]")
        .replace("[\"smit\", \"bos\"]", "[\"smit\"]");
    let said: Vec<String> = r
        .changes(&Register::parse(&other).expect("valid"))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        said.iter()
            .any(|s| s.contains("role officier-van-dienst: held by smit")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|s| s.contains("event einde: declared by others")),
        "{said:?}"
    );
    // As registrars the holders count, and a new one widens.
    let signed = |who: &str| {
        GOOD.replacen(
            "version = 3",
            &format!("version = 3\n    registrars = [{who}]"),
            1,
        )
    };
    let by_role = Register::parse(&signed("\"officier-van-dienst\"")).expect("two hold it");
    assert_eq!(*by_role.registrars(), [n("bos"), n("smit")].into());
    let grown = signed("\"officier-van-dienst\"")
        .replace("[\"smit\", \"bos\"]", "[\"smit\", \"bos\", \"vermeer\"]");
    let changes = by_role.changes(&Register::parse(&grown).expect("valid"));
    assert!(
        changes.iter().any(|c| c.widens && c.entry == "registrars"),
        "{changes:?}"
    );
}

#[test]
fn groups_mean_whoever_is_in_them_then() {
    let list = "    [[list]]\n    name = \"avond\"\n    title = \"De avondploeg\"\n    members = [\"ncc\", \"bos@locc\"]\n";
    let text = format!("{GOOD}{list}");
    let r = Register::parse(&text).expect("valid");
    let now = at("2026-11-24T03:00:00Z");
    let members = |group: &str, level, now| {
        let group = group.parse().expect("a group");
        let all = r.members(&group, level, now)?;
        let short = |a: &ordonnans_message::Addressee| match &a.person {
            Some(p) => format!("{}@{}", p.local(), a.node.local()),
            None => a.node.local().to_owned(),
        };
        Some(all.iter().map(short).collect::<Vec<_>>())
    };
    let of = |group, level| members(group, level, now);
    let some = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
    let role = "role:officier-van-dienst";
    assert_eq!(of(role, Level::DepV), some(&["bos@locc", "smit@locc"]));
    assert_eq!(of("list:avond", Level::DepV), some(&["ncc", "bos@locc"]));
    assert_eq!(of("list:ochtend", Level::DepV), None);
    // From Stg.G up a circle is the persons in it, each in the own time.
    assert_eq!(of("circle:MCCB", Level::StgG), some(&["bos@locc"]));
    let before = at("2026-11-09T23:59:59Z");
    assert_eq!(members("circle:MCCB", Level::StgG, before), some(&[]));
    for (from, to, says) in [
        ("\"bos@locc\"", "\"bos@ncc\"", "is no person of that node"),
        ("\"bos@locc\"", "\"ncc\"", "ncc of list avond"),
        ("\"bos@locc\"", "\"vr\"", "names node 'vr'"),
        ("[\"ncc\", \"bos@locc\"]", "[]", "has 0 members"),
        ("\"avond\"", "\"\"", "is not a group"),
    ] {
        let wrong = format!("{GOOD}{}", list.replace(from, to));
        let e = Register::parse(&wrong).expect_err("refused").to_string();
        assert!(e.contains(says), "{e}");
    }
    let grown = text.replace("[\"ncc\", \"bos@locc\"]", "[\"ncc\"]");
    let changes = r.changes(&Register::parse(&grown).expect("valid"));
    let [change] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(
        (change.entry.as_str(), change.widens),
        ("list avond", false)
    );
}
