//! Interpolation at zero from exactly t shares. Must never use two shares of one member.

use crate::keys::SecretScalar;
use curve25519_dalek::scalar::Scalar;

/// Lagrange coefficients at zero for the members whose shares are used.
#[derive(Clone, Debug)]
pub struct Basis(Vec<Scalar>);

impl Basis {
    /// For members with the given distinct cohort indices: coefficient i is the product over j of x_j / (x_j - x_i).
    /// All inverses are taken together, and the small differences are multiplied as integers first.
    #[must_use]
    pub fn new(indices: &[u32]) -> Self {
        let points: Vec<u32> = indices.iter().map(|&index| super::evaluation_point(index)).collect();
        let numerator = product(points.iter().copied());
        let mut coefficients: Vec<Scalar> = points
            .iter()
            .map(|&own| {
                let others = points.iter().copied().filter(|&other| other != own);
                let magnitude = product(others.clone().map(|other| other.abs_diff(own)));
                let negative = others.filter(|&other| other < own).count() % 2 == 1;
                (if negative { -magnitude } else { magnitude }) * Scalar::from(own)
            })
            .collect();
        Scalar::invert_batch_alloc(&mut coefficients);
        coefficients.iter_mut().for_each(|coefficient| *coefficient *= numerator);
        Self(coefficients)
    }

    /// The secret behind the members' shares, given in the same order. It is to be compared with its commitment: of any scalars
    /// something comes out.
    #[must_use]
    pub fn reconstruct<'a>(&self, shares: impl IntoIterator<Item = &'a SecretScalar>) -> SecretScalar {
        let mut secret = SecretScalar::default();
        for (coefficient, share) in self.0.iter().zip(shares) {
            secret = SecretScalar::new(secret.get() + coefficient * share.get());
        }
        secret
    }
}

/// Product of small integers, as many at a time as fit into 128 bits.
fn product(factors: impl Iterator<Item = u32>) -> Scalar {
    let (mut total, mut held) = (Scalar::ONE, 1u128);
    for factor in factors {
        match held.checked_mul(factor.into()) {
            Some(more) => held = more,
            None => {
                total *= Scalar::from(held);
                held = factor.into();
            }
        }
    }
    total * Scalar::from(held)
}
