//! Signing, and the one door through which signed things come in.

use ordonnans_identity::{
    BadSignature, Certificate, SignError, Signer, Trust, Untrusted, Usage, verify_signature,
};
use ordonnans_label::Name;
use ordonnans_message::cose::{Draft, Purpose, Sign1};
use ordonnans_message::{
    Act, Approval, Declaration, DecodeError, Envelope, KeyPackage, Receipt, SignedAct,
    SignedApproval, SignedDeclaration, SignedKeyPackage, SignedReceipt, Timestamp,
};

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
}

fn verify<T>(
    value: T,
    signed: &Sign1,
    maker: &Name,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<T>, NotAuthentic> {
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
    Ok(Verified { value, signer })
}

/// Checks an envelope: the certificate at `now`, that it is the originator's, and the signature over the header; and the same of the vaststeller's act,
/// where it carries one. That the header fits content and seals, and the act the header, [`Envelope::decode`] has checked.
///
/// # Errors
/// [`NotAuthentic`]; nothing of it may be believed.
pub fn verify_envelope(
    envelope: Envelope,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<Envelope>, NotAuthentic> {
    let (signed, maker) = (
        envelope.signed().clone(),
        envelope.header().originator.clone(),
    );
    if let Some(act) = &envelope.header().act {
        verify_act(act.clone(), trust, now)?;
    }
    verify(envelope, &signed, &maker, trust, now)
}

/// Checks an act: it must be signed by the person it names.
///
/// # Errors
/// [`NotAuthentic`].
pub fn verify_act(
    act: SignedAct,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<SignedAct>, NotAuthentic> {
    let (signed, maker) = (act.signed().clone(), act.act().by.clone());
    verify(act, &signed, &maker, trust, now)
}

/// Checks a declaration: it must be signed by the person it names.
///
/// # Errors
/// [`NotAuthentic`].
pub fn verify_declaration(
    declaration: SignedDeclaration,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<SignedDeclaration>, NotAuthentic> {
    let maker = declaration.declaration().by.clone();
    let signed = declaration.signed().clone();
    verify(declaration, &signed, &maker, trust, now)
}

/// Checks a receipt: it must be signed by whoever it says gave it.
///
/// # Errors
/// [`NotAuthentic`].
pub fn verify_receipt(
    receipt: SignedReceipt,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<SignedReceipt>, NotAuthentic> {
    let (signed, maker) = (receipt.signed().clone(), receipt.receipt().by.clone());
    verify(receipt, &signed, &maker, trust, now)
}

/// Checks a key package: it must be signed by whose key it is.
///
/// # Errors
/// [`NotAuthentic`].
pub fn verify_key_package(
    package: SignedKeyPackage,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<SignedKeyPackage>, NotAuthentic> {
    let (signed, maker) = (package.signed().clone(), package.package().name.clone());
    verify(package, &signed, &maker, trust, now)
}

/// Checks an approval of a register: it must be signed by whoever it says gave it.
///
/// # Errors
/// [`NotAuthentic`].
pub fn verify_approval(
    approval: SignedApproval,
    trust: &Trust,
    now: Timestamp,
) -> Result<Verified<SignedApproval>, NotAuthentic> {
    let (signed, maker) = (approval.signed().clone(), approval.approval().by.clone());
    verify(approval, &signed, &maker, trust, now)
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

/// What a statement needs before it is signed.
fn signed<T>(
    purpose: Purpose,
    payload: Vec<u8>,
    signer: &dyn Signer,
    wrap: impl FnOnce(Sign1) -> Result<T, DecodeError>,
) -> Result<T, SignError> {
    // What we have just encoded decodes; a key that signs nonsense would not get this far.
    wrap(sign(purpose, payload, signer)?).map_err(|_| SignError)
}

/// Signs a receipt.
///
/// # Errors
/// [`SignError`]: the key is out of reach.
pub fn sign_receipt(receipt: &Receipt, signer: &dyn Signer) -> Result<SignedReceipt, SignError> {
    signed(
        Purpose::Receipt,
        receipt.encode(),
        signer,
        SignedReceipt::new,
    )
}

/// Signs a key package.
///
/// # Errors
/// [`SignError`]: the key is out of reach.
pub fn sign_key_package(
    package: &KeyPackage,
    signer: &dyn Signer,
) -> Result<SignedKeyPackage, SignError> {
    signed(
        Purpose::KeyPackage,
        package.encode(),
        signer,
        SignedKeyPackage::new,
    )
}

/// Signs an approval of a register.
///
/// # Errors
/// [`SignError`]: the key is out of reach.
pub fn sign_approval(
    approval: &Approval,
    signer: &dyn Signer,
) -> Result<SignedApproval, SignError> {
    signed(
        Purpose::Approval,
        approval.encode(),
        signer,
        SignedApproval::new,
    )
}

/// Signs an act.
///
/// # Errors
/// [`SignError`]: the key is out of reach, or [`Act::check`] does not hold.
pub fn sign_act(act: &Act, signer: &dyn Signer) -> Result<SignedAct, SignError> {
    signed(Purpose::Act, act.encode(), signer, SignedAct::new)
}

/// Signs a declaration.
///
/// # Errors
/// [`SignError`]: the key is out of reach.
pub fn sign_declaration(
    declaration: &Declaration,
    signer: &dyn Signer,
) -> Result<SignedDeclaration, SignError> {
    signed(
        Purpose::Declaration,
        declaration.encode(),
        signer,
        SignedDeclaration::new,
    )
}
