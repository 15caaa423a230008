//! Whole rounds in one process: the coordinator's driver and every client's states, with each message through its wire form,
//! virtual time, and clients that drop out at every step. Must never let one side see more than the messages.

#![allow(clippy::panic, reason = "helpers of tests stop where an assertion would")]

mod central;
mod corpus;
mod fleet;
mod refusals;
mod roster;
mod secrecy;

use fleet::{Fleet, Leaves, Run, terms};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_coordinator::account::Entries;
use tacit_coordinator::round::{Failed, Released};
use tacit_coordinator::store::{Batch, MemoryStore, Records, Store as _};
use tacit_coordinator::{Account, Outcome};
use tacit_privacy::ledger::{self, Commit, Entry, Event};
use tacit_privacy::{NoiseLaw, RdpCurve, RoundMechanism, epsilon_spent};

/// Draws from 0 to below `bound`; a fixed sequence per seed.
fn lots(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut draw = ChaCha20Rng::seed_from_u64(seed);
    move |bound| u64::from(draw.next_u32()) % bound
}

fn committed(run: &Run) -> &Released {
    match &run.outcome {
        Outcome::Committed { released, .. } => released,
        Outcome::Failed { failed, .. } => panic!("the round failed: {failed:?}"),
    }
}

/// What the ledger says about a release.
fn commit(released: &Released) -> &Commit {
    released.entry.event.commit().expect("a release is a commit")
}

/// All entries of an account, as they are stored.
fn entries(account: &Account) -> Vec<Entry> {
    let (store, mut batch) = (MemoryStore::new(), Batch::new());
    account.clone().save(&mut batch);
    batch.commit(&store, store.lease().expect("in memory")).expect("in memory");
    assert_eq!(Account::load(&store).expect("what was just stored").ledger(), account.ledger());
    let rows = Records(&store).scan::<Entries>(&(), None, usize::MAX).expect("in memory");
    rows.iter().map(|(_, entry)| Entry::decode(entry).expect("an entry")).collect()
}

fn failed(run: &Run) -> &Failed {
    match &run.outcome {
        Outcome::Failed { failed, .. } => failed,
        Outcome::Committed { released, .. } => panic!("the round was released: {released:?}"),
    }
}

#[test]
fn eight_clients_move_the_adapter_by_their_noised_mean() {
    let mut fleet = Fleet::new(8, 1);
    let before = fleet.state.adapter.clone();
    let run = fleet.run(1, &BTreeMap::new());
    let released = committed(&run);
    assert_eq!(released.survivors, fleet.clients());
    assert_eq!(released.cohort, 8);
    assert!(released.faults.is_empty() && run.refusals.is_empty(), "{:?}", run.refusals);

    // The mean is exactly that of the contributions, computed again without a single message.
    assert_eq!(released.mean, fleet.expected_mean(1, &run, &released.survivors));
    // And it is the mean of the updates, up to the noise that the mechanism announces: five deviations.
    let mechanism = &commit(released).debit.mechanism;
    let deviation = mechanism.total_noise_std(8) / 8.0;
    let updates: Vec<Vec<f32>> = fleet.clients().iter().map(|&client| fleet.delta(1, client)).collect();
    let mut error = 0.0;
    for (coordinate, &value) in released.mean.iter().enumerate() {
        let mean = updates.iter().map(|update| f64::from(update[coordinate])).sum::<f64>() / 8.0;
        error += (f64::from(value) - mean).powi(2);
    }
    let error = (error / released.mean.len() as f64).sqrt();
    assert!(error < 1.5 * deviation && error > 0.5 * deviation, "{error} where {deviation} is due");

    // FedAvg with learning rate 1: the adapter moved by the mean.
    let moved: Vec<f32> = before
        .values()
        .iter()
        .zip(&released.mean)
        .map(|(a, b)| (f64::from(*a) + f64::from(*b)) as f32)
        .collect();
    assert_eq!(released.adapter.values(), moved);
    assert_eq!(released.adapter.parent(), before.digest());
    assert_eq!(run.outcome.state().adapter, released.adapter);

    // The ledger has it, everyone paid, and nobody thinks that it paid less than the coordinator thinks.
    let account = &run.account;
    assert_eq!(ledger::verify(&entries(account)).as_ref(), Ok(account.ledger()));
    assert_eq!(commit(released).adapter_digest, *released.adapter.digest());
    assert_eq!(account.reservations().count(), 0);
    let epsilon = commit(released).debit.epsilon;
    assert_eq!(account.max_epsilon(terms::DELTA), Ok(epsilon));
    for client in fleet.clients() {
        assert_eq!(account.book().rounds_of(client.0), 1);
        assert!(fleet.spent(client) >= epsilon * (1.0 - 1e-9));
    }
}

#[test]
fn skellam_noise_goes_through_a_whole_round() {
    let mut fleet = Fleet::new(8, 4);
    fleet.settings.noise_law = NoiseLaw::Skellam;
    let drops = BTreeMap::from([(fleet.clients()[2], Leaves::Upload)]);
    let run = fleet.run(1, &drops);
    let released = committed(&run);
    assert_eq!(released.survivors.len(), 7);
    let record = &commit(released).debit;
    let RoundMechanism::Distributed(mechanism) = &record.mechanism else { panic!("a distributed plan") };
    assert_eq!(mechanism.noise_law(), NoiseLaw::Skellam);
    assert_eq!(released.mean, fleet.expected_mean(1, &run, &released.survivors));

    // What the ledger says is what Skellam costs, and no client thinks that it paid less.
    let cost = RdpCurve::distributed(mechanism, 7).expect("released");
    assert_eq!(record.epsilon, epsilon_spent(&cost, terms::DELTA, 1).expect("stated"));
    let account = &run.account;
    assert_eq!(ledger::verify(&entries(account)).as_ref(), Ok(account.ledger()));
    for client in &released.survivors {
        assert!(fleet.spent(*client) >= record.epsilon * (1.0 - 1e-9));
    }

    // The noise itself is of the other law: the same seeds give another sum.
    let mut gaussian = Fleet::new(8, 4);
    let gaussian = gaussian.run(1, &drops);
    let gaussian = committed(&gaussian);
    assert_eq!(gaussian.survivors, released.survivors);
    assert_ne!(gaussian.mean, released.mean);
    assert_ne!(commit(gaussian).debit.plan_digest, record.plan_digest);
}

#[test]
fn the_reservation_is_stored_before_anyone_hears_of_the_cohort() {
    let mut fleet = Fleet::new(8, 2);
    let run = fleet.run(1, &BTreeMap::new());
    assert!(run.reserved, "something went out while nothing was set aside");
    assert_eq!((run.ends, run.account.reservations().count()), (1, 0));
}

#[test]
fn the_same_seeds_give_the_same_adapter_and_plain_summing_gives_it_too() {
    for drops in [BTreeMap::new(), BTreeMap::from([(3, Leaves::Share), (5, Leaves::Upload)])] {
        let [mut first, mut second, mut plain] = [0; 3].map(|_| Fleet::new(24, 3));
        let drops: BTreeMap<ClientId, Leaves> =
            drops.into_iter().map(|(place, leaves)| (first.clients()[place], leaves)).collect();
        let (one, two) = (first.run(1, &drops), second.run(1, &drops));
        assert_eq!(one.outcome, two.outcome);
        let survivors: BTreeSet<ClientId> = committed(&one).survivors.iter().copied().collect();
        assert_eq!(survivors.len(), 24 - drops.len());
        let unmasked = plain.run_plain(1, &survivors);
        let (masked, unmasked) = (committed(&one), committed(&unmasked));
        assert_eq!(masked.mean, unmasked.mean);
        assert_eq!(masked.adapter, unmasked.adapter);
        // At another time, but the same.
        assert_eq!(masked.entry.event, unmasked.entry.event);
        // Another seed gives another adapter, so the equality above says something.
        assert_ne!(committed(&Fleet::new(24, 4).run(1, &drops)).adapter, masked.adapter);
    }
}

/// What the protocol says becomes of a complete graph's round in which these clients leave.
fn predict(fleet: &Fleet, drops: &BTreeMap<ClientId, Leaves>) -> Result<BTreeSet<ClientId>, (Step, usize)> {
    let all = fleet.clients();
    let until = |leaves: Leaves| -> BTreeSet<ClientId> {
        all.iter().copied().filter(|client| drops.get(client).is_none_or(|&left| left > leaves)).collect()
    };
    let joined = until(Leaves::Advert);
    let Ok(params) = fleet.plan_terms().params(joined.len() as u32) else { return Err((Step::Advertise, 0)) };
    let (n_min, t) = (params.n_min as usize, params.threshold as usize);
    let shared = until(Leaves::Share);
    if shared.len() < n_min {
        return Err((Step::Share, 0));
    }
    let survivors = until(Leaves::Upload);
    if survivors.len() < n_min {
        return Err((Step::Collect, 0));
    }
    // Every other member is a neighbour: a client that answers has one holder less for itself.
    let reachable = |answering: &BTreeSet<ClientId>| {
        shared.iter().all(|client| answering.len() - usize::from(answering.contains(client)) >= t)
    };
    if !reachable(&survivors) {
        return Err((Step::Collect, 0));
    }
    let confirmed = until(Leaves::Confirm);
    if confirmed.len() < params.quorum() as usize || confirmed.len() <= t || !reachable(&confirmed) {
        return Err((Step::Confirm, 0));
    }
    let unmasked = until(Leaves::Unmask);
    if reachable(&unmasked) { Ok(survivors) } else { Err((Step::Unmask, survivors.len())) }
}

#[test]
fn clients_that_leave_at_any_step_are_summed_or_not_but_never_in_part() {
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..40 {
        let mut draw = lots(seed);
        let mut fleet = Fleet::new(16, 100 + seed);
        // From nobody to about half of everybody, all at one step or each at its own.
        let (chance, focus) = (draw(7), draw(7) as usize);
        let drops: BTreeMap<ClientId, Leaves> = fleet
            .clients()
            .into_iter()
            .filter_map(|client| {
                let (leaves, own) = (draw(12) < chance, draw(Leaves::ALL.len() as u64) as usize);
                leaves.then(|| (client, *Leaves::ALL.get(focus).unwrap_or(&Leaves::ALL[own])))
            })
            .collect();
        let before = fleet.state.clone();
        let predicted = predict(&fleet, &drops);
        let run = fleet.run(1, &drops);
        let after = run.outcome.state();
        match (&run.outcome, predicted) {
            (Outcome::Committed { released, .. }, Ok(survivors)) => {
                assert!(released.survivors.iter().eq(&survivors), "seed {seed}");
                assert_eq!(released.mean, fleet.expected_mean(1, &run, &released.survivors), "seed {seed}");
                assert!(run.account.book().clients().map(|(client, _)| ClientId(client)).eq(survivors));
                *ends.entry("committed".into()).or_default() += 1;
            }
            (Outcome::Failed { failed, .. }, Err((step, debited))) => {
                assert_eq!((failed.step, failed.debited.len()), (step, debited), "seed {seed}: {failed:?}");
                assert!(failed.for_lack_of_clients(), "{failed:?}");
                assert_eq!((&after.adapter, &after.optimizer), (&before.adapter, &before.optimizer));
                let entries = entries(&run.account);
                match (entries.last().map(|entry| &entry.event), step, debited) {
                    (None, Step::Advertise, 0) | (Some(Event::Release(_)), _, 0) => {}
                    (Some(Event::Forfeit(debit)), Step::Unmask, _) => {
                        assert_eq!(debit.survivors as usize, debited);
                    }
                    (last, ..) => panic!("seed {seed}: {last:?} after {step} with {debited} debited"),
                }
                assert_eq!(run.account.book().clients().count(), debited);
                *ends.entry(step.to_string()).or_default() += 1;
            }
            (outcome, predicted) => panic!("seed {seed}: {predicted:?} was due, not {outcome:?}"),
        }
        assert_eq!(run.account.reservations().count(), 0, "seed {seed}");
        // Whoever sent a byte of its vector has paid first; nobody else has paid.
        for client in fleet.clients() {
            let uploaded = run.uploaders.contains(&client);
            assert_eq!(fleet.spent(client) > 0.0, uploaded, "seed {seed}, client {client}");
        }
    }
    assert!(ends.len() == 6 && ends["committed"] >= 8, "the seeds do not reach every end: {ends:?}");
}

#[test]
fn a_sum_that_cannot_be_unmasked_costs_in_full() {
    let mut fleet = Fleet::new(8, 5);
    let drops = fleet.clients().into_iter().skip(3).map(|client| (client, Leaves::Unmask)).collect();
    let run = fleet.run(1, &drops);
    let failed = failed(&run);
    assert_eq!((failed.step, failed.debited.len()), (Step::Unmask, 8));
    let account = &run.account;
    assert!(account.max_epsilon(terms::DELTA).expect("stated") > 0.5);
    let entries = entries(account);
    let [opened, ended] = entries.as_slice() else { panic!("{entries:?}") };
    assert!(matches!(opened.event, Event::Reserve(_)), "{opened:?}");
    let Event::Forfeit(debit) = &ended.event else { panic!("{ended:?}") };
    assert_eq!(account.max_epsilon(terms::DELTA), Ok(debit.epsilon));
    assert_eq!(ledger::verify(&entries).as_ref(), Ok(account.ledger()));
}

#[test]
fn rounds_follow_each_other_on_one_ledger_and_one_budget() {
    let mut fleet = Fleet::new(8, 6);
    let mut epsilons = Vec::new();
    for round in 1..=3 {
        let drops = BTreeMap::from([(fleet.clients()[round as usize], Leaves::Upload)]);
        let run = fleet.run(round, &drops);
        let released = committed(&run);
        assert_eq!(released.survivors.len(), 7);
        epsilons.push(commit(released).debit.epsilon);
        fleet.go_on(run);
    }
    let entries = entries(&fleet.account);
    let commits: Vec<_> =
        entries.iter().filter_map(|entry| Some((entry.round, entry.event.commit()?))).collect();
    assert_eq!(commits.iter().map(|(round, _)| *round).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(commits[2].1.adapter_digest, *fleet.state.adapter.digest());
    assert!(epsilons[0] < epsilons[1] && epsilons[1] < epsilons[2], "{epsilons:?}");
    assert_eq!(ledger::verify(&entries).as_ref(), Ok(fleet.account.ledger()));
}

#[test]
fn uploads_in_many_chunks_are_put_together() {
    // 700,000 coordinates of some 12 to 16 bits: above 1 MiB.
    let mut fleet = Fleet::with_dimension(5, 7, 700_000);
    let run = fleet.run(1, &BTreeMap::new());
    assert!(run.most_chunks >= 2, "{}", run.most_chunks);
    let released = committed(&run);
    assert_eq!(released.mean, fleet.expected_mean(1, &run, &released.survivors));
}
