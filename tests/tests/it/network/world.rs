//! A coordinator on a disk and five machines, any of which may die at any moment, and what must hold whoever dies. Must never
//! judge a round by what a process remembers: only by what is stored, and by what was said.

use super::brittle::Death;
use super::life::{Life, Site, quick_folder};
use super::machine::{Did, Machine, Seen, Silence, draw, round_folder};
use super::sum::{Contribution, mean_of, moved};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tacit_aggregation::Step;
use tacit_aggregation::identity::{Certificate, ClientId, IdentityKey, IdentityRoot};
use tacit_aggregation::messages::{ShareKind, UnmaskShares};
use tacit_aggregation::params::{Floors, TaskName, ThreatModel};
use tacit_client::ledger::{LedgerError, Verdict};
use tacit_client::participant::JoinSecrets;
use tacit_client::{Limits, Member};
use tacit_coordinator::account::{Account, Entries};
use tacit_coordinator::engine::tables::{End, Journal, Rounds, Stage, States};
use tacit_coordinator::engine::{EngineError, Stopped};
use tacit_coordinator::identity::Roll;
use tacit_coordinator::roster::Listed;
use tacit_coordinator::store::Records;
use tacit_coordinator::task::{PublicationSettings, Schedule, TaskSettings};
use tacit_coordinator::{AdapterVersion, PlanSettings, ServerOptimizer};
use tacit_privacy::ledger::{self, Entry};
use tacit_privacy::{Adjacency, NoiseLaw};
use tacit_proto::adapter::{AdapterLayout, TrainedTensor};
use tacit_proto::fleet::RoundName;
use tacit_proto::{
    AdapterShape, ClientMessage, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining, Wire as _,
};

/// Machines; a cohort is all of them.
pub(super) const CLIENTS: usize = 5;
/// Passes over all machines within which a round has to end.
const MOST_PASSES: usize = 2_000;
/// When everything begins, in milliseconds.
const START: u64 = 1_700_000_000_000;
const DELTA: f64 = 1e-5;
pub(super) const BASE_MODEL: [u8; 32] = [0xba; 32];

/// When the next life is to end.
type Deaths = Box<dyn FnMut() -> Option<Death>>;

pub(super) struct World {
    pub(super) site: Site,
    pub(super) machines: Vec<Machine>,
    /// Times that the coordinator or a machine was killed.
    pub(super) kills: u64,
    pub(super) deaths: Deaths,
    pub(super) draw: ChaCha20Rng,
    life: Option<Life>,
    /// The adapter that follows from all rounds so far, computed from the updates alone.
    adapter: AdapterVersion,
    /// Rounds for which each client has paid.
    paid: BTreeMap<ClientId, BTreeSet<u64>>,
    _folder: tempfile::TempDir,
}

/// A coordinator's store, and what is to be expected of it.
pub(super) struct Backup {
    store: tempfile::TempDir,
    adapter: AdapterVersion,
    paid: BTreeMap<ClientId, BTreeSet<u64>>,
}

/// Copies a folder with everything in it.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

pub(super) fn task() -> TaskName {
    TaskName::new("rust-completion").expect("a plain name")
}

pub(super) fn name(round: u64) -> RoundName {
    RoundName { task: task(), round }
}

pub(super) fn limits() -> Limits {
    Limits {
        epsilon: 1e6,
        delta: DELTA,
        floors: Floors { n_min: 3, corrupt_bp: 0, threat: ThreatModel::SemiMalicious, roster: false },
        adjacency: Adjacency::ZeroOut,
        allow_central: false,
        period: None,
        per_task: None,
    }
}

pub(super) fn settings() -> TaskSettings {
    let shape = AdapterShape { rank: 4, alpha: 8.0, targets: vec!["q_proj".into()], seed: 1 };
    let clients = CLIENTS as u32;
    TaskSettings {
        layout: AdapterLayout {
            base: "tacit-base".into(),
            base_model: BASE_MODEL,
            adapter: shape.clone(),
            tensors: vec![TrainedTensor { name: "layers.0.b".into(), shape: [4, 5] }],
        },
        plan: PlanSettings {
            task: task(),
            base_model: BASE_MODEL,
            adapter: shape,
            training: LocalTraining {
                rule: LocalRule::Sgd { momentum: 0.0 },
                learning_rate: 0.1,
                steps: 1,
                batch: 1,
                sequence: 16,
            },
            cohort: CohortTerms {
                min: clients,
                max: clients,
                n_min: clients - 1,
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: 0,
                dropout_bp: 2_000,
                correctness_bits: 40,
            },
            clip: 0.5,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
            delta: DELTA,
            deadlines: Deadlines {
                advertise: 60_000,
                share: 60_000,
                collect: 60_000,
                confirm: 60_000,
                unmask: 60_000,
            },
            roster: None,
            central: None,
        },
        optimizer: ServerOptimizer::FedAvg { learning_rate: 1.0 },
        eligibility: tacit_coordinator::task::Eligibility::default(),
        schedule: Schedule { patience: 1_000, ready_for: 600_000, ..Schedule::default() },
        publication: PublicationSettings { keep: 3, ..PublicationSettings::default() },
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(seed, settings())
    }

    /// Everything anew, with a task of these settings.
    pub(super) fn of(seed: u64, settings: TaskSettings) -> Self {
        let mut draw = ChaCha20Rng::seed_from_u64(seed);
        let root = IdentityRoot::generate(&mut draw);
        let folder = quick_folder();
        let site = Site {
            folder: folder.path().join("coordinator"),
            key: Arc::new(CoordinatorKey::generate(&mut draw)),
            root: root.public_key(),
            clock: Arc::new(AtomicU64::new(START)),
        };
        let members = (0..CLIENTS).map(|_| {
            let (client, identity) = (ClientId::random(&mut draw), IdentityKey::generate(&mut draw));
            let certificate = root.certify(client, identity.public_key(), START / 1000 + 1_000_000_000);
            (identity, certificate)
        });
        let members = members.collect();
        Self::with(seed, folder, site, members, settings, None)
    }

    /// A coordinator with one task in a folder, and the members' machines beside it.
    pub(super) fn with(
        seed: u64,
        folder: tempfile::TempDir,
        site: Site,
        members: Vec<(IdentityKey, Certificate)>,
        settings: TaskSettings,
        roll: Option<Roll>,
    ) -> Self {
        let machine = |(number, (identity, certificate)): (usize, (IdentityKey, Certificate))| {
            let member = Member {
                membership: None,
                root: site.root,
                coordinator: site.key.public_key(),
                identity: Arc::new(identity),
                certificate,
                base_model: BASE_MODEL,
            };
            let place = folder.path().join(format!("machine-{number}"));
            Machine::new(member, seed * 100 + number as u64, limits(), &place)
        };
        let machines = members.into_iter().enumerate().map(machine).collect();
        std::fs::create_dir_all(&site.folder).expect("a folder");
        let adapter = settings.layout.initial().expect("not empty");
        let mut world = Self {
            site,
            machines,
            kills: 0,
            deaths: Box::new(|| None),
            draw: ChaCha20Rng::seed_from_u64(seed + 1),
            life: None,
            adapter,
            paid: BTreeMap::new(),
            _folder: folder,
        };
        world.start();
        if let Some(roll) = roll {
            let listed = Listed::new(&roll, &world.site.root).expect("signed");
            let taken = world.life().ask(async |handle| {
                handle.call(move |engine, now| engine.take_roster(&roll, listed, now)).await
            });
            taken.expect("the first");
        }
        let created = world.life().ask(async |handle| {
            handle.call(move |engine, now| engine.create_task(settings, false, now)).await
        });
        created.expect("good settings");
        world
    }

    pub(super) fn life(&self) -> &Life {
        self.life.as_ref().expect("it runs")
    }

    pub(super) fn pick(&mut self, below: u64) -> u64 {
        u64::from(self.draw.next_u32()) % below
    }

    /// Starts the coordinator, as often as it takes.
    pub(super) fn start(&mut self) {
        assert!(self.life.is_none(), "one at a time");
        loop {
            match self.site.start((self.deaths)()) {
                Ok(life) => {
                    assert_eq!(life.recovery.missing, Vec::<String>::new(), "published files are there");
                    self.life = Some(life);
                    return;
                }
                Err(EngineError::Stopped(_)) => self.kills += 1,
                Err(error) => panic!("the coordinator does not start: {error}"),
            }
        }
    }

    /// The coordinator dies, with whatever the operating system had not written of the vectors, and is started again.
    pub(super) fn kill_coordinator(&mut self) {
        // It may have been asked to stop before the store could fail.
        let _ = self.bury();
        self.start();
    }

    /// The coordinator dies. How its engine ended.
    pub(super) fn bury(&mut self) -> Result<(), Stopped> {
        self.kills += 1;
        let ended = self.life.take().expect("it runs").kill();
        for place in 0..self.machines.len() {
            self.machines[place].disconnected();
            for (path, flushed) in std::mem::take(&mut self.machines[place].unflushed) {
                let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) else { continue };
                let written = file.metadata().expect("a file").len();
                if written > flushed {
                    let kept = flushed + self.pick(written - flushed + 1);
                    file.set_len(kept).expect("cut");
                }
            }
        }
        ended
    }

    /// An orderly end, for something to be done to the disk.
    pub(super) fn stop(&mut self) {
        self.life.take().expect("it runs").stop();
        self.machines.iter_mut().for_each(Machine::disconnected);
    }

    /// Copies the store of a coordinator that has stopped, and starts it again.
    pub(super) fn back_up(&mut self) -> Backup {
        self.stop();
        let store = tempfile::tempdir().expect("a folder");
        copy(&self.site.store(), &store.path().join("store"));
        self.start();
        Backup { store, adapter: self.adapter.clone(), paid: self.paid.clone() }
    }

    /// The server is lost, with the masked vectors of its open rounds, and its store is what it was. It does not run then.
    pub(super) fn put_back(&mut self, backup: &Backup) {
        self.stop();
        std::fs::remove_dir_all(self.site.store()).expect("it is there");
        // There are none before the first round.
        let _ = std::fs::remove_dir_all(self.site.vectors());
        copy(&backup.store.path().join("store"), &self.site.store());
        (self.adapter, self.paid) = (backup.adapter.clone(), backup.paid.clone());
    }

    pub(super) fn kill_machine(&mut self, place: usize) {
        self.kills += 1;
        self.machines[place].kill();
    }

    pub(super) fn advance(&self, milliseconds: u64) {
        self.site.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// How a round ended, if it has.
    pub(super) fn end(&self, round: u64) -> Option<End> {
        let store = self.life().store.as_ref();
        match Records(store).get::<Rounds>(&(task().as_str().to_owned(), round)) {
            Ok(Some(row)) => match row.stage {
                Stage::Ended(end) => Some(end),
                _ => None,
            },
            Ok(None) => None,
            Err(_) if self.life().store.is_dead() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Lets a machine do its next thing. Should the coordinator turn out to be dead it is started again.
    pub(super) fn act(&mut self, place: usize) -> Did {
        match self.try_act(place) {
            Ok(did) => did,
            Err(Silence) => {
                self.kill_coordinator();
                Did::Something
            }
        }
    }

    /// Lets a machine do its next thing.
    pub(super) fn try_act(&mut self, place: usize) -> Result<Did, Silence> {
        self.advance(1);
        let now = self.site.now();
        self.machines[place].act(self.life.as_ref().expect("it runs"), now)
    }

    /// Goes on until a round has ended for everybody; `mischief` has a say before each thing that a machine does.
    pub(super) fn play(&mut self, round: u64, mischief: &mut dyn FnMut(&mut Self)) {
        for _ in 0..MOST_PASSES {
            let mut idle = true;
            for place in self.shuffled() {
                mischief(self);
                idle &= self.act(place) == Did::Nothing;
            }
            let over = self.end(round).is_some();
            if over && self.machines.iter().all(|machine| machine.in_round().is_none()) {
                return;
            }
            if idle {
                self.wait();
            }
        }
        let status = self.life().handle.board().borrow().tasks[&task()].status.clone();
        panic!("round {round} does not end: {status:?}");
    }

    /// Lets the open step's time pass.
    pub(super) fn wait(&mut self) {
        let deadline = self.life().handle.board().borrow().tasks[&task()].status.deadline;
        let now = self.site.now();
        self.advance(deadline.map_or(1_000, |deadline| deadline.saturating_sub(now)));
        if self.life().settled().is_err() {
            self.kill_coordinator();
        }
    }

    fn shuffled(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.machines.len()).collect();
        for last in (1..order.len()).rev() {
            let other = self.pick(last as u64 + 1) as usize;
            order.swap(last, other);
        }
        order
    }

    /// Plays a round, and checks it.
    pub(super) fn round(&mut self, round: u64, mischief: &mut dyn FnMut(&mut Self)) -> End {
        self.play(round, mischief);
        self.check(round)
    }

    /// Everything that must hold after a round, whoever was killed in it.
    pub(super) fn check(&mut self, round: u64) -> End {
        // What was due after the end was durable is done by now.
        while self.life().settled().is_err() {
            self.kill_coordinator();
        }
        let end = self.end(round).expect("it has ended");
        let participants: BTreeSet<ClientId> = end.participants.iter().copied().collect();
        assert_eq!(participants.len(), end.participants.len(), "nobody is in a sum twice");
        for &client in &participants {
            self.paid.entry(client).or_default().insert(round);
        }
        if end.committed {
            self.check_sum(round, &end.participants);
        }
        self.check_stored(round);
        self.check_shares(round);
        self.check_books(round, &participants, end.committed);
        end
    }

    /// The sum is that of the participants' contributions, and every acknowledged vector is among them.
    fn check_sum(&mut self, round: u64, participants: &[ClientId]) {
        for machine in &self.machines {
            let client = machine.member.certificate.client;
            if machine.seen.get(&round).is_some_and(|seen| seen.acknowledged) {
                assert!(participants.contains(&client), "round {round}: the update of {client} is lost");
            }
        }
        let mean = self.expected_mean(round, participants);
        self.adapter = moved(&self.adapter, &mean);
    }

    fn seen(&self, client: ClientId, round: u64) -> (&Machine, &Seen) {
        let machine = self.machines.iter().find(|machine| machine.member.certificate.client == client);
        let machine = machine.expect("one of the machines");
        (machine, &machine.seen[&round])
    }

    /// The mean that follows from updates and noise keys alone.
    fn expected_mean(&self, round: u64, participants: &[ClientId]) -> Vec<f32> {
        let contribution = |&client: &ClientId| {
            let (machine, seen) = self.seen(client, round);
            let signed = seen.plan.as_ref().expect("it joined");
            let plan = signed.verify(&machine.member.coordinator).expect("signed");
            let list = seen.list.as_ref().expect("it was shown the cohort");
            let mut secrets = draw(machine.seed, round, 1);
            let secrets = JoinSecrets::generate([0; 32], &[0; 32], &seen.delta, &mut secrets);
            Contribution { plan, list, delta: &seen.delta, secrets }
        };
        mean_of(participants.iter().map(contribution))
    }

    /// The store has the adapter that is due, a sound ledger with one debit for everybody who paid, and nothing of the round but
    /// its outcome.
    fn check_stored(&self, round: u64) {
        let store = self.life().store.as_ref();
        let records = Records(store);
        let state = records.get::<States>(&task().as_str().to_owned()).expect("good").expect("there");
        let state = state.state(&settings()).expect("good");
        assert_eq!(state.adapter, self.adapter, "after round {round}");
        let board = self.life().handle.board();
        let channels = board.borrow().tasks[&task()].channels.clone().expect("published");
        assert_eq!(channels.training.adapter, *self.adapter.digest());

        let account = Account::load(store).expect("sound");
        let rows = records.scan::<Entries>(&(), None, usize::MAX).expect("good");
        let entries: Vec<Entry> =
            rows.iter().map(|(_, entry)| Entry::decode(entry).expect("an entry")).collect();
        assert_eq!(ledger::verify(&entries).as_ref(), Ok(account.ledger()));
        assert_eq!(account.reservations().count(), 0, "after round {round}");
        for machine in &self.machines {
            let client = machine.member.certificate.client;
            let paid = self.paid.get(&client).map_or(0, BTreeSet::len);
            assert_eq!(account.book().rounds_of(client.0), paid as u64, "{client} after round {round}");
        }
        let journal = records.scan::<Journal>(&(task().as_str().to_owned(), round), None, 1).expect("good");
        assert_eq!(journal, [], "a journal outlives its round");
        let vectors = round_folder(&self.site.vectors(), &name(round));
        assert!(!vectors.exists(), "vectors outlive round {round}");
    }

    /// A machine asks the ledger how the rounds ended that it awaits.
    pub(super) fn settle(&mut self, place: usize, now: u64) -> Result<BTreeMap<u64, Verdict>, LedgerError> {
        self.machines[place].settle(self.life.as_ref().expect("it runs"), now)
    }

    /// Nobody's two secrets are shared out, and nobody gives two shares of one.
    fn check_shares(&self, round: u64) {
        let mut kinds: BTreeMap<ClientId, ShareKind> = BTreeMap::new();
        for machine in &self.machines {
            let Some(wire) = machine.seen.get(&round).and_then(|seen| seen.said.get(&Step::Unmask)) else {
                continue;
            };
            let said = ClientMessage::from_wire(wire).expect("what it said");
            let ClientMessage::Unmask(UnmaskShares { shares, .. }) = said else { panic!("{said:?}") };
            let owners: BTreeSet<ClientId> = shares.iter().map(|share| share.of).collect();
            assert_eq!(owners.len(), shares.len(), "one share of each neighbour");
            for share in &shares {
                assert_eq!(*kinds.entry(share.of).or_insert(share.kind), share.kind, "of {}", share.of);
            }
        }
    }

    /// Every machine's own book has what the ledger says of it, and the ledger proves it to the machine.
    fn check_books(&mut self, round: u64, participants: &BTreeSet<ClientId>, committed: bool) {
        let (life, now) = (self.life.as_ref().expect("it runs"), self.site.now());
        for machine in &mut self.machines {
            let client = machine.member.certificate.client;
            let takes_part = participants.contains(&client);
            let uploaded =
                machine.seen.get(&round).is_some_and(|seen| seen.said.contains_key(&Step::Collect));
            assert!(uploaded || !takes_part, "{client} pays for nothing");
            // Its own book is debited before the first byte leaves.
            let paid = machine.paid().contains(&round);
            assert!(paid || !uploaded, "{client} in round {round}");
            let verdicts = machine.settle(life, now).expect("an honest ledger");
            if paid {
                let verdict = verdicts.get(&round).copied();
                let as_due = match verdict {
                    Some(Verdict::Debited(_)) => takes_part,
                    other => !takes_part && other == Some(Verdict::Spared),
                };
                assert!(as_due, "{client}, committed: {committed}: {verdict:?}");
            }
        }
    }
}
