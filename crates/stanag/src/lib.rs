//! Labels, bindings and policies in the XML of NATO partners.
//!
//! [`label`] writes and reads confidentiality labels of STANAG 4774 (ADatP-4774 edition A version 1), [`binding`] the binding of a label to
//! a file of STANAG 4778 (ADatP-4778 edition A version 1), and [`spif`] makes one of our policy files from an XML-SPIF, and [`xmpp`] a catalogue of XEP-0258. `docs/stanag.md`
//! tells what each reads, writes, refuses and cannot say.
//!
//! Nothing here does I/O, reads a clock or knows a key. Holds always: what is read is bounded in bytes, elements, attributes, text and
//! depth before a tree is built from it, and a document type is never read; what is written is read back to the same.

pub mod binding;
pub mod label;
pub mod spif;
mod xml;
pub mod xmpp;

pub use xml::{NAMESPACE_OWN, XmlError};
