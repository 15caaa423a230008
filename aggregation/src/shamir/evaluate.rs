//! Values of a secret polynomial at small public points. Must never branch on a coefficient or on a value.
//!
//! Horner's rule in the scalar field costs two Montgomery products and two reductions a coefficient. But the points are
//! cohort indices, so several powers of one fit into a word: a block of coefficients is folded with one product of four words
//! by one each, and reduced once.

use crate::keys::SecretScalar;
use curve25519_dalek::scalar::Scalar;
use zeroize::{Zeroize as _, Zeroizing};

/// The group order is 2^252 + C.
const C: [u64; 2] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6];

/// The group order, least significant word first.
const ORDER: [u64; 4] = [C[0], C[1], 0, 1 << 60];

/// The power of a point that closes a block stays below 2^56: then what a block adds up to is below 2^314.
const POWER_BITS: u32 = 56;

/// Most coefficients in a block.
const BLOCK: usize = 8;

/// The value at x of the polynomial with the given coefficients, the constant one first.
pub(super) fn evaluate(coefficients: &[SecretScalar], x: u32) -> SecretScalar {
    let mut powers = vec![1u64];
    while powers.len() <= BLOCK {
        let next = u128::from(powers[powers.len() - 1]) * u128::from(x);
        if next >> POWER_BITS != 0 {
            break;
        }
        powers.push(next as u64);
    }
    let length = powers.len() - 1;
    let step = powers[length];
    let mut value = Zeroizing::new([0u64; 4]);
    for block in coefficients.chunks(length).rev() {
        let mut sum = Zeroizing::new([0u64; 5]);
        add_product(&mut sum, &value, step);
        for (coefficient, &power) in block.iter().zip(&powers) {
            let mut words = words_of(coefficient.get());
            add_product(&mut sum, &words, power);
            words.zeroize();
        }
        reduce(&sum, &mut value);
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(value.iter()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    SecretScalar::new(Scalar::from_bytes_mod_order(*bytes))
}

fn words_of(scalar: &Scalar) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(scalar.as_bytes().chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
    }
    words
}

/// Adds `factor` times `words`; the sum is below 2^320.
fn add_product(sum: &mut [u64; 5], words: &[u64; 4], factor: u64) {
    let mut carry = 0u64;
    for (sum, &word) in sum.iter_mut().zip(words) {
        // At most (2^64-1)^2 + 2 (2^64-1) = 2^128 - 1.
        let wide = u128::from(word) * u128::from(factor) + u128::from(*sum) + u128::from(carry);
        *sum = wide as u64;
        carry = (wide >> 64) as u64;
    }
    sum[4] += carry;
}

/// A value below 2^254 that is congruent to a sum below 2^314: the part above 2^252, which is below 2^62, is replaced by its
/// -C-fold, and the order is added so that nothing is negative.
fn reduce(sum: &[u64; 5], value: &mut [u64; 4]) {
    let above = sum[4] << 4 | sum[3] >> 60;
    let low = u128::from(above) * u128::from(C[0]);
    let high = u128::from(above) * u128::from(C[1]) + (low >> 64);
    let removed = [low as u64, high as u64, (high >> 64) as u64, 0];
    let kept = [sum[0], sum[1], sum[2], sum[3] & ((1 << 60) - 1)];
    let mut carry = 0i128;
    for (index, value) in value.iter_mut().enumerate() {
        carry += i128::from(kept[index]) + i128::from(ORDER[index]) - i128::from(removed[index]);
        *value = carry as u64;
        carry >>= 64;
    }
}

#[cfg(test)]
mod tests {
    use super::{C, ORDER, evaluate, reduce};
    use crate::keys::SecretScalar;
    use curve25519_dalek::scalar::Scalar;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    /// Horner's rule in the scalar field.
    fn plain(coefficients: &[Scalar], x: u32) -> Scalar {
        coefficients.iter().rev().fold(Scalar::ZERO, |value, c| value * Scalar::from(x) + c)
    }

    fn check(coefficients: &[Scalar], x: u32) {
        let secret: Vec<SecretScalar> = coefficients.iter().map(|&c| SecretScalar::new(c)).collect();
        assert_eq!(evaluate(&secret, x).get(), &plain(coefficients, x), "{} at {x}", coefficients.len());
    }

    proptest! {
        #[test]
        fn values_are_those_of_horners_rule(
            seeds in proptest::collection::vec(any::<[u8; 32]>(), 1..40), x in 1u32.., small in 1u32..20_000,
        ) {
            let coefficients: Vec<Scalar> = seeds.into_iter().map(Scalar::from_bytes_mod_order).collect();
            check(&coefficients, x);
            check(&coefficients, small);
        }

        #[test]
        fn sums_are_reduced(low in any::<[u64; 4]>(), top in 0u64..1 << 58) {
            let mut value = [0; 4];
            reduce(&[low[0], low[1], low[2], low[3], top], &mut value);
            proptest::prop_assert!(value[3] < 1 << 62, "below 2^254");
            let scalar = |words: &[u64]| {
                words.iter().rev().fold(Scalar::ZERO, |sum, &w| {
                    sum * (Scalar::from(1u128 << 64)) + Scalar::from(w)
                })
            };
            prop_assert_eq!(scalar(&value), scalar(&[low[0], low[1], low[2], low[3], top]));
        }
    }

    #[test]
    fn the_largest_coefficients_and_every_block_length_work() {
        let largest = -Scalar::ONE;
        for x in [1, 2, 3, 127, 128, 129, 255, 256, 257, 1 << 14, (1 << 14) + 1, 1 << 28, u32::MAX] {
            for count in [1, 2, 3, 7, 8, 9, 63, 64, 65] {
                check(&vec![largest; count], x);
                check(&vec![Scalar::ZERO; count], x);
            }
        }
    }

    #[test]
    fn the_order_is_that_of_the_group() {
        let words = |scalar: Scalar| super::words_of(&scalar);
        // -1 is the order less one.
        assert_eq!(words(-Scalar::ONE), [ORDER[0] - 1, ORDER[1], ORDER[2], ORDER[3]]);
        assert_eq!(C, [ORDER[0], ORDER[1]]);
    }
}
