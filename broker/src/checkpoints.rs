//! Signs what the log is, now and then.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ordonnans_audit::{Checkpoint, TreeHead, VerifierKey};
use ordonnans_identity::InvalidSigner;
use ordonnans_identity::ed25519::SigningKey;
use ordonnans_label::Name;
use ordonnans_store::Reader;

/// How often a checkpoint is signed, where the log has grown.
const EVERY: Duration = Duration::from_secs(1);

/// The key of the log, and the name it signs for.
pub(crate) struct Notary {
    origin: String,
    key: SigningKey,
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
        Ok(Self {
            origin: broker.as_str().into(),
            key,
        })
    }

    /// What others verify checkpoints by.
    pub(crate) fn verifier(&self) -> VerifierKey {
        VerifierKey::new(&self.origin, self.key.public())
            .unwrap_or_else(|_| unreachable!("the name of a broker is the name of a key"))
    }

    /// Signs the log as it is and keeps the checkpoint, where it is not the one before.
    pub(crate) fn sign(&self, reader: &Reader, last: &mut Option<TreeHead>) -> Result<(), String> {
        let head = reader.head();
        if *last == Some(head) {
            return Ok(());
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            head,
        };
        let text = checkpoint.sign(&self.key).map_err(|e| e.to_string())?;
        reader.put_checkpoint(text).map_err(|e| e.to_string())?;
        *last = Some(head);
        Ok(())
    }
}

/// Signs now and then until cancelled; gives why it could not go on.
pub(crate) async fn run(notary: Arc<Notary>, reader: Reader) -> String {
    let mut every = tokio::time::interval(EVERY);
    let mut last = None;
    loop {
        every.tick().await;
        let (notary, reader) = (Arc::clone(&notary), reader.clone());
        let mut seen = last;
        let signed =
            tokio::task::spawn_blocking(move || notary.sign(&reader, &mut seen).map(|()| seen))
                .await;
        match signed {
            Ok(Ok(head)) => last = head,
            Ok(Err(why)) => return why,
            Err(_) => return "the signing task ended".into(),
        }
    }
}
