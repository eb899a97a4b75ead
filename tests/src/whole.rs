//! A broker and daemons as processes of their own, messages handed in by their local API: what is killed, cut off or worn out by the tests of this crate.
//!
//! What counts as submitted is an id that a daemon gave. At the end each submitted message must lie once in the inbox of each recipient, its sender must
//! have the receipts, and the log, exported and verified offline, must have every record once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ordonnans_audit::{Entry, Verb};
use ordonnans_client::config::Config;
use ordonnans_client::exports::{quorum, verify, write_lines};
use ordonnans_client::local::{Request, Submission, ask};
use ordonnans_client::officer::Officer;
use ordonnans_message::{MessageId, Precedence, ReceiptKind};
use serde_json::Value;

use crate::crash::serve;
use crate::house::{House, STRUCTURE};
use crate::sim::Dice;
use crate::site::{Site, now, whole, write_credentials};

/// As first argument of a test program: become a node's daemon.
pub const ROLE: &str = "--in-the-role-of-a-node";
/// Nodes that have a daemon; the last but one is not in the circle.
pub const NODES: usize = 3;
/// So long nothing may have arrived at the end for what is missing to be given up: how much is under way then is the machine's affair.
const SETTLE_WITHIN: Duration = Duration::from_secs(180);
/// How often something is looked at that another process does.
const LOOK: Duration = Duration::from_millis(50);

/// Becomes the daemon where the arguments say so; a test program asks first.
#[must_use]
pub fn in_the_role(args: &[String]) -> Option<ExitCode> {
    let at = args.iter().position(|a| a == ROLE)?;
    let rest = args[at + 1..].iter().map(Into::into);
    Some(ordonnans_client::run(
        std::iter::once("ordonnans".into()).chain(rest),
    ))
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Processes killed.
    pub kills: usize,
    /// Ids that daemons gave.
    pub submitted: usize,
    /// Of these, accepted by the broker.
    pub accepted: usize,
    /// Of these, refused by the rules, as they had to be.
    pub refused: usize,
    /// Copies that lie in inboxes.
    pub delivered: usize,
    /// Records of the log at the end.
    pub records: u64,
}

/// A message that a daemon has taken.
struct Said {
    from: usize,
    to: usize,
    /// Whether the rules let it go there.
    may: bool,
}

/// The processes, and what was handed to them.
pub struct Whole {
    program: PathBuf,
    site: Site,
    configs: Vec<Config>,
    broker: Option<Child>,
    nodes: Vec<Option<Child>>,
    said: BTreeMap<MessageId, Said>,
    /// Copies that were read and destroyed, by node.
    done_with: BTreeSet<(usize, MessageId)>,
    /// What senders know to the end: accepted, with the receipt, or refused. They may forget it then.
    confirmed: BTreeMap<MessageId, bool>,
    /// Copies in inboxes, and messages of which their senders know the end, when it was last looked.
    arrived: usize,
    /// How long messages live, in milliseconds.
    life: u64,
    /// Sent so far, by which the next is told apart.
    count: usize,
    /// Times something was killed.
    pub kills: usize,
}

fn log(dir: &Path, name: &str) -> Result<std::fs::File, String> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).append(true).open(dir.join(name));
    file.map_err(|e| e.to_string())
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

impl Whole {
    /// Writes everything into a folder and starts it. `program` is one that asks [`crate::crash::in_the_role`] and [`in_the_role`] first.
    ///
    /// # Errors
    /// What could not be started.
    pub fn begin(program: &Path, dir: &Path) -> Result<Self, String> {
        Self::remembering(program, dir, 7 * 86_400_000, None)
    }

    /// The same with messages that live so long, in milliseconds, and are remembered so long after that; as long as is usual where that is `None`.
    ///
    /// # Errors
    /// What could not be started.
    pub fn remembering(
        program: &Path,
        dir: &Path,
        life: u64,
        remember: Option<Duration>,
    ) -> Result<Self, String> {
        let remember = remember.map(|r| format!("remember_seconds = {}\n", r.as_secs()));
        let remember = remember.unwrap_or_default();
        let mut house = House::new();
        let site = Site::new(dir, &mut house);
        let mut broker = log(dir, "broker.toml")?;
        broker.write_all(remember.as_bytes()).map_err(text)?;
        let mut configs = vec![];
        for n in house.nodes.iter().take(NODES) {
            let local = n.name.local();
            let credentials = write_credentials(dir, local, &n.issued);
            write_credentials(dir, &format!("p-{local}"), &n.persons);
            let path = dir.join(format!("{local}.toml"));
            let lines = format!(
                "broker = \"{}\"\nbroker_name = \"b1.broker.{STRUCTURE}\"\ntrust = \"trust\"\ndata = \"{local}\"\n{remember}{credentials}",
                site.address
            );
            std::fs::write(&path, lines).map_err(text)?;
            configs.push(Config::load(&path).map_err(text)?);
        }
        let mut all = Self {
            program: program.into(),
            site,
            configs,
            broker: None,
            nodes: (0..NODES).map(|_| None).collect(),
            said: BTreeMap::new(),
            done_with: BTreeSet::new(),
            confirmed: BTreeMap::new(),
            arrived: 0,
            life,
            count: 0,
            kills: 0,
        };
        all.start()?;
        all.know_each_other()?;
        Ok(all)
    }

    /// Starts whatever does not run.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&mut self) -> Result<(), String> {
        if self.broker.is_none() {
            self.broker = Some(serve(&self.program, &self.site)?);
        }
        for (child, config) in self.nodes.iter_mut().zip(&self.configs) {
            if child.is_none() {
                let local = config.data.file_name().unwrap_or_default();
                let toml = self.site.dir.join(local).with_extension("toml");
                let started = Command::new(&self.program)
                    .arg(ROLE)
                    .arg("-c")
                    .arg(toml)
                    .arg("daemon")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(log(&self.site.dir, "nodes.log")?)
                    .spawn();
                *child = Some(started.map_err(text)?);
            }
        }
        Ok(())
    }

    /// Waits until each daemon has everyone's key.
    fn know_each_other(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let knows = |config: &Config| {
            let rows = ask(&config.socket, &Request::Directory).ok();
            let rows = rows.as_ref().and_then(Value::as_array);
            let keys = rows.map_or(0, |r| r.iter().filter(|v| v["key"] == true).count());
            keys >= NODES
        };
        while !self.configs.iter().all(knows) {
            if began.elapsed() > SETTLE_WITHIN {
                return Err("the nodes do not come to know each other".into());
            }
            // The directory is asked for when somebody is written to whose key is not known.
            for pair in 0..NODES * NODES {
                let (from, to) = (pair / NODES, pair % NODES);
                let _ = self.submit(from, to, Precedence::Routine, None);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The broker's process.
    #[must_use]
    pub fn broker(&self) -> Option<u32> {
        self.broker.as_ref().map(Child::id)
    }

    /// The processes of the nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        self.nodes.iter().flatten().map(Child::id).collect()
    }

    /// The configuration of a node.
    #[must_use]
    pub fn config(&self, node: usize) -> &Config {
        &self.configs[node]
    }

    /// The folder of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// Takes note of what has ended by itself, so that [`Self::start`] starts it again; gives the broker's exit code, where it is the broker that ended
    /// (`None` within for a signal).
    ///
    /// # Errors
    /// What the system says.
    pub fn reap(&mut self) -> Result<Option<Option<i32>>, String> {
        for node in &mut self.nodes {
            if let Some(child) = node
                && child.try_wait().map_err(text)?.is_some()
            {
                *node = None;
            }
        }
        let Some(broker) = &mut self.broker else {
            return Ok(None);
        };
        let ended = broker.try_wait().map_err(text)?;
        Ok(ended.map(|status| {
            self.broker = None;
            status.code()
        }))
    }

    fn end(child: &mut Option<Child>) -> Result<bool, String> {
        let Some(mut running) = child.take() else {
            return Ok(false);
        };
        running.kill().map_err(text)?;
        running.wait().map_err(text)?;
        Ok(true)
    }

    /// SIGKILL for the broker.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill_broker(&mut self) -> Result<(), String> {
        self.kills += usize::from(Self::end(&mut self.broker)?);
        Ok(())
    }

    /// SIGTERM for the broker, which must end well.
    ///
    /// # Errors
    /// How it ended.
    pub fn stop_broker(&mut self) -> Result<(), String> {
        let Some(mut running) = self.broker.take() else {
            return Ok(());
        };
        let pid = i32::try_from(running.id()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(text)?;
        let ended = running.wait().map_err(text)?;
        if ended.success() {
            Ok(())
        } else {
            Err(format!("the broker ended with {ended}"))
        }
    }

    /// SIGKILL for the daemon of a node.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill_node(&mut self, node: usize) -> Result<(), String> {
        self.kills += usize::from(Self::end(&mut self.nodes[node])?);
        Ok(())
    }

    /// SIGKILL for everything.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill_all(&mut self) -> Result<(), String> {
        self.kill_broker()?;
        (0..NODES).try_for_each(|n| self.kill_node(n))
    }

    /// Hands a message to a daemon; gives whether it gave an id.
    pub fn submit(
        &mut self,
        from: usize,
        to: usize,
        precedence: Precedence,
        attachment: Option<&Path>,
    ) -> bool {
        self.count += 1;
        // Every eighth is for the circle alone, which one of the nodes is not in.
        let circle = self.count.is_multiple_of(8);
        let label = if circle {
            "Ongerubriceerd // KRING ICCB"
        } else {
            "Ongerubriceerd"
        };
        let local = |n: usize| self.configs[n].data.file_name().unwrap_or_default();
        let message = Submission {
            to: vec![local(to).to_string_lossy().into_owned()],
            info: vec![],
            precedence: precedence.as_str().into(),
            info_precedence: None,
            label: label.into(),
            exercise: true,
            subject: "x".into(),
            media_type: "text/plain".into(),
            name: None,
            body: format!("{:0256}", self.count).into_bytes(),
            attachments: attachment.into_iter().map(Into::into).collect(),
            author: None,
            expires: now().after(self.life),
            reply_by: None,
            references: vec![],
            supersedes: None,
        };
        let request = Request::Send {
            message: Box::new(message),
            wait: false,
        };
        let answer = ask(&self.configs[from].socket, &request);
        let id = answer.ok().and_then(|v| v["id"].as_str()?.parse().ok());
        let Some(id) = id else {
            return false;
        };
        let may = !circle || to != NODES - 1 && from != NODES - 1;
        self.said.insert(id, Said { from, to, may });
        true
    }

    /// Hands in messages of all kinds for a while.
    pub fn write(&mut self, dice: &mut Dice, life: Duration) {
        let began = Instant::now();
        while began.elapsed() < life {
            let (from, to) = (dice.below(NODES), dice.below(NODES));
            let precedence = Precedence::ALL[dice.below(6)];
            if !self.submit(from, to, precedence, None) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// What a daemon lists, as soon as it answers.
    fn rows(&self, node: usize, request: &Request) -> Result<Vec<Value>, String> {
        let socket = &self.configs[node].socket;
        let began = Instant::now();
        while UnixStream::connect(socket).is_err() {
            if began.elapsed() > SETTLE_WITHIN {
                return Err(format!("the daemon of node {node} does not answer"));
            }
            std::thread::sleep(LOOK);
        }
        let answer = ask(socket, request).map_err(text)?;
        Ok(answer.as_array().cloned().unwrap_or_default())
    }

    fn ids(rows: &[Value], which: impl Fn(&Value) -> bool) -> Vec<MessageId> {
        let rows = rows.iter().filter(|r| which(r));
        rows.filter_map(|r| r["id"].as_str()?.parse().ok())
            .collect()
    }

    /// Takes note of what a node knows of what it sent. Gives the ids it knows at all.
    fn confirm(&mut self, node: usize) -> Result<BTreeSet<MessageId>, String> {
        let sent = self.rows(node, &Request::Receipts { id: None })?;
        for (state, done) in [("accepted", true), ("refused", false)] {
            let over = |r: &Value| r["state"] == state && (!done || r["delivered"] == 1);
            let ids = Self::ids(&sent, over).into_iter();
            self.confirmed.extend(ids.map(|id| (id, done)));
        }
        Ok(Self::ids(&sent, |_| true).into_iter().collect())
    }

    /// Reads what a node has and destroys all but the newest.
    ///
    /// # Errors
    /// A copy that was destroyed lies there again.
    pub fn tidy(&mut self, node: usize, keep: usize) -> Result<(), String> {
        self.confirm(node)?;
        let mut inbox = Self::ids(&self.rows(node, &Request::Inbox)?, |_| true);
        if let Some(id) = inbox
            .iter()
            .find(|id| self.done_with.contains(&(node, **id)))
        {
            return Err(format!("{id} came a second time"));
        }
        inbox.sort();
        let old = inbox.len().saturating_sub(keep);
        for id in inbox.into_iter().take(old) {
            let read = Request::Read {
                id,
                kind: ReceiptKind::Opened,
                receipt: None,
                attachment: None,
            };
            let destroy = Request::Destroy { id, receipt: None };
            let socket = &self.configs[node].socket;
            if ask(socket, &read)
                .and_then(|_| ask(socket, &destroy))
                .is_ok()
            {
                self.done_with.insert((node, id));
            }
        }
        Ok(())
    }

    /// Lets everything arrive, and compares it with what was handed in and with the log.
    ///
    /// # Errors
    /// What was lost, came twice, or went where it may not.
    pub fn judge(&mut self) -> Result<Tally, String> {
        self.start()?;
        let (mut most, mut since) = (0, Instant::now());
        loop {
            let why = match self.settled() {
                Ok(tally) => return self.compare(tally),
                Err(why) => why,
            };
            if self.arrived > most {
                (most, since) = (self.arrived, Instant::now());
            }
            if since.elapsed() > SETTLE_WITHIN {
                return Err(why);
            }
            std::thread::sleep(4 * LOOK);
        }
    }

    /// Whether everything is where it must be; why not.
    fn settled(&mut self) -> Result<Tally, String> {
        let mut tally = Tally {
            kills: self.kills,
            submitted: self.said.len(),
            ..Tally::default()
        };
        let mut lists = vec![];
        for node in 0..NODES {
            let inbox = Self::ids(&self.rows(node, &Request::Inbox)?, |_| true);
            lists.push((inbox, self.confirm(node)?));
        }
        let inboxes: usize = lists.iter().map(|(inbox, _)| inbox.len()).sum();
        self.arrived = inboxes + self.done_with.len() + self.confirmed.len();
        for (node, (inbox, known)) in lists.into_iter().enumerate() {
            let mut once: BTreeSet<MessageId> = inbox.iter().copied().collect();
            if let Some(id) = once
                .iter()
                .find(|id| self.done_with.contains(&(node, **id)))
            {
                return Err(format!("{id} came a second time"));
            }
            if once.len() != inbox.len() {
                return Err(format!(
                    "{} copies lie in an inbox twice",
                    inbox.len() - once.len()
                ));
            }
            let gone = self.done_with.iter().filter(|(n, _)| *n == node);
            once.extend(gone.map(|(_, id)| *id));
            tally.delivered += once.len();
            for (id, said) in &self.said {
                if said.to == node {
                    if !said.may && once.contains(id) {
                        return Err(format!("{id} lies in an inbox and may not"));
                    }
                    if said.may && !once.contains(id) {
                        return Err(format!("{id} is in no inbox"));
                    }
                }
                if said.from != node {
                    continue;
                }
                match self.confirmed.get(id) {
                    Some(accepted) if *accepted == said.may => {}
                    Some(_) => return Err(format!("{id} was not decided as it had to be")),
                    None if known.contains(id) => {
                        return Err(format!("{id}: its sender has no receipt"));
                    }
                    None => return Err(format!("{id} was given out and is not known any more")),
                }
            }
        }
        tally.accepted = self.confirmed.values().filter(|a| **a).count();
        tally.refused = self.confirmed.len() - tally.accepted;
        Ok(tally)
    }

    /// A broker that was restarted a moment ago reads its log first, and answers then.
    async fn officer(&self) -> Result<Officer, String> {
        let began = Instant::now();
        loop {
            match Officer::connect(&self.site.officer()).await {
                Ok(officer) => return Ok(officer),
                Err(why) if began.elapsed() > SETTLE_WITHIN => return Err(text(why)),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Every record once, and the whole log right by itself.
    fn compare(&self, tally: Tally) -> Result<Tally, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(text)?;
        let (entries, checkpoint): (Vec<Entry>, String) = runtime.block_on(async {
            let mut officer = self.officer().await?;
            // What is signed now covers the last receipt.
            officer.checkpoint().await.map_err(text)?;
            let all = whole(&mut officer).await.map_err(text);
            officer.finish().await;
            all
        })?;
        let mut seen = BTreeMap::<(MessageId, Verb), usize>::new();
        for e in &entries {
            let (public, detail) = e.read().ok_or("a record that cannot be read")?;
            if let Some(id) = detail.and_then(|d| d.message) {
                *seen.entry((id, public.verb)).or_default() += 1;
            }
        }
        for (id, said) in &self.said {
            let verbs: &[Verb] = if said.may {
                &[
                    Verb::Accepted,
                    Verb::CopyMade,
                    Verb::Delivered,
                    Verb::Receipt,
                ]
            } else {
                &[Verb::Refused]
            };
            for verb in verbs {
                let times = seen.get(&(*id, *verb)).copied().unwrap_or(0);
                // A refusal is asked for again where its answer was lost.
                if times == 0 || times > 1 && said.may {
                    return Err(format!(
                        "{id} is {} {times} times in the log",
                        verb.as_str()
                    ));
                }
            }
            if !said.may && seen.contains_key(&(*id, Verb::Delivered)) {
                return Err(format!("{id} was delivered without a permit"));
            }
        }
        let dir = self.site.dir.join("export");
        drop(std::fs::remove_dir_all(&dir));
        let head = write_lines(&dir, &entries, &checkpoint).map_err(text)?;
        let key = self.site.dir.join("data").join("audit.pub");
        let quorum = quorum(Some(&key), None).map_err(text)?;
        verify(&dir, &quorum, false).map_err(text)?;
        Ok(Tally {
            records: head.size,
            ..tally
        })
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // What cannot be ended ends with the machine.
        drop(self.kill_all());
    }
}

/// Plays rounds of killing: in each the broker, a daemon, or everything at once, at a moment that the seed decides.
///
/// # Errors
/// What was lost, came twice, or is missing in the log.
pub fn crash(program: &Path, rounds: usize, seed: u64) -> Result<Tally, String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let played = play(program, dir.path(), rounds, seed);
    // What says why is there, and would be gone.
    played.map_err(|why| format!("{why}; all that is left lies in {}", dir.keep().display()))
}

fn play(program: &Path, dir: &Path, rounds: usize, seed: u64) -> Result<Tally, String> {
    let mut all = Whole::begin(program, dir)?;
    let mut dice = Dice::new(seed);
    for _ in 0..rounds {
        all.start()?;
        let life = Duration::from_millis(20 + dice.below(380) as u64);
        all.write(&mut dice, life);
        match dice.below(10) {
            0..3 => all.kill_broker()?,
            3..6 => all.kill_node(dice.below(NODES))?,
            6..8 => {
                all.kill_broker()?;
                all.kill_node(dice.below(NODES))?;
            }
            _ => all.kill_all()?,
        }
    }
    if seed.is_multiple_of(2) {
        // By an odd seed those that were not killed last go on with what they remember, which takes their longest pause.
        all.kill_all()?;
    }
    all.judge()
}
