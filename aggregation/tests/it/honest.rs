//! Honest rounds: the released sum is the plain sum of exactly the survivors, or the round aborts for the right reason.

use crate::fleet::{Fleet, Leaving, inputs, plain_sum, run, terms};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::{Config, TestCaseError};
use std::collections::BTreeSet;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{RoundParams, ThreatModel};
use tacit_aggregation::server::{Abort, AbortReason};

#[derive(Clone, Debug)]
struct Scenario {
    threat: ThreatModel,
    bits: u8,
    dimension: u32,
    seed: u64,
    /// For each client the step in which it leaves, if any.
    leaves: Vec<Option<Step>>,
}

fn scenario(largest: usize) -> impl Strategy<Value = Scenario> {
    // Most clients stay, but one time in three drop-outs are so frequent that the round should abort.
    let leaves = (4..=largest, 0u32..3).prop_flat_map(|(n, mood)| {
        let stay = if mood == 0 { 60u32 } else { 93 };
        proptest::collection::vec(
            (0..100u32, 0..4u32).prop_map(move |(luck, step)| {
                let step = [Step::Share, Step::Collect, Step::Confirm, Step::Unmask][step as usize];
                (luck >= stay).then_some(step)
            }),
            n,
        )
    });
    let threat = any::<bool>()
        .prop_map(|lying| if lying { ThreatModel::SemiMalicious } else { ThreatModel::HonestButCurious });
    (threat, 1u8..=32, 1u32..60, any::<u64>(), leaves).prop_map(|(threat, bits, dimension, seed, leaves)| {
        Scenario { threat, bits, dimension, seed, leaves }
    })
}

/// What must happen in a complete graph, worked out from counts alone.
fn expected(params: &RoundParams, leaves: &[Option<Step>]) -> Result<(), (Step, &'static str)> {
    let present = |step| leaves.iter().filter(|leaves| leaves.is_none_or(|at| at > step)).count() as u32;
    let t = params.threshold;
    let shared = present(Step::Share);
    if shared < t + 1 || shared < params.n_min {
        return Err((Step::Share, "TooFewShared"));
    }
    let survivors = present(Step::Collect);
    if survivors < params.n_min {
        return Err((Step::Collect, "TooFewSurvivors"));
    }
    // Whoever is present is not its own neighbour.
    let holders = |present: u32, includes_all: bool| if includes_all { present - 1 } else { present };
    if holders(survivors, survivors > 0) < t {
        return Err((Step::Collect, "Neighbourhood"));
    }
    let confirmed = present(Step::Confirm);
    if confirmed < params.quorum() {
        return Err((Step::Confirm, "NoQuorum"));
    }
    if confirmed == 0 || confirmed - 1 < t {
        return Err((Step::Confirm, "Neighbourhood"));
    }
    let answered = present(Step::Unmask);
    // Every answering client has one holder less: itself.
    if answered == 0 || answered - 1 < t {
        return Err((Step::Unmask, "Unrecoverable"));
    }
    Ok(())
}

fn reason(abort: &Abort) -> (Step, &'static str) {
    let reason = match abort.reason {
        AbortReason::Parameters(_) => "Parameters",
        AbortReason::TooFewShared { .. } => "TooFewShared",
        AbortReason::TooFewSurvivors { .. } => "TooFewSurvivors",
        AbortReason::Neighbourhood { .. } => "Neighbourhood",
        AbortReason::Unrecoverable { .. } => "Unrecoverable",
        AbortReason::VectorMissing { .. } => "VectorMissing",
        AbortReason::NoQuorum { .. } => "NoQuorum",
        AbortReason::ForeignSum => "ForeignSum",
    };
    (abort.step, reason)
}

fn leaving(ids: &[ClientId], leaves: &[Option<Step>]) -> Leaving {
    let at = |step| -> BTreeSet<ClientId> {
        ids.iter().zip(leaves).filter(|(_, at)| **at == Some(step)).map(|(id, _)| *id).collect()
    };
    Leaving {
        share: at(Step::Share),
        collect: at(Step::Collect),
        confirm: at(Step::Confirm),
        unmask: at(Step::Unmask),
    }
}

fn play(scenario: &Scenario) -> Result<bool, TestCaseError> {
    let n = scenario.leaves.len() as u32;
    let mut fleet =
        Fleet::new(n, terms(scenario.threat, n, scenario.bits, scenario.dimension), scenario.seed);
    let Ok(params) = fleet.terms.params(n) else {
        return Ok(false);
    };
    let inputs = inputs(&mut fleet);
    let ids: Vec<ClientId> = inputs.keys().copied().collect();
    let leaving = leaving(&ids, &scenario.leaves);
    let outcome = run(&mut fleet, &inputs, &leaving);
    let expected = expected(&params, &scenario.leaves);
    match outcome {
        Ok(sum) => {
            prop_assert_eq!(expected, Ok(()));
            let survivors: Vec<ClientId> = ids
                .iter()
                .filter(|id| !leaving.share.contains(id) && !leaving.collect.contains(id))
                .copied()
                .collect();
            prop_assert_eq!(&sum.survivors, &survivors);
            prop_assert_eq!(&sum.vector, &plain_sum(&inputs, &survivors));
            prop_assert!(sum.faults.is_empty());
            Ok(true)
        }
        Err(abort) => {
            prop_assert_eq!(expected, Err(reason(&abort)), "{}", abort);
            prop_assert_eq!(abort.costs_budget(), abort.step == Step::Unmask);
            Ok(false)
        }
    }
}

proptest! {
    #![proptest_config(Config::with_cases(30))]

    #[test]
    fn the_sum_is_exact_or_the_round_aborts_for_the_right_reason(scenario in scenario(40)) {
        play(&scenario)?;
    }
}

#[test]
fn a_round_without_drop_outs_releases_the_sum_at_every_size() {
    let mut released = 0;
    for n in [4u32, 5, 6, 7, 8, 9, 10, 11, 19, 20, 21, 40] {
        for threat in [ThreatModel::HonestButCurious, ThreatModel::SemiMalicious] {
            let scenario = Scenario {
                threat,
                bits: 16,
                dimension: 3,
                seed: u64::from(n),
                leaves: vec![None; n as usize],
            };
            released += u32::from(play(&scenario).expect("as expected"));
        }
    }
    assert_eq!(released, 2 * 12);
}

#[test]
fn a_harary_graph_of_128_with_drop_outs_at_every_step() {
    let n = 128;
    let mut fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 16, 50), 5);
    fleet.terms = std::sync::Arc::new(tacit_aggregation::params::RoundTerms {
        dropout_bp: 1_000,
        corrupt_bp: 500,
        ..(*fleet.terms).clone()
    });
    fleet.setups.iter_mut().for_each(|setup| setup.terms = std::sync::Arc::clone(&fleet.terms));
    let params = fleet.terms.params(n).expect("feasible");
    assert!(params.degree < n - 1, "not the complete graph");
    let inputs = inputs(&mut fleet);
    let ids: Vec<ClientId> = inputs.keys().copied().collect();
    let pick = |from: usize, count: usize| -> BTreeSet<ClientId> {
        ids.iter().skip(from).step_by(31).take(count).copied().collect()
    };
    let leaving = Leaving { share: pick(0, 3), collect: pick(1, 4), confirm: pick(2, 3), unmask: pick(3, 2) };
    let sum = run(&mut fleet, &inputs, &leaving).expect("within the drop-outs allowed");
    let survivors: Vec<&ClientId> =
        ids.iter().filter(|id| !leaving.share.contains(id) && !leaving.collect.contains(id)).collect();
    assert_eq!(survivors.len(), 121);
    assert_eq!(sum.survivors.iter().collect::<Vec<_>>(), survivors);
    assert_eq!(sum.vector, plain_sum(&inputs, survivors));
}

#[test]
fn every_survivor_counts_once() {
    // Each client's vector is a distinct power of two, so a loss or a double count is visible in the sum.
    let n = 30;
    let mut fleet = Fleet::new(n, terms(ThreatModel::SemiMalicious, n, 32, 1), 8);
    let mut inputs = inputs(&mut fleet);
    for (power, vector) in inputs.values_mut().enumerate() {
        *vector = tacit_aggregation::ring_vector::RingVector::new(32, &[1 << power]).expect("fits");
    }
    let gone: BTreeSet<ClientId> = inputs.keys().copied().skip(3).step_by(9).collect();
    let sum = run(&mut fleet, &inputs, &Leaving { collect: gone.clone(), ..Leaving::default() })
        .expect("within the drop-outs allowed");
    let expected: u32 =
        inputs.keys().enumerate().filter(|(_, id)| !gone.contains(id)).map(|(power, _)| 1u32 << power).sum();
    assert_eq!(gone.len(), 3);
    assert_eq!(sum.vector.to_values(), [expected]);
}
