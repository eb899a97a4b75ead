//! What is kept: journal, audit log and mailbox.
