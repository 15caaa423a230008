//! That every part which holds a secret wipes itself: checked when this compiles, so that a feature of a dependency that is
//! switched off does not go unnoticed. Holds tests only.

use crate::keys::SecretScalar;
use crate::messages::ShareValue;
use crate::ring_vector::RingVector;
use aes::Aes256Enc;
use ctr::Ctr128BE;
use std::mem::needs_drop;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Compiles only for a type that wipes itself.
const fn wiped<T: ZeroizeOnDrop>() -> bool {
    needs_drop::<T>()
}

#[test]
fn whatever_holds_a_secret_wipes_it() {
    let types = [
        // Of ours.
        wiped::<SecretScalar>(),
        wiped::<ShareValue>(),
        wiped::<RingVector>(),
        // Of others, behind the feature `zeroize` of their crates.
        wiped::<Zeroizing<[u8; 32]>>(),
        wiped::<x25519_dalek::StaticSecret>(),
        wiped::<x25519_dalek::SharedSecret>(),
        wiped::<ed25519_dalek::SigningKey>(),
        wiped::<Aes256Enc>(),
        wiped::<Ctr128BE<Aes256Enc>>(),
    ];
    assert!(types.iter().all(|wiped| *wiped), "{types:?}");
}

#[test]
fn shares_are_equal_when_all_their_bytes_are() {
    let share = ShareValue(std::array::from_fn(|place| place as u8));
    assert_eq!(share, share.clone());
    for place in 0..32 {
        for bit in 0..8 {
            let mut other = share.clone();
            other.0[place] ^= 1 << bit;
            assert_ne!(share, other, "byte {place}");
        }
    }
}
