//! Rényi divergence of Skellam noise. Must never be given more variance than honest clients really added.

use super::pld::skellam_log_masses;

/// Skellam noise of total variance `variance` in each coordinate of an integer vector; all in integer units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SkellamNoise {
    /// Total variance mu: the sum of the honest shares'.
    pub(crate) variance: f64,
    /// Largest Euclidean distance Delta2 between the sums of two adjacent cohorts.
    pub(crate) l2: f64,
    /// Largest l1 distance Delta1; at most `Delta2 min(sqrt(d), Delta2)` for integer vectors.
    pub(crate) l1: f64,
}

impl SkellamNoise {
    /// The Rényi divergence at order `1 + excess`, in nats.
    ///
    /// The bound is proven for integer orders. Between two of them, `(alpha - 1) D_alpha` lies below the chord, for it is a
    /// cumulant generating function and so convex in alpha; it is 0 at order 1.
    pub(crate) fn divergence(&self, excess: f64) -> f64 {
        let below = excess.floor();
        if below == excess {
            return self.at_integer(1.0 + excess);
        }
        let fraction = excess - below;
        let chord = (1.0 - fraction) * below * self.at_integer(1.0 + below)
            + fraction * (1.0 + below) * self.at_integer(2.0 + below);
        chord / excess
    }

    /// Agarwal, Kairouz, Liu 2021, theorem 3.5, for integer orders from 2.
    fn at_integer(&self, order: f64) -> f64 {
        let Self { variance, l2, l1 } = *self;
        let gaussian = order * l2 * l2 / (2.0 * variance);
        let second = ((2.0 * order - 1.0) * l2 * l2 + 6.0 * l1) / (4.0 * variance * variance);
        gaussian + second.min(3.0 * l1 / (2.0 * variance))
    }
}

/// Most probabilities in a table: deviations up to about 200.
const LONGEST_TABLE: f64 = (1 << 14) as f64;

/// Skellam noise on one integer, with its probabilities: the divergence itself, where a table reaches far enough.
#[derive(Clone, Debug)]
pub(crate) struct SkellamInteger {
    bound: SkellamNoise,
    shift: usize,
    /// Logarithms of the probabilities of 0, 1, 2, ...; none where the table would be too long.
    log_masses: Vec<f64>,
}

impl SkellamInteger {
    /// Noise of variance `variance` on an integer that one client moves by at most `shift`.
    pub(crate) fn new(variance: f64, shift: u32) -> Self {
        let distance = f64::from(shift);
        let entries = 1024.0 + 64.0 * (variance.sqrt() + distance);
        let log_masses =
            if entries <= LONGEST_TABLE { skellam_log_masses(variance, entries as i64) } else { Vec::new() };
        Self {
            bound: SkellamNoise { variance, l2: distance, l1: distance },
            shift: shift as usize,
            log_masses,
        }
    }

    /// The Rényi divergence at order `1 + excess`, in nats, or the bound for vectors where that is less than what can be said
    /// of the sum over the table.
    pub(crate) fn divergence(&self, excess: f64) -> f64 {
        self.bound.divergence(excess).min(self.by_sum(excess).unwrap_or(f64::INFINITY))
    }

    /// The sum over the integers of `p(x - shift)^alpha p(x)^(1 - alpha)`, the worst shift being the largest, as a divergence;
    /// none where the table does not bound its tails. The analysis is in `docs/privacy/accounting.md`.
    fn by_sum(&self, excess: f64) -> Option<f64> {
        let (order, table) = (1.0 + excess, &self.log_masses);
        let last = table.len().checked_sub(1).filter(|last| *last > 2 * self.shift)?;
        let (shift, mu, end) = (self.shift as f64, self.bound.variance, last as f64);
        let falls = |x: usize| (table[x] - table[x - 1]).exp();

        // On the right, terms fall at least as fast as a geometric series of ratio q.
        let ratio = falls(last) * (2.0 * order * shift / (2.0 * end + mu)).exp();
        if ratio >= 1.0 {
            return None;
        }
        let right = table[last] + order * shift * (2.0 * end / mu).ln_1p() + (ratio / (1.0 - ratio)).ln();
        // On the left they are at most p(x).
        let nearest = last - self.shift;
        let left = table[nearest] - (1.0 - falls(nearest)).ln();

        let inside = (0..=last).map(|x| order * table[x.abs_diff(self.shift)] - excess * table[x]);
        let mirrored = (1..=nearest).map(|x| order * table[x + self.shift] - excess * table[x]);
        let exponents: Vec<f64> = inside.chain(mirrored).chain([left, right]).collect();
        let largest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = exponents.iter().map(|exponent| (exponent - largest).exp()).sum();

        // Of the table: each ratio passes its error on to some sigma others, and their logarithms are added up. Then of one
        // product and one sum for each exponent, for which as much is allowed again.
        let tabulated = 2.0 * (end + 64.0) * (mu.sqrt() + 4.0) * f64::EPSILON;
        let added = (end + 64.0) * table[last].abs() * f64::EPSILON;
        let rounding = (order + excess) * (tabulated + added);
        // Not finite where the variance is so small that probabilities leave the range of doubles.
        Some((largest + sum.ln() + rounding) / excess).filter(|divergence| divergence.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact Rényi divergence of order `1 + excess` between Skellam noise of variance `variance` and the same moved by
    /// `shift`, from its probabilities `e^-mu I_x(mu)`.
    fn exact(variance: f64, shift: usize, excess: f64) -> f64 {
        let reach = 60 + 14 * variance.sqrt() as usize + 4 * shift * (2 + excess as usize);
        // Ratios r_x = I_x / I_(x-1) by the backward recurrence r_x = 1 / (2x/mu + r_(x+1)), which is stable.
        let mut ratios = vec![0.0_f64; 2 * reach + 1];
        for x in (1..2 * reach).rev() {
            ratios[x] = 1.0 / (2.0 * x as f64 / variance + ratios[x + 1]);
        }
        let logs: Vec<f64> = (0..2 * reach)
            .scan(0.0, |sum: &mut f64, x| {
                *sum += if x == 0 { 0.0 } else { ratios[x].ln() };
                Some(*sum)
            })
            .collect();
        let total: f64 = logs.iter().map(|log| log.exp()).sum::<f64>() * 2.0 - 1.0;
        let log_probability = |x: i64| logs[x.unsigned_abs() as usize] - total.ln();
        let (shift, reach) = (shift as i64, reach as i64);
        let exponent = |x: i64| (1.0 + excess) * log_probability(x - shift) - excess * log_probability(x);
        let largest = (-reach..=reach).map(exponent).fold(f64::NEG_INFINITY, f64::max);
        let scaled: f64 = (-reach..=reach).map(|x| (exponent(x) - largest).exp()).sum();
        (largest + scaled.ln()) / excess
    }

    #[test]
    fn the_bound_holds_at_every_order_and_is_close_with_much_noise() {
        // From mpmath with 30 digits: variance 10, shift 2, order 3.
        assert!((exact(10.0, 2, 2.0) - 0.572_809_64).abs() < 1e-8);
        for variance in [0.25, 1.0, 2.0, 10.0, 50.0, 400.0] {
            for shift in [1, 2, 5] {
                for excess in [0.01, 0.1, 0.5, 0.99, 1.0, 1.5, 2.0, 2.3, 7.0, 15.5, 31.0] {
                    let distance = shift as f64;
                    let noise = SkellamNoise { variance, l2: distance, l1: distance };
                    let (bound, truth) = (noise.divergence(excess), exact(variance, shift, excess));
                    assert!(bound >= truth, "{variance} {shift} 1+{excess}: {bound} below {truth}");
                    if variance > 100.0 && excess.fract() == 0.0 {
                        assert!(bound <= truth * 1.05, "{variance} {shift} 1+{excess}: {bound}, not {truth}");
                    }
                }
            }
        }
    }

    #[test]
    fn on_one_integer_it_is_the_divergence_itself() {
        for variance in [0.01, 0.25, 1.0, 10.0, 400.0, 10_000.0] {
            for shift in [1_u32, 2, 5] {
                let noise = SkellamInteger::new(variance, shift);
                for excess in [0.001, 0.1, 0.99, 1.5, 5.3, 15.5] {
                    let (found, truth) = (noise.divergence(excess), exact(variance, shift as usize, excess));
                    let name = format!("{variance} {shift} 1+{excess}: {found}, not {truth}");
                    assert!(found >= truth, "{name}");
                    // Near order 1 the allowance for rounding shows, and the bound for vectors may be less.
                    let slack = if excess < 0.1 { 1.2 } else { 1.002 };
                    assert!(found <= truth * slack, "{name}");
                }
            }
        }
    }

    #[test]
    fn where_a_table_ends_too_early_the_bound_counts() {
        for (variance, shift, excess) in [(1e6, 1, 3.0), (4.0, 1_000, 3.0), (4.0, 1, 1e5)] {
            let noise = SkellamInteger::new(variance, shift);
            assert_eq!(noise.by_sum(excess), None, "{variance} {shift} {excess}");
            assert_eq!(noise.divergence(excess), noise.bound.divergence(excess));
        }
        // A table cut short says more, never less: its tails are bounded, not left out.
        let whole = SkellamInteger::new(9.0, 2);
        let truth = whole.by_sum(4.5).expect("far enough");
        for kept in [24, 40, 60, 100] {
            let mut cut = whole.clone();
            cut.log_masses.truncate(kept);
            assert!(cut.by_sum(4.5).is_none_or(|more| more >= truth * (1.0 - 1e-7)), "{kept}");
        }
        let shortest = (6..100).find_map(|kept| {
            let mut cut = whole.clone();
            cut.log_masses.truncate(kept);
            cut.by_sum(4.5)
        });
        assert!(shortest.is_some_and(|more| more > 1.01 * truth), "{shortest:?}, {truth}");
    }

    #[test]
    fn between_integer_orders_lies_the_chord() {
        let noise = SkellamNoise { variance: 9.0, l2: 4.0, l1: 16.0 };
        let moment = |excess: f64| excess * noise.divergence(excess);
        assert!((moment(3.25) - (0.75 * moment(3.0) + 0.25 * moment(4.0))).abs() < 1e-12);
        assert!((noise.divergence(0.5) - noise.at_integer(2.0)).abs() < 1e-12);
        // 2 * 16 / 18 + min((3 * 16 + 96) / 324, 48 / 18).
        assert!((noise.divergence(1.0) - (16.0 / 9.0 + 144.0 / 324.0)).abs() < 1e-12);
    }
}
