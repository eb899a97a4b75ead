//! Signing, and the one door through which signed things come in.

use ordonnans_identity::{
    BadSignature, Certificate, SignError, Signer, Trust, Untrusted, Usage, verify_signature,
};
use ordonnans_label::Name;
use ordonnans_message::cose::{Draft, Purpose, Sign1};
use ordonnans_message::{DecodeError, Envelope, How, Signed, Statement, Timestamp};

/// A value whose signature was right, at the time it was checked, by a certificate of this structure that names its maker. Only this
/// crate makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signer: Certificate,
}

impl<T> Verified<T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The certificate whose key signed it.
    #[must_use]
    pub fn signer(&self) -> &Certificate {
        &self.signer
    }

    /// The value, no longer marked as verified.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

/// Why a signed thing is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] Untrusted),
    /// The certificate is another subject's.
    #[error("it is signed by {signer}, not by {maker}")]
    Signer {
        /// Whom the certificate names.
        signer: Name,
        /// Who should have signed.
        maker: Name,
    },
    /// The signature.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// An envelope is sealed for others than its header says, or its copies are not numbered as they must be.
    #[error("it is not sealed as its header says: {0}")]
    Seals(DecodeError),
}

/// The certificate that a signed object is by: believed now, its maker's, and the signature right.
fn check(
    signed: &Sign1,
    maker: &Name,
    trust: &Trust,
    now: Timestamp,
) -> Result<Certificate, NotAuthentic> {
    let signer = trust.verify(signed.certificate(), Usage::Client, now)?;
    if signer.name() != maker {
        return Err(NotAuthentic::Signer {
            signer: signer.name().clone(),
            maker: maker.clone(),
        });
    }
    verify_signature(
        &signer,
        signed.algorithm(),
        &signed.to_be_signed(),
        signed.signature(),
    )?;
    Ok(signer)
}

/// Checks an envelope: the certificate at `now`, that it is the originator's, and the signature over the header; and the same of the vaststeller's act,
/// where it carries one, and of the second person's word on it. Of a message that is passed on as it is, the act was made long before: its certificate is
/// asked about that time where it has ended since; a revocation counts at any time, and whoever accepts such a message knows the act already. Last, that it is sealed for whom the header names and for nobody else ([`Envelope::check_seals`]). That the header fits content and seals, and the act the header, [`Envelope::decode`] has checked.
///
/// # Errors
/// [`NotAuthentic`]; nothing of it may be believed.
pub fn verify_envelope(
    value: Envelope,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<Envelope>, NotAuthentic> {
    let header = value.header();
    if let Some(act) = &header.act {
        let of = |at| check(act.signed(), act.said().maker(), trust, at);
        let passed = header.passed.as_ref();
        if passed.is_some_and(|p| p.how == How::AsItIs) {
            of(now).or_else(|why| of(act.said().at.min(now)).map_err(|_| why))?;
        } else {
            of(now)?;
        }
        if let Some(second) = passed.and_then(|p| p.second.as_ref()) {
            check(second.signed(), second.said().maker(), trust, now)?;
        }
    }
    let signer = check(value.signed(), &header.originator, trust, now)?;
    value.check_seals().map_err(NotAuthentic::Seals)?;
    Ok(Verified { value, signer })
}

/// Checks a statement: it must be signed by whoever it says made it.
///
/// # Errors
/// [`NotAuthentic`].
pub fn verify_statement<T: Statement>(
    value: Signed<T>,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<Signed<T>>, NotAuthentic> {
    let signer = check(value.signed(), value.said().maker(), trust, now)?;
    Ok(Verified { value, signer })
}

pub(crate) fn sign(
    purpose: Purpose,
    payload: Vec<u8>,
    signer: &dyn Signer,
) -> Result<Sign1, SignError> {
    let draft = Draft::new(
        purpose,
        signer.algorithm(),
        signer.certificate().der(),
        payload,
    );
    let signature = signer.sign(&draft.to_be_signed())?;
    Ok(draft.finish(signature))
}

/// Signs a statement.
///
/// # Errors
/// [`SignError`]: the key is out of reach, or the statement is none that would be read back.
pub fn sign_statement<T: Statement>(said: &T, signer: &dyn Signer) -> Result<Signed<T>, SignError> {
    // A key that signs nonsense would not get this far.
    Signed::new(sign(T::PURPOSE, said.encode(), signer)?).map_err(|_| SignError::Form)
}
