//! Feldman's commitments to the coefficients of a sharing polynomial. Must never hold the identity: a committed
//! coefficient of zero would lower the threshold.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::traits::{Identity as _, IsIdentity as _};
use std::fmt;

/// `C_j = a_j G` for the coefficients `a_0..a_{t-1}`, t points of 32 bytes; `C_0` commits to the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Commitments {
    bytes: Vec<[u8; 32]>,
    points: Vec<RistrettoPoint>,
}

/// Points that do not commit to a polynomial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    /// No point at all.
    #[error("there are no commitments")]
    Empty,
    /// Not the canonical encoding of a point.
    #[error("commitment {index} is not a Ristretto255 point")]
    NotAPoint {
        /// Which one.
        index: usize,
    },
    /// The identity.
    #[error("commitment {index} is the identity, which would lower the threshold")]
    Identity {
        /// Which one.
        index: usize,
    },
}

impl Commitments {
    /// Decodes the points, in order of the coefficients.
    ///
    /// # Errors
    /// [`CommitmentError`] names the first point that is none, or is the identity.
    pub fn from_bytes(bytes: Vec<[u8; 32]>) -> Result<Self, CommitmentError> {
        if bytes.is_empty() {
            return Err(CommitmentError::Empty);
        }
        let mut points = Vec::with_capacity(bytes.len());
        for (index, encoded) in bytes.iter().enumerate() {
            let point =
                CompressedRistretto(*encoded).decompress().ok_or(CommitmentError::NotAPoint { index })?;
            if point.is_identity() {
                return Err(CommitmentError::Identity { index });
            }
            points.push(point);
        }
        Ok(Self { bytes, points })
    }

    pub(super) fn from_points(points: Vec<RistrettoPoint>) -> Self {
        Self { bytes: points.iter().map(|point| point.compress().to_bytes()).collect(), points }
    }

    /// The encoded points.
    #[must_use]
    pub fn as_bytes(&self) -> &[[u8; 32]] {
        &self.bytes
    }

    /// How many there are: the threshold of the shared secret.
    #[must_use]
    pub fn threshold(&self) -> usize {
        self.bytes.len()
    }

    /// Encoding of `C_0`, the commitment to the secret.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.bytes[0]
    }

    /// The commitment to the share at a point, sum of `x^j C_j`, by Horner's rule: x is public and small, so a step costs
    /// about log2(x) doublings, less than a multi-scalar product with full-size powers of x.
    pub(crate) fn at(&self, x: u32) -> RistrettoPoint {
        self.points
            .iter()
            .rev()
            .fold(RistrettoPoint::identity(), |sum, point| small_multiple(&sum, x) + point)
    }
}

/// x P for a small public x, by doubling and adding.
fn small_multiple(point: &RistrettoPoint, x: u32) -> RistrettoPoint {
    let Some(highest) = x.checked_ilog2() else {
        return RistrettoPoint::identity();
    };
    let mut product = *point;
    for bit in (0..highest).rev() {
        product += product;
        if x >> bit & 1 == 1 {
            product += point;
        }
    }
    product
}

impl fmt::Debug for Commitments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitments({} points, {})", self.bytes.len(), crate::context::Short(&self.bytes[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommitmentError, Commitments, small_multiple};
    use curve25519_dalek::RistrettoPoint;
    use curve25519_dalek::scalar::Scalar;

    #[test]
    fn small_multiples_are_multiples() {
        let point = RistrettoPoint::mul_base(&Scalar::from(77u8));
        for x in (0..70).chain([127, 128, 129, 16_384, 16_385, u32::MAX]) {
            assert_eq!(small_multiple(&point, x), point * Scalar::from(x), "{x}");
        }
    }

    #[test]
    fn what_is_no_commitment_is_refused() {
        let good = RistrettoPoint::mul_base(&Scalar::from(5u8)).compress().to_bytes();
        assert_eq!(Commitments::from_bytes(vec![]), Err(CommitmentError::Empty));
        assert_eq!(
            Commitments::from_bytes(vec![good, [0xff; 32]]),
            Err(CommitmentError::NotAPoint { index: 1 })
        );
        assert_eq!(Commitments::from_bytes(vec![good, [0; 32]]), Err(CommitmentError::Identity { index: 1 }));
        assert_eq!(Commitments::from_bytes(vec![good, good]).map(|c| c.threshold()), Ok(2));
    }
}
