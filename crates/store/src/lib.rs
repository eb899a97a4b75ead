//! What is kept: three forms, one truth.
//!
//! - The **journal** holds commits; a commit is durable when its bytes are synced, one sync for a whole group.
//! - The **audit log** in sled and the **mailbox** in redb are views: they follow the journal in its order, on a thread of their own, and
//!   record how far they are. What a crash or a power cut takes from them is replayed.
//!
//! Nothing here knows what a row means. On start everything is verified before it is given out: checksums, the tree over all
//! records, the last signed checkpoint. A store that disagrees with itself does not open.
//!
//! Holds always: [`Store::commit`] returns after its commits are durable, or an error after which the store takes no more.

mod attachments;
mod checked;
mod details;
mod journal;
mod mailbox;
mod reader;
mod recover;
mod repair;
mod spool;
mod store;
mod trail;
mod views;

pub use attachments::{AttachmentError, AttachmentStore, Upload};
pub use details::DetailsError;
pub use journal::{Fault, JournalError};
pub use mailbox::MailboxError;
pub use reader::Reader;
pub use repair::{NotRepaired, repair_sled_sync};
pub use spool::{Spool, SpoolBatch, SpoolError, SpoolRow};
pub use store::{Fatal, OpenError, Options, Recovery, Store};
pub use trail::{Found, TrailError};
