//! What is asked for a subject: a clearance under one policy, or under several.

use ordonnans_label::{Clearance, Clearances};

/// What a subject is to hold, or an authority may give.
pub trait Holds {
    /// The same, by policy.
    fn clearances(&self) -> Clearances;
}

impl Holds for Clearance {
    fn clearances(&self) -> Clearances {
        self.clone().into()
    }
}

impl Holds for Clearances {
    fn clearances(&self) -> Clearances {
        self.clone()
    }
}
