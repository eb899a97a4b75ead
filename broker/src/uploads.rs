//! Attachments coming in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ordonnans_engine::{Input, Session};
use ordonnans_label::Name;
use ordonnans_message::{BulkHead, Digest, Frame, ReplyCode, limits};
use ordonnans_store::AttachmentError;
use ordonnans_transport::{CloseCode, Connection, Lane};

use crate::session::Shared;

/// Attachments one peer may have announced at one time.
const MAX_OFFERS: usize = 4 * limits::MAX_ATTACHMENTS;

#[derive(Default)]
struct State {
    /// Announced and not yet whole, by who announced it.
    offers: BTreeMap<Session, BTreeMap<Digest, u64>>,
    /// Being written now: one writer at a time, whoever sends.
    writing: BTreeSet<Digest>,
}

/// Who sends what.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<State>);

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an announcement and gives what is to be said about it: the bytes held, or why there cannot be more.
    pub(crate) async fn offered(
        &self,
        (session, by): (Session, &Name),
        digest: Digest,
        length: u64,
        shared: &Shared,
    ) -> Frame {
        let (mut have, mut whole) = shared.attachments.have(&digest);
        if !whole && have >= length && self.lock().writing.insert(digest) {
            // The node would take it for whole, and its message would wait for ever.
            let done = shared.attachments.complete(digest, length).await;
            self.lock().writing.remove(&digest);
            match done {
                Ok(done) => whole = done,
                Err(AttachmentError::Io(why)) => {
                    tracing::warn!(%digest, %why, "an attachment was not kept");
                    return refused(&why.into());
                }
                Err(_) => {}
            }
            if whole {
                let by = by.clone();
                let stored = Input::AttachmentStored { by, digest, length };
                shared.tell(stored).await;
            }
            (have, _) = shared.attachments.have(&digest);
        }
        if !whole {
            let mut state = self.lock();
            let offers = state.offers.entry(session).or_default();
            if offers.len() < MAX_OFFERS {
                offers.insert(digest, length);
            }
        }
        Frame::AttachmentState { digest, have }
    }

    fn begin(&self, session: Session, digest: &Digest) -> Option<u64> {
        let mut state = self.lock();
        let length = state.offers.get(&session)?.get(digest).copied()?;
        state.writing.insert(*digest).then_some(length)
    }

    /// Ends a writing; what is whole need not be announced any more.
    fn end(&self, session: Session, digest: &Digest, whole: bool) {
        let mut state = self.lock();
        state.writing.remove(digest);
        if whole && let Some(offers) = state.offers.get_mut(&session) {
            offers.remove(digest);
        }
    }
}

/// Takes streams of attachment bytes until the connection ends. Must run to its end, for what is being written is noted until then.
pub(crate) async fn uploads(shared: Arc<Shared>, connection: Connection, session: Session) {
    let mut running = tokio::task::JoinSet::new();
    while let Ok((head, mut stream)) = connection.accept_bulk().await {
        let Ok(BulkHead { digest, offset }) = BulkHead::decode(&head) else {
            connection.close(CloseCode::Violation, "the head of a bulk stream");
            break;
        };
        let (shared, connection) = (Arc::clone(&shared), connection.clone());
        running.spawn(async move {
            let Some(length) = shared.uploading.begin(session, &digest) else {
                return;
            };
            let store = &shared.attachments;
            let urgent = &shared.urgent;
            let turn = |bytes| urgent.turn_of_piece(bytes);
            // What is there already the engine knows; it may have done with it, and be about to have it removed.
            let (taken, known) = match store.have(&digest) {
                (have, true) => (Ok((have, true)), true),
                _ => {
                    let taken = store.receive(digest, length, offset, &mut stream, turn);
                    (taken.await, false)
                }
            };
            let whole = matches!(taken, Ok((_, true)));
            let frame = match taken {
                Ok((have, whole)) => {
                    if whole && !known {
                        let (by, length) = (connection.peer().name().clone(), have);
                        let stored = Input::AttachmentStored { by, digest, length };
                        shared.tell(stored).await;
                    }
                    Frame::AttachmentState { digest, have }
                }
                Err(why) => {
                    tracing::warn!(%digest, %why, "an attachment was not kept");
                    refused(&why)
                }
            };
            // Whoever waits for it finds that the engine knows.
            shared.uploading.end(session, &digest, whole);
            drop(connection.send(Lane::Control, frame.encode()).await);
        });
    }
    // With the connection the streams end; what came is written, and may be gone on with.
    while running.join_next().await.is_some() {}
    shared.uploading.lock().offers.remove(&session);
}

fn refused(why: &AttachmentError) -> Frame {
    let (code, again) = match why {
        AttachmentError::TooLarge => (ReplyCode::TooLarge, None),
        AttachmentError::Digest => (ReplyCode::NotAuthentic, None),
        // A full disk is no end: the node keeps it and tries again.
        AttachmentError::Io(_) => (ReplyCode::Busy, Some(5_000)),
    };
    Frame::Refused {
        id: None,
        code,
        rule: None,
        recipient: None,
        retry_after_ms: again,
    }
}
