//! Bounds on everything a peer can send, each with its reason.

/// Sealed bytes that travel inside an envelope: a duty officer's text with room, and small enough that a FLASH never waits
/// long behind one. Larger content travels as an attachment.
pub const MAX_CONTENT: usize = 64 * 1024;
/// Sealed bytes of all copies together, where each recipient has an own one (from Stg.C up): a page for each of thirty recipients, and what an
/// envelope at its other bounds leaves of a frame. Longer content travels as an attachment, whose keys are in every copy.
pub const MAX_COPIES: usize = 160 * 1024;
/// Recipients of one message: every node of the structure with room. Each costs a decision and about 1.2 KiB of seal.
pub const MAX_RECIPIENTS: usize = 64;
/// Groups that one message is addressed to.
pub const MAX_GROUPS: usize = 16;
/// Characters of a group's name.
pub const MAX_GROUP: usize = 64;
/// Attachments of one message.
pub const MAX_ATTACHMENTS: usize = 16;
/// Sealed bytes of one attachment: 1 GiB of plain bytes and the tags of its chunks (docs/wire.md).
pub const MAX_ATTACHMENT: u64 = (1 << 30) + (1 << 20);
/// Earlier messages that one message may refer to.
pub const MAX_REFERENCES: usize = 32;
/// Bytes of a header: 64 recipients with a person each, a label, an act on it and a second signature, all at their bounds.
pub const MAX_HEADER: usize = 80 * 1024;
/// Bytes of a signed act in a header: label, certificate and signature at their bounds.
pub const MAX_ACT: usize = 28 * 1024;
/// Bytes of a second person's signed word: certificate and signature at their bounds, and a name.
pub const MAX_SECOND: usize = 9 * 1024;
/// Bytes of one seal: an X-Wing encapsulation (1,120) and a wrapped key, with room for a larger suite.
pub const MAX_SEAL: usize = 4 * 1024;
/// Bytes of the seals of an envelope.
pub const MAX_SEALS: usize = MAX_RECIPIENTS * MAX_SEAL;
/// Bytes of a certificate inside a signed object.
pub const MAX_CERTIFICATE: usize = 8 * 1024;
/// Bytes of a request for a certificate (PKCS#10): ten times what one with a name and a key needs.
pub const MAX_REQUEST: usize = 4 * 1024;
/// Bytes of a signature: P-384 in raw form is 96.
pub const MAX_SIGNATURE: usize = 128;
/// Bytes of an envelope: header, certificate, signature, seals and content at their bounds.
pub const MAX_ENVELOPE: usize =
    MAX_HEADER + MAX_CERTIFICATE + MAX_SIGNATURE + MAX_SEALS + MAX_COPIES + 1024;
/// Bytes of a frame: the largest envelope with its frame around it, and pages of the audit log.
pub const MAX_FRAME: usize = 512 * 1024;
/// Bytes of a signed receipt or key package.
pub const MAX_STATEMENT: usize = 16 * 1024;
/// Bytes of a checkpoint's text, with signatures.
pub const MAX_CHECKPOINT: usize = 4 * 1024;
/// Entries of a directory in one frame; a larger structure takes several.
pub const MAX_DIRECTORY: usize = 128;
/// Records in one page of the audit log.
pub const MAX_PAGE: usize = 256;
/// Hashes of one proof: two for each level of a tree of 2^64 leaves is more than any needs.
pub const MAX_PROOF: usize = 130;
/// Bytes of a key that checkpoints are verified by, as text: a name, an id and 33 bytes in base64.
pub const MAX_VERIFIER: usize = 512;
/// Persons of one node that are named in an exposure.
pub const MAX_READERS: usize = 1024;
/// Labels of one catalogue.
pub const MAX_CATALOG: usize = 256;
/// Recipients of one explanation; each costs at most thirteen rules.
pub const MAX_EXPLAINED: usize = 16;
/// Rules of one explanation: eight of the sender, thirteen of each recipient, with room.
pub const MAX_STEPS: usize = 256;
/// Characters of the fact a rule rests on; a longer one is cut.
pub const MAX_FACT: usize = 400;
/// Bytes of an audit record's part.
pub const MAX_RECORD: usize = 1024;
/// Characters of a subject line.
pub const MAX_SUBJECT: usize = 256;
/// Characters of a media type or a file name.
pub const MAX_TEXT: usize = 255;
/// How long a message may stay deliverable, in milliseconds: 30 days.
pub const MAX_LIFETIME_MS: u64 = 30 * 24 * 60 * 60 * 1000;

const _: () = assert!(MAX_ENVELOPE + 64 < MAX_FRAME);
