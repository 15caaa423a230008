//! Updates of older versions: each takes part up to the staleness limit, in one round, as it was trained. Must never take a
//! machine's word for what it sent: what is looked at is what it said on the wire.

use super::line::Line as _;
use super::world::{CLIENTS, World, settings, task};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::{Digest, Step};
use tacit_client::folder::Folder;
use tacit_client::update::Update;
use tacit_proto::fleet::ReadyUpdate;
use tacit_proto::{ClientMessage, Wire as _};

/// A cohort leaves one machine out.
fn world(seed: u64, staleness: u64) -> World {
    let mut settings = settings();
    let cohort = &mut settings.plan.cohort;
    (cohort.min, cohort.max) = (CLIENTS as u32 - 1, CLIENTS as u32 - 1);
    settings.schedule.staleness = staleness;
    World::of(seed, settings)
}

/// The newest version, and those before it, newest first.
fn versions(world: &World) -> Vec<Digest> {
    let listed = world.life().publisher.list(&task(), 0, 100).expect("good");
    listed.into_iter().rev().map(|listed| listed.manifest.adapter).collect()
}

/// What a client says in a round that its update was trained on.
fn parent(world: &World, client: ClientId, round: u64) -> Digest {
    let machine = world.machines.iter().find(|machine| machine.member.certificate.client == client);
    let said = &machine.expect("one of them").seen[&round].said[&Step::Advertise];
    let ClientMessage::Advert(advert) = ClientMessage::from_wire(said).expect("what it said") else {
        panic!("no advert")
    };
    advert.parent
}

/// How many wait once a client has said that it has an update of a version.
fn waiting(world: &World, client: ClientId, parent: Digest) -> usize {
    world.life().ready(client, ReadyUpdate { task: task(), parent }).expect("it listens");
    world.life().handle.board().borrow().tasks[&task()].status.ready
}

/// The place of the machine that a round left out.
fn left_out(world: &World, participants: &[ClientId]) -> usize {
    let left = |place: &usize| !participants.contains(&world.machines[*place].member.certificate.client);
    (0..CLIENTS).find(left).expect("a cohort leaves one out")
}

#[test]
fn an_update_that_found_no_place_takes_part_in_the_next_round_as_it_is() {
    let mut world = world(40, 1);
    let first = world.round(1, &mut |_| ());
    assert!(first.committed);
    let late = left_out(&world, &first.participants);
    let client = world.machines[late].member.certificate.client;
    world.machines[late].stop();
    let update = Update::load(&Folder::open(&world.machines[late].place).unwrap(), &task()).unwrap();
    let update = update.expect("it waits");
    world.machines[late].kill();

    let second = world.round(2, &mut |_| ());
    assert!(second.committed && second.participants.contains(&client), "{second:?}");
    assert_eq!(world.machines[late].seen[&2].delta, *update.delta, "it was not trained again");
    let [newest, one_older, oldest] = versions(&world)[..] else { panic!("two rounds have committed") };
    for &participant in &second.participants {
        let due = if participant == client { oldest } else { one_older };
        assert_eq!(parent(&world, participant, 2), due, "{participant}");
    }

    // Who waits is known to nobody but the process.
    world.kill_coordinator();
    assert_eq!(waiting(&world, client, oldest), 0, "two versions old");
    assert_eq!(waiting(&world, client, [9; 32]), 0, "no version at all");
    assert_eq!(waiting(&world, client, one_older), 1);
    let other = first.participants[0];
    assert_eq!(waiting(&world, other, newest), 2);
}

#[test]
fn without_a_limit_to_staleness_only_the_newest_version_counts() {
    let mut world = world(41, 0);
    let first = world.round(1, &mut |_| ());
    let late = left_out(&world, &first.participants);
    let client = world.machines[late].member.certificate.client;
    world.kill_coordinator();
    let versions = versions(&world);
    assert_eq!((waiting(&world, client, versions[1]), waiting(&world, client, versions[0])), (0, 1));
    assert!(world.round(2, &mut |_| ()).committed);
    assert!(
        world
            .end(2)
            .expect("over")
            .participants
            .iter()
            .all(|&client| parent(&world, client, 2) == versions[0])
    );
}
