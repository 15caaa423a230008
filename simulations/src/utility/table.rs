//! The evidence as text: CSV for programs, a summary for people. Must never leave out a point.

use std::fmt::Write;

use super::{Evidence, Outcome, Point, Updates};

/// All points of the comparison, one line each.
#[must_use]
pub fn points_csv(evidence: &Evidence) -> String {
    let mut text = String::from(
        "updates,noise_multiplier,bits,dimension,clients,scale,sensitivity_inflation,local_sigma,epsilon,rmse,measured,\
         standard_error,coordinates,central_noise_multiplier,central_rmse,central_measured,reason\n",
    );
    for point in &evidence.points {
        let updates = match point.updates {
            Updates::Random => "random",
            Updates::Aligned => "aligned",
        };
        let Point { noise_multiplier, bits, dimension, clients, .. } = point;
        // Writing to a string cannot fail.
        let _ = write!(text, "{updates},{noise_multiplier},{bits},{dimension},{clients},");
        let _ = match &point.outcome {
            Outcome::Feasible(f) => writeln!(
                text,
                "{},{:.6},{:.4},{:.6},{:.6e},{},{},{},{:.6},{:.6e},{},",
                f.scale,
                f.sensitivity_inflation,
                f.local_sigma,
                f.epsilon,
                f.rmse,
                optional(f.measured),
                optional(f.standard_error),
                f.coordinates,
                f.central_noise_multiplier,
                f.central_rmse,
                optional(f.central_measured),
            ),
            Outcome::Infeasible { reason } => writeln!(text, ",,,,,,,,,,,\"{reason}\""),
        };
    }
    text
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6e}"))
}

/// All cohorts with allowances, one line each.
#[must_use]
pub fn allowances_csv(evidence: &Evidence) -> String {
    let mut text = String::from("corrupt,dropout,dropped,epsilon,rmse,measured,standard_error,ratio\n");
    for a in &evidence.allowances {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{},{},{},{:.6},{:.6e},{:.6e},{:.6e},{:.6}",
            a.corrupt, a.dropout, a.dropped, a.epsilon, a.rmse, a.measured, a.standard_error, a.ratio
        );
    }
    text
}

/// For each kind of updates, noise multiplier and number of bits: where the distance from the central Gaussian is largest; and
/// how well measurements agree with what is expected.
#[must_use]
pub fn summary(evidence: &Evidence) -> String {
    let settings = &evidence.settings;
    let mut text = String::from("updates    z  bits  infeasible  most above central\n");
    for (updates, name) in [(Updates::Random, "random"), (Updates::Aligned, "aligned")] {
        for &z in &settings.noise_multipliers {
            for &bits in &settings.bits {
                let own = |p: &&Point| (p.updates, p.noise_multiplier, p.bits) == (updates, z, bits);
                let mut infeasible = 0;
                let mut most = None;
                for point in evidence.points.iter().filter(own) {
                    match &point.outcome {
                        Outcome::Feasible(f) if most.is_none_or(|(e, _)| e < f.excess()) => {
                            most = Some((f.excess(), point));
                        }
                        Outcome::Feasible(_) => {}
                        Outcome::Infeasible { .. } => infeasible += 1,
                    }
                }
                let worst = most.map_or_else(String::new, |(excess, point)| {
                    format!("{:>9.3}% at d = {}, n = {}", 100.0 * excess, point.dimension, point.clients)
                });
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{name:<8} {z:>3}  {bits:>4}  {infeasible:>10}  {worst}");
            }
        }
    }
    let (count, farthest) = agreement(evidence);
    let _ =
        writeln!(text, "{count} measurements, at most {farthest:.2} standard errors from what is expected");
    text
}

/// Number of measured errors, and the largest distance of one from its expectation in standard errors.
#[must_use]
pub fn agreement(evidence: &Evidence) -> (usize, f64) {
    let points = evidence.points.iter().filter_map(|point| match &point.outcome {
        Outcome::Feasible(f) => Some((f.measured? - f.rmse) / f.standard_error?),
        Outcome::Infeasible { .. } => None,
    });
    let allowances = evidence.allowances.iter().map(|a| (a.measured - a.rmse) / a.standard_error);
    let distances: Vec<f64> = points.chain(allowances).map(f64::abs).collect();
    (distances.len(), distances.into_iter().fold(0.0, f64::max))
}
