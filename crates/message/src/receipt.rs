//! Signed statements beside messages: receipts, the encryption keys nodes publish, and approvals of registers.

use ordonnans_label::Name;

use crate::cbor::{DecodeError, Reader, Writer};
use crate::cose::Purpose;
use crate::header::{digest, message_id, name, time};
use crate::statement::{Signed, Statement};
use crate::{Digest, MessageId, Timestamp, limits, sha256};

/// What the signer of a receipt says happened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ReceiptKind {
    /// The node has it, durably.
    Delivered = 1,
    /// A reader opened it.
    Opened = 2,
    /// The node has it and cannot open it, or it is not what its header says.
    Refused = 3,
    /// A reader took it out of the system.
    Exported = 4,
    /// A reader printed it.
    Printed = 5,
    /// A reader destroyed the copy.
    Destroyed = 6,
    /// The originator takes the message back: who has a copy is to destroy it.
    Recalled = 7,
}

impl ReceiptKind {
    /// All kinds, by number.
    pub const ALL: [Self; 7] = [
        Self::Delivered,
        Self::Opened,
        Self::Refused,
        Self::Exported,
        Self::Printed,
        Self::Destroyed,
        Self::Recalled,
    ];

    /// The number in encodings.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether a reader gives it, who may be a person; the others are a node's.
    #[must_use]
    pub fn is_of_reader(self) -> bool {
        matches!(
            self,
            Self::Opened | Self::Exported | Self::Printed | Self::Destroyed
        )
    }

    /// The kind of a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.code() == code)
    }
}

/// A recipient's statement about one envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub message: MessageId,
    /// SHA-256 of the whole envelope, so that the receipt proves which bytes were received.
    pub envelope: Digest,
    /// What happened.
    pub kind: ReceiptKind,
    /// Who says so: the node, or the person who opened or exported it.
    pub by: Name,
    /// When, by the signer's clock.
    pub at: Timestamp,
}

impl Statement for Receipt {
    const PURPOSE: Purpose = Purpose::Receipt;

    fn maker(&self) -> &Name {
        &self.by
    }

    fn write(&self, w: &mut Writer) {
        w.map(5).uint(1).bytes(self.message.as_bytes());
        w.uint(2).bytes(self.envelope.as_bytes());
        w.uint(3).uint(self.kind.code().into());
        w.uint(4).text(self.by.as_str());
        w.uint(5).uint(self.at.as_millis());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut message, mut envelope, mut kind, mut by, mut at) = (None, None, None, None, None);
        r.map("receipt", 5, |r, key| {
            match key {
                1 => message = Some(message_id(r)?),
                2 => envelope = Some(digest(r, "envelope digest")?),
                3 => {
                    let code = r.uint("receipt kind", u8::MAX.into())?;
                    kind = u8::try_from(code).ok().and_then(ReceiptKind::from_code);
                    kind.ok_or(DecodeError::Unknown("receipt kind"))?;
                }
                4 => by = Some(name(r, "signer")?),
                5 => at = Some(time(r, "receipt time")?),
                _ => return Err(DecodeError::Unknown("receipt key")),
            }
            Ok(())
        })?;
        let missing = DecodeError::Form("receipt");
        Ok(Self {
            message: message.ok_or(missing)?,
            envelope: envelope.ok_or(missing)?,
            kind: kind.ok_or(missing)?,
            by: by.ok_or(missing)?,
            at: at.ok_or(missing)?,
        })
    }
}

/// The public key a node wants content sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPackage {
    /// Whose key it is.
    pub name: Name,
    /// The suite it is for; [`crate::SUITE_X_WING`].
    pub suite: u16,
    /// The public key: 1,216 bytes for X-Wing.
    pub public: Vec<u8>,
    /// After this nobody should seal to it.
    pub not_after: Timestamp,
}

/// How a seal names a key: the first 8 bytes of SHA-256 over the public key.
#[must_use]
pub fn key_id(public: &[u8]) -> [u8; 8] {
    let d = sha256(&[public]);
    let mut id = [0; 8];
    id.copy_from_slice(&d.as_bytes()[..8]);
    id
}

impl KeyPackage {
    /// How a seal names this key.
    #[must_use]
    pub fn kid(&self) -> [u8; 8] {
        key_id(&self.public)
    }
}

impl Statement for KeyPackage {
    const PURPOSE: Purpose = Purpose::KeyPackage;

    fn maker(&self) -> &Name {
        &self.name
    }

    fn write(&self, w: &mut Writer) {
        w.map(4).uint(1).text(self.name.as_str());
        w.uint(2).uint(self.suite.into());
        w.uint(3).bytes(&self.public);
        w.uint(4).uint(self.not_after.as_millis());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut owner, mut suite, mut public, mut not_after) = (None, None, None, None);
        r.map("key package", 4, |r, key| {
            match key {
                1 => owner = Some(name(r, "key owner")?),
                2 => suite = u16::try_from(r.uint("suite", u16::MAX.into())?).ok(),
                3 => public = Some(r.bytes("public key", limits::MAX_SEAL)?.to_vec()),
                4 => not_after = Some(time(r, "key end")?),
                _ => return Err(DecodeError::Unknown("key package key")),
            }
            Ok(())
        })?;
        let missing = DecodeError::Form("key package");
        let suite = suite.ok_or(missing)?;
        if suite != crate::SUITE_X_WING {
            return Err(DecodeError::Unknown("suite"));
        }
        Ok(Self {
            name: owner.ok_or(missing)?,
            suite,
            public: public.ok_or(missing)?,
            not_after: not_after.ok_or(missing)?,
        })
    }
}

/// A registrar's statement that a register may take force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// SHA-256 of the register's text.
    pub register: Digest,
    /// Its version, so that whoever signs has seen it.
    pub version: u64,
    /// Who says so.
    pub by: Name,
    /// When, by the signer's clock.
    pub at: Timestamp,
}

impl Statement for Approval {
    const PURPOSE: Purpose = Purpose::Approval;

    fn maker(&self) -> &Name {
        &self.by
    }

    fn write(&self, w: &mut Writer) {
        w.map(4).uint(1).bytes(self.register.as_bytes());
        w.uint(2).uint(self.version);
        w.uint(3).text(self.by.as_str());
        w.uint(4).uint(self.at.as_millis());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut register, mut version, mut by, mut at) = (None, None, None, None);
        r.map("approval", 4, |r, key| {
            match key {
                1 => register = Some(digest(r, "register digest")?),
                2 => version = Some(r.uint("register version", u64::MAX)?),
                3 => by = Some(name(r, "registrar")?),
                4 => at = Some(time(r, "approval time")?),
                _ => return Err(DecodeError::Unknown("approval key")),
            }
            Ok(())
        })?;
        let missing = DecodeError::Form("approval");
        Ok(Self {
            register: register.ok_or(missing)?,
            version: version.ok_or(missing)?,
            by: by.ok_or(missing)?,
            at: at.ok_or(missing)?,
        })
    }
}

/// A receipt with its signature, unverified.
pub type SignedReceipt = Signed<Receipt>;
/// A key package with its signature, unverified.
pub type SignedKeyPackage = Signed<KeyPackage>;
/// An approval with its signature, unverified.
pub type SignedApproval = Signed<Approval>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::{Algorithm, Draft};

    #[test]
    fn there_and_back() {
        let receipt = Receipt {
            message: MessageId::new(Timestamp::from_millis(5), [0; 10]),
            envelope: sha256(&[b"e"]),
            kind: ReceiptKind::Opened,
            by: "vermeer.person.crisis.example".parse().expect("a name"),
            at: Timestamp::from_millis(6),
        };
        let sign = |purpose, payload| {
            Draft::new(purpose, Algorithm::Es256, b"c", payload).finish(vec![0; 64])
        };
        let signed =
            SignedReceipt::new(sign(Purpose::Receipt, receipt.encode())).expect("a receipt");
        let back = SignedReceipt::decode(&signed.encode()).expect("a receipt");
        assert_eq!((back.said(), back.encode()), (&receipt, signed.encode()));

        let package = KeyPackage {
            name: "ncc.node.crisis.example".parse().expect("a name"),
            suite: 1,
            public: vec![9; 1216],
            not_after: Timestamp::from_millis(7),
        };
        let signed =
            SignedKeyPackage::new(sign(Purpose::KeyPackage, package.encode())).expect("a package");
        assert_eq!(
            SignedKeyPackage::decode(&signed.encode())
                .expect("a package")
                .said(),
            &package
        );
        let other = KeyPackage {
            suite: 2,
            ..package
        };
        let refused = SignedKeyPackage::new(sign(Purpose::KeyPackage, other.encode())).map(drop);
        assert_eq!(refused, Err(DecodeError::Unknown("suite")));
    }
}
