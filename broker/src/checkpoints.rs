//! Signs what the log is, now and then and when asked.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ordonnans_audit::{Checkpoint, TreeHead, VerifierKey};
use ordonnans_engine::Input;
use ordonnans_identity::InvalidSigner;
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_label::Name;
use ordonnans_message::limits;
use ordonnans_store::{OpenError, Reader};
use tokio::sync::mpsc;

use crate::config::Checkpoints;

/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(250);
/// Witnesses whose signatures one checkpoint takes: what fits its limit, with room.
const WITNESSES: usize = 16;

/// Why a checkpoint or a signature below it was not kept.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// No file descriptor was left: the one before stands, and it is tried again.
    ForNow(String),
    /// The disk, or the key: the broker must stop.
    ForGood(String),
}

impl From<OpenError> for NotKept {
    fn from(e: OpenError) -> Self {
        if e.is_want_of_descriptors() {
            Self::ForNow(e.to_string())
        } else {
            Self::ForGood(e.to_string())
        }
    }
}

/// The key of the log, and the name it signs for.
pub(crate) struct Notary {
    origin: String,
    key: SigningKey,
    last: Mutex<TreeHead>,
}

impl Notary {
    /// Reads the key of a data directory; makes it at the first start.
    pub(crate) fn open(data: &Path, broker: &Name) -> Result<Self, InvalidSigner> {
        let path = data.join("audit.key");
        let key = if path.exists() {
            SigningKey::load(&path)?
        } else {
            SigningKey::generate(&path)?
        };
        let last = TreeHead {
            size: 0,
            root: ordonnans_message::sha256(&[]),
        };
        Ok(Self {
            origin: broker.as_str().into(),
            key,
            last: Mutex::new(last),
        })
    }

    /// What others verify checkpoints by.
    pub(crate) fn verifier(&self) -> VerifierKey {
        VerifierKey::new(&self.origin, self.key.public())
            .unwrap_or_else(|_| unreachable!("the name of a broker is the name of a key"))
    }

    /// What a text says that this key has signed.
    pub(crate) fn read(&self, text: &str) -> Option<TreeHead> {
        let checkpoint = Checkpoint::verify(text, &self.verifier()).ok()?;
        Some(checkpoint.head)
    }

    /// Signs the log as it is and keeps the checkpoint; gives the head where it is another than before.
    pub(crate) fn sign(&self, reader: &Reader) -> Result<Option<TreeHead>, NotKept> {
        // One at a time, so that no older head takes the place of a newer.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let head = reader.head();
        if *last == head {
            return Ok(None);
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            head,
        };
        let text = checkpoint.sign(&self.key);
        let text = text.map_err(|e| NotKept::ForGood(e.to_string()))?;
        reader.put_checkpoint(head, &text)?;
        *last = head;
        Ok(Some(head))
    }

    /// Puts a witness's signature below the newest checkpoint, where it is right and there is room.
    pub(crate) fn countersigned(
        &self,
        reader: &Reader,
        key: &VerifierKey,
        size: u64,
        line: &str,
    ) -> Result<bool, NotKept> {
        let add = |text: &str| {
            let room = text.lines().filter(|l| l.starts_with('\u{2014}')).count() <= WITNESSES;
            let first = Checkpoint::witnessed(text, key).ok()?.is_none();
            let longer = Checkpoint::with_line(text, line)?;
            let right = Checkpoint::witnessed(&longer, key).ok()?.is_some();
            (room && first && right && longer.len() <= limits::MAX_CHECKPOINT).then_some(longer)
        };
        Ok(reader.countersigned(size, add)?)
    }
}

/// Signs now and then until cancelled; gives why it could not go on. A checkpoint that cannot be kept for want of a file descriptor is tried again at
/// every look: until then the one before stands.
pub(crate) async fn run(
    notary: Arc<Notary>,
    reader: Reader,
    due: Checkpoints,
    inputs: mpsc::Sender<Input>,
) -> String {
    let mut look = tokio::time::interval(LOOK);
    let (mut signed, mut at) = (0, Instant::now());
    let mut failing = false;
    loop {
        look.tick().await;
        let size = reader.head().size;
        let seconds = at.elapsed().as_secs() >= due.seconds;
        // Of what came since, one is the record of the last checkpoint itself.
        let new = size.saturating_sub(signed + 1);
        if !(new >= due.records || new > 0 && seconds) && signed > 0 {
            continue;
        }
        let (notary, reader) = (Arc::clone(&notary), reader.clone());
        let signing = tokio::task::spawn_blocking(move || notary.sign(&reader)).await;
        let why = match signing {
            Ok(Ok(head)) => {
                if let Some(head) = head {
                    (signed, at) = (head.size, Instant::now());
                    drop(inputs.send(Input::Signed { head }).await);
                }
                if failing {
                    tracing::info!("checkpoints are kept again");
                }
                failing = false;
                continue;
            }
            Ok(Err(NotKept::ForNow(why))) => why,
            Ok(Err(NotKept::ForGood(why))) => return why,
            Err(_) => return "the signing task ended".into(),
        };
        if !failing {
            tracing::warn!(%why, "no checkpoint can be kept; it is tried again");
        }
        failing = true;
    }
}
