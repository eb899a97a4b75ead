//! Scenes in which the ground moves: a node is revoked in the middle of a transfer, another authority issues while messages flow, a node has no UDP. Each
//! leaves what it did; at the end the log says whether it went as it must.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use ordonnans_audit::{Detail, Entry, Public, Verb};
use ordonnans_client::config::Config;
use ordonnans_client::failure::Failure;
use ordonnans_client::local::{Request, Submission, ask};
use ordonnans_client::opening::Person;
use ordonnans_client::signing;
use ordonnans_identity::{FileSigner, Signer};
use ordonnans_label::{Kind, Name};
use ordonnans_message::{Digest, MessageId, Timestamp};
use serde_json::Value;

use crate::judge::{Seen, Sent};
use crate::play::{Play, SETTLE_WITHIN, now, taken};
use crate::scenario::{Message, Scenario};
use crate::structure::{Structure, Trouble, until};

/// Bytes a second on the line of a node that is cut off: an attachment of some megabytes is on its way for longer than a revocation takes anywhere.
const RATE: u32 = 1 << 20;
/// How much of the attachment is there before the node is revoked.
const UNDER_WAY: u64 = 512 << 10;
/// Messages that each node of the ring hands in at each change: half before it, half while it goes on.
const EACH: usize = 4;
/// From the list's record to that of the session's end, in milliseconds.
const AT_ONCE: u64 = 1_000;

/// What a scene did.
#[derive(Debug)]
pub(crate) enum Scene {
    /// A node was revoked in mid-transfer.
    Cut {
        node: Name,
        message: MessageId,
        whole: u64,
    },
    /// Another authority issues.
    Rollover {
        authority: String,
        began: Timestamp,
        ended: Timestamp,
        renewed: BTreeMap<Name, Digest>,
        messages: BTreeSet<MessageId>,
    },
    /// A node has no UDP.
    WithoutUdp { node: Name },
}

type Record = (Public, Detail);

/// Who writes to the next in the ring.
struct Writer {
    config: Config,
    vaststeller: Option<Person>,
    message: Message,
}

impl Writer {
    fn hand_in(&self, message: Submission) -> Result<Value, Failure> {
        let message = Box::new(message);
        match &self.vaststeller {
            Some(by) => signing::at_once(&self.config, message, by, false),
            None => ask(
                &self.config.socket,
                &Request::Send {
                    message,
                    wait: false,
                },
            ),
        }
    }

    /// Hands them in, and says so when half of them are.
    fn write(&self, all: Vec<Submission>, half: &Sender<()>) -> Vec<Result<Value, Failure>> {
        let middle = all.len() / 2;
        let one = |(i, message)| {
            if i == middle {
                let _ = half.send(());
            }
            self.hand_in(message)
        };
        all.into_iter().enumerate().map(one).collect()
    }
}

impl Play<'_> {
    /// Sends a large attachment over a slow line, and revokes its receiver while it is under way.
    pub(crate) fn cut(&mut self, node: &str, megabytes: u64, m: &Message) -> Result<(), Trouble> {
        let whole = megabytes << 20;
        self.structure.slow_down(node, RATE)?;
        let path = self.structure.dir.join("attachment");
        let made = File::create(&path).and_then(|f| f.set_len(whole));
        made.map_err(|e| format!("{}: {e}", path.display()))?;
        let submission = Submission {
            attachments: vec![path],
            ..self.submission(m)
        };
        let answer = self.structure.hand_in(&m.from, submission, false)?;
        let id = taken(&m.from, answer)?.ok_or("the message that is to be cut off was refused")?;
        let message = id.parse().map_err(|_| "an id that is none")?;
        self.sent.push(Sent {
            id: Some(id),
            ..Sent::new(m.clone())
        });
        if !until(SETTLE_WITHIN, || self.arrived(node) >= UNDER_WAY) {
            return Err(format!("nothing of the attachment reaches {node}"));
        }
        self.structure.revoke(node)?;
        self.revoked.insert(node.into());
        let off = || {
            let status = self.structure.ask(node, &Request::Status);
            status.is_ok_and(|s| s["connected"] == false)
        };
        if !until(SETTLE_WITHIN, off) {
            return Err(format!("{node} is revoked and takes itself for connected"));
        }
        self.progress.say(&format!(
            "{node} is revoked with {} of {megabytes} MiB there, and was cut off",
            mebibytes(self.arrived(node))
        ));
        let node = self.structure.name(Kind::Node, node)?;
        self.scenes.push(Scene::Cut {
            node,
            message,
            whole,
        });
        Ok(())
    }

    /// Bytes of attachments that a node has in part.
    fn arrived(&self, node: &str) -> u64 {
        let dir = self.structure.dir.join(node).join("attachments");
        let parts = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let parts = parts.filter(|f| f.path().extension().is_some_and(|e| e == "part"));
        parts.filter_map(|f| Some(f.metadata().ok()?.len())).sum()
    }

    /// Another authority issues, first to the broker and then to some nodes, while messages go round.
    pub(crate) fn rollover(&mut self, renew: &[String], keeps: &str) -> Result<(), Trouble> {
        let ring: Vec<&str> = renew.iter().map(String::as_str).chain([keeps]).collect();
        let writers = ring.iter().zip(ring.iter().cycle().skip(1));
        let writers = writers.map(|(from, to)| self.writer(from, to));
        let writers: Vec<Writer> = writers.collect::<Result<_, _>>()?;
        let (began, first) = (now(), self.sent.len());
        let authority = self.meanwhile(&writers, |s, scenario| {
            let made = s.roll_over()?;
            for node in scenario.node.iter().map(|n| &n.name).filter(|n| s.runs(n)) {
                // Who was revoked takes it over like everyone else.
                s.ask(node, &Request::Reload)
                    .map_err(|f| format!("{node}: {f}"))?;
            }
            Ok(made)
        })?;
        self.progress
            .say(&format!("{authority} issues from now on; messages go on"));
        self.meanwhile(&writers, renew_broker)?;
        self.progress
            .say(&format!("the broker shows a certificate of {authority}"));
        let mut renewed = BTreeMap::new();
        for node in renew {
            let shown = self.meanwhile(&writers, |s, scenario| renew_node(s, scenario, node))?;
            renewed.insert(self.structure.name(Kind::Node, node)?, shown);
            self.progress
                .say(&format!("{node} shows a certificate of {authority}"));
        }
        for name in renewed.keys() {
            let mut issued = self.structure.workshop.issued();
            if !issued.any(|(_, e)| e.name == *name && e.by == authority) {
                return Err(format!("{name} has nothing that {authority} has issued"));
            }
        }
        self.settle()?;
        let ids = self.sent[first..].iter().filter_map(|x| x.id.as_deref());
        let messages = ids.filter_map(|id| id.parse().ok()).collect();
        self.scenes.push(Scene::Rollover {
            authority,
            began,
            ended: now(),
            renewed,
            messages,
        });
        Ok(())
    }

    /// Somebody at this node writes to that one: with a label that is established, where somebody there may do so.
    fn writer(&self, from: &str, to: &str) -> Result<Writer, Trouble> {
        let persons = self.scenario.person.iter();
        let by = persons
            .filter(|p| p.node == from)
            .find(|p| p.establishes.is_some());
        let mut message = Message::routine(from, vec![to.into()], "");
        if let Some(by) = by {
            let name = self.structure.name(Kind::Person, &by.name)?;
            message.level = "Dep.V".into();
            message.label = format!("Dep.V // TOT 2036-01-01 // VASTGESTELD {name}");
        }
        Ok(Writer {
            config: self.structure.config(from)?,
            vaststeller: by.map(|p| self.structure.person(&p.name)).transpose()?,
            message,
        })
    }

    /// Does something while the ring writes. It begins when half of the messages are handed in, and waits for the rest.
    fn meanwhile<T>(
        &mut self,
        ring: &[Writer],
        change: impl FnOnce(&mut Structure, &Scenario) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut messages = vec![];
        for writer in ring {
            let numbered = |i: usize| Message {
                body: format!("Bericht {} tijdens de wisseling.", self.sent.len() + i),
                ..writer.message.clone()
            };
            messages.push((0..EACH).map(numbered).collect::<Vec<_>>());
        }
        let submissions: Vec<Vec<Submission>> = messages
            .iter()
            .map(|all| all.iter().map(|m| self.submission(m)).collect())
            .collect();
        let (half, halves) = channel();
        let (changed, answers) = thread::scope(|scope| {
            let writing: Vec<_> = ring
                .iter()
                .zip(submissions)
                .map(|(writer, all)| {
                    let half = half.clone();
                    scope.spawn(move || writer.write(all, &half))
                })
                .collect();
            drop(half);
            // Fewer come only where a writer is gone, which its end says below.
            halves.iter().take(ring.len()).for_each(drop);
            let changed = change(self.structure, self.scenario);
            let answers: Vec<_> = writing
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            (changed, answers)
        });
        for (all, answers) in messages.into_iter().zip(answers) {
            let answers = answers.map_err(|_| "a writer broke off")?;
            for (m, answer) in all.into_iter().zip(answers) {
                let id = taken(&m.from, answer)?;
                self.sent.push(Sent { id, ..Sent::new(m) });
            }
        }
        changed
    }

    /// How the scenes went, by the log and by what the nodes hold and say.
    pub(crate) fn seen(&self, entries: &[Entry]) -> Vec<Seen> {
        let log = entries.iter().filter_map(Entry::read);
        let log: Vec<Record> = log.filter_map(|(p, d)| Some((p, d?))).collect();
        let blocked = self.scenario.node.iter().filter(|n| n.udp_blocked);
        let without = blocked.map(|n| {
            let node = self.structure.name(Kind::Node, &n.name)?;
            let status = self.structure.ask(&n.name, &Request::Status);
            let status = status.map_err(|f| format!("{node}: {f}"))?;
            if status["carrier"] != "tcp" {
                return Err(format!(
                    "{node} says that its line is {}",
                    status["carrier"]
                ));
            }
            Scene::WithoutUdp { node }.judged(&log)
        });
        let scenes = self.scenes.iter().map(|scene| {
            if let Scene::Cut { node, whole, .. } = scene {
                let there = self.arrived(node.local());
                if there == 0 || there >= *whole {
                    return Err(format!("{node} has the whole of what it was cut off from"));
                }
            }
            scene.judged(&log)
        });
        scenes.chain(without).collect()
    }
}

/// The broker shows another certificate to whoever comes.
fn renew_broker(s: &mut Structure, scenario: &Scenario) -> Result<(), Trouble> {
    let until_when = |s: &Structure| s.broker_status().map(|s| s.certificate_until);
    let before = until_when(s).ok_or("the broker does not say its certificate")?;
    s.renew(scenario, Kind::Broker, "b1")?;
    s.reload_broker()?;
    if until(SETTLE_WITHIN, || until_when(s).is_some_and(|u| u != before)) {
        Ok(())
    } else {
        Err("the broker does not take over its new certificate".into())
    }
}

/// A node shows another certificate, to a broker that does so too. Gives its fingerprint.
fn renew_node(s: &mut Structure, scenario: &Scenario, node: &str) -> Result<Digest, Trouble> {
    let said = |f: Failure| format!("{node}: {f}");
    let name = s.name(Kind::Node, node)?;
    let before = s.ask(node, &Request::Status).map_err(said)?;
    s.renew(scenario, Kind::Node, node)?;
    s.ask(node, &Request::Reload).map_err(said)?;
    let other = |s: &Structure| {
        let now = s.ask(node, &Request::Status).unwrap_or_default();
        let new = |key| !now[key].is_null() && now[key] != before[key];
        let shown = s.broker_status().is_some_and(|b| {
            let mut on_line = b.sessions.iter().filter(|p| p.peer == name.as_str());
            on_line.any(|p| now["certificate_until"] == p.certificate_until.as_str())
        });
        now["connected"] == true
            && new("certificate_until")
            && new("broker_certificate_until")
            && shown
    };
    if !until(SETTLE_WITHIN, || other(s)) {
        return Err(format!(
            "{node} does not come back with its new certificate"
        ));
    }
    let (certificate, key) = s.credentials(Kind::Node, node)?;
    let own = FileSigner::load(&certificate, &key).map_err(|e| format!("{node}: {e}"))?;
    Ok(own.certificate().fingerprint())
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn noted(d: &Detail, what: &str) -> bool {
    d.note.as_ref().is_some_and(|n| n.contains(what))
}

/// Why a session ended whose peer was cut off.
const CUT: &str = "no longer believed";

impl Scene {
    /// Whether the log has what the scene must have led to, and nothing else.
    fn judged(&self, log: &[Record]) -> Seen {
        match self {
            Self::Cut { node, message, .. } => cut_off(log, node, *message),
            Self::Rollover {
                authority,
                began,
                ended,
                renewed,
                messages,
            } => {
                let span = log
                    .iter()
                    .filter(|(p, _)| (*began..=*ended).contains(&p.time));
                let span: Vec<&Record> = span.collect();
                rolled_over(&span, authority, renewed, messages)
            }
            Self::WithoutUdp { node } => without_udp(log, node),
        }
    }
}

fn cut_off(log: &[Record], node: &Name, message: MessageId) -> Seen {
    let wrong = |what: &str| {
        Err(format!(
            "{} was revoked in mid-transfer, and {what}",
            node.local()
        ))
    };
    let of_node = |d: &Detail| d.who.as_ref() == Some(node);
    let for_node = |d: &Detail| d.to.as_ref() == Some(node);
    let closed = |(p, d): &Record| p.verb == Verb::SessionClosed && of_node(d) && noted(d, CUT);
    let Some(end) = log.iter().position(closed) else {
        return wrong("the log has no end of its session for that");
    };
    let (before, after) = log.split_at(end);
    let list = before.iter().rposition(|(p, _)| p.verb == Verb::CrlChanged);
    let Some(list) = list else {
        return wrong("no new list came into force");
    };
    let took = log[end].0.time.as_millis() - log[list].0.time.as_millis();
    if took > AT_ONCE {
        return wrong(&format!(
            "its session ended {took} ms after the list came into force"
        ));
    }
    let of_message = |d: &Detail| d.message == Some(message);
    let handed = |(p, d): &Record| p.verb == Verb::Delivered && for_node(d) && of_message(d);
    if !log[..list].iter().any(handed) {
        return wrong("its copy had not been handed over before");
    }
    let more = |(p, d): &Record| match p.verb {
        Verb::Delivered | Verb::CopyMade => for_node(d),
        Verb::SessionOpened | Verb::Receipt | Verb::Opened | Verb::Accepted => of_node(d),
        _ => false,
    };
    if let Some((p, _)) = log[list..].iter().find(|r| more(r)) {
        let verb = p.verb.as_str();
        return wrong(&format!("record {} is {verb} all the same", p.sequence));
    }
    let gone = |(p, d): &Record| {
        let ends = [
            Verb::Receipt,
            Verb::Expired,
            Verb::Recalled,
            Verb::AttachmentRemoved,
        ];
        of_message(d) && ends.contains(&p.verb)
    };
    if let Some((p, _)) = log.iter().find(|r| gone(r)) {
        return wrong(&format!("its copy is not held: record {}", p.sequence));
    }
    Ok(format!(
        "revoked in mid-transfer: {} was cut off {took} ms after the list (records {} and {}); its copy is held, and none of {} records since is for it",
        node.local(),
        log[list].0.sequence,
        log[end].0.sequence,
        after.len()
    ))
}

fn rolled_over(
    log: &[&Record],
    authority: &str,
    renewed: &BTreeMap<Name, Digest>,
    messages: &BTreeSet<MessageId>,
) -> Seen {
    let wrong = |what: String| Err(format!("{authority} took over, and {what}"));
    let lists = log.iter().filter(|(p, _)| p.verb == Verb::CrlChanged);
    let lists: Vec<&Detail> = lists.map(|(_, d)| d).collect();
    if lists.is_empty() {
        return wrong("no new list came into force".into());
    }
    let cut = |(p, d): &&&Record| p.verb == Verb::SessionClosed && noted(d, CUT);
    if lists.iter().any(|d| !noted(d, "0 nodes and 0 connections")) || log.iter().any(|r| cut(&r)) {
        return wrong("somebody is no longer believed".into());
    }
    for (node, certificate) in renewed {
        let shown = |(p, d): &&Record| {
            p.verb == Verb::SessionOpened
                && d.who.as_ref() == Some(node)
                && d.digest.as_ref() == Some(certificate)
        };
        if !log.iter().any(shown) {
            let node = node.local();
            return wrong(format!("no session of {node} shows its new certificate"));
        }
    }
    let of = |verb: Verb| -> BTreeSet<MessageId> {
        let all = log.iter().filter(|(p, _)| p.verb == verb);
        all.filter_map(|(_, d)| d.message).collect()
    };
    let (accepted, there) = (of(Verb::Accepted), of(Verb::Receipt));
    let lost = |m: &&MessageId| !accepted.contains(m) || !there.contains(m);
    let lost = messages.iter().filter(lost).count();
    if lost > 0 {
        let all = messages.len();
        return wrong(format!("{lost} of {all} messages have no receipt"));
    }
    let names: Vec<&str> = renewed.keys().map(Name::local).collect();
    Ok(format!(
        "another authority: {authority} issues, the broker and {} show its certificates; none of {} messages meanwhile was lost, and nobody cut off",
        names.join(", "),
        messages.len()
    ))
}

fn without_udp(log: &[Record], node: &Name) -> Seen {
    let own = |verb: Verb| {
        let of = move |(p, d): &&Record| p.verb == verb && d.who.as_ref() == Some(node);
        log.iter().filter(of)
    };
    let opened = own(Verb::SessionOpened).count();
    let tcp = |(_, d): &&Record| d.note.as_ref().is_some_and(|n| n.starts_with("tcp "));
    let over_tcp = own(Verb::SessionOpened).filter(tcp).count();
    let (from, to) = (own(Verb::Accepted).count(), own(Verb::Receipt).count());
    let name = node.local();
    if opened == 0 || over_tcp < opened || from + to == 0 {
        return Err(format!(
            "{name} has no UDP, and of {opened} sessions {over_tcp} were over TCP, with {from} messages from it and {to} copies there"
        ));
    }
    Ok(format!(
        "without UDP: {name} opened {opened} sessions, all over TCP; {from} messages from it were accepted, and it has {to} copies"
    ))
}

#[cfg(test)]
mod tests;
