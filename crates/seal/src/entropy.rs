//! Where random bytes come from: the system, or a seed where a run must repeat.

use hpke::rand_core::{TryCryptoRng, TryRng};
use ordonnans_message::sha256;
use ring::rand::{SecureRandom, SystemRandom};

/// Gives random bytes.
pub trait Entropy: Send {
    /// Fills the buffer.
    fn fill(&mut self, buffer: &mut [u8]);
}

/// The system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// Where the kernel gives no random numbers: nothing secret can be made on such a machine.
    fn fill(&mut self, buffer: &mut [u8]) {
        assert!(
            SystemRandom::new().fill(buffer).is_ok(),
            "the system gives no random numbers"
        );
    }
}

/// Bytes that follow from a seed: for tests and simulations, so that a run repeats. **Never** where a secret is made in earnest: who
/// knows the seed knows every byte.
#[derive(Clone, Debug)]
pub struct SeededEntropy {
    seed: u64,
    block: u64,
}

impl SeededEntropy {
    /// The stream of a seed, from its start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, block: 0 }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let block = sha256(&[
                b"ordonnans/1 seeded entropy",
                &self.seed.to_be_bytes(),
                &self.block.to_be_bytes(),
            ]);
            self.block += 1;
            chunk.copy_from_slice(&block.as_bytes()[..chunk.len()]);
        }
    }
}

/// An [`Entropy`] as the HPKE library asks for one.
pub(crate) struct Rng<'a>(pub(crate) &'a mut dyn Entropy);

impl TryRng for Rng<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut b = [0; 4];
        self.0.fill(&mut b);
        Ok(u32::from_le_bytes(b))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut b = [0; 8];
        self.0.fill(&mut b);
        Ok(u64::from_le_bytes(b))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(dst);
        Ok(())
    }
}

impl TryCryptoRng for Rng<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let draw = |seed| {
            let mut e = SeededEntropy::new(seed);
            let mut b = [0; 70];
            e.fill(&mut b);
            b
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemEntropy.fill(&mut a);
        SystemEntropy.fill(&mut b);
        assert_ne!(a, b);
    }
}
