//! Sealing content for its recipients, and opening it.

use bytes::Bytes;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open,
    single_shot_seal_with_rng,
};
use ordonnans_identity::{SignError, Signer};
use ordonnans_label::Name;
use ordonnans_message::cose::Purpose;
use ordonnans_message::{
    Content, ContentRef, DecodeError, Digest, Envelope, Header, SUITE_X_WING, Seal, Sealing,
    SignedKeyPackage, limits, sha256,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use crate::entropy::Rng;
use crate::signed::sign;
use crate::{Entropy, NodeSecret, Verified};

/// Why nothing was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A recipient has published no key: nothing can be sealed to it yet.
    #[error("{0} has published no key yet; its daemon must connect once")]
    NoKey(Name),
    /// A recipient's key is too old.
    #[error("the key of {0} has expired; its daemon must publish a new one")]
    KeyExpired(Name),
    /// A recipient's key is of a suite this version does not know, or is no key.
    #[error("the key of {0} cannot be used by this version")]
    KeyUnusable(Name),
    /// The content is above its bound.
    #[error("the content has {length} bytes sealed, at most {most}; send it as an attachment")]
    TooLarge {
        /// Bytes it would have.
        length: usize,
        /// The bound, [`limits::MAX_CONTENT`].
        most: usize,
    },
    /// The header is not one.
    #[error("the header is not complete: {0}")]
    Header(DecodeError),
    /// The act is about something else.
    #[error("the vaststeller's statement is about another content; have this one established")]
    OtherContent,
    /// The signing key.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is sealed to others.
    #[error("the message is not sealed for this node")]
    NotForUs,
    /// It is sealed to a key of this node that is not here.
    #[error("the message is sealed to another key of this node")]
    OtherKey,
    /// It does not open: what it is bound to was changed, or its maker made it wrongly.
    #[error("the message does not open: it was damaged or wrongly sealed")]
    Damaged,
    /// It opens to something that is no content.
    #[error("the message opens to something that has not the form of content: {0}")]
    Form(DecodeError),
    /// It opens, and the vaststeller's statement that came with it is about something else.
    #[error("the message opens to a content that its vaststeller has not established")]
    OtherContent,
}

const INFO: &[u8] = b"ordonnans/1 seal";

/// Two values that follow from the content key: the key of the body and the commitment, so that neither tells of the other.
fn derive(key: &[u8; 32], what: &[u8], binding: &Digest) -> Zeroizing<[u8; 32]> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    context.update(what);
    context.update(binding.as_bytes());
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}

fn body_key(key: &[u8; 32], binding: &Digest) -> LessSafeKey {
    let key = derive(key, b"ordonnans/1 body", binding);
    let Ok(key) = UnboundKey::new(&AES_256_GCM, &*key) else {
        unreachable!("32 bytes are a key");
    };
    LessSafeKey::new(key)
}

/// The body key is used for one body only, so its nonce may be zero.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn commitment(key: &[u8; 32], binding: &Digest) -> Digest {
    Digest::from(*derive(key, b"ordonnans/1 commitment", binding))
}

fn info(binding: &Digest) -> Vec<u8> {
    [INFO, binding.as_bytes()].concat()
}

/// Seals content for every node among the recipients and signs the envelope. Of `header`, content and sealing are filled in here; the
/// attachments must be the ones `content` has the keys of. `keys` holds at least one package for each recipient node.
///
/// # Errors
/// [`SealError`] names the recipient or the bound.
pub fn seal(
    header: Header,
    content: &Content,
    keys: &[Verified<SignedKeyPackage>],
    signer: &dyn Signer,
    entropy: &mut dyn Entropy,
) -> Result<Envelope, SealError> {
    if !established(&header, content) {
        return Err(SealError::OtherContent);
    }
    let binding = header.binding();
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(&mut *key);
    let mut seals = vec![];
    for node in header.nodes() {
        let package = keys.iter().map(|k| k.get().said());
        let package = package
            .filter(|p| p.name == *node)
            .max_by_key(|p| p.not_after)
            .ok_or_else(|| SealError::NoKey(node.clone()))?;
        if package.not_after <= header.created {
            return Err(SealError::KeyExpired(node.clone()));
        }
        let unusable = || SealError::KeyUnusable(node.clone());
        if package.suite != SUITE_X_WING {
            return Err(unusable());
        }
        let public =
            <XWing as Kem>::PublicKey::from_bytes(&package.public).map_err(|_| unusable())?;
        let (enc, wrapped) = single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
            &OpModeS::Base,
            &public,
            &info(&binding),
            &*key,
            node.as_str().as_bytes(),
            &mut Rng(entropy),
        )
        .map_err(|_| unusable())?;
        seals.push(Seal {
            to: node.clone(),
            kid: package.kid(),
            copy: None,
            enc: enc.to_bytes().to_vec(),
            wrapped,
        });
    }
    let mut body = content.encode();
    let length = body.len() + AES_256_GCM.tag_len();
    if length > limits::MAX_CONTENT {
        return Err(SealError::TooLarge {
            length,
            most: limits::MAX_CONTENT,
        });
    }
    let sealed = body_key(&key, &binding).seal_in_place_append_tag(
        nonce(),
        Aad::from(binding.as_bytes()),
        &mut body,
    );
    if sealed.is_err() {
        return Err(SealError::TooLarge {
            length,
            most: limits::MAX_CONTENT,
        });
    }
    let seals = Seal::encode_all(&seals);
    let header = Header {
        content: ContentRef {
            digest: sha256(&[&body]),
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
        },
        sealing: Sealing {
            suite: SUITE_X_WING,
            commitment: commitment(&key, &binding),
            seals: sha256(&[&seals]),
        },
        ..header
    };
    header.check().map_err(SealError::Header)?;
    let signed = sign(Purpose::Envelope, header.encode(), signer)?;
    Envelope::new(signed, seals, Bytes::from(body)).map_err(SealError::Header)
}

/// Opens an envelope with one of this node's keys.
///
/// # Errors
/// [`OpenError`]: nothing of the content is given out.
pub fn open(
    envelope: &Verified<Envelope>,
    secrets: &[NodeSecret],
    me: &Name,
) -> Result<Content, OpenError> {
    let envelope = envelope.get();
    let header = envelope.header();
    let binding = header.binding();
    let seals = envelope.seals().map_err(OpenError::Form)?;
    let mine = seals
        .iter()
        .find(|s| s.to == *me)
        .ok_or(OpenError::NotForUs)?;
    let secret = secrets
        .iter()
        .find(|s| s.kid() == mine.kid)
        .ok_or(OpenError::OtherKey)?;
    let enc = <XWing as Kem>::EncappedKey::from_bytes(&mine.enc).map_err(|_| OpenError::Damaged)?;
    let key = single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        secret.key(),
        &enc,
        &info(&binding),
        &mine.wrapped,
        me.as_str().as_bytes(),
    )
    .map(Zeroizing::new)
    .map_err(|_| OpenError::Damaged)?;
    let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| OpenError::Damaged)?;
    if commitment(key, &binding) != header.sealing.commitment {
        return Err(OpenError::Damaged);
    }
    let mut body = Zeroizing::new(envelope.content().to_vec());
    let plain = body_key(key, &binding)
        .open_in_place(nonce(), Aad::from(binding.as_bytes()), &mut body)
        .map_err(|_| OpenError::Damaged)?;
    let content = Content::decode(plain).map_err(OpenError::Form)?;
    let named = content.attachments.iter().map(|a| &a.digest);
    if !named.eq(header.attachments.iter().map(|a| &a.digest)) {
        return Err(OpenError::Form(DecodeError::Form("attachments")));
    }
    if !established(header, &content) {
        return Err(OpenError::OtherContent);
    }
    Ok(content)
}

/// Whether the act in the header, where there is one, is about this content.
fn established(header: &Header, content: &Content) -> bool {
    let act = header.act.as_ref();
    act.is_none_or(|a| a.said().subject == content.digest())
}
