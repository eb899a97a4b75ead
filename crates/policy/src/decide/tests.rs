//! Every rule with what passes and what is refused. The table in `docs/policy.md` is made from this one.

use std::collections::BTreeMap;

use super::*;
use crate::register::tests::GOOD;
use crate::{InForce, Parent, Passed, RULES, Verdict, catalog, explain};
use ordonnans_label::Policies;
use ordonnans_message::cose::{Algorithm, Draft, Purpose};
use ordonnans_message::{
    Act, ActKind, Follows, Precedence, Role, Second, SignedAct, Statement as _, sha256,
};

const PASSES: bool = true;
const REFUSED: bool = false;

/// One row: the situation differs from the usual one by what it says.
struct Case {
    rule: u16,
    verdict: bool,
    /// What the page says of it.
    words: &'static str,
    /// Changes of the register's text.
    register: &'static [(&'static str, &'static str)],
    /// What the certificates say of these nodes, in place of what the register says.
    certified: &'static [(&'static str, &'static str)],
    from: &'static str,
    to: &'static str,
    label: &'static str,
    now: &'static str,
    created: &'static str,
    expires: &'static str,
    stated: bool,
    passed: Option<Pass>,
}

/// What is passed on, and what is known of it.
#[derive(Clone, Copy)]
struct Pass {
    how: How,
    /// The label in force on the parent; empty where nobody established one, nothing where it is unknown.
    parent: Option<&'static str>,
    /// Whose information the extract says it is.
    node: &'static str,
    unchanged: bool,
    /// Whether the act of the extract names the one in force.
    follows: bool,
    /// The second person, and whether over this act.
    second: Option<(&'static str, bool)>,
}

const AS_IT_IS: Pass = Pass {
    how: How::AsItIs,
    parent: Some(DEP_V),
    node: "ncc",
    unchanged: true,
    follows: true,
    second: None,
};

const EXTRACT: Pass = Pass {
    how: How::Extract,
    parent: Some(STG_C),
    node: "ncc",
    unchanged: false,
    follows: true,
    second: Some(("bos", true)),
};

const USUAL: Case = Case {
    rule: 0,
    verdict: PASSES,
    words: "",
    register: &[],
    certified: &[],
    from: "ncc",
    to: "locc",
    label: DEP_V,
    now: "2026-11-23T00:00:00Z",
    created: "2026-11-23T00:00:00Z",
    expires: "2026-11-24T00:00:00Z",
    stated: true,
    passed: None,
};

const DEP_V: &str = "Dep.V // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example";
const STG_C: &str = "Stg.C // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example";
const STG_G: &str = "Stg.G // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example";
const STG_ZG: &str = "Stg.ZG // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example";
const CYBER: &str =
    "Stg.C // COMPARTIMENT CYBER // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example";
const MCCB: &str =
    "Dep.V // KRING MCCB // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example";
const NATO: &str = "NATO CONFIDENTIAL // CONTEXT NATO";

const CASES: &[Case] = &[
    Case {
        rule: 1,
        verdict: PASSES,
        words: "a node of the register",
        ..USUAL
    },
    Case {
        rule: 1,
        verdict: REFUSED,
        words: "a node nobody registered",
        from: "x",
        ..USUAL
    },
    Case {
        rule: 2,
        verdict: PASSES,
        words: "on the last day of the accreditation",
        register: &[("2030-12-31\"\n    standing", "2026-11-23\"\n    standing")],
        ..USUAL
    },
    Case {
        rule: 2,
        verdict: REFUSED,
        words: "the day after",
        register: &[("2030-12-31\"\n    standing", "2026-11-22\"\n    standing")],
        ..USUAL
    },
    Case {
        rule: 2,
        verdict: REFUSED,
        words: "suspended",
        register: &[("standing = \"active\"", "standing = \"suspended\"")],
        ..USUAL
    },
    Case {
        rule: 3,
        verdict: PASSES,
        words: "certificate, register and link reach the label",
        label: STG_C,
        ..USUAL
    },
    Case {
        rule: 3,
        verdict: REFUSED,
        words: "the certificate is lower",
        certified: &[("ncc", "Ongerubriceerd")],
        ..USUAL
    },
    Case {
        rule: 3,
        verdict: REFUSED,
        words: "no certificate was seen",
        certified: &[("ncc", "")],
        ..USUAL
    },
    Case {
        rule: 3,
        verdict: REFUSED,
        words: "the link is approved for less",
        label: STG_C,
        register: &[(
            "up_to = \"Stg.ZG\", decision = \"NCC-1\"",
            "up_to = \"Dep.V\", decision = \"NCC-1\"",
        )],
        ..USUAL
    },
    Case {
        rule: 3,
        verdict: REFUSED,
        words: "the sender is not in the circle",
        label: "Dep.V // KRING MCCB",
        ..USUAL
    },
    Case {
        rule: 3,
        verdict: REFUSED,
        words: "cleared under another policy only",
        label: "EU RESTRICTED",
        ..USUAL
    },
    Case {
        rule: 4,
        verdict: PASSES,
        words: "one millisecond before it expires",
        now: "2026-11-23T23:59:59.999Z",
        ..USUAL
    },
    Case {
        rule: 4,
        verdict: REFUSED,
        words: "at the moment it expires",
        now: "2026-11-24T00:00:00Z",
        ..USUAL
    },
    Case {
        rule: 4,
        verdict: PASSES,
        words: "made five minutes ahead",
        created: "2026-11-23T00:05:00Z",
        ..USUAL
    },
    Case {
        rule: 4,
        verdict: REFUSED,
        words: "made a millisecond more ahead",
        created: "2026-11-23T00:05:00.001Z",
        ..USUAL
    },
    Case {
        rule: 5,
        verdict: PASSES,
        words: "an event",
        label: "Dep.V // TOT GEBEURTENIS \"einde\" // VASTGESTELD vermeer.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 5,
        verdict: REFUSED,
        words: "neither day nor event",
        label: "Dep.V // VASTGESTELD vermeer.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 6,
        verdict: PASSES,
        words: "`VASTGESTELD …`",
        ..USUAL
    },
    Case {
        rule: 6,
        verdict: REFUSED,
        words: "`VOORGESTELD`",
        label: "Dep.V // TOT 2036-01-01",
        ..USUAL
    },
    Case {
        rule: 7,
        verdict: PASSES,
        words: "mandated up to the level",
        label: "Stg.C // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 7,
        verdict: REFUSED,
        words: "mandated for less",
        label: "Stg.G // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 7,
        verdict: REFUSED,
        words: "mandated for the information of another node",
        from: "locc",
        to: "ncc",
        ..USUAL
    },
    Case {
        rule: 7,
        verdict: REFUSED,
        words: "the mandate ended yesterday",
        register: &[(
            "decision = \"SG-9\", until = \"2030-12-31\"",
            "decision = \"SG-9\", until = \"2026-11-22\"",
        )],
        ..USUAL
    },
    Case {
        rule: 7,
        verdict: REFUSED,
        words: "without a mandate",
        label: "Dep.V // TOT 2036-01-01 // VASTGESTELD bos.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 7,
        verdict: REFUSED,
        words: "nobody registered",
        label: "Dep.V // TOT 2036-01-01 // VASTGESTELD nemo.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 8,
        verdict: PASSES,
        words: "a node of the register",
        ..USUAL
    },
    Case {
        rule: 8,
        verdict: REFUSED,
        words: "a node nobody registered",
        to: "x",
        ..USUAL
    },
    Case {
        rule: 9,
        verdict: PASSES,
        words: "on the last day of the accreditation",
        register: &[(
            "2030-12-31\"\n    accreditation",
            "2026-11-23\"\n    accreditation",
        )],
        ..USUAL
    },
    Case {
        rule: 9,
        verdict: REFUSED,
        words: "the day after",
        register: &[(
            "2030-12-31\"\n    accreditation",
            "2026-11-22\"\n    accreditation",
        )],
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: PASSES,
        words: "certificate, register and link reach the level",
        label: STG_C,
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "the register says less",
        to: "vrz",
        label: STG_G,
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "the certificate says less",
        certified: &[("locc", "Dep.V")],
        label: STG_C,
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "no certificate was seen",
        certified: &[("locc", "")],
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "the link is approved for less",
        label: STG_C,
        register: &[(
            "up_to = \"Stg.ZG\", decision = \"LOCC-1\"",
            "up_to = \"Dep.V\", decision = \"LOCC-1\"",
        )],
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "the link is not approved at all",
        register: &[(
            "link = { up_to = \"Stg.C\", decision = \"VRZ-1\", until = \"2030-12-31\" }",
            "",
        )],
        to: "vrz",
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "the certificate is under another policy",
        certified: &[("locc", "NATO TOP SECRET")],
        ..USUAL
    },
    Case {
        rule: 10,
        verdict: REFUSED,
        words: "Dutch clearance, information of another policy",
        from: "shape",
        to: "vrz",
        label: NATO,
        ..USUAL
    },
    Case {
        rule: 11,
        verdict: PASSES,
        words: "holds CYBER",
        from: "ncc",
        to: "ncc",
        label: CYBER,
        ..USUAL
    },
    Case {
        rule: 11,
        verdict: REFUSED,
        words: "does not",
        label: CYBER,
        ..USUAL
    },
    Case {
        rule: 12,
        verdict: PASSES,
        words: "in one of two circles",
        from: "locc",
        to: "locc",
        label: "Dep.V // KRING ICCB, MCCB // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 12,
        verdict: REFUSED,
        words: "in none",
        from: "locc",
        to: "ncc",
        label: MCCB,
        ..USUAL
    },
    Case {
        rule: 12,
        verdict: REFUSED,
        words: "in none of a set of another policy",
        from: "shape",
        certified: &[("locc", "NATO SECRET // CONTEXT KFOR")],
        label: NATO,
        ..USUAL
    },
    Case {
        rule: 13,
        verdict: PASSES,
        words: "`bos@locc` at Stg.G",
        to: "bos@locc",
        label: STG_G,
        ..USUAL
    },
    Case {
        rule: 13,
        verdict: PASSES,
        words: "`locc` at Stg.C",
        label: STG_C,
        ..USUAL
    },
    Case {
        rule: 13,
        verdict: REFUSED,
        words: "`locc` at Stg.G",
        label: STG_G,
        ..USUAL
    },
    Case {
        rule: 14,
        verdict: PASSES,
        words: "the person works at that node",
        to: "bos@locc",
        ..USUAL
    },
    Case {
        rule: 14,
        verdict: REFUSED,
        words: "unknown",
        to: "nemo@locc",
        ..USUAL
    },
    Case {
        rule: 14,
        verdict: REFUSED,
        words: "works elsewhere",
        to: "vermeer@locc",
        ..USUAL
    },
    Case {
        rule: 15,
        verdict: PASSES,
        words: "the person holds Stg.G, at Stg.G",
        to: "bos@locc",
        label: STG_G,
        ..USUAL
    },
    Case {
        rule: 15,
        verdict: REFUSED,
        words: "the person holds Stg.G, at Stg.ZG",
        to: "bos@locc",
        label: STG_ZG,
        ..USUAL
    },
    Case {
        rule: 15,
        verdict: REFUSED,
        words: "the person came to the circle after the message was made",
        from: "locc",
        to: "bos@locc",
        label: MCCB,
        created: "2026-11-09T00:00:00Z",
        now: "2026-11-11T00:00:00Z",
        ..USUAL
    },
    Case {
        rule: 15,
        verdict: REFUSED,
        words: "the person is cleared under another policy only",
        from: "shape",
        to: "smit@locc",
        label: NATO,
        ..USUAL
    },
    Case {
        rule: 16,
        verdict: PASSES,
        words: "tag sets that go together",
        label: NATO,
        from: "shape",
        ..USUAL
    },
    Case {
        rule: 16,
        verdict: REFUSED,
        words: "tag sets that do not",
        from: "shape",
        label: "NATO CONFIDENTIAL // RELEASABLE TO NATO",
        ..USUAL
    },
    Case {
        rule: 17,
        verdict: PASSES,
        words: "both links are accredited for Stg.ZG",
        to: "smit@locc",
        label: STG_ZG,
        ..USUAL
    },
    Case {
        rule: 17,
        verdict: REFUSED,
        words: "the recipient's is approved, and not accredited",
        to: "smit@locc",
        label: STG_ZG,
        register: &[(", stg_zg = \"Z-2\"", "")],
        ..USUAL
    },
    Case {
        rule: 17,
        verdict: REFUSED,
        words: "the sender's is approved, and not accredited",
        to: "smit@locc",
        label: STG_ZG,
        register: &[(", stg_zg = \"Z-1\"", "")],
        ..USUAL
    },
    Case {
        rule: 18,
        verdict: PASSES,
        words: "made while the recipient was a member",
        from: "locc",
        to: "locc",
        label: MCCB,
        ..USUAL
    },
    Case {
        rule: 18,
        verdict: REFUSED,
        words: "made before it became one",
        from: "locc",
        to: "locc",
        label: MCCB,
        created: "2026-10-31T23:59:59Z",
        ..USUAL
    },
    Case {
        rule: 18,
        verdict: REFUSED,
        words: "made while it was, and it is no more",
        from: "locc",
        to: "locc",
        label: MCCB,
        created: "2026-12-01T11:00:00Z",
        now: "2026-12-01T12:00:00Z",
        expires: "2026-12-02T00:00:00Z",
        ..USUAL
    },
    Case {
        rule: 19,
        verdict: PASSES,
        words: "outside, assured up to Dep.V, at Dep.V",
        to: "vrz",
        ..USUAL
    },
    Case {
        rule: 19,
        verdict: PASSES,
        words: "outside, not assured, without rubricering",
        to: "vrz",
        label: "Ongerubriceerd",
        register: &[(
            "assurance = { up_to = \"Dep.V\", decision = \"SG-8\", until = \"2030-12-31\" }",
            "",
        )],
        ..USUAL
    },
    Case {
        rule: 19,
        verdict: REFUSED,
        words: "outside, assured up to Dep.V, at Stg.C",
        to: "vrz",
        label: STG_C,
        ..USUAL
    },
    Case {
        rule: 19,
        verdict: REFUSED,
        words: "outside, the assurance ended yesterday",
        to: "vrz",
        register: &[(
            "decision = \"SG-8\", until = \"2030-12-31\"",
            "decision = \"SG-8\", until = \"2026-11-22\"",
        )],
        ..USUAL
    },
    Case {
        rule: 19,
        verdict: REFUSED,
        words: "outside, not assured",
        to: "vrz",
        register: &[(
            "assurance = { up_to = \"Dep.V\", decision = \"SG-8\", until = \"2030-12-31\" }",
            "",
        )],
        ..USUAL
    },
    Case {
        rule: 20,
        verdict: PASSES,
        words: "a consent names recipient and level",
        label: NATO,
        ..USUAL
    },
    Case {
        rule: 20,
        verdict: PASSES,
        words: "the sender speaks for the policy",
        from: "shape",
        label: "NATO CONFIDENTIAL // CONTEXT NATO",
        register: &[("to = [\"locc\"]", "to = [\"vrz\"]")],
        ..USUAL
    },
    Case {
        rule: 20,
        verdict: REFUSED,
        words: "the consent names another recipient",
        label: NATO,
        register: &[("to = [\"locc\"]", "to = [\"vrz\"]")],
        ..USUAL
    },
    Case {
        rule: 20,
        verdict: REFUSED,
        words: "the consent reaches a lower level",
        label: NATO,
        register: &[("up_to = \"CONFIDENTIAL\"", "up_to = \"RESTRICTED\"")],
        ..USUAL
    },
    Case {
        rule: 20,
        verdict: REFUSED,
        words: "the consent ended yesterday",
        label: NATO,
        register: &[(
            "decision = \"NATO-3\"\n    until = \"2030-12-31\"",
            "decision = \"NATO-3\"\n    until = \"2026-11-22\"",
        )],
        ..USUAL
    },
    Case {
        rule: 21,
        verdict: PASSES,
        words: "with the vaststeller's signed statement",
        ..USUAL
    },
    Case {
        rule: 21,
        verdict: REFUSED,
        words: "the sender's word for it alone",
        stated: false,
        ..USUAL
    },
    Case {
        rule: 22,
        verdict: PASSES,
        words: "an event of the register",
        label: "Dep.V // TOT GEBEURTENIS \"einde\" // VASTGESTELD vermeer.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 22,
        verdict: REFUSED,
        words: "an event of the sender's own",
        label: "Dep.V // TOT GEBEURTENIS \"einde van iets\" // VASTGESTELD vermeer.person.crisis.example",
        ..USUAL
    },
    Case {
        rule: 23,
        verdict: PASSES,
        words: "a message that the sender has",
        passed: Some(AS_IT_IS),
        ..USUAL
    },
    Case {
        rule: 23,
        verdict: REFUSED,
        words: "unknown here, taken back, or none that came to the sender",
        passed: Some(Pass {
            parent: None,
            ..AS_IT_IS
        }),
        ..USUAL
    },
    Case {
        rule: 24,
        verdict: PASSES,
        words: "the label in force, also where its mandate ended since",
        label: "Dep.V // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        register: &[(
            "decision = \"SG-10\", until = \"2030-12-31\"",
            "decision = \"SG-10\", until = \"2026-11-22\"",
        )],
        passed: Some(AS_IT_IS),
        ..USUAL
    },
    Case {
        rule: 24,
        verdict: REFUSED,
        words: "lower than the parent",
        passed: Some(Pass {
            parent: Some(STG_C),
            unchanged: false,
            ..AS_IT_IS
        }),
        ..USUAL
    },
    Case {
        rule: 24,
        verdict: REFUSED,
        words: "another than was remembered of a parent that nobody established",
        label: "Ongerubriceerd",
        passed: Some(Pass {
            parent: Some(""),
            unchanged: false,
            ..AS_IT_IS
        }),
        ..USUAL
    },
    Case {
        rule: 25,
        verdict: PASSES,
        words: "Stg.C",
        label: STG_C,
        passed: Some(Pass {
            parent: Some(STG_C),
            ..AS_IT_IS
        }),
        ..USUAL
    },
    Case {
        rule: 25,
        verdict: REFUSED,
        words: "Stg.G",
        label: STG_G,
        to: "bos@locc",
        passed: Some(Pass {
            parent: Some(STG_G),
            ..AS_IT_IS
        }),
        ..USUAL
    },
    Case {
        rule: 26,
        verdict: PASSES,
        words: "Dep.V of Stg.C",
        passed: Some(EXTRACT),
        ..USUAL
    },
    Case {
        rule: 26,
        verdict: REFUSED,
        words: "of information under another policy",
        passed: Some(Pass {
            parent: Some(""),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 26,
        verdict: REFUSED,
        words: "higher than its parent",
        label: STG_G,
        passed: Some(EXTRACT),
        ..USUAL
    },
    Case {
        rule: 26,
        verdict: REFUSED,
        words: "the parent was revised since",
        passed: Some(Pass {
            follows: false,
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 26,
        verdict: REFUSED,
        words: "as information of another node",
        passed: Some(Pass {
            node: "locc",
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 27,
        verdict: PASSES,
        words: "by the parent's vaststeller, sent by another node that has it; without rubricering too",
        from: "locc",
        to: "vrz",
        label: "Ongerubriceerd // VASTGESTELD vermeer.person.crisis.example",
        passed: Some(EXTRACT),
        ..USUAL
    },
    Case {
        rule: 27,
        verdict: PASSES,
        words: "by a registered successor",
        label: "Dep.V // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        passed: Some(Pass {
            parent: Some("Stg.C // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example"),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 27,
        verdict: REFUSED,
        words: "by somebody else with a mandate for both levels",
        label: "Dep.V // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        passed: Some(EXTRACT),
        ..USUAL
    },
    Case {
        rule: 27,
        verdict: REFUSED,
        words: "a mandate that reaches the extract alone",
        label: "Dep.V // TOT 2036-01-01 // VASTGESTELD smit.person.crisis.example",
        passed: Some(Pass {
            parent: Some("Stg.G // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example"),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 28,
        verdict: PASSES,
        words: "with both signatures",
        passed: Some(EXTRACT),
        ..USUAL
    },
    Case {
        rule: 28,
        verdict: REFUSED,
        words: "the vaststeller's alone",
        passed: Some(Pass {
            second: None,
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 28,
        verdict: REFUSED,
        words: "the second over another act",
        passed: Some(Pass {
            second: Some(("bos", false)),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 29,
        verdict: PASSES,
        words: "two persons",
        passed: Some(EXTRACT),
        ..USUAL
    },
    Case {
        rule: 29,
        verdict: REFUSED,
        words: "one person twice",
        passed: Some(Pass {
            second: Some(("vermeer", true)),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 30,
        verdict: PASSES,
        words: "cleared for Stg.G, of Stg.G",
        passed: Some(Pass {
            parent: Some(STG_G),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 30,
        verdict: REFUSED,
        words: "cleared for Stg.G, of Stg.ZG",
        passed: Some(Pass {
            parent: Some(STG_ZG),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 30,
        verdict: REFUSED,
        words: "without the compartment of the parent",
        passed: Some(Pass {
            parent: Some(CYBER),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 30,
        verdict: REFUSED,
        words: "in none of the parent's circles",
        passed: Some(Pass {
            parent: Some(
                "Stg.C // KRING ICCB // TOT 2036-01-01 // VASTGESTELD vermeer.person.crisis.example",
            ),
            ..EXTRACT
        }),
        ..USUAL
    },
    Case {
        rule: 30,
        verdict: REFUSED,
        words: "nobody registered",
        passed: Some(Pass {
            second: Some(("nemo", true)),
            ..EXTRACT
        }),
        ..USUAL
    },
];

fn name(local: &str, kind: Kind) -> Name {
    Name::new(local, kind, "crisis.example").expect("a name")
}

fn recipient_of(to: &str) -> Recipient {
    let (person, node) = to.split_once('@').map_or((None, to), |(p, n)| (Some(p), n));
    Recipient {
        node: name(node, Kind::Node),
        person: person.map(|p| name(p, Kind::Person)),
        role: Role::Action,
        precedence: Precedence::Routine,
    }
}

fn time(s: &str) -> Timestamp {
    s.parse().expect(s)
}

fn certificates(r: &Register, changed: &[(&str, &str)]) -> BTreeMap<Name, Clearances> {
    let mut all: BTreeMap<Name, Clearances> = r
        .nodes()
        .map(|n| (n.name.clone(), n.clearances.clone()))
        .collect();
    for (local, text) in changed {
        let name = name(local, Kind::Node);
        match Policies::built_in().read_clearance(text) {
            Ok(c) => all.insert(name, c.into()),
            Err(_) => all.remove(&name),
        };
    }
    all
}

impl Case {
    fn run<T>(
        &self,
        ask: impl FnOnce(&Grounds<'_>, &Question<'_>, &Recipient, Timestamp) -> T,
    ) -> T {
        let text = self.register.iter().fold(GOOD.to_owned(), |t, (from, to)| {
            assert!(t.contains(from), "{}: {from}", self.words);
            t.replacen(from, to, 1)
        });
        let register = Register::parse(&text).expect(self.words);
        let says = certificates(&register, self.certified);
        let book = Book::built_in();
        let g = Grounds {
            register: &register,
            book: &book,
            says: &says,
        };
        let from = name(self.from, Kind::Node);
        let label: Label = self.label.parse().expect(self.words);
        let made = self.passed.as_ref().map(|p| p.make(&label));
        let q = Question {
            originator: &from,
            label: &label,
            created: time(self.created),
            made: time(self.created),
            expires: time(self.expires),
            stated: self.stated,
            passed: made.as_ref().map(Made::passed),
        };
        ask(&g, &q, &recipient_of(self.to), time(self.now))
    }
}

/// What a case of passing on lends to the question.
struct Made {
    how: How,
    parent: Option<Option<Label>>,
    node: Name,
    unchanged: bool,
    act: Option<SignedAct>,
    second: Option<Second>,
}

const IN_FORCE: &[u8] = b"the act in force";

impl Pass {
    fn make(&self, label: &Label) -> Made {
        let in_force = if self.follows { IN_FORCE } else { b"another" };
        let by = match &label.state {
            State::Established { by } => Some(by.clone()),
            State::Proposed => None,
        };
        let act = by.map(|by| {
            let act = Act {
                kind: ActKind::Extract,
                subject: sha256(&[b"content"]),
                label: label.clone(),
                node: name(self.node, Kind::Node),
                by,
                at: time(USUAL.now),
                follows: Some(Follows {
                    message: MessageId::new(time(USUAL.now), [9; 10]),
                    act: sha256(&[in_force]),
                }),
            };
            let draft = Draft::new(Purpose::Act, Algorithm::Es256, b"c", act.encode());
            SignedAct::new(draft.finish(vec![0; 64])).expect("an act")
        });
        let of = |right| match &act {
            Some(act) if right => act.digest(),
            _ => sha256(&[b"another act"]),
        };
        let second = self.second.map(|(by, right)| Second {
            act: of(right),
            by: name(by, Kind::Person),
            at: time(USUAL.now),
        });
        Made {
            how: self.how,
            parent: self.parent.map(|l| l.parse().ok()),
            node: name("ncc", Kind::Node),
            unchanged: self.unchanged,
            act,
            second,
        }
    }
}

impl Made {
    fn passed(&self) -> Passed<'_> {
        let in_force = |label| InForce {
            label,
            node: &self.node,
            act: sha256(&[IN_FORCE]),
        };
        Passed {
            how: self.how,
            parent: self.parent.as_ref().map(|l| Parent {
                in_force: l.as_ref().map(in_force),
                unchanged: self.unchanged,
            }),
            act: self.act.as_ref(),
            second: self.second.as_ref(),
        }
    }
}

/// The first rule that refuses, and whether it is about the recipient.
fn verdict(
    g: &Grounds<'_>,
    q: &Question<'_>,
    to: &Recipient,
    now: Timestamp,
) -> Result<(), (u16, bool)> {
    let id = MessageId::new(now, [0; 10]);
    admit(g, q, now)
        .and_then(|()| decide(g, id, q, to, now).map(drop))
        .map_err(|e| (e.rule().number(), e.recipient().is_some()))
}

#[test]
fn every_case_is_decided_as_the_table_says() {
    for c in CASES {
        let got = c.run(verdict);
        match c.verdict {
            PASSES => assert_eq!(got, Ok(()), "POL-{:02} {}", c.rule, c.words),
            REFUSED => assert_eq!(
                got.map_err(|(rule, _)| rule),
                Err(c.rule),
                "{} ({})",
                c.words,
                c.label
            ),
        }
    }
}

#[test]
fn every_rule_has_both_cases() {
    for rule in RULES {
        for verdict in [PASSES, REFUSED] {
            assert!(
                CASES
                    .iter()
                    .any(|c| c.rule == rule.id.number() && c.verdict == verdict),
                "{} lacks a case",
                rule.id
            );
        }
    }
}

#[test]
fn an_explanation_comes_to_the_same_and_names_its_facts() {
    for c in CASES {
        let steps = c.run(|g, q, to, now| explain(g, q, std::slice::from_ref(to), now));
        let first = steps
            .iter()
            .find(|s| s.verdict == Verdict::Fails)
            .map(|s| s.rule.number());
        let expected = (c.verdict == REFUSED).then_some(c.rule);
        assert_eq!(first, expected, "{}", c.words);
        assert!(
            steps
                .iter()
                .all(|s| !s.fact.is_empty() && !s.text().is_empty())
        );
        if c.verdict == PASSES {
            assert!(
                steps.iter().any(|s| s.rule.number() == c.rule),
                "POL-{:02} was not asked: {}",
                c.rule,
                c.words
            );
        }
    }
}

#[test]
fn facts_say_what_they_rest_on() {
    let fact = |c: &Case, rule: RuleId| {
        let steps = c.run(|g, q, to, now| explain(g, q, std::slice::from_ref(to), now));
        let own = |s: &&crate::Step| s.rule == rule;
        steps.iter().rev().find(own).map(|s| s.fact.clone())
    };
    for (c, rule, says) in [
        (
            USUAL,
            RuleId::RECIPIENT_STANDING,
            "Active, accredited until 2030-12-31 by SG-7",
        ),
        (
            USUAL,
            RuleId::VASTSTELLER,
            "mandated up to Stg.ZG until 2030-12-31 by SG-9 for ncc",
        ),
        (
            USUAL,
            RuleId::RECIPIENT_LEVEL,
            "certificate Stg.ZG // KRING MCCB; register Stg.ZG // KRING MCCB; link approved up to Stg.ZG until 2030-12-31 by LOCC-1, accredited for Stg.ZG by Z-2",
        ),
        (
            Case {
                certified: &[("locc", "")],
                ..USUAL
            },
            RuleId::RECIPIENT_LEVEL,
            "no believed certificate with a clearance under NL",
        ),
        (
            Case { to: "vrz", ..USUAL },
            RuleId::ASSURANCE,
            "outside the Rijksdienst, assured up to Dep.V until 2030-12-31 by SG-8",
        ),
        (
            Case {
                label: NATO,
                ..USUAL
            },
            RuleId::CONSENT,
            "consent of NATO up to Stg.C until 2030-12-31 by NATO-3",
        ),
        (
            Case {
                label: NATO,
                from: "shape",
                ..USUAL
            },
            RuleId::CONSENT,
            "shape speaks for NATO",
        ),
        (
            Case {
                label: MCCB,
                from: "locc",
                ..USUAL
            },
            RuleId::MEMBER_WHEN_MADE,
            "member of MCCB from 2026-11-01T00:00:00.000Z to 2026-12-01T12:00:00.000Z",
        ),
    ] {
        let got = fact(&c, rule).unwrap_or_default();
        assert!(got.contains(says), "{rule}: {got}");
    }
}

#[test]
fn a_refusal_tells_a_sender_nothing_of_a_recipient() {
    let told: std::collections::BTreeSet<&str> = CASES
        .iter()
        .filter(|c| c.verdict == REFUSED)
        .filter_map(|c| {
            c.run(|g, q, to, now| {
                admit(g, q, now).ok()?;
                let id = MessageId::new(now, [0; 10]);
                decide(g, id, q, to, now).err().map(|e| e.told_to_sender())
            })
        })
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let of_sender: std::collections::BTreeSet<&str> = CASES
        .iter()
        .filter(|c| c.verdict == REFUSED)
        .filter_map(|c| c.run(|g, q, _, now| admit(g, q, now).err().map(|e| e.told_to_sender())))
        .collect();
    assert_eq!(of_sender.len(), 8, "{of_sender:?}");
    assert!(of_sender.is_disjoint(&told));
}

#[test]
fn a_permit_says_what_it_rests_on() {
    USUAL.run(|g, q, to, now| {
        let id = MessageId::new(now, [7; 10]);
        let p = decide(g, id, q, to, now).expect("permitted");
        assert_eq!((p.message(), p.recipient()), (id, &to.node));
        assert_eq!(p.register(), g.register.digest());
        assert_eq!(p.policy(), g.book.digest_of(&PolicyId::nl()));
        assert!(p.policy().is_some() && p.policy() != Some(g.book.digest()));
    });
}

#[test]
fn a_catalogue_lists_what_may_be_sent_and_no_more() {
    let list = |from: &str, to: &[&str]| {
        USUAL.run(|g, _, _, now| {
            let to: Vec<Recipient> = to.iter().map(|t| recipient_of(t)).collect();
            let all = catalog(g, &name(from, Kind::Node), &to, now);
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        })
    };
    let locc = list("ncc", &["locc"]);
    assert_eq!(
        locc,
        [
            "NATO UNCLASSIFIED",
            "NATO UNCLASSIFIED // CONTEXT NATO",
            "NATO RESTRICTED",
            "NATO RESTRICTED // CONTEXT NATO",
            "NATO CONFIDENTIAL",
            "NATO CONFIDENTIAL // CONTEXT NATO",
            "Ongerubriceerd",
            "Dep.V",
            "Stg.C"
        ]
    );
    assert_eq!(list("ncc", &["locc", "vrz"]), ["Ongerubriceerd", "Dep.V"]);
    assert!(list("ncc", &["smit@locc"]).contains(&"Stg.ZG".to_owned()));
    assert!(list("ncc", &["bos@locc"]).contains(&"Stg.G".to_owned()));
    assert!(!list("ncc", &["bos@locc"]).contains(&"Stg.ZG".to_owned()));
    assert!(list("locc", &["locc"]).contains(&"Dep.V // KRING MCCB".to_owned()));
    assert!(
        !list("vrz", &["ncc"]).contains(&"Stg.G".to_owned()),
        "not cleared itself"
    );
    assert_eq!(list("x", &["ncc"]), [""; 0]);
    assert_eq!(list("ncc", &["x"]), [""; 0]);
}

/// The table as the page has it.
fn table() -> String {
    let mut t =
        String::from("| rule | what must hold | passes | is refused |\n|---|---|---|---|\n");
    for rule in RULES {
        let words = |verdict| {
            let of: Vec<&str> = CASES
                .iter()
                .filter(|c| c.rule == rule.id.number() && c.verdict == verdict)
                .map(|c| c.words)
                .collect();
            of.join("; ")
        };
        t.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            rule.id,
            rule.text,
            words(PASSES),
            words(REFUSED)
        ));
    }
    t
}

#[test]
fn the_page_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let from = page.find("| rule | what must hold").expect("a table");
    let end = page[from..].find("\n\n").expect("an end") + from + 1;
    if std::env::var_os("ORDONNANS_WRITE_VECTORS").is_some() {
        let new = format!("{}{}{}", &page[..from], table(), &page[end..]);
        std::fs::write(path, new).expect("written");
        return;
    }
    assert_eq!(
        &page[from..end],
        table(),
        "docs/policy.md has another table; ORDONNANS_WRITE_VECTORS=1 writes it"
    );
}
