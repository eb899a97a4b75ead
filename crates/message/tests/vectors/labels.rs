//! Labels.

use ordonnans_label::Label;
use ordonnans_message::cbor::{Writer, exactly};
use ordonnans_message::{decode_label, encode_label};

use crate::{Decoded, Source, facts};

/// Texts of good labels. The last is one for nobody.
const GOOD: &[&str] = &[
    "Ongerubriceerd",
    "Dep.V // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example",
    "Stg.C // TOT GEBEURTENIS \"einde van de oefening\" // VASTGESTELD jansen.person.crisis.example",
    "Stg.G // KRING ICCB, NAFIN // COMPARTIMENT CRYPTO, CYBER // MERKING EYES ONLY // TOT 2036-01-01 // VASTGESTELD jansen.person.crisis.example",
    "Stg.ZG // KRING ICCB // TOT 2036-12-31",
    "NATO SECRET",
    "COSMIC TOP SECRET // ONLY NLD // ADDITIONAL SENSITIVITY ATOMAL",
    "NATO RESTRICTED // CONTEXT NATO, RELEASABLE // RELEASABLE TO JPN, NATO // TOT 2036-01-01",
    "NATO UNCLASSIFIED // ONLY NIEMAND // ADMINISTRATIVE STAFF",
    "SECRET UE/EU SECRET // RELEASABLE TO UKR",
];

pub(crate) fn encode(label: &Label) -> Vec<u8> {
    let mut w = Writer::default();
    encode_label(label, &mut w);
    w.into_bytes()
}

fn decode(bytes: &[u8]) -> Decoded {
    let label = exactly(bytes, decode_label, encode_label)?;
    Ok((facts([("text", label.to_string())]), encode(&label)))
}

/// Writes the value of a pair.
type Value<'a> = &'a dyn Fn(&mut Writer);

/// A map of the label from pairs of a key and what writes its value.
fn map(pairs: &[(u64, Value<'_>)]) -> Vec<u8> {
    let mut w = Writer::default();
    w.map(pairs.len());
    for (key, value) in pairs {
        w.uint(*key);
        value(&mut w);
    }
    w.into_bytes()
}

pub(crate) fn source() -> Source {
    let label = |text: &str| text.parse::<Label>().expect("a label");
    let mut good: Vec<(String, Vec<u8>)> = GOOD
        .iter()
        .map(|text| ((*text).to_owned(), encode(&label(text))))
        .collect();
    let mut nobody = label("Stg.G // TOT 2036-01-01");
    nobody.confidentiality = nobody.confidentiality.for_nobody();
    good.push(("a circle with nobody in it".into(), encode(&nobody)));

    let nl = |w: &mut Writer| {
        w.text("NL");
    };
    let text = |t: &'static str| {
        move |w: &mut Writer| {
            w.text(t);
        }
    };
    let level = |n: u64| {
        move |w: &mut Writer| {
            w.uint(n);
        }
    };
    let list = |all: &'static [&'static str]| {
        move |w: &mut Writer| {
            w.array(all.len());
            all.iter().for_each(|v| {
                w.text(v);
            });
        }
    };
    let many = |w: &mut Writer| {
        w.array(33);
        (0..33).for_each(|i| {
            w.text(&format!("A{i:02}"));
        });
    };
    let classification = |name: &'static str, n: u64| {
        move |w: &mut Writer| {
            w.array(2).text(name).uint(n);
        }
    };
    let (secret, above, nameless) = (
        classification("SECRET", 3),
        classification("SECRET", 5),
        classification("", 3),
    );
    let sets = |w: &mut Writer, all: &[(u64, &str, &[&str])]| {
        w.array(all.len());
        for (kind, name, values) in all {
            w.array(3).uint(*kind).text(name).array(values.len());
            values.iter().for_each(|v| {
                w.text(v);
            });
        }
    };
    let set = |write: Value<'_>| {
        map(&[
            (1, &text("NATO")),
            (2, &level(3)),
            (9, &secret),
            (10, write),
        ])
    };
    let whole = encode(&label(GOOD[3]));
    let bad = vec![
        ("nothing", vec![]),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("a byte over", [&whole[..], &[0]].concat()),
        ("no map", vec![0x80]),
        ("no policy", map(&[(2, &level(0))])),
        ("no level", map(&[(1, &nl)])),
        (
            "another policy without its classification",
            map(&[(1, &text("UK")), (2, &level(0))]),
        ),
        (
            "a Dutch label with a classification",
            map(&[(1, &nl), (2, &level(3)), (9, &secret)]),
        ),
        (
            "another policy with Dutch circles",
            map(&[
                (1, &text("NATO")),
                (2, &level(3)),
                (4, &list(&["ICCB"])),
                (9, &secret),
            ]),
        ),
        (
            "a policy with a separator",
            map(&[(1, &text("NATO//EU")), (2, &level(3)), (9, &secret)]),
        ),
        (
            "place 64",
            map(&[(1, &text("NATO")), (2, &level(64)), (9, &secret)]),
        ),
        (
            "a Dutch level above the highest",
            map(&[(1, &text("NATO")), (2, &level(3)), (9, &above)]),
        ),
        (
            "a classification without a name",
            map(&[(1, &text("NATO")), (2, &level(3)), (9, &nameless)]),
        ),
        (
            "no sets",
            map(&[
                (1, &text("NATO")),
                (2, &level(3)),
                (9, &secret),
                (10, &list(&[])),
            ]),
        ),
        (
            "a set of an unknown type",
            set(&|w| sets(w, &[(3, "Only", &["A"])])),
        ),
        (
            "a restrictive set without a value",
            set(&|w| sets(w, &[(0, "Additional Sensitivity", &[])])),
        ),
        (
            "sets out of order",
            set(&|w| sets(w, &[(1, "Only", &["A"]), (1, "Context", &["A"])])),
        ),
        (
            "a set twice",
            set(&|w| sets(w, &[(1, "Only", &["A"]), (1, "Only", &["B"])])),
        ),
        (
            "17 sets",
            set(&|w| {
                w.array(17);
                (0..17).for_each(|i| {
                    w.array(3).uint(1).text(&format!("S{i:02}")).array(0);
                });
            }),
        ),
        ("level 5", map(&[(1, &nl), (2, &level(5))])),
        ("keys out of order", map(&[(2, &level(0)), (1, &nl)])),
        ("a key twice", map(&[(1, &nl), (1, &nl), (2, &level(0))])),
        (
            "an unknown part",
            map(&[(1, &nl), (2, &level(0)), (11, &nl)]),
        ),
        (
            "compartments without one",
            map(&[(1, &nl), (2, &level(3)), (3, &list(&[]))]),
        ),
        (
            "values out of order",
            map(&[(1, &nl), (2, &level(3)), (4, &list(&["NAFIN", "ICCB"]))]),
        ),
        (
            "a value twice",
            map(&[(1, &nl), (2, &level(3)), (4, &list(&["ICCB", "ICCB"]))]),
        ),
        (
            "a value in lower case",
            map(&[(1, &nl), (2, &level(3)), (4, &list(&["iccb"]))]),
        ),
        (
            "a value with a separator",
            map(&[(1, &nl), (2, &level(3)), (4, &list(&["A, B"]))]),
        ),
        ("33 values", map(&[(1, &nl), (2, &level(3)), (4, &many)])),
        (
            "a day that is none",
            map(&[(1, &nl), (2, &level(1)), (6, &text("2035-02-29"))]),
        ),
        (
            "a day and an event",
            map(&[
                (1, &nl),
                (2, &level(1)),
                (6, &text("2035-02-28")),
                (7, &text("e")),
            ]),
        ),
        (
            "an empty event",
            map(&[(1, &nl), (2, &level(1)), (7, &text(""))]),
        ),
        (
            "established by a node",
            map(&[
                (1, &nl),
                (2, &level(1)),
                (8, &text("ncc.node.crisis.example")),
            ]),
        ),
        (
            "a level in two bytes",
            vec![0xa2, 1, 0x62, b'N', b'L', 2, 0x18, 0],
        ),
        (
            "a text of indefinite length",
            vec![0xa2, 1, 0x7f, 0x62, b'N', b'L', 0xff, 2, 0],
        ),
    ];
    Source {
        file: "label",
        rule: "label",
        good,
        bad,
        decode,
    }
}
