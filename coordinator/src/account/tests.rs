//! The account against an oracle, through its stored form after every step.

use super::{
    Account, AccountError, EPOCH, Entries, LedgerRounds, LoadError, Members, Participants, Published,
    Reservation, RoundRow, export, spent_by,
};
use crate::store::{Batch, MemoryStore, Records, RocksStore, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tacit_aggregation::identity::{ClientId, IdentityRoot, PublicKey};
use tacit_aggregation::params::TaskName;
use tacit_privacy::ledger::head::{HeadError, Witness};
use tacit_privacy::ledger::restart::Restart;
use tacit_privacy::ledger::{self, Entry, Event, LedgerError, Problem, members_root};
use tacit_privacy::{
    Adjacency, BasisPoints, Mechanism, MechanismRequest, NoiseLaw, ParticipationBook, RdpCurve,
    RoundMechanism,
};
use tacit_proto::CoordinatorKey;
use tacit_proto::fleet::RoundName;
use tacit_proto::ledger::Prove;

const DELTA: f64 = 1e-5;
const COHORT: u32 = 5;
const LEAST: u32 = 3;
/// An identity root that has signed no restart.
const NOBODY: PublicKey = PublicKey([0; 32]);

fn task(name: &str) -> TaskName {
    TaskName::new(name).expect("a plain name")
}

fn key() -> CoordinatorKey {
    CoordinatorKey::from_bytes(&[3; 32])
}

/// Of a cohort of five; what it costs with three to five survivors, and at worst.
static MECHANISM: LazyLock<(RoundMechanism, [RdpCurve; 3], RdpCurve)> = LazyLock::new(|| {
    let request = MechanismRequest {
        clients: COHORT,
        n_min: LEAST,
        corrupt: BasisPoints::ZERO,
        dropout: BasisPoints::new(4_000).expect("a fraction"),
        dimension: 10,
        clip: 1.0,
        noise_multiplier: 3.0,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
    };
    let mechanism = RoundMechanism::from(Mechanism::build(&request).expect("feasible"));
    let costs = [3, 4, 5].map(|survivors| mechanism.cost(survivors).expect("released"));
    let worst = mechanism.worst_cost().expect("stated");
    (mechanism, costs, worst)
});

fn cost(survivors: u32) -> &'static RdpCurve {
    &MECHANISM.1[(survivors - LEAST) as usize]
}

/// A round with the five clients from `first` on.
fn reservation(name: &str, round: u64, first: u64) -> Reservation {
    let (mechanism, _, worst) = &*MECHANISM;
    Reservation {
        task: task(name),
        round,
        plan_digest: [round as u8; 32],
        clients: members(first).into_iter().collect(),
        cost: worst.clone(),
        mechanism: mechanism.clone(),
        delta: DELTA,
    }
}

fn members(first: u64) -> Vec<ClientId> {
    (first..first + u64::from(COHORT)).map(ClientId).collect()
}

const PUBLISHED: Published = Published { clip_bits: None, adapter_digest: [9; 32] };

/// An account and its store, saved and loaded after every change.
struct Stored<S> {
    account: Account,
    store: S,
}

impl<S: Store> Stored<S> {
    fn new(store: S) -> Self {
        Self { account: Account::new(), store }
    }

    /// Does something, stores it, and compares what is stored with what is in memory.
    fn step<T>(&mut self, change: impl FnOnce(&mut Account) -> T) -> T {
        let (before, given) = (self.account.clone(), change(&mut self.account));
        let changed = self.account != before;
        assert_eq!(self.account.unsaved(), self.account.ledger().size() - before.ledger().size());
        let mut batch = Batch::new();
        self.account.save(&mut batch);
        assert_eq!((self.account.unsaved(), batch == Batch::new()), (0, !changed));
        let epoch = self.store.lease().expect("a lease");
        batch.commit(&self.store, epoch).expect("durable");
        let loaded = Account::load(&self.store).expect("what was just stored");
        assert!(loaded == self.account, "{} entries", loaded.ledger().size());
        given
    }
}

#[test]
fn a_reservation_counts_until_its_round_ends() {
    let mut stored = Stored::new(MemoryStore::new());
    let rust = task("rust");
    stored.step(|account| account.reserve(reservation("rust", 1, 1), 10)).expect("the first");
    let reserved = stored.account.max_epsilon(DELTA).expect("stated");
    assert!(reserved > 0.5);
    assert_eq!(stored.account.book().max_epsilon(DELTA), Ok(0.0));
    assert_eq!(stored.account.reservation(&rust, 1), Some(&reservation("rust", 1, 1)));
    stored.step(|account| account.release(&rust, 1, "nobody\nshared", 11)).expect("open");
    assert_eq!(stored.account.max_epsilon(DELTA), Ok(0.0));

    stored.step(|account| account.reserve(reservation("rust", 2, 1), 12)).expect("another round");
    let survivors = &members(1)[..3];
    let entry = stored.step(|account| account.commit(&rust, 2, survivors, PUBLISHED, 13)).expect("reserved");
    let commit = entry.event.commit().expect("a commit");
    assert_eq!((entry.time, entry.round, commit.adapter_digest), (13, 2, [9; 32]));
    assert_eq!(commit.debit.participants_root, members_root([1, 2, 3]));
    assert!((commit.debit.epsilon - reserved).abs() < 1e-12);
    assert_eq!(stored.account.book().clients().collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(stored.account.reservations().count(), 0);
    // The history of the task is that of its debits.
    let history = stored.account.history(&rust).expect("one round");
    assert_eq!((history.rounds_of(ClientId(3)), history.rounds_of(ClientId(4))), (1, 0));
    assert!(!history.is_rested(ClientId(3), 3, 2) && history.is_rested(ClientId(4), 3, 2));
    assert!(stored.account.history(&task("java")).is_none());
}

#[test]
fn an_abort_after_unmask_costs_the_survivors_in_full() {
    let mut stored = Stored::new(MemoryStore::new());
    let rust = task("rust");
    stored.step(|account| account.reserve(reservation("rust", 1, 1), 0)).expect("the first");
    let survivors = &members(1)[1..];
    let entry = stored.step(|account| account.forfeit(&rust, 1, survivors, 0)).expect("reserved");
    let Event::Forfeit(debit) = &entry.event else { unreachable!("{entry:?}") };
    assert_eq!((debit.survivors, debit.reservation), (4, 0));
    assert_eq!(stored.account.max_epsilon(DELTA), Ok(debit.epsilon));
    assert_eq!(stored.account.book().clients().count(), 4);
}

#[test]
fn nothing_is_released_without_a_reservation() {
    let mut account = Account::new();
    let (rust, java) = (task("rust"), task("java"));
    let survivors = &members(1)[..3];
    let refused = AccountError::NotReserved { task: rust.clone(), round: 1 };
    assert_eq!(account.commit(&rust, 1, survivors, PUBLISHED, 0), Err(refused.clone()));
    assert_eq!(account.forfeit(&rust, 1, survivors, 0), Err(refused.clone()));
    assert_eq!(account.release(&rust, 1, "why", 0), Err(refused));
    account.reserve(reservation("rust", 1, 1), 0).expect("the first");
    let before = account.clone();
    // Another task's round of the same number.
    let refused = AccountError::NotReserved { task: java.clone(), round: 1 };
    assert_eq!(account.commit(&java, 1, survivors, PUBLISHED, 0), Err(refused));
    for (survivors, expected) in [
        (vec![1, 2, 9], AccountError::NotMember { task: rust.clone(), round: 1, client: ClientId(9) }),
        (vec![1, 1, 2], AccountError::Survivors { task: rust.clone(), round: 1 }),
        (vec![2, 1, 3], AccountError::Survivors { task: rust.clone(), round: 1 }),
    ] {
        let survivors: Vec<_> = survivors.into_iter().map(ClientId).collect();
        assert_eq!(account.forfeit(&rust, 1, &survivors, 0), Err(expected.clone()));
        assert_eq!(account.commit(&rust, 1, &survivors, PUBLISHED, 0), Err(expected));
    }
    assert!(matches!(account.forfeit(&rust, 1, &members(1)[..2], 0), Err(AccountError::Cost(_))));
    let bits = Published { clip_bits: Some(3), ..PUBLISHED };
    let refused = account.commit(&rust, 1, survivors, bits, 0);
    assert!(
        matches!(&refused, Err(AccountError::Ledger(LedgerError::Refused { problem, .. }))
        if *problem == Problem::ClipBits { found: Some(3) }),
        "{refused:?}"
    );
    for round in [0, 1] {
        let again = account.reserve(reservation("rust", round, 3), 0);
        assert!(
            matches!(&again, Err(AccountError::Ledger(LedgerError::Refused { problem, .. }))
            if *problem == Problem::RoundNotAfter { before: 1 }),
            "{again:?}"
        );
    }
    assert_eq!(account, before, "what is refused changes nothing");
}

#[test]
fn a_release_states_what_open_rounds_of_any_task_may_have_cost() {
    let mut account = Account::new();
    account.reserve(reservation("java", 7, 3), 0).expect("the first");
    account.reserve(reservation("rust", 2, 1), 0).expect("another task");
    let before = account.max_epsilon(DELTA).expect("stated");
    let entry = account.commit(&task("rust"), 2, &members(1)[..3], PUBLISHED, 0).expect("reserved");
    let stated = entry.event.debit().expect("a debit").epsilon;
    assert_eq!(account.max_epsilon(DELTA), Ok(stated));
    assert!((stated - before).abs() < 1e-12, "{stated} leaves out java's round, which makes it {before}");
    // Client 3 is in both, client 1 has paid, client 9 is nowhere.
    let limit = account.book().epsilon_of(1, DELTA).expect("stated");
    for (client, exceeds) in [(1, true), (3, true), (4, true), (9, false)] {
        assert_eq!(
            account.would_exceed(ClientId(client), cost(3), DELTA, limit * 1.001),
            exceeds,
            "{client}"
        );
    }
    let twice = ParticipationBook::new().epsilon_with(1, [cost(3), cost(3)], DELTA).expect("stated");
    assert!(!account.would_exceed(ClientId(1), cost(3), DELTA, twice));
    assert!(account.would_exceed(ClientId(1), cost(3), DELTA, twice.next_down()));
    assert!(account.would_exceed(ClientId(1), cost(3), DELTA, f64::NAN));
}

#[test]
fn what_was_not_committed_is_gone_after_a_reload() {
    let store = MemoryStore::new();
    let mut stored = Stored::new(store);
    stored.step(|account| account.reserve(reservation("rust", 1, 1), 0)).expect("the first");
    let durable = stored.account.clone();
    let epoch = stored.store.lease().expect("a lease");
    stored.account.commit(&task("rust"), 1, &members(1), PUBLISHED, 0).expect("reserved");
    let mut batch = Batch::new();
    stored.account.save(&mut batch);
    // Another writer took over.
    stored.store.lease().expect("a lease");
    assert!(matches!(batch.commit(&stored.store, epoch), Err(StoreError::Fenced { .. })));
    assert_eq!(Account::load(&stored.store), Ok(durable));
}

#[test]
fn a_reservation_that_a_crash_left_is_seen_and_can_be_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stored = Stored::new(RocksStore::open(folder.path()).expect("a store"));
    stored.step(|account| account.reserve(reservation("rust", 1, 1), 77)).expect("the first");
    drop(stored);
    let store = RocksStore::open(folder.path()).expect("a store");
    let account = Account::load(&store).expect("sound");
    assert_eq!(account.reservations().collect::<Vec<_>>(), [&reservation("rust", 1, 1)]);
    let (_, round, open) = account.ledger().open().next().expect("open");
    assert_eq!((round, open.index, open.time), (1, 0, 77));
    let mut stored = Stored { account, store };
    stored.step(|account| account.forfeit(&task("rust"), 1, &members(1), 78)).expect("reserved");
    assert_eq!(stored.account.book().clients().count(), 5);
}

#[test]
fn damaged_records_are_named_and_not_believed() {
    let mut stored = Stored::new(MemoryStore::new());
    for round in 1..=3 {
        stored.step(|account| account.reserve(reservation("rust", round, round), 0)).expect("a new round");
        if round < 3 {
            let paid = members(round);
            stored
                .step(|account| account.commit(&task("rust"), round, &paid, PUBLISHED, 0))
                .expect("reserved");
        }
    }
    let Stored { store, account } = stored;
    let epoch = store.lease().expect("a lease");
    let records = Records(&store);
    let with = |change: &dyn Fn(&mut Batch), back: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        change(&mut batch);
        batch.commit(&store, epoch).expect("durable");
        let refused = Account::load(&store).expect_err("damaged");
        let mut batch = Batch::new();
        back(&mut batch);
        batch.commit(&store, epoch).expect("durable");
        assert_eq!(Account::load(&store).as_ref(), Ok(&account));
        refused
    };
    // Nothing in the store vouches for the last one; the heads that clients keep do.
    for index in 0..4 {
        let good = records.get::<Entries>(&index).expect("read").expect("there");
        let mut bad = good.clone();
        let place = bad.len() - 1;
        bad[place] ^= 1;
        let back = |batch: &mut Batch| {
            batch.put::<Entries>(&index, &good);
        };
        let changed = |batch: &mut Batch| {
            batch.put::<Entries>(&index, &bad);
        };
        let refused = with(&changed, &back);
        assert!(matches!(refused, LoadError::Ledger(_)), "entry {index}: {refused}");
        let missing = |batch: &mut Batch| {
            batch.delete::<Entries>(&index);
        };
        let refused = with(&missing, &back);
        let named = matches!(&refused, LoadError::Store(StoreError::Corrupted { table: "ledger", .. }));
        assert!(named, "entry {index}: {refused}");
    }
    for index in [1, 3, 4] {
        let good = records.get::<Members>(&index).expect("read").expect("there");
        let back = |batch: &mut Batch| {
            batch.put::<Members>(&index, &good);
        };
        let swapped: Vec<ClientId> = good.iter().rev().copied().collect();
        for bad in [&good[1..], &[&good[..], &[ClientId(99)]].concat(), &swapped] {
            let changed = |batch: &mut Batch| {
                batch.put::<Members>(&index, &bad.to_vec());
            };
            let refused = with(&changed, &back);
            let named = matches!(&refused, LoadError::Store(StoreError::Corrupted { table: "members", .. }));
            assert!(named, "members of {index}: {refused}");
        }
        let missing = |batch: &mut Batch| {
            batch.delete::<Members>(&index);
        };
        let refused = with(&missing, &back);
        assert!(matches!(refused, LoadError::Store(StoreError::Corrupted { .. })), "{refused}");
    }
}

#[test]
fn clients_are_shown_what_they_ask_for_and_can_check_it() {
    let (mut stored, key) = (Stored::new(MemoryStore::new()), key());
    let (rust, public) = (task("rust"), key.public_key().0);
    let mut witness = Witness::new(public);
    let name = |round| RoundName { task: rust.clone(), round };
    for round in 1..=3 {
        stored.step(|account| account.reserve(reservation("rust", round, round), 0)).expect("a new round");
        match round {
            1 => stored.step(|account| account.commit(&rust, 1, &members(1)[..4], PUBLISHED, 0)).map(drop),
            2 => stored.step(|account| account.forfeit(&rust, 2, &members(2), 0)).map(drop),
            _ => Ok(()),
        }
        .expect("reserved");
        let prove = Prove { since: witness.size(), rounds: vec![name(round), name(9)], restart: 0 };
        let proof = stored.account.prove(&prove, &stored.store, (&NOBODY, &key), 100 + round).expect("read");
        witness.accept(proof.head, &proof.consistency).expect("it grew");
        assert_eq!(witness.size(), stored.account.ledger().size());
        let [shown] = proof.rounds.as_slice() else { unreachable!("one round is known: {proof:?}") };
        assert_eq!((&shown.round, shown.entries.len()), (&name(round), if round == 3 { 1 } else { 2 }));
        for proved in &shown.entries {
            let leaf = ledger::tree::leaf_hash(&proved.entry);
            witness.check_entry(&leaf, proved.index, &proved.inclusion).expect("it is there");
            let entry = Entry::decode(&proved.entry).expect("canonical");
            assert_eq!(entry.round, round);
            if let Some(debit) = entry.event.debit() {
                assert_eq!(debit.participants_root, members_root(shown.participants.iter().map(|id| id.0)));
            }
        }
        assert_eq!(shown.participants.len(), [4, 5, 0][round as usize - 1]);
    }
    // What is not saved yet is in no head.
    stored.account.release(&rust, 3, "late", 0).expect("open");
    let prove = Prove { since: witness.size(), rounds: vec![name(3)], restart: 0 };
    let proof = stored.account.prove(&prove, &stored.store, (&NOBODY, &key), 200).expect("read");
    assert_eq!(proof.head.verify(&public).expect("signed").size, 5);
    assert_eq!(proof.rounds[0].entries.len(), 1);
    // A coordinator from a backup is caught.
    let old = Account::new().prove(&prove, &MemoryStore::new(), (&NOBODY, &key), 200).expect("read");
    let refused = witness.accept(old.head, &old.consistency);
    assert_eq!(refused, Err(HeadError::RolledBack { size: 0, seen: 5 }));
}

#[test]
fn clients_are_shown_the_restarts_of_their_own_root_and_no_others() {
    let (mut stored, key) = (Stored::new(MemoryStore::new()), key());
    let [first, second] = [1, 2].map(|seed| IdentityRoot::from_bytes(&[seed; 32]));
    let restart = |stored: &mut Stored<MemoryStore>, root: &IdentityRoot, number| {
        let (size, tree) = (stored.account.ledger().size(), stored.account.ledger().tree().root());
        let restart = Restart { coordinator: key.public_key().0, number, size, root: tree };
        let signed = restart.signed(root.sign(&restart.payload()).0);
        stored.step(|account| account.restart(signed, 0)).expect("of this ledger");
    };
    // What is shown to a fresh client, if its witness takes it.
    let shown = |stored: &Stored<MemoryStore>, root: &IdentityRoot, restart| {
        let (prove, public) = (Prove { since: 0, rounds: Vec::new(), restart }, root.public_key());
        let proof = stored.account.prove(&prove, &stored.store, (&public, &key), 1).expect("read");
        let mut witness = Witness::new(key.public_key().0);
        let shown = proof.restart.map(|restart| {
            witness.accept_restart(proof.head, &proof.consistency, &restart.shown(), &public.0)
        });
        shown.map(|adopted| adopted.map(|news| (news, witness.restart_number())))
    };
    restart(&mut stored, &first, 1);
    assert_eq!(shown(&stored, &first, 0), Some(Ok((true, 1))));
    assert_eq!(shown(&stored, &first, 1), None);
    // The first root's key is lost: whoever enrols with the second could not tell its restart from a forgery.
    assert_eq!(shown(&stored, &second, 0), None);
    restart(&mut stored, &second, 2);
    assert_eq!(shown(&stored, &second, 0), Some(Ok((true, 2))));
    let last = [&first, &second, &IdentityRoot::from_bytes(&[3; 32])];
    assert_eq!(last.map(|root| stored.account.last_restart(&root.public_key())), [1, 2, 0]);
}

#[test]
fn an_export_is_accepted_by_an_auditor_and_by_nobody_when_it_is_cut() {
    let (mut stored, key) = (Stored::new(MemoryStore::new()), key());
    for round in 1..=3 {
        stored.step(|account| account.reserve(reservation("rust", round, round), 0)).expect("a new round");
        let paid = members(round);
        stored.step(|account| account.commit(&task("rust"), round, &paid, PUBLISHED, 0)).expect("reserved");
    }
    let (head, public) = (stored.account.signed_head(&key, 5), key.public_key());
    let mut file = Vec::new();
    export(&stored.store, &head, &public, &mut file).expect("written");
    let text = String::from_utf8(file).expect("text");
    let audited = ledger::export::verify(&text, &public.0).expect("sound");
    assert_eq!((&audited.ledger, &audited.book), (stored.account.ledger(), stored.account.book()));
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for gone in 0..lines.len() {
        let rest: String =
            lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| *line).collect();
        assert!(ledger::export::verify(&rest, &public.0).is_err(), "without line {gone}");
    }
    // Under another's head nothing is written.
    let other = CoordinatorKey::from_bytes(&[4; 32]);
    let mut file = Vec::new();
    assert!(export(&stored.store, &stored.account.signed_head(&other, 5), &public, &mut file).is_err());
    assert!(file.is_empty());
}

/// What may happen to an account.
#[derive(Clone, Debug)]
enum Operation {
    Reserve { task: usize, skip: u64, first: u64 },
    Release { open: usize },
    Forfeit { open: usize, gone: usize },
    Commit { open: usize, gone: usize },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let reserve = (0..TASKS.len(), 0..3_u64, 0..20_u64).prop_map(|(task, skip, first)| Operation::Reserve {
        task,
        skip,
        first,
    });
    let end = (any::<usize>(), any::<usize>(), 0..5_u8).prop_map(|(open, gone, kind)| match kind {
        0 => Operation::Release { open },
        1 => Operation::Forfeit { open, gone },
        _ => Operation::Commit { open, gone },
    });
    vec(prop_oneof![reserve, end], 1..30)
}

const TASKS: [&str; 3] = ["rust", "java", "c"];

/// The same in the plainest form.
#[derive(Default)]
struct Oracle {
    /// Per client, the survivors of the rounds that it paid for.
    paid: BTreeMap<u64, Vec<u32>>,
    open: BTreeMap<(usize, u64), u64>,
    /// Per task, the last round that was opened.
    last: BTreeMap<usize, u64>,
    /// Per entry, who was debited.
    debited: Vec<BTreeSet<u64>>,
}

impl Oracle {
    fn max_epsilon(&self) -> f64 {
        let mut book = ParticipationBook::new();
        for (client, rounds) in &self.paid {
            rounds.iter().for_each(|survivors| book.debit(*client, cost(*survivors)));
        }
        for first in self.open.values() {
            members(*first).into_iter().for_each(|client| book.debit(client.0, &MECHANISM.2));
        }
        let each = book.clients().map(|(client, _)| book.epsilon_of(client, DELTA).expect("stated"));
        each.fold(0.0, f64::max)
    }

    fn check(&self, stored: &Stored<impl Store>) {
        let Stored { account, store } = stored;
        let paid: Vec<_> = self.paid.iter().map(|(client, rounds)| (*client, rounds.len() as u64)).collect();
        assert_eq!(account.book().clients().collect::<Vec<_>>(), paid);
        let open: BTreeSet<_> =
            account.reservations().map(|one| (one.task.as_str().to_owned(), one.round)).collect();
        let expected = self.open.keys().map(|(task, round)| (TASKS[*task].to_owned(), *round));
        assert_eq!(open, expected.collect());
        let (epsilon, due) = (account.max_epsilon(DELTA).expect("stated"), self.max_epsilon());
        assert!((epsilon - due).abs() <= 1e-9 * due, "{epsilon}, not {due}");
        for client in 0..26 {
            let places = self.debited.iter().zip(0..).filter(|(who, _)| who.contains(&client));
            let due: Vec<u64> = places.map(|(_, place)| place).collect();
            assert_eq!(spent_by(store, ClientId(client)).expect("read"), due, "client {client}");
        }
        // Only what is needed stays: the clients of open reservations and of debits.
        let rows = Records(store).scan::<Members>(&(), None, usize::MAX).expect("read");
        let debits = self.debited.iter().filter(|who| !who.is_empty()).count();
        assert_eq!(rows.len(), self.open.len() + debits);
    }
}

fn run(stored: &mut Stored<impl Store>, operations: &[Operation]) {
    let mut oracle = Oracle::default();
    let survivors = |first, gone: usize| members(first)[gone % (1 + (COHORT - LEAST) as usize)..].to_vec();
    for (now, operation) in (0..).zip(operations) {
        let at = |open: usize| {
            let place = open.checked_rem(oracle.open.len())?;
            oracle.open.iter().nth(place).map(|(key, first)| (*key, *first))
        };
        match *operation {
            Operation::Reserve { task, skip, first } => {
                // Without a skip it is the last round again.
                let last = oracle.last.get(&task).copied();
                let round = last.unwrap_or(0) + skip;
                let given =
                    stored.step(|account| account.reserve(reservation(TASKS[task], round, first), now));
                assert_eq!(given.is_ok(), skip > 0 || last.is_none(), "{given:?}");
                if given.is_ok() {
                    oracle.last.insert(task, round);
                    oracle.open.insert((task, round), first);
                    oracle.debited.push(BTreeSet::new());
                }
            }
            Operation::Release { open } => {
                let Some(((task, round), _)) = at(open) else { continue };
                stored
                    .step(|account| account.release(&self::task(TASKS[task]), round, "late", now))
                    .expect("open");
                oracle.open.remove(&(task, round));
                oracle.debited.push(BTreeSet::new());
            }
            Operation::Forfeit { open, gone } | Operation::Commit { open, gone } => {
                let Some(((task, round), first)) = at(open) else { continue };
                let (name, paid) = (self::task(TASKS[task]), survivors(first, gone));
                let entry = stored.step(|account| match operation {
                    Operation::Forfeit { .. } => account.forfeit(&name, round, &paid, now),
                    _ => account.commit(&name, round, &paid, PUBLISHED, now),
                });
                let stated = entry.expect("open").event.debit().expect("a debit").epsilon;
                oracle.open.remove(&(task, round));
                for client in &paid {
                    oracle.paid.entry(client.0).or_default().push(paid.len() as u32);
                }
                oracle.debited.push(paid.iter().map(|client| client.0).collect());
                let due = oracle.max_epsilon();
                assert!((stated - due).abs() <= 1e-9 * due, "{stated}, not {due}");
            }
        }
        oracle.check(stored);
    }
}

proptest! {
    #![proptest_config(Config { cases: 48, rng_seed: proptest::test_runner::RngSeed::Fixed(4), ..Config::default() })]

    #[test]
    fn any_operations_in_any_order_agree_with_the_oracle(operations in operations()) {
        run(&mut Stored::new(MemoryStore::new()), &operations);
    }
}

#[test]
fn a_database_keeps_an_account_through_more_than_an_epoch() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stored = Stored::new(RocksStore::open(folder.path()).expect("a store"));
    let operations: Vec<_> = (0..EPOCH)
        .flat_map(|round| {
            let task = (round % 3) as usize;
            let commit = Operation::Commit { open: 0, gone: round as usize };
            [Operation::Reserve { task, skip: 1, first: round % 20 }, commit]
        })
        .collect();
    run(&mut stored, &operations);
    assert_eq!(stored.account.ledger().size(), 2 * EPOCH);
    let records = Records(&stored.store);
    let bitmaps = records.scan::<Participants>(&(ClientId(5),), None, 9).expect("read");
    assert_eq!(bitmaps.iter().map(|((_, epoch), _)| *epoch).collect::<Vec<_>>(), [0, 1]);
    let row = records.get::<LedgerRounds>(&("rust".into(), 1)).expect("read");
    assert_eq!(row, Some(RoundRow { reservation: 0, end: Some(1) }));
}

#[test]
fn a_hundred_thousand_participants_are_looked_through_quickly() {
    let mut account = Account::new();
    let costs = [cost(3), cost(4), cost(5)];
    let mut state = 7_u64;
    for client in 0..100_000_u64 {
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            account.book.debit(client, costs[(state >> 33) as usize % 3]);
        }
    }
    let before = std::time::Instant::now();
    let largest = account.max_epsilon(DELTA).expect("stated");
    let took = before.elapsed();
    // Three rounds with the fewest survivors; and composing every client's curves would take many seconds.
    let due = ParticipationBook::new().epsilon_with(0, [costs[0]; 3], DELTA).expect("stated");
    assert!((largest - due).abs() < 1e-9 * due);
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}
