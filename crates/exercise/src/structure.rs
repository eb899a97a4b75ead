//! The structure in a folder: certificates, register, configurations, and the processes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ordonnans_broker::admin::{Status, ask as ask_broker};
use ordonnans_certs::Workshop;
use ordonnans_client::config::Config;
use ordonnans_client::failure::Failure;
use ordonnans_client::local::{Request, Submission, ask};
use ordonnans_client::opening::{self, Person};
use ordonnans_client::signing;
use ordonnans_identity::FileSigner;
use ordonnans_label::{Clearance, Clearances, Kind, Level, Name, Policies, Policy};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use time::{Duration as Span, OffsetDateTime};

use crate::address::own_address;
use crate::line::SlowLine;
use crate::scenario::{Also, Node, Scenario};

/// What went wrong with the exercise itself.
pub(crate) type Trouble = String;

/// How long a process may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at something that is on its way.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Waits until `done` says yes, looking now and then. Gives whether it did.
pub(crate) fn until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if done() {
            return true;
        }
        if began.elapsed() > within {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// The processes and files of a structure. Dropped, the processes are ended unless they were let go.
pub(crate) struct Structure {
    pub(crate) dir: PathBuf,
    pub(crate) address: SocketAddr,
    structure: String,
    /// Who works where.
    persons: BTreeMap<String, String>,
    pub(crate) workshop: Workshop,
    broker: Option<Child>,
    nodes: BTreeMap<String, Child>,
    /// What nodes whose UDP is blocked find where the broker should be.
    nowhere: UdpSocket,
    slow: Vec<SlowLine>,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Structure {
    fn drop(&mut self) {
        for child in self.nodes.values_mut().chain(&mut self.broker) {
            // Those that ended are ended.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn said<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Trouble + '_ {
    move |e| format!("{what}: {e}")
}

fn holds(level: &str, circles: &[String], compartments: &[String]) -> Result<Clearance, Trouble> {
    let level: Level = level.parse().map_err(said("the scenario"))?;
    let mut c = Clearance::new(level);
    for v in circles {
        c = c.with_circle(v).map_err(said("the scenario"))?;
    }
    for v in compartments {
        c = c.with_compartment(v).map_err(said("the scenario"))?;
    }
    Ok(c)
}

fn of_node(n: &Node) -> Result<Clearance, Trouble> {
    holds(&n.clearance, &n.circles, &n.compartments)
}

fn clearances(policies: &Policies, own: &Clearance, also: &[Also]) -> Result<Clearances, Trouble> {
    let mut all = Clearances::from(own.clone());
    for a in also {
        let more = policies.read_clearance(&a.typed);
        all.insert(more.map_err(said("the scenario"))?);
    }
    Ok(all)
}

impl Structure {
    /// Makes every file of a structure in an empty folder.
    pub(crate) fn make(dir: &Path, s: &Scenario) -> Result<Self, Trouble> {
        let now = OffsetDateTime::now_utc();
        let policies = policies(s)?;
        let mut workshop = Workshop::init(&dir.join("workshop"), &s.structure, now)
            .map_err(said("the workshop"))?
            .with_policies(policies.clone());
        let mut issue = |kind, local: &str, c: &Clearance, also: &[Also]| {
            let all = clearances(&policies, c, also)?;
            workshop
                .issue(kind, local, &all, 30, now)
                .map_err(said("a certificate"))
        };
        issue(
            Kind::Broker,
            "b1",
            &Clearance::new(Level::Ongerubriceerd),
            &[],
        )?;
        let mut all = Clearance::new(Level::StgZg);
        for c in &s.circle {
            all = all.with_circle(&c.name).map_err(said("the scenario"))?;
        }
        issue(Kind::Officer, "bva", &all, &[])?;
        for n in &s.node {
            issue(Kind::Node, &n.name, &of_node(n)?, &n.also)?;
        }
        for p in &s.person {
            let c = holds(&p.clearance, &p.circles, &p.compartments)?;
            issue(Kind::Person, &p.name, &c, &[])?;
        }
        let address = own_address().map_err(said("a port"))?;
        let tcp = own_address().map_err(said("a port"))?;
        // Nobody reads it.
        let nowhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(said("a port"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .build()
            .map_err(said("a runtime"))?;
        let made = Self {
            dir: dir.into(),
            address,
            structure: s.structure.clone(),
            persons: s
                .person
                .iter()
                .map(|p| (p.name.clone(), p.node.clone()))
                .collect(),
            workshop,
            broker: None,
            nodes: BTreeMap::new(),
            nowhere,
            slow: vec![],
            runtime,
        };
        fs::create_dir_all(dir.join("policies")).map_err(said("a folder"))?;
        for id in &s.policies {
            made.write(&format!("policies/{id}.toml"), example(id)?)?;
        }
        made.write("register.toml", &register(s, now))?;
        let broker = format!(
            "listen = \"{address}\"\nlisten_tcp = \"{tcp}\"\ndata = \"broker\"\ntrust = \"workshop/trust\"\npolicies = \"policies\"\nregister = \"register.toml\"\n{}",
            made.identity(Kind::Broker, "b1")
        );
        made.write("broker.toml", &broker)?;
        made.write("officer.toml", &made.client(Kind::Officer, "bva", address))?;
        for n in &s.node {
            let client = if n.udp_blocked {
                let nowhere = made.nowhere.local_addr().map_err(said("a port"))?;
                let tcp = format!("broker_tcp = \"{tcp}\"\n");
                tcp + &made.client(Kind::Node, &n.name, nowhere)
            } else {
                made.client(Kind::Node, &n.name, address)
            };
            made.write(&format!("{}.toml", n.name), &client)?;
        }
        Ok(made)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Trouble> {
        fs::write(self.dir.join(name), text).map_err(said(name))
    }

    /// The full name of a member.
    pub(crate) fn name(&self, kind: Kind, local: &str) -> Result<Name, Trouble> {
        Name::new(local, kind, &self.structure).map_err(said("the scenario"))
    }

    /// The certificate and key of a member.
    pub(crate) fn credentials(
        &self,
        kind: Kind,
        local: &str,
    ) -> Result<(PathBuf, PathBuf), Trouble> {
        let dir = self.workshop.issued_dir(&self.name(kind, local)?);
        Ok((dir.join("cert.pem"), dir.join("key.pem")))
    }

    /// Whether a person works at a node.
    pub(crate) fn works_at(&self, person: &str, node: &str) -> bool {
        self.persons.get(person).is_some_and(|n| n == node)
    }

    pub(crate) fn trust_dir(&self) -> PathBuf {
        self.workshop.trust_dir()
    }

    fn identity(&self, kind: Kind, local: &str) -> String {
        let dir = format!(
            "workshop/issued/{local}.{}.{}",
            kind.as_str(),
            self.structure
        );
        format!("[identity]\ncertificate = \"{dir}/cert.pem\"\nkey = \"{dir}/key.pem\"\n")
    }

    /// The configuration of somebody who finds the broker at this address.
    fn client(&self, kind: Kind, local: &str, broker: SocketAddr) -> String {
        format!(
            "broker = \"{broker}\"\nbroker_name = \"b1.broker.{}\"\ntrust = \"workshop/trust\"\npolicies = \"policies\"\ndata = \"{local}\"\n{}",
            self.structure,
            self.identity(kind, local)
        )
    }

    /// Starts this program again in another role.
    fn spawn(&self, role: &str, log: &str, args: &[&str]) -> Result<Child, Trouble> {
        let own = std::env::current_exe().map_err(said("this program"))?;
        let path = self.dir.join(format!("{log}.log"));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(said("a log"))?;
        Command::new(own)
            .arg(crate::program::ROLE)
            .arg(role)
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(said("a process"))
    }

    /// Starts the broker and waits until it serves.
    pub(crate) fn start_broker(&mut self) -> Result<(), Trouble> {
        let child = self.spawn("broker", "broker", &["-c", "broker.toml", "serve"])?;
        self.broker = Some(child);
        if until(READY_WITHIN, || {
            self.broker_status().is_some_and(|s| !s.broker.is_empty())
        }) {
            Ok(())
        } else {
            let log = self.dir.join("broker.log");
            Err(format!("the broker does not serve; see {}", log.display()))
        }
    }

    /// What the broker says it is doing.
    pub(crate) fn broker_status(&self) -> Option<Status> {
        let socket = self.dir.join("broker").join("admin.sock");
        self.runtime.block_on(ask_broker(&socket)).ok()
    }

    /// Kills the broker without warning.
    pub(crate) fn kill_broker(&mut self) -> Result<(), Trouble> {
        if let Some(mut child) = self.broker.take() {
            child.kill().map_err(said("the broker"))?;
            child.wait().map_err(said("the broker"))?;
        }
        Ok(())
    }

    /// Has the broker read certificate, trust and register again.
    pub(crate) fn reload_broker(&self) -> Result<(), Trouble> {
        let pid = self.broker.as_ref().map(Child::id);
        let pid = pid.and_then(|p| Pid::from_raw(i32::try_from(p).ok()?));
        let pid = pid.ok_or("the broker does not run")?;
        kill_process(pid, Signal::HUP).map_err(said("the broker"))
    }

    /// Revokes a node's certificate and waits until the broker has cut it off.
    pub(crate) fn revoke(&mut self, node: &str) -> Result<(), Trouble> {
        let name = self.name(Kind::Node, node)?;
        self.workshop
            .revoke(name.as_str(), OffsetDateTime::now_utc())
            .map_err(said("the workshop"))?;
        self.reload_broker()?;
        let gone = |s: Status| !s.sessions.iter().any(|p| p.peer == name.as_str());
        if until(READY_WITHIN, || self.broker_status().is_some_and(gone)) {
            Ok(())
        } else {
            Err(format!("the broker still talks to {node}, who was revoked"))
        }
    }

    /// Makes another issuing authority, and waits until the broker believes it. Gives its name.
    pub(crate) fn roll_over(&mut self) -> Result<String, Trouble> {
        let (nothing, now) = (Clearances::default(), OffsetDateTime::now_utc());
        let made = self
            .workshop
            .rollover_issuing(&nothing, Policies::built_in(), now)
            .map_err(said("the workshop"))?;
        let authorities = self.workshop.authorities().len();
        self.reload_broker()?;
        let taken = |s: Status| s.lists.len() == authorities;
        if until(READY_WITHIN, || self.broker_status().is_some_and(taken)) {
            Ok(made)
        } else {
            Err(format!("the broker does not take over {made}"))
        }
    }

    /// Issues another certificate in place of the one there is.
    pub(crate) fn renew(&mut self, s: &Scenario, kind: Kind, local: &str) -> Result<(), Trouble> {
        let node = s.node.iter().find(|n| n.name == local);
        let all = match node.filter(|_| kind == Kind::Node) {
            Some(n) => clearances(&policies(s)?, &of_node(n)?, &n.also)?,
            None => Clearance::new(Level::Ongerubriceerd).into(),
        };
        self.workshop
            .issue_beside(kind, local, &all, 31, OffsetDateTime::now_utc())
            .map_err(said("a certificate"))?;
        Ok(())
    }

    /// Starts a node's daemon again behind a line of so many bytes a second.
    pub(crate) fn slow_down(&mut self, node: &str, rate: u32) -> Result<(), Trouble> {
        let line = SlowLine::to(self.address, rate).map_err(said("a line"))?;
        self.kill_node(node)?;
        let client = self.client(Kind::Node, node, line.address());
        self.write(&format!("{node}.toml"), &client)?;
        self.slow.push(line);
        self.start_node(node)?;
        self.connected(node)
    }

    /// Starts a node's daemon.
    pub(crate) fn start_node(&mut self, node: &str) -> Result<(), Trouble> {
        let config = format!("{node}.toml");
        let child = self.spawn("node", node, &["-c", &config, "daemon"])?;
        self.nodes.insert(node.into(), child);
        Ok(())
    }

    /// Waits until a node's daemon is connected.
    pub(crate) fn connected(&self, node: &str) -> Result<(), Trouble> {
        let up = || {
            self.ask(node, &Request::Status)
                .is_ok_and(|s| s["connected"] == true)
        };
        if until(READY_WITHIN, up) {
            Ok(())
        } else {
            let log = self.dir.join(format!("{node}.log"));
            Err(format!("{node} does not connect; see {}", log.display()))
        }
    }

    /// Kills a node's daemon without warning.
    pub(crate) fn kill_node(&mut self, node: &str) -> Result<(), Trouble> {
        if let Some(mut child) = self.nodes.remove(node) {
            child.kill().map_err(said(node))?;
            child.wait().map_err(said(node))?;
        }
        Ok(())
    }

    /// Whether a node's daemon runs.
    pub(crate) fn runs(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// Asks a node's daemon, as its command line does.
    pub(crate) fn ask(&self, node: &str, request: &Request) -> Result<Value, Failure> {
        ask(&self.socket(node), request)
    }

    /// What the command line of a node is told.
    pub(crate) fn config(&self, node: &str) -> Result<Config, Trouble> {
        Config::load(&self.dir.join(format!("{node}.toml"))).map_err(said(node))
    }

    /// The signing key of a person, as that person's command line loads it.
    pub(crate) fn signer(&self, person: &str) -> Result<FileSigner, Trouble> {
        let (certificate, key) = self.credentials(Kind::Person, person)?;
        signing::person(&certificate, &key).map_err(|f| format!("{person}: {f}"))
    }

    /// The encryption key of a person.
    fn seal_key(&self, person: &str) -> PathBuf {
        self.dir.join(format!("{person}.x-wing"))
    }

    /// A person, as that person's command line loads certificate and keys.
    pub(crate) fn person(&self, person: &str) -> Result<Person, Trouble> {
        let (certificate, key) = self.credentials(Kind::Person, person)?;
        Person::load(&certificate, &key, &[self.seal_key(person)]).map_err(said(person))
    }

    /// The socket of a node's daemon.
    pub(crate) fn socket(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("ordonnans.sock")
    }

    /// Every person whose node runs makes an encryption key and publishes it; waits until the directory has all of them.
    pub(crate) fn publish_keys(&self) -> Result<usize, Trouble> {
        let runs = |n: &String| self.nodes.contains_key(n);
        let here: Vec<_> = self.persons.iter().filter(|(_, n)| runs(n)).collect();
        for (person, node) in &here {
            let path = self.seal_key(person);
            opening::make_key(&path).map_err(said(person))?;
            let (certificate, key) = self.credentials(Kind::Person, person)?;
            opening::publish_key(&self.socket(node), &certificate, &key, &path)
                .map_err(said(person))?;
        }
        for (person, node) in &here {
            let name = self.name(Kind::Person, person)?;
            let listed = || {
                let rows = self.ask(node, &Request::Directory).unwrap_or_default();
                let mut rows = rows.as_array().into_iter().flatten();
                rows.any(|r| r["name"] == name.as_str() && r["key"] == true)
            };
            if !until(READY_WITHIN, listed) {
                return Err(format!(
                    "the key of {person} does not come into the directory"
                ));
            }
        }
        Ok(here.len())
    }

    /// Hands a message in as a duty officer does: where the label names somebody of that node as vaststeller, that person drafts and establishes in
    /// one step.
    pub(crate) fn hand_in(
        &self,
        node: &str,
        message: Submission,
        wait: bool,
    ) -> Result<Result<Value, Failure>, Trouble> {
        let message = Box::new(message);
        let by = message.label.rsplit_once("VASTGESTELD ");
        let by = by.and_then(|(_, name)| name.split('.').next());
        if let Some(by) = by.filter(|by| self.works_at(by, node)) {
            let (by, config) = (self.person(by)?, self.config(node)?);
            return Ok(signing::at_once(&config, message, &by, wait));
        }
        Ok(self.ask(node, &Request::Send { message, wait }))
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Lets the processes run on.
    pub(crate) fn let_go(mut self) {
        self.broker = None;
        self.nodes.clear();
    }
}

/// An example policy, as it stands in the documentation.
fn example(id: &str) -> Result<&'static str, Trouble> {
    match id {
        "be" => Ok(include_str!("../../../docs/policies/be.toml")),
        "de" => Ok(include_str!("../../../docs/policies/de.toml")),
        "dk" => Ok(include_str!("../../../docs/policies/dk.toml")),
        "ee" => Ok(include_str!("../../../docs/policies/ee.toml")),
        _ => Err(format!("the scenario: there is no example policy '{id}'")),
    }
}

fn policies(s: &Scenario) -> Result<Policies, Trouble> {
    let mut all = Policies::built_in().clone();
    for id in &s.policies {
        let policy = Policy::parse(example(id)?).map_err(said("a policy"))?;
        all.add(policy).map_err(said("a policy"))?;
    }
    Ok(all)
}

fn texts(all: &[String]) -> String {
    let quoted: Vec<String> = all.iter().map(|v| format!("{v:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

fn register(s: &Scenario, now: OffsetDateTime) -> String {
    let until = (now + Span::days(365)).date();
    let mut t = format!("version = 1\nstructure = {:?}\n", s.structure);
    for c in &s.circle {
        let _ = write!(
            t,
            "\n[[circle]]\nname = {:?}\ntitle = {:?}\n",
            c.name, c.title
        );
    }
    for n in &s.node {
        let _ = write!(
            t,
            "\n[[node]]\nname = {:?}\ntitle = {:?}\nclearance = {:?}\ncircles = {}\ncompartments = {}\nrijksdienst = {}\nlink = {{ up_to = {:?}, decision = \"exercise\", until = \"{until}\", stg_zg = \"exercise\" }}\naccredited_until = \"{until}\"\nstanding = \"active\"\n",
            n.name,
            n.title,
            n.clearance,
            texts(&n.circles),
            texts(&n.compartments),
            n.rijksdienst,
            n.clearance
        );
        if !n.rijksdienst {
            let up_to = n.assured.as_ref().unwrap_or(&n.clearance);
            let _ = writeln!(
                t,
                "assurance = {{ up_to = {up_to:?}, decision = \"exercise\", until = \"{until}\" }}"
            );
        }
        let also: Vec<String> = n.also.iter().map(|a| a.typed.clone()).collect();
        let _ = writeln!(
            t,
            "also = {}\nspeaks_for = {}",
            texts(&also),
            texts(&n.speaks_for)
        );
    }
    for p in &s.person {
        let _ = write!(
            t,
            "\n[[person]]\nname = {:?}\nnode = {:?}\nclearance = {:?}\ncircles = {}\ncompartments = {}\n",
            p.name,
            p.node,
            p.clearance,
            texts(&p.circles),
            texts(&p.compartments)
        );
        if let Some(level) = &p.establishes {
            let _ = writeln!(
                t,
                "mandate = {{ up_to = {level:?}, decision = \"exercise\", until = \"{until}\" }}"
            );
        }
    }
    for c in &s.consent {
        let _ = write!(
            t,
            "\n[[consent]]\npolicy = {:?}\nup_to = {:?}\ndecision = \"exercise\"\nuntil = \"{until}\"\nto = {}\n",
            c.policy,
            c.up_to,
            texts(&c.to)
        );
    }
    for e in &s.event {
        let _ = write!(
            t,
            "\n[[event]]\nname = {:?}\ntitle = {:?}\ndeclared_by = {}\n",
            e.name,
            e.name,
            texts(&e.declared_by)
        );
    }
    let circles: Vec<String> = s.circle.iter().map(|c| c.name.clone()).collect();
    let _ = write!(
        t,
        "\n[[officer]]\nname = \"bva\"\nclearance = \"Stg.ZG\"\ncircles = {}\n",
        texts(&circles)
    );
    t
}
