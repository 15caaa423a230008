//! The task of a load run: a vector of made-up coordinates, steps that stay open for long. Must never be mistaken for a model's.

use tacit_aggregation::params::{TaskName, ThreatModel};
use tacit_coordinator::task::{Eligibility, PublicationSettings, Schedule, TaskSettings};
use tacit_coordinator::{PlanSettings, ServerOptimizer};
use tacit_privacy::{Adjacency, NoiseLaw};
use tacit_proto::adapter::{AdapterLayout, TrainedTensor};
use tacit_proto::{AdapterShape, CohortTerms, Deadlines, LocalRule, LocalTraining};

use super::client::BASE_MODEL;

/// A task whose cohorts are so many clients with made-up updates of so many coordinates: one in ten may drop out, one in twenty
/// may collude where there are enough for that, and each step stays open for long.
#[must_use]
pub fn task(name: TaskName, clients: u32, dimension: u32) -> TaskSettings {
    let adapter = AdapterShape { rank: 1, alpha: 1.0, targets: vec!["q_proj".to_owned()], seed: 1 };
    let long = 1_200_000;
    TaskSettings {
        layout: AdapterLayout {
            base: "synthetic".to_owned(),
            base_model: BASE_MODEL,
            adapter: adapter.clone(),
            tensors: vec![TrainedTensor { name: "synthetic".to_owned(), shape: [1, dimension] }],
        },
        plan: PlanSettings {
            task: name,
            base_model: BASE_MODEL,
            adapter,
            training: LocalTraining {
                rule: LocalRule::Sgd { momentum: 0.0 },
                learning_rate: 0.1,
                steps: 1,
                batch: 1,
                sequence: 8,
            },
            cohort: CohortTerms {
                min: clients - clients / 10,
                max: clients,
                n_min: (clients - clients / 5).max(2),
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: if clients > 20 { 500 } else { 0 },
                dropout_bp: 1_000,
                correctness_bits: 40,
            },
            clip: 0.5,
            noise_multiplier: 1.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
            delta: 1e-5,
            deadlines: Deadlines { advertise: long, share: long, collect: long, confirm: long, unmask: long },
            roster: None,
            central: None,
        },
        optimizer: ServerOptimizer::FedAvg { learning_rate: 1.0 },
        eligibility: Eligibility::default(),
        schedule: Schedule::default(),
        publication: PublicationSettings::default(),
    }
}
