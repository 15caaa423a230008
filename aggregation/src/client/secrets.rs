//! The secrets that a client draws for one round. Must never be derived from the identity key, reused in a second round, or
//! printed.

use crate::context::Context;
use crate::kdf;
use crate::keys::SecretScalar;
use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use rand_core::CryptoRng;
use std::fmt;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Everything that a client draws for a round: all else follows from it and from the messages received. Zeroised on drop.
pub struct RoundSecrets {
    pub(super) channel: StaticSecret,
    pub(super) mask_key: SecretScalar,
    pub(super) seed: Zeroizing<[u8; 32]>,
    pub(super) nonce: [u8; 32],
}

impl RoundSecrets {
    /// Length of the stored form, in bytes.
    pub const BYTES: usize = 128;

    /// Draws fresh secrets.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let channel = StaticSecret::random_from_rng(rng);
        let mut uniform = Zeroizing::new([0; 64]);
        let mut seed = Zeroizing::new([0; 32]);
        let mut nonce = [0; 32];
        rng.fill_bytes(uniform.as_mut_slice());
        rng.fill_bytes(seed.as_mut_slice());
        rng.fill_bytes(&mut nonce);
        Self { channel, mask_key: SecretScalar::from_uniform(&uniform), seed, nonce }
    }

    /// The stored form: X25519 secret, s_u, seed, nonce.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::BYTES]> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        bytes[..32].copy_from_slice(self.channel.as_bytes());
        bytes[32..64].copy_from_slice(self.mask_key.to_bytes().as_slice());
        bytes[64..96].copy_from_slice(self.seed.as_slice());
        bytes[96..].copy_from_slice(&self.nonce);
        bytes
    }

    /// Reads the stored form; none when it is not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let part = |index: usize| {
            let mut part = Zeroizing::new([0; 32]);
            part.copy_from_slice(&bytes[32 * index..32 * (index + 1)]);
            part
        };
        Some(Self {
            channel: StaticSecret::from(*part(0)),
            mask_key: SecretScalar::from_canonical(&part(1))?,
            seed: part(2),
            nonce: *part(3),
        })
    }

    /// The scalars of this round: the self-mask seed b first, then the coefficients. Another context gives others.
    pub(crate) fn polynomials(&self, context: &Context) -> UniformScalars {
        UniformScalars::new(&kdf::derive(context, self.seed.as_slice(), kdf::POLYNOMIALS))
    }

    /// The channel with another client.
    #[cfg(test)]
    pub(crate) fn channel(
        &self,
        context: &Context,
        own: crate::identity::ClientId,
        other: crate::identity::ClientId,
        other_key: &[u8; 32],
    ) -> crate::keys::Channel {
        crate::keys::Channel::agree(context, &self.channel, own, other, other_key).expect("contributes")
    }

    /// Key of the weights for the batch check of shares, which their senders must not foresee.
    pub(super) fn share_check(&self, context: &Context) -> Zeroizing<[u8; 32]> {
        kdf::derive(context, self.seed.as_slice(), kdf::SHARE_CHECK)
    }
}

impl fmt::Debug for RoundSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoundSecrets(redacted)")
    }
}

/// Uniform scalars from AES-256-CTR, 64 bytes each, reduced mod the group order.
pub(crate) struct UniformScalars(Ctr128BE<Aes256Enc>);

impl UniformScalars {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Ctr128BE::<Aes256Enc>::new(key.into(), &[0; 16].into()))
    }

    pub(crate) fn draw(&mut self) -> SecretScalar {
        let mut bytes = Zeroizing::new([0; 64]);
        self.0.write_keystream(bytes.as_mut_slice());
        SecretScalar::from_uniform(&bytes)
    }

    /// A weight of 128 bits.
    pub(crate) fn weight(&mut self) -> u128 {
        let mut bytes = Zeroizing::new([0; 16]);
        self.0.write_keystream(bytes.as_mut_slice());
        u128::from_le_bytes(*bytes)
    }
}
