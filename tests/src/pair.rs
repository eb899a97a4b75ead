//! Two nodes that write to each other through one broker: broker and daemons in this process, and what their command lines would ask.

use std::path::Path;
use std::time::{Duration, Instant};

use ordonnans_broker::Broker;
use ordonnans_client::Daemon;
use ordonnans_client::config::Config;
use ordonnans_client::local::{Request, Submission, ask};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::site::now;

/// The first node, by its place.
pub const NCC: usize = 0;
/// The second.
pub const DEF: usize = 1;
/// Their local names.
pub const LOCAL: [&str; 2] = ["ncc", "def"];
/// Nothing here takes so long.
const WITHIN: Duration = Duration::from_secs(120);
/// Bytes of a message where it does not matter.
const BODY: usize = 256;

/// A broker, and the daemons of [`LOCAL`].
pub struct Pair {
    /// Until it is taken away.
    pub broker: Option<Broker>,
    /// The daemons' configurations.
    pub configs: Vec<Config>,
    daemons: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// Looks again and again, until it holds. Must be called on a runtime with several threads.
///
/// # Panics
/// It does not come about.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !tokio::task::block_in_place(&mut holds) {
        assert!(began.elapsed() < WITHIN, "it does not come about: {what}");
        tokio::task::yield_now().await;
    }
}

/// Hands a message in, with a file where there is one. Gives its id, unless the daemon does not take it.
#[must_use]
pub fn hand_in(
    from: &Config,
    to: &str,
    precedence: &str,
    file: Option<&Path>,
    bytes: usize,
) -> Option<String> {
    let message = Submission {
        to: vec![to.into()],
        info: vec![],
        precedence: precedence.into(),
        info_precedence: None,
        label: "Ongerubriceerd".into(),
        exercise: true,
        subject: "x".into(),
        media_type: "text/plain".into(),
        name: None,
        body: vec![7; bytes],
        attachments: file.into_iter().map(Into::into).collect(),
        author: None,
        expires: now().after(3_600_000),
        reply_by: None,
        references: vec![],
        supersedes: None,
    };
    let request = Request::Send {
        message: Box::new(message),
        wait: false,
    };
    let answer = ask(&from.socket, &request).ok()?;
    Some(answer["id"].as_str()?.to_owned())
}

impl Pair {
    /// Starts a daemon by each of these files. A broker that runs elsewhere is not given.
    ///
    /// # Panics
    /// A file is no configuration, or a daemon does not run.
    #[must_use]
    pub fn start(broker: impl Into<Option<Broker>>, files: &[impl AsRef<Path>]) -> Self {
        let stop = CancellationToken::new();
        let load = |f: &Path| Config::load(f).unwrap_or_else(|e| panic!("{e}"));
        let configs: Vec<Config> = files.iter().map(|f| load(f.as_ref())).collect();
        let daemons = configs.iter().map(|config| {
            let running = Daemon::run(config.clone(), stop.clone());
            tokio::spawn(async move { running.await.unwrap_or_else(|f| panic!("{f}")) })
        });
        Self {
            broker: broker.into(),
            daemons: daemons.collect(),
            configs,
            stop,
        }
    }

    /// Both write once and have what the other wrote: from here on both have the other's key. Gives the two ids.
    ///
    /// # Panics
    /// They do not come to know each other.
    pub async fn know_each_other(&self) -> [String; 2] {
        let mut sent = [NCC, DEF].map(|_| String::new());
        for from in [NCC, DEF] {
            until("they know each other", || {
                let id = self.send(from, LOCAL[1 - from], "ROUTINE", None);
                sent[from] = id.unwrap_or_default();
                !sent[from].is_empty()
            })
            .await;
        }
        let there = || [NCC, DEF].iter().all(|n| self.inbox(*n).len() == 1);
        until("the first messages", there).await;
        sent
    }

    /// Looks again and again, until it holds.
    ///
    /// # Panics
    /// It does not come about.
    pub async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        until("what is waited for", || holds(self)).await;
    }

    /// As [`hand_in`], of few bytes.
    #[must_use]
    pub fn send(
        &self,
        from: usize,
        to: &str,
        precedence: &str,
        file: Option<&Path>,
    ) -> Option<String> {
        self.send_of(from, to, precedence, file, BODY)
    }

    /// As [`hand_in`].
    #[must_use]
    pub fn send_of(
        &self,
        from: usize,
        to: &str,
        precedence: &str,
        file: Option<&Path>,
        bytes: usize,
    ) -> Option<String> {
        hand_in(&self.configs[from], to, precedence, file, bytes)
    }

    /// What a node lists; nothing where it does not answer.
    #[must_use]
    pub fn rows(&self, node: usize, request: &Request) -> Vec<Value> {
        let answer = ask(&self.configs[node].socket, request);
        let rows = answer.ok().and_then(|v| v.as_array().cloned());
        rows.unwrap_or_default()
    }

    /// The ids of what a node has.
    #[must_use]
    pub fn inbox(&self, node: usize) -> Vec<String> {
        let rows = self.rows(node, &Request::Inbox);
        let ids = rows.iter().filter_map(|r| r["id"].as_str());
        ids.map(str::to_owned).collect()
    }

    /// What a daemon says of its line.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn status(&self, node: usize) -> Value {
        let answer = ask(&self.configs[node].socket, &Request::Status);
        answer.unwrap_or_else(|f| panic!("{f}"))
    }

    /// Whether a node knows that its message was accepted.
    #[must_use]
    pub fn accepted(&self, node: usize, id: &str) -> bool {
        let rows = self.rows(node, &Request::Receipts { id: None });
        rows.iter()
            .any(|r| r["id"] == id && r["state"] == "accepted")
    }

    /// Ends all of it.
    ///
    /// # Panics
    /// A daemon or the broker does not end well.
    pub async fn end(mut self) {
        self.stop.cancel();
        for daemon in self.daemons.drain(..) {
            daemon.await.unwrap_or_else(|e| panic!("{e}"));
        }
        if let Some(broker) = self.broker.take() {
            broker.stop().await.unwrap_or_else(|e| panic!("{e}"));
        }
    }
}
