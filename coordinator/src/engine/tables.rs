//! What the engine stores: tasks, their states, rounds, and the records of open rounds. Must never hold an update.

use crate::Millis;
use crate::optimizer::{Moments, OptimizerError, OptimizerState};
use crate::round::TaskState;
use crate::store::Table;
use crate::task::TaskSettings;
use serde::{Deserialize, Serialize};
use tacit_aggregation::identity::ClientId;
use tacit_proto::AdapterVersion;
use tacit_proto::adapter::AdapterError;

/// Tasks by name.
pub enum Tasks {}

impl Table for Tasks {
    const NAME: &'static str = "tasks";
    type Key = String;
    type Value = TaskRow;
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// [`TaskSettings`], as JSON: they are made to be read.
    pub settings: String,
    /// Whether no new round begins.
    pub paused: bool,
    /// Number of the next round.
    pub next_round: u64,
    /// Rounds that released a new version.
    pub committed: u64,
    /// When the last round ended.
    pub last_end: Millis,
}

impl TaskRow {
    /// The settings.
    ///
    /// # Errors
    /// When they are not what this version writes.
    pub fn settings(&self) -> Result<TaskSettings, serde_json::Error> {
        serde_json::from_str(&self.settings)
    }
}

/// What a task carries from round to round, by the task's name.
pub enum States {}

impl Table for States {
    const NAME: &'static str = "states";
    type Key = String;
    type Value = StateRow;
}

/// A [`TaskState`] as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateRow {
    parent: [u8; 32],
    digest: [u8; 32],
    values: Vec<f32>,
    moments: Moments,
}

/// A stored state that is not what was written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StateError {
    /// Another adapter than the one stored.
    #[error("the stored adapter is damaged: its digest is another; restore a backup")]
    Digest,
    /// No adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The optimiser's moments are not those of its rule.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

impl StateRow {
    /// For storage.
    #[must_use]
    pub fn of(state: &TaskState) -> Self {
        Self {
            parent: *state.adapter.parent(),
            digest: *state.adapter.digest(),
            values: state.adapter.values().to_vec(),
            moments: state.optimizer.moments(),
        }
    }

    /// From storage.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn state(self, settings: &TaskSettings) -> Result<TaskState, StateError> {
        let adapter = AdapterVersion::new(self.values, self.parent)?;
        if *adapter.digest() != self.digest {
            return Err(StateError::Digest);
        }
        let dimension = adapter.values().len();
        let optimizer = OptimizerState::restore(settings.optimizer.clone(), dimension, self.moments)?;
        Ok(TaskState { adapter, optimizer })
    }
}

/// Rounds by task and number.
pub enum Rounds {}

impl Table for Rounds {
    const NAME: &'static str = "rounds";
    type Key = (String, u64);
    type Value = RoundRow;
}

/// A round from its planning on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRow {
    /// Wire form of the signed plan.
    pub plan: Vec<u8>,
    /// The key of the coordinator's noise, where it adds the noise; gone with the outcome.
    pub noise: Option<[u8; 32]>,
    /// When it was planned.
    pub planned: Millis,
    /// How far it is.
    pub stage: Stage,
}

/// How far a round is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// Clients train for it.
    Planned,
    /// Clients with an update were invited; the journal has the rest.
    Open {
        /// When.
        since: Millis,
        /// Who.
        invited: Vec<ClientId>,
    },
    /// It is over.
    Ended(End),
}

/// How a round ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Millis,
    /// Whether it released a new version.
    pub committed: bool,
    /// Why not; else what it released.
    pub reason: String,
    /// Clients in the closed cohort.
    pub cohort: u32,
    /// Whose updates are in the sum, or who paid all the same.
    pub participants: Vec<ClientId>,
    /// The largest epsilon over clients after it, and its delta.
    pub spent: Option<(f64, f64)>,
    /// Members that were caught breaking the protocol, for people.
    pub faults: Vec<String>,
}

/// Records of open rounds, by task, round, and [`tacit_aggregation::journal::Key`].
pub enum Journal {}

impl Table for Journal {
    const NAME: &'static str = "journal";
    type Key = (String, u64, [u8; 10]);
    type Value = Vec<u8>;
}
