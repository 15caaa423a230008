//! The errors of this crate; each names the file, field or number that is wrong and what would be right.

use std::path::PathBuf;

/// What can go wrong with a simulation.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A scenario is not TOML, or has a field that is unknown, missing or of the wrong type.
    #[error("{path} is not a scenario: {reason}")]
    ScenarioSyntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        reason: String,
    },
    /// A field of the scenario has a value that cannot work.
    #[error("scenario field `{field}` is {value}, but it must be {wanted}")]
    Setting {
        /// The field, with its table: `privacy.clip`.
        field: &'static str,
        /// The value given.
        value: String,
        /// What is accepted.
        wanted: String,
    },
    /// The corpus cannot be used.
    #[error(transparent)]
    Corpus(#[from] crate::corpus::CorpusError),
    /// The output folder cannot be used.
    #[error("the output folder {path} cannot be written: {source}; choose another with --out")]
    Output {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A report file is not a report of this version.
    #[error("{path} is not a report of tacit-sim: {reason}")]
    ReportSyntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A figure that JSON cannot hold: training diverged.
    #[error(
        "{figure} is {value}, which no report can hold: training diverged; lower `local.learning_rate` or \
         `server.learning_rate`"
    )]
    NotFinite {
        /// Which figure.
        figure: String,
        /// Infinite or not a number.
        value: f64,
    },
    /// A report could not be turned into JSON.
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The model or training failed.
    #[error(transparent)]
    Model(#[from] tacit_model::ModelError),
    /// A client's training failed.
    #[error("developer {developer}: {source}")]
    Training {
        /// Whose.
        developer: String,
        /// Why.
        source: tacit_model::ModelError,
    },
    /// A client left a round although the simulated coordinator is honest.
    #[error("developer {developer} left the round: {source}")]
    Client {
        /// Whose client.
        developer: String,
        /// Why.
        source: tacit_client::ParticipantError,
    },
    /// A client's limits limit nothing.
    #[error(transparent)]
    Budget(#[from] tacit_client::BudgetError),
    /// The coordinator refused a message although the simulated clients are honest.
    #[error("the coordinator refused an honest message: {0}")]
    Refused(Box<tacit_coordinator::Refusal>),
    /// A message could not be read back from its bytes.
    #[error("a message does not survive the wire: {0}")]
    Wire(#[from] tacit_proto::DecodeError),
    /// The plan of a round is infeasible.
    #[error("the scenario gives no feasible plan: {0}")]
    Plan(#[from] tacit_proto::PlanError),
    /// The next round cannot be planned.
    #[error("the scenario gives no feasible plan: {0}")]
    Planning(#[from] tacit_coordinator::PlanningError),
    /// The secure sum's parameters are infeasible.
    #[error("the scenario gives no feasible secure sum: {0}")]
    Params(#[from] tacit_aggregation::params::ParamsError),
    /// The coordinator cannot open the round.
    #[error(transparent)]
    Open(#[from] tacit_coordinator::round::OpenError),
    /// The server's optimiser cannot work.
    #[error(transparent)]
    Optimizer(#[from] tacit_coordinator::OptimizerError),
    /// An adapter that is none.
    #[error(transparent)]
    Adapter(#[from] tacit_proto::adapter::AdapterError),
    /// A sum that is none.
    #[error(transparent)]
    Ring(#[from] tacit_aggregation::ring_vector::RingError),
    /// What was spent cannot be stated.
    #[error(transparent)]
    Account(#[from] tacit_privacy::AccountantError),
    /// A round stopped in the middle.
    #[error("the round stopped in {step} and neither released a sum nor failed")]
    Unfinished {
        /// Where.
        step: &'static str,
    },
    /// Fewer developers than a cohort needs.
    #[error(
        "the cohort needs {cohort} developers, but only {developers} train here ({held_out} more are held out); lower          `cohort.size`, or lower `corpus.minimum_bytes` or give a larger corpus"
    )]
    FleetTooSmall {
        /// Clients in a cohort.
        cohort: u32,
        /// Developers who train.
        developers: usize,
        /// Developers who are held out.
        held_out: usize,
    },
    /// A worker's thread pool could not be started.
    #[error("a worker thread could not be started: {0}; use fewer with --threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A worker thread ended without an answer.
    #[error("a worker thread panicked while it was {0}")]
    WorkerPanicked(&'static str),
}

impl SimulationError {
    /// An input or output error with its file.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// A scenario field outside its range.
    pub(crate) fn setting(field: &'static str, value: impl ToString, wanted: impl ToString) -> Self {
        Self::Setting { field, value: value.to_string(), wanted: wanted.to_string() }
    }

    /// Whether training or the adapter left the range of numbers, so that lower rates would help.
    pub(crate) fn is_divergence(&self) -> bool {
        let diverged =
            |error: &tacit_model::ModelError| matches!(error, tacit_model::ModelError::Diverged { .. });
        match self {
            Self::Model(error) | Self::Training { source: error, .. } => diverged(error),
            Self::Optimizer(error) => matches!(error, tacit_coordinator::OptimizerError::NotFinite { .. }),
            _ => false,
        }
    }
}
