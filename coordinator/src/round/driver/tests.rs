//! What a failed round costs: nothing before its sum may be known, everything after, and never what another attempt reserved.

use super::{Driver, Event, RoundSetup, TaskState};
use crate::optimizer::{OptimizerState, ServerOptimizer};
use crate::plan::{PlanSettings, RoundStart};
use crate::round::{FailureReason, Keeper, MemoryKeeper, Outcome, Outgoing, Refusal, Vector};
use crate::{Account, AdapterVersion, Millis, Reservation};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use tacit_aggregation::client::{Advertised, ClientSetup};
use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot};
use tacit_aggregation::journal::{Record, Slot};
use tacit_aggregation::messages::{MaskedChunk, MaskedHeader};
use tacit_aggregation::params::{Floors, TaskName, ThreatModel};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::ServerError;
use tacit_privacy::{Adjacency, NoiseLaw};
use tacit_proto::{
    AdapterShape, ClientMessage, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining, RoundPlan,
    ServerMessage,
};

const CLIENTS: u64 = 6;
const DIMENSION: usize = 8;
/// The end of Advertise.
const DEADLINE: u64 = 10;

/// The first round of a task whose optimiser takes steps of this size.
fn open(account: Account, learning_rate: f64) -> Hosted {
    open_at(account, learning_rate, 0)
}

fn open_at(account: Account, learning_rate: f64, now: Millis) -> Hosted {
    let settings = PlanSettings {
        task: TaskName::new("unit").expect("a plain name"),
        base_model: [1; 32],
        adapter: AdapterShape { rank: 1, alpha: 1.0, targets: vec!["q_proj".into()], seed: 1 },
        training: LocalTraining {
            rule: LocalRule::Sgd { momentum: 0.0 },
            learning_rate: 0.1,
            steps: 1,
            batch: 1,
            sequence: 8,
        },
        cohort: CohortTerms {
            min: CLIENTS as u32,
            max: CLIENTS as u32,
            n_min: 5,
            threat: ThreatModel::HonestButCurious,
            corrupt_bp: 0,
            dropout_bp: 2_000,
            correctness_bits: 40,
        },
        clip: 1.0,
        noise_multiplier: 2.0,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
        delta: 1e-5,
        deadlines: Deadlines { advertise: DEADLINE, share: 10, collect: 10, confirm: 10, unmask: 10 },
        central: None,
        roster: None,
    };
    let key = CoordinatorKey::from_bytes(&[3; 32]);
    let adapter = AdapterVersion::new(vec![0.0; DIMENSION], [1; 32]).expect("finite");
    let setup = RoundSetup {
        plan: settings.plan(RoundStart::new(1, &adapter, &account), &key).expect("feasible"),
        coordinator: key.public_key(),
        root: IdentityRoot::from_bytes(&[4; 32]).public_key(),
        invited: (1..=CLIENTS).map(ClientId).collect(),
        noise: None,
    };
    let optimizer =
        OptimizerState::new(ServerOptimizer::FedAvg { learning_rate }, DIMENSION).expect("positive");
    let driver = Driver::open(setup, TaskState { adapter, optimizer }, &account, now);
    Hosted { driver: driver.expect("they belong together"), account, keeper: MemoryKeeper::default() }
}

/// A driver with what its caller lends it.
struct Hosted {
    driver: Driver,
    account: Account,
    keeper: MemoryKeeper,
}

impl Hosted {
    fn handle(&mut self, event: Event, now: Millis) -> Vec<Outgoing> {
        self.driver.handle(event, now, &mut self.account, &mut self.keeper)
    }
}

/// Closes the cohort with every client.
fn gather(driver: &mut Hosted) {
    let plan: RoundPlan = driver.driver.plan().clone();
    for client in (1..=CLIENTS).map(ClientId) {
        driver.handle(Event::Message { from: client, message: advert(&plan, client, u64::MAX) }, 1);
    }
    assert!(driver.driver.round().step() == "share", "{:?}", driver.driver.round());
}

/// The advert of a client whose certificate is valid until a Unix second.
fn advert(plan: &RoundPlan, client: ClientId, not_after: u64) -> ClientMessage {
    ClientMessage::Advert(Arc::clone(advertised(plan, client, not_after).advert()))
}

fn advertised(plan: &RoundPlan, client: ClientId, not_after: u64) -> Advertised {
    let mut rng = ChaCha20Rng::seed_from_u64(client.0);
    let root = IdentityRoot::from_bytes(&[4; 32]);
    let identity = IdentityKey::generate(&mut rng);
    let setup = ClientSetup {
        membership: None,
        terms: Arc::new(plan.terms()),
        floors: Floors { threat: ThreatModel::HonestButCurious, ..Floors::default() },
        root: root.public_key(),
        certificate: root.certify(client, identity.public_key(), not_after),
        identity: Arc::new(identity),
        parent: plan.parents[0],
    };
    Advertised::new(setup, 0, &mut rng).expect("admitted")
}

/// Counts the records of running sums.
#[derive(Default)]
struct Checkpoints {
    keeper: MemoryKeeper,
    count: usize,
}

impl Keeper for Checkpoints {
    fn record(&mut self, record: &Record) {
        self.count += usize::from(record.key().slot == Slot::Checkpoint);
    }

    fn append(&mut self, header: &MaskedHeader, chunk: &MaskedChunk) -> Result<Vector, String> {
        self.keeper.append(header, chunk)
    }

    fn stored(&mut self, header: &MaskedHeader) -> Result<Vector, String> {
        self.keeper.stored(header)
    }

    fn vector(&self, client: ClientId) -> Result<Vec<u8>, String> {
        self.keeper.vector(client)
    }

    fn discard(&mut self, client: ClientId) -> Result<(), String> {
        self.keeper.discard(client)
    }
}

#[test]
fn the_running_sum_is_put_on_record_however_little_is_added_at_once() {
    let Hosted { mut driver, mut account, .. } = open(Account::new(), 1.0);
    let (plan, mut keeper) = (driver.plan().clone(), Checkpoints::default());
    let mut say = |driver: &mut Driver, keeper: &mut Checkpoints, from, message| {
        let outgoing = driver.handle(Event::Message { from, message }, 1, &mut account, keeper);
        assert!(!outgoing.iter().any(|one| matches!(one, Outgoing::Refuse(_))), "{outgoing:?}");
    };
    let members: Vec<ClientId> = (1..=CLIENTS).map(ClientId).collect();
    for &client in &members {
        say(&mut driver, &mut keeper, client, advert(&plan, client, u64::MAX));
    }
    let shared: Vec<_> = members
        .iter()
        .map(|&client| {
            let shown = driver.round().message_for(client);
            let Some(ServerMessage::Cohort { list, adverts }) = shown else { panic!("{shown:?}") };
            advertised(&plan, client, u64::MAX).share(&list, &adverts, 0).expect("an honest server")
        })
        .collect();
    let mut waiting = Vec::new();
    for (&client, (state, message)) in members.iter().zip(shared) {
        say(&mut driver, &mut keeper, client, ClientMessage::Share(message));
        waiting.push(state);
    }
    let vector = RingVector::new(plan.privacy.bits, &[1; DIMENSION]).expect("fits");
    for (&client, state) in members.iter().zip(waiting) {
        let shown = driver.round().message_for(client);
        let Some(ServerMessage::Shares(deliveries)) = shown else { panic!("{shown:?}") };
        let (_, upload) = state.mask(&deliveries, vector.clone()).expect("an honest server");
        driver.record_after = 2 * upload.packed.len();
        say(&mut driver, &mut keeper, client, ClientMessage::MaskedHeader(upload.header));
        let chunk = MaskedChunk { offset: 0, bytes: upload.packed };
        say(&mut driver, &mut keeper, client, ClientMessage::MaskedChunk(chunk));
    }
    assert_eq!((driver.round().step(), keeper.count), ("confirm", 0));
    // One vector at a time, as the engine does it between messages.
    let mut calls = 1;
    while driver.work(1, 2, &mut account, &mut keeper) {
        calls += 1;
    }
    assert!(calls >= members.len(), "{calls} calls");
    assert_eq!(keeper.count, members.len() / 2, "a restart reads two vectors again, not all of them");
}

/// What an attempt at the first round of the same task reserves.
fn reservation() -> Reservation {
    let mut driver = open(Account::new(), 1.0);
    gather(&mut driver);
    driver.account.reservations().next().expect("the cohort is closed").clone()
}

#[test]
fn a_certificate_that_others_would_find_expired_is_not_admitted() {
    // Advertise and Share stay open for 10 ms each, and the round opens 20 ms before second 6.
    let opened = 5_980;
    let mut driver = open_at(Account::new(), 1.0, opened);
    let plan = driver.driver.plan().clone();
    let mut outgoing = |client, not_after| {
        let from = ClientId(client);
        driver.handle(Event::Message { from, message: advert(&plan, from, not_after) }, opened)
    };
    let refused = outgoing(1, 5);
    assert!(
        matches!(
            refused.as_slice(),
            [Outgoing::Refuse(Refusal::Protocol { error: ServerError::Certificate(_), .. })]
        ),
        "{refused:?}"
    );
    assert_eq!(outgoing(2, 6), []);
}

#[test]
fn an_attempt_that_gathers_nobody_keeps_what_an_earlier_one_reserved() {
    let mut account = Account::new();
    account.reserve(reservation(), 0).expect("the first");
    let spent = account.max_epsilon(1e-5).expect("stated");
    let mut driver = open(account, 1.0);
    driver.handle(Event::Tick, DEADLINE);
    let account = driver.account;
    let outcome = driver.driver.finish().expect("nobody came");
    assert!(
        matches!(&outcome, Outcome::Failed { failed, .. } if failed.for_lack_of_clients()),
        "{outcome:?}"
    );
    assert_eq!(account.reservations().collect::<Vec<_>>(), [&reservation()]);
    assert_eq!(account.max_epsilon(1e-5), Ok(spent));
}

#[test]
fn a_failed_attempt_gives_back_what_it_reserved_itself() {
    let mut driver = open(Account::new(), 1.0);
    gather(&mut driver);
    // Nobody shares.
    driver.handle(Event::Tick, DEADLINE + 10);
    let account = driver.account;
    let outcome = driver.driver.finish().expect("nobody shared");
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_eq!((account.max_epsilon(1e-5), account.reservations().count()), (Ok(0.0), 0));
    // The ledger says so, and why.
    assert_eq!((account.ledger().size(), account.ledger().open().count()), (2, 0));
}

#[test]
fn a_plain_sum_that_leads_nowhere_is_paid_like_a_masked_one() {
    // The first step leaves the range of numbers.
    let mut driver = open(Account::new(), 1e300);
    gather(&mut driver);
    let bits = driver.driver.plan().privacy.bits;
    let sum = RingVector::new(bits, &[1; DIMENSION]).expect("fits");
    let survivors: BTreeSet<ClientId> = (2..=CLIENTS).map(ClientId).collect();
    let Hosted { driver, mut account, .. } = driver;
    let outcome = driver.finish_with_plain_sum(&survivors, sum, 2, &mut account);
    let outcome = outcome.expect("the cohort is closed");
    let Outcome::Failed { failed, .. } = outcome else { panic!("{outcome:?}") };
    assert!(matches!(failed.reason, FailureReason::Optimizer(_)), "{}", failed.reason);
    assert_eq!(failed.debited, survivors.into_iter().collect::<Vec<_>>());
    let paid: Vec<_> = account.book().clients().collect();
    assert_eq!(paid, (2..=CLIENTS).map(|client| (client, 1)).collect::<Vec<_>>());
    assert_eq!(account.reservations().count(), 0);
}
