//! Logs in which a scene went as it must, and what each change to them makes of it.

use ordonnans_audit::ClockQuality;
use ordonnans_label::Level;
use ordonnans_message::sha256;

use super::*;

fn name(local: &str) -> Name {
    Name::new(local, Kind::Node, "crisis.example").expect("a name")
}

fn id(n: u8) -> MessageId {
    MessageId::new(Timestamp::from_millis(1), [n; 10])
}

/// Records one after the other, so many milliseconds apart.
#[derive(Clone, Default)]
struct Log(Vec<Record>);

impl Log {
    fn add(mut self, after: u64, verb: Verb, detail: Detail) -> Self {
        let last = self.0.last().map_or(1_000, |(p, _)| p.time.as_millis());
        let public = Public {
            sequence: self.0.len() as u64,
            time: Timestamp::from_millis(last + after),
            clock: ClockQuality::Unknown,
            verb,
            level: Level::Ongerubriceerd,
            commitment: sha256(&[]),
        };
        self.0.push((public, detail));
        self
    }

    fn own(self, after: u64, verb: Verb, who: &str, note: &str) -> Self {
        let detail = Detail {
            who: Some(name(who)),
            note: Some(note.into()),
            ..Detail::default()
        };
        self.add(after, verb, detail)
    }

    fn handed(self, n: u8) -> Self {
        let detail = Detail {
            who: Some(name("ncc")),
            to: Some(name("toc")),
            message: Some(id(n)),
            ..Detail::default()
        };
        self.add(1, Verb::Delivered, detail)
    }

    fn of(self, verb: Verb, who: &str, n: u8) -> Self {
        let detail = Detail {
            who: Some(name(who)),
            message: Some(id(n)),
            ..Detail::default()
        };
        self.add(1, verb, detail)
    }

    fn without(&self, verb: Verb) -> Self {
        let mut rest = self.clone();
        rest.0.retain(|(p, _)| p.verb != verb);
        rest
    }
}

const LISTS: &str = "1 nodes and 1 connections no longer believed";
const REVOKED: &str = "certificate no longer believed: it is revoked";

#[test]
fn who_is_cut_off_gets_nothing_more() {
    let cut = Scene::Cut {
        node: name("toc"),
        message: id(1),
        whole: 1,
    };
    let until_list = Log::default()
        .handed(1)
        .own(5, Verb::CrlChanged, "b1", LISTS);
    let log = until_list
        .clone()
        .own(7, Verb::SessionClosed, "toc", REVOKED);
    let seen = cut.judged(&log.0).expect("as it must");
    assert!(
        seen.contains("7 ms after the list (records 1 and 2)"),
        "{seen}"
    );
    let why = |log: &Log| cut.judged(&log.0).expect_err("not as it must");
    assert!(why(&until_list).contains("no end of its session"));
    let late = until_list.own(1_001, Verb::SessionClosed, "toc", REVOKED);
    assert!(why(&late).contains("1001 ms"));
    assert!(why(&log.without(Verb::CrlChanged)).contains("no new list"));
    assert!(why(&log.without(Verb::Delivered)).contains("not been handed over"));
    assert!(why(&log.clone().handed(2)).contains("record 3 is Delivered"));
    let back = log.clone().own(1, Verb::SessionOpened, "toc", "quic");
    assert!(why(&back).contains("record 3 is SessionOpened"));
    let confirmed = log.clone().of(Verb::Receipt, "toc", 1);
    assert!(why(&confirmed).contains("Receipt"));
    let removed = log.of(Verb::AttachmentRemoved, "b1", 1);
    assert!(why(&removed).contains("not held"));
}

#[test]
fn a_rollover_loses_nothing_and_cuts_nobody_off() {
    let shown = sha256(&[b"new"]);
    let rollover = |messages: &[u8]| Scene::Rollover {
        authority: "issuing-2".into(),
        began: Timestamp::from_millis(1_000),
        ended: Timestamp::from_millis(2_000),
        renewed: BTreeMap::from([(name("ncc"), shown)]),
        messages: messages.iter().map(|n| id(*n)).collect(),
    };
    let session = Detail {
        who: Some(name("ncc")),
        digest: Some(shown),
        ..Detail::default()
    };
    let nobody = "0 nodes and 0 connections no longer believed";
    let log = Log::default()
        .own(1, Verb::CrlChanged, "b1", nobody)
        .of(Verb::Accepted, "ncc", 1)
        .add(1, Verb::SessionOpened, session)
        .of(Verb::Receipt, "toc", 1);
    let seen = rollover(&[1]).judged(&log.0).expect("as it must");
    assert!(seen.contains("none of 1 messages"), "{seen}");
    let why = |messages: &[u8], log: &Log| {
        let judged = rollover(messages).judged(&log.0);
        judged.expect_err("not as it must")
    };
    assert!(why(&[1, 2], &log).contains("1 of 2 messages have no receipt"));
    assert!(why(&[1], &log.without(Verb::Receipt)).contains("1 of 1"));
    assert!(why(&[1], &log.without(Verb::CrlChanged)).contains("no new list"));
    assert!(why(&[1], &log.without(Verb::SessionOpened)).contains("ncc"));
    let cut = log.clone().own(1, Verb::SessionClosed, "toc", REVOKED);
    assert!(why(&[1], &cut).contains("no longer believed"));
    let lists = log.own(1, Verb::CrlChanged, "b1", LISTS);
    assert!(why(&[1], &lists).contains("no longer believed"));
}

#[test]
fn a_node_without_udp_is_on_tcp_alone() {
    let scene = Scene::WithoutUdp { node: name("ncc") };
    let log = Log::default()
        .own(1, Verb::SessionOpened, "ncc", "tcp X25519MLKEM768")
        .own(1, Verb::SessionOpened, "toc", "quic X25519MLKEM768")
        .of(Verb::Accepted, "ncc", 1)
        .of(Verb::Receipt, "ncc", 2);
    let seen = scene.judged(&log.0).expect("as it must");
    assert!(seen.contains("opened 1 sessions, all over TCP"), "{seen}");
    let quic = log
        .clone()
        .own(1, Verb::SessionOpened, "ncc", "quic X25519MLKEM768");
    let why = scene.judged(&quic.0).expect_err("not as it must");
    assert!(why.contains("of 2 sessions 1 were over TCP"), "{why}");
    assert!(scene.judged(&log.without(Verb::SessionOpened).0).is_err());
    // With files that are routed it may have copies alone; with nothing at all it proves nothing.
    let copies = log.without(Verb::Accepted);
    assert!(scene.judged(&copies.0).is_ok());
    let nothing = copies.without(Verb::Receipt);
    assert!(scene.judged(&nothing.0).is_err());
}
