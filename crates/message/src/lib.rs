//! What is said, and its one byte form.
