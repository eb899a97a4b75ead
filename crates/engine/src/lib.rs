//! What happens next: the state machine of the broker, without I/O.
