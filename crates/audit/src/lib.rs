//! The log that cannot be changed unseen.
