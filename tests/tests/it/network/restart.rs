//! A coordinator that was lost, restored from a backup, and let go on by the identity root. Must never let anything that was spent
//! be spent again.

use super::brittle::{Brittle, Death};
use super::line::Line as _;
use super::premises::Premises;
use super::processes::{Process, play, program};
use super::world::{Backup, CLIENTS, World, name, settings};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tacit_aggregation::Step;
use tacit_aggregation::identity::IdentityRoot;
use tacit_client::ledger::{About, Contradiction, LedgerError, Verdict};
use tacit_coordinator::account::Account;
use tacit_coordinator::serve::{RestartError, restart_ledger, system_clock};
use tacit_coordinator::store::{RocksStore, Store};
use tacit_privacy::ledger::restart::{ROUNDS_APART, Restart, SignedRestart};
use tacit_proto::crash::VARIABLE;
use tacit_proto::fleet::CheckIn;
use tacit_proto::ledger::Prove;

/// The root of a [`World`] that was made from this seed.
fn root(world: &World, seed: u64) -> IdentityRoot {
    let root = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(seed));
    assert_eq!(root.public_key(), world.site.root);
    root
}

fn store(world: &World) -> RocksStore {
    RocksStore::open(&world.site.store()).unwrap()
}

/// Where the ledger that is stored would go on from.
fn here(world: &World, number: u32) -> Restart {
    let account = Account::load(&store(world)).unwrap();
    let (size, root) = (account.ledger().size(), account.ledger().tree().root());
    Restart { coordinator: world.site.key.public_key().0, number, size, root }
}

fn sign(root: &IdentityRoot, restart: Restart) -> SignedRestart {
    restart.signed(root.sign(&restart.payload()).0)
}

fn take(world: &World, signed: SignedRestart) -> Result<Restart, RestartError> {
    take_on(world, &store(world), signed)
}

fn take_on(world: &World, store: &dyn Store, signed: SignedRestart) -> Result<Restart, RestartError> {
    restart_ledger(store, (world.site.root, world.site.key.public_key()), signed, world.site.now())
}

/// Every machine asks the ledger. What it says of the rounds that they await.
fn settle(world: &mut World) -> Vec<Result<Vec<(u64, Verdict)>, LedgerError>> {
    let now = world.site.now();
    let lines = (0..CLIENTS).map(|place| {
        let settled = world.settle(place, now);
        settled.map(|verdicts| verdicts.into_iter().collect())
    });
    lines.collect()
}

/// The coordinator is put back, and starts. Every machine refuses it.
fn refused_by_all(world: &mut World, backup: &Backup) {
    world.put_back(backup);
    world.start();
    for (place, refused) in settle(world).into_iter().enumerate() {
        let Err(LedgerError::Contradiction(found)) = refused else { panic!("{place}: {refused:?}") };
        assert_eq!(found.about, About::Head);
        assert_eq!(
            Contradiction::peek(&world.machines[place].place).unwrap(),
            Some(*found),
            "and it is kept"
        );
    }
    world.stop();
}

#[test]
fn after_a_restart_everybody_goes_on_and_keeps_what_was_lost_in_the_book() {
    let mut world = World::new(35);
    let root = root(&world, 35);
    assert!(world.round(1, &mut |_| ()).committed);
    let backup = world.back_up();
    assert!(world.round(2, &mut |_| ()).committed);
    // Of the last one nobody has asked yet how it ended.
    world.play(3, &mut |_| ());
    let rounds = BTreeSet::from([1, 2, 3]);
    let spent = |world: &World, place: usize| world.machines[place].accounts().budget.spent().unwrap();
    let before: Vec<f64> = (0..CLIENTS).map(|place| spent(&world, place)).collect();
    refused_by_all(&mut world, &backup);

    let restart = here(&world, 1);
    let other = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(9));
    let refused = take(&world, sign(&other, restart));
    assert!(matches!(refused, Err(RestartError::Unsigned(_))), "another root's: {refused:?}");
    let refused = take(&world, sign(&root, Restart { coordinator: [7; 32], ..restart }));
    assert!(matches!(refused, Err(RestartError::Unsigned(_))), "another coordinator's: {refused:?}");
    for wrong in [Restart { size: restart.size - 1, ..restart }, Restart { root: [1; 32], ..restart }] {
        let refused = take(&world, sign(&root, wrong));
        assert!(matches!(refused, Err(RestartError::Ledger(_))), "another ledger's: {refused:?}");
    }
    assert_eq!(here(&world, 1), restart, "nothing was changed");
    for again in 0..2 {
        assert_eq!(take(&world, sign(&root, restart)).unwrap(), restart, "{again}");
        assert_eq!(here(&world, 1).size, restart.size + 1, "once");
    }

    world.start();
    for verdicts in settle(&mut world) {
        assert_eq!(verdicts.unwrap(), [(3, Verdict::Lost)]);
    }
    let first = ROUNDS_APART;
    assert!(world.round(first, &mut |_| ()).committed, "with everybody");
    assert_eq!(world.end(first).unwrap().participants.len(), CLIENTS);
    for (place, machine) in world.machines.iter().enumerate() {
        assert_eq!(machine.paid(), &rounds | &BTreeSet::from([first]), "what was lost stays paid");
        let lost =
            machine.accounts().lost.iter().map(|lost| (lost.round, lost.restart)).collect::<BTreeSet<_>>();
        assert_eq!(lost, BTreeSet::from([(2, 1), (3, 1)]));
        assert!(spent(&world, place) > before[place]);
    }
    // The next restart puts them back once more; the one before does not.
    let backup = world.back_up();
    assert!(world.round(first + 1, &mut |_| ()).committed);
    refused_by_all(&mut world, &backup);
    let refused = take(&world, sign(&root, here(&world, 1)));
    assert!(matches!(refused, Err(RestartError::Ledger(_))), "an old number: {refused:?}");
    take(&world, sign(&root, here(&world, 2))).unwrap();
    world.start();
    assert!(settle(&mut world).into_iter().all(|settled| settled.is_ok()));
    assert!(world.round(2 * first, &mut |_| ()).committed);
    let lost = &world.machines[0].accounts().lost;
    assert_eq!(
        lost.iter().filter(|lost| lost.restart == 2).map(|lost| lost.round).collect::<Vec<_>>(),
        [first + 1]
    );
    world.stop();
}

#[test]
fn a_machine_that_missed_a_restart_adopts_them_one_after_the_other() {
    let mut world = World::new(36);
    let root = root(&world, 36);
    assert!(world.round(1, &mut |_| ()).committed);
    let backup = world.back_up();
    assert!(world.round(2, &mut |_| ()).committed);
    for number in [1, 2] {
        world.put_back(&backup);
        take(&world, sign(&root, here(&world, number))).unwrap();
        if number == 1 {
            // Goes on without anybody, and is lost again with its restart, which was in another backup.
            world.start();
        }
    }
    // A third one, in the ledger that has the second.
    take(&world, sign(&root, here(&world, 5))).unwrap();
    world.start();
    for restart in [2, 5, 5] {
        assert!(settle(&mut world).into_iter().all(|settled| settled.is_ok()));
        let adopted: BTreeSet<u32> = world.machines.iter().map(|machine| machine.restart()).collect();
        assert_eq!(adopted, BTreeSet::from([restart]));
    }
    assert!(world.round(5 * ROUNDS_APART, &mut |_| ()).committed);
    assert!(world.machines.iter().all(|machine| machine.accounts().lost_by(&name(2)) == Some(2)));
    world.stop();
}

#[test]
fn a_round_that_was_open_in_the_backup_is_not_gone_on_with_and_stays_spent() {
    let mut world = World::new(37);
    let root = root(&world, 37);
    let mut backup = None;
    world.play(1, &mut |world| {
        if backup.is_none() && world.machines[0].has_answered(Step::Collect) {
            backup = Some(world.back_up());
        }
    });
    assert!(world.end(1).unwrap().committed, "after the backup");
    world.put_back(&backup.unwrap());
    take(&world, sign(&root, here(&world, 4))).unwrap();
    world.start();
    let [recovered] = world.life().recovery.rounds.as_slice() else { panic!("{:?}", world.life().recovery) };
    assert!(recovered.problem.as_ref().unwrap().contains("open in the backup"), "{recovered:?}");
    assert!(!world.end(1).unwrap().committed);
    for verdicts in settle(&mut world) {
        assert_eq!(verdicts.unwrap(), [(1, Verdict::Lost)]);
    }
    // Started again it has nothing to give up any more, and what was set aside stays so.
    world.kill_coordinator();
    assert_eq!(world.life().recovery.rounds, []);
    let first = 4 * ROUNDS_APART;
    world.play(first, &mut |_| ());
    assert!(world.end(first).unwrap().committed);
    world.stop();
    let account = Account::load(&store(&world)).unwrap();
    let open: Vec<u64> = account.reservations().map(|open| open.round).collect();
    assert_eq!(open, [1]);
    for machine in &world.machines {
        let client = machine.member.certificate.client;
        assert_eq!((machine.paid(), account.book().rounds_of(client.0)), (BTreeSet::from([1, first]), 1));
    }
    let [both, one] = [account.max_epsilon(1e-5), account.book().max_epsilon(1e-5)].map(Result::unwrap);
    assert!(both > one, "what was set aside counts, {both}, beside what is known to be spent, {one}");
}

#[test]
fn a_coordinator_killed_while_it_takes_a_restart_in_has_it_or_not() {
    let mut world = World::new(38);
    let root = root(&world, 38);
    assert!(world.round(1, &mut |_| ()).committed);
    world.stop();
    let signed = sign(&root, here(&world, 1));
    for (death, more) in [(Death::Before(1), 0), (Death::After(1), 1)] {
        let before = here(&world, 1).size;
        let rocks: Arc<dyn Store> = Arc::new(store(&world));
        let died = take_on(&world, &Brittle::new(rocks, Some(death)), signed);
        assert!(matches!(died, Err(RestartError::Store(_))), "{died:?}");
        assert_eq!(here(&world, 1).size, before + more);
    }
    take(&world, signed).unwrap();
    world.start();
    assert!(settle(&mut world).into_iter().all(|settled| settled.is_ok()));
    assert!(world.round(ROUNDS_APART, &mut |_| ()).committed);
    world.stop();
}

/// Runs the coordinator's program, killed at its n-th kill point if that is given. Whether it did what it was asked.
fn command(folder: &Path, line: &str, dies_at: Option<u64>) -> bool {
    let mut command = Command::new(program("tacit-coordinator"));
    if let Some(point) = dies_at {
        command.env(VARIABLE, point.to_string());
    }
    let output = command.current_dir(folder).args(line.split(' ')).output().unwrap();
    assert!(
        output.status.success() || dies_at.is_some(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.status.success()
}

#[test]
fn the_programs_do_it_over_tls() {
    let (premises, mut world) = Premises::new(76, settings());
    world.stop();
    play(&premises, &mut world, 1, &mut Vec::new());
    world.site.clock.store(system_clock(), Ordering::SeqCst);
    world.start();
    assert!(world.check(1).committed);
    let backup = world.back_up();
    world.stop();
    play(&premises, &mut world, 2, &mut Vec::new());
    world.start();
    assert!(settle(&mut world).into_iter().all(|settled| settled.is_ok()));
    refused_by_all(&mut world, &backup);

    let folder = premises.data.path().parent().unwrap();
    command(folder, "ledger head coordinator", None);
    command(folder, "identity restart --head head.json --folder root", None);
    // Killed before the restart is durable, and after that.
    for point in [1, 2] {
        assert!(!command(folder, "ledger restart coordinator restart.json", Some(point)));
        let taken = Account::load(&store(&world)).unwrap().ledger().restarts().len();
        assert_eq!(taken as u64, point - 1);
    }
    assert!(command(folder, "ledger restart coordinator restart.json", None));

    let process = Process::start(&premises, None).unwrap();
    let size = size_shown(&world, &premises, &process);
    let shown = |ledger_size, restart| {
        let check_in = CheckIn {
            version: "0.2.0".to_owned(),
            base_models: Vec::new(),
            ready: Vec::new(),
            ledger_size,
            revocations: 0,
            restart,
        };
        premises.wire(0, &process.address, "0.2.0").say(check_in).unwrap().ledger.restart
    };
    for seen in [0, size, size + 2] {
        assert_eq!(
            shown(seen, 0).map(|restart| restart.entry.index),
            Some(size - 1),
            "who saw {seen} entries"
        );
        assert_eq!(shown(seen, 1), None, "who has adopted it");
    }
    // Everybody follows it before a round that comes after it.
    let now = world.site.now();
    for (place, machine) in world.machines.iter_mut().enumerate() {
        machine.settle(&premises.wire(place, &process.address, "0.2.0"), now).unwrap();
        assert_eq!(machine.restart(), 1);
    }
    drop(process);
    play(&premises, &mut world, ROUNDS_APART, &mut vec![4, 5]);
    world.start();
    assert!(world.check(ROUNDS_APART).committed);
    assert!(world.machines.iter().all(|machine| machine.accounts().lost_by(&name(2)) == Some(1)));
    world.stop();
}

/// Entries of the ledger that a process shows.
fn size_shown(world: &World, premises: &Premises, process: &Process) -> u64 {
    let ask = Prove { since: 0, rounds: Vec::new(), restart: 1 };
    let proof = premises.wire(0, &process.address, "0.2.0").prove(ask).unwrap();
    proof.head.verify(&world.site.key.public_key().0).unwrap().size
}
