//! What is said on a connection with the broker, and said again until it is answered. No line and no clock: both are given, so that a test
//! decides them.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ordonnans_label::Name;
use ordonnans_message::{
    AttachmentRef, Digest, DirectoryEntry, Envelope, Frame, MessageId, ReceiptKind, ReplyCode,
};
use ordonnans_transport::Lane;

use crate::acts::{self, Answered};
use crate::desk::{Asked, Desk};
use crate::failure::Failure;
use crate::incoming::Arrival;
use crate::queues::Queues;
use crate::renewing::NotRenewed;
use crate::spool::{ReceiptKey, Verdict};

/// How long an answer may take before a publish, receipt, offer or request is repeated.
pub(crate) const REPEAT: Duration = Duration::from_secs(10);
/// Publishes, and likewise receipts, without an answer at one time; a message of IMMEDIATE or above does not wait for a free place.
pub(crate) const WINDOW: usize = 64;
/// The longest a busy broker can make us wait: the length of its longest quota.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);
/// How long a busy broker gets nothing more of the kind it had no place for.
const PAUSE: Duration = Duration::from_secs(1);
/// A broker that says it lacks an attachment is offered it after this time.
const OFFER_AGAIN: Duration = Duration::from_secs(1);
/// The directory is asked for this often: a node may have a new key.
const DIRECTORY_EVERY: Duration = Duration::from_secs(60);
/// Nodes of a directory: many times the structure this is for.
const MAX_DIRECTORY: usize = 8192;
/// Messages that wait for their attachments at one time; more are delivered again later.
const MAX_INCOMPLETE: usize = 64;
/// Attachments offered or on their way to the broker at one time.
const MAX_UPLOADS: usize = 16;
/// Frames that wait for the line. More, and nothing new is said or taken until it moves: a broker that does not read is not read.
const MAX_QUEUED: usize = 512;

/// An attachment that a delivered message needs.
struct Wanted {
    length: u64,
    asked: Instant,
    arriving: bool,
}

/// An attachment on its way to the broker: offered then, or being sent.
enum Upload {
    Offered(Instant),
    Sending,
}

/// A transfer to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) digest: Digest,
    /// From which byte.
    pub(crate) offset: u64,
    /// How long the whole is.
    pub(crate) length: u64,
}

/// One conversation.
pub(crate) struct Machine {
    desk: Arc<Desk>,
    /// What is to be said.
    pub(crate) queues: Queues,
    uploads_to_begin: Vec<Transfer>,
    published: BTreeMap<MessageId, Instant>,
    /// Not to be published before then.
    hold: BTreeMap<MessageId, Instant>,
    /// Nothing of this kind, urgent or not, is published before then.
    paused: BTreeMap<bool, Instant>,
    owed: BTreeMap<ReceiptKey, Instant>,
    stated: BTreeMap<Digest, Instant>,
    uploads: BTreeMap<Digest, Upload>,
    /// Attachments the broker has.
    there: BTreeSet<Digest>,
    /// Delivered messages, and the attachments they wait for.
    incomplete: BTreeMap<MessageId, (Envelope, BTreeSet<Digest>)>,
    wanted: BTreeMap<Digest, Wanted>,
    directory_asked: Instant,
    /// Questions whose answers are due, by the number of the request.
    asked: BTreeMap<u32, Asked>,
    requests: u32,
    /// Parts of a directory whose last has not come.
    directory: Vec<DirectoryEntry>,
}

impl Machine {
    /// A conversation that begins: offers our key and says all that is due.
    pub(crate) fn begin(desk: Arc<Desk>, now: Instant) -> Result<Self, Failure> {
        let package = desk.package()?;
        desk.want_directory();
        let mut machine = Self {
            desk,
            queues: Queues::default(),
            uploads_to_begin: vec![],
            published: BTreeMap::new(),
            hold: BTreeMap::new(),
            paused: BTreeMap::new(),
            owed: BTreeMap::new(),
            stated: BTreeMap::new(),
            uploads: BTreeMap::new(),
            there: BTreeSet::new(),
            incomplete: BTreeMap::new(),
            wanted: BTreeMap::new(),
            directory_asked: now,
            asked: BTreeMap::new(),
            requests: 0,
            directory: vec![],
        };
        machine.say(Lane::Control, &Frame::KeyPackage { package });
        for package in machine.desk.persons_packages()? {
            machine.say(Lane::Control, &Frame::KeyPackage { package });
        }
        machine.pump(now)?;
        Ok(machine)
    }

    fn say(&mut self, lane: Lane, frame: &Frame) {
        self.queues.put(lane, frame.encode());
    }

    /// Whether frames from the broker may be taken.
    pub(crate) fn takes_more(&self) -> bool {
        self.queues.len() < MAX_QUEUED
    }

    /// The uploads to begin now.
    pub(crate) fn uploads(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.uploads_to_begin)
    }

    /// Says everything that is due: messages by precedence, receipts, requests for attachments.
    pub(crate) fn pump(&mut self, now: Instant) -> Result<(), Failure> {
        if !self.takes_more() {
            return Ok(());
        }
        let desk = Arc::clone(&self.desk);
        if desk.key_is_due() {
            let package = desk.package()?;
            self.say(Lane::Control, &Frame::KeyPackage { package });
        }
        let packages = desk.take_packages();
        if !packages.is_empty() {
            // Who published sees it in the directory.
            desk.want_directory();
        }
        for package in packages {
            self.say(Lane::Control, &Frame::KeyPackage { package });
        }
        if let Some(frame) = desk.renewal_due(now) {
            self.say(Lane::Control, &frame);
        }
        let asked = now.saturating_duration_since(self.directory_asked);
        if desk.take_directory_wanted() || asked >= DIRECTORY_EVERY {
            self.directory_asked = now;
            self.say(Lane::Control, &Frame::DirectoryGet);
        }
        self.asked.retain(|_, a| !a.is_closed());
        for asked in desk.take_asked() {
            self.requests = self.requests.wrapping_add(1);
            self.say(Lane::Control, &asked.frame(self.requests));
            self.asked.insert(self.requests, asked);
        }
        let waits = |last: &Instant| now.saturating_duration_since(*last) < REPEAT;
        self.published.retain(|_, said| waits(said));
        self.owed.retain(|_, said| waits(said));
        self.stated.retain(|_, said| waits(said));
        self.hold.retain(|_, until| *until > now);
        self.paused.retain(|_, until| *until > now);
        let outbox = desk.outbox();
        for (Reverse(precedence), id) in &outbox.order {
            if self.published.len() >= WINDOW && !precedence.is_urgent() {
                break;
            }
            if !self.paused.contains_key(&precedence.is_urgent())
                && !self.published.contains_key(id)
                && !self.hold.contains_key(id)
                && self.all_there(outbox.attachments(id).unwrap_or_default(), now)
                && let Some(envelope) = desk.outgoing(*id)?
            {
                self.published.insert(*id, now);
                self.say(Lane::Class(*precedence), &Frame::Publish { envelope });
            }
        }
        drop(outbox);
        for (key, receipt) in desk.owed().iter() {
            if self.owed.len() >= WINDOW {
                break;
            }
            if !self.owed.contains_key(key) {
                self.owed.insert(key.clone(), now);
                let receipt = receipt.clone();
                self.say(Lane::Control, &Frame::Receipt { receipt });
            }
        }
        for (of, frame) in desk.statements().iter() {
            if self.stated.len() >= WINDOW {
                break;
            }
            if !self.stated.contains_key(of) {
                self.stated.insert(*of, now);
                self.queues.put(Lane::Control, frame.clone());
            }
        }
        // What has expired meanwhile is not delivered again.
        let (time, before) = (desk.now(), self.incomplete.len());
        self.incomplete
            .retain(|_, (e, _)| e.header().expires > time);
        if self.incomplete.len() < before {
            self.forget_unwanted();
        }
        let mut ask = vec![];
        for (digest, w) in &mut self.wanted {
            if !w.arriving && !waits(&w.asked) {
                w.asked = now;
                ask.push(*digest);
            }
        }
        ask.into_iter().for_each(|d| self.get(d));
        Ok(())
    }

    fn forget_unwanted(&mut self) {
        let needed = |d: &Digest| self.incomplete.values().any(|(_, m)| m.contains(d));
        self.wanted.retain(|d, w| w.arriving || needed(d));
    }

    /// Whether the broker has every attachment; offers those that it was not asked about.
    fn all_there(&mut self, attachments: &[AttachmentRef], now: Instant) -> bool {
        let mut all = true;
        for &AttachmentRef { digest, length } in attachments {
            if self.there.contains(&digest) {
                continue;
            }
            all = false;
            let offer = match self.uploads.get(&digest) {
                None => self.uploads.len() < MAX_UPLOADS,
                Some(Upload::Offered(at)) => now.saturating_duration_since(*at) >= REPEAT,
                Some(Upload::Sending) => false,
            };
            if offer {
                self.uploads.insert(digest, Upload::Offered(now));
                self.say(Lane::Control, &Frame::AttachmentOffer { digest, length });
            }
        }
        all
    }

    fn get(&mut self, digest: Digest) {
        let (offset, _) = self.desk.attachments.have(&digest);
        self.say(Lane::Control, &Frame::AttachmentGet { digest, offset });
    }

    /// Takes a frame of the broker.
    pub(crate) fn take(&mut self, frame: Frame, now: Instant) -> Result<(), Failure> {
        let desk = Arc::clone(&self.desk);
        match frame {
            Frame::Accepted { id, at, sequence } => {
                self.published.remove(&id);
                self.decided(id, Verdict::Accepted { at, sequence })?;
            }
            Frame::Refused {
                id: Some(id),
                code,
                rule,
                recipient,
                retry_after_ms,
            } => match code {
                ReplyCode::Busy | ReplyCode::Stopping => {
                    self.published.remove(&id);
                    let wait = Duration::from_millis(retry_after_ms.unwrap_or(1_000).into());
                    self.hold.insert(id, now + wait.min(MAX_WAIT));
                    // What is like it would be answered so, too; a broker with no place for one recipient may have one for others.
                    if let Some(sent) = desk.spool.sent(id)? {
                        let pause = now + wait.min(PAUSE);
                        self.paused.insert(sent.precedence.is_urgent(), pause);
                    }
                }
                ReplyCode::AttachmentMissing => {
                    self.published.remove(&id);
                    self.hold.insert(id, now + OFFER_AGAIN);
                    for a in desk.outbox().attachments(&id).unwrap_or_default() {
                        self.there.remove(&a.digest);
                    }
                }
                _ => self.refused(id, code, rule, recipient)?,
            },
            Frame::Refused { code, .. } => tracing::warn!(?code, "the broker refused something"),
            Frame::Deliver { envelope } => match Envelope::decode(&envelope) {
                Ok(envelope) => self.arrive(envelope, now)?,
                Err(why) => tracing::warn!(%why, "a delivered message was not taken"),
            },
            Frame::ReceiptStored { id, kind, by } => self.paid(&(id, kind, by))?,
            Frame::Receipt { receipt } => match desk.receipted(&receipt)? {
                Some(r) => {
                    let (id, kind, by) = (r.message, r.kind, r.by);
                    self.say(Lane::Control, &Frame::ReceiptStored { id, kind, by });
                    desk.tell();
                }
                None => tracing::warn!("a receipt was passed on that is not for us or not right"),
            },
            Frame::Act { ref act } => {
                let of = frame.digest();
                if desk.told(act)? {
                    self.say(Lane::Control, &Frame::Kept { of });
                } else {
                    tracing::warn!("an act on a label was passed on that is not believed");
                }
            }
            Frame::ReviewDue {
                id,
                ref by,
                ref event,
            } => {
                let of = frame.digest();
                desk.due(id, by.clone(), event.clone())?;
                self.say(Lane::Control, &Frame::Kept { of });
            }
            Frame::Renewed { certificate } => match desk.renewed(&certificate) {
                Ok(()) | Err(NotRenewed::Unasked) => {}
                Err(why) => tracing::warn!(%why, "the node's certificate is not renewed"),
            },
            Frame::Kept { of } if desk.renewal_answered(&of, None).is_some() => {}
            Frame::Kept { of } => {
                self.stated.remove(&of);
                desk.answered(&of, Answered::Kept)?;
            }
            Frame::NotKept {
                code: ReplyCode::Busy | ReplyCode::Stopping,
                ..
            } => {}
            Frame::NotKept { of, code, .. } if desk.renewal_answered(&of, Some(code)).is_some() => {
            }
            Frame::NotKept { of, code, rule } => {
                self.stated.remove(&of);
                desk.answered(&of, acts::refused(code, rule))?;
            }
            Frame::Directory { entries, more, .. } => {
                self.directory.extend(entries);
                if self.directory.len() > MAX_DIRECTORY {
                    tracing::warn!("the broker's directory is larger than any structure");
                    self.directory.clear();
                } else if !more {
                    desk.list(&std::mem::take(&mut self.directory))?;
                }
            }
            Frame::Catalog { request, labels } => {
                if let Some(Asked::Catalog { answer, .. }) = self.asked.remove(&request) {
                    // Who asked may have gone.
                    drop(answer.send(labels));
                }
            }
            Frame::Expanded { request, groups } => {
                if let Some(Asked::Members { answer, .. }) = self.asked.remove(&request) {
                    drop(answer.send(groups));
                }
            }
            Frame::Notice {
                id,
                ref originator,
                at,
                ref news,
            } => {
                let of = frame.digest();
                desk.told_of(&of, id, (originator.clone(), at), news)?;
                self.say(Lane::Control, &Frame::Kept { of });
            }
            Frame::AttachmentState { digest, have } => self.state(digest, have, now),
            Frame::Welcome {
                checkpoint: Some(checkpoint),
                key,
                proof,
                ..
            } => {
                let said = desk.see(&checkpoint, Some(&key), &proof)?;
                self.witnessed(said);
            }
            Frame::Checkpoint {
                checkpoint, proof, ..
            } => {
                let said = desk.see(&checkpoint, None, &proof)?;
                self.witnessed(said);
            }
            Frame::Proof { request, hashes } => {
                let said = desk.answered_with(request, hashes)?;
                self.witnessed(said);
            }
            // The rest is either no answer or not ours.
            _ => {}
        }
        self.pump(now)
    }

    fn witnessed(&mut self, said: Option<Frame>) {
        if let Some(frame) = said {
            self.say(Lane::Control, &frame);
        }
    }

    fn decided(&mut self, id: MessageId, verdict: Verdict) -> Result<(), Failure> {
        let attachments = self.desk.outbox().attachments(&id).map(<[_]>::to_vec);
        for a in attachments.unwrap_or_default() {
            self.uploads.remove(&a.digest);
            self.there.remove(&a.digest);
        }
        self.desk.decided(id, verdict)
    }

    fn refused(
        &mut self,
        id: MessageId,
        code: ReplyCode,
        rule: Option<u16>,
        recipient: Option<Name>,
    ) -> Result<(), Failure> {
        self.published.remove(&id);
        let ours = self.desk.outbox().attachments(&id).is_some();
        if ours {
            let verdict = Verdict::Refused {
                code: format!("{code:?}"),
                rule,
                recipient,
            };
            return self.decided(id, verdict);
        }
        // It is about a receipt of ours: the broker has forgotten the message, or will not have it from this person.
        tracing::warn!(%id, ?code, "the broker does not take a receipt for this message");
        let of = |k: &&ReceiptKey| k.0 == id;
        let keys: Vec<ReceiptKey> = self.desk.owed().keys().filter(of).cloned().collect();
        keys.iter().try_for_each(|key| self.paid(key))
    }

    fn paid(&mut self, key: &ReceiptKey) -> Result<(), Failure> {
        self.owed.remove(key);
        self.desk.paid(key)
    }

    fn arrive(&mut self, envelope: Envelope, now: Instant) -> Result<(), Failure> {
        match self.desk.arrive(envelope.clone())? {
            Arrival::Ignored(why) => tracing::warn!(why, "a delivered message was not taken"),
            Arrival::Receipted(key) => {
                if key.1 == ReceiptKind::Refused {
                    tracing::warn!(id = %key.0, "a delivered message cannot be used");
                }
                // Delivered again means that the receipt was not heard.
                self.owed.remove(&key);
            }
            Arrival::Missing(_) if self.incomplete.len() >= MAX_INCOMPLETE => {}
            Arrival::Missing(missing) => {
                let id = envelope.header().id;
                let digests = missing.iter().map(|a| a.digest).collect();
                self.incomplete.insert(id, (envelope, digests));
                for AttachmentRef { digest, length } in missing {
                    if let Entry::Vacant(new) = self.wanted.entry(digest) {
                        new.insert(Wanted {
                            length,
                            asked: now,
                            arriving: false,
                        });
                        self.get(digest);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the broker has of an attachment of ours.
    fn state(&mut self, digest: Digest, have: u64, now: Instant) {
        let Some(length) = self.desk.outbox().length(&digest) else {
            return;
        };
        if have == length {
            self.uploads.remove(&digest);
            self.there.insert(digest);
        } else if let Some(upload @ Upload::Offered(_)) = self.uploads.get_mut(&digest) {
            *upload = Upload::Sending;
            self.uploads_to_begin.push(Transfer {
                digest,
                offset: have,
                length,
            });
        } else {
            // What was sent did not lead to the whole: it goes on from here at the next offer.
            self.uploads.insert(digest, Upload::Offered(now));
        }
    }

    /// An upload has ended. The broker says what it has; where it does not, it is asked.
    pub(crate) fn uploaded(&mut self, digest: &Digest, now: Instant) {
        if let Some(upload) = self.uploads.get_mut(digest) {
            *upload = Upload::Offered(now);
        }
    }

    /// A stream brings bytes of an attachment, from an offset on. `None` where nobody waits for them.
    pub(crate) fn downloading(&mut self, digest: Digest, offset: u64) -> Option<Transfer> {
        let (have, whole) = self.desk.attachments.have(&digest);
        let wanted = self.wanted.get_mut(&digest)?;
        if wanted.arriving || whole || have != offset {
            return None;
        }
        wanted.arriving = true;
        Some(Transfer {
            digest,
            offset,
            length: wanted.length,
        })
    }

    /// A download has ended, perhaps before its end: then it is asked for again, from where it is, after a while.
    pub(crate) fn downloaded(
        &mut self,
        digest: Digest,
        whole: bool,
        now: Instant,
    ) -> Result<(), Failure> {
        if let Some(w) = self.wanted.get_mut(&digest) {
            (w.arriving, w.asked) = (false, now);
            self.forget_unwanted();
        }
        if whole {
            self.wanted.remove(&digest);
            let mut complete = vec![];
            for (id, (_, missing)) in &mut self.incomplete {
                if missing.remove(&digest) && missing.is_empty() {
                    complete.push(*id);
                }
            }
            for id in complete {
                if let Some((envelope, _)) = self.incomplete.remove(&id) {
                    self.arrive(envelope, now)?;
                }
            }
        }
        self.pump(now)
    }
}
