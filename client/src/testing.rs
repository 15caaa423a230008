//! A coordinator and a cohort in one process, for this crate's tests. Must never be part of the program.

use crate::budget::{Budget, Limits};
use crate::participant::{Joined, Member, Participant};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use tacit_aggregation::identity::{ClientId, EpochTerms, IdentityKey, IdentityRoot, PublicKey, Rate, Roster};
use tacit_aggregation::messages::MaskedHeader;
use tacit_aggregation::params::{Floors, RosterTerms, TaskName, ThreatModel};
use tacit_aggregation::server::{Advertise, Collect, Confirm, Share, Summation, Unmask, VectorSummary};
use tacit_privacy::ledger::head::Head;
use tacit_privacy::ledger::restart::{Restart, SignedRestart};
use tacit_privacy::ledger::{
    self, Debit, Entry, Event, Ledger, Reason, Release, Reserve, Task, members_root,
};
use tacit_privacy::{
    Adjacency, BasisPoints, Mechanism, MechanismRequest, NoiseLaw, RoundMechanism, epsilon_spent,
};
use tacit_proto::fleet::RoundName;
use tacit_proto::ledger::{LedgerProof, ProvedEntry, ProvedRestart, RoundEntries};
use tacit_proto::{
    AdapterShape, ClientMessage, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining,
    PrivacyTerms, RoundPlan, ServerMessage, SignedPlan, Trust,
};

/// When everything happens, in Unix milliseconds.
pub(crate) const NOW: u64 = 1_700_000_000_000;
/// Last second at which certificates are valid: of the year 2999.
pub(crate) const NOT_AFTER: u64 = 32_503_679_999;
/// Coordinates of an update.
pub(crate) const DIMENSION: usize = 64;
/// The base model's digest.
pub(crate) const BASE_MODEL: [u8; 32] = [0xba; 32];
/// The version that updates are trained on.
pub(crate) const PARENT: [u8; 32] = [1; 32];
/// Clients in a cohort.
const CLIENTS: u32 = 5;

/// A root, a coordinator and five clients.
pub(crate) struct World {
    pub(crate) root: IdentityRoot,
    pub(crate) key: CoordinatorKey,
    pub(crate) members: Vec<Member>,
}

pub(crate) fn task() -> TaskName {
    TaskName::new("rust-completion").expect("a plain name")
}

pub(crate) fn limits(epsilon: f64) -> Limits {
    Limits {
        epsilon,
        delta: 1e-5,
        floors: Floors { n_min: 3, corrupt_bp: 0, threat: ThreatModel::SemiMalicious, roster: false },
        adjacency: Adjacency::ZeroOut,
        allow_central: false,
        period: None,
        per_task: None,
    }
}

pub(crate) fn delta(client: usize) -> Vec<f32> {
    (0..DIMENSION).map(|place| ((place * 7 + client * 3) % 11) as f32 / 100.0).collect()
}

impl World {
    pub(crate) fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let root = IdentityRoot::generate(&mut rng);
        let key = CoordinatorKey::generate(&mut rng);
        let members = (0..CLIENTS).map(|number| {
            let identity = Arc::new(IdentityKey::generate(&mut rng));
            let client = ClientId(u64::from(number) * 10 + 7);
            let certificate = root.certify(client, identity.public_key(), NOT_AFTER);
            let (root, coordinator) = (root.public_key(), key.public_key());
            Member { root, coordinator, identity, certificate, base_model: BASE_MODEL, membership: None }
        });
        let members = members.collect();
        Self { root, key, members }
    }

    /// The public keys of identity root and coordinator.
    pub(crate) fn keys(&self) -> (PublicKey, PublicKey) {
        (self.root.public_key(), self.key.public_key())
    }

    /// Puts all members on the roster of an epoch whose one period lasts for all time, and draws all of them, but for the first where that is
    /// wanted. Of the colluders none is assumed.
    pub(crate) fn draw(&mut self, number: u64, first: bool) -> RosterTerms {
        let roster = Roster::new(self.members.iter().map(|member| member.certificate.client).collect());
        let epoch = |seed: u64| EpochTerms {
            number,
            not_before: 0,
            not_after: NOT_AFTER,
            period_seconds: NonZeroU64::MAX,
            rate: Rate::new(1, 2).expect("a rate"),
            seed: std::array::from_fn(|place| seed.to_be_bytes()[place % 8]),
        };
        let signed = (0..).map(|seed| self.root.sign_roster(&roster, epoch(seed))).find(|signed| {
            let draws = |member: &Member| signed.draws(0, member.certificate.client);
            draws(&self.members[0]) == first && self.members[1..].iter().all(draws)
        });
        for member in &mut self.members {
            member.membership = roster.prove(member.certificate.client);
        }
        RosterTerms::new(signed.expect("one in 32"), 0, 0).expect("feasible")
    }

    pub(crate) fn plan(&self, round: u64) -> SignedPlan {
        self.plan_under(round, None)
    }

    pub(crate) fn plan_under(&self, round: u64, roster: Option<RosterTerms>) -> SignedPlan {
        let mechanism = mechanism();
        let plan = RoundPlan {
            task: task(),
            round,
            parents: vec![PARENT],
            ledger_head: [3; 32],
            base_model: BASE_MODEL,
            adapter: AdapterShape { rank: 4, alpha: 8.0, targets: vec!["q_proj".into()], seed: 1 },
            training: LocalTraining {
                rule: LocalRule::Sgd { momentum: 0.0 },
                learning_rate: 0.1,
                steps: 1,
                batch: 1,
                sequence: 16,
            },
            cohort: CohortTerms {
                min: CLIENTS,
                max: CLIENTS,
                n_min: 4,
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: 0,
                dropout_bp: 2_000,
                correctness_bits: 40,
            },
            privacy: PrivacyTerms {
                dimension: DIMENSION as u32,
                clip: 0.5,
                noise_multiplier: 2.0,
                adjacency: Adjacency::ZeroOut,
                scale: 0.9 * mechanism.scale(),
                bits: mechanism.bits() as u8,
                delta: 1e-5,
                epsilon: 3.0,
                noise_law: NoiseLaw::DiscreteGaussian,
                trust: Trust::Distributed,
            },
            deadlines: Deadlines { advertise: 1000, share: 1000, collect: 1000, confirm: 1000, unmask: 1000 },
            coordinator: self.key.public_key(),
            roster,
        };
        self.key.sign(plan).expect("a good plan")
    }

    /// The other clients, joined.
    pub(crate) fn others(&self, plan: &SignedPlan) -> BTreeMap<ClientId, Other> {
        let join = |(place, member): (usize, &Member)| {
            let client = member.certificate.client;
            let budget = Budget::new(client, limits(50.0)).expect("limits");
            let mut rng = ChaCha20Rng::seed_from_u64(100 + place as u64);
            let joined =
                Joined::new(plan, member, PARENT, delta(place), &budget, NOW, &mut rng).expect("joins");
            (
                client,
                Other { advert: joined.advert(), participant: Some(Participant::Joined(joined)), budget },
            )
        };
        self.members.iter().enumerate().skip(1).map(join).collect()
    }
}

fn mechanism() -> Mechanism {
    let request = MechanismRequest {
        clients: CLIENTS,
        n_min: 4,
        corrupt: BasisPoints::ZERO,
        dropout: BasisPoints::new(2_000).expect("a fraction"),
        dimension: DIMENSION,
        clip: 0.5,
        noise_multiplier: 2.0,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
    };
    Mechanism::build(&request).expect("feasible")
}

/// A coordinator's ledger, with what a client is shown of it.
#[derive(Clone)]
pub(crate) struct Book {
    key: Arc<CoordinatorKey>,
    ledger: Ledger,
    entries: Vec<Entry>,
    participants: BTreeMap<u64, Vec<ClientId>>,
}

/// How a round ends in the ledger.
pub(crate) enum Ends<'a> {
    /// Committed, with these survivors.
    Commit(&'a [u64]),
    /// Forfeited, with these survivors.
    Forfeit(&'a [u64]),
    /// Released.
    Release,
}

impl Book {
    pub(crate) fn new(key: &CoordinatorKey) -> Self {
        let key = Arc::new(CoordinatorKey::from_bytes(&key.to_bytes()));
        Self { key, ledger: Ledger::new(), entries: Vec::new(), participants: BTreeMap::new() }
    }

    fn append(&mut self, round: u64, event: Event) {
        let task = Task::new(task().as_str()).expect("a plain name");
        let entry = self.ledger.append(NOW, task, round, event).expect("one that verifies");
        self.entries.push(entry);
    }

    pub(crate) fn reserve(&mut self, round: u64, plan_digest: [u8; 32]) {
        let mechanism = RoundMechanism::from(mechanism());
        self.append(
            round,
            Event::Reserve(Reserve { plan_digest, cohort_root: [9; 32], mechanism, delta: 1e-5 }),
        );
    }

    pub(crate) fn end(&mut self, round: u64, ends: Ends<'_>) {
        let open =
            self.ledger.open_round(&Task::new(task().as_str()).expect("plain"), round).expect("open").clone();
        let debit = |survivors: &[u64]| {
            let cost = open.reserve.mechanism.cost(survivors.len() as u32).expect("released");
            Debit {
                reservation: open.index,
                plan_digest: open.reserve.plan_digest,
                mechanism: open.reserve.mechanism.clone(),
                survivors: survivors.len() as u32,
                participants_root: members_root(survivors.iter().copied()),
                epsilon: epsilon_spent(&cost, 1e-5, 1).expect("stated"),
                delta: 1e-5,
            }
        };
        if let Ends::Commit(survivors) | Ends::Forfeit(survivors) = ends {
            self.participants.insert(round, survivors.iter().copied().map(ClientId).collect());
        }
        let event = match ends {
            Ends::Commit(survivors) => Event::Commit(ledger::Commit {
                debit: debit(survivors),
                clip_bits: None,
                adapter_digest: [3; 32],
            }),
            Ends::Forfeit(survivors) => Event::Forfeit(debit(survivors)),
            Ends::Release => Event::Release(Release {
                reservation: open.index,
                reason: Reason::new("too few shared").expect("plain"),
            }),
        };
        self.append(round, event);
    }

    /// Where the ledger would go on from.
    pub(crate) fn restart_from(&self, number: u32) -> Restart {
        let (size, root) = (self.ledger.size(), self.ledger.tree().root());
        Restart { coordinator: self.key.public_key().0, number, size, root }
    }

    /// Goes on from where it is, if the ledger takes what `root` signs.
    pub(crate) fn restart(&mut self, restart: Restart, root: &IdentityRoot) {
        let signed = restart.signed(root.sign(&restart.payload()).0);
        self.entries.push(self.ledger.append_restart(NOW, signed).expect("of this ledger"));
    }

    /// What a client is shown that saw `since` entries and asks about rounds.
    pub(crate) fn prove(&self, since: u64, rounds: &[u64]) -> LedgerProof {
        self.prove_after(since, rounds, u32::MAX)
    }

    /// The same for a client that adopted a restart.
    pub(crate) fn prove_after(&self, since: u64, rounds: &[u64], restart: u32) -> LedgerProof {
        let tree = self.ledger.tree();
        let head = self.key.sign_head(Head { size: tree.size(), root: tree.root(), time: NOW });
        let entries = |round: u64| {
            let of_round = self
                .entries
                .iter()
                .enumerate()
                .filter(move |(_, entry)| entry.round == round && entry.task.as_str() == task().as_str());
            of_round.map(|(index, _)| self.proved(index as u64)).collect::<Vec<_>>()
        };
        let restarts = self.ledger.restarts().iter().map(SignedRestart::claimed);
        let next = restarts.filter(|known| known.number > restart).take(1).map(|known| ProvedRestart {
            entry: self.proved(known.size),
            consistency: tree.consistency(known.size, tree.size()).expect("inside"),
        });
        let restart = next.last().map(Box::new);
        let rounds = rounds.iter().map(|&round| RoundEntries {
            round: RoundName { task: task(), round },
            entries: entries(round),
            participants: self.participants.get(&round).cloned().unwrap_or_default(),
        });
        let rounds = rounds.filter(|shown| !shown.entries.is_empty()).collect();
        let consistency = tree.consistency(since, tree.size()).unwrap_or_default();
        LedgerProof { head, consistency, rounds, restart }
    }

    fn proved(&self, index: u64) -> ProvedEntry {
        let tree = self.ledger.tree();
        let inclusion = tree.inclusion(index, tree.size()).expect("inside");
        ProvedEntry { index, entry: self.entries[index as usize].encode(), inclusion }
    }
}

/// A client that is no test's subject.
pub(crate) struct Other {
    advert: ClientMessage,
    participant: Option<Participant>,
    budget: Budget,
}

impl Other {
    fn answer(&mut self, message: &ServerMessage) -> Vec<ClientMessage> {
        let participant = self.participant.take().expect("still there");
        let (next, answers) =
            participant.answer(message, &mut self.budget, NOW).expect("an honest coordinator");
        self.participant = Some(next);
        answers
    }
}

/// One step after the other, for one subject and the others. Each closes when the subject has answered.
pub(crate) struct Coordinator {
    subject: ClientId,
    others: BTreeMap<ClientId, Other>,
    phase: Phase,
}

enum Phase {
    Advertise(Advertise),
    Share(Share),
    Collect(Collect, BTreeMap<ClientId, (MaskedHeader, Vec<u8>)>),
    Confirm(Confirm),
    Unmask(Unmask),
    Over,
}

impl Coordinator {
    pub(crate) fn open(world: &World, plan: &SignedPlan) -> Self {
        let checked = plan.verify(&world.key.public_key()).expect("its own plan");
        let phase = Advertise::new(Arc::new(checked.terms()), world.root.public_key()).expect("good terms");
        let (subject, others) = (world.members[0].certificate.client, world.others(plan));
        Self { subject, others, phase: Phase::Advertise(phase) }
    }

    /// Takes the subject's messages of a step, and everybody else's, and gives the message that begins the next step; none
    /// when the round is over.
    pub(crate) fn take(&mut self, messages: &[ClientMessage]) -> Option<ServerMessage> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Advertise(mut phase) => {
                let others = self.others.values().map(|other| &other.advert);
                for message in others.chain(messages) {
                    let ClientMessage::Advert(advert) = message else { panic!("{message:?}") };
                    phase.accept(Arc::clone(advert), NOW / 1000).expect("good");
                }
                self.phase = Phase::Share(phase.close().expect("a cohort"));
            }
            Phase::Share(mut phase) => {
                for message in self.everybody(messages, |client| cohort_for(&phase, client)) {
                    let ClientMessage::Share(share) = message else { panic!("{message:?}") };
                    phase.accept(share).expect("good");
                }
                self.phase = Phase::Collect(phase.close().expect("enough"), BTreeMap::new());
            }
            Phase::Collect(mut phase, mut vectors) => {
                let mut header = None;
                let shares = |client| ServerMessage::Shares(phase.deliveries(client).expect("a member"));
                for message in self.everybody(messages, shares) {
                    match message {
                        ClientMessage::MaskedHeader(next) => header = Some(next),
                        ClientMessage::MaskedChunk(chunk) => {
                            let header: MaskedHeader = header.clone().expect("first");
                            let (_, packed) = vectors.entry(header.client).or_insert((header, Vec::new()));
                            assert_eq!(chunk.offset, packed.len() as u64);
                            packed.extend(chunk.bytes);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                for (header, packed) in vectors.values() {
                    phase.accept(header, &VectorSummary::of(packed)).expect("good");
                }
                let (phase, sum) = phase.close().expect("enough");
                let _: Summation = sum;
                self.phase = Phase::Confirm(phase);
            }
            Phase::Confirm(mut phase) => {
                for message in self.everybody(messages, |_| ServerMessage::Maps(phase.maps().clone())) {
                    let ClientMessage::Confirm(confirm) = message else { panic!("{message:?}") };
                    phase.accept(&confirm).expect("good");
                }
                self.phase = Phase::Unmask(phase.close().expect("a quorum"));
            }
            Phase::Unmask(mut phase) => {
                let [ClientMessage::Unmask(shares)] = messages else { panic!("{messages:?}") };
                phase.accept(shares).expect("good");
            }
            Phase::Over => panic!("the round is over"),
        }
        self.message()
    }

    /// The message to the subject that begins the step at hand.
    fn message(&self) -> Option<ServerMessage> {
        Some(match &self.phase {
            Phase::Advertise(_) | Phase::Over => return None,
            Phase::Share(phase) => cohort_for(phase, self.subject),
            Phase::Collect(phase, _) => {
                ServerMessage::Shares(phase.deliveries(self.subject).expect("a member"))
            }
            Phase::Confirm(phase) => ServerMessage::Maps(phase.maps().clone()),
            Phase::Unmask(phase) => {
                ServerMessage::Unmask(phase.request_for(self.subject).expect("a survivor"))
            }
        })
    }

    /// What everybody answers: the subject what is given, the others what they answer to the message for them.
    fn everybody(
        &mut self,
        subject: &[ClientMessage],
        message: impl Fn(ClientId) -> ServerMessage,
    ) -> Vec<ClientMessage> {
        let mut answers = subject.to_vec();
        self.others.iter_mut().for_each(|(client, other)| answers.extend(other.answer(&message(*client))));
        answers
    }
}

fn cohort_for(phase: &Share, client: ClientId) -> ServerMessage {
    let adverts = phase.adverts_for(client).expect("a member");
    ServerMessage::Cohort { list: Arc::clone(phase.list()), adverts }
}
