//! Tasks that demand a roster, over the ends and beginnings of epochs. Must never wait for an operator where time alone is missing.

use super::*;
use crate::engine::board::TaskStatus;
use crate::identity::Roll;
use crate::plan::RosterSettings;
use crate::roster::Listed;
use std::num::NonZeroU64;
use tacit_aggregation::identity::{EpochTerms, Rate, Roster, SignedRoster};

const TASK: &str = "drawn";
/// Listed clients that collude.
const COLLUDERS: u32 = 1;

/// Settings of a task that demands a roster.
fn demanding() -> TaskSettings {
    let mut task = settings(TASK);
    task.plan.roster = Some(RosterSettings { colluders: COLLUDERS });
    task
}

/// With periods of 300 seconds.
fn epoch(number: u64, [not_before, not_after]: [u64; 2], rate: Rate) -> EpochTerms {
    let period_seconds = NonZeroU64::new(300).unwrap();
    EpochTerms { number, not_before, not_after, period_seconds, rate, seed: [number as u8; 32] }
}

impl World {
    fn drawn() -> Self {
        let mut world = Self::empty();
        world.take(1, [0, 999], 12, 0).unwrap();
        world.create();
        world
    }

    /// Creates a task that demands a roster, at second 0.
    fn create(&mut self) {
        self.engine.create_task(demanding(), false, 0).unwrap();
        self.turn(0);
    }

    /// Takes in the roster of an epoch between two seconds that draws everybody.
    fn take(&mut self, number: u64, time: [u64; 2], clients: u64, now: Millis) -> Result<(), Refused> {
        self.take_epoch(epoch(number, time, Rate::ONE), clients, now).map(|_| ())
    }

    /// Takes in the roster of an epoch of 1,000 seconds and 40 clients that draws some.
    fn take_drawn(&mut self, rate: Rate) -> SignedRoster {
        self.take_epoch(epoch(1, [0, 999], rate), 40, 0).unwrap()
    }

    fn take_epoch(&mut self, epoch: EpochTerms, clients: u64, now: Millis) -> Result<SignedRoster, Refused> {
        let roster = Roster::new((0..clients).map(ClientId).collect());
        let roll = Roll::new(roster.clients().to_vec(), &root().sign_roster(&roster, epoch));
        let listed = Listed::new(&roll, &root().public_key()).unwrap();
        self.engine.take_roster(&roll, listed, now)?;
        self.engine.settle().unwrap();
        Ok(roll.signed())
    }

    fn status(&self) -> TaskStatus {
        self.engine.picture().tasks[&TaskName::new(TASK).unwrap()].status.clone()
    }

    /// Epoch and period of the next round's plan; none where there is no plan.
    fn planned(&self) -> Option<(u64, u64)> {
        let plan = self.engine.tasks[&TaskName::new(TASK).unwrap()].plan.as_ref()?;
        plan.signed.roster().map(|terms| (terms.roster.epoch.number, terms.period))
    }
}

#[test]
fn a_plan_is_of_the_present_period() {
    let mut world = World::drawn();
    assert_eq!(world.planned(), Some((1, 0)));
    for (now, period) in [(299_999, 0), (300_000, 1), (999_999, 3)] {
        world.turn(now);
        assert_eq!(world.planned(), Some((1, period)), "{now}");
    }
}

#[test]
fn whoever_is_not_drawn_is_not_counted() {
    let mut world = World::empty();
    let epoch = world.take_drawn(Rate::new(1, 2).unwrap());
    world.create();
    let drawn = |period, client: &ClientId| epoch.draws(period, *client);
    // One too few for a cohort, and everybody who is not drawn.
    let mut taken = (0..40).map(ClientId).filter(|client| drawn(0, client));
    let [few, spare]: [Vec<ClientId>; 2] =
        [taken.by_ref().take(CLIENTS as usize - 1).collect(), taken.collect()];
    assert!(few.iter().any(|client| drawn(1, client)) && few.iter().any(|client| !drawn(1, client)));
    for client in (0..40).filter(|client| !spare.contains(&ClientId(*client))) {
        world.ready(client..client + 1, 299_000);
    }
    assert_eq!((world.status().ready, world.invited(TASK)), (few.len(), None));
    // Another period draws others: who waited and is not among them waits no longer.
    world.turn(300_000);
    let left = few.iter().filter(|client| drawn(1, client)).count();
    assert_eq!((world.planned(), world.status().ready), (Some((1, 1)), left));
}

#[test]
fn a_task_goes_on_by_itself_when_an_epoch_begins() {
    let mut world = World::drawn();
    world.turn(1_000_000);
    assert_eq!((world.planned(), world.status().problem, world.status().awaits_until), (None, None, None));
    assert!(world.status().awaits.unwrap().contains("client roster"));
    // The next one is here, and has not begun.
    world.take(2, [2_000, 2_999], 12, 1_100_000).unwrap();
    for now in [1_100_000, 1_999_999] {
        world.turn(now);
        assert_eq!((world.planned(), world.status().awaits_until), (None, Some(2_000_000)), "{now}");
        assert!(world.status().awaits.unwrap().contains("epoch 2"));
    }
    // A restart changes nothing.
    let mut world = world.restarted();
    world.turn(1_999_999);
    assert_eq!((world.planned(), world.status().awaits_until), (None, Some(2_000_000)));
    world.turn(2_000_000);
    assert_eq!((world.planned(), world.status().awaits), (Some((2, 0)), None));
    // Taken in early, the third takes its turn without a gap.
    world.take(3, [3_000, 3_999], 12, 2_500_000).unwrap();
    world.turn(2_999_999);
    assert_eq!(world.planned(), Some((2, 3)));
    world.turn(3_000_000);
    assert_eq!((world.planned(), world.status().awaits), (Some((3, 0)), None));
    // What has ended is forgotten on the disk as well.
    world.take(4, [4_000, 4_999], 12, 3_000_000).unwrap();
    let world = world.restarted();
    assert_eq!(world.engine.rosters.numbers(3_000_000), [Some(3), Some(4)]);
}

#[test]
fn a_roster_that_is_no_good_holds_up_its_own_epoch_only() {
    let mut world = World::drawn();
    // Nobody is on it: not even the colluders that the task assumes.
    world.take(2, [1_000, 1_999], 0, 0).unwrap();
    world.turn(1_000_000);
    assert_eq!(world.planned(), None);
    let problem = world.status().problem.unwrap();
    assert!(problem.contains("cannot collude"), "{problem}");
    // One that cuts it short.
    world.take(3, [1_200, 1_999], 12, 1_200_000).unwrap();
    world.turn(1_200_000);
    assert_eq!((world.planned(), world.status().problem), (Some((3, 0)), None));
}

#[test]
fn a_task_can_be_made_before_its_epoch_begins() {
    let mut world = World::empty();
    let refused = world.engine.create_task(demanding(), false, 0);
    assert!(matches!(refused, Err(Refused::Impossible(reason)) if reason.contains("client roster")));
    world.take(1, [500, 999], 12, 0).unwrap();
    world.create();
    assert_eq!((world.planned(), world.status().awaits_until), (None, Some(500_000)));
    world.turn(500_000);
    assert_eq!(world.planned(), Some((1, 0)));
}

#[test]
fn another_root_begins_its_own_epochs() {
    let mut world = World::drawn();
    world.take(7, [1_000, 1_999], 12, 0).unwrap();
    let (store, folder) = (Arc::clone(&world.engine.setup.store), world.folder);
    let other = IdentityRoot::from_bytes(&[9; 32]);
    let mut world = World::under(other.public_key(), folder, store);
    world.turn(0);
    assert_eq!((world.planned(), world.engine.rosters.numbers(0)), (None, [None, None]));
    assert!(world.status().awaits.unwrap().contains("client roster"));
    let roster = Roster::new((20..32).map(ClientId).collect());
    let signed = other.sign_roster(&roster, epoch(1, [0, 999], Rate::ONE));
    let roll = Roll::new(roster.clients().to_vec(), &signed);
    let listed = Listed::new(&roll, &other.public_key()).unwrap();
    world.engine.take_roster(&roll, listed, 0).unwrap();
    world.turn(0);
    assert_eq!(world.planned(), Some((1, 0)));
}
