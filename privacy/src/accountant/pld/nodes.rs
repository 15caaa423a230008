//! A rough picture of a privacy loss, from which grid, window and tilt are chosen. Must never be part of a
//! result: what is chosen from it affects tightness, not validity.

/// How many standard deviations away a Gaussian tail is below `e^log_tail`.
pub(super) fn deviations(log_tail: f64) -> f64 {
    (-2.0 * log_tail).max(0.0).sqrt()
}

/// Losses of one release with the logarithms of their probabilities.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes(Vec<(f64, f64)>);

/// Value, first and second derivative of a cumulant generating function.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cumulants {
    pub(super) value: f64,
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Nodes {
    pub(super) fn push(&mut self, loss: f64, log_mass: f64) {
        // Nothing that could matter to a delta that a double holds.
        if log_mass > -2_000.0 {
            self.0.push((loss, log_mass));
        }
    }

    /// The nodes of the reversed pair.
    pub(super) fn reversed(self) -> Self {
        Self(self.0.into_iter().map(|(loss, log_mass)| (-loss, log_mass - loss)).collect())
    }

    /// `ln E[e^(tilt L)]` with its derivatives, the mean and variance of the loss under the tilted law.
    pub(super) fn cumulants(&self, tilt: f64) -> Cumulants {
        let exponent = |(loss, log_mass): &(f64, f64)| log_mass + tilt * loss;
        let largest = self.0.iter().map(exponent).fold(f64::NEG_INFINITY, f64::max);
        let weights = || self.0.iter().map(|node| (node.0, (exponent(node) - largest).exp()));
        let (sum, first) =
            weights().fold((0.0, 0.0), |(sum, first), (loss, weight)| (sum + weight, first + weight * loss));
        let mean = first / sum;
        let second: f64 = weights().map(|(loss, weight)| weight * (loss - mean) * (loss - mean)).sum();
        let variance = second / sum;
        Cumulants { value: largest + sum.ln(), mean, variance }
    }

    fn range(&self) -> (f64, f64) {
        self.0.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (loss, _)| {
            (low.min(*loss), high.max(*loss))
        })
    }
}

/// The sum of the losses of independent releases, each with the number of times it happens.
#[derive(Clone, Debug)]
pub(super) struct Sum(pub(super) Vec<(Nodes, f64)>);

impl Sum {
    pub(super) fn cumulants(&self, tilt: f64) -> Cumulants {
        self.0.iter().fold(Cumulants::default(), |sum, (nodes, count)| {
            let one = nodes.cumulants(tilt);
            Cumulants {
                value: sum.value + count * one.value,
                mean: sum.mean + count * one.mean,
                variance: sum.variance + count * one.variance,
            }
        })
    }

    /// The least and the largest value of the sum.
    pub(super) fn range(&self) -> (f64, f64) {
        self.0.iter().fold((0.0, 0.0), |(low, high), (nodes, count)| {
            let one = nodes.range();
            (low + count * one.0, high + count * one.1)
        })
    }

    /// Chernoff's bound: the value that the sum, tilted by `tilt`, exceeds (falls below, where `sign` is -1)
    /// with probability at most `e^(-log_odds)`, and the further tilt, at most `most`, that shows it.
    pub(super) fn chernoff(&self, tilt: f64, sign: f64, log_odds: f64, most: f64) -> (f64, f64) {
        let base = self.cumulants(tilt);
        // (K(tilt +- t) - K(tilt) + log_odds) / t is smallest where t K' - K - log_odds changes its sign.
        let past_best = |further: f64| {
            let there = self.cumulants(tilt + sign * further);
            further * sign * there.mean - (there.value - base.value) >= log_odds
        };
        let further = bisect_logarithm(&base, most, past_best);
        let there = self.cumulants(tilt + sign * further);
        (sign * (there.value - base.value + log_odds) / further, further)
    }

    /// The tilt, from 0 to `most`, under which the sum has the mean `mean`, or a smaller one that shows that the sum
    /// exceeds `mean` with probability `e^log_least` at most.
    pub(super) fn tilt_with_mean(&self, mean: f64, log_least: f64, most: f64) -> f64 {
        let untilted = self.cumulants(0.0);
        if untilted.mean >= mean {
            return 0.0;
        }
        bisect_logarithm(&untilted, most, |tilt| {
            let there = self.cumulants(tilt);
            there.mean >= mean || there.value - tilt * mean <= log_least
        })
    }
}

/// Where a predicate of a tilt turns true, or the largest tilt that is tried: one under which rounding, in the
/// exponents that it multiplies, does not yet matter.
fn bisect_logarithm(law: &Cumulants, most: f64, turned: impl Fn(f64) -> bool) -> f64 {
    let deviation = law.variance.sqrt().max(1e-12 * law.mean.abs()).max(f64::MIN_POSITIVE.sqrt());
    let largest = (24.0 - deviation.ln()).min(20.0 - (deviation + law.mean.abs()).ln()).min(most.ln());
    let (mut low, mut high) = (-24.0 - deviation.ln(), largest);
    for _ in 0..26 {
        let middle = (low + high) / 2.0;
        if turned(middle.exp()) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high.exp()
}
