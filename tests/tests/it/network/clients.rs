//! The client's own program, killed at its kill points, one after the other, and at random moments, while it takes part in rounds of
//! the coordinator's program, which is killed too. Must never judge by what a process remembers: only by folders, the ledger and the adapter.

use super::laptop::{Death, Laptop, Part};
use super::premises::Premises;
use super::processes::{Process, program};
use super::sum::{Contribution, mean_of, moved};
use super::world::{CLIENTS, World, settings, task};
use crate::simulation::tiny_model;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};
use tacit_aggregation::client::RoundSecrets;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::CohortList;
use tacit_client::Period;
use tacit_client::adapters;
use tacit_client::folder::Folder;
use tacit_client::participant::JoinSecrets;
use tacit_client::settings::{Bandwidth, CheckInSettings, Code, Cpu, LimitSettings, Settings};
use tacit_coordinator::account::{Account, Entries};
use tacit_coordinator::engine::tables::{End, Rounds, Stage, States};
use tacit_coordinator::store::Records;
use tacit_coordinator::task::TaskSettings;
use tacit_model::{DecoderConfig, LoraConfig, Projection};
use tacit_privacy::ledger::{self, Entry};
use tacit_proto::ServerMessage;
use tacit_proto::connection::Trust;

/// Kill points of a life, from its first: more than there are from the start of a life to the end of a round.
const POINTS: u64 = 64;
/// Lives that end at random moments, unless the environment asks for another number.
const RANDOM_KILLS: u64 = 16;
/// The environment variable that asks for any number of random kills.
const VARIABLE: &str = "TACIT_KILLS";
/// Commits at which the coordinator dies, one life after the other.
const COMMITS: [u64; 5] = [30, 7, 19, 3, 12];
/// Rounds that have to go well after the last kill.
const MORE_ROUNDS: u64 = 2;
/// Longest life before a random death.
const LONGEST_LIFE: u64 = 1_500;
/// How often folders are looked at.
const GLANCE: Duration = Duration::from_millis(2);
/// Time in which a kill's consequences are over.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes a second that clients upload: a vector takes long enough to be seen, and to be killed in.
const UP: u64 = 20_000;

pub(super) struct Fleet {
    // Processes end before the folders that they are in.
    pub(super) laptops: Vec<Laptop>,
    coordinator: Option<Process>,
    premises: Premises,
    world: World,
    task: TaskSettings,
    address: String,
    /// Deaths to come.
    deaths: Vec<Death>,
    commits: Vec<u64>,
    kills: u64,
    /// What each client joined each round with, and the update.
    joined: BTreeMap<(u64, ClientId), (Part, Vec<f32>)>,
    /// The cohort of each round.
    lists: BTreeMap<u64, CohortList>,
}

impl Fleet {
    pub(super) fn new(seed: u64, deaths: Vec<Death>, mut commits: Vec<u64>) -> Self {
        let model_folder = tempfile::tempdir().unwrap();
        let mut shape = DecoderConfig::new(300, 16, 1, 2, 1, 512);
        shape.max_position_embeddings = 64;
        let model = tiny_model(model_folder.path(), shape);
        let lora = LoraConfig { rank: 8, alpha: 8.0, targets: vec![Projection::Gate], seed: 1 };
        let layout = adapters::layout(&model, lora).unwrap();
        let mut task = settings();
        task.plan.base_model = layout.base_model;
        task.plan.adapter = layout.adapter.clone();
        task.layout = layout;
        let (premises, mut world) = Premises::new(seed, task.clone());
        world.stop();
        let coordinator = Process::start_at(&premises, "127.0.0.1:0", commits.pop()).unwrap();
        let address = coordinator.address.clone();
        let mut fleet = Self {
            premises,
            world,
            task,
            laptops: Vec::new(),
            coordinator: Some(coordinator),
            address,
            deaths,
            commits,
            kills: 0,
            joined: BTreeMap::new(),
            lists: BTreeMap::new(),
        };
        let root = fleet.premises.data.path().parent().unwrap().to_owned();
        let base_model = root.join("model");
        fs::create_dir(&base_model).unwrap();
        for file in fs::read_dir(model_folder.path().join("model")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), base_model.join(file.file_name())).unwrap();
        }
        for (place, machine) in fleet.world.machines.iter().enumerate() {
            let code = root.join(format!("code-{place}"));
            fs::create_dir(&code).unwrap();
            let line = format!("pub fn answer_{place}() -> u32 {{ {place} }}\n");
            fs::write(code.join("lib.rs"), line.repeat(40)).unwrap();
            let Trust::Fingerprint(fingerprint) = &fleet.premises.trust else { panic!("it is pinned") };
            let limits = LimitSettings {
                epsilon: 1e6,
                delta: 1e-5,
                period: Some(Period { days: 30, epsilon: 1e6 }),
                n_min: 3,
                corrupt_bp: 0,
                ..LimitSettings::default()
            };
            let settings = Settings {
                coordinator: fleet.address.clone(),
                fingerprint: Some(fingerprint.to_string()),
                ca: None,
                base_model: base_model.clone(),
                code: Code { folders: vec![code], ..Code::default() },
                limits,
                cpu: Cpu { threads: 1, share: 100, nice: 0 },
                bandwidth: Bandwidth { up: UP, down: 0 },
                check_in: CheckInSettings { shortest: 0, longest: 1 },
            };
            let laptop = Laptop::new(machine.member.certificate.client, root.join(format!("laptop-{place}")));
            let folder = Folder::open(&laptop.home).unwrap();
            fleet.premises.credentials(place, &machine.member).store(&folder).unwrap();
            settings.write(&laptop.home).unwrap();
            fleet.laptops.push(laptop);
        }
        fleet
    }

    /// Ends and starts lives as they are due, and looks at the folders.
    pub(super) fn turn(&mut self) {
        for laptop in &mut self.laptops {
            let died = laptop.has_died();
            if died {
                laptop.start(self.deaths.pop().unwrap_or(Death::Told));
            }
        }
        if self.coordinator.as_mut().is_none_or(Process::is_dead) {
            // On a port that another process has by now it would not start.
            self.coordinator = Process::start_at(&self.premises, &self.address, self.commits.pop());
            self.kills += 1;
        }
        self.look();
        std::thread::sleep(GLANCE);
    }

    /// Keeps what clients join rounds with, for it is wiped after.
    fn look(&mut self) {
        for laptop in &self.laptops {
            let Some(part) = laptop.part() else { continue };
            let plan = part.plan.verify(&self.world.site.key.public_key()).unwrap();
            let (round, key) = (plan.round, (plan.round, laptop.client));
            if self.joined.get(&key).is_none_or(|(known, _)| known.secrets != part.secrets) {
                let Some(delta) = laptop.delta(task().as_str()) else { continue };
                self.joined.insert(key, (part, delta));
            }
            if self.lists.contains_key(&round) {
                continue;
            }
            if let Some(ServerMessage::Cohort { list, .. }) = laptop.first_message() {
                self.lists.insert(round, CohortList::clone(&list));
            }
        }
    }

    /// What the operator sees of the task; nothing while the coordinator is down.
    fn status(&self) -> Option<Value> {
        let answer = self.operator(&["status"])?;
        Some(answer["tasks"][0].clone())
    }

    fn operator(&self, words: &[&str]) -> Option<Value> {
        let mut command = Command::new(program("tacit-coordinator"));
        command.args(words).args(["--json", "--coordinator", &self.address, "--data"]);
        let output = command.arg(self.premises.data.path()).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Goes on until something is so of what the operator sees, with a bound on how long nothing may happen.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self, &Value) -> bool) {
        let (mut moved, mut before) = (Instant::now(), (0, 0));
        loop {
            for _ in 0..100 {
                self.turn();
            }
            let Some(status) = self.status() else { continue };
            if done(self, &status) {
                return;
            }
            let now = (self.deaths.len(), status["committed"].as_u64().unwrap());
            if now != before {
                (moved, before) = (Instant::now(), now);
            }
            if moved.elapsed() > PATIENCE {
                let said: Vec<String> = self.laptops.iter().map(Laptop::said).collect();
                panic!("{what}: nothing happens any more: {status}\n{}", said.join("\n"));
            }
        }
    }

    /// Goes on until something is so that takes no long time.
    pub(super) fn soon(&mut self, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < PATIENCE, "it takes too long");
            self.turn();
        }
    }

    /// Goes on until a client has joined a round. Its number.
    pub(super) fn until_joined(&mut self, place: usize) -> u64 {
        self.soon(|fleet| fleet.laptops[place].part().is_some());
        let client = self.laptops[place].client;
        self.look();
        let joined = self.joined.keys().filter(|(_, of)| *of == client).map(|(round, _)| *round);
        joined.max().expect("just seen")
    }

    pub(super) fn until_committed(&mut self, rounds: u64) {
        self.until("rounds commit", |_, status| status["committed"].as_u64().unwrap() >= rounds);
    }

    /// Lets the open round end, stops everything as its owners would, and checks all of it.
    pub(super) fn finish(mut self) {
        self.operator(&["task", "pause", task().as_str()]).expect("it is paused");
        self.until("the last round ends", |fleet, status| {
            let settled = |laptop: &Laptop| {
                let shown = laptop.shows("status");
                let installed = &shown["tasks"][task().as_str()]["installed"];
                shown["awaiting"] == json!([])
                    && shown["round"] == Value::Null
                    && *installed == status["committed"]
            };
            status["step"] == "waiting" && fleet.laptops.iter().all(settled)
        });
        self.laptops.iter_mut().for_each(Laptop::stop);
        self.coordinator.take().expect("it runs").stop();
        self.check();
    }

    /// How the rounds ended, from the first.
    fn ends(&self) -> Vec<End> {
        let records = Records(self.world.life().store.as_ref());
        let row = |round| records.get::<Rounds>(&(task().as_str().to_owned(), round)).unwrap();
        let end = |round| match row(round)?.stage {
            Stage::Ended(end) => Some(end),
            _ => None,
        };
        (1..).map_while(end).collect()
    }

    /// Every update that was taken is in the adapter once, and everybody has paid for it once, there and here.
    fn check(&mut self) {
        self.world.start();
        let ends = self.ends();
        let mut adapter = self.task.layout.initial().unwrap();
        let mut paid: BTreeMap<ClientId, BTreeSet<u64>> = BTreeMap::new();
        for (round, end) in (1..).zip(&ends) {
            assert!(end.committed && end.participants.len() == CLIENTS, "round {round}: {end:?}");
            assert_eq!(end.faults, Vec::<String>::new(), "round {round}");
            let list =
                self.lists.get(&round).unwrap_or_else(|| panic!("nobody saw the cohort of round {round}"));
            let contribution = |client: &ClientId| {
                let (part, delta) = &self.joined[&(round, *client)];
                let plan = part.plan.verify(&self.world.site.key.public_key()).unwrap();
                let secrets = JoinSecrets::from_bytes(&part.secrets).unwrap();
                Contribution { plan, list, delta, secrets }
            };
            adapter = moved(&adapter, &mean_of(end.participants.iter().map(contribution)));
            for client in &end.participants {
                assert!(paid.entry(*client).or_default().insert(round), "{client} is in round {round} twice");
            }
        }
        let store = self.world.life().store.as_ref();
        let records = Records(store);
        let state = records.get::<States>(&task().as_str().to_owned()).unwrap().unwrap();
        assert_eq!(state.state(&self.task).unwrap().adapter, adapter, "after {} rounds", ends.len());

        let account = Account::load(store).unwrap();
        let rows = records.scan::<Entries>(&(), None, usize::MAX).unwrap();
        let entries: Vec<Entry> = rows.iter().map(|(_, entry)| Entry::decode(entry).unwrap()).collect();
        assert_eq!(ledger::verify(&entries).as_ref(), Ok(account.ledger()));
        assert_eq!(account.reservations().count(), 0);
        for laptop in &self.laptops {
            let client = laptop.client;
            assert_eq!(account.book().rounds_of(client.0), ends.len() as u64, "{client}");
            self.check_laptop(laptop, &paid[&client], ends.len() as u64);
        }
    }

    /// A client's own book is the ledger's, and its folder has forgotten what it must not keep.
    fn check_laptop(&self, laptop: &Laptop, paid: &BTreeSet<u64>, versions: u64) {
        let client = laptop.client;
        let budget = laptop.shows("budget");
        let spent = budget["participations"].as_array().unwrap();
        let rounds: BTreeSet<u64> = spent.iter().map(|spent| spent["round"].as_u64().unwrap()).collect();
        assert_eq!((&rounds, rounds.len()), (paid, spent.len()), "{client} pays for each of its rounds once");
        assert!(spent.iter().all(|spent| spent["outcome_awaited"] == false), "{client}: {budget}");
        let status = laptop.shows("status");
        assert_eq!(status["contradiction"], Value::Null, "{client}");
        assert_eq!(status["tasks"][task().as_str()]["installed"], versions, "{client}: {status}");
        // One message for each step: a second one would have been refused.
        assert!(!laptop.said().contains("already exists"), "{client}: {}", laptop.said());

        laptop.sweep();
        let files = laptop.files();
        let name = |path: &std::path::PathBuf| {
            path.strip_prefix(&laptop.home).unwrap().to_string_lossy().into_owned()
        };
        let left: Vec<String> = files.iter().map(name).filter(|name| name.starts_with("round/")).collect();
        assert_eq!(left, Vec::<String>::new(), "{client}");
        // The secrets of a round, 32 bytes each, and the noise key.
        let secrets = self.joined.iter().filter(|((_, of), _)| *of == client);
        let secrets: Vec<&[u8]> =
            secrets.flat_map(|(_, (part, _))| part.secrets[..RoundSecrets::BYTES + 32].chunks(32)).collect();
        assert!(secrets.len() as u64 > versions);
        for path in files {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(32).any(|window| secrets.contains(&window));
            assert!(!found, "{client}: a secret of a round is still in {}", path.display());
        }
    }
}

#[test]
fn clients_may_be_killed_at_every_kill_point_and_at_any_moment() {
    let wanted = match std::env::var(VARIABLE) {
        Ok(number) => number.parse().expect("a number of kills"),
        Err(_) => RANDOM_KILLS,
    };
    let mut draw = ChaCha20Rng::seed_from_u64(91);
    let mut time = || Duration::from_millis(u64::from(draw.next_u32()) % LONGEST_LIFE);
    let random = (0..wanted).map(|_| Death::After(time()));
    let deaths: Vec<Death> = random.chain((1..=POINTS).rev().map(Death::At)).collect();
    let clients = deaths.len() as u64;
    let mut fleet = Fleet::new(90, deaths, COMMITS.to_vec());
    fleet.until("everybody dies as planned", |fleet, _| {
        fleet.deaths.is_empty() && fleet.laptops.iter().all(|laptop| laptop.is_to_last())
    });
    let committed = fleet.status().expect("it runs")["committed"].as_u64().unwrap();
    fleet.until_committed(committed + MORE_ROUNDS);
    println!("{clients} clients and {} coordinators killed, {} rounds", fleet.kills, fleet.lists.len());
    let remains: BTreeSet<&String> = fleet.laptops.iter().flat_map(|laptop| &laptop.remains).collect();
    println!("left in the middle of: {remains:?}");
    fleet.finish();
}
