//! The program, and a broker that the test plays over loopback QUIC.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ordonnans_certs::Workshop;
use ordonnans_identity::Trust;
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_message::{DirectoryEntry, Frame, Timestamp};
use ordonnans_transport::{Clock, Connection, Identity, Lane, Limits, Listener};
use serde_json::Value;

pub(crate) struct Node {
    pub(crate) dir: PathBuf,
}

impl Node {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ordonnans"));
        command
            .args(["-c", "node.toml"])
            .args(args)
            .current_dir(&self.dir);
        command
    }

    pub(crate) fn daemon(&self) -> Daemon {
        let mut command = self.command(&["daemon"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Daemon(command.stderr(Stdio::null()).spawn().expect("starts"))
    }

    pub(crate) fn says(&self, args: &[&str]) -> Output {
        self.command(args)
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    }

    pub(crate) fn rows(&self, args: &[&str]) -> Vec<Value> {
        let out = self.says(args);
        assert!(out.status.success(), "{}", text(&out.stderr));
        let lines = text(&out.stdout);
        let row = |l: &str| serde_json::from_str(l).expect("JSON, one object a line");
        lines.lines().map(row).collect()
    }
}

/// A daemon that does not outlive the test.
pub(crate) struct Daemon(pub(crate) Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Where it has ended already, that is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn clock() -> Clock {
    Arc::new(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp::from_millis(now.map_or(0, |d| d.as_millis() as u64))
    })
}

pub(crate) fn structure(dir: &Path) -> (Node, Listener) {
    let now = SystemTime::now().into();
    let ca = dir.join("ca");
    let mut workshop = Workshop::init(&ca, "crisis.example", now).expect("a workshop");
    let holds = Clearance::new(Level::StgC);
    let mut issue = |kind, local| {
        let issued = workshop.issue(kind, local, &holds, 30, now);
        issued.expect("issued")
    };
    let (broker, node) = (issue(Kind::Broker, "b1"), issue(Kind::Node, "ncc"));
    issue(Kind::Person, "vermeer");
    issue(Kind::Person, "bos");
    let identity = Identity::load(&broker.join("cert.pem"), &broker.join("key.pem"));
    let listener = Listener::bind(
        "127.0.0.1:0".parse().expect("an address"),
        &identity.expect("an identity"),
        &Trust::load_dir(&ca.join("trust")).expect("a trust"),
        Limits::default(),
        clock(),
    )
    .expect("listens");
    let config = format!(
        "broker = \"{}\"\nbroker_name = \"b1.broker.crisis.example\"\ntrust = \"ca/trust\"\n[identity]\ncertificate = {:?}\nkey = {:?}\n",
        listener.local_addr(),
        node.join("cert.pem"),
        node.join("key.pem"),
    );
    std::fs::write(dir.join("node.toml"), config).expect("written");
    (Node { dir: dir.into() }, listener)
}

pub(crate) async fn hears(connection: &Connection) -> Frame {
    let (_, bytes) = connection.recv().await.expect("a frame");
    Frame::decode(&bytes).expect("a frame")
}

pub(crate) async fn says(connection: &Connection, lane: Lane, frame: Frame) {
    let sent = connection.send(lane, frame.encode()).await;
    sent.expect("sent");
}

/// Greets the next daemon, takes its key and gives it a directory with itself in it. Gives the first message it publishes too, where there
/// is one already: lanes are streams of their own, so it may come before the key.
pub(crate) async fn greets(listener: &Listener) -> (Connection, Option<Bytes>) {
    let line = listener.accept().await.expect("a daemon");
    assert!(matches!(
        hears(&line).await,
        Frame::Hello { version: 1, .. }
    ));
    let welcome = Frame::Welcome {
        broker: "b1.broker.crisis.example".parse().expect("a name"),
        checkpoint: None,
        key: "b1.broker.crisis.example+6efa7d7b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
            .into(),
        proof: vec![],
    };
    says(&line, Lane::Control, welcome).await;
    let mut early = None;
    let package = loop {
        match hears(&line).await {
            Frame::KeyPackage { package } => break package,
            Frame::Publish { envelope } => early = Some(envelope),
            other => panic!("{other:?}"),
        }
    };
    says(&line, Lane::Control, Frame::KeyPackageStored).await;
    says(&line, Lane::Control, directory(Some(package))).await;
    (line, early)
}

pub(crate) fn directory(package: Option<Bytes>) -> Frame {
    let entries = vec![DirectoryEntry {
        name: Name::new("ncc", Kind::Node, "crisis.example").expect("a name"),
        title: "NCC".into(),
        package,
    }];
    Frame::Directory {
        version: 1,
        entries,
        more: false,
    }
}

/// The next frame that is not a request for the directory.
pub(crate) async fn next(line: &Connection) -> Frame {
    loop {
        match hears(line).await {
            Frame::DirectoryGet => {}
            frame => return frame,
        }
    }
}

pub(crate) async fn published(line: &Connection) -> Bytes {
    match next(line).await {
        Frame::Publish { envelope } => envelope,
        other => panic!("{other:?}"),
    }
}
