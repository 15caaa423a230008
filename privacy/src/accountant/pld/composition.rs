//! The composition of privacy losses by one Fourier transform, exponentially tilted so that small deltas keep
//! their digits. Must never let a rounding error, a wrapped tail or an infinite loss go uncounted.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::grid::{Losses, ROUNDOFF};

/// Spectral values below `e^` this are replaced by 0, and counted as error.
const LOG_NEGLIGIBLE: f64 = -80.0;

/// Where on the line the composed loss is resolved, and how it is tilted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Points, a power of two.
    pub(super) points: usize,
    /// The lowest loss.
    pub(super) lowest: f64,
    /// Theta: probabilities are multiplied by `e^(theta L)` and normalised before the transform.
    pub(super) tilt: f64,
    /// A second, larger tilt, with which what lies above the window is bounded.
    pub(super) tilt_above: f64,
}

/// The upper part of a composed privacy loss.
#[derive(Clone, Debug)]
pub(super) struct Composed {
    step: f64,
    /// The loss of the first point.
    lowest: f64,
    /// Bounds on the tilted probabilities.
    tilted: Vec<f64>,
    tilt: f64,
    /// Logarithm of the factor that the tilt took away.
    log_factor: f64,
    /// Bound on the probability of losses above the window, infinite ones included.
    beyond: f64,
    /// Bound on the rounding error of the losses themselves.
    loss_error: f64,
}

/// An epsilon for a delta.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Delta is at most the target here.
    pub(super) epsilon: f64,
    /// The rate at which the logarithm of delta falls here.
    pub(super) rate: f64,
    /// Whether the answer lies in the window; otherwise a smaller one lies below it.
    pub(super) inside: bool,
}

/// Delta at the epsilon of a grid point or between two.
struct Point {
    /// Whether the descent stopped here, rather than at the window's end.
    inside: bool,
    /// The upper end of the cell.
    upper: f64,
    /// Delta at the upper end.
    delta: f64,
    /// `E[e^(upper - L); L >= upper]`.
    discounted: f64,
}

impl Composed {
    /// Composes releases, each with the number of times it happens. All have the same step.
    pub(super) fn new(releases: &[(Losses, u64)], window: &Window) -> Self {
        let Window { points, tilt, .. } = *window;
        let step = releases.first().map_or(1.0, |(losses, _)| losses.step);
        let mut planner = RealFftPlanner::<f64>::new();
        let forward = planner.plan_fft_forward(points);
        // Every value of a transform is a tree of sums of its inputs, two levels of which cost a complex product by
        // a rounded twiddle: at most 8 units of roundoff a level, relative to the sum of absolute inputs.
        let transform_error = 8.0 * ROUNDOFF * (f64::from(points.ilog2()) + 4.0);

        let mut product = vec![Product::ONE; points / 2 + 1];
        let mut spectrum = forward.make_output_vec();
        let mut scratch = forward.make_scratch_vec();
        let (mut offset, mut log_factor, mut log_above, mut infinite) = (0.0, 0.0, 0.0, 0.0);
        let mut log_slack = 0.0;
        let (mut offsets, mut highest) = (0.0, 0.0);
        for (losses, count) in releases {
            let count = *count as f64;
            let tilted = Tilted::new(losses, tilt);
            let mut folded = tilted.folded(points);
            forward
                .process_with_scratch(&mut folded, &mut spectrum, &mut scratch)
                .expect("the buffers were made by the plan for this size");
            // The heaviest probability is at index 0 and 1 less the others': no transform, and no rounding where
            // the others are few. What that differs from the heaviest as computed is an error too.
            let error = transform_error * tilted.others + tilted.dropped + tilted.mismatch;
            let negligible = ((LOG_NEGLIGIBLE - 40.0) / count).exp();
            for (product, value) in product.iter_mut().zip(&spectrum) {
                product.multiply(value - tilted.others, count, error, negligible);
            }
            offset += count * losses.at(tilted.origin);
            offsets += count * losses.at(tilted.origin).abs();
            log_slack += count * tilted.relative_error;
            log_factor += count * tilted.log_factor;
            log_above += count * log_moment_above(losses, window.tilt_above);
            infinite += count * losses.infinite;
            highest += count * losses.range().1;
        }

        let mut spectral_error = 0.0;
        let mut spectral_size = 0.0;
        let last = product.len() - 1;
        for (index, (product, value)) in product.iter().zip(&mut spectrum).enumerate() {
            // All but the first and the last frequency stand for two.
            let weight = if index == 0 || index == last { 1.0 } else { 2.0 };
            let (result, error) = product.value();
            *value = if index == 0 || index == last { Complex::new(result.re, 0.0) } else { result };
            spectral_error += weight * error;
            spectral_size += weight * result.norm();
        }
        let inverse = planner.plan_fft_inverse(points);
        let mut circular = inverse.make_output_vec();
        inverse
            .process(&mut spectrum, &mut circular)
            .expect("the buffers have the plan's size, and the ends of the spectrum are real");
        let scale = (points as f64).recip();
        let error = scale * (spectral_error + 2.0 * transform_error * spectral_size);

        // The window begins at the multiple of the step, plus offset, next below.
        let first = ((window.lowest - offset) / step).floor();
        let lowest = offset + first * step;
        let turn = (first as i64).rem_euclid(points as i64) as usize;
        let mut tilted: Vec<f64> = circular.iter().map(|mass| (mass * scale).max(0.0) + error).collect();
        tilted.rotate_left(turn);
        let top = lowest + (points - 1) as f64 * step;
        let loss_error = 8.0 * ROUNDOFF * (lowest.abs().max(top.abs()) + offsets);
        let above = if highest <= top + loss_error {
            0.0
        } else {
            let exponent = log_above - window.tilt_above * top;
            (exponent + 4.0 * ROUNDOFF * (log_above.abs() + exponent.abs())).exp()
        };
        // Each point's share is multiplied and added once for each point below it.
        let sums = 4.0 * ROUNDOFF * points as f64;
        let log_factor = log_factor + log_slack + sums;
        let beyond = (infinite + above) * (1.0 + sums);
        Self { step, lowest, tilted, tilt, log_factor, beyond, loss_error }
    }

    /// Goes down from the top until `stop` says so: of each point's loss and the delta there. Returns that point
    /// with its predecessor's delta.
    fn descend(&self, stop: impl Fn(f64, f64) -> bool) -> Point {
        let keep = (-self.step).exp();
        let rise = -(-self.step).exp_m1();
        let mut delta = self.beyond;
        let mut discounted = 0.0;
        for (index, mass) in self.tilted.iter().enumerate().rev() {
            let upper = self.lowest + index as f64 * self.step;
            let (shift, factor) = (self.tilt * upper, self.log_factor);
            let rounding = 4.0 * ROUNDOFF * (shift.abs() + factor.abs());
            discounted = keep * discounted + mass * (factor - shift + rounding).exp();
            // Delta at the next lower point: every loss above it counts for a little more.
            let next = delta + rise * discounted;
            let inside = stop(upper - self.step, next);
            if inside || index == 0 {
                return Point { inside, upper, delta, discounted };
            }
            delta = next;
        }
        Point { inside: false, upper: self.lowest, delta, discounted }
    }

    /// An epsilon, not below 0, at which delta is at most `target`; none when what lies above the window exceeds it.
    pub(super) fn epsilon(&self, target: f64) -> Option<Answer> {
        if self.beyond.is_nan() || self.beyond >= target {
            return None;
        }
        let point = self.descend(|lower, delta| lower <= 0.0 || delta > target || delta.is_nan());
        let fall = (-(target - point.delta) / point.discounted).max(-1.0).ln_1p();
        let epsilon = point.upper + fall.max(-self.step);
        if epsilon.is_nan() {
            return None;
        }
        let rate = (epsilon - point.upper).exp() * point.discounted / target;
        let epsilon = if epsilon > 0.0 { epsilon * (1.0 + 8.0 * ROUNDOFF) + self.loss_error } else { 0.0 };
        Some(Answer { epsilon, rate, inside: point.inside })
    }

    /// A bound on delta at `epsilon`, and the rate at which its logarithm falls there.
    pub(super) fn delta(&self, epsilon: f64) -> (f64, f64) {
        let epsilon = epsilon - self.loss_error;
        let point = self.descend(|lower, _| lower <= epsilon);
        let delta = point.delta - (epsilon - point.upper).min(0.0).exp_m1() * point.discounted;
        let rate = (epsilon - point.upper).exp() * point.discounted / delta;
        // NaN becomes 1.
        ((delta * (1.0 + 64.0 * ROUNDOFF)).min(1.0), rate)
    }
}

/// The tilted probabilities of one release.
struct Tilted {
    /// Indices with masses, but for the largest.
    masses: Vec<(i64, f64)>,
    log_factor: f64,
    /// The index on the grid of the largest mass, and the sum of the others.
    origin: i64,
    others: f64,
    /// Bound on the relative error of each mass.
    relative_error: f64,
    /// The sum of masses so small that the bound does not hold for them.
    dropped: f64,
    /// How far the largest mass is from 1 less the others.
    mismatch: f64,
}

impl Tilted {
    fn new(losses: &Losses, tilt: f64) -> Self {
        /// Together, masses below this do not matter to anything.
        const NEGLIGIBLE: f64 = 1e-30;
        let mut log_factor = log_moment(losses, tilt);
        let (mut largest_shift, mut dropped) = (0.0_f64, 0.0);
        let (mut heaviest, mut origin) = (0.0, 0);
        let mut masses = Vec::with_capacity(losses.masses.len());
        for &(index, mass) in &losses.masses {
            let shift = tilt * losses.at(index);
            let tilted = mass * (shift - log_factor).exp();
            masses.push((index, tilted));
            if tilted < NEGLIGIBLE {
                dropped += tilted;
            } else {
                largest_shift = largest_shift.max(shift.abs());
            }
            if tilted > heaviest {
                (heaviest, origin) = (tilted, index);
            }
        }
        // What is left of 1 would otherwise be the rounding error of an exponent.
        let total = compensated_sum(&masses);
        masses.iter_mut().for_each(|(_, mass)| *mass /= total);
        log_factor += total.ln();
        heaviest /= total;
        dropped /= total;
        masses.retain(|(index, _)| *index != origin);
        let others = compensated_sum(&masses);
        let mismatch = (1.0 - others - heaviest).abs() + ROUNDOFF;
        let relative_error =
            losses.relative_error + 4.0 * ROUNDOFF * (largest_shift + log_factor.abs() + 4.0);
        Self { masses, log_factor, origin, others, relative_error, dropped, mismatch }
    }

    /// All but the heaviest, modulo the length of the transform, the length that a circular convolution wraps at.
    fn folded(&self, points: usize) -> Vec<f64> {
        let mut folded = vec![0.0; points];
        for (index, mass) in &self.masses {
            folded[(index - self.origin).rem_euclid(points as i64) as usize] += mass;
        }
        folded
    }
}

/// The sum of masses, to a unit or two of roundoff whatever their number (Neumaier 1974).
fn compensated_sum(masses: &[(i64, f64)]) -> f64 {
    let add = |(sum, lost): (f64, f64), mass: f64| {
        let next = sum + mass;
        let error = if sum >= mass { (sum - next) + mass } else { (mass - next) + sum };
        (next, lost + error)
    };
    let (sum, lost) = masses.iter().map(|(_, mass)| *mass).fold((0.0, 0.0), add);
    sum + lost
}

/// `ln E[e^(tilt L); L finite]`.
fn log_moment(losses: &Losses, tilt: f64) -> f64 {
    let largest = losses
        .masses
        .iter()
        .map(|(index, mass)| mass.ln() + tilt * losses.at(*index))
        .fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 =
        losses.masses.iter().map(|(index, mass)| mass * (tilt * losses.at(*index) - largest).exp()).sum();
    largest + sum.ln()
}

/// An upper bound on [`log_moment`] of the true masses.
fn log_moment_above(losses: &Losses, tilt: f64) -> f64 {
    let (lowest, highest) = losses.range();
    let largest_shift = tilt * lowest.abs().max(highest.abs());
    let computed = log_moment(losses, tilt);
    let terms = losses.masses.len() as f64 + largest_shift + computed.abs() + 4.0;
    computed + losses.relative_error + 4.0 * ROUNDOFF * terms
}

/// A product of powers of complex numbers of absolute value at most 1, each known up to an error.
#[derive(Clone, Copy)]
struct Product {
    log_size: f64,
    phase: f64,
    /// Logarithm of a bound on the absolute value.
    log_bound: f64,
    /// Error relative to the bound.
    relative_error: f64,
}

impl Product {
    const ONE: Self = Self { log_size: 0.0, phase: 0.0, log_bound: 0.0, relative_error: 0.0 };

    /// Multiplies with `(1 + difference)^count`, where `difference` is known up to `error`. A power of anything
    /// smaller than `negligible` is.
    fn multiply(&mut self, difference: Complex<f64>, count: f64, error: f64, negligible: f64) {
        if self.log_bound < LOG_NEGLIGIBLE {
            return;
        }
        let value = difference + 1.0;
        let distance = difference.norm_sqr().sqrt();
        let error = error + 4.0 * ROUNDOFF * distance;
        let size = value.norm_sqr().sqrt();
        let bound = size + error;
        // Further factors do not make a bound larger, up to the errors that 40 leaves room for.
        if bound < negligible {
            self.log_bound = LOG_NEGLIGIBLE - 40.0;
            return;
        }
        self.log_bound += count * bound.ln();
        if size <= error {
            // The product is taken as 0, within its bound.
            self.log_size = f64::NEG_INFINITY;
            self.relative_error += 1.0;
            return;
        }
        let log_size = if distance < 0.5 {
            (2.0 * difference.re + difference.norm_sqr()).ln_1p() / 2.0
        } else {
            size.ln()
        };
        let phase = value.im.atan2(value.re);
        // |a^k - b^k| <= k |a - b| max(|a|, |b|)^(k-1), and rounding of logarithm, phase and their multiples.
        self.relative_error += count * (error / bound + 8.0 * ROUNDOFF * (log_size.abs() + phase.abs()));
        self.log_size += count * log_size;
        self.phase += count * phase;
    }

    /// The product with a bound on its error.
    fn value(&self) -> (Complex<f64>, f64) {
        if self.log_bound < LOG_NEGLIGIBLE {
            return (Complex::new(0.0, 0.0), LOG_NEGLIGIBLE.exp());
        }
        let bound = self.log_bound.exp();
        (
            Complex::from_polar(self.log_size.exp(), self.phase),
            bound * (self.relative_error + 16.0 * ROUNDOFF),
        )
    }
}
