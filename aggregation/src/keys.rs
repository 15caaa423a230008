//! A client's keys for one round: the X25519 channel key that seals shares, and the Ristretto255 key behind the pair masks.
//! Must never print, copy or keep a secret longer than its owner lives.

use crate::context::Context;
use crate::identity::ClientId;
use crate::kdf;
use crate::mask::MaskKey;
use crate::messages::CIPHERTEXT_BYTES;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use ring::aead;
use std::fmt;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A secret scalar. Zeroised on drop, not printed.
#[derive(Clone, Default)]
pub struct SecretScalar(Scalar);

impl SecretScalar {
    pub(crate) fn new(scalar: Scalar) -> Self {
        Self(scalar)
    }

    /// From 64 uniform bytes, reduced mod the group order.
    #[must_use]
    pub fn from_uniform(bytes: &[u8; 64]) -> Self {
        Self(Scalar::from_bytes_mod_order_wide(bytes))
    }

    /// From the canonical encoding, none for any other.
    #[must_use]
    pub fn from_canonical(bytes: &[u8; 32]) -> Option<Self> {
        Option::from(Scalar::from_canonical_bytes(*bytes)).map(Self)
    }

    pub(crate) fn get(&self) -> &Scalar {
        &self.0
    }

    /// The canonical encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    pub(crate) fn public(&self) -> RistrettoPoint {
        RistrettoPoint::mul_base(&self.0)
    }
}

impl Drop for SecretScalar {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SecretScalar {}

impl fmt::Debug for SecretScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretScalar(redacted)")
    }
}

/// Decodes a mask key S_v; none when it is no point, or the identity, which would make the pair mask public.
pub(crate) fn mask_point(encoded: &[u8; 32]) -> Option<RistrettoPoint> {
    CompressedRistretto(*encoded).decompress().filter(|point| !point.is_identity())
}

/// Whether an X25519 public key contributes to an agreement, and is the only encoding of itself: one of small order gives zero
/// with every secret, and one of several encodings would hide that two members have one key.
pub(crate) fn channel_key_contributes(encoded: &[u8; 32]) -> bool {
    is_canonical(encoded) && StaticSecret::from([1; 32]).diffie_hellman(&(*encoded).into()).was_contributory()
}

/// Whether 32 bytes, little-endian, are below 2^255 - 19. X25519 itself ignores the highest bit and reduces the others.
fn is_canonical(encoded: &[u8; 32]) -> bool {
    encoded[31] < 0x7f || encoded[31] == 0x7f && (encoded[0] < 0xed || encoded[1..31] != [0xff; 30])
}

/// Key of the mask between the owner of a mask secret and a client with a public mask key: HKDF(s_u S_v).
pub(crate) fn pair_mask_key(
    context: &Context,
    secret: &SecretScalar,
    own: ClientId,
    other: ClientId,
    other_key: &RistrettoPoint,
) -> MaskKey {
    let mut product = secret.get() * other_key;
    let shared = Zeroizing::new(product.compress().to_bytes());
    product.zeroize();
    MaskKey::new(kdf::derive(context, shared.as_slice(), &kdf::pair_mask(own, other)))
}

/// Key of a client's self-mask: HKDF(b_u).
pub(crate) fn self_mask_key(context: &Context, seed: &SecretScalar) -> MaskKey {
    MaskKey::new(kdf::derive(context, seed.to_bytes().as_slice(), kdf::SELF_MASK))
}

/// The keys of one channel: one for each direction, each for a single envelope.
pub(crate) struct Channel {
    pub(crate) sealing: EnvelopeKey,
    pub(crate) opening: EnvelopeKey,
}

impl Channel {
    /// Agrees with another client; none when its key contributes nothing (an all-zero result) or has other encodings.
    pub(crate) fn agree(
        context: &Context,
        secret: &StaticSecret,
        own: ClientId,
        other: ClientId,
        other_key: &[u8; 32],
    ) -> Option<Self> {
        let shared = secret.diffie_hellman(&(*other_key).into());
        if !is_canonical(other_key) || !shared.was_contributory() {
            return None;
        }
        let key = |from, to| EnvelopeKey(kdf::derive(context, shared.as_bytes(), &kdf::share_enc(from, to)));
        Some(Self { sealing: key(own, other), opening: key(other, own) })
    }
}

/// An AES-256-GCM key that seals exactly one envelope, hence under the all-zero nonce; ctx is the associated data.
pub(crate) struct EnvelopeKey(Zeroizing<[u8; 32]>);

impl EnvelopeKey {
    fn cipher(&self) -> aead::LessSafeKey {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, self.0.as_slice());
        aead::LessSafeKey::new(key.expect("AES-256 keys have 32 bytes"))
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals share of b, then share of s. Consumes the key.
    pub(crate) fn seal(
        self,
        context: &Context,
        self_mask: &SecretScalar,
        mask_key: &SecretScalar,
    ) -> [u8; CIPHERTEXT_BYTES] {
        let mut sealed = [0; CIPHERTEXT_BYTES];
        sealed[..32].copy_from_slice(self_mask.to_bytes().as_slice());
        sealed[32..64].copy_from_slice(mask_key.to_bytes().as_slice());
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(nonce, aead::Aad::from(context.as_bytes()), &mut sealed[..64])
            .expect("64 bytes are within AES-GCM's limit");
        sealed[64..].copy_from_slice(tag.as_ref());
        sealed
    }

    /// Opens (share of b, share of s); none when the envelope was not sealed under this key and context, or when a share
    /// is not a canonical scalar.
    pub(crate) fn open(
        &self,
        context: &Context,
        ciphertext: &[u8; CIPHERTEXT_BYTES],
    ) -> Option<(SecretScalar, SecretScalar)> {
        let mut opened = Zeroizing::new(*ciphertext);
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let plain = self
            .cipher()
            .open_in_place(nonce, aead::Aad::from(context.as_bytes()), opened.as_mut_slice())
            .ok()?;
        let (self_mask, mask_key) = plain.split_first_chunk::<32>()?;
        Some((
            SecretScalar::from_canonical(self_mask)?,
            SecretScalar::from_canonical(mask_key.first_chunk::<32>()?)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, SecretScalar, mask_point, pair_mask_key};
    use crate::context::Context;
    use crate::identity::ClientId;
    use crate::params::tests_support::{params, terms};
    use curve25519_dalek::scalar::Scalar;
    use x25519_dalek::{PublicKey, StaticSecret};

    fn context(root: u8) -> Context {
        Context::new(&terms(), &params(10), &[root; 32])
    }

    #[test]
    fn envelopes_open_only_for_their_receiver_direction_and_context() {
        let (alice, bob) = (StaticSecret::from([1; 32]), StaticSecret::from([2; 32]));
        let (a, b) = (ClientId(7), ClientId(9));
        let channel = |context: &Context, own_is_alice: bool| {
            let (secret, own, other, key) = if own_is_alice {
                (&alice, a, b, PublicKey::from(&bob))
            } else {
                (&bob, b, a, PublicKey::from(&alice))
            };
            Channel::agree(context, secret, own, other, key.as_bytes()).expect("contributory")
        };
        let ctx = context(1);
        let (first, second) = (SecretScalar::new(Scalar::from(11u8)), SecretScalar::new(Scalar::from(12u8)));
        let sealed = channel(&ctx, true).sealing.seal(&ctx, &first, &second);
        let (opened_first, opened_second) =
            channel(&ctx, false).opening.open(&ctx, &sealed).expect("bob opens it");
        assert_eq!(opened_first.get(), first.get());
        assert_eq!(opened_second.get(), second.get());

        assert!(
            channel(&ctx, false).sealing.open(&ctx, &sealed).is_none(),
            "the other direction has its own key"
        );
        assert!(channel(&ctx, false).opening.open(&context(2), &sealed).is_none(), "ctx is associated data");
        assert!(channel(&context(2), false).opening.open(&ctx, &sealed).is_none(), "ctx salts the key");
        for byte in 0..sealed.len() {
            let mut altered = sealed;
            altered[byte] ^= 1;
            assert!(channel(&ctx, false).opening.open(&ctx, &altered).is_none(), "byte {byte}");
        }
    }

    #[test]
    fn keys_that_contribute_nothing_are_refused() {
        let ctx = context(1);
        let secret = StaticSecret::from([1; 32]);
        let mut low_order_one = [0; 32];
        low_order_one[0] = 1;
        assert!(super::channel_key_contributes(PublicKey::from(&secret).as_bytes()));
        let mut prime = [0xff; 32];
        (prime[0], prime[31]) = (0xed, 0x7f);
        let (mut largest, mut nine_again) = (prime, prime);
        largest[0] -= 1;
        nine_again[0] += 9;
        let mut high_bit = PublicKey::from(&secret).to_bytes();
        high_bit[31] |= 0x80;
        // -1 is of small order, and canonical: it is refused for the one reason alone, as the others for theirs.
        assert!(super::is_canonical(&largest) && !super::channel_key_contributes(&largest));
        assert!(![prime, nine_again, high_bit].iter().any(super::is_canonical));
        for useless in [[0; 32], low_order_one, largest, prime, nine_again, high_bit] {
            assert!(!super::channel_key_contributes(&useless));
            assert!(Channel::agree(&ctx, &secret, ClientId(1), ClientId(2), &useless).is_none());
        }
        assert!(mask_point(&[0; 32]).is_none(), "the identity");
        assert!(mask_point(&[0xff; 32]).is_none(), "no point");
    }

    #[test]
    fn pair_masks_agree_and_differ_by_context() {
        let (s, t) = (SecretScalar::new(Scalar::from(5u8)), SecretScalar::new(Scalar::from(6u8)));
        let (a, b) = (ClientId(1), ClientId(2));
        let ctx = context(1);
        let one = pair_mask_key(&ctx, &s, a, b, &t.public());
        let other = pair_mask_key(&ctx, &t, b, a, &s.public());
        assert_eq!(one.as_bytes(), other.as_bytes());
        assert_ne!(one.as_bytes(), pair_mask_key(&context(2), &s, a, b, &t.public()).as_bytes());
        assert_ne!(one.as_bytes(), pair_mask_key(&ctx, &s, a, ClientId(3), &t.public()).as_bytes());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", SecretScalar::new(Scalar::from(5u8))), "SecretScalar(redacted)");
    }
}
