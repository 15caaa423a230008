//! What theory says about a decoded mean: its error, how well a measurement of it can agree, and the central mechanism of the
//! same cost. Must never look at a measurement.

use std::f64::consts::PI;

use tacit_privacy::{AccountantError, Mechanism, RdpCurve};

use super::Updates;

/// Terms of the series for the error of rounding; the rest is below a thousandth of the whole.
const ROUNDING_TERMS: u32 = 200;
/// Times round the ring that are counted.
const WRAPS: u32 = 8;
/// Halvings of the interval in which a multiplier is sought, on a logarithmic scale: as fine as a double.
const HALVINGS: u32 = 60;

/// The error to expect of one coordinate of a decoded mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    /// Square error of noise and rounding, in squared units of the update.
    pub(super) smooth: f64,
    /// What wraps add to it; less than nothing where a wrap brings noise back towards the middle.
    pub(super) wraps: f64,
    /// What wraps add to the mean fourth power of the error, roughly.
    wraps_fourth: f64,
}

impl Expected {
    /// For `survivors` updates at full length. A coordinate of their rotated sum counts as normally distributed.
    pub(super) fn of(mechanism: &Mechanism, survivors: u32, updates: Updates) -> Self {
        let n = f64::from(survivors);
        let norm = mechanism.scale() * mechanism.clip();
        let dimension = mechanism.dimension() as f64;
        let smooth = n * (mechanism.local_variance() + rounding(norm / dimension.sqrt()));
        let length = match updates {
            Updates::Random => n.sqrt() * norm,
            Updates::Aligned => n * norm,
        };
        let variance = length * length / dimension + smooth;
        let (deviation, share) = (variance.sqrt(), smooth / variance);
        let ring = 2.0_f64.powi(mechanism.bits() as i32);
        // From 2k - 1 half rings on a coordinate X is off by k rings. Of X the noise N is `share X` on average, so that the kth
        // ring changes the square error from (N - (k - 1) ring)^2 to (N - k ring)^2, on average by
        // (2k - 1) ring^2 - 2 share ring |X|: nothing, nearly, where all is noise.
        let (mut wraps, mut wraps_fourth) = (0.0, 0.0);
        for k in (1..=WRAPS).map(f64::from) {
            let edge = (2.0 * k - 1.0) * ring / 2.0;
            let beyond = libm::erfc(edge / (2.0_f64.sqrt() * deviation));
            // The mean of |X| over what is beyond.
            let mean = 2.0 * deviation * (-edge * edge / (2.0 * variance)).exp() / (2.0 * PI).sqrt();
            wraps += (2.0 * k - 1.0) * ring * ring * beyond - 2.0 * share * ring * mean;
            let noise = share * edge;
            wraps_fourth += ((noise - k * ring).powi(4) - (noise - (k - 1.0) * ring).powi(4)) * beyond;
        }
        let unit = mechanism.scale() * n;
        Self {
            smooth: smooth / (unit * unit),
            wraps: wraps / (unit * unit),
            wraps_fourth: wraps_fourth / unit.powi(4),
        }
    }

    /// Root mean square error, in units of the update.
    pub(super) fn rmse(&self) -> f64 {
        (self.smooth + self.wraps).sqrt()
    }

    /// Standard error of a measurement of [`Self::rmse`] over `coordinates` coordinates: the mean of squares of normal errors
    /// varies by `2 smooth^2`, wraps add their fourth moment.
    pub(super) fn standard_error(&self, coordinates: u64) -> f64 {
        let variance = 2.0 * self.smooth * self.smooth + self.wraps_fourth;
        (variance / coordinates as f64).sqrt() / (2.0 * self.rmse())
    }
}

/// Variance of randomised rounding of a normal number of standard deviation `deviation`, in squared integer units: the mean of
/// `f (1 - f)` over its fractional part f, as a Fourier series. 1/6 from a deviation of 1 on; less for numbers near 0.
fn rounding(deviation: f64) -> f64 {
    let term = |k: u32| {
        let k = f64::from(k) * PI;
        (-2.0 * k * k * deviation * deviation).exp() / (k * k)
    };
    1.0 / 6.0 - (1..=ROUNDING_TERMS).map(term).sum::<f64>()
}

/// The noise multiplier of the central Gaussian whose epsilon at `delta`, by the same accountant, is `epsilon`.
///
/// # Errors
/// As [`RdpCurve::epsilon`].
pub(super) fn central_multiplier(epsilon: f64, delta: f64) -> Result<f64, AccountantError> {
    let (mut low, mut high) = (1e-6_f64, 1e6_f64);
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        if RdpCurve::gaussian(middle).epsilon(delta)? > epsilon { low = middle } else { high = middle }
    }
    Ok(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utility::request;
    use crate::utility::tests::largest;

    #[test]
    fn rounding_has_the_variance_of_its_fraction() {
        assert!((rounding(3.0) - 1.0 / 6.0).abs() < 1e-12);
        for deviation in [0.05, 0.2, 0.4] {
            // The mean of f (1 - f) under the normal density, by the trapezoidal rule.
            let step = 1e-4;
            let density =
                |x: f64| (-x * x / (2.0 * deviation * deviation)).exp() / (deviation * (2.0 * PI).sqrt());
            let part = |x: f64| (x - x.floor()) * (1.0 - (x - x.floor())) * density(x) * step;
            let mean: f64 = (-40_000..40_000).map(|i| part(f64::from(i) * step)).sum();
            assert!((rounding(deviation) / mean - 1.0).abs() < 0.02, "{deviation}: {mean}");
        }
    }

    #[test]
    fn the_central_multiplier_costs_what_it_should() {
        for multiplier in [0.3, 1.0, 4.0, 50.0] {
            let epsilon = RdpCurve::gaussian(multiplier).epsilon(1e-5).expect("finite");
            let found = central_multiplier(epsilon, 1e-5).expect("finite");
            assert!((found / multiplier - 1.0).abs() < 1e-9, "{found}, not {multiplier}");
        }
    }

    #[test]
    fn wraps_cost_what_the_ring_takes_from_a_sum() {
        // Integrated over signal and noise on a grid: the square error of what is left of their sum in the ring.
        for (clients, dimension, updates) in [(300, 256, Updates::Aligned), (40, 1024, Updates::Random)] {
            let mechanism = largest(&request(clients, dimension, 1.0), 12);
            let expected = Expected::of(&mechanism, clients, updates);
            let unit = mechanism.scale() * f64::from(clients);
            let noise = expected.smooth.sqrt() * unit;
            let length = match updates {
                Updates::Random => f64::from(clients).sqrt(),
                Updates::Aligned => f64::from(clients),
            };
            let signal = length * mechanism.scale() / (dimension as f64).sqrt();
            let (mut sum, mut weights) = (0.0, 0.0);
            let steps = || (-400..=400).map(|i| f64::from(i) / 50.0);
            for s in steps() {
                for e in steps() {
                    let weight = (-(s * s + e * e) / 2.0_f64).exp();
                    let rings = ((s * signal + e * noise) / 4096.0).round();
                    sum += weight * ((e * noise - 4096.0 * rings).powi(2) - (e * noise).powi(2));
                    weights += weight;
                }
            }
            let integrated = sum / weights / (unit * unit);
            let tolerance = 0.02 * integrated.abs() + 1e-6 * expected.smooth;
            assert!((expected.wraps - integrated).abs() < tolerance, "{} and {integrated}", expected.wraps);
        }
    }

    #[test]
    fn a_measurement_over_four_times_as_many_coordinates_is_twice_as_good() {
        let mechanism = Mechanism::build_with_bits(&request(10, 1024, 1.0), 16).expect("feasible");
        let expected = Expected::of(&mechanism, 10, Updates::Random);
        let (few, many) = (expected.standard_error(1000), expected.standard_error(4000));
        assert!((few / many - 2.0).abs() < 1e-9);
        // Without wraps the root of a mean of N squares of normal numbers varies by 1/sqrt(2N) of itself.
        assert!((few / expected.rmse() * 2000.0_f64.sqrt() - 1.0).abs() < 1e-3);
    }
}
