//! Desks of a small structure, for tests: one authority in memory, one clock that the test moves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use ordonnans_certs::memory::Authority;
use ordonnans_certs::{Issued, Validity};
use ordonnans_identity::FileSigner;
use ordonnans_label::{Clearance, Kind, Level, Name};
use ordonnans_message::{
    DirectoryEntry, Frame, MessageId, Receipt, ReplyCode, SignedReceipt, Timestamp,
};
use ordonnans_transport::Lane;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::config::Config;
use crate::desk::Desk;
use crate::local::Submission;
use crate::machine::Machine;

const STRUCTURE: &str = "crisis.example";
const NOW: i64 = 1_800_000_000;

pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
    pub(crate) clock: Arc<AtomicU64>,
}

pub(crate) fn name(local: &str, kind: Kind) -> Name {
    Name::new(local, kind, STRUCTURE).expect("a name")
}

/// A message to some recipients, as a command would hand it in.
pub(crate) fn message(to: &[&str], body: &[u8]) -> Submission {
    Submission {
        to: to.iter().map(|t| (*t).into()).collect(),
        info: vec![],
        precedence: "ROUTINE".into(),
        info_precedence: None,
        label: "Ongerubriceerd".into(),
        exercise: true,
        subject: "water".into(),
        media_type: "text/plain".into(),
        name: None,
        body: body.into(),
        attachments: vec![],
        author: None,
        expires: Timestamp::from_millis(NOW as u64 * 1000 + 3_600_000),
        reply_by: None,
        references: vec![],
        supersedes: None,
    }
}

impl House {
    pub(crate) fn new() -> Self {
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
        let (from, until) = (now - Duration::days(1), now + Duration::days(300));
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            authority: Authority::new(STRUCTURE, Validity { from, until }).expect("an authority"),
            clock: Arc::new(AtomicU64::new(NOW as u64 * 1000)),
        }
    }

    pub(crate) fn later(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn issue(&mut self, local: &str, kind: Kind) -> Issued {
        let holds = Clearance::new(Level::StgG);
        let name = name(local, kind);
        self.authority.issue(&name, &holds).expect("a certificate")
    }

    /// A certificate that ends in an hour.
    pub(crate) fn issue_short(&mut self, local: &str, kind: Kind) -> Issued {
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
        let (from, until) = (now - Duration::days(1), now + Duration::hours(1));
        let holds = Clearance::new(Level::StgG);
        let (name, validity) = (name(local, kind), Validity { from, until });
        let issued = self.authority.issue_with(&name, &holds, validity, None);
        issued.expect("a certificate")
    }

    pub(crate) fn revoke(&mut self, issued: &Issued) {
        self.authority.revoke(issued);
    }

    pub(crate) fn signer(issued: &Issued) -> FileSigner {
        FileSigner::from_der(&issued.certificate, &issued.key_pkcs8()).expect("a signer")
    }

    pub(crate) fn config(&self, data: &str) -> Config {
        let data = self.dir.path().join(data);
        let nowhere = Path::new("/nowhere").to_owned();
        Config {
            policies: None,
            broker: "localhost:1".into(),
            broker_tcp: None,
            quic_again: crate::config::QUIC_AGAIN,
            remember: std::time::Duration::from_secs(30 * 86_400),
            broker_name: name("b1", Kind::Broker),
            certificate: nowhere.clone(),
            key: (&nowhere).into(),
            trust: nowhere,
            socket: data.join("ordonnans.sock"),
            data,
            log_key: None,
            hybrid_only: true,
            crl_grace: std::time::Duration::ZERO,
            renew_percent: crate::config::RENEW_PERCENT,
        }
    }

    /// The desk of a node, with what stands in a folder of this name.
    pub(crate) fn open(&self, node: &Issued, data: &str) -> Arc<Desk> {
        let clock = Arc::clone(&self.clock);
        let desk = Desk::assemble(
            self.config(data),
            Self::signer(node),
            self.authority.trust().expect("a trust"),
            Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed))),
        );
        Arc::new(desk.expect("a desk"))
    }

    /// Two nodes that know each other's keys.
    pub(crate) fn pair(&mut self) -> (Arc<Desk>, Arc<Desk>) {
        let (a, b) = (
            self.issue("ncc", Kind::Node),
            self.issue("locc", Kind::Node),
        );
        let (a, b) = (self.open(&a, "ncc"), self.open(&b, "locc"));
        know(&a, &[&a, &b]);
        know(&b, &[&a, &b]);
        (a, b)
    }
}

/// Tells a node of others, as the broker does.
pub(crate) fn know(desk: &Desk, others: &[&Desk]) {
    let entry = |d: &&Desk| DirectoryEntry {
        name: d.name.clone(),
        title: "a node".into(),
        package: Some(d.package().expect("a key")),
    };
    let entries: Vec<_> = others.iter().map(entry).collect();
    desk.list(&entries).expect("a directory");
}

/// Everything the machine says now, the most urgent first.
pub(crate) fn heard(machine: &mut Machine) -> Vec<(Lane, Frame)> {
    let mut all = vec![];
    loop {
        let Some((lane, bytes)) = machine.queues.heads().into_iter().next() else {
            return all;
        };
        machine.queues.said(lane);
        all.push((lane, Frame::decode(&bytes).expect("a frame")));
    }
}

/// A conversation of this desk.
pub(crate) fn begun(desk: &Arc<Desk>, now: Instant) -> Machine {
    Machine::begin(Arc::clone(desk), now).expect("begins")
}

/// The messages it publishes now; other frames are dropped.
pub(crate) fn published(machine: &mut Machine) -> Vec<Bytes> {
    let frames = heard(machine).into_iter();
    let envelope = |(_, f)| match f {
        Frame::Publish { envelope } => Some(envelope),
        _ => None,
    };
    frames.filter_map(envelope).collect()
}

/// The receipts it gives now; other frames are dropped.
pub(crate) fn receipts(machine: &mut Machine) -> Vec<SignedReceipt> {
    let frames = heard(machine).into_iter();
    let receipt = |(_, f)| match f {
        Frame::Receipt { receipt } => Some(SignedReceipt::decode(&receipt).expect("a receipt")),
        _ => None,
    };
    frames.filter_map(receipt).collect()
}

/// The broker has a message.
pub(crate) fn accepted(id: MessageId) -> Frame {
    let at = Timestamp::from_millis(7);
    Frame::Accepted {
        id,
        at,
        sequence: 3,
    }
}

/// The broker refuses a message.
pub(crate) fn refused(id: MessageId, code: ReplyCode, retry_after_ms: Option<u32>) -> Frame {
    Frame::Refused {
        id: Some(id),
        code,
        rule: None,
        recipient: None,
        retry_after_ms,
    }
}

/// The broker has a receipt.
pub(crate) fn stored(r: &SignedReceipt) -> Frame {
    let Receipt {
        message, kind, by, ..
    } = r.said().clone();
    Frame::ReceiptStored {
        id: message,
        kind,
        by,
    }
}

/// A message of `a` that is ready to be delivered.
pub(crate) fn sealed(a: &Desk, to: &str, body: &[u8]) -> (MessageId, Bytes) {
    let id = a.submit(&message(&[to], body)).expect("submitted");
    (id, a.outgoing(id).expect("read").expect("in the outbox"))
}
