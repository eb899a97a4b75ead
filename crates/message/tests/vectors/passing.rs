//! Messages that pass another on, and the word of a second person.

use data_encoding::HEXLOWER;
use ordonnans_message::Statement as _;
use ordonnans_message::cose::Purpose;
use ordonnans_message::{
    Act, ActKind, Header, How, PassedOn, Second, SignedAct, SignedSecond, Timestamp,
};

use crate::signed::{CREATED, ESTABLISHED, act, around, header, id, name, odd, sign};
use crate::{Decoded, Source, facts};

fn signed(act: &Act) -> SignedAct {
    SignedAct::decode(&sign(Purpose::Act, act.encode())).expect("an act")
}

fn second(of: &SignedAct) -> Second {
    Second {
        act: of.digest(),
        by: name("vermeer.person.crisis.example"),
        at: Timestamp::from_millis(CREATED - 30_000),
    }
}

/// A message that passes on the one whose act this is; the information is another node's.
fn passing(how: How, act: &Act) -> Header {
    let mut h = header(false);
    let signed = signed(act);
    let second = (how == How::Extract).then(|| {
        let second = sign(Purpose::Second, second(&signed).encode());
        SignedSecond::decode(&second).expect("a second")
    });
    h.id = id(9);
    h.label = act.label.clone();
    h.act = Some(signed);
    h.passed = Some(PassedOn {
        how,
        parent: id(1),
        second,
    });
    h
}

fn another_node(kind: ActKind) -> Act {
    Act {
        node: name("locc.node.crisis.example"),
        ..act(kind, ESTABLISHED)
    }
}

pub(crate) fn as_it_is() -> Vec<u8> {
    around(passing(How::AsItIs, &another_node(ActKind::Establish)).encode())
}

pub(crate) fn extract() -> Vec<u8> {
    around(passing(How::Extract, &another_node(ActKind::Extract)).encode())
}

pub(crate) fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let changed = |how, kind, change: fn(&mut Header)| {
        let mut h = passing(how, &another_node(kind));
        change(&mut h);
        around(h.encode())
    };
    let of = |h: &mut Header, n| {
        if let Some(p) = &mut h.passed {
            p.parent = id(n);
        }
    };
    // The last pair of the header: 16, an array of how, parent and nothing.
    let plain = passing(How::AsItIs, &another_node(ActKind::Establish)).encode();
    let at = plain.len() - 20;
    assert_eq!(plain[at..at + 3], [0x83, 0, 0x50]);
    let mut how = plain;
    how[at + 1] = 2;
    vec![
        ("passed on in a third way", around(how)),
        (
            "it passes itself on",
            changed(How::AsItIs, ActKind::Establish, |h| h.id = id(1)),
        ),
        ("passed on as it is, with an act on another message", {
            let mut h = passing(How::AsItIs, &another_node(ActKind::Revise));
            of(&mut h, 3);
            around(h.encode())
        }),
        (
            "passed on as it is, with a second signature",
            changed(How::Extract, ActKind::Extract, |h| {
                if let Some(p) = &mut h.passed {
                    p.how = How::AsItIs;
                }
            }),
        ),
        (
            "an extract without an act",
            changed(How::Extract, ActKind::Extract, |h| h.act = None),
        ),
        (
            "an extract with an act that establishes",
            changed(How::Extract, ActKind::Establish, |_| {}),
        ),
        ("an extract of another message than its act says", {
            let mut h = passing(How::Extract, &another_node(ActKind::Extract));
            of(&mut h, 3);
            around(h.encode())
        }),
        (
            "an act of an extract on a message that is none",
            changed(How::Extract, ActKind::Extract, |h| h.passed = None),
        ),
    ]
}

pub(crate) fn seconds() -> Source {
    let decode = |bytes: &[u8]| -> Decoded {
        let s = SignedSecond::decode(bytes)?;
        let d = s.said();
        let all = facts([
            ("act", d.act.to_string()),
            ("by", d.by.to_string()),
            ("at", d.at.to_string()),
            ("to_be_signed", HEXLOWER.encode(&s.signed().to_be_signed())),
        ]);
        Ok((all, s.encode().into()))
    };
    let of = signed(&another_node(ActKind::Extract));
    let plain = second(&of).encode();
    let with = |change: fn(&mut Second)| {
        let mut s = second(&of);
        change(&mut s);
        sign(Purpose::Second, s.encode())
    };
    let good = sign(Purpose::Second, plain.clone());
    let mut bad = vec![
        ("cut", good[..good.len() - 1].to_vec()),
        (
            "a node as second person",
            with(|s| s.by = name("ncc.node.crisis.example")),
        ),
        (
            "an unknown key",
            sign(
                Purpose::Second,
                [&[0xa4][..], &plain[1..], &[4, 0]].concat(),
            ),
        ),
        (
            "no act",
            sign(Purpose::Second, [&[0xa2][..], &plain[36..]].concat()),
        ),
    ];
    bad.extend(odd(&plain));
    Source {
        file: "second",
        rule: "signed-second",
        good: vec![("a second person agrees".into(), good)],
        bad,
        decode,
    }
}
