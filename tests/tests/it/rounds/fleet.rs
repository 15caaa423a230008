//! A fleet of clients and a coordinator that exchange bytes in virtual time. Must never hand one side the other's state.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::{ClientId, EpochTerms, IdentityKey, IdentityRoot, Rate, Roster};
use tacit_aggregation::messages::CohortList;
use tacit_aggregation::params::{Floors, RosterTerms, RoundTerms, TaskName, ThreatModel};
use tacit_client::participant::{JoinSecrets, Joined};
use tacit_client::{Budget, Limits, Member, Participant, contribute};
use tacit_coordinator::{
    Account, AdapterVersion, CentralSettings, Driver, Event, MemoryKeeper, Millis, OptimizerState, Outcome,
    Outgoing, PlanSettings, Refusal, RosterSettings, RoundSetup, RoundStart, ServerOptimizer, TaskState,
    plain_sum,
};
use tacit_privacy::{AdaptiveClip, Adjacency, NoiseKey, NoiseLaw};
use tacit_proto::{
    AdapterShape, ClientMessage, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining,
    ServerMessage, SignedPlan,
};
use tacit_simulations::load::expected::{Closed, Contribution, expected_mean};

/// When everything begins.
pub(super) const START: Millis = 1_000_000_000;

/// The settings of the fleet's rounds.
pub(super) mod terms {
    /// The delta at which epsilon is stated.
    pub(crate) const DELTA: f64 = 1e-5;
    /// Clip norm.
    pub(crate) const CLIP: f64 = 0.5;
    /// The base model's digest.
    pub(crate) const BASE_MODEL: [u8; 32] = [0xba; 32];
}

/// The first step that a client no longer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaves {
    Advert,
    Share,
    Upload,
    Confirm,
    Unmask,
}

impl Leaves {
    pub(super) const ALL: [Self; 5] = [Self::Advert, Self::Share, Self::Upload, Self::Confirm, Self::Unmask];

    /// Whether a client that leaves here still answers the message.
    pub(super) fn answers(self, message: &ServerMessage) -> bool {
        self > match message {
            ServerMessage::Cohort { .. } => Self::Share,
            ServerMessage::Shares(_) => Self::Upload,
            ServerMessage::Maps(_) => Self::Confirm,
            ServerMessage::Unmask(_) => Self::Unmask,
        }
    }
}

/// One developer's machine.
pub(super) struct Machine {
    pub(super) member: Member,
    pub(super) budget: Budget,
}

/// All of them, and the coordinator's task.
pub(super) struct Fleet {
    pub(super) machines: BTreeMap<ClientId, Machine>,
    pub(super) state: TaskState,
    pub(super) account: Account,
    pub(super) key: CoordinatorKey,
    pub(super) root: IdentityRoot,
    pub(super) settings: PlanSettings,
    seed: u64,
    /// What the cohorts are drawn from, where they are.
    pub(super) roster: Option<RosterTerms>,
}

/// A finished round and what was seen of it.
pub(super) struct Run {
    pub(super) outcome: Outcome,
    pub(super) account: Account,
    /// Whether the cost was set aside whenever something went out, and how often the round ended.
    pub(super) reserved: bool,
    pub(super) ends: usize,
    pub(super) refusals: Vec<Refusal>,
    pub(super) uploaders: BTreeSet<ClientId>,
    pub(super) most_chunks: usize,
    pub(super) closed: Option<Closed>,
}

pub(super) fn rng(seed: u64, client: ClientId, round: u64, purpose: u8) -> ChaCha20Rng {
    let mut bytes = [purpose; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&client.0.to_be_bytes());
    bytes[16..24].copy_from_slice(&round.to_be_bytes());
    ChaCha20Rng::from_seed(bytes)
}

pub(super) fn limits(epsilon: f64, floors: Floors) -> Limits {
    Limits {
        epsilon,
        delta: terms::DELTA,
        floors,
        adjacency: Adjacency::ZeroOut,
        allow_central: false,
        period: None,
        per_task: None,
    }
}

/// Everything that a client hears and says goes through its wire form.
fn through_wire<M: tacit_proto::Wire + PartialEq + std::fmt::Debug>(message: &M) -> M {
    let received = M::from_wire(&message.to_wire()).expect("its own form");
    assert_eq!(&received, message);
    received
}

impl Fleet {
    pub(super) fn new(clients: u32, seed: u64) -> Self {
        Self::with_dimension(clients, seed, 300)
    }

    pub(super) fn with_dimension(clients: u32, seed: u64, dimension: usize) -> Self {
        let mut draw = ChaCha20Rng::seed_from_u64(seed);
        let root = IdentityRoot::generate(&mut draw);
        let key = CoordinatorKey::generate(&mut draw);
        let floors = Floors { n_min: 3, corrupt_bp: 0, threat: ThreatModel::SemiMalicious, roster: false };
        let machines = (0..clients).map(|_| {
            let (client, identity) = (ClientId::random(&mut draw), IdentityKey::generate(&mut draw));
            let certificate = root.certify(client, identity.public_key(), START / 1000 + 3600);
            let member = Member {
                membership: None,
                root: root.public_key(),
                coordinator: key.public_key(),
                identity: Arc::new(identity),
                certificate,
                base_model: terms::BASE_MODEL,
            };
            let limits = limits(50.0, floors);
            (client, Machine { member, budget: Budget::new(client, limits).expect("limits") })
        });
        let machines = machines.collect();
        let settings = PlanSettings {
            task: TaskName::new("rust-completion").expect("a plain name"),
            base_model: terms::BASE_MODEL,
            adapter: AdapterShape { rank: 4, alpha: 8.0, targets: vec!["q_proj".into()], seed: 1 },
            training: LocalTraining {
                rule: LocalRule::Adam { beta1: 0.9, beta2: 0.99 },
                learning_rate: 0.01,
                steps: 8,
                batch: 4,
                sequence: 128,
            },
            cohort: CohortTerms {
                min: clients - clients / 4,
                max: clients,
                n_min: 3,
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: if clients > 20 { 500 } else { 0 },
                dropout_bp: 2_500,
                correctness_bits: 40,
            },
            clip: terms::CLIP,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
            delta: terms::DELTA,
            deadlines: Deadlines {
                advertise: 60_000,
                share: 5_000,
                collect: 20_000,
                confirm: 5_000,
                unmask: 5_000,
            },
            roster: None,
            central: None,
        };
        let initial = (0..dimension).map(|index| index as f32 * 1e-4).collect();
        let adapter = AdapterVersion::new(initial, terms::BASE_MODEL).expect("finite");
        let optimizer = OptimizerState::new(ServerOptimizer::FedAvg { learning_rate: 1.0 }, dimension);
        let state = TaskState { adapter, optimizer: optimizer.expect("settings") };
        Self { machines, state, account: Account::new(), key, root, settings, seed, roster: None }
    }

    /// The same fleet, whose clients allow the coordinator to add the noise.
    pub(super) fn with_central_noise(mut self, adaptive_clip: Option<AdaptiveClip>) -> Self {
        self.settings.central = Some(CentralSettings { adaptive_clip });
        for (&client, machine) in &mut self.machines {
            let limits = Limits { allow_central: true, ..*machine.budget.limits() };
            machine.budget = Budget::new(client, limits).expect("limits");
        }
        self
    }

    /// The same fleet, whose cohorts are drawn from a roster at this rate; the period is that of the tests' time.
    pub(super) fn with_roster(mut self, colluders: u32, rate: Rate) -> Self {
        let roster = Roster::new(self.clients());
        let epoch = EpochTerms {
            number: 3,
            not_before: START / 1000 - 10_000,
            not_after: START / 1000 + 10_000,
            period_seconds: NonZeroU64::new(4_000).expect("not zero"),
            rate,
            seed: [self.seed as u8; 32],
        };
        let period = epoch.period_at(START / 1000);
        let signed = self.root.sign_roster(&roster, epoch);
        for (&client, machine) in &mut self.machines {
            machine.member.membership = roster.prove(client);
        }
        self.settings.roster = Some(RosterSettings { colluders });
        self.settings.cohort.corrupt_bp = 0;
        self.roster = Some(RosterTerms::new(signed, period, colluders).expect("feasible"));
        self
    }

    /// The key of the coordinator's noise, where it adds the noise.
    pub(super) fn noise_key(&self, round: u64) -> Option<NoiseKey> {
        let mut draw = rng(self.seed, ClientId(0), round, 4);
        self.settings.central.map(|_| NoiseKey::generate(&mut draw))
    }

    pub(super) fn clients(&self) -> Vec<ClientId> {
        self.machines.keys().copied().collect()
    }

    pub(super) fn spent(&self, client: ClientId) -> f64 {
        self.machines[&client].budget.spent().expect("stated")
    }

    pub(super) fn plan(&self, round: u64) -> SignedPlan {
        let plan = {
            let (adapter, account) = (&self.state.adapter, &self.account);
            let noise = self.noise_key(round);
            let (noise, roster) = (noise.as_ref(), self.roster.clone());
            let start = RoundStart { noise, roster, ..RoundStart::new(round, adapter, account) };
            self.settings.plan(start, &self.key)
        };
        through_wire(&plan.expect("feasible"))
    }

    pub(super) fn plan_terms(&self) -> RoundTerms {
        self.plan(1).verify(&self.key.public_key()).expect("its own plan").terms()
    }

    /// The client's update of a round: some above the clip norm, some below.
    pub(super) fn delta(&self, round: u64, client: ClientId) -> Vec<f32> {
        use rand_chacha::rand_core::Rng as _;
        let dimension = self.state.adapter.values().len();
        let mut draw = rng(self.seed, client, round, 3);
        let norm = terms::CLIP * (0.5 + f64::from(draw.next_u32() % 100) / 200.0);
        let raw: Vec<f64> = (0..dimension).map(|_| f64::from(draw.next_u32()) - 2_147_483_648.0).collect();
        let length = raw.iter().map(|value| value * value).sum::<f64>().sqrt();
        raw.iter().map(|value| (value / length * norm) as f32).collect()
    }

    pub(super) fn open(&self, round: u64) -> (SignedPlan, Hosted) {
        let plan = self.plan(round);
        let setup = RoundSetup {
            plan: plan.clone(),
            coordinator: self.key.public_key(),
            root: self.root.public_key(),
            invited: self.machines.keys().copied().collect(),
            noise: self.noise_key(round),
        };
        let driver = Driver::open(setup, self.state.clone(), &self.account, START);
        (plan, Hosted::new(driver.expect("plan and task belong together"), self.account.clone()))
    }

    pub(super) fn join(&self, plan: &SignedPlan, round: u64, client: ClientId) -> Joined {
        let machine = &self.machines[&client];
        let delta = self.delta(round, client);
        let mut secrets = rng(self.seed, client, round, 1);
        let parent = *self.state.adapter.digest();
        Joined::new(plan, &machine.member, parent, delta, &machine.budget, START, &mut secrets)
            .expect("an honest plan")
    }

    fn context(&self, plan: &SignedPlan, list: &CohortList) -> Context {
        let plan = plan.verify(&self.key.public_key()).expect("its own plan");
        Context::new(&plan.terms(), &list.params, &list.root())
    }

    /// Goes on to the next round from where one ended.
    pub(super) fn go_on(&mut self, run: Run) {
        (self.state, self.account) = (run.outcome.into_state(), run.account);
    }

    /// A whole round, to its outcome.
    pub(super) fn run(&mut self, round: u64, drops: &BTreeMap<ClientId, Leaves>) -> Run {
        let (plan, mut driver) = self.open(round);
        let mut participants = BTreeMap::new();
        let mut inbox: VecDeque<(ClientId, ClientMessage)> = VecDeque::new();
        for client in self.clients() {
            if drops.get(&client) != Some(&Leaves::Advert) {
                let joined = self.join(&plan, round, client);
                inbox.push_back((client, joined.advert()));
                participants.insert(client, Participant::Joined(joined));
            }
        }
        let mut now = START;
        let mut run = Seen::default();
        while let Some(deadline) = driver.deadline() {
            let outgoing = match inbox.pop_front() {
                Some((from, message)) => {
                    now += 1;
                    run.note(from, &message);
                    driver.handle(Event::Message { from, message: through_wire(&message) }, now)
                }
                None => {
                    now = deadline;
                    driver.handle(Event::Tick, now)
                }
            };
            if let Some(cohort) = driver.round().cohort() {
                let context = self.context(&plan, &cohort.list);
                let (mechanism, rotation) = (cohort.mechanism.clone(), cohort.rotation);
                run.closed = Some(Closed { mechanism, rotation, context });
            }
            for out in outgoing {
                let (to, message) = match out {
                    Out::Send { to, message } => {
                        run.unreserved |= driver.account.reservations().count() != 1;
                        (to, through_wire(&message))
                    }
                    Out::Refuse(refusal) => {
                        run.refusals.push(refusal);
                        continue;
                    }
                    Out::End => {
                        run.ends += 1;
                        continue;
                    }
                };
                if drops.get(&to).is_some_and(|leaves| !leaves.answers(&message)) {
                    continue;
                }
                let participant = participants.remove(&to).expect("only members hear of the round");
                let budget = &mut self.machines.get_mut(&to).expect("a member").budget;
                let (next, answers) =
                    participant.answer(&message, budget, now).expect("an honest coordinator");
                participants.insert(to, next);
                inbox.extend(answers.into_iter().map(|answer| (to, answer)));
            }
        }
        let (outcome, account) = driver.finish();
        Run {
            refusals: run.refusals,
            reserved: !run.unreserved,
            ends: run.ends,
            outcome,
            account,
            most_chunks: run.chunks.values().copied().max().unwrap_or(0),
            uploaders: run.chunks.into_keys().collect(),
            closed: run.closed,
        }
    }

    /// The same round without masks, over the given survivors.
    pub(super) fn run_plain(&mut self, round: u64, survivors: &BTreeSet<ClientId>) -> Run {
        let (plan, mut driver) = self.open(round);
        let joined: BTreeMap<ClientId, Joined> =
            self.clients().into_iter().map(|client| (client, self.join(&plan, round, client))).collect();
        for (&from, joined) in &joined {
            driver.handle(Event::Message { from, message: joined.advert() }, START + 1);
        }
        let cohort = driver.round().cohort().expect("everyone advertised");
        let (mechanism, rotation) = (cohort.mechanism.clone(), cohort.rotation);
        let context = self.context(&plan, &cohort.list);
        let vectors: Vec<_> = joined
            .into_iter()
            .filter(|(client, _)| survivors.contains(client))
            .map(|(client, joined)| {
                assert_eq!(joined.client(), client);
                let mut unmasked = joined.into_unmasked(&context);
                contribute(unmasked.clipped, &mechanism, &rotation, &mut unmasked.noise)
                    .expect("clipped for this plan")
            })
            .collect();
        let sum = plain_sum(&vectors, mechanism.bits() as u8, mechanism.ring_dimension()).expect("one shape");
        let Hosted { driver, mut account, .. } = driver;
        let outcome = driver.finish_with_plain_sum(survivors, sum, START + 1, &mut account);
        Run {
            outcome: outcome.expect("the cohort is closed"),
            account,
            refusals: Vec::new(),
            reserved: true,
            ends: 1,
            uploaders: BTreeSet::new(),
            most_chunks: 0,
            closed: Some(Closed { mechanism, rotation, context }),
        }
    }

    /// The mean that the survivors' contributions have, from their updates and noise keys alone.
    pub(super) fn expected_mean(&self, round: u64, run: &Run, survivors: &[ClientId]) -> Vec<f32> {
        let closed = run.closed.as_ref().expect("a cohort was closed");
        let mean = expected_mean(closed, survivors, self.noise_key(round).as_ref(), |client| {
            let delta = self.delta(round, client);
            let mut draw = rng(self.seed, client, round, 1);
            let secrets = JoinSecrets::generate([0; 32], &[0; 32], &delta, &mut draw);
            Contribution { delta, noise: secrets.noise(&closed.context) }
        });
        mean.expect("clipped for this plan, and in the ring")
    }
}

/// A driver with what its caller lends it, and what it gives out in the order of its going out.
pub(super) struct Hosted {
    pub(super) driver: Driver,
    pub(super) account: Account,
    keeper: MemoryKeeper,
}

/// What a round gives out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Out {
    Send { to: ClientId, message: ServerMessage },
    Refuse(Refusal),
    End,
}

impl Hosted {
    fn new(driver: Driver, account: Account) -> Self {
        Self { driver, account, keeper: MemoryKeeper::default() }
    }

    pub(super) fn handle(&mut self, event: Event, now: u64) -> Vec<Out> {
        let outgoing = self.driver.handle(event, now, &mut self.account, &mut self.keeper);
        let mut out = Vec::new();
        for item in outgoing {
            match item {
                Outgoing::Open(_) => {
                    let messages = self.driver.round().messages();
                    out.extend(messages.map(|(to, message)| Out::Send { to, message }));
                }
                Outgoing::Refuse(refusal) => out.push(Out::Refuse(refusal)),
                Outgoing::End => out.push(Out::End),
            }
        }
        out
    }

    pub(super) fn finish(self) -> (Outcome, Account) {
        (self.driver.finish().expect("ended"), self.account)
    }
}

impl std::ops::Deref for Hosted {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

/// What is noted while a round runs.
#[derive(Default)]
struct Seen {
    unreserved: bool,
    ends: usize,
    refusals: Vec<Refusal>,
    chunks: BTreeMap<ClientId, usize>,
    pub(super) closed: Option<Closed>,
}

impl Seen {
    fn note(&mut self, from: ClientId, message: &ClientMessage) {
        if let ClientMessage::MaskedChunk(_) = message {
            *self.chunks.entry(from).or_default() += 1;
        }
    }
}
