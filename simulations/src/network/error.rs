//! Why a run over the network gives no report.

use std::path::PathBuf;

use tacit_client::adapters::InstallError;
use tacit_client::credentials::CredentialsError;
use tacit_client::daemon::DaemonError;
use tacit_client::folder::FolderError;
use tacit_client::settings::SettingsError;
use tacit_client::training::TrainingError;
use tacit_privacy::AccountantError;
use tacit_privacy::ledger::export::ExportError;
use tacit_proto::connection::ConnectionError;

use crate::error::SimulationError;
use crate::process::ProcessError;
use crate::site::SetupError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Scenario, corpus, model or report.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// The coordinator.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A client's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A client's settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A client's credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// An adapter that was installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The base model of a client.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A client of a fleet's process.
    #[error("the client in {folder} cannot go on: {source}")]
    Client {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        source: DaemonError,
    },
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Threads or signals.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The work folder is somebody else's.
    #[error("{path} is not empty: give --work a folder that is empty or not there")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A process ended by itself.
    #[error("{what} ended before the work was done:\n{log}")]
    Ended {
        /// Which.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// What the coordinator says of its rounds.
    #[error("the coordinator says what this program does not understand: {0}")]
    Said(String),
    /// The coordinator cannot plan.
    #[error("the coordinator does not plan a round: {0}")]
    Unplanned(String),
    /// Nothing happens.
    #[error("nothing has happened for {minutes} minutes: {standing}{client}")]
    Stalled {
        /// How long.
        minutes: u64,
        /// Where the task stands.
        standing: String,
        /// What a client complains of.
        client: String,
    },
    /// The ledger.
    #[error("the coordinator's ledger does not hold: {0}")]
    Ledger(#[from] ExportError),
    /// A round that ended is not in the ledger.
    #[error("the ledger has no end of round {round}, but the coordinator says that it ended")]
    NotInLedger {
        /// The round.
        round: u64,
    },
    /// What was spent cannot be stated.
    #[error(transparent)]
    Account(#[from] AccountantError),
    /// Told to stop.
    #[error("interrupted: every process is stopped, and nothing was written")]
    Interrupted,
}

impl NetworkError {
    /// An input or output error with its file.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
