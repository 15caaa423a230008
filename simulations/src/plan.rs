//! One round's parameters from what an operator decides: graph, thresholds, encoding, noise and cost. Must never compute any
//! of them itself: it asks the functions that production asks.

use serde::Serialize;
use tacit_aggregation::params::{self, GraphChoice, GraphRequest, ThreatModel};
use tacit_privacy::{
    AccountantError, Adjacency, BasisPoints, Mechanism, MechanismRequest, NoiseLaw, RdpCurve, epsilon_spent,
};

/// What an operator decides.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRequest {
    /// Cohort size n.
    pub clients: u32,
    /// gamma: fraction of the cohort that may collude with the coordinator.
    pub corrupt: BasisPoints,
    /// delta: fraction of the cohort that may drop out.
    pub dropout: BasisPoints,
    /// What the coordinator may do.
    pub threat: ThreatModel,
    /// The sum fails for lack of shares with probability at most 2^-`correctness_bits`.
    pub correctness_bits: u8,
    /// Fewest survivors of a release; n - floor(delta n) where none is given.
    pub n_min: Option<u32>,
    /// Coordinates d of an update.
    pub dimension: usize,
    /// Clip norm c, in the units of the update.
    pub clip: f64,
    /// Noise multiplier z.
    pub noise_multiplier: f64,
    /// Which cohorts are neighbours.
    pub adjacency: Adjacency,
    /// The probability at which epsilon is stated.
    pub privacy_delta: f64,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Neighbours of each client.
    pub degree: u32,
    /// Smallest threshold that is private.
    pub threshold_min: u32,
    /// Largest threshold that survives the drop-outs.
    pub threshold_max: u32,
    /// Fewest survivors of a release.
    pub n_min: u32,
    /// Bits per coordinate on the wire.
    pub bits: u32,
    /// Integer units per unit of the update.
    pub scale: f64,
    /// By how much rounding lengthens an update at worst, as a factor.
    pub sensitivity_inflation: f64,
    /// Standard deviation of one client's noise share, in integer units.
    pub local_sigma: f64,
    /// Cost of one round with `n_min` survivors, the most that a released round costs.
    pub epsilon_one_round: f64,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoPlan {
    /// No graph serves the cohort.
    #[error(transparent)]
    Graph(#[from] params::Infeasible),
    /// No encoding serves the noise.
    #[error(transparent)]
    Mechanism(#[from] tacit_privacy::Infeasible),
    /// The cost cannot be stated.
    #[error(transparent)]
    Cost(#[from] AccountantError),
}

/// The plan for `request`.
///
/// # Errors
/// [`NoPlan`], with the numbers that stand in the way.
pub fn plan(request: &PlanRequest) -> Result<Plan, NoPlan> {
    let &PlanRequest { clients, corrupt, dropout, .. } = request;
    let GraphChoice { degree, threshold_min, threshold_max } = params::choose(&GraphRequest {
        threat: request.threat,
        clients,
        corrupt_bp: corrupt.get(),
        dropout_bp: dropout.get(),
        correctness_bits: request.correctness_bits,
    })?;
    let n_min = request.n_min.unwrap_or(clients - dropout.of(clients));
    let mechanism = Mechanism::build(&MechanismRequest {
        clients,
        n_min,
        corrupt,
        dropout,
        dimension: request.dimension,
        clip: request.clip,
        noise_multiplier: request.noise_multiplier,
        noise_law: NoiseLaw::DiscreteGaussian,
        adjacency: request.adjacency,
    })?;
    let curve = RdpCurve::distributed(&mechanism, n_min)?;
    Ok(Plan {
        degree,
        threshold_min,
        threshold_max,
        n_min,
        bits: mechanism.bits(),
        scale: mechanism.scale(),
        sensitivity_inflation: mechanism.sensitivity_inflation(),
        local_sigma: mechanism.local_sigma(),
        epsilon_one_round: epsilon_spent(&curve, request.privacy_delta, 1)?,
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use tacit_aggregation::params::RoundParams;

    use super::*;

    fn points(basis_points: u16) -> BasisPoints {
        BasisPoints::new(basis_points).expect("at most the whole")
    }

    fn request(clients: u32, corrupt: u16, dropout: u16) -> PlanRequest {
        PlanRequest {
            clients,
            corrupt: points(corrupt),
            dropout: points(dropout),
            threat: ThreatModel::SemiMalicious,
            correctness_bits: 40,
            n_min: None,
            dimension: 6144,
            clip: 0.5,
            noise_multiplier: 1.0,
            adjacency: Adjacency::ZeroOut,
            privacy_delta: 1e-5,
        }
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        model: ThreatModel,
        correctness_bits: u8,
        clients: u32,
        corrupt_bp: u16,
        dropout_bp: u16,
        degree: u32,
        threshold_min: u32,
        threshold_max: u32,
    }

    #[test]
    fn every_reference_row_is_planned() {
        let rows: Vec<Row> =
            serde_json::from_str(include_str!("../../aggregation/tests/vectors/secagg_params.json"))
                .expect("the reference rows parse");
        assert_eq!(rows.len(), 128);
        for row in rows {
            let request = PlanRequest {
                threat: row.model,
                correctness_bits: row.correctness_bits,
                ..request(row.clients, row.corrupt_bp, row.dropout_bp)
            };
            let plan = plan(&request).expect("feasible");
            let found = (plan.degree, plan.threshold_min, plan.threshold_max);
            assert_eq!(found, (row.degree, row.threshold_min, row.threshold_max), "{request:?}");
            assert_eq!(plan.n_min, row.clients - points(row.dropout_bp).of(row.clients));
        }
    }

    #[test]
    fn a_round_accepts_what_is_planned() {
        for clients in [12, 100, 101, 500] {
            for n_min in [None, Some(clients)] {
                let request = PlanRequest { n_min, ..request(clients, 500, 1_000) };
                let plan = plan(&request).expect("feasible");
                for threshold in [plan.threshold_min, plan.threshold_max] {
                    let params = RoundParams {
                        n: clients,
                        n_min: plan.n_min,
                        degree: plan.degree,
                        threshold,
                        bits: u8::try_from(plan.bits).expect("at most 24"),
                        dimension: 6144,
                        threat: request.threat,
                        corrupt_bp: 500,
                        dropout_bp: 1_000,
                        correctness_bits: 40,
                    };
                    params.validate().expect("valid");
                }
            }
        }
    }

    #[test]
    fn the_stated_cost_is_that_of_the_fewest_survivors() {
        let few = plan(&request(200, 500, 2_000)).expect("feasible");
        // Of one round at z = 1: the Gaussian's 4.7285 (dp_reference.json), and a little for discreteness.
        assert!(few.epsilon_one_round > 4.72 && few.epsilon_one_round < 4.75, "{few:?}");
        let all = plan(&PlanRequest { n_min: Some(200), ..request(200, 500, 2_000) }).expect("feasible");
        assert_eq!((few.n_min, all.n_min), (160, 200));
        // The same multiplier over more honest shares: each is smaller, the promise the same.
        assert!(all.local_sigma < few.local_sigma);
        assert!((all.epsilon_one_round - few.epsilon_one_round).abs() < 0.01);
        let doubled = PlanRequest { adjacency: Adjacency::ReplaceOne, ..request(200, 500, 2_000) };
        let doubled = plan(&doubled).expect("feasible");
        // Noise doubles with the sensitivity, so the cost stays.
        assert!((doubled.local_sigma / doubled.scale) / (few.local_sigma / few.scale) > 1.95);
        assert!((doubled.epsilon_one_round - few.epsilon_one_round).abs() < 0.01);
    }

    #[test]
    fn what_cannot_be_planned_has_its_reason() {
        let reason = |request: PlanRequest| plan(&request).expect_err("no plan").to_string();
        assert!(reason(request(128, 3_300, 3_300)).contains("no degree below 128-1"));
        assert!(reason(request(2, 0, 0)).contains("outside 3..="));
        assert!(reason(PlanRequest { n_min: Some(51), ..request(50, 0, 0) }).contains("n_min = 51 exceeds"));
        assert!(reason(PlanRequest { clip: -1.0, ..request(50, 0, 0) }).contains("clip is -1"));
        let quiet = PlanRequest { noise_multiplier: 1e-6, ..request(50, 0, 0) };
        assert!(reason(quiet).contains("raise noise_multiplier"));
        assert!(
            reason(PlanRequest { privacy_delta: 0.0, ..request(50, 0, 0) }).contains("delta 0 is refused")
        );
    }
}
