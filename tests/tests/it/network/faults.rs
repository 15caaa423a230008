//! Requests that come twice or too late, clocks that jump, disks that are full, files that rot, a coordinator that is rolled back.
//! Must never accept that something fails without a name.

use super::brittle::Death;
use super::machine::{draw, vector_file};
use super::world::{CLIENTS, World, copy, limits, name, task};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::Ordering;
use tacit_aggregation::Step;
use tacit_aggregation::messages::MaskedHeader;
use tacit_aggregation::server::{ServerError, VectorSummary};
use tacit_client::Budget;
use tacit_client::ledger::{Contradiction, LedgerError};
use tacit_client::participant::Joined;
use tacit_coordinator::Refusal;
use tacit_coordinator::engine::tables::Journal;
use tacit_coordinator::engine::{EngineError, Refused, Stopped};
use tacit_coordinator::store::{Batch, Records, RocksStore, Store as _, TABLES, Table};
use tacit_coordinator::vectors::VectorError;
use tacit_proto::{ClientMessage, Wire as _};

/// Plays until a machine has begun to upload, and nobody has uploaded everything; its header.
fn until_upload_begins(world: &mut World, place: usize, round: u64) -> MaskedHeader {
    for machine in 0..CLIENTS {
        world.machines[machine].leaves = Some(Step::Collect);
    }
    let header = |world: &World| {
        let said = world.machines[place].seen.get(&round)?.said.get(&Step::Collect)?;
        match ClientMessage::from_wire(said).expect("what it said") {
            ClientMessage::MaskedHeader(header) => Some(header),
            _ => None,
        }
    };
    for _ in 0..200 {
        (0..CLIENTS).for_each(|machine| {
            world.act(machine);
        });
        if (0..CLIENTS).all(|machine| world.machines[machine].has_answered(Step::Share)) {
            break;
        }
    }
    for machine in &mut world.machines {
        machine.leaves = None;
    }
    for _ in 0..10 {
        world.act(place);
        if let Some(header) = header(world) {
            return header;
        }
    }
    panic!("no upload begins");
}

#[test]
fn a_torn_upload_goes_on_where_the_disk_has_it() {
    let mut world = World::new(20);
    let header = until_upload_begins(&mut world, 0, 1);
    // Two parts have been written, and a part of the second one survives.
    (0..2).for_each(|_| {
        world.act(0);
    });
    let part = vector_file(&world.site.vectors(), &name(1), &header, "part");
    let written = fs::metadata(&part).unwrap().len();
    assert!(written > 10 && written < header.length, "{written} of {}", header.length);
    world.machines[0].unflushed.clear();
    world.kill_coordinator();
    fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(10).unwrap();
    let (client, message) = (header.client, ClientMessage::MaskedHeader(header.clone()));
    let sent = world.life().ask(async |handle| handle.message(client, name(1), message).await).unwrap();
    assert_eq!(sent.resume_at, 10);
    assert!(world.round(1, &mut |_| ()).committed);
    assert!(world.machines[0].seen[&1].acknowledged);
}

#[test]
fn a_vector_of_which_every_byte_came_is_not_whole_before_it_was_checked() {
    let mut world = World::new(19);
    let header = until_upload_begins(&mut world, 0, 1);
    let part = vector_file(&world.site.vectors(), &name(1), &header, "part");
    while fs::metadata(&part).map_or(0, |file| file.len()) < header.length {
        world.act(0);
    }
    // All bytes are there, and both sides die before the coordinator has looked at them.
    world.machines[0].unflushed.clear();
    world.kill_coordinator();
    world.kill_machine(0);
    assert!(world.round(1, &mut |_| ()).committed);
    assert!(world.machines[0].seen[&1].acknowledged);
    let client = world.machines[0].member.certificate.client;
    assert!(world.end(1).expect("it is over").participants.contains(&client));
}

#[test]
fn a_vector_that_rots_before_it_is_whole_is_sent_again() {
    let mut world = World::new(21);
    let header = until_upload_begins(&mut world, 0, 1);
    world.act(0);
    let part = vector_file(&world.site.vectors(), &name(1), &header, "part");
    flip(&part, 3);
    let target = world.life().ask(async |handle| handle.target(header.client, name(1)).await).unwrap();
    let rest = vec![0; header.length as usize - fs::metadata(&part).unwrap().len() as usize];
    let mut writer = target.folder.writer(&header).unwrap();
    writer.append(header.length - rest.len() as u64, &rest).unwrap();
    let refused = writer.finish().unwrap_err();
    assert!(matches!(refused, VectorError::Digest { client } if client == header.client), "{refused}");
    assert!(refused.to_string().contains("sent again"), "{refused}");
    // Something else that is whole is not taken for it.
    let other = VectorSummary::of(&rest);
    let whole = world.life().ask(async |handle| handle.whole(header.client, name(1), other).await);
    let refused = matches!(&whole, Err(Refused::Round(Refusal::Protocol { error, .. }))
        if *error == ServerError::VectorDigest { client: header.client });
    assert!(refused, "{whole:?}");
    world.machines[0].disconnected();
    assert!(world.round(1, &mut |_| ()).committed);
    assert!(world.machines[0].seen[&1].acknowledged);
}

#[test]
fn a_vector_that_rots_between_disk_and_round_is_sent_again() {
    for announced_again in [false, true] {
        let mut world = World::new(33);
        let header = until_upload_begins(&mut world, 0, 1);
        // It was found to be whole, and is not what it was when the round takes it.
        let vector = vector_file(&world.site.vectors(), &name(1), &header, "vector");
        fs::write(&vector, vec![0; header.length as usize]).unwrap();
        if announced_again {
            world.kill_coordinator();
            let message = ClientMessage::MaskedHeader(header.clone());
            let sent = world.life().ask(async |handle| handle.message(header.client, name(1), message).await);
            assert_eq!(sent.unwrap().resume_at, 0);
        } else {
            let rotten = VectorSummary::of(&fs::read(&vector).unwrap());
            let whole = world.life().ask(async |handle| handle.whole(header.client, name(1), rotten).await);
            let Err(Refused::Round(Refusal::Protocol { error, .. })) = whole else { panic!("{whole:?}") };
            assert!(
                matches!(error, ServerError::VectorDigest { client } if client == header.client),
                "{error}"
            );
            world.machines[0].disconnected();
        }
        assert!(!vector.exists());
        assert!(world.round(1, &mut |_| ()).committed);
        assert!(world.machines[0].seen[&1].acknowledged);
    }
}

#[test]
fn a_vector_that_rots_before_it_is_summed_ends_its_round_without_cost() {
    let mut world = World::new(22);
    let mut rotten = None;
    let vectors = world.site.vectors();
    let end = world.round(1, &mut |world| {
        let uploaded = (0..CLIENTS)
            .find(|place| world.machines[*place].seen.get(&1).is_some_and(|seen| seen.acknowledged));
        if let (None, Some(place)) = (rotten, uploaded) {
            let said = &world.machines[place].seen[&1].said[&Step::Collect];
            let ClientMessage::MaskedHeader(header) = ClientMessage::from_wire(said).unwrap() else {
                panic!()
            };
            flip(&vector_file(&vectors, &name(1), &header, "vector"), 5);
            rotten = Some(header.client);
        }
    });
    assert!(!end.committed && end.participants.is_empty(), "{end:?}");
    let client = rotten.expect("somebody uploaded").to_string();
    assert!(end.reason.contains(&client), "{} does not name {client}", end.reason);
    assert!(world.round(2, &mut |_| ()).committed);
}

#[test]
fn what_comes_twice_or_late_is_answered_as_before_or_refused_by_name() {
    let mut world = World::new(23);
    let mut repeats = 0;
    let end = world.round(1, &mut |world| {
        let place = world.pick(CLIENTS as u64) as usize;
        let client = world.machines[place].member.certificate.client;
        let Some(seen) = world.machines[place].seen.get(&1) else { return };
        let said: Vec<Vec<u8>> = seen.said.values().cloned().collect();
        if said.is_empty() {
            return;
        }
        let wire = &said[world.pick(said.len() as u64) as usize];
        let message = ClientMessage::from_wire(wire).expect("what it said");
        let answer = world.life().ask(async |handle| handle.message(client, name(1), message).await);
        match answer {
            Ok(_) | Err(Refused::NotOpen { .. }) => {}
            Err(Refused::Round(Refusal::OutOfStep { client: named, .. })) => assert_eq!(named, client),
            Err(refused) => panic!("{refused}"),
        }
        repeats += 1;
    });
    assert!(end.committed && repeats > 30, "{repeats} repeats: {end:?}");
}

#[test]
fn another_message_in_place_of_the_first_is_refused_by_name() {
    let mut world = World::new(24);
    while world.machines[0].in_round().is_none() {
        (0..CLIENTS).for_each(|place| {
            world.act(place);
        });
    }
    while !world.machines[0].has_answered(Step::Advertise) {
        world.act(0);
    }
    let member = world.machines[0].member.clone();
    let client = member.certificate.client;
    let seen = &world.machines[0].seen[&1];
    let plan = seen.plan.clone().expect("it joined");
    let budget = Budget::new(client, limits()).unwrap();
    let (parent, now) = (plan.parents()[0], world.site.now());
    let other = Joined::new(&plan, &member, parent, seen.delta.clone(), &budget, now, &mut draw(9, 9, 9));
    let advert = other.unwrap().advert();
    let refused = world.life().ask(async |handle| handle.message(client, name(1), advert).await).unwrap_err();
    let two = |refused: &Refused| {
        matches!(refused, Refused::Round(Refusal::Protocol { error: ServerError::TwoMessages { .. }, .. }))
    };
    assert!(two(&refused), "{refused}");
    assert!(world.round(1, &mut |_| ()).committed);
}

#[test]
fn a_clock_that_jumps_ends_no_round_twice_and_opens_no_budget() {
    const DAY: u64 = 24 * 3_600 * 1_000;
    let mut world = World::new(25);
    let (mut committed, mut failed) = (0, 0);
    for round in 1..=8 {
        let end = world.round(round, &mut |world| {
            if world.pick(60) == 0 {
                let (days, now) = (world.pick(30) * DAY, world.site.now());
                let back = world.pick(2) == 0;
                let then = if back { now - days } else { now + days };
                world.site.clock.store(then, Ordering::SeqCst);
            }
            if world.pick(100) == 0 {
                world.kill_coordinator();
            }
        });
        (committed, failed) = if end.committed { (committed + 1, failed) } else { (committed, failed + 1) };
    }
    assert!(committed > 0 && failed > 0, "{committed} rounds committed, {failed} did not");
    // Far back in the past, the next round still takes place, at once.
    let now = world.site.now();
    world.site.clock.store(now - 300 * DAY, Ordering::SeqCst);
    let before = world.machines[0].accounts().budget.spent().unwrap();
    assert!(world.round(9, &mut |_| ()).committed);
    assert!(world.site.now() < now - 299 * DAY, "it waited for the clock");
    assert!(world.machines[0].accounts().budget.spent().unwrap() > before);
}

#[test]
fn a_clock_that_is_set_back_while_a_client_is_missed_does_not_hold_up_the_round() {
    let mut world = World::new(26);
    until_upload_begins(&mut world, 0, 1);
    world.machines[1].leaves = Some(Step::Collect);
    world.site.clock.fetch_sub(100 * 24 * 3_600 * 1_000, Ordering::SeqCst);
    world.life().settled().unwrap();
    let then = world.site.now();
    assert!(world.round(1, &mut |_| ()).committed);
    let took = world.site.now() - then;
    assert!(took < 3_600_000, "{took} ms");
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let mut world = World::new(27);
    let header = until_upload_begins(&mut world, 0, 1);
    // Whatever is written to this device, it has no space.
    let part = vector_file(&world.site.vectors(), &name(1), &header, "part");
    symlink("/dev/full", &part).unwrap();
    let target = world.life().ask(async |handle| handle.target(header.client, name(1)).await).unwrap();
    let refused = target.folder.writer(&header).unwrap().append(0, &[1; 10]).unwrap_err();
    let named = matches!(&refused, VectorError::Disk { path, .. } if *path == part);
    assert!(named && refused.to_string().contains("free space"), "{refused}");
    fs::remove_file(&part).unwrap();

    // The store refuses a commit in the middle of the uploads.
    world.stop();
    let mut deaths = vec![Death::Before(4)];
    world.deaths = Box::new(move || deaths.pop());
    world.start();
    assert!(world.round(1, &mut |_| ()).committed);
    assert_eq!(world.kills, 1);
}

#[test]
fn a_version_that_cannot_be_written_is_released_once_there_is_space() {
    let mut world = World::new(28);
    let blobs = world.site.folder.join("blobs");
    let away = world.site.folder.join("blobs.away");
    fs::rename(&blobs, &away).unwrap();
    symlink("/dev/full", &blobs).unwrap();
    // The engine stops rather than to commit a round whose adapter it cannot write.
    let mut places = (0..CLIENTS).cycle().take(1_000);
    assert!(places.any(|place| world.try_act(place).is_err()), "it goes on");
    let stopped = world.bury();
    assert!(matches!(stopped, Err(Stopped::Publication(_))), "{stopped:?}");
    fs::remove_file(&blobs).unwrap();
    fs::rename(&away, &blobs).unwrap();
    world.start();
    assert!(world.round(1, &mut |_| ()).committed);
}

#[test]
fn a_journal_that_rots_ends_its_round_by_name_and_keeps_the_reservation() {
    let mut world = World::new(29);
    until_upload_begins(&mut world, 0, 1);
    world.stop();
    let damaged = damage::<Journal>(&world, |value: &mut Vec<u8>| {
        let middle = value.len() / 2;
        value[middle] ^= 1;
    });
    assert!(damaged > 5, "{damaged} records");
    world.start();
    let recovered = &world.life().recovery.rounds;
    let [round] = recovered.as_slice() else { panic!("{recovered:?}") };
    assert_eq!((round.round, round.step), (1, "failed"));
    let problem = round.problem.as_ref().expect("it says why");
    assert!(problem.contains("round 1 cannot be restored"), "{problem}");
    let end = world.end(1).expect("it is over");
    assert!(!end.committed && end.reason == *problem, "{end:?}");
    assert_eq!(
        tacit_coordinator::Account::load(world.life().store.as_ref()).unwrap().reservations().count(),
        1
    );
    world.play(2, &mut |_| ());
    assert!(world.end(2).expect("it ended").committed, "the next round works");
}

#[test]
fn a_ledger_that_rots_is_not_served() {
    let mut world = World::new(30);
    assert!(world.round(1, &mut |_| ()).committed);
    world.stop();
    damage::<tacit_coordinator::account::Entries>(&world, |value: &mut Vec<u8>| {
        let last = value.len() - 1;
        value[last] ^= 1;
    });
    let refused = world.site.start(None).err().expect("it does not start");
    assert!(matches!(refused, EngineError::Account(_)), "{refused}");
    assert!(refused.to_string().contains("restore a backup"), "{refused}");
}

#[test]
fn files_of_the_store_that_rot_are_named_and_not_served() {
    let mut world = World::new(31);
    // What a start finds in the log it writes into tables.
    for round in 1..=2 {
        assert!(world.round(round, &mut |_| ()).committed);
        world.stop();
        if round == 1 {
            world.start();
        }
    }
    let store = world.site.store();
    let good = world.site.folder.join("good");
    copy(&store, &good);
    let mut damaged = BTreeSet::new();
    for entry in fs::read_dir(&good).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let length = fs::metadata(good.join(&file)).unwrap().len();
        let (kind, at) = match file.rsplit_once('.') {
            Some((_, "log")) => ("log", length / 2),
            Some((_, "sst")) => ("table", 12),
            _ if file.starts_with("MANIFEST") => ("manifest", length / 2),
            _ => continue,
        };
        if length < 100 {
            continue;
        }
        fs::remove_dir_all(&store).unwrap();
        copy(&good, &store);
        flip(&store.join(&file), at);
        let problem = problem_of(&world).unwrap_or_else(|| panic!("{file} is served"));
        assert!(problem.contains(&*store.to_string_lossy()), "{file}: {problem}");
        damaged.insert(kind);
    }
    assert_eq!(damaged, BTreeSet::from(["log", "manifest", "table"]));
    fs::remove_dir_all(&store).unwrap();
    copy(&good, &store);
    world.start();
    assert!(world.round(3, &mut |_| ()).committed);
}

/// What keeps a coordinator from starting on the store, or from reading all of it.
fn problem_of(world: &World) -> Option<String> {
    let life = match world.site.start(None) {
        Ok(life) => life,
        Err(error) => return Some(error.to_string()),
    };
    let mut tables = TABLES.into_iter();
    let problem = tables.find_map(|table| life.store.scan(table, b"", b"", usize::MAX).err());
    let _ = life.kill();
    problem.map(|problem| problem.to_string())
}

#[test]
fn a_published_file_that_rots_is_not_served() {
    let mut world = World::new(32);
    assert!(world.round(1, &mut |_| ()).committed);
    // A process that has compared a file with its name does not do so again: another one does.
    world.kill_coordinator();
    let board = world.life().handle.board();
    let manifest = board.borrow().tasks[&task()].channels.clone().unwrap().training.signed;
    let manifest = manifest.verify(&world.site.key.public_key()).unwrap().clone();
    for file in &manifest.files {
        flip(&world.site.folder.join("blobs").join(hex::encode(file.digest)), file.size / 2);
        let refused = world.life().publisher.open_blob(&file.digest, 0).expect_err("it is damaged");
        assert!(refused.to_string().contains(&hex::encode(file.digest)), "{refused}");
    }
}

#[test]
fn a_coordinator_that_is_rolled_back_is_caught_by_everybody() {
    let mut world = World::new(34);
    assert!(world.round(1, &mut |_| ()).committed);
    world.stop();
    let backup = world.site.folder.join("backup");
    copy(&world.site.store(), &backup);
    world.start();
    assert!(world.round(2, &mut |_| ()).committed);
    let paid: Vec<BTreeSet<u64>> = world.machines.iter().map(|machine| machine.paid()).collect();
    world.stop();
    fs::remove_dir_all(world.site.store()).unwrap();
    copy(&backup, &world.site.store());
    let life = world.site.start(None).expect("it is a sound ledger");
    let now = world.site.now();
    for (place, machine) in world.machines.iter_mut().enumerate() {
        let refused = machine.settle(&life, now).expect_err("it saw more than that");
        let LedgerError::Contradiction(found) = refused else { panic!("{refused}") };
        assert!(!found.evidence.is_empty());
        assert_eq!(Contradiction::peek(&machine.place).unwrap(), Some(*found), "and it is kept");
        assert_eq!(machine.paid(), paid[place], "what was spent stays spent");
    }
    life.stop();
}

/// Changes every stored value of a table; how many there were.
fn damage<T: Table>(world: &World, change: impl Fn(&mut T::Value)) -> usize {
    let store = RocksStore::open(&world.site.store()).unwrap();
    let epoch = store.lease().unwrap();
    let rows = Records(&store).scan::<T>(&(), None, usize::MAX).unwrap();
    let mut batch = Batch::new();
    let count = rows.len();
    for (key, mut value) in rows {
        change(&mut value);
        batch.put::<T>(&key, &value);
    }
    batch.commit(&store, epoch).unwrap();
    count
}

/// Flips a bit of a file.
fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}
