//! The simulation: one broker and thirty nodes on a simulated wire, clock and disk, from a seed.
//!
//! Messages go to nodes, named persons, a role and a distribution list, for action and information, with precedences of their own; some ask for an
//! answer, some take the place of another, some are recalled. Frames are lost, repeated, delayed and overtaken; connections end; the broker is killed with
//! any part of its commits on the disk; the clock jumps, now and then by ten years; nodes are suspended, revoked and restored. After every step what must never be is checked; at the end everything is healed, and what must be
//! somewhere must be there. The model knows only what was sent and what was answered: it shares no code with engine or policy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use ordonnans_audit::merkle::{Frontier, TreeHead};
use ordonnans_audit::{ClockQuality, Record, Verb};
use ordonnans_engine::{
    AlarmLimits, Believed, Commit, Effect, Engine, Input, Recovered, Retention, Seq, Session,
    Settings, Table, Write,
};
use ordonnans_label::Level;
use ordonnans_message::{
    ActKind, Addressed, Digest, Envelope, Frame, GroupKind, Header, MessageId, News, Precedence,
    ReceiptKind, ReplyCode, Role, Sha256Stream, SignedAct, Timestamp, sha256,
};
use ordonnans_policy::Book;
use ordonnans_seal::{SeededEntropy, Verified, verify_statement};

use crate::house::{Draft, House, Member, approved_of, many, night, on_duty};

/// Nodes of the structure.
const NODES: usize = 30;
/// Messages made once and used by every seed.
const POOL: usize = 96;
/// Messages beside them that pass on some of those.
const PASSED: usize = 24;
/// Random steps of a run, before everything is healed.
const STEPS: usize = 300;
/// A jump of the clock that somebody must have made by mistake, in milliseconds.
const TEN_YEARS: u64 = 3_652 * 24 * 60 * 60 * 1000;
/// Copies that may wait for a node: small, so that runs reach the bound.
const QUEUE: usize = 12;

/// A small generator of numbers (SplitMix64): fast, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % (n as u64)).unwrap_or(0)
    }

    /// Whether something of this chance in a hundred happens.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Acts on one message, each with the level it gives.
type Line = Vec<(Level, Verified<SignedAct>)>;

/// The structure and the messages of every run.
pub struct Stage {
    house: House,
    pool: Vec<(Draft, Verified<Envelope>)>,
    /// For some messages, the acts that follow their first, and the level of each.
    acts: BTreeMap<MessageId, Line>,
}

impl Default for Stage {
    fn default() -> Self {
        let house = House::of(many(NODES));
        let (mut dice, mut entropy) = (Dice::new(1), SeededEntropy::new(1));
        let mut pool: Vec<(Draft, Verified<Envelope>)> = vec![];
        for i in 0..POOL {
            // The first six, of all levels, say most.
            let any = |dice: &mut Dice| {
                let few = dice.chance(60);
                dice.below(if few { 6 } else { NODES })
            };
            let from = any(&mut dice);
            let kind = dice.below(10);
            let many = if kind == 0 { 7 } else { 3 };
            let mut to: BTreeSet<usize> = (0..=dice.below(many)).map(|_| any(&mut dice)).collect();
            if kind == 1 {
                // For whoever is on duty when the register begins.
                to = [on_duty(NODES, 1)].into();
            }
            let level = Level::ALL[dice.below(5).min(dice.below(5))];
            let draft = Draft {
                from,
                to: to.into_iter().collect(),
                level,
                circle: dice.chance(25),
                precedence: Precedence::ALL[dice.below(6)],
                lifetime: if dice.chance(20) { 20_000 } else { 3_600_000 },
                body: vec![i as u8; 100],
            };
            let id_of = |(_, e): &(Draft, Verified<Envelope>)| e.get().header().id;
            let own: Vec<MessageId> = pool
                .iter()
                .filter(|(d, _)| d.from == from)
                .map(id_of)
                .collect();
            let theirs: Vec<MessageId> = pool
                .iter()
                .filter(|(d, _)| d.to.contains(&from))
                .map(id_of)
                .collect();
            let (info, asks) = (dice.chance(30), dice.chance(30));
            let supersedes = own.last().copied().filter(|_| dice.chance(25));
            let answers = theirs.last().copied().filter(|_| dice.chance(40));
            let person = |n: usize| {
                let local = &house.members[n].0;
                format!("p-{local}.person.crisis.example").parse().ok()
            };
            let change = |h: &mut Header| {
                if info && let Some(last) = h.recipients.last_mut() {
                    (last.role, last.precedence) = (Role::Info, Precedence::Deferred);
                }
                h.reply_by = asks.then(|| night().after(1_800_000));
                h.supersedes = supersedes;
                h.references = answers.into_iter().collect();
                let group = match kind {
                    0 => "list:allen",
                    1 => "role:piket",
                    _ => return,
                };
                if kind == 1 {
                    h.recipients[0].person = person(draft.to[0]);
                }
                let members = (0..h.recipients.len()).filter_map(|n| u16::try_from(n).ok());
                h.groups = group
                    .parse()
                    .map(|group| Addressed {
                        group,
                        members: members.collect(),
                    })
                    .into_iter()
                    .collect();
            };
            let envelope = house.seal_with(&draft, night(), &mut entropy, change);
            pool.push((draft, envelope));
        }
        // What is not for persons alone, by somebody it is for: to who may have it, and to who may not.
        let on: Vec<_> = pool
            .iter()
            .filter(|(d, e)| {
                [Level::DepV, Level::StgC].contains(&d.level)
                    && e.get().header().groups.is_empty()
                    && d.to.iter().any(|i| d.may_reach(&house.members[*i]))
            })
            .cycle()
            .take(PASSED)
            .map(|(d, e)| {
                let from = d.to.iter().find(|i| d.may_reach(&house.members[**i]));
                let few = dice.chance(70);
                let mut to: BTreeSet<usize> = (0..=dice.below(3))
                    .map(|_| dice.below(if few { 6 } else { NODES }))
                    .collect();
                if dice.chance(75) {
                    to.retain(|i| d.may_reach(&house.members[*i]));
                }
                if to.is_empty() {
                    to.insert(d.from);
                }
                let draft = Draft {
                    from: from.copied().unwrap_or(d.from),
                    to: to.into_iter().collect(),
                    lifetime: 3_600_000,
                    ..d.clone()
                };
                let envelope = house.pass_on(&draft, e.get(), night(), &mut entropy);
                (draft, envelope)
            })
            .collect();
        let mut stage = Self {
            house,
            pool,
            acts: BTreeMap::new(),
        };
        stage.acts = stage.pool.iter().filter_map(|p| stage.line(p)).collect();
        stage.pool.extend(on);
        stage
    }
}

impl Stage {
    /// Raises the label of a message as far as its vaststeller may, and puts it back.
    fn line(&self, (draft, envelope): &(Draft, Verified<Envelope>)) -> Option<(MessageId, Line)> {
        let e = envelope.get();
        let mut last = e.header().act.as_ref()?.digest();
        let most = self.house.members[draft.from].1;
        let raised = Level::ALL.into_iter().find(|l| *l > draft.level)?.min(most);
        let mut acts = vec![];
        for level in [raised, draft.level] {
            let circle = if draft.circle { " // KRING ICCB" } else { "" };
            let label = format!("{level}{circle} // TOT 2036-01-01");
            let act = self
                .house
                .revises(draft.from, e, last, ActKind::Revise, &label)?;
            last = act.digest();
            let act = verify_statement(act, &self.house.trust, night()).ok()?;
            acts.push((level, act));
        }
        Some((e.header().id, acts))
    }
}

/// What a run did, so that somebody sees that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages accepted.
    pub accepted: usize,
    /// Refused.
    pub refused: usize,
    /// Of those accepted, what passes another on.
    pub passed_on: usize,
    /// Copies that arrived.
    pub delivered: usize,
    /// Labels that were revised.
    pub revised: usize,
    /// Messages that were recalled.
    pub recalled: usize,
    /// What nodes were told of copies, unasked.
    pub told: usize,
    /// Times the clock jumped by ten years.
    pub jumps: usize,
    /// Times the broker was killed.
    pub crashes: usize,
    /// Records at the end.
    pub records: u64,
    /// A digest of all that happened, in its order.
    pub trace: Option<Digest>,
}

/// What is on the disk.
#[derive(Default)]
struct Disk {
    rows: BTreeMap<(u8, Bytes), Bytes>,
    records: Vec<Record>,
    frontier: Frontier,
    seq: Seq,
    at: Timestamp,
}

enum Wire {
    Publish(MessageId),
    Receipt(MessageId, ReceiptKind),
    Stored(MessageId, ReceiptKind, usize),
    /// An act on a message, by its place in the line.
    State(MessageId, usize),
    /// A frame of this digest is kept.
    Kept(Digest),
    Down(Effect),
}

#[derive(Default)]
struct Node {
    session: Option<Session>,
    outbox: BTreeSet<MessageId>,
    answered: BTreeMap<MessageId, bool>,
    inbox: BTreeSet<MessageId>,
    opened: BTreeSet<MessageId>,
    owed: BTreeSet<(MessageId, ReceiptKind)>,
    receipts: BTreeSet<(MessageId, ReceiptKind, usize)>,
    /// Acts of its own that have no answer, and those that are in force.
    stating: BTreeSet<(MessageId, usize)>,
    stated: BTreeSet<(MessageId, usize)>,
    /// Acts it was told of.
    told: BTreeSet<Digest>,
    /// Messages of its own that it took back.
    took_back: BTreeSet<MessageId>,
    /// What it was told of copies: the message, what, and of which node.
    notices: BTreeSet<(MessageId, u8, Option<usize>)>,
}

/// What was so when a message was accepted.
#[derive(Clone, Copy)]
struct Then {
    suspended: Option<usize>,
    revoked: Option<usize>,
    duty: usize,
}

struct World<'s> {
    stage: &'s Stage,
    dice: Dice,
    seed: u64,
    now: Timestamp,
    engine: Option<Engine>,
    pending: VecDeque<Commit>,
    disk: Disk,
    nodes: Vec<Node>,
    wire: VecDeque<(usize, Session, Wire)>,
    suspended: Option<usize>,
    /// Whose certificate is revoked.
    revoked: Option<usize>,
    ever_revoked: BTreeSet<usize>,
    version: u64,
    sessions: u64,
    tally: Tally,
    trace: Sha256Stream,
    used: BTreeSet<usize>,
    /// The level that an answer of the broker says is in force.
    in_force: BTreeMap<MessageId, Level>,
    /// What was so when messages were accepted; of what a crash took back, the last time counts.
    then: BTreeMap<MessageId, Then>,
    /// By how much the clock is ahead, or behind.
    ahead: Option<bool>,
}

/// Runs a seed.
///
/// # Errors
/// What must never be, and was; with the step.
pub fn run(stage: &Stage, seed: u64) -> Result<Tally, String> {
    let mut w = World {
        stage,
        dice: Dice::new(seed),
        seed,
        now: night().after(1_000),
        engine: None,
        pending: VecDeque::new(),
        disk: Disk::default(),
        nodes: (0..NODES).map(|_| Node::default()).collect(),
        wire: VecDeque::new(),
        suspended: None,
        revoked: None,
        ever_revoked: BTreeSet::new(),
        version: 1,
        sessions: 0,
        tally: Tally::default(),
        trace: Sha256Stream::default(),
        used: BTreeSet::new(),
        in_force: BTreeMap::new(),
        then: BTreeMap::new(),
        ahead: None,
    };
    w.start()?;
    for step in 0..STEPS {
        w.step().map_err(|e| format!("step {step}: {e}"))?;
    }
    w.heal().map_err(|e| format!("after healing: {e}"))?;
    w.tally.records = w.disk.records.len() as u64;
    w.tally.trace = Some(w.trace.finish());
    Ok(w.tally)
}

impl World<'_> {
    fn start(&mut self) -> Result<(), String> {
        let d = &self.disk;
        let rows = d.rows.iter().map(|((t, k), v)| {
            let table = Table::from_code(*t).ok_or("a table")?;
            Ok::<_, String>((table, k.clone(), v.clone()))
        });
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let law = rows.iter().filter(|(t, ..)| *t == Table::Law);
        let recovered = Recovered {
            seq: d.seq,
            at: d.at,
            frontier: d.frontier.clone(),
            register: Recovered::register_of(law.map(|(_, _, v)| v.clone())),
            rows: Box::new(rows.into_iter().map(Ok)),
        };
        let settings = Settings {
            broker: self.stage.house.broker(),
            queue: QUEUE,
            remembered: 1000,
            remember_ms: ordonnans_message::limits::MAX_LIFETIME_MS,
            labelled: 1000,
            clock: ClockQuality::Unknown,
            configuration: sha256(&[]),
            alarms: AlarmLimits::default(),
            quotas: ordonnans_engine::Quotas::default(),
            contacts: [1, 5]
                .map(|i| self.stage.house.nodes[i].name.clone())
                .into(),
            retention: Retention::default(),
        };
        let entropy = Box::new(SeededEntropy::new(self.seed ^ d.seq.0));
        let engine = Engine::new(
            settings,
            approved_of(&self.stage.house.members, self.version, self.suspended),
            Book::built_in(),
            recovered,
            vec![],
            entropy,
            self.now,
        );
        self.engine = Some(engine.map_err(|e| e.to_string())?);
        self.drain()
    }

    /// The broker dies: of what was on its way to the disk, some arrived.
    fn crash(&mut self) -> Result<(), String> {
        self.tally.crashes += 1;
        let kept = self.dice.below(self.pending.len() + 1);
        for _ in 0..kept {
            self.write_one()?;
        }
        self.pending.clear();
        self.engine = None;
        self.wire.clear();
        self.nodes.iter_mut().for_each(|n| n.session = None);
        self.start()
    }

    /// The next commit reaches the disk.
    fn write_one(&mut self) -> Result<bool, String> {
        let Some(commit) = self.pending.pop_front() else {
            return Ok(false);
        };
        let bytes = commit.encode();
        let commit = Commit::decode(&bytes).map_err(|e| e.to_string())?;
        let d = &mut self.disk;
        if commit.seq.0 != d.seq.0 + 1 || commit.at < d.at {
            return Err("a commit out of order".into());
        }
        for r in commit.records {
            if r.public.sequence != d.records.len() as u64 {
                return Err("a record out of order".into());
            }
            if r.detail.commitment(&r.salt) != r.public.commitment {
                return Err("a record that does not commit to its detail".into());
            }
            d.frontier.append(r.public.leaf());
            d.records.push(r);
        }
        if d.frontier.head() != commit.head {
            return Err("a commit whose head is not that of its records".into());
        }
        for write in commit.writes {
            match write {
                Write::Put { table, key, value } => {
                    d.rows.insert((table.code(), key), value);
                }
                Write::Delete { table, key } => {
                    d.rows.remove(&(table.code(), key));
                }
            }
        }
        (d.seq, d.at) = (commit.seq, commit.at);
        Ok(true)
    }

    /// Takes the engine's effects as far as they may go, and checks each.
    fn drain(&mut self) -> Result<(), String> {
        let Some(mut engine) = self.engine.take() else {
            return Ok(());
        };
        engine.durable_through(self.disk.seq);
        while let Some(effect) = engine.poll_effect() {
            let mut line = String::new();
            let _ = write!(line, "{effect:?}");
            // Keys differ from run to run of the program; what is decided does not.
            let line: String = line.chars().filter(|c| !c.is_ascii_hexdigit()).collect();
            self.trace.update(line.as_bytes());
            match effect {
                Effect::Commit(commit) => {
                    let accepted = commit.records.iter();
                    let accepted = accepted.filter(|r| r.public.verb == Verb::Accepted);
                    for id in accepted.filter_map(|r| r.detail.message) {
                        let then = Then {
                            suspended: self.suspended,
                            revoked: self.revoked,
                            duty: on_duty(NODES, self.version),
                        };
                        self.then.insert(id, then);
                    }
                    self.pending.push_back(commit);
                }
                Effect::Close { session, .. } => self.close(session),
                Effect::Admit { .. }
                | Effect::RemoveAttachment { .. }
                | Effect::KeepRenewal { .. }
                | Effect::DropDetails { .. }
                | Effect::DropIncident { .. } => {}
                Effect::Send { session, .. } | Effect::Deliver { session, .. } => {
                    self.check(&effect)?;
                    self.note(&effect);
                    if let Some(node) = self.at(session) {
                        self.wire.push_back((node, session, Wire::Down(effect)));
                    }
                }
                Effect::Inspect { .. } | Effect::SendAttachment { .. } => {
                    return Err("an effect nobody asked for".into());
                }
            }
        }
        self.engine = Some(engine);
        Ok(())
    }

    fn at(&self, session: Session) -> Option<usize> {
        self.nodes.iter().position(|n| n.session == Some(session))
    }

    fn close(&mut self, session: Session) {
        if let Some(node) = self.at(session) {
            self.nodes[node].session = None;
        }
    }

    fn draft(&self, id: MessageId) -> Option<&(Draft, Verified<Envelope>)> {
        self.stage
            .pool
            .iter()
            .find(|(_, e)| e.get().header().id == id)
    }

    fn recorded(&self, verb: Verb, id: MessageId, to: Option<usize>) -> bool {
        let to = to.map(|i| &self.stage.house.nodes[i].name);
        self.disk.records.iter().any(|r| {
            r.public.verb == verb && r.detail.message == Some(id) && r.detail.to.as_ref() == to
        })
    }

    /// The act whose frame has this digest.
    fn act_of(&self, of: Digest) -> Option<(MessageId, usize)> {
        let all = self.stage.acts.iter();
        let mut all = all.flat_map(|(id, line)| (0..line.len()).map(move |n| (*id, n)));
        all.find(|(id, n)| self.act_frame(*id, *n).is_some_and(|f| f.digest() == of))
    }

    /// An act that the vaststeller of a node may do next.
    fn next_act(&self, node: usize) -> Option<(MessageId, usize)> {
        let n = &self.nodes[node];
        let ours = n.answered.iter().filter(|(_, accepted)| **accepted);
        let mut acts = ours.flat_map(|(id, _)| [(*id, 0), (*id, 1)]);
        acts.find(|(id, k)| {
            self.stage.acts.contains_key(id)
                && !n.stated.contains(&(*id, *k))
                && (*k == 0 || n.stated.contains(&(*id, 0)))
        })
    }

    fn act_frame(&self, id: MessageId, n: usize) -> Option<Frame> {
        let (_, act) = self.stage.acts.get(&id)?.get(n)?;
        Some(Frame::Act {
            act: act.get().encode(),
        })
    }

    /// What the broker says is in force, from here on is.
    fn note(&mut self, effect: &Effect) {
        if let Effect::Send {
            frame: Frame::Kept { of },
            ..
        } = effect
            && let Some((id, n)) = self.act_of(*of)
        {
            let line = &self.stage.acts[&id];
            self.in_force.insert(id, line[n].0);
        }
    }

    fn member(&self, node: usize) -> &Member {
        &self.stage.house.members[node]
    }

    fn local(&self, node: usize) -> &str {
        &self.member(node).0
    }

    /// Whether a message was to reach a node when it was accepted: a member of a group may have been none then, have been suspended, or never have been
    /// there; one that was named was not. `None` where its certificate was taken away and given back, of which the model keeps no account.
    fn was_for(&self, id: MessageId, header: &Header, draft: &Draft, node: usize) -> Option<bool> {
        let Some(then) = self.then.get(&id) else {
            return Some(true);
        };
        let name = &self.stage.house.nodes[node].name;
        let place = header.recipients.iter().position(|r| r.node == *name);
        if place.is_none_or(|p| header.is_named(p)) {
            return Some(true);
        }
        let of_role = header
            .groups
            .iter()
            .any(|a| a.group.kind() == GroupKind::Role);
        let records = self.disk.records.iter();
        let mut before =
            records.take_while(|r| r.public.verb != Verb::Accepted || r.detail.message != Some(id));
        let was_there = before
            .any(|r| r.public.verb == Verb::SessionOpened && r.detail.who.as_ref() == Some(name));
        let may = draft.may_reach(self.member(node))
            && was_there
            && then.suspended != Some(node)
            && then.revoked != Some(node)
            && (!of_role || then.duty == node);
        (!self.ever_revoked.contains(&node)).then_some(may)
    }

    /// The message whose acts count for this one, and who sent that.
    fn line_of(&self, id: MessageId) -> Option<(MessageId, usize)> {
        let (draft, e) = self.draft(id)?;
        match &e.get().header().passed {
            None => Some((id, draft.from)),
            Some(p) => Some((p.parent, self.draft(p.parent)?.0.from)),
        }
    }

    /// A message that was not sent yet and passes on one that was accepted.
    fn passable(&self) -> Option<usize> {
        let id = |i: usize| Some(self.stage.pool.get(i)?.1.get().header().id);
        (POOL..POOL + PASSED).find(|i| {
            let line = id(*i).and_then(|id| self.line_of(id));
            !self.used.contains(i)
                && line
                    .is_some_and(|(line, from)| self.nodes[from].answered.get(&line) == Some(&true))
        })
    }

    /// Whether a node may have a message under the label it came with and the one in force.
    fn may_reach(&self, draft: &Draft, id: MessageId, node: usize) -> bool {
        let (line, from) = self.line_of(id).unwrap_or((id, draft.from));
        let now = self.in_force.get(&line).copied().unwrap_or(draft.level);
        // An act whose answer was lost may be in force, too.
        let stating = self.nodes[from].stating.iter();
        let unsure = stating
            .filter(|(of, _)| *of == line)
            .map(|(_, n)| self.stage.acts[&line][*n].0);
        // It went to no named person, so it cannot be of a level that asks for one.
        let fits = |level: Level| {
            let named = self.draft(id).is_some_and(|(_, e)| {
                let name = &self.stage.house.nodes[node].name;
                let mut there = e.get().header().recipients.iter();
                there.any(|r| r.node == *name && r.person.is_some())
            });
            level <= self.member(node).1 && (level < Level::StgG || named)
        };
        draft.may_reach(self.member(node)) && std::iter::once(now).chain(unsure).any(fits)
    }

    /// What no effect may ever be.
    fn check(&self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Send {
                frame: Frame::Accepted { id, sequence, .. },
                ..
            } => {
                let record = usize::try_from(*sequence)
                    .ok()
                    .and_then(|n| self.disk.records.get(n));
                let right = record.is_some_and(|r| {
                    r.public.verb == Verb::Accepted && r.detail.message == Some(*id)
                });
                if !right {
                    return Err("an acknowledgement before its record is durable".into());
                }
            }
            Effect::Send {
                frame:
                    Frame::Refused {
                        rule: Some(_),
                        recipient: Some(_),
                        ..
                    },
                ..
            } => return Err("a refusal that says what a recipient lacks".into()),
            Effect::Send {
                frame: Frame::ReceiptStored { id, by, kind },
                ..
            } => {
                let verb = match kind {
                    ReceiptKind::Opened => Verb::Opened,
                    ReceiptKind::Recalled => Verb::Recalled,
                    _ => Verb::Receipt,
                };
                let there = self.disk.records.iter().any(|r| {
                    r.public.verb == verb
                        && r.detail.message == Some(*id)
                        && r.detail.who.as_ref() == Some(by)
                });
                if !there {
                    return Err("a receipt acknowledged before its record is durable".into());
                }
            }
            Effect::Send {
                frame: Frame::Kept { of },
                ..
            } => {
                let (id, n) = self.act_of(*of).ok_or("an answer to what nobody said")?;
                let digest = self.stage.acts[&id][n].1.get().digest();
                let there =
                    self.disk.records.iter().any(|r| {
                        r.public.verb == Verb::Regraded && r.detail.digest == Some(digest)
                    });
                if !there {
                    return Err("an act in force before its record is durable".into());
                }
            }
            Effect::Send {
                session,
                frame: Frame::Notice { id, news, .. },
            } => {
                let Some(node) = self.at(*session) else {
                    return Ok(());
                };
                let (draft, _) = self.draft(*id).ok_or("news of what nobody sent")?;
                let knows = draft.from == node || draft.may_reach(self.member(node));
                if !knows {
                    return Err(format!(
                        "{} heard of {id}, which it may not",
                        self.local(node)
                    ));
                }
                if matches!(news, News::Due { .. })
                    && !self.recorded(Verb::Delivered, *id, Some(node))
                {
                    return Err(format!(
                        "{} is to open {id}, which it has not",
                        self.local(node)
                    ));
                }
            }
            Effect::Deliver {
                session,
                id,
                precedence,
            } => {
                let Some(node) = self.at(*session) else {
                    return Ok(());
                };
                let (draft, _) = self.draft(*id).ok_or("a delivery of what nobody sent")?;
                if !self.may_reach(draft, *id, node) || !draft.to.contains(&node) {
                    return Err(format!("{} may not have {id} and got it", self.local(node)));
                }
                if !self.recorded(Verb::CopyMade, *id, Some(node)) {
                    return Err(format!("{} got a copy that was not made", self.local(node)));
                }
                if self.suspended == Some(node) || self.revoked == Some(node) {
                    return Err(format!(
                        "{} is suspended or revoked and got {id}",
                        self.local(node)
                    ));
                }
                if !self.recorded(Verb::Delivered, *id, Some(node)) {
                    return Err("a delivery without a durable record".into());
                }
                let (_, envelope) = self.draft(*id).ok_or("nobody's message")?;
                let name = &self.stage.house.nodes[node].name;
                let there = envelope.get().header().recipients.iter();
                let most = there
                    .filter(|r| r.node == *name)
                    .map(|r| r.precedence)
                    .max();
                if Some(*precedence) != most {
                    return Err("a delivery of another precedence".into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn input(&mut self, input: Input) -> Result<(), String> {
        let now = self.now;
        if let Some(engine) = &mut self.engine {
            engine.handle(now, input);
            if engine.queued() > (QUEUE * NODES) as u64 {
                return Err("more copies wait than the bound allows".into());
            }
        }
        self.drain()
    }

    fn connect(&mut self, node: usize) -> Result<(), String> {
        self.sessions += 1;
        let session = Session(self.sessions);
        self.nodes[node].session = Some(session);
        let peer = self.stage.house.nodes[node].certificate.clone();
        self.input(Input::Opened {
            session,
            peer,
            line: "simulated".into(),
        })?;
        self.say_again(node);
        Ok(())
    }

    /// A node says everything again that it has no answer to.
    fn say_again(&mut self, node: usize) {
        let Some(session) = self.nodes[node].session else {
            return;
        };
        for id in self.nodes[node].outbox.clone() {
            self.wire.push_back((node, session, Wire::Publish(id)));
        }
        for (id, n) in self.nodes[node].stating.clone() {
            self.wire.push_back((node, session, Wire::State(id, n)));
        }
        for (id, kind) in self.nodes[node].owed.clone() {
            self.wire
                .push_back((node, session, Wire::Receipt(id, kind)));
        }
    }

    fn step(&mut self) -> Result<(), String> {
        // The first six are there most of the time.
        let few = self.dice.chance(60);
        let node = self.dice.below(if few { 6 } else { NODES });
        match self.dice.below(100) {
            0..11 => {
                let mut i = self.dice.below(POOL + PASSED);
                // What is passed on comes after what it passes on, most of the time.
                if self.dice.chance(30)
                    && let Some(on) = self.passable()
                {
                    i = on;
                }
                if self.used.insert(i) {
                    let (draft, envelope) = &self.stage.pool[i];
                    let (from, id) = (draft.from, envelope.get().header().id);
                    self.nodes[from].outbox.insert(id);
                    if let Some(session) = self.nodes[from].session {
                        self.wire.push_back((from, session, Wire::Publish(id)));
                    }
                }
            }
            11..50 => self.carry()?,
            50..66 => {
                for _ in 0..=self.dice.below(6) {
                    self.write_one()?;
                }
                self.drain()?;
            }
            66..76 => {
                // A revoked certificate does not pass the handshake.
                if self.nodes[node].session.is_none() && self.revoked != Some(node) {
                    self.connect(node)?;
                }
            }
            76..79 => {
                if let Some(session) = self.nodes[node].session.take() {
                    let note = "the connection was lost";
                    self.input(Input::Closed { session, note })?;
                }
            }
            79..88 => {
                let ms = self.dice.below(4_000) as u64;
                if self.dice.chance(3) {
                    self.jump()?;
                } else if self.dice.chance(5) {
                    // Somebody sets the clock back.
                    self.now = Timestamp::from_millis(self.now.as_millis() - 2 * ms);
                } else if self.dice.chance(4) {
                    // Hours in which nothing was heard.
                    self.now = self.now.after(600 * ms);
                } else {
                    self.now = self.now.after(ms);
                }
                self.input(Input::Tick)?;
            }
            88..90 => self.say_again(node),
            90..92 => {
                // A vaststeller revises a label of a message that was accepted.
                let next = (0..NODES).map(|k| (node + k) % NODES);
                let next = next
                    .filter_map(|from| Some((from, self.next_act(from)?)))
                    .next();
                if let Some((from, act)) = next {
                    self.nodes[from].stating.insert(act);
                    self.say_again(from);
                }
            }
            92..94 => {
                self.version += 1;
                self.suspended = self.dice.chance(50).then_some(node);
                if let Some(gone) = self.suspended {
                    // What is on its way to a suspended node is cut off with the connection.
                    self.wire
                        .retain(|(n, _, w)| *n != gone || !matches!(w, Wire::Down(_)));
                }
                let changed = Input::LawChanged {
                    register: Box::new(approved_of(
                        &self.stage.house.members,
                        self.version,
                        self.suspended,
                    )),
                    book: Box::new(Book::built_in()),
                };
                self.input(changed)?;
            }
            94..95 => {
                self.revoked = self.dice.chance(60).then_some(node);
                self.ever_revoked.extend(self.revoked);
                let gone = self.revoked.map(|n| self.stage.house.nodes[n].name.clone());
                if let Some(gone) = self.revoked {
                    self.wire
                        .retain(|(n, _, w)| *n != gone || !matches!(w, Wire::Down(_)));
                }
                let believed = Believed::new(move |c| {
                    let still = Some(c.name()) != gone.as_ref();
                    still.then(|| c.clone()).ok_or("it is revoked")
                });
                self.input(Input::TrustChanged { believed })?;
            }
            95..96 => {
                // Somebody takes a message back.
                let n = &self.nodes[node];
                let ours = n.answered.iter().filter(|(_, accepted)| **accepted);
                let mut ours = ours.map(|(id, _)| (*id, ReceiptKind::Recalled));
                let next = ours.find(|of| !n.owed.contains(of) && !n.took_back.contains(&of.0));
                if let Some(of) = next {
                    self.nodes[node].took_back.insert(of.0);
                    self.nodes[node].owed.insert(of);
                    self.tally.recalled += 1;
                    self.say_again(node);
                }
            }
            96..97 => {
                let unread: Vec<MessageId> = {
                    let n = &self.nodes[node];
                    n.inbox.difference(&n.opened).copied().collect()
                };
                if let Some(id) = unread.first() {
                    self.nodes[node].opened.insert(*id);
                    self.nodes[node].owed.insert((*id, ReceiptKind::Opened));
                    self.say_again(node);
                }
            }
            _ => self.crash()?,
        }
        Ok(())
    }

    /// Somebody sets the clock ten years ahead or back, or right again.
    fn jump(&mut self) -> Result<(), String> {
        let ahead = match self.ahead.take() {
            Some(ahead) => !ahead,
            None => {
                let ahead = self.dice.chance(50);
                self.ahead = Some(ahead);
                ahead
            }
        };
        self.tally.jumps += 1;
        self.now = if ahead {
            self.now.after(TEN_YEARS)
        } else {
            Timestamp::from_millis(self.now.as_millis() - TEN_YEARS)
        };
        let (quality, step_ms) = (ClockQuality::Unknown, TEN_YEARS);
        self.input(Input::Clock { quality, step_ms })
    }

    /// One frame arrives, or is lost, or comes twice; later ones may overtake it.
    fn carry(&mut self) -> Result<(), String> {
        if self.wire.is_empty() {
            return Ok(());
        }
        let at = self.dice.below(self.wire.len().min(4));
        let Some((node, session, what)) = self.wire.remove(at) else {
            return Ok(());
        };
        if self.nodes[node].session != Some(session) || self.dice.chance(6) {
            return Ok(());
        }
        if self.dice.chance(4) {
            let again = match &what {
                Wire::Publish(id) => Some(Wire::Publish(*id)),
                Wire::Receipt(id, kind) => Some(Wire::Receipt(*id, *kind)),
                Wire::Stored(id, kind, by) => Some(Wire::Stored(*id, *kind, *by)),
                Wire::State(id, n) => Some(Wire::State(*id, *n)),
                Wire::Kept(of) => Some(Wire::Kept(*of)),
                Wire::Down(_) => None,
            };
            if let Some(again) = again {
                self.wire.push_back((node, session, again));
            }
        }
        self.arrive(node, session, what)
    }

    fn arrive(&mut self, node: usize, session: Session, what: Wire) -> Result<(), String> {
        let house = &self.stage.house;
        match what {
            Wire::Publish(id) => {
                let (_, envelope) = self.draft(id).ok_or("nobody's message")?;
                let envelope = Box::new(envelope.clone());
                self.input(Input::Publish { session, envelope })
            }
            Wire::Receipt(id, kind) => {
                let (_, envelope) = self.draft(id).ok_or("nobody's message")?;
                let receipt = Box::new(house.receipt(envelope.get(), node, kind));
                self.input(Input::Receipt { session, receipt })
            }
            Wire::State(id, n) => {
                let (_, act) = &self.stage.acts[&id][n];
                let act = Box::new(act.clone());
                self.input(Input::Act { session, act })
            }
            Wire::Kept(of) => self.input(Input::Kept { session, of }),
            Wire::Stored(id, kind, by) => {
                let by = house.nodes[by].name.clone();
                self.input(Input::ReceiptStored {
                    session,
                    id,
                    kind,
                    by,
                })
            }
            Wire::Down(Effect::Deliver { id, .. }) => {
                // The envelope is read when it is sent: it must be there, or done with.
                let key = (
                    Table::Messages.code(),
                    Bytes::copy_from_slice(id.as_bytes()),
                );
                if !self.disk.rows.contains_key(&key) && !self.nodes[node].inbox.contains(&id) {
                    let over = [Verb::Expired, Verb::Recalled, Verb::Superseded];
                    let ended = over.iter().any(|v| self.recorded(*v, id, Some(node)));
                    return if ended {
                        Ok(())
                    } else {
                        Err(format!("{id} was to be delivered and is not in the store"))
                    };
                }
                if self.nodes[node].inbox.insert(id) {
                    self.tally.delivered += 1;
                }
                self.nodes[node].owed.insert((id, ReceiptKind::Delivered));
                let receipt = Wire::Receipt(id, ReceiptKind::Delivered);
                self.wire.push_back((node, session, receipt));
                Ok(())
            }
            Wire::Down(Effect::Send { frame, .. }) => self.heard(node, session, frame),
            Wire::Down(_) => Ok(()),
        }
    }

    fn heard(&mut self, node: usize, session: Session, frame: Frame) -> Result<(), String> {
        let index = |name| self.stage.house.index(name).ok_or("a stranger's receipt");
        match frame {
            Frame::Accepted { id, .. } => self.answer(node, id, true)?,
            Frame::Refused {
                id: Some(id),
                retry_after_ms: None,
                ..
            } => {
                if self.nodes[node].outbox.contains(&id) {
                    self.answer(node, id, false)?;
                } else {
                    // A receipt for something the broker has forgotten, or whose sender it does not know any more.
                    self.nodes[node].owed.retain(|(m, _)| *m != id);
                }
            }
            Frame::ReceiptStored { id, kind, .. } => {
                self.nodes[node].owed.remove(&(id, kind));
            }
            Frame::Kept { of } => {
                if let Some(act) = self.act_of(of)
                    && self.nodes[node].stating.remove(&act)
                {
                    self.nodes[node].stated.insert(act);
                    self.tally.revised += 1;
                }
            }
            Frame::NotKept { of, code, .. } => {
                let act = self.act_of(of).ok_or("nobody's act")?;
                // One that was kept already and comes again, behind the next, is too late.
                let late = code == ReplyCode::Conflict && self.nodes[node].stated.contains(&act);
                // Busy is no answer: a holder keeps as many notices as it may. It is said again.
                if code == ReplyCode::Busy {
                    return Ok(());
                }
                if code == ReplyCode::NotPermitted && self.tally.jumps > 0 {
                    // Ten years on no mandate holds. It is said again when the clock is right.
                    return Ok(());
                }
                if self.nodes[node].stating.remove(&act) && !late {
                    return Err(format!("an act on {} was refused: {code:?}", act.0));
                }
            }
            Frame::Notice { id, ref news, .. } => {
                let of = frame.digest();
                let about = news.node().map(index).transpose()?;
                if self.nodes[node].notices.insert((id, news.code(), about)) {
                    self.tally.told += 1;
                }
                self.wire.push_back((node, session, Wire::Kept(of)));
            }
            frame @ Frame::Act { .. } => {
                let of = frame.digest();
                self.nodes[node].told.insert(of);
                self.wire.push_back((node, session, Wire::Kept(of)));
            }
            Frame::Receipt { receipt } => {
                let signed = ordonnans_message::SignedReceipt::decode(&receipt)
                    .map_err(|e| e.to_string())?;
                let r = signed.said();
                let by = index(&r.by)?;
                self.nodes[node].receipts.insert((r.message, r.kind, by));
                let stored = Wire::Stored(r.message, r.kind, by);
                self.wire.push_back((node, session, stored));
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, node: usize, id: MessageId, accepted: bool) -> Result<(), String> {
        self.nodes[node].outbox.remove(&id);
        match self.nodes[node].answered.insert(id, accepted) {
            None if accepted => {
                self.tally.accepted += 1;
                let passed = self.line_of(id).is_some_and(|(line, _)| line != id);
                self.tally.passed_on += usize::from(passed);
            }
            None => {
                self.tally.refused += 1;
                if !self
                    .disk
                    .records
                    .iter()
                    .any(|r| r.public.verb == Verb::Refused && r.detail.message == Some(id))
                {
                    return Err("a refusal without a durable record".into());
                }
            }
            Some(before) if before == accepted => {}
            Some(true) => return Err(format!("{id} was accepted, then refused")),
            // Refused while somebody was suspended, and offered again.
            Some(false) => {}
        }
        Ok(())
    }

    /// Everyone is restored and connected, nothing is lost any more, and time passes until nothing happens.
    fn heal(&mut self) -> Result<(), String> {
        (self.suspended, self.revoked) = (None, None);
        if self.ahead.is_some() {
            self.jump()?;
        }
        self.version += 1;
        self.crash()?;
        for round in 0..40 {
            for node in 0..NODES {
                if self.nodes[node].session.is_none() {
                    self.connect(node)?;
                }
                if round % 10 == 0 {
                    self.say_again(node);
                }
            }
            while self.write_one()? {}
            self.drain()?;
            let waiting: Vec<_> = self.wire.drain(..).collect();
            for (node, session, what) in waiting {
                if self.nodes[node].session == Some(session) {
                    self.arrive(node, session, what)?;
                }
            }
            self.now = self.now.after(1_000);
            self.input(Input::Tick)?;
        }
        self.judge()
    }

    fn judge(&self) -> Result<(), String> {
        for (node, n) in self.nodes.iter().enumerate() {
            if !n.outbox.is_empty() || !n.owed.is_empty() || !n.stating.is_empty() {
                return Err(format!("{} still waits for answers", self.local(node)));
            }
            for (id, accepted) in &n.answered {
                let (draft, envelope) = self.draft(*id).ok_or("nobody's message")?;
                let header = envelope.get().header();
                for to in &draft.to {
                    let made = self.recorded(Verb::CopyMade, *id, Some(*to));
                    let meant = self.was_for(*id, header, draft, *to);
                    if *accepted && meant.is_some_and(|m| m != made) {
                        return Err(format!(
                            "{id}: whether {} is meant is told wrongly",
                            self.local(*to)
                        ));
                    }
                    if !made {
                        continue;
                    }
                    let has = self.nodes[*to].inbox.contains(id);
                    let expired = self.recorded(Verb::Expired, *id, Some(*to));
                    let stopped = [Verb::Recalled, Verb::Superseded];
                    let stopped = stopped.iter().any(|v| self.recorded(*v, *id, Some(*to)));
                    let over = expired || stopped;
                    // Of what is passed on, the acts on the first: it was accepted before any of them, for it has none of them.
                    let (line, by) = self.line_of(*id).ok_or("nobody's message")?;
                    let acts = self.nodes[by].stated.iter().filter(|(of, _)| *of == line);
                    for (_, k) in acts.filter(|_| *accepted && *to != by) {
                        let frame = self.act_frame(line, *k).ok_or("nobody's act")?;
                        if !self.nodes[*to].told.contains(&frame.digest()) {
                            return Err(format!(
                                "{} was not told of an act on {id}",
                                self.local(*to)
                            ));
                        }
                    }
                    let held_back = !self.may_reach(draft, *id, *to);
                    if *accepted && !has && !over && !held_back {
                        return Err(format!(
                            "{id} was accepted and did not reach {}",
                            self.local(*to)
                        ));
                    }
                    // Expiry and chasing come from the clock of then; one that was set back since says nothing.
                    if expired && self.tally.jumps == 0 && header.expires > self.now.after(20_000) {
                        return Err(format!("{id} expired before its time"));
                    }
                    let receipted = n.receipts.contains(&(*id, ReceiptKind::Delivered, *to));
                    if *accepted && has && !receipted {
                        return Err(format!(
                            "{id}: its sender has no receipt of {}",
                            self.local(*to)
                        ));
                    }
                    let read = self.nodes[*to].opened.contains(id);
                    if *accepted && read && !n.receipts.contains(&(*id, ReceiptKind::Opened, *to)) {
                        return Err(format!("{id}: nobody told its sender that it was opened"));
                    }
                }
            }
            for id in &n.inbox {
                let (draft, _) = self.draft(*id).ok_or("nobody's message")?;
                if !draft.may_reach(self.member(node)) {
                    return Err(format!("{} holds {id} and may not", self.local(node)));
                }
            }
        }
        self.judge_told()?;
        let leaves: Vec<Digest> = self.disk.records.iter().map(|r| r.public.leaf()).collect();
        let head = self.disk.frontier.head();
        let naive = TreeHead {
            size: leaves.len() as u64,
            root: naive_root(&leaves),
        };
        if naive != head {
            return Err("the tree is not that of its records".into());
        }
        let times = self.disk.records.windows(2);
        if times
            .into_iter()
            .any(|w| w[1].public.time < w[0].public.time)
        {
            return Err("the log's time runs back".into());
        }
        Ok(())
    }
}

impl World<'_> {
    /// Every record of something that an originator is to know has come to it, and nobody was chased without end.
    fn judge_told(&self) -> Result<(), String> {
        let mut chased = BTreeMap::<(MessageId, &str, Verb), usize>::new();
        for r in &self.disk.records {
            let (Some(id), Some(to)) = (r.detail.message, &r.detail.to) else {
                continue;
            };
            let code = match r.public.verb {
                Verb::Withheld => 1,
                Verb::Expired => 2,
                Verb::Escalated => 4,
                Verb::Superseded => 5,
                Verb::Chased => {
                    *chased.entry((id, to.as_str(), Verb::Chased)).or_default() += 1;
                    continue;
                }
                _ => continue,
            };
            if code == 4 {
                *chased
                    .entry((id, to.as_str(), Verb::Escalated))
                    .or_default() += 1;
            }
            let (draft, _) = self.draft(id).ok_or("nobody's message")?;
            let about = self.stage.house.index(to);
            if !self.nodes[draft.from].notices.contains(&(id, code, about)) {
                return Err(format!(
                    "{id}: nobody told its sender: {}",
                    r.public.verb.as_str()
                ));
            }
        }
        // Once to be opened, and once to be answered.
        match chased.into_iter().find(|(_, times)| *times > 2) {
            Some(((id, to, verb), times)) => {
                Err(format!("{id}: {to} {} {times} times", verb.as_str()))
            }
            None => Ok(()),
        }
    }
}

/// RFC 9162 section 2.1.1, by the definition.
fn naive_root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        many => {
            let mut k = 1;
            while k * 2 < many.len() {
                k *= 2;
            }
            let (left, right) = many.split_at(k);
            let (left, right) = (naive_root(left), naive_root(right));
            sha256(&[&[1], left.as_bytes(), right.as_bytes()])
        }
    }
}
