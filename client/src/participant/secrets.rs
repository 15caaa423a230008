//! What a client draws when it joins a round, and what it drew it for. Must never serve another plan or another update, nor be
//! printed: under one set of masks there is one vector.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::fmt;
use tacit_aggregation::Digest;
use tacit_aggregation::client::RoundSecrets;
use tacit_aggregation::context::Context;
use zeroize::{Zeroize as _, Zeroizing};

/// First bytes of what the noise of a round is derived from.
const NOISE: &[u8] = b"tacit/client/noise/v1";
/// First bytes of what binds the secrets to an update.
const UPDATE: &[u8] = b"tacit/client/update/v1";

/// Everything that determines what a client sends in a round, besides the update and the messages received. It is stored
/// before the advert is sent. Zeroised on drop.
pub struct JoinSecrets {
    pub(super) round: RoundSecrets,
    pub(super) bond: Bond,
}

/// The noise key, and the one plan and update that it noises.
pub(super) struct Bond {
    noise: Zeroizing<[u8; 32]>,
    plan: Digest,
    update: Digest,
}

impl JoinSecrets {
    /// Length of the stored form, in bytes.
    pub const BYTES: usize = RoundSecrets::BYTES + 96;

    /// Draws fresh secrets for a plan, by its digest, and an update that was trained from the adapter version `parent`.
    ///
    /// `rng` is operating-system randomness, but in simulations.
    pub fn generate<R: CryptoRng>(plan: Digest, parent: &Digest, delta: &[f32], rng: &mut R) -> Self {
        let round = RoundSecrets::generate(rng);
        let mut noise = Zeroizing::new([0; 32]);
        rng.fill_bytes(noise.as_mut_slice());
        let update = digest_of(&noise, parent, delta);
        Self { round, bond: Bond { noise, plan, update } }
    }

    /// The stored form: the secrets of secure aggregation, the noise key, the digests of plan and update.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::BYTES]> {
        stored(&self.round, &self.bond)
    }

    /// Reads the stored form; none when it is not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (round, bond) = bytes.split_first_chunk::<{ RoundSecrets::BYTES }>()?;
        let (noise, bond) = bond.split_first_chunk::<32>()?;
        let (plan, update) = bond.split_first_chunk::<32>()?;
        let bond = Bond { noise: Zeroizing::new(*noise), plan: *plan, update: update.try_into().ok()? };
        Some(Self { round: RoundSecrets::from_bytes(round)?, bond })
    }

    /// The generator of rounding and noise in one context, as in [`super::Shared::contribute`].
    #[must_use]
    pub fn noise(&self, context: &Context) -> NoiseRng {
        self.bond.noise(context.as_bytes())
    }
}

impl Bond {
    /// Whether these are the plan's secrets.
    pub(super) fn is_for_plan(&self, plan: &Digest) -> bool {
        self.plan == *plan
    }

    /// Whether these are the update's secrets.
    pub(super) fn is_for_update(&self, parent: &Digest, delta: &[f32]) -> bool {
        self.update == digest_of(&self.noise, parent, delta)
    }

    /// Rounding and noise of one context: in another, where the rotation is another, they are drawn anew.
    pub(super) fn noise(&self, context: &Digest) -> NoiseRng {
        let mut hash = Sha256::new_with_prefix(NOISE);
        hash.update(self.noise.as_slice());
        hash.update(context);
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(hash.finalize().into());
        NoiseRng(ChaCha20Rng::from_seed(*seed))
    }
}

/// The generator of rounding and noise in one context. Wiped on drop, not printed.
pub struct NoiseRng(ChaCha20Rng);

impl TryRng for NoiseRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for NoiseRng {}

impl Drop for NoiseRng {
    fn drop(&mut self) {
        // The generator cannot wipe itself: its key and its buffered output are overwritten by those of a public seed.
        self.0 = ChaCha20Rng::from_seed([0; 32]);
        let _ = self.0.next_u32();
        zeroize::optimization_barrier(self);
    }
}

impl fmt::Debug for NoiseRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseRng(redacted)")
    }
}

/// The stored form of [`JoinSecrets`].
pub(super) fn stored(round: &RoundSecrets, bond: &Bond) -> Zeroizing<[u8; JoinSecrets::BYTES]> {
    let mut bytes = Zeroizing::new([0; JoinSecrets::BYTES]);
    let (first, rest) = bytes.split_at_mut(RoundSecrets::BYTES);
    first.copy_from_slice(round.to_bytes().as_slice());
    rest[..32].copy_from_slice(bond.noise.as_slice());
    rest[32..64].copy_from_slice(&bond.plan);
    rest[64..].copy_from_slice(&bond.update);
    bytes
}

/// Binds to an update, bit for bit. Keyed, so that who reads the digest alone cannot test a guess at the update.
fn digest_of(noise: &[u8; 32], parent: &Digest, delta: &[f32]) -> Digest {
    let mut hash = Sha256::new_with_prefix(UPDATE);
    hash.update(noise);
    hash.update(parent);
    let mut block = Zeroizing::new(Vec::with_capacity(4096));
    for values in delta.chunks(1024) {
        block.zeroize();
        values.iter().for_each(|value| block.extend_from_slice(&value.to_bits().to_be_bytes()));
        hash.update(block.as_slice());
    }
    hash.finalize().into()
}

impl fmt::Debug for JoinSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecrets(redacted)")
    }
}

impl fmt::Debug for Bond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bond(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::JoinSecrets;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    fn secrets() -> JoinSecrets {
        JoinSecrets::generate([1; 32], &[2; 32], &[0.5; 3000], &mut ChaCha20Rng::seed_from_u64(1))
    }

    #[test]
    fn the_stored_form_gives_the_same_secrets() {
        let secrets = secrets();
        let bytes = secrets.to_bytes();
        let back = JoinSecrets::from_bytes(&bytes).expect("its own form");
        assert_eq!(back.to_bytes(), bytes);
        assert_eq!(back.bond.noise(&[3; 32]).next_u64(), secrets.bond.noise(&[3; 32]).next_u64());
        assert_eq!(format!("{back:?} {:?}", back.bond), "JoinSecrets(redacted) Bond(redacted)");
    }

    #[test]
    fn they_are_for_one_plan_one_update_and_one_context() {
        let bond = secrets().bond;
        assert!(bond.is_for_plan(&[1; 32]) && !bond.is_for_plan(&[2; 32]));
        assert!(bond.is_for_update(&[2; 32], &[0.5; 3000]));
        assert!(!bond.is_for_update(&[1; 32], &[0.5; 3000]));
        assert!(!bond.is_for_update(&[2; 32], &[0.5; 2999]));
        let mut last = [0.5; 3000];
        last[2999] = 0.500_000_06;
        assert!(!bond.is_for_update(&[2; 32], &last));
        assert_ne!(bond.noise(&[3; 32]).next_u64(), bond.noise(&[4; 32]).next_u64());
    }
}
