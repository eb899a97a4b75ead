//! Client library, node daemon and command line of Ordonnans.
