//! The dominating pair of Gaussian noise under Poisson sampling, with plain Gaussian noise as the case of no
//! sampling. Must never take one direction of zero-out for the other: their losses differ.

use super::exact_gaussian::upper_tail;
use super::grid::{Grid, Losses, ROUNDOFF};
use super::nodes::{Nodes, deviations};
use super::quadrature;
use crate::mechanism::Adjacency;

/// Noise N(0, sigma^2) on a sum to which one client adds a vector of length at most 1 with probability `rate`,
/// and otherwise nothing. In one dimension, `P = (1-q) N(0) + q N(1)`; under zero-out `Q = N(0)`, the pair of
/// removal (Zhu, Dong, Wang 2022, theorem 11); under replace-one `Q = (1-q) N(0) + q N(-1)`. The proof that both
/// dominate is in `docs/privacy/accounting.md`. Without sampling, replace-one is zero-out with half the noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mixture {
    pub(super) sigma: f64,
    pub(super) rate: f64,
    pub(super) adjacency: Adjacency,
}

impl Mixture {
    /// Gaussian noise without sampling.
    pub(super) fn gaussian(noise_multiplier: f64) -> Self {
        Self { sigma: noise_multiplier, rate: 1.0, adjacency: Adjacency::ZeroOut }
    }

    /// Whether (P, Q) and (Q, P) have the same losses.
    pub(super) fn is_symmetric(&self) -> bool {
        self.rate == 1.0 || self.adjacency == Adjacency::ReplaceOne
    }

    /// The outcomes outside of which P above and, where directions differ, Q below have at most the tail's
    /// probability.
    fn outcomes(&self, log_tail: f64) -> (f64, f64) {
        let reach = self.sigma * deviations(log_tail);
        if self.rate == 1.0 {
            return (1.0 - reach, 1.0 + reach);
        }
        let reach_sampled = self.sigma * deviations(log_tail - self.rate.ln());
        (-reach, reach.max(1.0 + reach_sampled))
    }

    /// `ln((1-q) + q e^exponent)`.
    fn log_mixture(&self, exponent: f64) -> f64 {
        let rate = self.rate;
        if rate == 1.0 {
            exponent
        } else if exponent > 30.0 {
            rate.ln() + exponent + ((1.0 - rate) / rate * (-exponent).exp()).ln_1p()
        } else if exponent > -1.0 {
            (rate * exponent.exp_m1()).ln_1p()
        } else {
            (-rate).ln_1p() + (rate / (1.0 - rate) * exponent.exp()).ln_1p()
        }
    }

    /// `ln(P(x) / N(0)(x))` and `ln(Q(x) / N(0)(x))`.
    fn log_ratios(&self, x: f64) -> (f64, f64) {
        let twice_variance = 2.0 * self.sigma * self.sigma;
        let above = self.log_mixture((2.0 * x - 1.0) / twice_variance);
        let below = match self.adjacency {
            Adjacency::ZeroOut => 0.0,
            Adjacency::ReplaceOne => self.log_mixture((-2.0 * x - 1.0) / twice_variance),
        };
        (above, below)
    }

    /// Logarithm of the density of P over [`Self::peak`], and the loss, which increases with `x`.
    fn log_density_and_loss(&self, x: f64) -> (f64, f64) {
        let (above, below) = self.log_ratios(x);
        let scaled = x / self.sigma;
        (above - scaled * scaled / 2.0, above - below)
    }

    /// The outcome with this loss; minus infinity below all losses.
    fn outcome(&self, loss: f64) -> f64 {
        let (variance, rate) = (self.sigma * self.sigma, self.rate);
        match self.adjacency {
            Adjacency::ZeroOut if rate == 1.0 => 0.5 + variance * loss,
            Adjacency::ZeroOut if loss > 30.0 => {
                0.5 + variance * (loss - rate.ln() + (-(1.0 - rate) * (-loss).exp()).ln_1p())
            }
            Adjacency::ZeroOut => {
                let ratio = loss.exp_m1() / rate;
                if ratio > -1.0 { 0.5 + variance * ratio.ln_1p() } else { f64::NEG_INFINITY }
            }
            Adjacency::ReplaceOne => {
                // With y = e^(x / sigma^2), P = e^loss Q is quadratic in y; its root is e^(loss/2 + asinh r).
                let log_odds = ((1.0 - rate) / rate).ln() + 0.5 / variance;
                let half = loss / 2.0;
                let log_sinh = half.abs() + (-(-2.0 * half.abs()).exp_m1() / 2.0).ln();
                let log_r = log_odds + log_sinh;
                let root = if log_r > 30.0 { log_r + 2.0_f64.ln() } else { log_r.exp().asinh() };
                variance * (half + root.copysign(half))
            }
        }
    }

    /// See [`super::pair::Pair::nodes`]. In both laws nothing varies faster than a normal density.
    pub(super) fn nodes(&self, log_tail: f64) -> Nodes {
        let (lowest, highest) = self.outcomes(log_tail);
        // Six to a standard deviation, the last one at the highest outcome.
        let count = ((highest - lowest) / self.sigma * 6.0).ceil().max(1.0);
        let spacing = (highest - lowest) / count;
        let count = count as u64;
        let reach = self.sigma * (deviations(log_tail) + 1.0);
        let mut nodes = Nodes::default();
        let mut index = 0;
        while index <= count {
            let x = lowest + index as f64 * spacing;
            // Between the bumps around 0 and 1 (or -1), where both are out of reach, there is nothing.
            let next = [-1.0, 0.0, 1.0].into_iter().find(|centre| x < centre + reach);
            if let Some(centre) = next
                && x < centre - reach
            {
                index += (((centre - reach - x) / spacing) as u64).max(1);
                continue;
            }
            let (log_density, loss) = self.log_density_and_loss(x);
            nodes.push(loss, log_density + (self.peak() * spacing).ln());
            index += 1;
        }
        nodes
    }

    /// See [`super::pair::Pair::losses`].
    pub(super) fn losses(&self, grid: &Grid) -> Losses {
        let (lowest, highest) = self.outcomes(grid.log_tail);
        let loss_at = |x: f64| self.log_density_and_loss(x).1;
        let mut losses = Losses::new(grid.step, 0.0);
        let boundaries = grid.boundaries(loss_at(lowest), loss_at(highest));
        let first = boundaries.first().copied().unwrap_or_default();
        let mut from = lowest;
        // What P has below all cells moves up to the first point of the grid.
        losses.push(first, self.mass_of_p(|centre| upper_tail((centre - lowest) / self.sigma)));
        for pair in boundaries.windows(2) {
            let (lower, upper) = (losses.at(pair[0]), losses.at(pair[1]));
            let to = self.outcome(upper).clamp(from, highest);
            let (mass, excess) = self.integrate(from, to, lower);
            let size = lower.abs().max(upper.abs());
            let error = grid.bias * 16.0 * ROUNDOFF * (size + upper - lower);
            losses.split((pair[0], pair[1]), mass, excess, error);
            from = to;
        }
        losses.infinite = self.mass_of_p(|centre| upper_tail((highest - centre) / self.sigma));
        // Only asked for under zero-out, where Q = N(0).
        losses.infinite_reversed = upper_tail(-lowest / self.sigma) + upper_tail(highest / self.sigma);
        losses
    }

    /// The mass of P between two outcomes, and the integral of `1 - e^(lower - loss)` over it.
    fn integrate(&self, from: f64, to: f64, lower: f64) -> (f64, f64) {
        let (mut mass, mut excess, mut start) = (0.0, 0.0, from);
        while start < to {
            // The logarithm of a normal density has a slope of at most |x - centre| / sigma^2. Where the exponent
            // varies by 1, six points leave 2e-16 of the integral, where it varies by 1/20, three leave 1e-14.
            let farthest = if self.rate == 1.0 { (start - 1.0).abs() } else { start.abs() + 1.0 };
            let length = self.sigma / (farthest / self.sigma + 3.0);
            // A panel may be shorter than the spacing of doubles.
            let end = to.min(start + length);
            let end = if end > start { end } else { to };
            let rule: &quadrature::Rule =
                if end - start <= length / 20.0 { &quadrature::THREE } else { &quadrature::SIX };
            for (x, weight) in quadrature::points(rule, start, end) {
                let (log_density, loss) = self.log_density_and_loss(x);
                let part = weight * log_density.exp();
                mass += part;
                excess -= part * (lower - loss).exp_m1();
            }
            start = end;
        }
        let density = self.peak();
        (mass * density, excess * density)
    }

    /// The largest density of the noise.
    fn peak(&self) -> f64 {
        (self.sigma * (2.0 * std::f64::consts::PI).sqrt()).recip()
    }

    /// The probability under P of what has probability `mass(centre)` under `N(centre)`.
    fn mass_of_p(&self, mass: impl Fn(f64) -> f64) -> f64 {
        (1.0 - self.rate) * mass(0.0) + self.rate * mass(1.0)
    }
}
