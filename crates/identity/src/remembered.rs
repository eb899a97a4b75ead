//! Verdicts of trust that still hold, so that a message costs a signature check and not a chain.
//!
//! What a chain, its lists and its times say of a certificate changes only where the clock passes an edge: an authority or a list begins or ends, or the
//! certificate itself does. Between two edges a verdict stays what it was, and other authorities or lists are another trust, which remembers nothing yet.
//! Only a yes is remembered: who is no subject of the structure cannot fill the table.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use ordonnans_message::{Digest, Timestamp, sha256};

use crate::{Certificate, Usage};

/// Certificates remembered: more than a structure has, at some 2 KiB each. Where they are more all the same, it begins anew.
const MOST: usize = 4_096;

/// A yes, and between which edges it was said.
struct Held {
    certificate: Certificate,
    span: usize,
}

/// What one trust has said yes to.
pub(crate) struct Remembered {
    /// Where a verdict may change, in order.
    edges: Vec<Timestamp>,
    held: RwLock<HashMap<(Digest, Usage), Held>>,
}

impl Remembered {
    /// `edges` are the times from which on an authority or a list says something else.
    pub(crate) fn new(mut edges: Vec<Timestamp>) -> Self {
        edges.sort_unstable();
        Self {
            edges,
            held: RwLock::default(),
        }
    }

    fn span(&self, now: Timestamp) -> usize {
        self.edges.partition_point(|e| *e <= now)
    }

    /// What was said of this certificate, where that holds now.
    pub(crate) fn of(&self, leaf: &[u8], usage: Usage, now: Timestamp) -> Option<Certificate> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let held = held.get(&(sha256(&[leaf]), usage))?;
        let c = &held.certificate;
        // The verifier counts whole seconds, and the last one in.
        let lives = c.not_before() <= now && now < c.not_after().after(1_000);
        (lives && held.span == self.span(now)).then(|| c.clone())
    }

    /// A yes that was just said.
    pub(crate) fn keep(&self, leaf: &[u8], usage: Usage, now: Timestamp, yes: &Certificate) {
        let mut all = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        let held = Held {
            certificate: yes.clone(),
            span: self.span(now),
        };
        all.insert((sha256(&[leaf]), usage), held);
    }
}
