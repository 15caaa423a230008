//! A sharing polynomial: made, evaluated, committed to, and forgotten. Must never be evaluated at zero.

use super::Commitments;
use super::evaluate::evaluate;
use crate::keys::SecretScalar;
use curve25519_dalek::scalar::Scalar;
use std::fmt;

/// A polynomial of degree t-1 whose value at zero is the secret. Zeroised on drop.
pub struct Polynomial(Vec<SecretScalar>);

impl Polynomial {
    /// From a secret, the threshold t and a source of uniform scalars for the other t-1 coefficients. Draws again for a zero, whose
    /// commitment would be refused.
    #[must_use]
    pub fn new(secret: SecretScalar, threshold: u32, mut uniform: impl FnMut() -> SecretScalar) -> Self {
        let mut coefficients = Vec::with_capacity(threshold as usize);
        coefficients.push(secret);
        while coefficients.len() < threshold as usize {
            let coefficient = uniform();
            if *coefficient.get() != Scalar::ZERO {
                coefficients.push(coefficient);
            }
        }
        Self(coefficients)
    }

    /// Commitments to all coefficients, without decoded points.
    #[must_use]
    pub fn commit(&self) -> Commitments {
        let half = |coefficient: &SecretScalar| SecretScalar::new(coefficient.get().div_by_2()).public();
        Commitments::from_halves(&self.0.iter().map(half).collect::<Vec<_>>())
    }

    /// The share of the member with this cohort index: the value at index + 1.
    #[must_use]
    pub fn share_of(&self, index: u32) -> SecretScalar {
        evaluate(&self.0, super::evaluation_point(index))
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Polynomial({} coefficients, redacted)", self.0.len())
    }
}
