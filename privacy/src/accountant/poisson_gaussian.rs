//! Rényi divergence of Gaussian noise on a Poisson sample of the clients, at any real order.
//! Must never return less than the divergence: where no quadrature is affordable, a proven upper bound takes its place.

use std::f64::consts::PI;

use super::remainder;
use crate::mechanism::Adjacency;

/// Lattice steps between the real line and the line in the complex plane to which the integrand is continued: the
/// trapezoidal rule is off by about `e^(-2 pi STEPS)`, below 1e-16 of the integral.
const STEPS: f64 = 6.0;
/// Standard deviations integrated beyond the outermost place where the integrand can have its maximum.
const TAIL: f64 = 14.0;
/// Most lattice points of one integral. Where more were needed, the order is so large or the noise so small that the
/// closed bound is close.
const MOST_NODES: f64 = 4096.0;
/// Relative allowance for quadrature and rounding.
const ALLOWANCE: f64 = 1e-10;

/// The pair of distributions that dominates the mechanism, in units of one client's sensitivity and along its update:
/// `P = (1-q) N(0, s^2) + q N(1, s^2)` against `Q = N(0, s^2)`, or under replace-one against
/// `Q = (1-q) N(0, s^2) + q N(-1, s^2)`.
///
/// Zero-out is add/remove: Mironov, Talwar, Zhang 2019, theorems 4 and 5, where the other direction costs no more.
/// For replace-one the proof is in `docs/privacy/accounting.md`.
#[derive(Clone, Debug)]
pub(crate) struct PoissonGaussian {
    noise_multiplier: f64,
    sampling_rate: f64,
    adjacency: Adjacency,
    step: f64,
    nodes: Vec<Node>,
    /// `KL(P || Q)`.
    relative_entropy: f64,
}

/// One point of the lattice, ascending from `-1 - TAIL s`.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The density of `P` times the lattice step.
    weight: f64,
    log_weight: f64,
    /// The privacy loss `ln(P / Q)`.
    loss: f64,
}

impl PoissonGaussian {
    /// `noise_multiplier` s must be positive and finite, `sampling_rate` q in (0, 1).
    pub(crate) fn new(noise_multiplier: f64, sampling_rate: f64, adjacency: Adjacency) -> Self {
        // P and Q are analytic and without zeros up to imaginary parts of pi s^2. Half of that, and at most two standard
        // deviations, keeps the continued integrand as small as the real one, up to a constant.
        let strip = (PI * noise_multiplier * noise_multiplier / 2.0).min(2.0 * noise_multiplier);
        let mut pair = Self {
            noise_multiplier,
            sampling_rate,
            adjacency,
            step: strip / STEPS,
            nodes: Vec::new(),
            relative_entropy: 0.0,
        };
        pair.nodes = (0..MOST_NODES as u32).map(|index| pair.node(f64::from(index))).collect();
        pair.relative_entropy = pair.nodes.iter().map(|node| node.weight * remainder(-node.loss)).sum();
        pair
    }

    /// The Rényi divergence of order `1 + excess`, in nats.
    pub(crate) fn divergence(&self, excess: f64) -> f64 {
        let count = self.count(excess);
        let bound = self.closed_bound(excess);
        if count > MOST_NODES {
            return bound;
        }
        let logarithm = self.log_moment(excess, &self.nodes[..count as usize]);
        (logarithm / excess * (1.0 + ALLOWANCE)).min(bound)
    }

    /// `ln E_Q[(P/Q)^(1+e)]`, from `E_Q[(P/Q)^(1+e)] - 1 = e KL(P||Q) + E_P[r(e ln(P/Q))]`, `r(x) = exp(x) - 1 - x`.
    /// Nothing is subtracted, so that the sum is exact to rounding however close it is to 0.
    fn log_moment(&self, excess: f64, nodes: &[Node]) -> f64 {
        let exponents = nodes.iter().map(|node| node.log_weight + excess * node.loss);
        let largest = exponents.fold(0.0, f64::max);
        let scale = (-largest).exp();
        let sum: f64 = nodes
            .iter()
            .map(|node| {
                let loss = excess * node.loss;
                if loss <= 1.0 {
                    node.weight * remainder(loss) * scale
                } else {
                    // r(x) = e^x (1 - (1 + x) e^-x), with e^x inside an exponent that cannot overflow.
                    (node.log_weight + loss - largest).exp() * (1.0 - (1.0 + loss) * (-loss).exp())
                }
            })
            .sum();
        if largest < 600.0 {
            (excess * self.relative_entropy + largest.exp() * sum).ln_1p()
        } else {
            // What is left out, ln(1 + e^-600 ..), is far below the allowance.
            largest + sum.ln()
        }
    }

    /// Lattice points from the first to one that lies [`TAIL`] deviations beyond every maximum of `P^alpha Q^(1-alpha)`:
    /// its logarithm has the slope `(alpha m_P - (alpha - 1) m_Q - z) / s^2` with posterior means `m_P` in `[0, 1]` and
    /// `m_Q` in `[-1, 0]`, or 0 under zero-out.
    fn count(&self, excess: f64) -> f64 {
        let last = match self.adjacency {
            Adjacency::ZeroOut => 1.0 + excess,
            Adjacency::ReplaceOne => 1.0 + 2.0 * excess,
        };
        ((1.0 + last + 2.0 * TAIL * self.noise_multiplier) / self.step).ceil()
    }

    /// A proven bound for every order, close for large orders and for little noise.
    ///
    /// Zero-out, from the triangle inequality in `L^alpha(Q)`: `E_Q[(P/Q)^alpha]^(1/alpha) <= 1 - q + q exp((alpha-1) /
    /// (2 s^2))`. Replace-one: that plus `ln(1/(1-q))`, since `Q >= (1-q) N(0, s^2)`. In both cases no more than
    /// without sampling (joint quasi-convexity).
    fn closed_bound(&self, excess: f64) -> f64 {
        let Self { noise_multiplier, sampling_rate, adjacency, .. } = *self;
        let slope = 0.5 / (noise_multiplier * noise_multiplier);
        let sampled = (1.0 + excess) / excess * log_mixture(sampling_rate, excess * slope);
        let (sampled, unsampled) = match adjacency {
            Adjacency::ZeroOut => (sampled, (1.0 + excess) * slope),
            Adjacency::ReplaceOne => (sampled - (-sampling_rate).ln_1p(), 4.0 * (1.0 + excess) * slope),
        };
        sampled.min(unsampled)
    }

    fn node(&self, index: f64) -> Node {
        let Self { noise_multiplier: s, sampling_rate: q, adjacency, step, .. } = *self;
        let z = index * step - 1.0 - TAIL * s;
        let variance = s * s;
        let log_gaussian = -z * z / (2.0 * variance) - (s * (2.0 * PI).sqrt()).ln();
        let of_p = log_mixture(q, (2.0 * z - 1.0) / (2.0 * variance));
        let of_q = match adjacency {
            Adjacency::ZeroOut => 0.0,
            Adjacency::ReplaceOne => log_mixture(q, (-2.0 * z - 1.0) / (2.0 * variance)),
        };
        let log_weight = log_gaussian + of_p + step.ln();
        Node { weight: log_weight.exp(), log_weight, loss: of_p - of_q }
    }
}

/// `ln(1 - q + q e^x)` for q in (0, 1).
fn log_mixture(q: f64, x: f64) -> f64 {
    if x > 500.0 {
        let larger = x + q.ln();
        if larger < 1.0 { (larger.exp() - q).ln_1p() } else { larger + ((1.0 - q) * (-larger).exp()).ln_1p() }
    } else if q < 0.5 || x > -1.0 {
        (q * x.exp_m1()).ln_1p()
    } else {
        // 1 - q is exact from one half upwards, and the sum does not cancel.
        ((1.0 - q) + q * x.exp()).ln()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        divergences: Vec<Divergence>,
    }

    #[derive(Deserialize)]
    struct Divergence {
        noise_multiplier: f64,
        sampling_rate: f64,
        adjacency: Adjacency,
        order_minus_one: f64,
        divergence: f64,
    }

    #[test]
    fn agrees_with_high_precision_at_every_order() {
        let reference = include_str!("../../tests/vectors/rdp_reference.json");
        let reference: Reference = serde_json::from_str(reference).unwrap();
        assert!(reference.divergences.len() > 200);
        for case in reference.divergences {
            let pair = PoissonGaussian::new(case.noise_multiplier, case.sampling_rate, case.adjacency);
            let (found, expected) = (pair.divergence(case.order_minus_one), case.divergence);
            let name = format!(
                "{} {} {:?} 1+{}",
                case.noise_multiplier, case.sampling_rate, case.adjacency, case.order_minus_one
            );
            assert!(found >= expected * (1.0 - 1e-15), "{name}: {found} below {expected}");
            // Beyond the quadrature the closed bound is taken, which is not as tight.
            let allowed = if pair.count(case.order_minus_one) > MOST_NODES { 0.01 } else { 2.0 * ALLOWANCE };
            assert!(found <= expected * (1.0 + allowed), "{name}: {found} far above {expected}");
        }
    }
}
