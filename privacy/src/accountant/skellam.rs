//! Rényi divergence of Skellam noise. Must never be given more variance than honest clients really added.

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
    fn between_integer_orders_lies_the_chord() {
        let noise = SkellamNoise { variance: 9.0, l2: 4.0, l1: 16.0 };
        let moment = |excess: f64| excess * noise.divergence(excess);
        assert!((moment(3.25) - (0.75 * moment(3.0) + 0.25 * moment(4.0))).abs() < 1e-12);
        assert!((noise.divergence(0.5) - noise.at_integer(2.0)).abs() < 1e-12);
        // 2 * 16 / 18 + min((3 * 16 + 96) / 324, 48 / 18).
        assert!((noise.divergence(1.0) - (16.0 / 9.0 + 144.0 / 324.0)).abs() < 1e-12);
    }
}
