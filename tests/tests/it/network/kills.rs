//! Coordinator and clients are killed at every durable transition and at random moments. Must never count a kill that did not
//! happen.

use super::brittle::Death;
use super::world::{CLIENTS, World};
use std::cell::Cell;
use std::rc::Rc;
use tacit_aggregation::Step;

/// Kills at random moments, unless the environment asks for another number.
const RANDOM_KILLS: u64 = 150;
/// Kills at least before every commit of a round, after every one, and at every one of a single round.
const KILLS_IN_ORDER: [u64; 3] = [25, 25, 45];
/// The environment variable that asks for any number of random kills.
const VARIABLE: &str = "TACIT_KILLS";

const _: () = {
    let [before, after, everywhere] = KILLS_IN_ORDER;
    assert!(RANDOM_KILLS + before + after + everywhere >= 200, "the suite kills 200 times at least");
};

/// Rounds with a coordinator that dies once in each, at its first commit, its second and so on, until there is none left to
/// die at. The kills.
fn at_every_commit(seed: u64, death: fn(u64) -> Death) -> u64 {
    let mut world = World::new(seed);
    let mut round = 1;
    assert!(world.round(round, &mut |_| ()).committed);
    for commit in 1.. {
        round += 1;
        // The next life ends at the commit; the one after that does not.
        let mut deaths = vec![death(commit)];
        world.stop();
        world.deaths = Box::new(move || deaths.pop());
        world.start();
        let before = world.kills;
        assert!(world.round(round, &mut |_| ()).committed, "the round of commit {commit}");
        if world.kills == before {
            return world.kills;
        }
        assert_eq!(world.kills, before + 1);
    }
    unreachable!("a round has an end")
}

#[test]
fn a_coordinator_may_die_before_any_commit_of_a_round() {
    let kills = at_every_commit(1, Death::Before);
    assert!(kills >= KILLS_IN_ORDER[0], "{kills} kills");
}

#[test]
fn a_coordinator_may_die_after_any_commit_of_a_round() {
    let kills = at_every_commit(2, Death::After);
    assert!(kills >= KILLS_IN_ORDER[1], "{kills} kills");
}

#[test]
fn a_coordinator_may_die_at_every_commit_of_one_round() {
    let mut world = World::new(3);
    world.stop();
    let mut lives = 0;
    world.deaths = Box::new(move || {
        lives += 1;
        // Nothing is won in every other life.
        Some(if lives % 2 == 0 { Death::Before(1) } else { Death::After(1) })
    });
    world.start();
    assert!(world.round(1, &mut |_| ()).committed);
    assert!(world.kills >= KILLS_IN_ORDER[2], "{} kills", world.kills);
    world.deaths = Box::new(|| None);
    assert!(world.round(2, &mut |_| ()).committed);
}

#[test]
fn anybody_may_die_at_any_moment() {
    let wanted = match std::env::var(VARIABLE) {
        Ok(number) => number.parse().expect("a number of kills"),
        Err(_) => RANDOM_KILLS,
    };
    let (mut kills, mut seed, mut committed) = (0, 0, 0);
    while kills < wanted {
        seed += 1;
        println!("seed {seed}: {kills} of {wanted} kills");
        let (killed, released) = random_kills(seed);
        kills += killed;
        committed += released;
    }
    assert!(committed > 0, "some rounds succeed");
}

/// A few rounds in which everybody dies at random, and some leave for good. Kills, and rounds that released something.
fn random_kills(seed: u64) -> (u64, u64) {
    let mut world = World::new(1_000 + seed);
    let state = Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let mut committed = 0;
    for round in 1..=4 {
        world.stop();
        let state = Rc::clone(&state);
        world.deaths = Box::new(move || {
            let lot = lot(&state);
            let at = 1 + (lot >> 8) % 12;
            match lot % 4 {
                0 => None,
                1 => Some(Death::Before(at)),
                _ => Some(Death::After(at)),
            }
        });
        world.start();
        // In every other round somebody stops at some step: one may be missed, once it has advertised.
        if round % 2 == 0 {
            let (who, step) = (world.pick(CLIENTS as u64) as usize, world.pick(5) as usize);
            world.machines[who].leaves = Some(Step::ALL[step]);
        }
        let end = world.round(round, &mut |world| {
            if world.pick(40) == 0 {
                world.kill_coordinator();
            }
            if world.pick(25) == 0 {
                let place = world.pick(CLIENTS as u64) as usize;
                world.kill_machine(place);
            }
        });
        committed += u64::from(end.committed);
        world.machines.iter_mut().for_each(|machine| machine.leaves = None);
    }
    // And then all is well again.
    let kills = world.kills;
    world.deaths = Box::new(|| None);
    world.kill_coordinator();
    assert!(world.round(5, &mut |_| ()).committed);
    (kills, committed)
}

fn lot(state: &Cell<u64>) -> u64 {
    // xorshift64
    let mut next = state.get();
    next ^= next << 13;
    next ^= next >> 7;
    next ^= next << 17;
    state.set(next);
    next
}
