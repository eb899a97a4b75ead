//! The certificate workshop of Ordonnans.
