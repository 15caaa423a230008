//! Rényi divergence of the distributed discrete Gaussian: a sum of independent discrete Gaussian noise
//! shares. Must never be given a noise variance that colluders or drop-outs could have taken away.

use std::f64::consts::PI;

/// How far a sum of `honest` discrete Gaussians, each of variance parameter `local_variance`, is from one
/// discrete Gaussian: `tau = 10 sum_{j=1}^{H-1} exp(-2 pi^2 sigma_l^2 j/(j+1))` (Kairouz, Liu, Steinke 2021,
/// theorem 1).
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
    /// The Rényi divergence at `order`, in nats: the smallest of the three bounds of Kairouz, Liu, Steinke
    /// 2021, proposition 14. The vectors are of integers, so `Delta1 <= Delta2 min(sqrt(d), Delta2)`.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Dimension, sensitivity, local variance, honest shares and order; tau; the three bounds. From the
    /// formulas, in Python.
    type Case = (usize, f64, f64, u32, f64, f64, [f64; 3]);

    const CASES: [Case; 6] = [
        (
            100,
            20.0,
            1.0,
            50,
            4.0,
            0.000_546_030_867_875_023_9,
            [16.054_603_086_8, 16.061_835_970_6, 16.061_835_970_6],
        ),
        (
            10,
            3.0,
            0.5,
            10,
            2.0,
            0.105_134_089_064_204_46,
            [2.851_340_890_64, 2.756_844_858_47, 2.802_624_094_57],
        ),
        (
            1000,
            5.0,
            0.49,
            20,
            16.0,
            0.130_056_120_465_644_44,
            [150.464_283_731, 172.342_880_53, 260.826_135_848],
        ),
        (
            6144,
            200.0,
            1.1,
            100,
            2.0,
            0.000_200_062_716_819_354_18,
            [364.865_548_969, 364.234_684_228, 364.234_684_228],
        ),
        (
            1_000_000,
            10.0,
            0.7,
            4,
            64.0,
            0.011_304_806_124_102_94,
            [12_447.663_267, 5_275.651_519_62, 9_556.198_535_77],
        ),
        (4, 30.0, 0.3, 40, 1.5, 2.262_724_136_492_831_7, [65.300_896_546, 130.397_059_072, 130.397_059_072]),
    ];

    #[test]
    fn the_smallest_of_the_three_bounds_is_taken() {
        for (dimension, sensitivity, local_variance, honest, order, expected_tau, bounds) in CASES {
            let found = tau(local_variance, honest);
            assert!((found - expected_tau).abs() <= 1e-12 * expected_tau, "tau {found}, not {expected_tau}");
            let divergence = DistributedGaussian { dimension, sensitivity, local_variance, honest }
                .divergence(found, order);
            let expected = bounds.into_iter().fold(f64::INFINITY, f64::min);
            assert!((divergence - expected).abs() <= 1e-9 * expected, "{divergence}, not {expected}");
        }
    }

    #[test]
    fn a_single_share_is_one_discrete_gaussian() {
        assert_eq!(tau(0.25, 1), 0.0);
        let alone = DistributedGaussian { dimension: 7, sensitivity: 2.0, local_variance: 9.0, honest: 1 };
        assert_eq!(alone.divergence(0.0, 3.0), 3.0 * 4.0 / 18.0);
    }
}
