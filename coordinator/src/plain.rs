//! The same sum without masks, for simulations in which one process holds every client anyway.
//! Must never be reached by a message: a coordinator that serves clients has no use for it.

use tacit_aggregation::ring_vector::{RingError, RingVector};

/// Sums vectors over Z/2^`bits`, as secure aggregation does, in the clear.
///
/// # Errors
/// [`RingError`] when a vector is over another ring or of another dimension, or the shape itself is out of range.
pub fn plain_sum<'a>(
    vectors: impl IntoIterator<Item = &'a RingVector>,
    bits: u8,
    dimension: usize,
) -> Result<RingVector, RingError> {
    let mut sum = RingVector::zeros(bits, dimension)?;
    for vector in vectors {
        sum.add(vector)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::plain_sum;
    use tacit_aggregation::ring_vector::{RingError, RingVector};

    #[test]
    fn sums_wrap_at_the_ring() {
        let vectors: Vec<RingVector> = [[250, 1], [5, 2], [7, 3]]
            .iter()
            .map(|values| RingVector::new(8, values).expect("fits"))
            .collect();
        assert_eq!(plain_sum(&vectors, 8, 2).expect("same shape").to_values(), [6, 6]);
        assert_eq!(plain_sum(&[], 8, 2).expect("zero").to_values(), [0, 0]);
        assert!(matches!(plain_sum(&vectors, 8, 3), Err(RingError::Shape { .. })));
        assert!(matches!(plain_sum(&vectors, 9, 2), Err(RingError::Shape { .. })));
    }
}
