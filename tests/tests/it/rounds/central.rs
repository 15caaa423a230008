//! Whole rounds in which the coordinator adds the noise: what it releases, how often, to whom, and where the clip norm goes.
//! Must never find two noises on one sum.

use super::fleet::{Fleet, Leaves, START, rng};
use super::{commit, committed, entries, failed};
use std::collections::BTreeMap;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_client::participant::Joined;
use tacit_client::{BudgetError, ParticipantError};
use tacit_coordinator::round::OpenError;
use tacit_coordinator::{Driver, RoundSetup};
use tacit_privacy::{AdaptiveClip, NoiseKey, RdpCurve, epsilon_spent, ledger};
use tacit_proto::RoundPlan;

const RULE: AdaptiveClip = AdaptiveClip { target_quantile: 0.5, learning_rate: 0.4, count_noise: 2.0 };

fn setup(fleet: &Fleet, plan: tacit_proto::SignedPlan, noise: Option<NoiseKey>) -> RoundSetup {
    RoundSetup {
        plan,
        coordinator: fleet.key.public_key(),
        root: fleet.root.public_key(),
        invited: fleet.clients().into_iter().collect(),
        noise,
    }
}

#[test]
fn the_release_is_the_masked_sum_and_one_noise() {
    for adaptive_clip in [None, Some(RULE)] {
        let mut fleet = Fleet::new(12, 31).with_central_noise(adaptive_clip);
        let drops =
            BTreeMap::from([(fleet.clients()[2], Leaves::Share), (fleet.clients()[5], Leaves::Upload)]);
        let run = fleet.run(1, &drops);
        let released = committed(&run);
        assert_eq!(released.survivors.len(), 10);
        assert_eq!(released.mean, fleet.expected_mean(1, &run, &released.survivors));
        let record = &commit(released).debit;
        let mechanism = record.mechanism.central().expect("the ledger says who added the noise");
        assert_eq!(commit(released).clip_bits.is_some(), adaptive_clip.is_some());

        // What was added is the noise that the mechanism announces: one, however many clients there are.
        let updates: Vec<Vec<f32>> =
            released.survivors.iter().map(|&client| fleet.delta(1, client)).collect();
        let clipped = |update: &Vec<f32>| {
            let norm = update.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            (mechanism.clip() / norm).min(1.0)
        };
        let mut error = 0.0;
        for (coordinate, &value) in released.mean.iter().enumerate() {
            let sum: f64 = updates.iter().map(|update| clipped(update) * f64::from(update[coordinate])).sum();
            error += (10.0 * f64::from(value) - sum).powi(2);
        }
        let ratio = (error / released.mean.len() as f64).sqrt() / mechanism.noise_std();
        // 300 coordinates: five standard errors are 0.2, and rounding adds a little.
        assert!((ratio - 1.0).abs() < 0.22, "{ratio}");

        let account = &run.account;
        assert_eq!(ledger::verify(&entries(account)).as_ref(), Ok(account.ledger()));
        let ideal = epsilon_spent(&RdpCurve::gaussian(2.0), record.delta, 1).expect("stated");
        assert!((record.epsilon / ideal - 1.0).abs() < 1e-6, "{} where {ideal} is due", record.epsilon);
        for &client in &released.survivors {
            assert!((fleet.spent(client) / ideal - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn with_hardly_any_noise_the_mean_of_the_updates_comes_out() {
    // Clients that leave their noise out leave nothing else out.
    let mut fleet = Fleet::with_dimension(8, 32, 40).with_central_noise(None);
    fleet.settings.noise_multiplier = 0.2;
    let run = fleet.run(1, &BTreeMap::new());
    let released = committed(&run);
    let updates: Vec<Vec<f32>> = fleet.clients().iter().map(|&client| fleet.delta(1, client)).collect();
    let clip = commit(released).debit.mechanism.clip();
    let norm = |update: &[f32]| update.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    for (coordinate, &value) in released.mean.iter().enumerate() {
        let clipped = |update: &Vec<f32>| f64::from(update[coordinate]) * (clip / norm(update)).min(1.0);
        let mean = updates.iter().map(clipped).sum::<f64>() / 8.0;
        let deviation = commit(released).debit.mechanism.total_noise_std(8) / 8.0;
        assert!((f64::from(value) - mean).abs() < 6.0 * deviation, "{value}, {mean}, {deviation}");
        assert!(deviation < 0.03 * clip, "{deviation}");
    }
}

#[test]
fn masks_change_nothing() {
    let mut masked = Fleet::new(9, 33).with_central_noise(Some(RULE));
    let mut plain = Fleet::new(9, 33).with_central_noise(Some(RULE));
    let survivors = masked.clients().into_iter().collect();
    let (masked, plain) = (masked.run(1, &BTreeMap::new()), plain.run_plain(1, &survivors));
    assert_eq!(committed(&masked).mean, committed(&plain).mean);
    assert_eq!(committed(&masked).entry.event, committed(&plain).entry.event);
}

#[test]
fn the_clip_norm_follows_the_ledger_through_every_round() {
    // Norms lie between 0.25 and 0.5, and no start gets there in sixteen rounds.
    for (start, rises) in [(10.0, false), (0.005, true)] {
        let mut fleet = Fleet::with_dimension(10, 34, 20).with_central_noise(Some(RULE));
        fleet.settings.clip = start;
        let mut clips = Vec::new();
        for round in 1..=16 {
            let plan = fleet.plan(round);
            let plan = plan.verify(&fleet.key.public_key()).expect("its own plan");
            clips.push(plan.privacy.clip);
            // A round that fails moves nothing.
            if round == 5 {
                let all = fleet.clients();
                let drops = all.iter().take(5).map(|&client| (client, Leaves::Upload)).collect();
                let run = fleet.run(round, &drops);
                assert_eq!(failed(&run).step, Step::Collect);
                fleet.go_on(run);
                continue;
            }
            let run = fleet.run(round, &BTreeMap::new());
            let commit = commit(committed(&run));
            assert_eq!(commit.debit.mechanism.clip(), plan.privacy.clip);
            let due = RULE.next_clip(plan.privacy.clip, commit.clip_bits.expect("counted"), 10);
            assert_eq!(run.account.next_clip(&plan.task, &RULE), Some(due));
            fleet.go_on(run);
        }
        assert_eq!(clips[0], start);
        assert_eq!(clips[4], clips[5], "the failed round's norm is the next one's");
        assert_eq!(clips[15] > clips[0], rises, "{clips:?}");
        let moved = (clips[15] / clips[0]).ln().abs();
        // Fourteen steps of 0.2 each, and the noise of the counts.
        assert!((moved - 14.0 * 0.2).abs() < 0.6, "{moved}: {clips:?}");
        ledger::verify(&entries(&fleet.account)).expect("a sound chain");
    }
}

#[test]
fn a_client_whose_owner_did_not_allow_it_stays_out() {
    let trusting = Fleet::new(8, 35).with_central_noise(Some(RULE));
    let wary = Fleet::new(8, 35);
    let plan = trusting.plan(1);
    let client = wary.clients()[0];
    let machine = &wary.machines[&client];
    let parent = *wary.state.adapter.digest();
    let join = |plan: &tacit_proto::SignedPlan| {
        let mut secrets = rng(35, client, 1, 1);
        let delta = wary.delta(1, client);
        Joined::new(plan, &machine.member, parent, delta, &machine.budget, START, &mut secrets).map(|_| ())
    };
    let refused = join(&plan).expect_err("not allowed");
    assert_eq!(refused, ParticipantError::Budget(BudgetError::CentralNotAllowed { round: 1 }));
    assert!(refused.to_string().contains("allow_central"), "{refused}");
    join(&wary.plan(1)).expect("the same round with its own noise");
}

#[test]
fn too_few_survivors_release_nothing() {
    let mut fleet = Fleet::new(8, 36).with_central_noise(Some(RULE));
    let before = fleet.state.clone();
    let drops: BTreeMap<ClientId, Leaves> =
        fleet.clients().into_iter().take(3).map(|client| (client, Leaves::Upload)).collect();
    let run = fleet.run(1, &drops);
    assert_eq!((failed(&run).step, failed(&run).debited.len()), (Step::Collect, 0));
    assert_eq!(*run.outcome.state(), before);
}

#[test]
fn a_coordinator_that_comes_back_releases_the_same_sum_with_the_same_noise_or_not_at_all() {
    let mut fleet = Fleet::new(8, 37).with_central_noise(Some(RULE));
    let plan = fleet.plan(1);
    let first = fleet.run(1, &BTreeMap::new());
    // Crashed before the outcome was stored: the stored plan, key and messages give the same release.
    let mut again = Fleet::new(8, 37).with_central_noise(Some(RULE));
    assert_eq!(again.plan(1), plan);
    assert_eq!(again.run(1, &BTreeMap::new()).outcome, first.outcome);

    // With a key drawn afresh, or none, the plan's round cannot be opened: no sum gets a second noise.
    for noise in [None, Some(NoiseKey::from_bytes(&[1; 32]))] {
        let refused =
            Driver::open(setup(&fleet, plan.clone(), noise), fleet.state.clone(), &fleet.account, START);
        assert_eq!(refused.map(|_| ()), Err(OpenError::NoiseKey { round: 1 }));
    }
    // After the outcome was stored the plan is spent.
    let key = fleet.noise_key(1);
    let refused =
        Driver::open(setup(&fleet, plan, key), first.outcome.state().clone(), &first.account, START);
    assert!(matches!(refused.map(|_| ()), Err(OpenError::Parent { .. } | OpenError::LedgerHead { .. })));

    // Where a client's vector is missing the sum is another, and so is all of its noise.
    let mut fewer = Fleet::new(8, 37).with_central_noise(Some(RULE));
    let drops = BTreeMap::from([(fewer.clients()[0], Leaves::Upload)]);
    let seven = fewer.run(1, &drops);
    let mut all = Fleet::new(8, 37).with_central_noise(Some(RULE));
    let eight = all.run(1, &BTreeMap::new());
    let (seven, eight) = (committed(&seven), committed(&eight));
    let missing = fewer.delta(1, fewer.clients()[0]);
    let difference = eight.mean.iter().zip(&seven.mean).zip(&missing).map(|((eight, seven), missing)| {
        (8.0 * f64::from(*eight) - 7.0 * f64::from(*seven) - f64::from(*missing)).powi(2)
    });
    let deviation = (difference.sum::<f64>() / 300.0).sqrt();
    let ratio = deviation / commit(eight).debit.mechanism.total_noise_std(8) / 2.0_f64.sqrt();
    assert!((ratio - 1.0).abs() < 0.25, "two noises, not one that cancels: {ratio}");
}

#[test]
fn a_clip_norm_that_does_not_follow_is_not_opened() {
    let mut fleet = Fleet::new(8, 38).with_central_noise(Some(RULE));
    let run = fleet.run(1, &BTreeMap::new());
    fleet.go_on(run);
    let plan: RoundPlan = fleet.plan(2).verify(&fleet.key.public_key()).expect("its own plan").clone();
    let due = plan.privacy.clip;
    let mut privacy = plan.privacy;
    privacy.clip = 1.5 * due;
    let signed = fleet.key.sign(RoundPlan { privacy, ..plan }).expect("its own plan");
    let refused =
        Driver::open(setup(&fleet, signed, fleet.noise_key(2)), fleet.state.clone(), &fleet.account, START);
    let found = 1.5 * due;
    assert_eq!(refused.map(|_| ()), Err(OpenError::Clip { round: 2, found, due }));
}
