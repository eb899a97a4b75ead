//! What the engine does about delivery beside delivering: what is late, whom it tells, groups, quotas, what takes the place of what, and clocks that jump.

use std::collections::BTreeMap;

use bytes::Bytes;
use ordonnans_audit::merkle::Frontier;
use ordonnans_audit::{ClockQuality, Record, Verb};
use ordonnans_engine::{
    AlarmLimits, Effect, Engine, Input, Quotas, Recovered, Retention, Seq, Session, Settings,
    Table, Write,
};
use ordonnans_label::{Label, Level, Name};
use ordonnans_message::{
    Addressed, AttachmentRef, Envelope, Frame, Group, Header, MessageId, News, Precedence,
    ReceiptKind, Recipient, ReplyCode, Role, Timestamp, sha256,
};
use ordonnans_policy::Book;
use ordonnans_seal::{SeededEntropy, Verified};
use ordonnans_tests::house::{Draft, House, approved, night};

const NCC: usize = 0;
const DEF: usize = 1;
const LOCC: usize = 2;
const POLITIE: usize = 3;
const VR: usize = 4;
const WATER: usize = 5;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// An engine on a disk in memory, with nodes on the line that keep what they are told.
struct Night {
    house: House,
    settings: Settings,
    engine: Option<Engine>,
    version: u64,
    now: Timestamp,
    rows: BTreeMap<(u8, Bytes), Bytes>,
    records: Vec<Record>,
    frontier: Frontier,
    seq: Seq,
    at: Timestamp,
    sessions: u64,
    on_line: BTreeMap<u64, usize>,
    /// What nodes were sent since it was last asked.
    sent: Vec<(usize, Frame)>,
    delivered: Vec<(usize, MessageId)>,
    removed: usize,
    entropy: SeededEntropy,
}

impl Night {
    fn new(change: impl FnOnce(&mut Settings, &House)) -> Self {
        let house = House::new();
        let mut settings = Settings {
            broker: house.broker(),
            queue: 1_000,
            remembered: 1_000,
            remember_ms: ordonnans_message::limits::MAX_LIFETIME_MS,
            labelled: 1_000,
            clock: ClockQuality::Unknown,
            configuration: sha256(&[]),
            alarms: AlarmLimits::default(),
            quotas: Quotas::default(),
            contacts: vec![],
            retention: Retention::default(),
        };
        change(&mut settings, &house);
        let mut night = Self {
            house,
            settings,
            engine: None,
            version: 1,
            now: night(),
            rows: BTreeMap::new(),
            records: vec![],
            frontier: Frontier::default(),
            seq: Seq(0),
            at: Timestamp::default(),
            sessions: 0,
            on_line: BTreeMap::new(),
            sent: vec![],
            delivered: vec![],
            removed: 0,
            entropy: SeededEntropy::new(5),
        };
        night.start();
        // Each has been there once, so that it is known what its certificate gives.
        for node in 0..night.house.nodes.len() {
            let session = night.open(node);
            night.close(session);
        }
        night.sent.clear();
        night
    }

    /// Ends whatever runs and begins again from the disk.
    fn start(&mut self) {
        let rows = self.rows.iter().map(|((t, k), v)| {
            let table = Table::from_code(*t).expect("a table");
            (table, k.clone(), v.clone())
        });
        let rows: Vec<_> = rows.collect();
        let law = rows.iter().filter(|(t, ..)| *t == Table::Law);
        let recovered = Recovered {
            seq: self.seq,
            at: self.at,
            frontier: self.frontier.clone(),
            register: Recovered::register_of(law.map(|(_, _, v)| v.clone())),
            rows: Box::new(rows.into_iter().map(Ok)),
        };
        self.on_line.clear();
        let engine = Engine::new(
            self.settings.clone(),
            approved(self.version, None),
            Book::built_in(),
            recovered,
            vec![],
            Box::new(SeededEntropy::new(self.seq.0)),
            self.now,
        );
        self.engine = Some(engine.expect("begins"));
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            let Some(effect) = self.engine.as_mut().and_then(Engine::poll_effect) else {
                return;
            };
            match effect {
                Effect::Commit(commit) => {
                    for r in &commit.records {
                        self.frontier.append(r.public.leaf());
                    }
                    self.records.extend(commit.records);
                    for write in commit.writes {
                        match write {
                            Write::Put { table, key, value } => {
                                self.rows.insert((table.code(), key), value);
                            }
                            Write::Delete { table, key } => {
                                self.rows.remove(&(table.code(), key));
                            }
                        }
                    }
                    (self.seq, self.at) = (commit.seq, commit.at);
                    self.engine
                        .as_mut()
                        .expect("runs")
                        .durable_through(commit.seq);
                }
                Effect::Send { session, frame } => {
                    let Some(node) = self.on_line.get(&session.0).copied() else {
                        continue;
                    };
                    let notice = matches!(frame, Frame::Notice { .. });
                    let of = frame.digest();
                    self.sent.push((node, frame));
                    if notice {
                        self.tell(Input::Kept { session, of });
                    }
                }
                Effect::Deliver { session, id, .. } => {
                    let node = self.on_line.get(&session.0).copied();
                    self.delivered.extend(node.map(|n| (n, id)));
                }
                Effect::RemoveAttachment { .. } => self.removed += 1,
                _ => {}
            }
        }
    }

    fn tell(&mut self, input: Input) {
        let now = self.now;
        self.engine.as_mut().expect("runs").handle(now, input);
        self.drain();
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        self.tell(Input::Tick);
    }

    fn open(&mut self, node: usize) -> Session {
        self.sessions += 1;
        let session = Session(self.sessions);
        self.on_line.insert(session.0, node);
        let peer = self.house.nodes[node].certificate.clone();
        self.tell(Input::Opened {
            session,
            peer,
            line: "simulated".into(),
        });
        session
    }

    fn close(&mut self, session: Session) {
        self.on_line.remove(&session.0);
        let note = "gone";
        self.tell(Input::Closed { session, note });
    }

    fn seal(&mut self, d: &Draft, change: impl FnOnce(&mut Header)) -> Verified<Envelope> {
        self.house.seal_with(d, self.now, &mut self.entropy, change)
    }

    /// Publishes and gives the answer.
    fn publish(&mut self, session: Session, envelope: &Verified<Envelope>) -> Frame {
        let before = self.sent.len();
        let envelope = Box::new(envelope.clone());
        self.tell(Input::Publish { session, envelope });
        let is = |f: &Frame| matches!(f, Frame::Accepted { .. } | Frame::Refused { .. });
        let answers = &self.sent[before..];
        let answer = answers.iter().find(|(_, f)| is(f));
        answer.expect("an answer").1.clone()
    }

    fn accept(&mut self, session: Session, envelope: &Verified<Envelope>) -> MessageId {
        let answer = self.publish(session, envelope);
        assert!(matches!(answer, Frame::Accepted { .. }), "{answer:?}");
        envelope.get().header().id
    }

    fn receipt(&mut self, session: Session, envelope: &Verified<Envelope>, kind: ReceiptKind) {
        let node = self.on_line[&session.0];
        let receipt = self.house.receipt(envelope.get(), node, kind);
        let receipt = Box::new(receipt);
        self.tell(Input::Receipt { session, receipt });
    }

    /// Notes of the records of a verb.
    fn notes(&self, verb: Verb) -> Vec<String> {
        let of = self.records.iter().filter(|r| r.public.verb == verb);
        of.map(|r| r.detail.note.clone().unwrap_or_default())
            .collect()
    }

    /// What nodes were told since it was last asked.
    fn news(&mut self) -> Vec<(usize, News)> {
        let sent = std::mem::take(&mut self.sent);
        let news = sent.into_iter().filter_map(|(node, f)| match f {
            Frame::Notice { news, .. } => Some((node, news)),
            _ => None,
        });
        news.collect()
    }

    fn name(&self, node: usize) -> Name {
        self.house.nodes[node].name.clone()
    }
}

fn draft(from: usize, to: &[usize], level: Level, precedence: Precedence) -> Draft {
    Draft {
        from,
        to: to.into(),
        level,
        circle: false,
        precedence,
        lifetime: 20 * DAY,
        body: b"x".to_vec(),
    }
}

#[test]
fn what_is_not_opened_in_time_is_chased_and_then_escalated_once() {
    let mut n = Night::new(|s, h| {
        s.contacts = vec![h.nodes[DEF].name.clone(), h.nodes[WATER].name.clone()];
    });
    let (ncc, locc, def) = (n.open(NCC), n.open(LOCC), n.open(DEF));
    let _water = n.open(WATER);
    let flash = n.seal(
        &draft(NCC, &[LOCC, POLITIE], Level::DepV, Precedence::Flash),
        |h| {
            h.recipients[1].role = Role::Info;
        },
    );
    let id = n.accept(ncc, &flash);
    n.receipt(locc, &flash, ReceiptKind::Delivered);
    n.later(10 * MINUTE - 1_000);
    assert!(n.news().is_empty() && n.notes(Verb::Chased).is_empty());
    // One has it and does not open it, the other is not on the line.
    n.later(2_000);
    let precedence = Precedence::Flash;
    assert_eq!(n.news(), [(LOCC, News::Due { precedence })]);
    assert_eq!(
        n.notes(Verb::Chased),
        ["not opened in time, flash", "no receipt in time, flash"]
    );
    assert_eq!(n.notes(Verb::Alarm), ["no receipt in time, flash"]);
    // What was chased is not chased again by another run of the broker.
    n.start();
    let (ncc, locc) = (n.open(NCC), n.open(LOCC));
    n.open(DEF);
    n.open(WATER);
    n.later(4 * MINUTE);
    assert!(n.news().is_empty());
    n.later(MINUTE);
    let late = |node| News::Late {
        node: n.name(node),
        precedence,
    };
    // To whom it may be known: the second contact is not cleared for the message.
    let mut expected = vec![];
    for node in [LOCC, POLITIE] {
        expected.extend([(DEF, late(node)), (NCC, late(node))]);
    }
    assert_eq!(n.news(), expected);
    assert_eq!(
        n.notes(Verb::Escalated)[0],
        "not opened in time, flash; told: def"
    );
    n.later(DAY);
    assert!(n.news().is_empty(), "once");
    assert_eq!(n.notes(Verb::Escalated).len(), 2);
    // It is opened after all, and delivered to the other; nothing more follows.
    n.receipt(locc, &flash, ReceiptKind::Opened);
    n.open(POLITIE);
    assert!(n.delivered.contains(&(POLITIE, id)));
    n.later(10 * DAY);
    assert_eq!(n.notes(Verb::Chased).len(), 2);
    let _ = (ncc, def);
}

#[test]
fn what_is_opened_in_time_is_not_chased_but_for_the_answer_it_asks_for() {
    let mut n = Night::new(|_, _| ());
    let (ncc, locc) = (n.open(NCC), n.open(LOCC));
    let plain = n.seal(&draft(NCC, &[LOCC], Level::DepV, Precedence::Flash), |_| ());
    let asks = |n: &mut Night| {
        let by = n.now.after(HOUR);
        let d = draft(NCC, &[LOCC], Level::DepV, Precedence::Flash);
        n.seal(&d, |h| h.reply_by = Some(by))
    };
    let (answered, not) = (asks(&mut n), asks(&mut n));
    for e in [&plain, &answered, &not] {
        n.accept(ncc, e);
        n.receipt(locc, e, ReceiptKind::Delivered);
        n.receipt(locc, e, ReceiptKind::Opened);
    }
    n.later(30 * MINUTE);
    assert!(n.notes(Verb::Chased).is_empty());
    let answer = n.seal(
        &draft(LOCC, &[NCC], Level::DepV, Precedence::Routine),
        |h| {
            h.references = vec![answered.get().header().id];
        },
    );
    n.accept(locc, &answer);
    n.later(31 * MINUTE);
    assert_eq!(n.notes(Verb::Chased), ["not answered in time, flash"]);
    n.later(5 * MINUTE);
    assert_eq!(
        n.notes(Verb::Escalated),
        ["not answered in time, flash; told: nobody"]
    );
    // An answer before the time of the precedence makes the message due earlier.
    let soon = n.now.after(MINUTE);
    let d = draft(NCC, &[LOCC], Level::DepV, Precedence::Routine);
    let urgent = n.seal(&d, |h| h.reply_by = Some(soon));
    n.accept(ncc, &urgent);
    n.receipt(locc, &urgent, ReceiptKind::Delivered);
    n.later(2 * MINUTE);
    assert_eq!(n.notes(Verb::Chased).len(), 2);
    assert_eq!(n.notes(Verb::Chased)[1], "not opened in time, routine");
}

#[test]
fn the_originator_hears_of_what_is_withheld_and_what_expired() {
    let mut n = Night::new(|_, _| ());
    let ncc = n.open(NCC);
    let d = Draft {
        lifetime: HOUR,
        ..draft(NCC, &[LOCC, VR], Level::DepV, Precedence::Routine)
    };
    let e = n.seal(&d, |_| ());
    n.accept(ncc, &e);
    let (register, book) = (Box::new(approved(2, Some(VR))), Box::new(Book::built_in()));
    n.tell(Input::LawChanged { register, book });
    // Suspended, it does not get on the line; a message it is due is held back when it is judged again.
    n.later(1_000);
    assert!(n.news().is_empty(), "nobody asked for it yet");
    n.later(HOUR);
    let gone = |node| (NCC, News::Expired { node: n.name(node) });
    let expected = [gone(LOCC), gone(VR)];
    assert_eq!(n.news(), expected);
    assert_eq!(n.notes(Verb::Expired).len(), 2);
    // A sender that is suspended meanwhile: its message is held back, and it hears so when it is back.
    let locc = n.open(LOCC);
    n.close(locc);
    let e = n.seal(
        &draft(NCC, &[LOCC], Level::DepV, Precedence::Routine),
        |_| (),
    );
    n.accept(ncc, &e);
    let (register, book) = (Box::new(approved(3, Some(NCC))), Box::new(Book::built_in()));
    n.tell(Input::LawChanged { register, book });
    n.open(LOCC);
    assert!(n.delivered.is_empty());
    assert_eq!(n.notes(Verb::Withheld).len(), 1);
    let (register, book) = (Box::new(approved(4, None)), Box::new(Book::built_in()));
    n.tell(Input::LawChanged { register, book });
    n.open(NCC);
    let node = n.name(LOCC);
    assert_eq!(n.news(), [(NCC, News::Withheld { node })]);
    assert_eq!(n.delivered.len(), 1, "and now it went out");
}

#[test]
fn a_message_takes_the_place_of_copies_that_never_left() {
    let mut n = Night::new(|_, _| ());
    let (ncc, _locc) = (n.open(NCC), n.open(LOCC));
    let old = n.seal(
        &draft(NCC, &[LOCC, POLITIE, VR], Level::DepV, Precedence::Routine),
        |_| (),
    );
    let old_id = n.accept(ncc, &old);
    n.news();
    let mut foreign = n.seal(
        &draft(LOCC, &[POLITIE], Level::DepV, Precedence::Routine),
        |h| {
            h.supersedes = Some(old_id);
        },
    );
    n.accept(_locc, &foreign);
    assert!(
        n.notes(Verb::Superseded).is_empty(),
        "of another originator"
    );
    foreign = n.seal(
        &draft(NCC, &[LOCC, POLITIE], Level::DepV, Precedence::Routine),
        |h| {
            h.supersedes = Some(old_id);
        },
    );
    let new_id = n.accept(ncc, &foreign);
    assert_eq!(n.notes(Verb::Superseded), [format!("by {new_id}")]);
    let node = n.name(POLITIE);
    assert_eq!(n.news(), [(NCC, News::Superseded { node })]);
    n.delivered.clear();
    n.open(POLITIE);
    let ids: Vec<MessageId> = n.delivered.iter().map(|(_, id)| *id).collect();
    assert!(!ids.contains(&old_id) && ids.contains(&new_id));
    n.open(VR);
    assert!(
        n.delivered.contains(&(VR, old_id)),
        "the new one is not for it"
    );
}

fn group(text: &str) -> Group {
    text.parse().expect("a group")
}

#[test]
fn groups_reach_their_cleared_members_of_then_and_the_rest_is_counted() {
    let mut n = Night::new(|_, _| ());
    let sessions: Vec<Session> = (0..6).map(|i| n.open(i)).collect();
    let ncc = sessions[NCC];
    // Stg.C: the region and the water board are not cleared for it.
    let label: Box<Label> = Box::new("Stg.C // TOT 2036-01-01".parse().expect("a label"));
    let ask = |n: &mut Night, session, groups: &[&str]| {
        let groups = groups.iter().map(|g| group(g)).collect();
        let (request, label) = (7, label.clone());
        let before = n.sent.len();
        n.tell(Input::ExpandGet {
            session,
            request,
            groups,
            label,
        });
        let Some((_, Frame::Expanded { request: 7, groups })) = n.sent.get(before).cloned() else {
            panic!("no answer");
        };
        groups
    };
    let answer = ask(
        &mut n,
        ncc,
        &["list:allen", "list:niemand", "circle:ICCB", "role:piket"],
    );
    let counts: Vec<_> = answer
        .iter()
        .map(|m| m.as_ref().map(|m| (m.may.len(), m.left_out)))
        .collect();
    assert_eq!(counts, [Some((4, 2)), None, Some((3, 0)), Some((1, 0))]);
    let answer = ask(&mut n, sessions[VR], &["list:allen"]);
    assert_eq!(answer, [None], "who may not send it learns nothing");
    // As a daemon would address it, were it to think that everybody may have it.
    let everyone: Vec<usize> = (0..6).collect();
    let e = n.seal(
        &draft(NCC, &everyone, Level::StgC, Precedence::Routine),
        |h| {
            h.groups = vec![Addressed {
                group: group("list:allen"),
                members: (0..6).collect(),
            }];
        },
    );
    let id = n.accept(ncc, &e);
    let got: Vec<usize> = n
        .delivered
        .iter()
        .filter(|(_, i)| *i == id)
        .map(|(n, _)| *n)
        .collect();
    assert_eq!(got, [DEF, LOCC, NCC, POLITIE], "by name, and nobody else");
    assert_eq!(n.news(), [(NCC, News::LeftOut { count: 2 })]);
    let noted = n.notes(Verb::Accepted).pop().expect("a note");
    assert!(noted.ends_with("list:allen: 4; left out: 2"), "{noted}");
    assert_eq!(
        n.notes(Verb::CopyMade).last().map(String::as_str),
        Some("copy 4 of 6"),
        "as it was sealed: who was left out keeps the number, and gets no copy"
    );
    // From Stg.G up nothing is sealed to a bare node, also not to one that would be left out.
    let secret = draft(NCC, &[DEF], Level::StgG, Precedence::Routine);
    let e = n.seal(&secret, |h| {
        let bare = Recipient {
            person: None,
            ..h.recipients[0].clone()
        };
        h.recipients.push(bare);
        h.groups = vec![Addressed {
            group: group("list:allen"),
            members: vec![1],
        }];
    });
    let answer = n.publish(ncc, &e);
    assert!(matches!(answer, Frame::Refused { .. }), "{answer:?}");
    let e = n.seal(&secret, |_| ());
    n.accept(ncc, &e);
    // The same with one of them named: no.
    let e = n.seal(
        &draft(NCC, &everyone, Level::StgC, Precedence::Routine),
        |h| {
            h.groups = vec![Addressed {
                group: group("list:allen"),
                members: (0..5).collect(),
            }];
        },
    );
    let refused = n.publish(ncc, &e);
    let Frame::Refused {
        code, recipient, ..
    } = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (code, recipient),
        (ReplyCode::NotPermitted, Some(n.name(WATER)))
    );
    // A role goes over to somebody else before the message comes.
    let to_role = |n: &mut Night, holder: usize| {
        let person = n.house.nodes[holder].name.local().to_owned();
        let person: Name = format!("p-{person}.person.crisis.example")
            .parse()
            .expect("a name");
        n.seal(
            &draft(NCC, &[holder], Level::DepV, Precedence::Routine),
            |h| {
                h.recipients[0].person = Some(person);
                h.groups = vec![Addressed {
                    group: group("role:piket"),
                    members: vec![0],
                }];
            },
        )
    };
    // On duty are, by the register's version: 4, somebody at DEF; 8, somebody at LOCC (`house::on_duty`).
    let register_of = |n: &mut Night, version| {
        let (register, book) = (
            Box::new(approved(version, None)),
            Box::new(Book::built_in()),
        );
        n.tell(Input::LawChanged { register, book });
    };
    register_of(&mut n, 4);
    let to_old = to_role(&mut n, DEF);
    let e = to_role(&mut n, DEF);
    n.accept(ncc, &to_old);
    register_of(&mut n, 8);
    let answer = n.publish(ncc, &e);
    let Frame::Refused { code, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code, ReplyCode::UnknownRecipient);
    assert_eq!(
        n.notes(Verb::Refused).last().map(String::as_str),
        Some("its groups have no members")
    );
    let e = to_role(&mut n, LOCC);
    n.accept(ncc, &e);
}

#[test]
fn a_node_that_floods_gets_busy_with_a_time_and_the_others_do_not() {
    let mut n = Night::new(|s, _| {
        s.quotas = Quotas {
            messages: 3,
            urgent: 1,
            state_secret: 2,
            copies: 6,
            ..Quotas::default()
        };
    });
    let (ncc, def) = (n.open(NCC), n.open(DEF));
    let busy = |f: Frame| match f {
        Frame::Refused {
            code: ReplyCode::Busy,
            retry_after_ms,
            ..
        } => retry_after_ms,
        Frame::Accepted { .. } => None,
        other => panic!("{other:?}"),
    };
    let mut send = |from: usize, level, precedence| {
        let session = if from == NCC { ncc } else { def };
        let e = n.seal(&draft(from, &[LOCC], level, precedence), |_| ());
        n.later(1_000);
        let answer = busy(n.publish(session, &e));
        (answer, n.notes(Verb::Alarm).len())
    };
    let open = Level::DepV;
    for _ in 0..3 {
        assert_eq!(send(NCC, open, Precedence::Routine), (None, 0));
    }
    assert_eq!(send(NCC, open, Precedence::Routine), (Some(17_000), 0));
    assert_eq!(
        send(DEF, open, Precedence::Routine),
        (None, 0),
        "another node"
    );
    assert_eq!(
        send(NCC, open, Precedence::Flash),
        (None, 0),
        "not among those"
    );
    assert_eq!(send(NCC, open, Precedence::Flash), (Some(59_000), 0));
    assert_eq!(send(DEF, Level::StgC, Precedence::Routine), (None, 0));
    assert_eq!(send(DEF, Level::StgC, Precedence::Routine), (None, 0));
    let (wait, alarms) = send(DEF, Level::StgC, Precedence::Flash);
    assert!(wait.is_some_and(|w| w > 50 * 60_000), "{wait:?}");
    assert_eq!(alarms, 1, "an officer should look");
    assert_eq!(
        send(DEF, Level::StgC, Precedence::Flash).1,
        1,
        "once an hour"
    );
    n.later(2 * MINUTE);
    let mut send = |precedence| {
        let e = n.seal(&draft(NCC, &[LOCC], open, precedence), |_| ());
        busy(n.publish(ncc, &e))
    };
    assert_eq!(send(Precedence::Routine), None, "the next minute");
    assert_eq!(send(Precedence::Routine), None);
    assert_eq!(
        send(Precedence::Flash),
        Some(30_000),
        "six copies wait for their receipts"
    );
    // What was refused left nothing.
    assert_eq!(n.notes(Verb::Accepted).len(), 9);
}

#[test]
fn a_repeat_gets_the_first_answer_days_later_and_is_forgotten_in_the_end() {
    let mut n = Night::new(|_, _| ());
    let (ncc, locc) = (n.open(NCC), n.open(LOCC));
    let e = n.seal(
        &draft(NCC, &[LOCC], Level::DepV, Precedence::Routine),
        |_| (),
    );
    let first = n.publish(ncc, &e);
    n.receipt(locc, &e, ReceiptKind::Delivered);
    n.receipt(locc, &e, ReceiptKind::Opened);
    n.start();
    let ncc = n.open(NCC);
    // 20 days it may live, and 30 more.
    for days in [1, 19, 29] {
        n.later(days * DAY);
        assert_eq!(n.publish(ncc, &e), first, "after {days} more days");
    }
    assert_eq!(n.notes(Verb::Accepted).len(), 1);
    n.later(DAY + 1);
    let answer = n.publish(ncc, &e);
    let Frame::Refused { code, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        code,
        ReplyCode::Expired,
        "nobody remembers it, and its time is over"
    );
}

#[test]
fn a_clock_that_jumps_ten_years_ends_nothing() {
    const YEARS: u64 = 3_652 * DAY;
    let mut n = Night::new(|_, _| ());
    let ncc = n.open(NCC);
    let e = n.seal(
        &draft(NCC, &[LOCC], Level::DepV, Precedence::Routine),
        |_| (),
    );
    let id = n.accept(ncc, &e);
    let quality = ClockQuality::Unknown;
    let jump = |n: &mut Night, now: Timestamp| {
        n.now = now;
        let step_ms = YEARS;
        n.tell(Input::Clock { quality, step_ms });
        n.tell(Input::Tick);
    };
    let before = n.now;
    jump(&mut n, before.after(YEARS));
    assert!(n.notes(Verb::Expired).is_empty());
    // Also where the broker is started anew by the wrong clock.
    n.start();
    n.tell(Input::Tick);
    assert!(n.notes(Verb::Expired).is_empty());
    jump(&mut n, before.after(5_000));
    n.open(LOCC);
    assert_eq!(n.delivered, [(LOCC, id)]);
    let ncc = n.open(NCC);
    let again = n.publish(ncc, &e);
    assert!(matches!(again, Frame::Accepted { .. }), "it is remembered");
    let times: Vec<Timestamp> = n.records.iter().map(|r| r.public.time).collect();
    assert!(times.is_sorted(), "the time of the log never runs back");
    // A clock that stays there is believed after a day.
    jump(&mut n, before.after(YEARS));
    for _ in 0..24 * 60 * 60 + 1 {
        n.later(1_000);
    }
    assert_eq!(n.notes(Verb::Expired).len(), 1);
}

#[test]
fn an_attachment_goes_with_its_last_copy_and_the_log_says_so() {
    let mut n = Night::new(|_, _| ());
    let (ncc, locc, vr) = (n.open(NCC), n.open(LOCC), n.open(VR));
    let reference = AttachmentRef {
        digest: sha256(&[b"sealed"]),
        length: 6,
    };
    let d = draft(NCC, &[LOCC, VR], Level::DepV, Precedence::Routine);
    let e = n.seal(&d, |h| h.attachments = vec![reference]);
    let answer = n.publish(ncc, &e);
    let Frame::Refused { code, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code, ReplyCode::AttachmentMissing);
    let (digest, length) = (reference.digest, reference.length);
    let by = n.house.nodes[NCC].name.clone();
    n.tell(Input::AttachmentStored { by, digest, length });
    n.accept(ncc, &e);
    n.receipt(locc, &e, ReceiptKind::Delivered);
    assert_eq!((n.removed, n.notes(Verb::AttachmentRemoved).len()), (0, 0));
    n.receipt(vr, &e, ReceiptKind::Delivered);
    assert_eq!((n.removed, n.notes(Verb::AttachmentRemoved).len()), (1, 1));
}

#[test]
fn an_attachment_whose_message_never_comes_goes_after_a_day_or_where_there_are_too_many() {
    let mut n = Night::new(|s, _| s.quotas.stored = 1_000);
    let (ncc, _locc) = (n.open(NCC), n.open(LOCC));
    let stored_by = |n: &mut Night, node: usize, what: &'static [u8], length| {
        let (digest, by) = (sha256(&[what]), n.house.nodes[node].name.clone());
        n.tell(Input::AttachmentStored { by, digest, length });
        AttachmentRef { digest, length }
    };
    let stored = |n: &mut Night, what, length| stored_by(n, NCC, what, length);
    let claimed = stored(&mut n, b"claimed", 100);
    stored(&mut n, b"forgotten", 100);
    let d = draft(NCC, &[POLITIE], Level::DepV, Precedence::Routine);
    let kept = n.seal(&d, |h| h.attachments = vec![claimed]);
    n.accept(ncc, &kept);
    n.later(DAY - 1);
    assert_eq!(n.removed, 0);
    n.later(1);
    assert_eq!(n.removed, 1, "the one without a message");
    // Many at once: the oldest go, and a message to one that went is asked for it again.
    let first = stored(&mut n, b"one", 900);
    n.later(1);
    assert_eq!(n.removed, 1);
    stored(&mut n, b"two", 900);
    n.later(1);
    assert_eq!(n.removed, 2);
    let e = n.seal(&d, |h| h.attachments = vec![first]);
    let answer = n.publish(ncc, &e);
    assert!(
        matches!(answer, Frame::Refused { code, .. } if code == ReplyCode::AttachmentMissing),
        "{answer:?}"
    );
    // What its originator brought for a message that is refused goes at once; what another message has, or another node brought, does not.
    let third = stored(&mut n, b"three", 50);
    let theirs = stored_by(&mut n, LOCC, b"four", 10);
    let no = draft(NCC, &[VR], Level::StgC, Precedence::Routine);
    let e = n.seal(&no, |h| h.attachments = vec![third, claimed, theirs]);
    let answer = n.publish(ncc, &e);
    assert!(
        matches!(answer, Frame::Refused { code, .. } if code == ReplyCode::NotPermitted),
        "{answer:?}"
    );
    assert_eq!(n.removed, 3);
    // After a restart nothing is forgotten of what a message refers to.
    n.start();
    n.later(2 * DAY);
    let politie = n.open(POLITIE);
    n.receipt(politie, &kept, ReceiptKind::Delivered);
    assert_eq!(n.notes(Verb::AttachmentRemoved).len(), 1);
}

#[test]
fn action_and_information_have_a_precedence_each() {
    let mut n = Night::new(|_, _| ());
    let (ncc, _) = (n.open(NCC), n.open(DEF));
    let mut sent = vec![];
    for precedence in [
        Precedence::Routine,
        Precedence::Deferred,
        Precedence::Immediate,
    ] {
        let e = n.seal(&draft(NCC, &[LOCC], Level::DepV, precedence), |_| ());
        sent.push(n.accept(ncc, &e));
    }
    let dual = n.seal(
        &draft(NCC, &[VR, LOCC], Level::DepV, Precedence::Deferred),
        |h| {
            let to = &mut h.recipients;
            (to[1].role, to[1].precedence) = (Role::Action, Precedence::Override);
            to[0].role = Role::Info;
        },
    );
    let dual = n.accept(ncc, &dual);
    let routine = n.seal(&draft(NCC, &[VR], Level::DepV, Precedence::Routine), |_| ());
    let routine = n.accept(ncc, &routine);
    n.open(LOCC);
    n.open(VR);
    let of = |node| {
        let all = n.delivered.iter().filter(move |(n, _)| *n == node);
        all.map(|(_, id)| *id).collect::<Vec<_>>()
    };
    assert_eq!(of(LOCC), [dual, sent[2], sent[0], sent[1]]);
    assert_eq!(of(VR), [routine, dual]);
}

#[test]
fn a_node_that_is_away_for_a_week_gets_everything_in_order_and_nothing_was_silent() {
    let mut n = Night::new(|_, _| ());
    let ncc = n.open(NCC);
    let mut sent = vec![];
    // One message a day, the more urgent the later, and the broker is restarted meanwhile.
    for precedence in Precedence::ALL {
        let e = n.seal(&draft(NCC, &[LOCC], Level::DepV, precedence), |_| ());
        sent.push((n.accept(ncc, &e), e));
        for _ in 0..24 {
            n.later(HOUR);
        }
    }
    n.start();
    let ncc = n.open(NCC);
    n.later(DAY);
    // Each was chased and escalated, once: nobody believes that it has arrived.
    assert_eq!(n.notes(Verb::Chased).len(), sent.len());
    assert_eq!(n.notes(Verb::Escalated).len(), sent.len());
    assert!(n.notes(Verb::Expired).is_empty() && n.delivered.is_empty());
    let locc = n.open(LOCC);
    let came: Vec<MessageId> = n.delivered.drain(..).map(|(_, id)| id).collect();
    let urgent_first: Vec<MessageId> = sent.iter().rev().map(|(id, _)| *id).collect();
    assert_eq!(came, urgent_first);
    for (_, e) in &sent {
        n.receipt(locc, e, ReceiptKind::Delivered);
    }
    n.later(MINUTE);
    assert!(n.delivered.is_empty(), "each once");
    assert_eq!(n.notes(Verb::Receipt).len(), sent.len());
    let _ = ncc;
}
