//! Feldman's commitments to the coefficients of a sharing polynomial. Must never hold the identity: a committed
//! coefficient of zero would lower the threshold.

use crate::keys::SecretScalar;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::traits::{Identity as _, IsIdentity as _};
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use std::fmt;

/// Fewest points that are decoded on several threads at a time: below, handing them out costs as much as decoding.
const DECODED_TOGETHER: usize = 32;

/// `C_j = a_j G` for the coefficients `a_0..a_{t-1}`, t points of 32 bytes; `C_0` commits to the secret.
///
/// A point costs 25 additions to decode and 160 bytes to keep. Whoever checks shares against these commitments keeps the
/// points that it decoded ([`Self::from_bytes`]); whoever only passes them on does not ([`Self::without_points`]).
#[derive(Clone)]
pub struct Commitments {
    bytes: Vec<[u8; 32]>,
    /// The decoded points, as many as there are encodings; none where they are not kept.
    points: Option<Vec<RistrettoPoint>>,
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
    /// Decodes the points, in order of the coefficients, on the threads of rayon's pool.
    ///
    /// # Errors
    /// [`CommitmentError`] names the first point that is none, or is the identity.
    pub fn from_bytes(bytes: Vec<[u8; 32]>) -> Result<Self, CommitmentError> {
        if bytes.is_empty() {
            return Err(CommitmentError::Empty);
        }
        let decoded: Vec<Result<RistrettoPoint, CommitmentError>> = bytes
            .par_iter()
            .enumerate()
            .with_min_len(DECODED_TOGETHER)
            .map(|(index, encoded)| {
                let point =
                    CompressedRistretto(*encoded).decompress().ok_or(CommitmentError::NotAPoint { index })?;
                if point.is_identity() { Err(CommitmentError::Identity { index }) } else { Ok(point) }
            })
            .collect();
        let points = decoded.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { bytes, points: Some(points) })
    }

    /// The commitments to coefficients of which the halves are committed to. Doubling while encoding shares one inversion
    /// among all points, where encoding alone takes a square root for each.
    pub(super) fn from_halves(halves: &[RistrettoPoint]) -> Self {
        let encoded = RistrettoPoint::double_and_compress_batch(halves);
        Self { bytes: encoded.iter().map(CompressedRistretto::to_bytes).collect(), points: None }
    }

    /// The same commitments in a fifth of the memory; shares can still be checked, at the cost of decoding once more.
    #[must_use]
    pub fn without_points(self) -> Self {
        Self { points: None, ..self }
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

    /// Whether a share is the one of the member with this cohort index.
    #[must_use]
    pub fn holds(&self, index: u32, share: &SecretScalar) -> bool {
        self.at(super::evaluation_point(index)) == share.public()
    }

    /// The commitment to the share at a point, sum of `x^j C_j`, by Horner's rule: x is public and small, so a step costs
    /// about log2(x) doublings, less than a multi-scalar product with full-size powers of x, batched or not.
    pub(crate) fn at(&self, x: u32) -> RistrettoPoint {
        match &self.points {
            Some(points) => horner(x, points.iter().rev().copied()),
            None => horner(x, self.bytes.iter().rev().map(decode_again)),
        }
    }
}

fn decode_again(encoded: &[u8; 32]) -> RistrettoPoint {
    CompressedRistretto(*encoded).decompress().expect("it was decoded before, or encoded here")
}

fn horner(x: u32, descending: impl Iterator<Item = RistrettoPoint>) -> RistrettoPoint {
    let digits = signed_digits(x);
    descending.fold(RistrettoPoint::identity(), |sum, point| small_multiple(&sum, &digits) + point)
}

/// The non-adjacent form of x, its highest digit (a one) first: of any two neighbouring digits one is zero, so that a third
/// of them cost an addition.
fn signed_digits(x: u32) -> Vec<i8> {
    let (mut rest, mut digits) = (u64::from(x), Vec::with_capacity(33));
    while rest > 0 {
        let digit: i8 = match rest & 3 {
            1 => 1,
            3 => -1,
            _ => 0,
        };
        rest = if digit < 0 { (rest + 1) >> 1 } else { rest >> 1 };
        digits.push(digit);
    }
    digits.reverse();
    digits
}

/// x P for a small public x, given by its signed digits, by doubling and adding.
fn small_multiple(point: &RistrettoPoint, digits: &[i8]) -> RistrettoPoint {
    let Some((_, rest)) = digits.split_first() else {
        return RistrettoPoint::identity();
    };
    let mut product = *point;
    for digit in rest {
        product += product;
        match digit {
            1 => product += point,
            -1 => product -= point,
            _ => {}
        }
    }
    product
}

/// Encodings are canonical, so equal commitments have equal bytes.
impl PartialEq for Commitments {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Commitments {}

impl fmt::Debug for Commitments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitments({} points, {})", self.bytes.len(), crate::context::Short(&self.bytes[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommitmentError, Commitments, signed_digits, small_multiple};
    use curve25519_dalek::RistrettoPoint;
    use curve25519_dalek::scalar::Scalar;

    #[test]
    fn small_multiples_are_multiples() {
        let point = RistrettoPoint::mul_base(&Scalar::from(77u8));
        for x in (0..70).chain([127, 128, 129, 16_384, 16_385, u32::MAX]) {
            let digits = signed_digits(x);
            assert!(digits.windows(2).all(|pair| pair.contains(&0)), "{x}: {digits:?}");
            assert_eq!(small_multiple(&point, &digits), point * Scalar::from(x), "{x}");
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
        // The first one is named, wherever the threads meet it.
        let mut many = vec![good; 200];
        (many[150], many[40]) = ([0; 32], [0xff; 32]);
        assert_eq!(Commitments::from_bytes(many), Err(CommitmentError::NotAPoint { index: 40 }));
    }

    #[test]
    fn points_may_be_given_up() {
        let point = |value: u64| RistrettoPoint::mul_base(&Scalar::from(value)).compress().to_bytes();
        let kept = Commitments::from_bytes((1..9).map(point).collect()).expect("points");
        let given_up = kept.clone().without_points();
        assert_eq!(kept, given_up);
        for x in [1, 2, 77, 16_384] {
            let value = (1..9u64).rev().fold(Scalar::ZERO, |sum, c| sum * Scalar::from(x) + Scalar::from(c));
            assert_eq!(kept.at(x), RistrettoPoint::mul_base(&value));
            assert_eq!(given_up.at(x), kept.at(x));
        }
    }
}
