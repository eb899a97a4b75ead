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
use ordonnans_message::cbor::{Reader, Writer, exactly};
use ordonnans_message::cose::Purpose;
use ordonnans_message::{
    Content, ContentRef, CopyNumber, DecodeError, Digest, Envelope, EpochId, Header, KeyPackage,
    SUITE_EPOCH, SUITE_X_WING, Seal, SealedCopy, Sealing, SignedKeyPackage, Timestamp, limits,
    sha256,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

use crate::entropy::Rng;
use crate::epoch::{self, EpochKey, Grant};
use crate::signed::sign;
use crate::{Entropy, SealSecret, Verified};

/// Why nothing was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A recipient has published no key: nothing can be sealed to it yet.
    #[error("{0} has published no key to seal to")]
    NoKey(Name),
    /// A recipient's key is too old.
    #[error("the key of {0} has expired; a new one must be published")]
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
    /// From Stg.C up each copy has a key of its own.
    #[error("from Stg.C up nothing is sealed under the key of an epoch")]
    Numbered,
    /// The signing key.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is sealed to others.
    #[error("the message is not sealed for this holder")]
    NotForUs,
    /// It is sealed to a key of this holder that is not here.
    #[error("the message is sealed to another key of this holder, or to one that was destroyed")]
    OtherKey,
    /// It is of an epoch whose key is not here.
    #[error(
        "the message is of an epoch whose key this holder was not given, or which has ended here"
    )]
    OtherEpoch,
    /// It does not open: what it is bound to was changed, or its maker made it wrongly.
    #[error("the message does not open: it was damaged or wrongly sealed")]
    Damaged,
    /// The number inside is not the one beside it.
    #[error("the copy that opens has another number than the register of copies")]
    OtherNumber,
    /// It opens to something that is no content.
    #[error("the message opens to something that has not the form of content: {0}")]
    Form(DecodeError),
    /// It opens, and the vaststeller's statement that came with it is about something else.
    #[error("the message opens to a content that its vaststeller has not established")]
    OtherContent,
}

const INFO: &[u8] = b"ordonnans/1 seal";
/// Bytes that a numbered copy has beside its text, at most: number, count and heads (15), commitment (36), tag (16), head of the section (9).
const COPY_OVERHEAD: usize = 80;

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

/// The content key of a message of an epoch: the binding has the message's id in it, so that no two are the same.
fn content_key(key: &[u8; 32], epoch: EpochId, binding: &Digest) -> Zeroizing<[u8; 32]> {
    let what = [&b"ordonnans/1 epoch content"[..], epoch.as_bytes()].concat();
    derive(key, &what, binding)
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

/// The key to seal a copy to: the newest that its holder has published.
fn key_of<'k>(
    holder: &Name,
    keys: &'k [Verified<SignedKeyPackage>],
    at: Timestamp,
) -> Result<&'k KeyPackage, SealError> {
    let packages = keys.iter().map(|k| k.get().said());
    let package = packages
        .filter(|p| p.name == *holder)
        .max_by_key(|p| p.not_after)
        .ok_or_else(|| SealError::NoKey(holder.clone()))?;
    if package.not_after <= at {
        return Err(SealError::KeyExpired(holder.clone()));
    }
    if package.suite != SUITE_X_WING {
        return Err(SealError::KeyUnusable(holder.clone()));
    }
    Ok(package)
}

/// Wraps a key for the holder of a copy, bound to `info`.
fn wrap(
    key: &[u8; 32],
    package: &KeyPackage,
    copy: Option<u32>,
    info: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Seal, SealError> {
    let unusable = || SealError::KeyUnusable(package.name.clone());
    let public = <XWing as Kem>::PublicKey::from_bytes(&package.public).map_err(|_| unusable())?;
    let (enc, wrapped) = single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        info,
        key,
        package.name.as_str().as_bytes(),
        &mut Rng(entropy),
    )
    .map_err(|_| unusable())?;
    Ok(Seal {
        to: package.name.clone(),
        kid: package.kid(),
        copy,
        enc: enc.to_bytes().to_vec(),
        wrapped,
    })
}

pub(crate) fn fresh(entropy: &mut dyn Entropy) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(&mut *key);
    key
}

/// Seals a body under a content key, to `most` bytes.
fn seal_body(
    key: &[u8; 32],
    mut body: Vec<u8>,
    binding: &Digest,
    most: usize,
) -> Result<Vec<u8>, SealError> {
    let length = body.len() + AES_256_GCM.tag_len();
    let too_large = || SealError::TooLarge { length, most };
    if length > most {
        return Err(too_large());
    }
    body_key(key, binding)
        .seal_in_place_append_tag(nonce(), Aad::from(binding.as_bytes()), &mut body)
        .map_err(|_| too_large())?;
    Ok(body)
}

/// The text of a numbered copy: its number stands inside what is sealed.
fn numbered_text(copy: CopyNumber, content: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.array(3)
        .uint(copy.number.into())
        .uint(copy.of.into())
        .bytes(content);
    w.into_bytes()
}

fn read_numbered(plain: &[u8]) -> Result<(CopyNumber, Content), DecodeError> {
    let read = |r: &mut Reader<'_>| {
        r.tuple("numbered copy", 3)?;
        let mut number = || -> Result<u32, DecodeError> {
            let n = r.uint("copy number", limits::MAX_RECIPIENTS as u64)?;
            u32::try_from(n).map_err(|_| DecodeError::Limit("copy number"))
        };
        let copy = CopyNumber {
            number: number()?,
            of: number()?,
        };
        Ok((
            copy,
            Zeroizing::new(r.bytes("content", limits::MAX_CONTENT)?.to_vec()),
        ))
    };
    let (copy, content) = exactly(plain, read, |(copy, content), w| {
        w.array(3)
            .uint(copy.number.into())
            .uint(copy.of.into())
            .bytes(content);
    })?;
    Ok((copy, Content::decode(&content)?))
}

/// Seals content for every holder of [`Header::copies`] and signs the envelope. Of `header`, content and sealing are filled in here; the
/// attachments must be the ones `content` has the keys of. `keys` holds at least one package for each holder.
///
/// Below Stg.C one ciphertext is for all, its key wrapped for each. From Stg.C up each copy has a key and a ciphertext of its own, with its number
/// inside. What the copies share is what they say: the text, and the keys of attachments, whose ciphertext is one for all.
///
/// # Errors
/// [`SealError`] names the holder or the bound.
pub fn seal(
    header: Header,
    content: &Content,
    keys: &[Verified<SignedKeyPackage>],
    signer: &dyn Signer,
    entropy: &mut dyn Entropy,
) -> Result<Envelope, SealError> {
    seal_under(None, header, content, keys, signer, entropy)
}

/// The same under the key of an epoch, below Stg.C: its key is wrapped for each holder but for those `without`, who have it from an earlier message
/// to the same holders.
///
/// # Errors
/// As [`seal`]; [`SealError::Numbered`].
pub fn seal_in_epoch(
    epoch: &EpochKey,
    without: &dyn Fn(&Name) -> bool,
    header: Header,
    content: &Content,
    keys: &[Verified<SignedKeyPackage>],
    signer: &dyn Signer,
    entropy: &mut dyn Entropy,
) -> Result<Envelope, SealError> {
    if header.numbered() {
        return Err(SealError::Numbered);
    }
    let epoch = Some((epoch, without));
    seal_under(epoch, header, content, keys, signer, entropy)
}

/// The key of an epoch, and who has it.
type Epoch<'e> = (&'e EpochKey, &'e dyn Fn(&Name) -> bool);

fn seal_under(
    epoch: Option<Epoch<'_>>,
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
    let holders = header.copies();
    // All keys first: nothing is made where one is missing.
    let packages = holders
        .iter()
        .map(|h| key_of(h.owner(), keys, header.created))
        .collect::<Result<Vec<_>, _>>()?;
    let text = Zeroizing::new(content.encode());
    let mut seals = vec![];
    let (body, commitment) = if header.numbered() {
        let of = u32::try_from(packages.len()).unwrap_or(u32::MAX);
        // What one copy may have, so that all fit: checked before any is sealed.
        let each = text.len() + COPY_OVERHEAD;
        if each * packages.len() > limits::MAX_COPIES || each > limits::MAX_CONTENT {
            let most = (limits::MAX_COPIES / packages.len().max(1)).min(limits::MAX_CONTENT);
            return Err(SealError::TooLarge { length: each, most });
        }
        let mut copies = vec![];
        for (number, package) in (1u32..).zip(&packages) {
            let key = fresh(entropy);
            let plain = numbered_text(CopyNumber { number, of }, &text);
            seals.push(wrap(&key, package, Some(number), &info(&binding), entropy)?);
            copies.push(SealedCopy {
                commitment: commitment(&key, &binding),
                sealed: seal_body(&key, plain, &binding, limits::MAX_CONTENT)?,
            });
        }
        let all = SealedCopy::commitment_of_all(&copies);
        (SealedCopy::encode_all(&copies), all)
    } else {
        let key = match epoch {
            None => fresh(entropy),
            Some((epoch, _)) => content_key(epoch.key(), epoch.id(), &binding),
        };
        let (wrapped, info, without) = match epoch {
            None => (&*key, info(&binding), None),
            Some((epoch, without)) => {
                let holders = epoch::holders(&header);
                let info = epoch::info(epoch.id(), &holders, &binding);
                (epoch.key(), info, Some(without))
            }
        };
        for package in &packages {
            if !without.is_some_and(|has| has(&package.name)) {
                seals.push(wrap(wrapped, package, None, &info, entropy)?);
            }
        }
        let body = seal_body(&key, text.to_vec(), &binding, limits::MAX_CONTENT)?;
        (body, commitment(&key, &binding))
    };
    let (suite, seals) = match epoch {
        None => (SUITE_X_WING, Seal::encode_all(&seals)),
        Some((epoch, _)) => (SUITE_EPOCH, Seal::encode_of_epoch(epoch.id(), &seals)),
    };
    let header = Header {
        content: ContentRef {
            digest: sha256(&[&body]),
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
        },
        sealing: Sealing {
            suite,
            commitment,
            seals: sha256(&[&seals]),
        },
        ..header
    };
    header.check().map_err(SealError::Header)?;
    let signed = sign(Purpose::Envelope, header.encode(), signer)?;
    Envelope::new(signed, seals, Bytes::from(body)).map_err(SealError::Header)
}

/// A copy that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub content: Content,
    /// Which copy of how many, from Stg.C up.
    pub copy: Option<CopyNumber>,
}

/// Opens the copy of `me`, a node or a person, with one of its keys.
///
/// # Errors
/// [`OpenError`]: nothing of the content is given out.
pub fn open(
    envelope: &Verified<Envelope>,
    secrets: &[SealSecret],
    me: &Name,
) -> Result<Opened, OpenError> {
    open_with(envelope, secrets, me, None)
}

/// The same, where a message of an epoch may leave this holder out: with what an earlier one brought it ([`Grant::of`]).
///
/// # Errors
/// As [`open`]; [`OpenError::OtherEpoch`]: there is no such grant. One that was made for other holders does not open ([`OpenError::Damaged`]).
pub fn open_with(
    envelope: &Verified<Envelope>,
    secrets: &[SealSecret],
    me: &Name,
    grant: Option<&Grant>,
) -> Result<Opened, OpenError> {
    let envelope = envelope.get();
    let header = envelope.header();
    let binding = header.binding();
    let epoch = envelope.epoch().map_err(OpenError::Form)?;
    let seals = envelope.seals().map_err(OpenError::Form)?;
    let place = seals.iter().position(|s| s.to == *me);
    let own = place.and_then(|p| seals.get(p));
    let grant = grant.filter(|g| own.is_none() && epoch.is_some() && g.seal.to == *me);
    let bound = grant.map_or(&binding, |g| &g.binding);
    let info = match epoch {
        None => info(bound),
        Some(epoch) => epoch::info(epoch, &epoch::holders(header), bound),
    };
    let ours = header.copies().iter().any(|h| h.owner() == me);
    let missing = match epoch {
        Some(_) if ours => OpenError::OtherEpoch,
        _ => OpenError::NotForUs,
    };
    let mine = own.or(grant.map(|g| &g.seal)).filter(|_| ours);
    let mine = mine.ok_or(missing)?;
    let secret = secrets
        .iter()
        .find(|s| s.kid() == mine.kid)
        .ok_or(OpenError::OtherKey)?;
    let enc = <XWing as Kem>::EncappedKey::from_bytes(&mine.enc).map_err(|_| OpenError::Damaged)?;
    let key = single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        secret.key(),
        &enc,
        &info,
        &mine.wrapped,
        me.as_str().as_bytes(),
    )
    .map(Zeroizing::new)
    .map_err(|_| OpenError::Damaged)?;
    let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| OpenError::Damaged)?;
    let of_epoch = epoch.map(|epoch| content_key(key, epoch, &binding));
    let key = of_epoch.as_deref().unwrap_or(key);
    let plain = |sealed: &[u8], committed: &Digest| {
        if commitment(key, &binding) != *committed {
            return Err(OpenError::Damaged);
        }
        let mut body = Zeroizing::new(sealed.to_vec());
        let opened = body_key(key, &binding).open_in_place(
            nonce(),
            Aad::from(binding.as_bytes()),
            &mut body,
        );
        let length = opened.map_err(|_| OpenError::Damaged)?.len();
        body.truncate(length);
        Ok(body)
    };
    let (content, copy) = if header.numbered() {
        let copies = envelope.copies().map_err(OpenError::Form)?;
        let of = u32::try_from(copies.len()).unwrap_or(u32::MAX);
        let own = place.and_then(|p| copies.get(p));
        let own = own.ok_or(OpenError::Damaged)?;
        let text = plain(&own.sealed, &own.commitment)?;
        let (copy, content) = read_numbered(&text).map_err(OpenError::Form)?;
        // Number and count inside are those that the register has.
        if Some(copy.number) != mine.copy || copy.of != of {
            return Err(OpenError::OtherNumber);
        }
        (content, Some(copy))
    } else {
        let text = plain(envelope.content(), &header.sealing.commitment)?;
        (Content::decode(&text).map_err(OpenError::Form)?, None)
    };
    let named = content.attachments.iter().map(|a| &a.digest);
    if !named.eq(header.attachments.iter().map(|a| &a.digest)) {
        return Err(OpenError::Form(DecodeError::Form("attachments")));
    }
    if !established(header, &content) {
        return Err(OpenError::OtherContent);
    }
    Ok(Opened { content, copy })
}

/// Whether the act in the header, where there is one, is about this content.
fn established(header: &Header, content: &Content) -> bool {
    let act = header.act.as_ref();
    act.is_none_or(|a| a.said().subject == content.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SeededEntropy, sign_statement, verify_envelope, verify_statement};
    use ordonnans_certs::Validity;
    use ordonnans_certs::memory::Authority;
    use ordonnans_identity::FileSigner;
    use ordonnans_label::{Clearance, Kind, Level};
    use ordonnans_message::{MessageId, Precedence, Recipient, Role};

    /// An originator that tells the register one number and its recipient another is found out by the recipient.
    #[test]
    fn the_number_inside_is_the_one_of_the_register() {
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().expect("a time");
        let at = |t: Timestamp| {
            let ms = std::time::Duration::from_millis(t.as_millis());
            std::time::UNIX_EPOCH + ms
        };
        let day = Timestamp::from_millis(now.as_millis() - 86_400_000);
        let (from, until) = (at(day).into(), at(now.after(86_400_000)).into());
        let mut authority =
            Authority::new("crisis.example", Validity { from, until }).expect("an authority");
        let name = Name::new("a", Kind::Node, "crisis.example").expect("a name");
        let issued = authority.issue(&name, &Clearance::new(Level::StgG));
        let issued = issued.expect("a certificate");
        let signer =
            FileSigner::from_der(&issued.certificate, &issued.key_pkcs8()).expect("a signer");
        let trust = authority.trust().expect("trust");
        let mut entropy = SeededEntropy::new(1);
        let secret = SealSecret::generate(&mut entropy);
        let package = secret.package(&name, now.after(1000));
        let signed = sign_statement(&package, &signer).expect("signed");
        let keys = [verify_statement(signed, &trust, now).expect("its own")];
        let none = sha256(&[]);
        let header = Header {
            id: MessageId::new(now, [0; 10]),
            originator: name.clone(),
            author: None,
            label: "Stg.C // TOT 2036-01-01".parse().expect("a label"),
            recipients: vec![Recipient {
                node: name.clone(),
                person: None,
                role: Role::Action,
                precedence: Precedence::Routine,
            }],
            exercise: true,
            created: now,
            expires: now.after(60_000),
            reply_by: None,
            references: vec![],
            supersedes: None,
            content: ContentRef {
                digest: none,
                length: 0,
            },
            attachments: vec![],
            sealing: Sealing {
                suite: SUITE_X_WING,
                commitment: none,
                seals: none,
            },
            act: None,
            groups: vec![],
            passed: None,
        };
        let content = Content::default();
        let binding = header.binding();
        for (number, of, expected) in [
            (1, 1, Ok(())),
            (2, 1, Err(OpenError::OtherNumber)),
            (1, 2, Err(OpenError::OtherNumber)),
        ] {
            let key = fresh(&mut entropy);
            let text = numbered_text(CopyNumber { number, of }, &content.encode());
            let package = key_of(&name, &keys, now).expect("a key");
            let seal =
                wrap(&key, package, Some(1), &info(&binding), &mut entropy).expect("wrapped");
            let copies = [SealedCopy {
                commitment: commitment(&key, &binding),
                sealed: seal_body(&key, text, &binding, limits::MAX_CONTENT).expect("sealed"),
            }];
            let (seals, body) = (Seal::encode_all(&[seal]), SealedCopy::encode_all(&copies));
            let header = Header {
                content: ContentRef {
                    digest: sha256(&[&body]),
                    length: u32::try_from(body.len()).expect("small"),
                },
                sealing: Sealing {
                    suite: SUITE_X_WING,
                    commitment: SealedCopy::commitment_of_all(&copies),
                    seals: sha256(&[&seals]),
                },
                ..header.clone()
            };
            let signed = sign(Purpose::Envelope, header.encode(), &signer).expect("signed");
            let envelope = Envelope::new(signed, seals, body.into()).expect("fits");
            let verified = verify_envelope(envelope, &trust, now).expect("authentic");
            let opened = open(&verified, std::slice::from_ref(&secret), &name);
            assert_eq!(opened.map(drop), expected);
        }
    }
}
