//! A round on disk, stopped at every durable change: the same answers come out, and what is over is wiped.

use super::{Answer, Round, RoundError};
use crate::accounts::Accounts;
use crate::budget::Budget;
use crate::folder::{Folder, FolderError};
use crate::testing::{Coordinator, NOW, PARENT, World, delta, limits, task};
use crate::update::Update;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::path::Path;
use tacit_proto::{ClientMessage, ServerMessage, SignedPlan};
use zeroize::Zeroizing;

/// What a machine's disk holds before the round.
fn prepare(path: &Path, world: &World) {
    let folder = Folder::open(path).expect("new");
    let budget = Budget::new(world.members[0].certificate.client, limits(50.0)).expect("limits");
    Accounts::new(budget).store(&folder).expect("written");
    update().store(&folder).expect("written");
}

fn update() -> Update {
    let delta = Zeroizing::new(delta(0));
    Update {
        task: task(),
        parent: PARENT,
        recipe: [2; 32],
        trained_at: NOW,
        tokens: 1,
        losses: [2.0, 1.0],
        delta,
    }
}

/// A process: the folder, the books and the round, as it finds them when it starts.
struct Process<'a> {
    world: &'a World,
    folder: Folder,
    accounts: Accounts,
    round: Option<Round>,
}

impl<'a> Process<'a> {
    fn start(world: &'a World, folder: Folder) -> Result<Self, RoundError> {
        let mut accounts = Accounts::load(&folder)?.expect("stored");
        let round = Round::restore(&folder, &world.members[0], &mut accounts)?;
        Ok(Self { world, folder, accounts, round })
    }

    fn join(&mut self, plan: &SignedPlan) -> Result<(), RoundError> {
        let (member, mut rng) = (&self.world.members[0], ChaCha20Rng::seed_from_u64(9));
        let update = Update::load(&self.folder, &task())?.expect("trained");
        self.round = Some(Round::join(&self.folder, plan, member, &update, &self.accounts, NOW, &mut rng)?);
        Ok(())
    }

    fn handle(&mut self, message: &ServerMessage, now: u64) -> Result<(), RoundError> {
        self.round.as_mut().expect("joined").handle(&self.folder, message, &mut self.accounts, now)
    }

    /// What is sent now.
    fn sent(&self) -> Vec<ClientMessage> {
        let round = self.round.as_ref().expect("joined");
        match round.answered().expect("it has not left").1 {
            Answer::Message(message) => vec![message],
            Answer::Vector(header) => {
                let chunks = round.chunks(0).into_iter().map(ClientMessage::MaskedChunk);
                std::iter::once(header).chain(chunks).collect()
            }
        }
    }
}

/// A round without a crash: what the coordinator said, what the client sent, and how many durable changes it made.
fn undisturbed(world: &World, plan: &SignedPlan) -> (Vec<ServerMessage>, Vec<Vec<ClientMessage>>) {
    let root = tempfile::tempdir().expect("a folder");
    prepare(root.path(), world);
    let mut process = Process::start(world, Folder::open(root.path()).expect("there")).expect("good");
    let mut coordinator = Coordinator::open(world, plan);
    process.join(plan).expect("an honest plan");
    let (mut heard, mut sent) = (Vec::new(), vec![process.sent()]);
    while let Some(message) = coordinator.take(sent.last().expect("the advert")) {
        process.handle(&message, NOW + heard.len() as u64).expect("an honest coordinator");
        heard.push(message);
        sent.push(process.sent());
    }
    assert_eq!((heard.len(), sent.len()), (4, 5));
    (heard, sent)
}

fn killed(error: &RoundError) -> bool {
    matches!(error, RoundError::Folder(FolderError::Killed))
}

#[test]
fn stopped_at_any_durable_change_it_sends_the_same_bytes_and_pays_once() {
    let world = World::new();
    let plan = world.plan(1);
    let (heard, sent) = undisturbed(&world, &plan);
    let mut crashes = 0;
    for at in 1.. {
        let root = tempfile::tempdir().expect("a folder");
        prepare(root.path(), &world);
        let folder = Folder::open_until(root.path(), at).expect("there");
        let mut process = Process::start(&world, folder).expect("good");
        let mut crashed = false;
        let mut restart = |process: Process<'_>, error: RoundError| {
            assert!(killed(&error), "{error}");
            drop(process);
            crashed = true;
            let folder = Folder::open(root.path()).expect("there");
            Process::start(&world, folder).expect("what is stored is good")
        };
        if let Err(error) = process.join(&plan) {
            process = restart(process, error);
        }
        assert_eq!(process.sent(), sent[0], "killed at {at}");
        for (place, message) in heard.iter().enumerate() {
            // The clock goes on while the machine is down: answers do not depend on it.
            if let Err(error) = process.handle(message, NOW + 1000 * at + place as u64) {
                process = restart(process, error);
                // The message may be lost with the process, and comes again.
                process.handle(message, NOW + 2000 * at).expect("the same message");
            }
            assert_eq!(process.sent(), sent[place + 1], "killed at {at}, message {place}");
            process.handle(message, NOW).expect("a repeat");
            assert_eq!(process.sent(), sent[place + 1]);
        }
        // Nothing of the round is left but the request's digest and the answer; the update is gone.
        assert_eq!(process.folder.list("round").expect("there"), ["ended"]);
        assert!(Update::load(&process.folder, &task()).expect("readable").is_none());
        assert_eq!(process.accounts.budget.debits().len(), 1);
        let [awaiting] = process.accounts.awaiting.as_slice() else { panic!("{:?}", process.accounts) };
        assert!(awaiting.unmasked);
        assert_eq!(Accounts::load(&process.folder).expect("good").as_ref(), Some(&process.accounts));

        let closed = process.round.take().expect("finished").close(&process.folder, &mut process.accounts);
        if let Err(error) = closed {
            process = restart(process, error);
            if let Some(round) = process.round.take() {
                round.close(&process.folder, &mut process.accounts).expect("wiped");
            }
        }
        assert!(process.folder.list("round").expect("there").is_empty());
        if !crashed {
            break;
        }
        crashes += 1;
    }
    // Joining, three messages, the books, the end, the books again, and two changes for each of five files wiped.
    assert!(crashes >= 15, "{crashes}");
}

#[test]
fn whoever_asks_for_other_shares_gets_none() {
    let world = World::new();
    let plan = world.plan(1);
    let (heard, sent) = undisturbed(&world, &plan);
    let root = tempfile::tempdir().expect("a folder");
    prepare(root.path(), &world);
    let mut process = Process::start(&world, Folder::open(root.path()).expect("there")).expect("good");
    process.join(&plan).expect("an honest plan");
    heard.iter().for_each(|message| process.handle(message, NOW).expect("honest"));
    let ServerMessage::Unmask(mut request) = heard[3].clone() else { panic!("{heard:?}") };
    request.confirmations.pop();
    let other = ServerMessage::Unmask(request);
    for _ in 0..2 {
        assert!(matches!(process.handle(&other, NOW), Err(RoundError::OtherShares { .. })));
        assert!(matches!(process.handle(&heard[0], NOW), Err(RoundError::Over { .. })));
        assert_eq!(process.sent(), sent[4]);
        drop(process);
        process = Process::start(&world, Folder::open(root.path()).expect("there")).expect("good");
    }
}

#[test]
fn a_lie_ends_the_round_for_good_and_leaves_no_secret() {
    let world = World::new();
    let plan = world.plan(1);
    let (heard, _) = undisturbed(&world, &plan);
    let ServerMessage::Maps(mut maps) = heard[2].clone() else { panic!("{heard:?}") };
    maps.survived.set(0, false);
    let lie = ServerMessage::Maps(maps);
    // Stopped at any moment of leaving, or not at all.
    for at in 1..40 {
        let root = tempfile::tempdir().expect("a folder");
        prepare(root.path(), &world);
        let mut process = Process::start(&world, Folder::open(root.path()).expect("there")).expect("good");
        process.join(&plan).expect("an honest plan");
        heard[..2].iter().for_each(|message| process.handle(message, NOW).expect("honest"));
        drop(process);
        let folder = Folder::open_until(root.path(), at).expect("there");
        let mut process = Process::start(&world, folder).expect("good");
        let refused = process.handle(&lie, NOW).expect_err("a lie");
        drop(process);
        let folder = Folder::open(root.path()).expect("there");
        let process = match Process::start(&world, folder) {
            // The message was stored, and is refused again.
            Err(RoundError::Refused { round, .. }) => {
                assert_eq!(round.round, 1);
                Process::start(&world, Folder::open(root.path()).expect("there")).expect("it has left")
            }
            started => started.expect("good"),
        };
        let round = process.round.as_ref().expect("kept until the coordinator ends it");
        assert!(round.answered().is_none(), "killed at {at}: {refused}");
        let reason = round.left().expect("the reason is kept");
        assert!(reason.contains("dropped out"), "{reason}");
        assert_eq!(process.folder.list("round").expect("there"), ["ended"]);
        assert!(Update::load(&process.folder, &task()).expect("readable").is_none(), "it was uploaded");
        assert_eq!(process.accounts.budget.debits().len(), 1, "and paid for");
        assert!(!process.accounts.awaiting[0].unmasked);
    }
}

#[test]
fn a_round_that_ends_before_the_upload_leaves_the_update_for_another() {
    let world = World::new();
    let (heard, _) = undisturbed(&world, &world.plan(1));
    let root = tempfile::tempdir().expect("a folder");
    prepare(root.path(), &world);
    let mut process = Process::start(&world, Folder::open(root.path()).expect("there")).expect("good");
    process.join(&world.plan(1)).expect("an honest plan");
    process.handle(&heard[0], NOW).expect("honest");
    let round = process.round.take().expect("joined");
    round.close(&process.folder, &mut process.accounts).expect("wiped");
    assert!(process.folder.list("round").expect("there").is_empty());
    process.join(&world.plan(2)).expect("the same update in another round");
    assert_eq!(process.accounts.budget.debits().len(), 0);
}

#[test]
fn a_damaged_file_of_the_round_is_named_and_nothing_is_sent() {
    let world = World::new();
    let root = tempfile::tempdir().expect("a folder");
    prepare(root.path(), &world);
    let mut process = Process::start(&world, Folder::open(root.path()).expect("there")).expect("good");
    process.join(&world.plan(1)).expect("an honest plan");
    drop(process);
    let path = root.path().join("round/joined");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    let error = Process::start(&world, Folder::open(root.path()).expect("there")).err().expect("damaged");
    assert!(error.to_string().contains("round/joined"), "{error}");
}
