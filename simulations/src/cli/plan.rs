//! `tacit-sim plan`: the parameters of one round, or why there are none. Must never print a reason and end with success.

use std::fmt::Write;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tacit_aggregation::params::ThreatModel;
use tacit_privacy::{Adjacency, BasisPoints};
use tacit_simulations::plan::{Plan as Parameters, PlanRequest, plan};

use super::{Answered, say};

const THREATS: [&str; 2] = ["semi_malicious", "honest_but_curious"];
const ADJACENCIES: [&str; 2] = ["zero-out", "replace-one"];

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Plan {
    /// Clients in the cohort
    #[arg(long, value_name = "N")]
    clients: u32,
    /// Fraction of the cohort that may collude with the coordinator, a decimal of at most four digits
    #[arg(long, value_name = "GAMMA")]
    corrupt: BasisPoints,
    /// Fraction of the cohort that may drop out, a decimal of at most four digits
    #[arg(long, value_name = "DELTA")]
    dropout: BasisPoints,
    /// What the coordinator may do: lie after key setup, or only look
    #[arg(long, default_value = THREATS[0], value_parser = PossibleValuesParser::new(THREATS).map(threat))]
    threat: ThreatModel,
    /// The sum fails for lack of shares with probability at most 2^-BITS
    #[arg(long, value_name = "BITS", default_value_t = 40)]
    correctness_bits: u8,
    /// Fewest survivors of a release [default: N - floor(DELTA N)]
    #[arg(long, value_name = "M")]
    n_min: Option<u32>,
    /// Coordinates of an update
    #[arg(long, value_name = "D")]
    dimension: usize,
    /// Clip norm, in the units of the update
    #[arg(long, value_name = "C", allow_hyphen_values = true)]
    clip: f64,
    /// Standard deviation of the noise over the sensitivity
    #[arg(long, value_name = "Z", allow_hyphen_values = true)]
    noise_multiplier: f64,
    /// Which cohorts are neighbours: one update replaced by zero, or by any other
    #[arg(long, default_value = ADJACENCIES[0], value_parser = PossibleValuesParser::new(ADJACENCIES).map(adjacency))]
    adjacency: Adjacency,
    /// The probability at which epsilon is stated
    #[arg(long, value_name = "P", default_value_t = 1e-5, allow_hyphen_values = true)]
    delta: f64,
    /// Print one JSON object on standard output; where there is no plan it has a `reason` alone, and the exit code is 1
    #[arg(long)]
    json: bool,
}

// Only the two names of each list come in.
fn threat(name: String) -> ThreatModel {
    if name == THREATS[0] { ThreatModel::SemiMalicious } else { ThreatModel::HonestButCurious }
}

fn adjacency(name: String) -> Adjacency {
    if name == ADJACENCIES[0] { Adjacency::ZeroOut } else { Adjacency::ReplaceOne }
}

impl Plan {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let found = plan(&PlanRequest {
            clients: self.clients,
            corrupt: self.corrupt,
            dropout: self.dropout,
            threat: self.threat,
            correctness_bits: self.correctness_bits,
            n_min: self.n_min,
            dimension: self.dimension,
            clip: self.clip,
            noise_multiplier: self.noise_multiplier,
            adjacency: self.adjacency,
            privacy_delta: self.delta,
        });
        match found {
            Ok(plan) if self.json => say(&serde_json::to_string(&plan)?),
            Ok(plan) => say(table(&plan, self.delta).trim_end()),
            Err(reason) if self.json => {
                say(&serde_json::json!({ "reason": reason.to_string() }).to_string())?;
                Err(Answered.into())
            }
            Err(reason) => Err(reason.into()),
        }
    }
}

/// Each value with what it means.
fn table(plan: &Parameters, delta: f64) -> String {
    let rows = [
        (
            "degree",
            plan.degree.to_string(),
            "neighbours with whom each client shares keys and secrets".to_owned(),
        ),
        (
            "threshold_min",
            plan.threshold_min.to_string(),
            "fewest shares that must rebuild a secret, for privacy".to_owned(),
        ),
        (
            "threshold_max",
            plan.threshold_max.to_string(),
            "most that may be asked for, so that drop-outs do not fail the sum".to_owned(),
        ),
        ("n_min", plan.n_min.to_string(), "fewest survivors with which a sum is released".to_owned()),
        (
            "bits",
            plan.bits.to_string(),
            "bits of a coordinate on the wire; sums are taken modulo 2^bits".to_owned(),
        ),
        ("scale", plan.scale.to_string(), "integer units per unit of the update".to_owned()),
        (
            "sensitivity_inflation",
            format!("{:.5}", plan.sensitivity_inflation),
            "factor by which rounding lengthens an update at worst".to_owned(),
        ),
        (
            "local_sigma",
            format!("{:.4}", plan.local_sigma),
            "standard deviation of one client's noise share, integer units".to_owned(),
        ),
        (
            "epsilon_one_round",
            format!("{:.4}", plan.epsilon_one_round),
            format!("cost of a round with n_min survivors, at delta {delta:e}"),
        ),
    ];
    let mut text = String::new();
    for (name, value, meaning) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<22} {value:>10}  {meaning}");
    }
    text
}
