//! Rényi divergence of the distributed discrete Gaussian: a sum of independent discrete Gaussian noise shares.
//! Must never be given a noise variance that colluders or drop-outs could have taken away.

use std::f64::consts::PI;

/// How far a sum of `honest` discrete Gaussians, each of variance parameter `local_variance`, is from one discrete
/// Gaussian: `tau = 10 sum_{j=1}^{H-1} exp(-2 pi^2 sigma_l^2 j/(j+1))` (Kairouz, Liu, Steinke 2021, theorem 1).
pub(crate) fn tau(local_variance: f64, honest: u32) -> f64 {
    let exponent = -2.0 * PI * PI * local_variance;
    10.0 * (1..honest).map(|j| (exponent * f64::from(j) / f64::from(j + 1)).exp()).sum::<f64>()
}

/// What the bound depends on; all in scaled integer units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DistributedGaussian {
    /// Number of coordinates.
    pub(crate) dimension: usize,
    /// Largest Euclidean distance between the sums of two adjacent cohorts.
    pub(crate) sensitivity: f64,
    /// Variance parameter of one noise share.
    pub(crate) local_variance: f64,
    /// Noise shares that nobody but their owner knows.
    pub(crate) honest: u32,
}

impl DistributedGaussian {
    /// The Rényi divergence at `order`, in nats: the smallest of the three bounds of Kairouz, Liu, Steinke 2021,
    /// proposition 14. The vectors are of integers, so `Delta1 <= Delta2 min(sqrt(d), Delta2)`.
    pub(crate) fn divergence(&self, tau: f64, order: f64) -> f64 {
        let dimension = self.dimension as f64;
        let sigma = (f64::from(self.honest) * self.local_variance).sqrt();
        let ratio = self.sensitivity / sigma;
        let l1 = self.sensitivity * dimension.sqrt().min(self.sensitivity);
        let additive = order / 2.0 * ratio * ratio + tau * dimension;
        let by_l1 = order / 2.0 * (ratio * ratio + 2.0 * l1 * tau / sigma + tau * tau * dimension);
        let by_norms = order / 2.0 * (ratio + dimension.sqrt() * tau).powi(2);
        additive.min(by_l1).min(by_norms)
    }
}
