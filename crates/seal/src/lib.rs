//! Content sealed for its recipients, envelopes signed by their originator.
