//! A coordinator that lies about its ledger is caught, and what shows it is kept.

use super::{About, Contradiction, LedgerError, PATIENCE, Verdict, Watch};
use crate::accounts::Awaiting;
use crate::folder::{Folder, Kind};
use crate::testing::{Book, Ends, NOW, World, task};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tacit_aggregation::identity::IdentityRoot;
use tacit_privacy::ledger::head::SignedHead;
use tacit_privacy::ledger::restart::ROUNDS_APART;
use tacit_proto::CoordinatorKey;

const PLAN: [u8; 32] = [8; 32];
/// This client; the cohort has it.
const CLIENT: u64 = 7;
const COHORT: [u64; 5] = [7, 17, 27, 37, 47];

fn awaiting(round: u64, unmasked: bool) -> Awaiting {
    Awaiting { task: task(), round, plan: PLAN, unmasked, since: NOW }
}

struct Setup {
    _root: tempfile::TempDir,
    folder: Folder,
    world: World,
    book: Book,
    watch: Watch,
}

impl Setup {
    fn new() -> Self {
        let (root, world) = (tempfile::tempdir().expect("a folder"), World::new());
        let folder = Folder::open(root.path()).expect("new");
        let client = world.members[0].certificate.client;
        assert_eq!(client.0, CLIENT);
        let watch = Watch::load(&folder, world.keys(), client).expect("fresh");
        Self { folder, book: Book::new(&world.key), watch, world, _root: root }
    }

    fn again(&self) -> Watch {
        let client = self.world.members[0].certificate.client;
        Watch::load(&self.folder, self.world.keys(), client).expect("stored")
    }

    fn judge(&mut self, awaiting: &Awaiting, now: u64) -> Result<Verdict, LedgerError> {
        let proof = self.book.prove(self.watch.size(), &[awaiting.round]);
        self.watch.accept(&self.folder, &proof, None, NOW)?;
        self.watch.judge(&self.folder, awaiting, &proof, now)
    }

    fn caught(&mut self, awaiting: &Awaiting, now: u64) -> Contradiction {
        match self.judge(awaiting, now) {
            Err(LedgerError::Contradiction(contradiction)) => {
                let stored = Contradiction::load(&self.folder).expect("readable").expect("stored");
                assert_eq!(stored, *contradiction);
                stored
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_honest_ledger_says_how_each_round_ended() {
    let mut setup = Setup::new();
    for round in 1..=4 {
        setup.book.reserve(round, PLAN);
        assert_eq!(setup.judge(&awaiting(round, true), NOW).expect("honest"), Verdict::Open);
        let (ends, unmasked, verdict) = match round {
            1 => (Ends::Commit(&COHORT), true, Verdict::Debited(1)),
            2 => (Ends::Forfeit(&COHORT[..4]), true, Verdict::Debited(3)),
            3 => (Ends::Commit(&COHORT[1..]), false, Verdict::Spared),
            _ => (Ends::Release, false, Verdict::Spared),
        };
        setup.book.end(round, ends);
        assert_eq!(setup.judge(&awaiting(round, unmasked), NOW).expect("honest"), verdict, "{round}");
        assert_eq!(setup.again().size(), 2 * round, "the head is stored");
    }
    assert_eq!(Contradiction::load(&setup.folder).expect("readable"), None);
    // A round that was never unmasked and is not known any more: after a while it is nobody's.
    assert_eq!(setup.judge(&awaiting(9, false), NOW).expect("honest"), Verdict::Open);
    assert_eq!(setup.judge(&awaiting(9, false), NOW + PATIENCE + 1).expect("honest"), Verdict::Spared);
}

#[test]
fn a_missing_debit_is_caught() {
    type Lie = (fn(&mut Book), u64, &'static str);
    let lies: [Lie; 6] = [
        (|_| {}, NOW, "does not know it"),
        (|book| book.reserve(1, PLAN), NOW + PATIENCE + 1, "still open"),
        (
            |book| {
                book.reserve(1, PLAN);
                book.end(1, Ends::Release);
            },
            NOW,
            "releases it without cost",
        ),
        (
            |book| {
                book.reserve(1, PLAN);
                book.end(1, Ends::Commit(&COHORT[1..]));
            },
            NOW,
            "not among those debited",
        ),
        (
            |book| {
                book.reserve(1, PLAN);
                book.end(1, Ends::Forfeit(&COHORT[1..]));
            },
            NOW,
            "not among those debited",
        ),
        (
            |book| {
                book.reserve(1, [9; 32]);
                book.end(1, Ends::Commit(&COHORT));
            },
            NOW,
            "another plan",
        ),
    ];
    for (lie, now, named) in lies {
        let mut setup = Setup::new();
        lie(&mut setup.book);
        let contradiction = setup.caught(&awaiting(1, true), now);
        assert!(contradiction.problem.contains(named), "{}", contradiction.problem);
        let evidence: serde_json::Value = serde_json::from_slice(&contradiction.evidence).expect("JSON");
        let head = hex::decode(evidence["shown"].as_str().expect("text")).expect("hexadecimal");
        let head = SignedHead::from_bytes(head.as_slice().try_into().expect("a head"));
        assert!(head.verify(&setup.world.key.public_key().0).is_ok(), "the evidence proves itself");
    }
}

#[test]
fn lists_and_entries_that_do_not_belong_are_caught() {
    let mut setup = Setup::new();
    setup.book.reserve(1, PLAN);
    setup.book.end(1, Ends::Commit(&COHORT));
    setup.book.reserve(2, PLAN);
    setup.book.end(2, Ends::Commit(&COHORT));
    let good = setup.book.prove(0, &[1, 2]);
    setup.watch.accept(&setup.folder, &good, None, NOW).expect("honest");
    let judge = |proof: &_| setup.watch.judge(&setup.folder, &awaiting(1, true), proof, NOW);
    assert_eq!(judge(&good).expect("honest"), Verdict::Debited(1));
    // Other participants than the entry commits to, one of them not even missing.
    let mut padded = good.clone();
    padded.rounds[0].participants[4].0 += 1;
    let mut shorter = good.clone();
    shorter.rounds[0].participants.pop();
    let mut moved = good.clone();
    moved.rounds[0].entries[1].index -= 1;
    let mut altered = good.clone();
    altered.rounds[0].entries[1].entry[40] ^= 1;
    let mut foreign = good.clone();
    foreign.rounds[0].entries = good.rounds[1].entries.clone();
    for (name, lie) in [
        ("padded", padded),
        ("shorter", shorter),
        ("moved", moved),
        ("altered", altered),
        ("foreign", foreign),
    ] {
        assert!(matches!(judge(&lie), Err(LedgerError::Contradiction(_))), "{name}");
    }
}

#[test]
fn a_fork_or_a_rollback_is_caught_also_after_a_restart() {
    for rolled_back in [true, false] {
        let mut setup = Setup::new();
        setup.book.reserve(1, PLAN);
        setup.book.end(1, Ends::Commit(&COHORT));
        setup.judge(&awaiting(1, true), NOW).expect("honest");
        // A coordinator that was put back to a backup, and perhaps went on from there.
        let mut other = Book::new(&setup.world.key);
        other.reserve(1, PLAN);
        if !rolled_back {
            other.end(1, Ends::Release);
            other.reserve(2, PLAN);
        }
        let (mut watch, proof) = (setup.again(), other.prove(2, &[]));
        let refused = watch.accept(&setup.folder, &proof, None, NOW).expect_err("a contradiction");
        let LedgerError::Contradiction(contradiction) = refused else { panic!("{refused}") };
        let evidence: serde_json::Value = serde_json::from_slice(&contradiction.evidence).expect("JSON");
        assert!(evidence["seen"].is_string() && evidence["shown"].is_string());
        assert_eq!(watch.size(), 2, "the memory is unchanged");
        assert_eq!(setup.again().size(), 2);
        let stored = Contradiction::load(&setup.folder).expect("readable").expect("stored");
        stored.put_by(&setup.folder).expect("its owner has seen it");
        assert_eq!(Contradiction::load(&setup.folder).expect("readable"), None);
        assert_eq!(setup.folder.list("evidence").expect("there").len(), 1, "and it is kept");
    }
}

#[test]
fn a_stranger_s_head_proves_nothing() {
    let mut setup = Setup::new();
    let stranger = Book::new(&CoordinatorKey::from_bytes(&[66; 32]));
    let refused =
        setup.watch.accept(&setup.folder, &stranger.prove(0, &[]), None, NOW).expect_err("unsigned");
    assert!(matches!(refused, LedgerError::Unsigned(_)), "{refused}");
    assert_eq!(Contradiction::load(&setup.folder).expect("readable"), None);
}

/// A client that paid in two rounds, and its coordinator, put back to after the first.
fn put_back() -> (Setup, Book) {
    let mut setup = Setup::new();
    setup.book.reserve(1, PLAN);
    setup.book.end(1, Ends::Commit(&COHORT));
    let backup = setup.book.clone();
    setup.book.reserve(2, PLAN);
    setup.book.end(2, Ends::Commit(&COHORT));
    assert_eq!(setup.judge(&awaiting(2, true), NOW).expect("honest"), Verdict::Debited(3));
    (setup, backup)
}

#[test]
fn a_restart_is_adopted_once_and_lost_rounds_are_told_from_missing_debits() {
    let (mut setup, backup) = put_back();
    setup.book = backup.clone();
    assert_eq!(setup.caught(&awaiting(1, true), NOW).about, About::Head);
    setup.book.restart(setup.book.restart_from(1), &setup.world.root);
    let proof = setup.book.prove_after(4, &[1, 2], 0);
    assert!(setup.watch.would_adopt(&proof) && !setup.watch.would_adopt(&setup.book.prove(4, &[])));
    assert!(setup.watch.accept(&setup.folder, &proof, None, NOW).expect("the root's"));
    assert!(!setup.watch.would_adopt(&proof), "once");
    let judged = |setup: &Setup, round, unmasked, later| {
        let proof = setup.book.prove(setup.watch.size(), &[round]);
        setup.watch.judge(&setup.folder, &awaiting(round, unmasked), &proof, NOW + later)
    };
    assert_eq!(judged(&setup, 1, true, 0).expect("before the backup"), Verdict::Debited(1));
    for (unmasked, later) in [(true, 0), (false, 0), (true, PATIENCE + 1), (false, PATIENCE + 1)] {
        assert_eq!(judged(&setup, 2, unmasked, later).expect("lost"), Verdict::Lost);
    }
    let first = setup.watch.first_round();
    for round in [first - 1, first] {
        assert_eq!(judged(&setup, round, true, 0).ok(), (round < first).then_some(Verdict::Lost), "{round}");
    }
    let again = setup.again();
    assert_eq!((again.size(), again.restart_number(), again.restart()), (3, 1, setup.watch.restart()));

    // The same number for another head is a fork of the root's, and no restart ends that.
    let mut forked = Book::new(&setup.world.key);
    forked.restart(forked.restart_from(1), &setup.world.root);
    let refused = setup.watch.accept(&setup.folder, &forked.prove_after(3, &[], 0), None, NOW);
    let Err(LedgerError::Contradiction(found)) = refused else { panic!("{refused:?}") };
    assert!(found.problem.contains("two restarts with the number 1"), "{found:?}");
    assert_eq!(found.about, About::Other);
    let evidence: serde_json::Value = serde_json::from_slice(&found.evidence).expect("JSON");
    assert!(evidence["adopted"].is_string() && evidence["restart"]["entry"].is_string());
    // Nor does a restart excuse who goes back a second time.
    setup.book = backup;
    assert_eq!(setup.caught(&awaiting(1, true), NOW).about, About::Head);
    assert_eq!(setup.again().size(), 3);
}

#[test]
fn a_restart_that_was_kept_back_lets_nobody_go_back() {
    let (mut setup, backup) = put_back();
    let mut kept = backup;
    kept.restart(kept.restart_from(1), &setup.world.root);
    setup.watch.accept(&setup.folder, &kept.prove_after(4, &[], 0), Some(2), NOW).expect("in time");
    // A second one, which the coordinator takes in, and hides while this client pays for a round that comes after it.
    kept.restart(kept.restart_from(2), &setup.world.root);
    let mut forked = kept.clone();
    let first = 2 * ROUNDS_APART;
    kept.reserve(first, PLAN);
    kept.end(first, Ends::Commit(&COHORT));
    setup.watch.accept(&setup.folder, &kept.prove(3, &[]), Some(2), NOW).expect("it grew");
    assert_eq!((setup.watch.size(), setup.watch.restart_number()), (6, 1));
    forked.reserve(first + 1, PLAN);
    let refused = setup.watch.accept(&setup.folder, &forked.prove_after(6, &[], 1), Some(first), NOW);
    let Err(LedgerError::Contradiction(found)) = refused else { panic!("{refused:?}") };
    assert!(found.problem.contains("restart 2 of the ledger was kept from this client"), "{found:?}");
    assert_eq!((found.about, setup.again().size(), setup.again().restart_number()), (About::Other, 6, 1));
    // Late, but over the ledger that it saw, it leaves nothing behind.
    let late = kept.prove_after(6, &[], 1);
    assert!(setup.again().accept(&setup.folder, &late, Some(first), NOW).expect("it goes on"));
    // And whoever has paid for nothing since goes back, as after any loss.
    let lost = forked.prove_after(6, &[], 1);
    assert!(setup.watch.accept(&setup.folder, &lost, Some(first - 1), NOW).expect("the root's"));
}

#[test]
fn a_restart_that_is_none_is_refused_although_the_ledger_goes_on() {
    let mut setup = Setup::new();
    let other = IdentityRoot::generate(&mut ChaCha20Rng::seed_from_u64(9));
    setup.book.restart(setup.book.restart_from(1), &other);
    let refused = setup.watch.accept(&setup.folder, &setup.book.prove_after(0, &[], 0), None, NOW);
    assert!(matches!(refused, Err(LedgerError::Restart(_))), "{refused:?}");
    assert_eq!((setup.watch.size(), Contradiction::load(&setup.folder).expect("readable")), (0, None));
}

#[test]
fn a_machine_that_dies_while_it_adopts_has_the_old_memory_or_the_new() {
    let mut states = Vec::new();
    for at in 1.. {
        let (setup, mut book) = put_back();
        book.restart(book.restart_from(1), &setup.world.root);
        let proof = book.prove_after(4, &[], 0);
        let (path, world) = (setup.folder.path().to_owned(), setup.world);
        let client = world.members[0].certificate.client;
        drop(setup.folder);
        let dying = Folder::open_until(&path, at).expect("there");
        let mut watch = Watch::load(&dying, world.keys(), client).expect("stored");
        let adopted = watch.accept(&dying, &proof, None, NOW);
        drop(dying);
        let folder = Folder::open(&path).expect("there");
        let mut watch = Watch::load(&folder, world.keys(), client).expect("whole");
        states.push((watch.size(), watch.restart_number()));
        assert!([(4, 0), (3, 1)].contains(states.last().expect("pushed")), "{states:?}");
        // Whichever it is, it goes on.
        watch
            .accept(&folder, &book.prove_after(watch.size(), &[], watch.restart_number()), None, NOW)
            .expect("the root's");
        assert_eq!((watch.size(), watch.restart_number()), (3, 1));
        if adopted.is_ok() {
            break;
        }
    }
    assert_eq!(states.last(), Some(&(3, 1)));
}

#[test]
fn memories_of_earlier_versions_are_read() {
    let (setup, _) = put_back();
    let stored = setup.folder.read(super::HEAD_FILE, super::HEAD).expect("readable").expect("stored");
    setup.folder.write(super::HEAD_FILE, super::HEAD_1, &stored).expect("written");
    assert_eq!((setup.again().size(), setup.again().restart_number()), (4, 0));
    setup.folder.write(super::HEAD_FILE, super::HEAD, &stored[1..]).expect("written");
    let client = setup.world.members[0].certificate.client;
    assert!(Watch::load(&setup.folder, setup.world.keys(), client).is_err(), "neither one nor the other");

    let before = ("a problem".to_owned(), vec![1_u8, 2], 5_u64, true);
    setup.folder.store("contradiction", Kind { code: 7, version: 1 }, &before).expect("written");
    let read = Contradiction::load(&setup.folder).expect("readable").expect("there");
    let (problem, evidence, at, reported) = before;
    assert_eq!(read, Contradiction { problem, evidence, at, reported, about: About::Other });
}
