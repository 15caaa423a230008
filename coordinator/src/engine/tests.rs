//! An engine without its thread: commands, ticks and writes one at a time. Must never need a client's key: invitations go to
//! whoever says that it is ready.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::optimizer::ServerOptimizer;
use crate::plan::PlanSettings;
use crate::store::MemoryStore;
use crate::task::{Eligibility, PublicationSettings, Schedule, TaskSettings};
use rand::SeedableRng as _;
use std::collections::BTreeSet;
use tacit_aggregation::identity::IdentityRoot;
use tacit_aggregation::params::ThreatModel;
use tacit_privacy::{Adjacency, NoiseLaw};
use tacit_proto::adapter::{AdapterLayout, TrainedTensor};
use tacit_proto::fleet::ReadyUpdate;
use tacit_proto::manifest::Origin;
use tacit_proto::{AdapterShape, AdapterVersion, CohortTerms, Deadlines, LocalRule, LocalTraining};

mod epochs;

const CLIENTS: u32 = 6;
const BASE_MODEL: [u8; 32] = [1; 32];
/// Longer than two looks at who is ready.
const LATER: Millis = 1_000;

fn settings(task: &str) -> TaskSettings {
    let shape = AdapterShape { rank: 2, alpha: 4.0, targets: vec!["v_proj".to_owned()], seed: 5 };
    let layout = AdapterLayout {
        base: "tacit-base".to_owned(),
        base_model: BASE_MODEL,
        adapter: shape.clone(),
        tensors: vec![TrainedTensor { name: "layers.0.b".to_owned(), shape: [2, 3] }],
    };
    let plan = PlanSettings {
        task: TaskName::new(task).unwrap(),
        base_model: BASE_MODEL,
        adapter: shape,
        training: LocalTraining {
            rule: LocalRule::Sgd { momentum: 0.0 },
            learning_rate: 0.1,
            steps: 1,
            batch: 1,
            sequence: 8,
        },
        cohort: CohortTerms {
            min: CLIENTS,
            max: CLIENTS,
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
        deadlines: Deadlines {
            advertise: 60_000,
            share: 60_000,
            collect: 60_000,
            confirm: 60_000,
            unmask: 60_000,
        },
        roster: None,
        central: None,
    };
    TaskSettings {
        layout,
        plan,
        optimizer: ServerOptimizer::FedAvg { learning_rate: 1.0 },
        eligibility: Eligibility::default(),
        schedule: Schedule::default(),
        publication: PublicationSettings { keep: 2, ..PublicationSettings::default() },
    }
}

fn root() -> IdentityRoot {
    IdentityRoot::from_bytes(&[4; 32])
}

struct World {
    engine: Engine,
    folder: tempfile::TempDir,
}

impl World {
    fn new(tasks: &[&str]) -> Self {
        let mut world = Self::empty();
        for task in tasks {
            world.engine.create_task(settings(task), false, 0).unwrap();
        }
        world.turn(0);
        world
    }

    fn empty() -> Self {
        Self::on(tempfile::tempdir().unwrap(), Arc::new(MemoryStore::new()))
    }

    /// Another life of the coordinator.
    fn restarted(self) -> Self {
        let store = Arc::clone(&self.engine.setup.store);
        Self::on(self.folder, store)
    }

    fn on(folder: tempfile::TempDir, store: Arc<dyn Store>) -> Self {
        Self::under(root().public_key(), folder, store)
    }

    /// On what is stored, for a root.
    fn under(root: PublicKey, folder: tempfile::TempDir, store: Arc<dyn Store>) -> Self {
        let key = Arc::new(CoordinatorKey::from_bytes(&[3; 32]));
        let publisher = Publisher::open(folder.path(), Arc::clone(&store), Arc::clone(&key)).unwrap();
        let (vectors, clock) = (folder.path().join("vectors"), Arc::new(|| 0));
        let setup = Setup { store, vectors, publisher, key, root, clock };
        let (engine, ..) = Engine::start(setup, ChaCha20Rng::seed_from_u64(1)).unwrap();
        Self { engine, folder }
    }

    fn turn(&mut self, now: Millis) {
        self.engine.tick(now);
        self.engine.settle().unwrap();
    }

    /// These clients check in with an update of every task.
    fn ready(&mut self, clients: std::ops::Range<u64>, now: Millis) {
        let updates: Vec<ReadyUpdate> = self
            .engine
            .tasks
            .iter()
            .map(|(name, task)| ReadyUpdate { task: name.clone(), parent: *task.state.adapter.digest() })
            .collect();
        for client in clients.map(ClientId) {
            self.engine.handle(Command::Ready { client, updates: updates.clone() }, now);
        }
        self.turn(now);
    }

    fn invited(&self, task: &str) -> Option<BTreeSet<ClientId>> {
        let invited = self.engine.tasks[&TaskName::new(task).unwrap()].invited();
        invited.map(|invited| invited.as_ref().clone())
    }
}

#[test]
fn nobody_is_invited_to_two_rounds_at_once() {
    let mut world = World::new(&["one", "two"]);
    world.ready(0..6, LATER);
    assert_eq!(world.invited("one").map(|invited| invited.len()), Some(6));
    assert_eq!(world.invited("two"), None, "everybody is in the other task's round");
    world.ready(6..12, 2 * LATER);
    let both = [world.invited("one"), world.invited("two")].map(Option::unwrap);
    assert!(both[0].is_disjoint(&both[1]), "{both:?}");
}

#[test]
fn nobody_hears_of_an_end_that_is_not_written_nor_that_there_was_no_such_round() {
    let mut world = World::new(&["one"]);
    world.ready(0..6, LATER);
    let round = RoundName { task: TaskName::new("one").unwrap(), round: 1 };
    let client = ClientId(3);
    world.engine.abort_round(&round.task, LATER).unwrap();
    assert_eq!(world.engine.receive(client, &round, Step::Advertise), Ok(Received::Nothing));
    world.engine.settle().unwrap();
    let heard = world.engine.receive(client, &round, Step::Advertise);
    assert!(matches!(&heard, Ok(Received::End(end)) if !end.committed), "{heard:?}");
    let never = RoundName { round: 2, ..round };
    assert!(matches!(world.engine.receive(client, &never, Step::Advertise), Err(Refused::NotOpen { .. })));
}

#[test]
fn the_disk_does_not_fill_with_versions_that_were_retired() {
    let mut world = World::new(&["one"]);
    let name = TaskName::new("one").unwrap();
    let files = |world: &World| std::fs::read_dir(world.folder.path().join("blobs")).unwrap().count();
    for round in 1..=8 {
        let mut task = world.engine.tasks.remove(&name).unwrap();
        let parent = *task.state.adapter.digest();
        task.state.adapter = AdapterVersion::new(vec![round as f32; 6], parent).unwrap();
        let origin = Origin { plan: [2; 32], round, entry: round, entry_hash: [5; 32] };
        task.publish(Some(origin), round, &mut world.engine.parts().1);
        world.engine.tasks.insert(name.clone(), task);
        world.engine.settle().unwrap();
        // The present version, the one before and the one that was published meanwhile, and one configuration for all.
        assert!(files(&world) <= 4, "after round {round}: {} files", files(&world));
    }
}
