//! Ed25519 verification, one by one or in batches. Must never accept in a batch what nobody with the key signed.
//!
//! A batch is a random linear combination of the single equations (Bernstein, Duif, Lange, Schwabe, Yang 2011): it accepts
//! every list of valid signatures, and rejects one that holds a forgery but for a probability of about 2^-125. It may accept
//! a signature that differs from a valid one by a point of small order; only the owner of the key can make such a one, so
//! authorship is proved all the same.

use crate::identity::Signature;
use ed25519_dalek::VerifyingKey;

/// A signature to check.
pub(crate) struct Claim {
    pub(crate) key: VerifyingKey,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Signature,
}

impl Claim {
    pub(crate) fn new(key: VerifyingKey, payload: Vec<u8>, signature: &Signature) -> Self {
        Self { key, payload, signature: *signature }
    }
}

/// Checks one signature, refusing keys of small order.
pub(crate) fn verify(key: &VerifyingKey, payload: &[u8], signature: &Signature) -> bool {
    key.verify_strict(payload, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
}

/// Checks all of them.
///
/// # Errors
/// The index of the first one that does not verify.
pub(crate) fn verify_all(claims: &[Claim]) -> Result<(), usize> {
    if claims.len() > 1 {
        let payloads: Vec<&[u8]> = claims.iter().map(|claim| claim.payload.as_slice()).collect();
        let signatures: Vec<_> =
            claims.iter().map(|claim| ed25519_dalek::Signature::from_bytes(&claim.signature.0)).collect();
        let keys: Vec<VerifyingKey> = claims.iter().map(|claim| claim.key).collect();
        if ed25519_dalek::verify_batch(&payloads, &signatures, &keys).is_ok() {
            return Ok(());
        }
    }
    match claims.iter().position(|claim| !verify(&claim.key, &claim.payload, &claim.signature)) {
        Some(index) => Err(index),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, verify_all};
    use crate::identity::IdentityKey;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn claims(count: usize) -> Vec<Claim> {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        (0..count)
            .map(|index| {
                let key = IdentityKey::generate(&mut rng);
                let payload = vec![index as u8; index + 1];
                let signature = key.sign(&payload);
                Claim { key: key.public_key().verifying().expect("a key"), payload, signature }
            })
            .collect()
    }

    #[test]
    fn a_batch_holds_exactly_when_every_signature_does() {
        for count in [0, 1, 2, 20] {
            assert_eq!(verify_all(&claims(count)), Ok(()));
            for bad in 0..count {
                let mut claims = claims(count);
                claims[bad].payload[0] ^= 1;
                assert_eq!(verify_all(&claims), Err(bad), "{bad} of {count}");
            }
        }
        let mut swapped = claims(3);
        let moved = swapped[0].signature;
        swapped[0].signature = swapped[2].signature;
        swapped[2].signature = moved;
        assert_eq!(verify_all(&swapped), Err(0));
    }
}
