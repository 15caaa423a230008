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
    /// The Rényi divergence at `order`, in nats (Agarwal, Kairouz, Liu 2021, theorem 3.5).
    pub(crate) fn divergence(&self, order: f64) -> f64 {
        let Self { variance, l2, l1 } = *self;
        let gaussian = order * l2 * l2 / (2.0 * variance);
        let second = ((2.0 * order - 1.0) * l2 * l2 + 6.0 * l1) / (4.0 * variance * variance);
        gaussian + second.min(3.0 * l1 / (2.0 * variance))
    }
}
