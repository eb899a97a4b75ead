//! X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem): the hybrid key exchange, of ML-KEM-768 (FIPS 203) by libcrux and X25519 by ring.
//!
//! The client's share is the encapsulation key and the X25519 key, the server's the ciphertext and its X25519 key; the secret is both
//! secrets, ML-KEM's first. Both halves must fail for the secret to be known.

use libcrux_ml_kem::mlkem768::{
    MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey, decapsulate, encapsulate,
    generate_key_pair, validate_public_key,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};

const ENCAPSULATION_KEY: usize = 1184;
const CIPHERTEXT: usize = 1088;
const ECDH: usize = 32;

/// The group.
#[derive(Debug)]
pub(crate) struct Hybrid;

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::FailedToGetRandomBytes)?;
    Ok(bytes)
}

fn invalid() -> Error {
    PeerMisbehaved::InvalidKeyShare.into()
}

fn both(kem: &[u8], ecdh: &SharedSecret) -> SharedSecret {
    SharedSecret::from([kem, ecdh.secret_bytes()].concat())
}

impl SupportedKxGroup for Hybrid {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let ecdh = X25519.start()?;
        let (key, encapsulation) = generate_key_pair(random()?).into_parts();
        let share = [encapsulation.as_ref(), ecdh.pub_key()].concat();
        Ok(Box::new(Active { ecdh, key, share }))
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (encapsulation, peer_ecdh) = peer
            .split_first_chunk::<ENCAPSULATION_KEY>()
            .filter(|(_, rest)| rest.len() == ECDH)
            .ok_or_else(invalid)?;
        let encapsulation = MlKem768PublicKey::from(encapsulation);
        if !validate_public_key(&encapsulation) {
            return Err(invalid());
        }
        let ecdh = X25519.start_and_complete(peer_ecdh)?;
        let (ciphertext, kem) = encapsulate(&encapsulation, random()?);
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [ciphertext.as_ref(), &ecdh.pub_key].concat(),
            secret: both(&kem, &ecdh.secret),
        })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

struct Active {
    ecdh: Box<dyn ActiveKeyExchange>,
    key: MlKem768PrivateKey,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Active {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, peer_ecdh) = peer
            .split_first_chunk::<CIPHERTEXT>()
            .filter(|(_, rest)| rest.len() == ECDH)
            .ok_or_else(invalid)?;
        let kem = decapsulate(&self.key, &MlKem768Ciphertext::from(ciphertext));
        Ok(both(&kem, &self.ecdh.complete(peer_ecdh)?))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((NamedGroup::X25519, self.ecdh.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        self.ecdh.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

#[cfg(test)]
mod tests {
    use ml_kem::kem::{Decapsulate, KeyExport};
    use ml_kem::{DecapsulationKey, EncapsulationKey, MlKem768};

    use super::*;

    type Theirs = DecapsulationKey<MlKem768>;

    #[test]
    fn another_implementation_makes_the_same_keys_of_a_seed() {
        let seed: [u8; 64] = random().expect("random");
        let ours = generate_key_pair(seed);
        let theirs = Theirs::from_seed(seed.into());
        let key = theirs.encapsulation_key().to_bytes();
        assert_eq!(ours.pk()[..], key[..]);
    }

    #[test]
    fn a_client_of_another_implementation_agrees_with_our_server() {
        let key = Theirs::from_seed(random().expect("random").into());
        let ecdh = X25519.start().expect("starts");
        let share = [
            key.encapsulation_key().to_bytes().as_slice(),
            ecdh.pub_key(),
        ]
        .concat();
        let server = Hybrid.start_and_complete(&share).expect("completes");
        let (ciphertext, peer) = server.pub_key.split_at(CIPHERTEXT);
        let kem = key.decapsulate_slice(ciphertext).expect("its length");
        let ecdh = ecdh.complete(peer).expect("completes");
        let secret = [kem.as_slice(), ecdh.secret_bytes()].concat();
        assert_eq!(secret, server.secret.secret_bytes());
    }

    #[test]
    fn a_server_of_another_implementation_agrees_with_our_client() {
        let client = Hybrid.start().expect("starts");
        let (key, peer) = client.pub_key().split_at(ENCAPSULATION_KEY);
        let key = key.try_into().expect("its length");
        let key = EncapsulationKey::<MlKem768>::new(&key).expect("a key");
        let drawn: [u8; 32] = random().expect("random");
        let (ciphertext, kem) = key.encapsulate_deterministic(&drawn.into());
        let ecdh = X25519.start_and_complete(peer).expect("completes");
        let share = [ciphertext.as_slice(), &ecdh.pub_key].concat();
        let ours = client.complete(&share).expect("completes");
        let secret = [kem.as_slice(), ecdh.secret.secret_bytes()].concat();
        assert_eq!(secret, ours.secret_bytes());
    }

    #[test]
    fn both_sides_agree() {
        let client = Hybrid.start().expect("starts");
        assert_eq!(client.pub_key().len(), ENCAPSULATION_KEY + ECDH);
        let server = Hybrid
            .start_and_complete(client.pub_key())
            .expect("completes");
        assert_eq!(server.pub_key.len(), CIPHERTEXT + ECDH);
        let ours = client.complete(&server.pub_key).expect("completes");
        assert_eq!(ours.secret_bytes(), server.secret.secret_bytes());
        assert_eq!(ours.secret_bytes().len(), 64);
    }

    #[test]
    fn shares_of_another_length_or_form_are_refused() {
        let share = Hybrid.start().expect("starts").pub_key().to_vec();
        for bad in [
            &share[..share.len() - 1],
            &[share.as_slice(), &[0]].concat(),
            &[],
        ] {
            assert!(Hybrid.start_and_complete(bad).is_err());
            assert!(Hybrid.start().expect("starts").complete(bad).is_err());
        }
        // Coefficients above the modulus.
        let mut bad = share;
        bad[..ENCAPSULATION_KEY - 32].fill(0xff);
        assert!(Hybrid.start_and_complete(&bad).is_err());
    }
}
