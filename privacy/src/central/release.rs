//! From the clean sum that the coordinator holds for an instant to what it may show: noise and decoding in one step.
//! Must never give the sum out without noise, nor one sum under two noises, nor two sums under one noise.

use std::fmt;

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::CentralMechanism;
use crate::accountant::AccountantError;
use crate::decode::{check_ring, decode};
use crate::error::PipelineError;
use crate::keystream::KeyStream;
use crate::seed::RotationSeed;

/// First bytes of what the noise of a release is derived from.
const NOISE: &[u8] = b"tacit/central/noise/v1";
/// First bytes of what a commitment to a noise key is the digest of.
const COMMITMENT: &[u8] = b"tacit/central/commitment/v1";

/// The key of a round's noise: 32 bytes, drawn before the plan is signed and stored with it, so that a
/// coordinator that comes back after a crash adds the same noise to the same sum. Zeroised on drop; deleted with
/// the round.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct NoiseKey([u8; 32]);

/// The integer sum of rounded updates, before its noise. Nothing can be read out of it: [`Self::release`]
/// consumes it, adds the noise and decodes. Zeroised on drop.
///
/// ```compile_fail,E0616
/// # fn peek(sum: tacit_privacy::CentralSum) -> u32 {
/// sum.residues[0]
/// # }
/// ```
/// ```compile_fail,E0382
/// # fn twice(
/// #     sum: tacit_privacy::CentralSum, mechanism: &tacit_privacy::CentralMechanism,
/// #     seed: &tacit_privacy::RotationSeed, key: &tacit_privacy::NoiseKey,
/// # ) {
/// let first = sum.release(mechanism, 10, seed, key, &[0; 32]);
/// let second = sum.release(mechanism, 10, seed, key, &[1; 32]);
/// # }
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct CentralSum {
    residues: Vec<u32>,
}

/// What the coordinator may show of a round: the noised sum. Made only by [`CentralSum::release`].
#[derive(Clone, Debug, PartialEq)]
pub struct CentralRelease {
    sum: Vec<f32>,
    bit_sum: Option<i32>,
}

/// Why a sum is not released.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReleaseError {
    /// It has another length than the mechanism's ring vectors, or a residue outside the ring.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Too few updates are in it, or more than there are clients.
    #[error(transparent)]
    Survivors(#[from] AccountantError),
}

impl NoiseKey {
    /// Draws a key: from the operating system, but in simulations.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Self([0; 32]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// The key that was stored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The 32 bytes, for storage.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// The digest by which a plan binds the coordinator to this key before it knows the sum.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        Sha256::new_with_prefix(COMMITMENT).chain_update(self.0).finalize().into()
    }

    /// The noise of one sum in one context: a pseudorandom function of both under this key. (The prefix and
    /// the first three fields have fixed lengths, and the digest becomes a key that nobody sees.)
    fn noise_of(&self, context: &[u8; 32], residues: &[u32]) -> KeyStream {
        let mut hash = Sha256::new_with_prefix(NOISE);
        hash.update(self.0);
        hash.update(context);
        hash.update((residues.len() as u64).to_be_bytes());
        let mut block = Zeroizing::new([0_u8; 4096]);
        for part in residues.chunks(block.len() / 4) {
            for (four, residue) in block.as_chunks_mut().0.iter_mut().zip(part) {
                *four = residue.to_be_bytes();
            }
            hash.update(&block[..4 * part.len()]);
        }
        KeyStream::keyed(&Zeroizing::new(hash.finalize().into()))
    }
}

impl fmt::Debug for NoiseKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NoiseKey(redacted)")
    }
}

impl CentralSum {
    /// Takes the sum modulo 2^bits of rounded updates, as it comes out of secure aggregation.
    #[must_use]
    pub fn new(residues: Vec<u32>) -> Self {
        Self { residues }
    }

    /// Adds the noise of the plan, decodes, and forgets the clean sum.
    ///
    /// The noise is added modulo 2^bits, before residues are lifted to integers: clients that conspired to
    /// bring a coordinate to the edge of the ring would otherwise see it jump. It is a pseudorandom function of
    /// `context` (which names the plan and the cohort) and the sum under `key`: the same sum is released with
    /// the same noise however often, and another one with noise that has nothing to do with it.
    ///
    /// # Errors
    /// [`ReleaseError::Survivors`] below `n_min` or above n; [`ReleaseError::Pipeline`] for a sum that is not
    /// one of this mechanism. Nothing of the sum is left.
    pub fn release(
        mut self,
        mechanism: &CentralMechanism,
        survivors: u32,
        rotation: &RotationSeed,
        key: &NoiseKey,
        context: &[u8; 32],
    ) -> Result<CentralRelease, ReleaseError> {
        mechanism.check_survivors(survivors)?;
        let (expected, found) = (mechanism.ring_dimension(), self.residues.len());
        if found != expected {
            return Err(PipelineError::DimensionMismatch { expected, found }.into());
        }
        let bits = mechanism.bits();
        check_ring(&self.residues, bits)?;
        let mut stream = key.noise_of(context, &self.residues);
        let mut integers: Zeroizing<Vec<i32>> =
            Zeroizing::new(self.residues.iter().map(|&residue| residue as i32).collect());
        let (coordinates, count) = integers.split_at_mut(mechanism.dimension());
        mechanism.sampler.add_to(coordinates, &mut stream);
        if let Some(sampler) = &mechanism.count_sampler {
            sampler.add_to(count, &mut stream);
        }
        let mask = u32::MAX >> (32 - bits);
        for (residue, &integer) in self.residues.iter_mut().zip(integers.iter()) {
            *residue = integer as u32 & mask;
        }
        let (coordinates, count) = self.residues.split_at(mechanism.dimension());
        let shift = 32 - bits;
        Ok(CentralRelease {
            sum: decode(coordinates, bits, mechanism.scale(), rotation),
            bit_sum: count.first().map(|residue| ((residue << shift) as i32) >> shift),
        })
    }
}

impl fmt::Debug for CentralSum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CentralSum({} residues, redacted)", self.residues.len())
    }
}

impl CentralRelease {
    /// The noised sum of the clipped updates, in their units.
    #[must_use]
    pub fn into_sum(self) -> Vec<f32> {
        self.sum
    }

    /// The noised sum of the clip bits, +1 for each update that was not clipped and -1 for each that was; none
    /// where the clip norm stays.
    #[must_use]
    pub fn bit_sum(&self) -> Option<i32> {
        self.bit_sum
    }
}

impl CentralMechanism {
    /// Refuses a number of survivors with which nothing is released.
    pub(crate) fn check_survivors(&self, survivors: u32) -> Result<(), AccountantError> {
        let (n_min, clients) = (self.n_min(), self.clients());
        if survivors < n_min {
            return Err(AccountantError::TooFewSurvivors { survivors, n_min });
        }
        if survivors > clients {
            return Err(AccountantError::MoreSurvivorsThanClients { survivors, clients });
        }
        Ok(())
    }
}
