//! How a client is doing, for its owner: `status.json` in its folder. Must never hold a secret, and nothing depends on it.

use crate::Millis;
use crate::folder::{self, FolderError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The file's name.
pub const FILE: &str = "status.json";

/// How a client is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// When this was written, in Unix milliseconds.
    pub written: Millis,
    /// The process.
    pub process: u32,
    /// This client's number, in digits: JSON tools read large numbers wrongly.
    pub client: String,
    /// The coordinator, `host:port`.
    pub coordinator: String,
    /// The round that it takes part in, `task/round`.
    pub round: Option<String>,
    /// Where it stands in that round.
    pub step: Option<String>,
    /// When the coordinator was last heard of, in Unix milliseconds.
    pub last_contact: Option<Millis>,
    /// Entries of the ledger, as last seen.
    pub ledger: u64,
    /// Number of the last restart of the ledger that was adopted; 0 before the first.
    #[serde(default)]
    pub restart: u32,
    /// Rounds that a restart has left behind, and that stay paid, `task/round`.
    #[serde(default)]
    pub lost: Vec<String>,
    /// Rounds whose outcome the ledger has not shown yet, `task/round`.
    pub awaiting: Vec<String>,
    /// What there is of each task.
    pub tasks: BTreeMap<String, TaskStatus>,
    /// Epsilon spent for ever, at the limit's delta.
    pub epsilon_spent: f64,
    /// The limit for ever.
    pub epsilon_limit: f64,
    /// The last thing that went wrong, and when, in Unix milliseconds.
    pub problem: Option<(Millis, String)>,
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is not running, or was stopped without a word.
    #[default]
    Stopped,
    /// It waits for work.
    Waiting,
    /// It trains.
    Training,
    /// It takes part in a round.
    InRound,
    /// Its owner has paused it.
    Paused,
    /// It cannot reach the coordinator.
    Offline,
    /// It has caught the coordinator in a contradiction, and takes part in nothing.
    Contradiction,
}

impl State {
    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting for work",
            Self::Training => "training",
            Self::InRound => "taking part in a round",
            Self::Paused => "paused",
            Self::Offline => "cannot reach the coordinator",
            Self::Contradiction => "out: the coordinator contradicts itself",
        }
    }
}

/// What there is of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The installed version.
    pub installed: Option<u64>,
    /// Whether an update waits for a cohort.
    pub ready: bool,
    /// Why this client may not take part now, as the coordinator says.
    pub excuse: Option<String>,
    /// Why this client does not want to.
    pub refusal: Option<String>,
}

impl Status {
    /// The status of a folder that a client may be using; none when it never ran there.
    ///
    /// # Errors
    /// [`FolderError::Io`]; a file that makes no sense is as good as none.
    pub fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Writes it.
    pub(super) fn publish(&self, folder: &Path) {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        if let Err(error) = folder::publish(folder, FILE, &text) {
            tracing::warn!(%error, "the status could not be written");
        }
    }
}
