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
