//! Checkpoints: signed tree heads in the C2SP formats tlog-checkpoint and signed-note.
//!
//! The text is three lines (origin, size, root in base64), an empty line, and signature lines. The key name is the origin. Signatures are
//! Ed25519 (type 0x01); the key id is the first four bytes of SHA-256 over name, line feed, type and public key. Differs: extension
//! lines are refused, because nothing here gives them a meaning and no auditor could.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ordonnans_identity::ed25519::{self, SigningKey};
use ordonnans_message::{Digest, limits, sha256};

use crate::TreeHead;

const ED25519: u8 = 1;
const COSIGNATURE: u8 = 4;
/// Signature lines that are looked at. Witnesses are few; the format asks for at least 16.
const MAX_SIGNATURES: usize = 32;

/// A tree head and the log it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log: the broker's name.
    pub origin: String,
    /// Size and root.
    pub head: TreeHead,
}

/// Why a checkpoint is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheckpoint {
    /// The text has not the form of a checkpoint.
    #[error("the checkpoint has not the form of a checkpoint")]
    Form,
    /// No signature line by the key asked for.
    #[error("the checkpoint is not signed by the log's key")]
    Unsigned,
    /// A signature line by that key that does not fit: the text was changed.
    #[error("the signature of the checkpoint does not fit its text")]
    Signature,
    /// It is of another log.
    #[error("the checkpoint is of another log")]
    Origin,
}

/// The public key of a log or of a witness, as `name+id+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: u8,
    public: [u8; 32],
}

/// A text that is no verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier key; it reads name+id+key, as the broker prints it")]
pub struct InvalidVerifierKey;

impl VerifierKey {
    /// The key of a log.
    ///
    /// # Errors
    /// [`InvalidVerifierKey`] where the name is empty or has a space, a plus sign or a control character.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, InvalidVerifierKey> {
        Self::of(name, ED25519, public)
    }

    /// The key of a witness, whose signatures are C2SP tlog-cosignatures (version 1, type 0x04).
    ///
    /// # Errors
    /// [`InvalidVerifierKey`], as [`Self::new`].
    pub fn witness(name: &str, public: [u8; 32]) -> Result<Self, InvalidVerifierKey> {
        Self::of(name, COSIGNATURE, public)
    }

    fn of(name: &str, kind: u8, public: [u8; 32]) -> Result<Self, InvalidVerifierKey> {
        if !good_name(name) {
            return Err(InvalidVerifierKey);
        }
        Ok(Self {
            name: name.into(),
            kind,
            public,
        })
    }

    /// Whether it is a witness's.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.kind == COSIGNATURE
    }

    /// The name of the log or of the witness.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        let d = sha256(&[self.name.as_bytes(), b"\n", &[self.kind], &self.public]);
        let mut id = [0; 4];
        id.copy_from_slice(&d.as_bytes()[..4]);
        id
    }
}

fn good_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode(&[&[self.kind][..], &self.public].concat());
        write!(f, "{}+{}+{key}", self.name, HEXLOWER.encode(&self.id()))
    }
}

impl FromStr for VerifierKey {
    type Err = InvalidVerifierKey;

    fn from_str(s: &str) -> Result<Self, InvalidVerifierKey> {
        let mut parts = s.splitn(3, '+');
        let (name, id, key) = (parts.next(), parts.next(), parts.next());
        let key = BASE64
            .decode(key.ok_or(InvalidVerifierKey)?.as_bytes())
            .map_err(|_| InvalidVerifierKey)?;
        let (kind @ (ED25519 | COSIGNATURE), public) = key
            .split_first()
            .map(|(t, k)| (*t, k))
            .ok_or(InvalidVerifierKey)?
        else {
            return Err(InvalidVerifierKey);
        };
        let key = Self::of(
            name.ok_or(InvalidVerifierKey)?,
            kind,
            public.try_into().map_err(|_| InvalidVerifierKey)?,
        )?;
        if id == Some(HEXLOWER.encode(&key.id()).as_str()) {
            Ok(key)
        } else {
            Err(InvalidVerifierKey)
        }
    }
}

impl Checkpoint {
    /// The text with the log's signature.
    ///
    /// # Errors
    /// [`InvalidCheckpoint::Origin`] where the origin cannot be the name of a key.
    pub fn sign(&self, key: &SigningKey) -> Result<String, InvalidCheckpoint> {
        let verifier =
            VerifierKey::new(&self.origin, key.public()).map_err(|_| InvalidCheckpoint::Origin)?;
        let body = self.body();
        let blob = [&verifier.id()[..], &key.sign(body.as_bytes())].concat();
        Ok(format!(
            "{body}\n\u{2014} {} {}\n",
            self.origin,
            BASE64.encode(&blob)
        ))
    }

    /// Reads a checkpoint and checks the signature of its log. Lines by keys that are not this one are passed over.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`]; the tree head is not to be believed.
    pub fn verify(text: &str, key: &VerifierKey) -> Result<Self, InvalidCheckpoint> {
        let note = Note::parse(text)?;
        let checkpoint = Self::parse(note.body)?;
        if checkpoint.origin != key.name || key.is_witness() {
            return Err(InvalidCheckpoint::Origin);
        }
        let mut signed = false;
        for signature in note.by(key) {
            ed25519::verify(&key.public, note.body.as_bytes(), signature)
                .map_err(|_| InvalidCheckpoint::Signature)?;
            signed = true;
        }
        if signed {
            Ok(checkpoint)
        } else {
            Err(InvalidCheckpoint::Unsigned)
        }
    }

    /// A witness's line below a checkpoint (C2SP tlog-cosignature): at this time, in seconds since 1970, this was the largest consistent log it had
    /// seen. Whether that is so, the caller has checked.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`]: the text is no checkpoint, or the name cannot be that of a key.
    pub fn cosign(
        text: &str,
        witness: &str,
        key: &SigningKey,
        seconds: u64,
    ) -> Result<String, InvalidCheckpoint> {
        let note = Note::parse(text)?;
        Self::parse(note.body)?;
        let verifier =
            VerifierKey::witness(witness, key.public()).map_err(|_| InvalidCheckpoint::Origin)?;
        let signature = key.sign(cosigned(note.body, seconds).as_bytes());
        let blob = [&verifier.id()[..], &seconds.to_be_bytes(), &signature].concat();
        Ok(format!("\u{2014} {witness} {}", BASE64.encode(&blob)))
    }

    /// When a witness countersigned this checkpoint, in seconds since 1970; the latest, where it did so several times. `None` where it did not.
    ///
    /// # Errors
    /// [`InvalidCheckpoint`]: the text is no checkpoint, or a line of this witness does not fit it.
    pub fn witnessed(text: &str, key: &VerifierKey) -> Result<Option<u64>, InvalidCheckpoint> {
        let note = Note::parse(text)?;
        Self::parse(note.body)?;
        let mut latest = None;
        for blob in note.by(key).filter(|_| key.is_witness()) {
            let (seconds, signature) = blob
                .split_first_chunk::<8>()
                .ok_or(InvalidCheckpoint::Form)?;
            let seconds = u64::from_be_bytes(*seconds);
            let signed = cosigned(note.body, seconds);
            ed25519::verify(&key.public, signed.as_bytes(), signature)
                .map_err(|_| InvalidCheckpoint::Signature)?;
            latest = latest.max(Some(seconds));
        }
        Ok(latest)
    }

    /// The text with another signature line, where it is not there and there is room for it.
    #[must_use]
    pub fn with_line(text: &str, line: &str) -> Option<String> {
        let new = !text.lines().any(|l| l == line);
        let longer = format!("{text}{line}\n");
        (new && Note::parse(&longer).is_ok()).then_some(longer)
    }

    fn body(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.head.size,
            BASE64.encode(self.head.root.as_bytes())
        )
    }

    fn parse(body: &str) -> Result<Self, InvalidCheckpoint> {
        let mut lines = body
            .strip_suffix('\n')
            .ok_or(InvalidCheckpoint::Form)?
            .split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(InvalidCheckpoint::Form);
        };
        let size: u64 = size.parse().map_err(|_| InvalidCheckpoint::Form)?;
        let root = BASE64
            .decode(root.as_bytes())
            .map_err(|_| InvalidCheckpoint::Form)?;
        let root = Digest::try_from(root.as_slice()).map_err(|_| InvalidCheckpoint::Form)?;
        let checkpoint = Self {
            origin: origin.into(),
            head: TreeHead { size, root },
        };
        // No leading zero, no plus sign, one base64: what was read is written the same.
        if checkpoint.body() == body {
            Ok(checkpoint)
        } else {
            Err(InvalidCheckpoint::Form)
        }
    }
}

/// What a witness signs.
fn cosigned(body: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{body}")
}

/// A signed note: its text, and the signatures below it.
struct Note<'a> {
    body: &'a str,
    /// By name and key id.
    lines: Vec<(&'a str, [u8; 4], Vec<u8>)>,
}

impl<'a> Note<'a> {
    fn parse(text: &'a str) -> Result<Self, InvalidCheckpoint> {
        let form = InvalidCheckpoint::Form;
        if text.len() > limits::MAX_CHECKPOINT || text.chars().any(|c| c.is_control() && c != '\n')
        {
            return Err(form);
        }
        // The signatures stand behind the last empty line.
        let split = text.rfind("\n\n").ok_or(form)?;
        let (body, signatures) = (&text[..=split], &text[split + 2..]);
        let all = signatures.strip_suffix('\n').ok_or(form)?;
        let mut lines = vec![];
        for line in all.split('\n') {
            let (name, blob) = line
                .strip_prefix("\u{2014} ")
                .and_then(|l| l.split_once(' '))
                .filter(|(name, _)| good_name(name) && lines.len() < MAX_SIGNATURES)
                .ok_or(form)?;
            let blob = BASE64.decode(blob.as_bytes()).map_err(|_| form)?;
            let (id, signature) = blob.split_first_chunk::<4>().ok_or(form)?;
            lines.push((name, *id, signature.to_vec()));
        }
        Ok(Self { body, lines })
    }

    /// What a key of this name and id has signed; whether the signatures are right is another question.
    fn by(&self, key: &VerifierKey) -> impl Iterator<Item = &[u8]> {
        let of = |(name, id, _): &&(&str, [u8; 4], Vec<u8>)| *name == key.name && *id == key.id();
        self.lines.iter().filter(of).map(|(_, _, s)| s.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_sign_below() {
        let (_, text, key) = signed();
        let witness = SigningKey::from_seed(&[4; 32]).expect("a seed");
        let name = "ncc.node.crisis.example";
        let verifier = VerifierKey::witness(name, witness.public()).expect("a name");
        assert_eq!(verifier.to_string().parse(), Ok(verifier.clone()));
        assert_eq!(Checkpoint::witnessed(&text, &verifier), Ok(None));
        let line = Checkpoint::cosign(&text, name, &witness, 1_790_000_000).expect("signs");
        let both = Checkpoint::with_line(&text, &line).expect("room");
        assert_eq!(Checkpoint::with_line(&both, &line), None, "once");
        assert!(Checkpoint::verify(&both, &key).is_ok());
        assert_eq!(
            Checkpoint::witnessed(&both, &verifier),
            Ok(Some(1_790_000_000))
        );
        assert_eq!(
            Checkpoint::verify(&both, &verifier),
            Err(InvalidCheckpoint::Origin)
        );
        let other = both.replacen("70000", "70001", 1);
        assert_eq!(
            Checkpoint::witnessed(&other, &verifier),
            Err(InvalidCheckpoint::Signature)
        );
        for at in text.len()..both.len() {
            let mut other = both.clone().into_bytes();
            other[at] ^= 1;
            let other = String::from_utf8(other).unwrap_or_default();
            assert_ne!(
                Checkpoint::witnessed(&other, &verifier),
                Ok(Some(1_790_000_000)),
                "byte {at}"
            );
        }
    }

    fn signed() -> (Checkpoint, String, VerifierKey) {
        let key = SigningKey::from_seed(&[3; 32]).expect("a seed");
        let head = TreeHead {
            size: 70_000,
            root: sha256(&[b"root"]),
        };
        let c = Checkpoint {
            origin: "b1.broker.crisis.example".into(),
            head,
        };
        let text = c.sign(&key).expect("signs");
        let verifier = VerifierKey::new(&c.origin, key.public()).expect("a name");
        (c, text, verifier)
    }

    #[test]
    fn there_and_back() {
        let (c, text, key) = signed();
        assert_eq!(Checkpoint::verify(&text, &key), Ok(c));
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let witnessed = format!(
            "{text}\u{2014} witness.example {}\n",
            BASE64.encode(&[9; 76])
        );
        assert!(
            Checkpoint::verify(&witnessed, &key).is_ok(),
            "an unknown key is passed over"
        );
    }

    #[test]
    fn the_published_key_of_the_format_reads() {
        let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let key: VerifierKey = text.parse().expect("a key");
        assert_eq!(
            (key.name(), key.to_string()),
            ("example.com/foo", text.to_owned())
        );
        for bad in [
            "",
            "example.com/foo",
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "a b+00000000+AQ==",
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_byte_can_change() {
        let (_, text, key) = signed();
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            if let Ok(other) = String::from_utf8(other) {
                assert!(Checkpoint::verify(&other, &key).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn refused() {
        let (c, text, key) = signed();
        let other = VerifierKey::new("b2.broker.crisis.example", [1; 32]).expect("a name");
        assert_eq!(
            Checkpoint::verify(&text, &other),
            Err(InvalidCheckpoint::Origin)
        );
        let unknown = VerifierKey::new(&c.origin, [1; 32]).expect("a name");
        assert_eq!(
            Checkpoint::verify(&text, &unknown),
            Err(InvalidCheckpoint::Unsigned)
        );
        assert_eq!(
            Checkpoint::verify(&text.replace("70000\n", "070000\n"), &key),
            Err(InvalidCheckpoint::Form)
        );
        assert_eq!(
            Checkpoint::verify(&text.replace("70000\n", "70001\n"), &key),
            Err(InvalidCheckpoint::Signature)
        );
        assert_eq!(
            Checkpoint::verify(text.trim_end(), &key),
            Err(InvalidCheckpoint::Form)
        );
        assert_eq!(
            Checkpoint::verify(&c.body(), &key),
            Err(InvalidCheckpoint::Form)
        );
        let extended = text.replacen("\n\n", "\nextension\n\n", 1);
        assert_eq!(
            Checkpoint::verify(&extended, &key),
            Err(InvalidCheckpoint::Form)
        );
    }
}
