//! Row kernels for the CPU where the tensor library computes an exponential at a time.
//!
//! Plain arithmetic in a fixed order without fused operations, so the gradients have the same bits on every processor (the
//! nats also use the platform's logarithm). They know slices, never graphs; see [`crate::fused`] for their gradients.

use pulp::{Arch, Simd, WithSimd};

/// Below this the exponential is taken as zero; single precision ends at about -103.
const UNDERFLOW: f32 = -87.0;

/// `e^x` for `x <= 88`, relative error below 2.5e-7: reduction by multiples of ln 2 (Cody and Waite 1980), then a
/// polynomial of degree six.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(UNDERFLOW, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = clamped - whole * LN2_HIGH - whole * LN2_LOW;
    let series = 1.0 / 720.0;
    let series = series * rest + 1.0 / 120.0;
    let series = series * rest + 1.0 / 24.0;
    let series = series * rest + 1.0 / 6.0;
    let series = series * rest + 0.5;
    let series = series * rest * rest + rest + 1.0;
    // The low bits of the shifted value are the exponent.
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23);
    if x < UNDERFLOW { 0.0 } else { series * power }
}

/// Runs a closure compiled for the widest vectors of this processor.
struct Vectorised<F>(F);

impl<F: FnOnce() -> R, R> WithSimd for Vectorised<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> R {
        simd.vectorize(self.0)
    }
}

/// Independent partial sums, so that a reduction can use vectors in an order that is always the same.
const LANES: usize = 16;

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Replaces a row by `e^(x - maximum)`; returns the maximum and the sum.
#[inline(always)]
fn exponentials(row: &mut [f32]) -> (f32, f32) {
    let highest = maximum(row);
    let mut lanes = [0.0_f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *value = exponential(*value - highest);
            *lane += *value;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for value in chunks.into_remainder() {
        *value = exponential(*value - highest);
        sum += *value;
    }
    (highest, sum)
}

/// Softmax of each row of `width` values, in place.
pub(crate) fn softmax_rows(values: &mut [f32], width: usize) {
    Arch::new().dispatch(Vectorised(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(width) {
                let (_, sum) = exponentials(row);
                let scale = 1.0 / sum;
                row.iter_mut().for_each(|value| *value *= scale);
            }
        },
    ));
}

/// Cross entropy of rows of logits: returns the nats of each target, and replaces each row by the gradient of
/// `weight * nats`, that is `weight * (softmax - one at the target)`.
pub(crate) fn cross_entropy_rows(
    logits: &mut [f32],
    width: usize,
    targets: &[u32],
    weights: &[f32],
) -> Vec<f32> {
    Arch::new().dispatch(Vectorised(
        #[inline(always)]
        || {
            let rows = logits.chunks_exact_mut(width).zip(targets.iter().zip(weights));
            rows.map(|(row, (&target, &weight))| {
                let at_target = row[target as usize];
                let (highest, sum) = exponentials(row);
                let scale = weight / sum;
                row.iter_mut().for_each(|value| *value *= scale);
                row[target as usize] -= weight;
                sum.ln() + highest - at_target
            })
            .collect()
        },
    ))
}

/// `silu(x) = x / (1 + e^-x)` in place of `x`, and its derivative.
pub(crate) fn silu_with_slope(values: &mut [f32]) -> Vec<f32> {
    let mut slopes = vec![0.0; values.len()];
    Arch::new().dispatch(Vectorised(
        #[inline(always)]
        || {
            for (value, slope) in values.iter_mut().zip(&mut slopes) {
                let x = *value;
                let sigmoid = 1.0 / (1.0 + exponential(-x));
                *value = x * sigmoid;
                *slope = sigmoid * (1.0 + x * (1.0 - sigmoid));
            }
        },
    ));
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_exact_to_single_precision() {
        for i in -870_000..=880_000_i32 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exponential(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "{x}: {error:e}");
        }
        assert_eq!(exponential(-1e9), 0.0);
        assert_eq!(exponential(0.0), 1.0);
    }

    #[test]
    fn softmax_agrees_with_double_precision_for_any_width() {
        for width in [1, 3, 16, 17, 100] {
            let mut values: Vec<f32> = (0..width * 3).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.3).collect();
            values[width - 1] = -1e9;
            let before = values.clone();
            softmax_rows(&mut values, width);
            for (row, old) in values.chunks(width).zip(before.chunks(width)) {
                let highest = old.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<f64> = old.iter().map(|&x| f64::from(x - highest).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (&new, power) in row.iter().zip(powers) {
                    assert!((f64::from(new) - power / sum).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn cross_entropy_gives_nats_and_their_gradient() {
        let logits = [0.5_f32, -1.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let nats = |logits: &[f32]| cross_entropy_rows(&mut logits.to_vec(), 4, &[2, 0], &[1.0, 1.0]);
        let mut slopes = logits.to_vec();
        let base = cross_entropy_rows(&mut slopes, 4, &[2, 0], &[0.5, 2.0]);
        assert!((base[1] - 4_f32.ln()).abs() < 1e-6);
        for i in 0..8 {
            let mut moved = logits.to_vec();
            moved[i] += 1e-2;
            let up = nats(&moved);
            moved[i] -= 2e-2;
            let down = nats(&moved);
            let numeric = 0.5 * (up[0] - down[0]) / 2e-2 + 2.0 * (up[1] - down[1]) / 2e-2;
            assert!((numeric - slopes[i]).abs() < 1e-3, "{i}: {numeric} {}", slopes[i]);
        }
    }

    #[test]
    fn silu_and_its_slope() {
        let mut values: Vec<f32> = (-100..100).map(|i| i as f32 * 0.17).collect();
        let before = values.clone();
        let slopes = silu_with_slope(&mut values);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        for ((&x, &y), &slope) in before.iter().zip(&values).zip(&slopes) {
            let x = f64::from(x);
            assert!((f64::from(y) - silu(x)).abs() < 1e-5);
            assert!((f64::from(slope) - (silu(x + 1e-5) - silu(x - 1e-5)) / 2e-5).abs() < 1e-4);
        }
    }
}
