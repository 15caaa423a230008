//! The Walsh-Hadamard transform in place, cache-aware and vectorised by the compiler.
//! Must never reorder its additions by machine: every platform gives the same bits.

use pulp::{Arch, Simd, WithSimd};

/// Length that is finished inside the first-level cache: 16 KiB of `f32`.
const BLOCK: usize = 4096;
/// Length of the innermost transforms, done in registers.
const TILE: usize = 16;

/// Multiplies `values`, of a length that is a power of two, by the matrix of entries `(-1)^popcount(i & j)`.
///
/// Not normalised: applying it twice multiplies by the length.
pub(super) fn transform(values: &mut [f32]) {
    debug_assert!(values.len().is_power_of_two());
    recurse(Arch::new(), values);
}

/// Depth first, so that each part is finished while it is in the nearest cache that holds it.
fn recurse(arch: Arch, values: &mut [f32]) {
    let length = values.len();
    let part = if length <= BLOCK {
        arch.dispatch(Step::Block(values));
        return;
    } else if length == 2 * BLOCK {
        arch.dispatch(Step::PassOfTwo(values));
        length / 2
    } else {
        arch.dispatch(Step::PassOfFour(values));
        length / 4
    };
    values.chunks_exact_mut(part).for_each(|part| recurse(arch, part));
}

/// A stretch of work that is compiled once for each kind of vector instructions.
enum Step<'a> {
    /// The whole transform of at most [`BLOCK`] coordinates.
    Block(&'a mut [f32]),
    /// The outermost level.
    PassOfTwo(&'a mut [f32]),
    /// The two outermost levels.
    PassOfFour(&'a mut [f32]),
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self {
            Self::Block(values) => block(values),
            Self::PassOfTwo(values) => pass_of_two(values, values.len() / 2),
            Self::PassOfFour(values) => pass_of_four(values, values.len() / 4),
        }
    }
}

#[inline(always)]
fn block(values: &mut [f32]) {
    let mut stride = values.len();
    while stride >= 4 * TILE {
        stride /= 4;
        pass_of_four(values, stride);
    }
    while stride > TILE {
        stride /= 2;
        pass_of_two(values, stride);
    }
    let tiles = values.chunks_exact_mut(TILE);
    if stride == TILE {
        tiles.for_each(tile);
        return;
    }
    // Shorter than a tile.
    while stride > 1 {
        stride /= 2;
        pass_of_two(values, stride);
    }
}

/// One level: sums and differences of coordinates `stride` apart.
#[inline(always)]
fn pass_of_two(values: &mut [f32], stride: usize) {
    for group in values.chunks_exact_mut(2 * stride) {
        let (low, high) = group.split_at_mut(stride);
        for (a, b) in low.iter_mut().zip(high) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// Two levels in one sweep: coordinates `stride`, `2 stride` and `3 stride` apart.
#[inline(always)]
fn pass_of_four(values: &mut [f32], stride: usize) {
    for group in values.chunks_exact_mut(4 * stride) {
        let (low, high) = group.split_at_mut(2 * stride);
        let (first, second) = low.split_at_mut(stride);
        let (third, fourth) = high.split_at_mut(stride);
        for (((a, b), c), d) in first.iter_mut().zip(second).zip(third).zip(fourth) {
            let (sum_low, difference_low) = (*a + *c, *b + *d);
            let (sum_high, difference_high) = (*a - *c, *b - *d);
            (*a, *b) = (sum_low + difference_low, sum_low - difference_low);
            (*c, *d) = (sum_high + difference_high, sum_high - difference_high);
        }
    }
}

/// All four levels of sixteen neighbours.
#[inline(always)]
fn tile(values: &mut [f32]) {
    let mut current = [0.0_f32; TILE];
    current.copy_from_slice(values);
    current = level::<8>(current);
    current = level::<4>(current);
    current = level::<2>(current);
    current = level::<1>(current);
    values.copy_from_slice(&current);
}

#[inline(always)]
fn level<const STRIDE: usize>(values: [f32; TILE]) -> [f32; TILE] {
    let mut next = [0.0_f32; TILE];
    for (i, slot) in next.iter_mut().enumerate() {
        let partner = values[i ^ STRIDE];
        *slot = if i & STRIDE == 0 { values[i] + partner } else { partner - values[i] };
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_matrix_in_exact_arithmetic() {
        // Small integers: every sum is exact in f32, so equality is exact.
        for log in 0..=14 {
            let length = 1_usize << log;
            let input: Vec<f32> = (0..length).map(|i| ((i * 37 + 11) % 17) as f32 - 8.0).collect();
            let mut output = input.clone();
            transform(&mut output);
            let rows: Vec<usize> = if length <= 512 {
                (0..length).collect()
            } else {
                vec![0, 1, 2, 3, 15, 16, 17, length / 2, length - 1]
            };
            for row in rows {
                let expected: f32 = input
                    .iter()
                    .enumerate()
                    .map(
                        |(column, value)| {
                            if (row & column).count_ones().is_multiple_of(2) { *value } else { -value }
                        },
                    )
                    .sum();
                assert_eq!(output[row], expected, "length {length}, row {row}");
            }
        }
    }

    #[test]
    fn twice_is_the_length() {
        for log in [0, 3, 4, 5, 12, 13, 14, 15, 16] {
            let length = 1_usize << log;
            let input: Vec<f32> = (0..length).map(|i| ((i * 5 + 3) % 7) as f32 - 3.0).collect();
            let mut output = input.clone();
            transform(&mut output);
            transform(&mut output);
            assert!(
                output.iter().zip(&input).all(|(out, value)| *out == value * length as f32),
                "length {length}"
            );
        }
    }
}
