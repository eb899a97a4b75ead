//! The broker of Ordonnans.
