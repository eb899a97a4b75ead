//! Plays a scenario on a structure, and gathers what everyone holds at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use data_encoding::BASE64;
use ordonnans_client::failure::{Exit, Failure};
use ordonnans_client::local::{Request, Submission};
use ordonnans_client::opening::open_message;
use ordonnans_client::signing;
use ordonnans_message::{ActKind, MessageId, ReceiptKind, Timestamp, sha256};
use serde_json::Value;

use crate::control;
use crate::judge::{Holding, Sent, may_reach};
use crate::scenario::{Message, Scenario, Step};
use crate::scenes::Scene;
use crate::structure::{Structure, Trouble, until};

/// How long everything that can arrive may take to do so.
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// Prints what happens, where it is wanted.
pub(crate) struct Progress {
    began: Instant,
    json: bool,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            began: Instant::now(),
            json,
        }
    }

    /// One line; on stderr where stdout is for the result alone.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{:7.2} s  {text}", self.began.elapsed().as_secs_f32());
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
}

/// Starts broker and daemons and waits until all are connected.
pub(crate) fn start(s: &mut Structure, scenario: &Scenario, p: &Progress) -> Result<(), Trouble> {
    s.start_broker()?;
    p.say(&format!("the broker serves on {}", s.address));
    let nodes: Vec<&str> = daemons(scenario).collect();
    for node in &nodes {
        s.start_node(node)?;
    }
    for node in &nodes {
        s.connected(node)?;
    }
    p.say(&format!("{} daemons are connected", nodes.len()));
    let keys = s.publish_keys()?;
    p.say(&format!("{keys} persons have published a key to seal to"));
    Ok(())
}

pub(crate) fn daemons(scenario: &Scenario) -> impl Iterator<Item = &str> {
    let nodes = scenario.node.iter().filter(|n| !n.control);
    nodes.map(|n| n.name.as_str())
}

/// The time by the system's clock.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A scenario under way.
pub(crate) struct Play<'a> {
    pub(crate) structure: &'a mut Structure,
    pub(crate) scenario: &'a Scenario,
    pub(crate) progress: &'a Progress,
    pub(crate) sent: Vec<Sent>,
    pub(crate) held: BTreeMap<String, Holding>,
    pub(crate) revoked: BTreeSet<String>,
    pub(crate) opened: usize,
    pub(crate) scenes: Vec<Scene>,
    /// When the last message that is meant to expire has.
    expired: Timestamp,
}

/// How long a message of the scenario may wait, in milliseconds.
fn lifetime(m: &Message) -> u64 {
    m.expires_s.map_or(24 * 60 * 60 * 1000, |s| s * 1000)
}

/// The nodes a message is for.
pub(crate) fn addressed(m: &Message) -> BTreeSet<&str> {
    let all = m.to.iter().chain(&m.info);
    all.map(|t| t.split_once('@').map_or(t.as_str(), |(_, node)| node))
        .collect()
}

/// The id of a message that a daemon took. `None` where it refuses what it cannot even seal, such as an addressee nobody knows.
pub(crate) fn taken(node: &str, answer: Result<Value, Failure>) -> Result<Option<String>, Trouble> {
    match answer {
        Ok(v) => Ok(v["id"].as_str().map(str::to_owned)),
        Err(f) if f.exit() == Exit::Refused => Ok(None),
        Err(f) => Err(format!("{node}: {f}")),
    }
}

impl<'a> Play<'a> {
    pub(crate) fn new(
        structure: &'a mut Structure,
        scenario: &'a Scenario,
        progress: &'a Progress,
    ) -> Self {
        Self {
            structure,
            scenario,
            progress,
            sent: vec![],
            held: BTreeMap::new(),
            revoked: BTreeSet::new(),
            opened: 0,
            scenes: vec![],
            expired: Timestamp::default(),
        }
    }

    /// Plays every step in order.
    pub(crate) fn steps(&mut self) -> Result<(), Trouble> {
        for step in &self.scenario.step {
            match step {
                Step::Send(m) => self.send(m)?,
                Step::Forward { of, message } => self.forward(of, message)?,
                Step::Extract {
                    of,
                    by,
                    second,
                    message,
                } => self.extract(of, by, second.as_deref(), message)?,
                Step::Offline { node } => {
                    self.structure.kill_node(node)?;
                    self.progress.say(&format!("{node} is offline (SIGKILL)"));
                }
                Step::Online { node } => {
                    // What is to expire first, does.
                    let expired = self.expired;
                    until(SETTLE_WITHIN, || now() > expired.after(50));
                    self.structure.start_node(node)?;
                    self.structure.connected(node)?;
                    self.progress.say(&format!("{node} is back"));
                }
                Step::Revoke { node } => {
                    self.structure.revoke(node)?;
                    self.revoked.insert(node.clone());
                    self.progress.say(&format!(
                        "{node} is revoked and was cut off while connected"
                    ));
                }
                Step::Cut {
                    node,
                    megabytes,
                    message,
                } => self.cut(node, *megabytes, message)?,
                Step::Rollover { renew, keeps } => self.rollover(renew, keeps)?,
                Step::KillBroker => {
                    self.structure.kill_broker()?;
                    self.progress.say("the broker was killed (SIGKILL)");
                    self.structure.start_broker()?;
                    self.progress
                        .say("the broker is back; its store is verified");
                }
                Step::Duplicate => self.duplicate()?,
                Step::Malformed => {
                    let m = self.plain("Onleesbaar")?;
                    self.structure
                        .block_on(control::malformed(self.structure, &m))?;
                    self.progress
                        .say("garbage, a broken frame and a tampered message were refused");
                }
                Step::Establish { message, by } => self.establish(message, by)?,
                Step::Revise {
                    message,
                    label,
                    level,
                    by,
                } => self.revise(message, label, level, by)?,
                Step::Declare { event, by } => self.declare(event, by)?,
                Step::Due { node, messages } => self.due(node, messages)?,
                Step::Settle => self.settle()?,
                Step::ReadAll => self.read_all()?,
            }
        }
        self.verdicts()
    }

    fn control(&self) -> Result<String, Trouble> {
        let node = self.scenario.node.iter().find(|n| n.control);
        node.map(|n| n.name.clone())
            .ok_or_else(|| "the scenario has no node with `control = true` to speak for".into())
    }

    fn send(&mut self, m: &Message) -> Result<(), Trouble> {
        let to: Vec<&str> = m.to.iter().chain(&m.info).map(String::as_str).collect();
        self.progress.say(&format!(
            "{:9} {:14} {} -> {}",
            m.precedence.to_uppercase(),
            m.level,
            m.from,
            to.join(", ")
        ));
        let mut sent = Sent::new(m.clone());
        if self.control().is_ok_and(|c| c == m.from) {
            let (id, accepted) = self.structure.block_on(control::send(self.structure, m))?;
            (sent.id, sent.accepted) = (Some(id), accepted);
        } else if m.propose {
            sent.draft = Some(self.propose(m)?);
        } else {
            let answer = self.structure.hand_in(&m.from, self.submission(m), false)?;
            sent.id = taken(&m.from, answer)?;
            if m.expect == "expired" {
                self.expired = self.expired.max(now().after(lifetime(m)));
            }
        }
        self.sent.push(sent);
        Ok(())
    }

    /// A message as the command line hands it in.
    pub(crate) fn submission(&self, m: &Message) -> Submission {
        Submission {
            to: m.to.clone(),
            info: m.info.clone(),
            precedence: m.precedence.clone(),
            info_precedence: None,
            label: m.label.clone(),
            exercise: true,
            subject: m.subject.clone(),
            media_type: "text/plain; charset=utf-8".into(),
            name: None,
            body: m.body.clone().into_bytes(),
            attachments: vec![],
            author: None,
            expires: now().after(lifetime(m)),
            reply_by: None,
            references: vec![],
            supersedes: None,
        }
    }

    /// Keeps a message as a draft, once sending it without its vaststeller was refused.
    fn propose(&self, m: &Message) -> Result<String, Trouble> {
        let said = |f: Failure| format!("{}: {f}", m.from);
        let message = Box::new(self.submission(m));
        let send = Request::Send {
            message: message.clone(),
            wait: false,
        };
        match self.structure.ask(&m.from, &send) {
            Err(f) if f.exit() == Exit::Refused => {}
            _ => return Err("a message was sent that nobody has established".into()),
        }
        let answer = self.structure.ask(
            &m.from,
            &Request::Propose {
                message,
                openers: vec![],
            },
        );
        let answer = answer.map_err(said)?;
        self.progress
            .say("          refused: it is only proposed; it waits as a draft");
        answer["draft"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "an answer without a draft".into())
    }

    pub(crate) fn named(&mut self, name: &str) -> Result<&mut Sent, Trouble> {
        let mut all = self.sent.iter_mut();
        all.find(|x| x.message.name.as_deref() == Some(name))
            .ok_or_else(|| format!("no message '{name}' was sent yet"))
    }

    fn establish(&mut self, name: &str, by: &str) -> Result<(), Trouble> {
        let (node, draft) = {
            let x = self.named(name)?;
            let draft = x.draft.take().and_then(|d| d.parse().ok());
            (x.message.from.clone(), draft.ok_or("it is no draft")?)
        };
        let (config, person) = (self.structure.config(&node)?, self.structure.person(by)?);
        let answer = signing::establish(&config, draft, None, &person, true);
        let id = taken(&node, answer)?;
        self.named(name)?.id = id;
        self.progress
            .say(&format!("{by} establishes \"{name}\", and it goes out"));
        Ok(())
    }

    fn revise(&mut self, name: &str, label: &str, level: &str, by: &str) -> Result<(), Trouble> {
        let (node, id, message) = {
            let x = self.named(name)?;
            let id = x.id.as_deref().and_then(|id| id.parse().ok());
            (
                x.message.from.clone(),
                id.ok_or("it was not sent")?,
                x.message.clone(),
            )
        };
        let (config, signer) = (self.structure.config(&node)?, self.structure.signer(by)?);
        signing::follow(&config, id, ActKind::Revise, label, &signer)
            .map_err(|f| format!("{node}: {f}"))?;
        // Who has no copy yet, and may not have it under the new label, gets none.
        let graded = Message {
            level: level.into(),
            ..message
        };
        let absent = addressed(&graded)
            .into_iter()
            .filter(|n| !self.structure.runs(n) && !may_reach(self.scenario, &graded, n));
        let absent: BTreeSet<String> = absent.map(str::to_owned).collect();
        let x = self.named(name)?;
        x.revised = Some((label.to_owned(), level.to_owned()));
        x.held_back = absent;
        self.progress
            .say(&format!("{by} revises \"{name}\" to {label}"));
        Ok(())
    }

    fn declare(&mut self, event: &str, by: &str) -> Result<(), Trouble> {
        let person = self.scenario.person.iter().find(|p| p.name == by);
        let node = &person.ok_or("nobody of that name")?.node;
        let (config, signer) = (self.structure.config(node)?, self.structure.signer(by)?);
        signing::declare(&config, event, &signer).map_err(|f| format!("{node}: {f}"))?;
        self.progress.say(&format!("{by} declares \"{event}\""));
        Ok(())
    }

    fn due(&mut self, node: &str, names: &[String]) -> Result<(), Trouble> {
        let mut wanted = BTreeSet::new();
        for name in names {
            wanted.extend(self.named(name)?.id.clone());
        }
        let listed = || -> BTreeSet<String> {
            let rows = self.structure.ask(node, &Request::Due).unwrap_or_default();
            let rows = rows.as_array().cloned().unwrap_or_default();
            let id = |r: &Value| r["id"].as_str().map(str::to_owned);
            rows.iter().filter_map(id).collect()
        };
        if !until(SETTLE_WITHIN, || listed() == wanted) {
            return Err(format!(
                "{node} has {} labels to review, and should have {}",
                listed().len(),
                wanted.len()
            ));
        }
        self.progress.say(&match names {
            [] => format!("{node} has nothing to review"),
            some => format!(
                "{node} is told to review {}; the level stays",
                some.join(", ")
            ),
        });
        Ok(())
    }

    /// A message of the exercise's own node to the first of the others.
    fn plain(&self, text: &str) -> Result<Message, Trouble> {
        let to = daemons(self.scenario).take(1).map(str::to_owned).collect();
        Ok(Message::routine(&self.control()?, to, text))
    }

    fn duplicate(&mut self) -> Result<(), Trouble> {
        let message = self.plain("Eén bericht, driemaal aangeboden.")?;
        let thrice = control::duplicate(self.structure, &message);
        let id = self.structure.block_on(thrice)?;
        self.sent.push(Sent {
            id: Some(id),
            // The control node has seen the answer itself.
            accepted: true,
            ..Sent::new(message)
        });
        self.progress
            .say("one message was published three times and accepted once");
        Ok(())
    }

    /// What a sender's daemon knows of its messages, by id.
    fn receipts(&self, node: &str) -> BTreeMap<String, Value> {
        let rows = self
            .structure
            .ask(node, &Request::Receipts { id: None })
            .unwrap_or_default();
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.into_iter()
            .filter_map(|r| Some((r["id"].as_str()?.to_owned(), r)))
            .collect()
    }

    /// Nodes of a message that can have it: their daemon runs, and nothing is against it.
    fn reachable(&self, x: &Sent) -> usize {
        addressed(&x.message)
            .into_iter()
            .filter(|n| self.structure.runs(n) && !self.revoked.contains(*n))
            .filter(|n| !x.held_back.contains(*n))
            .count()
    }

    /// Waits until every message is decided, and every copy that can be there is receipted to its sender.
    pub(crate) fn settle(&mut self) -> Result<(), Trouble> {
        let began = Instant::now();
        let done = until(SETTLE_WITHIN, || {
            let running: Vec<&str> = daemons(self.scenario)
                .filter(|n| self.structure.runs(n) && !self.revoked.contains(*n))
                .collect();
            let quiet = running.iter().all(|n| {
                self.structure
                    .ask(n, &Request::Status)
                    .is_ok_and(|s| s["outbox"] == 0 && s["receipts_owed"] == 0)
            });
            quiet
                && running.iter().all(|n| {
                    let rows = self.receipts(n);
                    self.sent
                        .iter()
                        .filter(|x| x.message.from == *n && x.message.expect != "expired")
                        .filter_map(|x| Some((x, rows.get(x.id.as_deref()?)?)))
                        .all(|(x, row)| {
                            let due = self.reachable(x) as u64;
                            row["state"] == "refused" || row["delivered"].as_u64() >= Some(due)
                        })
                })
        });
        let took = began.elapsed().as_secs_f32();
        self.progress.say(&if done {
            format!("settled after {took:.2} s: all receipts are with their senders")
        } else {
            format!("not everything has arrived after {took:.0} s")
        });
        Ok(())
    }

    /// Every node opens what it has: where a person is named, that person.
    fn read_all(&mut self) -> Result<(), Trouble> {
        for node in daemons(self.scenario) {
            if !self.structure.runs(node) {
                continue;
            }
            let said = |f: Failure| format!("{node}: {f}");
            let inbox = self.structure.ask(node, &Request::Inbox).map_err(said)?;
            for row in inbox.as_array().into_iter().flatten() {
                let id = row["id"].as_str().unwrap_or_default().to_owned();
                let content =
                    read(self.structure, node, row).map_err(|e| format!("{node}: {e}"))?;
                let body = content["body"].as_str().unwrap_or_default();
                let body = BASE64.decode(body.as_bytes()).map_err(|e| e.to_string())?;
                let held = self.held.entry(node.into()).or_default();
                if let Some(label) = row["label_now"].as_str() {
                    held.labels.insert(id.clone(), label.to_owned());
                }
                held.bodies.insert(id, Some(sha256(&[&body])));
            }
        }
        self.progress
            .say("everyone has opened what is in the inbox");
        Ok(())
    }

    /// What the broker decided, as the senders know it.
    fn verdicts(&mut self) -> Result<(), Trouble> {
        for node in daemons(self.scenario) {
            let rows = self.receipts(node);
            for x in &mut self.sent {
                if let Some(row) = x.id.as_deref().and_then(|id| rows.get(id)) {
                    x.accepted = row["state"] == "accepted";
                    self.opened += row["opened"]
                        .as_u64()
                        .and_then(|n| usize::try_from(n).ok())
                        .unwrap_or(0);
                }
            }
        }
        Ok(())
    }
}

/// Opens a message of an inbox, as the person it is for where one is named.
pub(crate) fn read(s: &Structure, node: &str, row: &Value) -> Result<Value, Trouble> {
    read_with(s, node, row, None)
}

/// The same; an attachment is written to a file.
pub(crate) fn read_with(
    s: &Structure,
    node: &str,
    row: &Value,
    attachment: Option<(usize, std::path::PathBuf)>,
) -> Result<Value, Trouble> {
    let id: MessageId = row["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .ok_or("an inbox row without an id")?;
    let person = row["persons"].as_array().and_then(|p| {
        let own = p.iter().filter_map(Value::as_str);
        own.filter_map(|n| n.parse::<ordonnans_label::Name>().ok())
            .find(|n| s.works_at(n.local(), node))
    });
    let reader = person.map(|by| s.person(by.local())).transpose()?;
    open_message(
        &s.socket(node),
        id,
        ReceiptKind::Opened,
        reader.as_ref(),
        attachment,
    )
    .map_err(|f| f.to_string())
}
