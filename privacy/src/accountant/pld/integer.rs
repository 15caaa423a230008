//! The privacy loss of noise on the integers: discrete Gaussian and Skellam. Must never replace a sum over
//! outcomes by an integral: the difference is what makes these laws other than a Gaussian.

use super::grid::{Grid, Losses, ROUNDOFF};
use super::nodes::{Nodes, deviations};

/// Noise on an integer to which one client adds at most `sensitivity` in absolute value: P is the noise, Q the
/// noise around `sensitivity`. Both laws are log-concave, so the best test of P against a shifted copy is a half-line,
/// and the largest shift is the worst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct IntegerNoise {
    pub(super) law: Law,
    pub(super) sensitivity: u32,
}

/// A symmetric, log-concave law on the integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Law {
    /// Probability of x proportional to `e^(-x^2 / (2 sigma^2))`.
    DiscreteGaussian { sigma: f64 },
    /// Difference of two Poisson variables of mean `variance / 2`: probability of x is `e^(-mu) I_|x|(mu)`.
    Skellam { variance: f64 },
}

/// Logarithms of the probabilities of a [`Law`].
enum LogMass {
    DiscreteGaussian {
        twice_variance: f64,
        log_normaliser: f64,
    },
    /// Of 0, 1, 2, ...
    Table(Vec<f64>),
}

impl LogMass {
    fn of(&self, outcome: i64) -> f64 {
        let distance = outcome.unsigned_abs();
        match self {
            Self::DiscreteGaussian { twice_variance, log_normaliser } => {
                let x = distance as f64;
                -x * x / twice_variance - log_normaliser
            }
            // Tables are made to reach as far as anybody asks.
            Self::Table(values) => {
                usize::try_from(distance).ok().and_then(|x| values.get(x)).map_or(f64::NAN, |x| *x)
            }
        }
    }
}

impl Law {
    /// An outcome that is exceeded with probability at most `e^log_tail`, roughly.
    fn reach(&self, log_tail: f64) -> i64 {
        let reach = match *self {
            Self::DiscreteGaussian { sigma } => sigma * deviations(log_tail),
            Self::Skellam { variance } => {
                // Chernoff: t asinh(t / mu) - sqrt(t^2 + mu^2) + mu >= -log_tail.
                let exponent = |t: f64| t * (t / variance).asinh() - t * t / (t.hypot(variance) + variance);
                let mut reach = variance.sqrt() * deviations(log_tail) + 1.0;
                while exponent(reach) < -log_tail {
                    reach *= 1.05;
                }
                reach
            }
        };
        reach.ceil() as i64 + 1
    }

    /// Probabilities of outcomes up to `farthest`.
    fn log_mass(&self, farthest: i64) -> LogMass {
        match *self {
            Self::DiscreteGaussian { sigma } => {
                let twice_variance = 2.0 * sigma * sigma;
                // Poisson's summation formula above, the sum itself below, where few terms count.
                let normaliser = if sigma >= 1.0 {
                    let pi = std::f64::consts::PI;
                    sigma * (2.0 * pi).sqrt() * (1.0 + 2.0 * (-2.0 * (pi * sigma).powi(2)).exp())
                } else {
                    1.0 + 2.0 * (1..40).map(|x| (-f64::from(x * x) / twice_variance).exp()).sum::<f64>()
                };
                LogMass::DiscreteGaussian { twice_variance, log_normaliser: normaliser.ln() }
            }
            Self::Skellam { variance } => LogMass::Table(skellam_log_masses(variance, farthest)),
        }
    }
}

/// Logarithms of the probabilities of 0 up to `farthest` under a Skellam law.
///
/// The ratios `r_x = I_(x+1)(mu) / I_x(mu)` obey `r_x = 1 / (2 (x+1) / mu + r_(x+1))`, stable downwards.
pub(in crate::accountant) fn skellam_log_masses(variance: f64, farthest: i64) -> Vec<f64> {
    let farthest = usize::try_from(farthest).unwrap_or(0);
    // Each step contracts by r^2; start close (Amos 1974) and far enough above.
    let beginning = farthest + 64 + (6.0 * variance.sqrt()) as usize;
    let half = beginning as f64 + 0.5;
    let mut ratio = variance / (half + half.hypot(variance));
    let mut log_ratios = vec![0.0; farthest + 1];
    for x in (0..beginning).rev() {
        ratio = (2.0 * (x as f64 + 1.0) / variance + ratio).recip();
        if x < farthest {
            log_ratios[x + 1] = ratio.ln();
        }
    }
    let mut log_masses = log_ratios;
    for x in 1..log_masses.len() {
        log_masses[x] += log_masses[x - 1];
    }
    // Small ones first.
    let upper: f64 = log_masses.iter().skip(1).rev().map(|log_mass| log_mass.exp()).sum();
    let log_normaliser = (2.0 * upper).ln_1p();
    log_masses.iter_mut().for_each(|log_mass| *log_mass -= log_normaliser);
    log_masses
}

impl IntegerNoise {
    /// The distance between neighbouring losses, where all are equally spaced.
    pub(super) fn lattice(&self) -> Option<f64> {
        matches!(self.law, Law::DiscreteGaussian { .. }).then(|| self.typical_gap())
    }

    /// The distance between losses of neighbouring outcomes near the centre.
    pub(super) fn typical_gap(&self) -> f64 {
        let variance = match self.law {
            Law::DiscreteGaussian { sigma } => sigma * sigma,
            Law::Skellam { variance } => variance,
        };
        f64::from(self.sensitivity) / variance
    }

    fn gaussian_offset(&self, sigma: f64) -> f64 {
        let shift = f64::from(self.sensitivity);
        shift * shift / (2.0 * sigma * sigma)
    }

    /// The loss at an outcome; it falls as the outcome grows.
    fn loss(&self, outcome: i64, log_mass: &LogMass) -> f64 {
        let shift = i64::from(self.sensitivity);
        match self.law {
            // ((x - D)^2 - x^2) / (2 sigma^2), which keeps the spacing exact.
            Law::DiscreteGaussian { sigma } => {
                (shift - 2 * outcome) as f64 * (shift as f64 / (2.0 * sigma * sigma))
            }
            Law::Skellam { .. } => log_mass.of(outcome) - log_mass.of(outcome - shift),
        }
    }

    /// See [`super::pair::Pair::nodes`].
    pub(super) fn nodes(&self, log_tail: f64) -> Nodes {
        let reach = self.law.reach(log_tail);
        let log_mass = self.law.log_mass(reach + i64::from(self.sensitivity));
        let stride = (reach / 128).max(1);
        let mut nodes = Nodes::default();
        let mut outcome = -reach;
        while outcome <= reach {
            nodes.push(self.loss(outcome, &log_mass), log_mass.of(outcome) + (stride as f64).ln());
            outcome += stride;
        }
        nodes
    }

    /// See [`super::pair::Pair::losses`].
    pub(super) fn losses(&self, grid: &Grid) -> Losses {
        let shift = i64::from(self.sensitivity);
        let reach = self.law.reach(grid.log_tail);
        let log_mass = self.law.log_mass(reach + shift + 1);
        let (offset, loss_error, relative_error) = match self.law {
            // The offset is reduced, for a large one would only cost digits. Neighbouring outcomes are added up.
            Law::DiscreteGaussian { sigma } => {
                let spacing = shift as f64 / (sigma * sigma);
                (self.gaussian_offset(sigma) % grid.step, 0.0, ROUNDOFF * (grid.step / spacing + 4.0))
            }
            // A loss is the difference of two partial sums of logarithms, `shift` terms apart; a probability is a
            // product of up to `reach` ratios.
            Law::Skellam { .. } => {
                let largest = log_mass.of(reach + shift).abs() + 4.0;
                (0.0, 2.0 * ROUNDOFF * (shift + 2) as f64 * largest, 4.0 * ROUNDOFF * reach as f64)
            }
        };
        let mut losses = Losses::new(grid.step, offset);
        for outcome in (-reach..=reach).rev() {
            let loss = self.loss(outcome, &log_mass);
            let error = loss_error + 4.0 * ROUNDOFF * loss.abs();
            losses.split_atom(loss + error, log_mass.of(outcome).exp());
        }
        // Beyond the reach, probabilities fall at least geometrically, on either side.
        let ratio = (log_mass.of(reach + 1) - log_mass.of(reach)).exp();
        losses.infinite = 2.0 * log_mass.of(reach + 1).exp() / (1.0 - ratio);
        losses.relative_error += relative_error;
        losses
    }
}
