//! What is law while a broker runs: registers that take force, policies that change, and the acts of those who establish labels.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use bytes::Bytes;
use ordonnans_audit::{Detail, Public, Verb};
use ordonnans_broker::Broker;
use ordonnans_client::officer::Officer;
use ordonnans_identity::Signer as _;
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_message::{
    ActKind, AuditQuery, Declaration, Digest, Envelope, Frame, Precedence, ReplyCode, SignedAct,
    sha256,
};
use ordonnans_seal::{SeededEntropy, sign_statement};
use ordonnans_tests::house::{Draft, House, STRUCTURE, register_text};
use ordonnans_tests::site::{Peer, Site, WITHIN, now, write_credentials};
use ordonnans_transport::Lane;

struct Town {
    site: Site,
    dir: tempfile::TempDir,
}

impl Town {
    /// A broker's files, and certificates of the persons who may sign.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        for local in ["p-ncc", "p-def", "p-vr"] {
            let name = Name::new(local, Kind::Person, STRUCTURE).expect("a name");
            let issued = house.authority.issue(&name, &Clearance::new(Level::DepV));
            write_credentials(dir.path(), local, &issued.expect("a certificate"));
        }
        Self { site, dir }
    }

    fn put(&self, version: u64, suspended: Option<usize>, registrars: &str) {
        let text = register_text(version, suspended);
        let named = text.replacen('\n', &format!("\nregistrars = [{registrars}]\n"), 1);
        fs::write(self.dir.path().join("register.toml"), named).expect("written");
    }

    fn register(&self, words: &[&str]) -> ExitCode {
        let path = |w: &&str| match *w {
            w if w.ends_with(".toml") || w.ends_with(".pem") => self.dir.path().join(w).into(),
            w => OsString::from(w),
        };
        let all = ["ordonnans-broker", "register"].iter().chain(words);
        ordonnans_broker::run(all.map(path))
    }

    fn sign(&self, who: &str) -> bool {
        let (cert, key) = (format!("{who}.cert.pem"), format!("{who}.key.pem"));
        let words = ["sign", "register.toml", "--as", &cert, "--key", &key];
        self.register(&words) == ExitCode::SUCCESS
    }

    /// What the log says of registers: version and signers of each that took force.
    /// What the log says of registers, as soon as it is said so many times: the broker goes on while a reload is being recorded.
    async fn told(&self, times: usize) -> Vec<String> {
        let began = std::time::Instant::now();
        loop {
            let told = self.told_now().await;
            if told.len() >= times {
                return told;
            }
            assert!(began.elapsed() < WITHIN, "{told:?}");
        }
    }

    async fn told_now(&self) -> Vec<String> {
        let mut officer = Officer::connect(&self.site.officer())
            .await
            .expect("comes in");
        let page = officer
            .page(AuditQuery {
                limit: 256,
                ..AuditQuery::default()
            })
            .await
            .expect("a page");
        let of = page.entries.into_iter().filter_map(|e| {
            let public = Public::decode(&e.public).ok()?;
            let (_, detail) = e.opened?;
            let note = Detail::decode(&detail).ok()?.note?;
            (public.verb == Verb::RegisterChanged).then_some(note)
        });
        of.collect()
    }
}

const BOTH: &str = "\"p-ncc\", \"p-def\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_register_takes_force_by_the_signatures_of_two() {
    let t = Town::new();
    t.put(1, Some(4), BOTH);
    let unsigned = Broker::start(t.site.config()).await.map(drop);
    let why = unsigned.expect_err("nobody has signed").to_string();
    assert!(why.contains("2 registrars, and has 0"), "{why}");
    assert!(t.sign("p-ncc") && t.sign("p-ncc") && t.sign("p-vr"));
    assert!(
        Broker::start(t.site.config()).await.is_err(),
        "one, twice, and who may not"
    );
    assert!(t.sign("p-def"));
    let broker = Broker::start(t.site.config()).await.expect("starts");

    // A node comes back into force: that widens.
    t.put(2, None, BOTH);
    assert!(t.sign("p-def"));
    let why = broker
        .reload()
        .await
        .expect_err("one is too few")
        .to_string();
    assert!(why.contains("widens access (node vr: active)"), "{why}");
    assert!(t.sign("p-ncc"));
    broker.reload().await.expect("both");
    // A node is taken out: one is enough, nobody is not.
    t.put(3, Some(1), BOTH);
    assert!(broker.reload().await.is_err());
    assert!(t.sign("p-def"));
    broker.reload().await.expect("one may stop a node");
    let told = t.told(3).await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].ends_with("took force at the start; signed by p-def, p-ncc"),
        "{told:?}"
    );
    assert!(
        told[1].contains("1 of them widening; signed by p-def, p-ncc"),
        "{told:?}"
    );
    assert!(told[2].ends_with("signed by p-def"), "{told:?}");
    broker.stop().await.expect("stops");

    // While it is down, somebody puts another in its place.
    let good = fs::read(t.dir.path().join("register.toml")).expect("read");
    t.put(4, None, "");
    let why = Broker::start(t.site.config()).await.map(drop);
    let why = why.expect_err("swapped").to_string();
    assert!(why.contains("has 0"), "{why}");
    t.put(2, None, BOTH);
    assert!(t.sign("p-def") && t.sign("p-ncc"));
    let why = Broker::start(t.site.config()).await.map(drop);
    let why = why.expect_err("an older one, rightly signed").to_string();
    assert!(
        why.contains("version 2, and version 3 is in force"),
        "{why}"
    );
    fs::write(t.dir.path().join("register.toml"), good).expect("written");
    let broker = Broker::start(t.site.config())
        .await
        .expect("the one in force needs no more");
    broker.stop().await.expect("stops");
}

#[test]
fn registers_are_checked_compared_and_signed_by_hand() {
    let t = Town::new();
    t.put(1, None, BOTH);
    fs::copy(
        t.dir.path().join("register.toml"),
        t.dir.path().join("old.toml"),
    )
    .expect("copied");
    assert_eq!(t.register(&["check", "register.toml"]), ExitCode::SUCCESS);
    t.put(2, Some(1), BOTH);
    assert_eq!(
        t.register(&["diff", "old.toml", "register.toml"]),
        ExitCode::SUCCESS
    );
    assert_eq!(
        t.register(&["diff", "register.toml", "old.toml"]),
        ExitCode::from(1)
    );
    t.put(1, Some(1), BOTH);
    let same_version = t.register(&["diff", "old.toml", "register.toml"]);
    assert_eq!(same_version, ExitCode::from(1));
    // A node is nobody who signs.
    assert!(!t.sign("bva"), "an officer is no person");
    t.put(1, None, "\"p-ncc\"");
    assert_eq!(t.register(&["check", "register.toml"]), ExitCode::from(1));
    t.put(1, None, "\"p-ncc\", \"nobody\"");
    assert_eq!(t.register(&["check", "register.toml"]), ExitCode::from(1));
    fs::write(t.dir.path().join("register.toml.sig"), "no base64!\n").expect("written");
    t.put(1, None, BOTH);
    assert!(!t.sign("p-ncc"), "what is broken is not written over");
}

/// A broker that serves, its structure, and texts of its files.
struct City {
    house: House,
    site: Site,
    broker: Broker,
    entropy: SeededEntropy,
    dir: tempfile::TempDir,
    version: u64,
}

const NCC: usize = 0;
const DEF: usize = 1;
const LOCC: usize = 2;
const VR: usize = 4;

impl City {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut house = House::new();
        let site = Site::new(dir.path(), &mut house);
        let config = fs::read_to_string(site.broker_toml()).expect("read");
        fs::create_dir(dir.path().join("policies")).expect("made");
        let with = format!("policies = \"policies\"\n{config}");
        fs::write(site.broker_toml(), with).expect("written");
        let broker = Broker::start(site.config()).await.expect("starts");
        let mut city = Self {
            house,
            site,
            broker,
            entropy: SeededEntropy::new(5),
            dir,
            version: 1,
        };
        for node in 0..city.house.nodes.len() {
            city.peer(node).await.leave().await;
        }
        city.register(&[]).await;
        city
    }

    /// Puts the usual register in force with an event, and with these changes.
    async fn register(&mut self, changes: &[(&str, &str)]) {
        self.version += 1;
        let event = "[[event]]\nname = \"einde\"\ntitle = \"Einde\"\ndeclared_by = [\"p-def\"]\n";
        let mut text = format!("{}{event}", register_text(self.version, None));
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        fs::write(self.dir.path().join("register.toml"), text).expect("written");
        self.broker.reload().await.expect("reloads");
    }

    async fn restart(self) -> Self {
        self.broker.stop().await.expect("stops");
        let broker = Broker::start(self.site.config()).await.expect("starts");
        Self { broker, ..self }
    }

    async fn peer(&self, node: usize) -> Peer {
        self.site.peer(&self.house, node).await.expect("comes in")
    }

    fn draft(from: usize, to: &[usize], level: Level) -> Draft {
        Draft {
            from,
            to: to.to_vec(),
            level,
            circle: false,
            precedence: Precedence::Routine,
            lifetime: 3_600_000,
            body: b"inhoud".to_vec(),
        }
    }

    /// A message that was accepted, and its first act.
    async fn sent(&mut self, peer: &Peer, to: &[usize], level: Level) -> (Envelope, Digest) {
        let d = Self::draft(NCC, to, level);
        let e = self.house.seal(&d, now(), &mut self.entropy);
        let e = e.into_inner();
        peer.publish(e.encode()).await.expect("sends");
        let decision = peer.decision().await.expect("decides");
        assert!(matches!(decision, Frame::Accepted { .. }));
        let act = e.header().act.as_ref().expect("an act").digest();
        (e, act)
    }
}

async fn told_act(peer: &Peer) -> Bytes {
    peer.next(|f| match f {
        Frame::Act { act } => Some(act),
        _ => None,
    })
    .await
}

fn frame(act: Option<SignedAct>) -> Frame {
    Frame::Act {
        act: act.expect("an act").encode(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_statement_of_its_vaststeller_nothing_is_routed() {
    let mut c = City::new().await;
    let ncc = c.peer(NCC).await;
    let d = City::draft(NCC, &[LOCC], Level::DepV);
    let bare = c.house.seal_unstated(&d, now(), &mut c.entropy);
    ncc.publish(bare.get().encode()).await.expect("sends");
    let Some(Frame::Refused { code, rule, .. }) = ncc.decision().await else {
        panic!("it is the sender's word alone");
    };
    assert_eq!((code, rule), (ReplyCode::NotPermitted, Some(21)));
    c.sent(&ncc, &[LOCC], Level::DepV).await;
    // A statement carries one message: the same content again, under another id, would bring a label back that was revised since.
    let once = c.house.seal(&d, now(), &mut SeededEntropy::new(77));
    ncc.publish(once.get().encode()).await.expect("sends");
    assert!(matches!(ncc.decision().await, Some(Frame::Accepted { .. })));
    let again = c.house.seal_again(&d, once.get(), now());
    ncc.publish(again.get().encode()).await.expect("sends");
    let Some(Frame::Refused { code, .. }) = ncc.decision().await else {
        panic!("one statement for two messages");
    };
    assert_eq!(code, ReplyCode::Conflict);
    let accepted = c.site.told(Verb::Accepted, 1).await;
    let note = accepted[0].note.as_deref().expect("a note");
    assert_eq!(note, "established by p-ncc.person.crisis.example");
    c.broker.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revised_label_is_told_to_holders_and_decides_over_copies_that_wait() {
    let mut c = City::new().await;
    let ncc = c.peer(NCC).await;
    let locc = c.peer(LOCC).await;
    // VR is away: its copy waits. LOCC has one.
    let (e, first) = c.sent(&ncc, &[LOCC, VR], Level::DepV).await;
    locc.next(|f| matches!(f, Frame::Deliver { .. }).then_some(()))
        .await;
    let raised = "Stg.C // TOT 2036-01-01";
    let up = c.house.revises(NCC, &e, first, ActKind::Revise, raised);
    let second = up.as_ref().expect("an act").digest();
    let up = frame(up);
    assert_eq!(ncc.state(&up).await, Ok(()));
    let Frame::Act { act } = &up else {
        unreachable!()
    };
    assert_eq!(told_act(&locc).await, *act);
    // The same again is kept already; another after the first comes too late.
    assert_eq!(ncc.state(&up).await, Ok(()));
    let late = c
        .house
        .revises(NCC, &e, first, ActKind::Revise, "Stg.G // TOT 2036-01-01");
    assert_eq!(
        ncc.state(&frame(late)).await,
        Err((ReplyCode::Conflict, None))
    );
    // Nobody else may, and not about another content or message.
    let mine = c.house.revises(DEF, &e, second, ActKind::Revise, raised);
    let no = locc.state(&frame(mine)).await;
    assert_eq!(
        no,
        Err((ReplyCode::NotPermitted, None)),
        "not of this node, nor at it"
    );
    let mine = c.house.revises(DEF, &e, second, ActKind::Revise, raised);
    let no = ncc.state(&frame(mine)).await;
    assert_eq!(
        no,
        Err((ReplyCode::NotPermitted, Some(7))),
        "not the vaststeller"
    );
    let (other, _) = c.sent(&ncc, &[DEF], Level::DepV).await;
    let mixed = c.house.revises(NCC, &other, first, ActKind::Revise, raised);
    assert_eq!(
        ncc.state(&frame(mixed)).await,
        Err((ReplyCode::Conflict, None))
    );
    let for_ever = c.house.revises(NCC, &e, second, ActKind::Revise, "Stg.C");
    assert_eq!(
        ncc.state(&frame(for_ever)).await,
        Err((ReplyCode::NotPermitted, Some(5)))
    );
    let unknown = "Stg.C // TOT GEBEURTENIS \"iets\"";
    let unknown = c.house.revises(NCC, &e, second, ActKind::Revise, unknown);
    assert_eq!(
        ncc.state(&frame(unknown)).await,
        Err((ReplyCode::NotPermitted, Some(22)))
    );
    // VR comes back, and gets the news but not the message. After a restart it is the same, and who has not said that it keeps the news is told again.
    locc.leave().await;
    let mut c = c.restart().await;
    let vr = c.peer(VR).await;
    assert_eq!(told_act(&vr).await, *act);
    let withheld = c.site.told(Verb::Withheld, 1).await;
    assert_eq!(
        (withheld[0].rule, &withheld[0].to),
        (Some(10), &Some(c.house.nodes[VR].name.clone()))
    );
    let locc = c.peer(LOCC).await;
    assert_eq!(told_act(&locc).await, *act);
    let kept = Frame::Kept { of: up.digest() };
    locc.say(Lane::Control, &kept).await.expect("says");
    // Officers see who holds what it may not hold now.
    let regraded = c.site.told(Verb::Regraded, 2).await;
    assert_eq!(regraded[0].note.as_deref(), Some("revise: Dep.V to Stg.C"));
    assert_eq!(
        regraded[0].person,
        Some("p-ncc.person.crisis.example".parse().expect("a name"))
    );
    let over: Vec<_> = regraded.iter().filter_map(|d| d.to.as_ref()).collect();
    assert_eq!(over, [&c.house.nodes[VR].name]);
    // Lowered again, the copy that waited goes out. A successor may do that, once the register says so.
    let lowered = "Dep.V // TOT 2036-01-01";
    let down = c.house.revises(DEF, &e, second, ActKind::Revise, lowered);
    let down = frame(down);
    let ncc = c.peer(NCC).await;
    assert_eq!(
        ncc.state(&down).await,
        Err((ReplyCode::NotPermitted, Some(7)))
    );
    let mandate = "name = \"p-def\"\nnode = \"def\"\nclearance = \"Stg.G\"\ncircles = [\"ICCB\"]\nmandate = { up_to = \"Stg.G\", decision = \"test\", until = \"2036-01-01\" }";
    let heir = "name = \"p-def\"\nnode = \"def\"\nclearance = \"Stg.G\"\ncircles = [\"ICCB\"]\nmandate = { up_to = \"Stg.G\", decision = \"test\", until = \"2036-01-01\", nodes = [\"ncc\", \"def\"] }\nsucceeds = [\"p-ncc\"]";
    c.register(&[(mandate, heir)]).await;
    assert_eq!(ncc.state(&down).await, Ok(()));
    vr.next(|f| matches!(f, Frame::Deliver { .. }).then_some(()))
        .await;
    // LOCC hears of the second act alone: the first it keeps.
    let Frame::Act { act } = &down else {
        unreachable!()
    };
    assert_eq!(told_act(&locc).await, *act);
    let last = SignedAct::decode(act).expect("an act").digest();
    let end = c
        .house
        .revises(DEF, &e, last, ActKind::End, "Ongerubriceerd");
    assert_eq!(ncc.state(&frame(end)).await, Ok(()));
    let regraded = c.site.told(Verb::Regraded, 4).await;
    assert_eq!(
        regraded[3].note.as_deref(),
        Some("end: Dep.V to Ongerubriceerd")
    );
    c.broker.stop().await.expect("stops");
}

fn declaration(c: &City, by: usize, event: &str) -> Frame {
    let signer = &c.house.nodes[by].vaststeller;
    let d = Declaration {
        event: event.into(),
        by: signer.certificate().name().clone(),
        at: now(),
    };
    Frame::Declare {
        declaration: sign_statement(&d, signer).expect("signed").encode(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_brings_a_review_and_changes_no_level() {
    let mut c = City::new().await;
    let (ncc, def) = (c.peer(NCC).await, c.peer(DEF).await);
    let (e, first) = c.sent(&ncc, &[LOCC], Level::StgC).await;
    let id = e.header().id;
    let until = "Stg.C // TOT GEBEURTENIS \"einde\"";
    let act = c.house.revises(NCC, &e, first, ActKind::Revise, until);
    let second = act.as_ref().expect("an act").digest();
    assert_eq!(ncc.state(&frame(act)).await, Ok(()));
    let no = Err((ReplyCode::NotPermitted, Some(22)));
    assert_eq!(
        ncc.state(&declaration(&c, NCC, "einde")).await,
        no,
        "not theirs to declare"
    );
    assert_eq!(
        ncc.state(&declaration(&c, DEF, "einde")).await,
        no,
        "not through this node"
    );
    assert_eq!(
        def.state(&declaration(&c, DEF, "iets")).await,
        no,
        "no such event"
    );
    assert_eq!(def.state(&declaration(&c, DEF, "einde")).await, Ok(()));
    assert_eq!(
        def.state(&declaration(&c, DEF, "einde")).await,
        Ok(()),
        "again is nothing new"
    );
    let due = |f| match f {
        Frame::ReviewDue { id, event, .. } => Some((id, event)),
        _ => None,
    };
    assert_eq!(ncc.next(due).await, (id, Some("einde".into())));
    let declared = c.site.told(Verb::EventDeclared, 1).await;
    assert_eq!(
        (declared.len(), declared[0].note.as_deref()),
        (1, Some("einde"))
    );
    let reviews = c.site.told(Verb::ReviewDue, 1).await;
    assert_eq!(reviews.len(), 1);
    // Until it is kept, it is told again; the level stays in force meanwhile, for a node that may not have it as well.
    let mut c = c.restart().await;
    let ncc = c.peer(NCC).await;
    assert_eq!(ncc.next(due).await, (id, Some("einde".into())));
    let by = "p-ncc.person.crisis.example".parse().expect("a name");
    let of = Frame::ReviewDue {
        id,
        by,
        event: Some("einde".into()),
    }
    .digest();
    ncc.say(Lane::Control, &Frame::Kept { of })
        .await
        .expect("says");
    assert!(
        c.site.told(Verb::Regraded, 1).await.len() == 1,
        "nothing was regraded by it"
    );
    // A label that lasts until what has happened already, or until yesterday, is due at once.
    let act = c
        .house
        .revises(NCC, &e, second, ActKind::Revise, "Stg.C // TOT 2020-01-01");
    assert_eq!(ncc.state(&frame(act)).await, Ok(()));
    assert_eq!(ncc.next(due).await, (id, None));
    let (later, first) = c.sent(&ncc, &[LOCC], Level::DepV).await;
    let until = "Dep.V // TOT GEBEURTENIS \"einde\"";
    let act = c.house.revises(NCC, &later, first, ActKind::Revise, until);
    assert_eq!(ncc.state(&frame(act)).await, Ok(()));
    assert_eq!(
        ncc.next(due).await,
        (later.header().id, Some("einde".into()))
    );
    c.broker.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_is_picked_up_and_recorded() {
    let c = City::new().await;
    let file = c.dir.path().join("policies").join("nl.toml");
    let text = include_str!("../../crates/label/policies/nl.toml");
    assert!(text.contains("version = 1"));
    let newer = text.replacen("version = 1", "version = 2", 1);
    fs::write(&file, &newer).expect("written");
    c.broker.reload().await.expect("reloads");
    let changed = c.site.told(Verb::PolicyChanged, 1).await;
    assert_eq!(changed[0].note.as_deref(), Some("NL version 2"));
    assert_eq!(changed[0].policy, Some(sha256(&[newer.as_bytes()])));
    // What is decided from now on rests on it.
    let mut c = c;
    let ncc = c.peer(NCC).await;
    c.sent(&ncc, &[VR], Level::DepV).await;
    let accepted = c.site.told(Verb::Accepted, 1).await;
    assert_eq!(accepted[0].policy, changed[0].policy);
    // A file that is no policy changes nothing, and is named.
    fs::write(&file, "id = 3").expect("written");
    let e = c.broker.reload().await.expect_err("broken").to_string();
    assert!(e.contains("nl.toml"), "{e}");
    // A label that is not valid any more: copies under it wait, and go out when it is again.
    let rule =
        "[[rule]]\nwhen = { level = \"Dep.V\" }\nneeds = \"all\"\nof = [{ set = \"Merking\" }]\n";
    let without = newer.replacen("version = 2", "version = 3", 1) + "\n" + rule;
    fs::write(&file, without).expect("written");
    c.broker.reload().await.expect("reloads");
    let vr = c.peer(VR).await;
    let withheld = c.site.told(Verb::Withheld, 1).await;
    assert_eq!(withheld[0].rule, Some(16));
    fs::write(&file, newer.replacen("version = 2", "version = 4", 1)).expect("written");
    c.broker.reload().await.expect("reloads");
    vr.next(|f| matches!(f, Frame::Deliver { .. }).then_some(()))
        .await;
    c.broker.stop().await.expect("stops");
}
