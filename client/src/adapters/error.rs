//! Why a version is not installed. Must never leave open what is damaged, or whose fault it is.

use std::io;
use std::path::PathBuf;

use tacit_aggregation::params::TaskName;
use tacit_model::ModelError;
use tacit_proto::{Channel, ManifestError};

/// Why a version is not installed, or not found.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The disk fails, or is full.
    #[error("{path}: {source}; free space or check the disk, the installed version is unchanged")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A manifest that the trusted coordinator did not sign, or that says what no manifest can say.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest of another task.
    #[error("the manifest is for task {found}, not for {task}")]
    Task {
        /// The folder's task.
        task: TaskName,
        /// The manifest's.
        found: TaskName,
    },
    /// An adapter for another base model.
    #[error(
        "version {version} of task {task} is for base model {wanted}, which is not the one given: install that model"
    )]
    BaseModel {
        /// The task.
        task: TaskName,
        /// The version.
        version: u64,
        /// SHA-256 of the model's files, in hexadecimal.
        wanted: String,
    },
    /// A statement older than one that was followed.
    #[error(
        "the coordinator shows statement {serial} of channel {channel} of task {task}, after statement {seen}: an old copy"
    )]
    OutOfDate {
        /// The task.
        task: TaskName,
        /// The channel.
        channel: Channel,
        /// Its number.
        serial: u64,
        /// The number that was seen.
        seen: u64,
    },
    /// Two statements under one number.
    #[error(
        "the coordinator made two statements {serial} of channel {channel} of task {task}: report it to its operator"
    )]
    TwoStatements {
        /// The task.
        task: TaskName,
        /// The channel.
        channel: Channel,
        /// Their number.
        serial: u64,
    },
    /// Another digest for a version than was stated before.
    #[error(
        "version {version} of task {task} was {known}, and now is said to be {said}: report it to its operator"
    )]
    Contradiction {
        /// The task.
        task: TaskName,
        /// The version.
        version: u64,
        /// Its digest as stated before, in hexadecimal.
        known: String,
        /// Its digest as stated now.
        said: String,
    },
    /// Files that this client does not know how to install.
    #[error("version {version} of task {task} has no file {name}: update this client")]
    NoSuchFile {
        /// The task.
        task: TaskName,
        /// The version.
        version: u64,
        /// The file.
        name: &'static str,
    },
    /// A file that was not downloaded.
    #[error("{name} is not here: download it")]
    Missing {
        /// The file.
        name: String,
    },
    /// A download that is not at its end.
    #[error("{received} of {size} bytes of {name} are here: go on from there")]
    Incomplete {
        /// The file.
        name: String,
        /// Bytes that are here.
        received: u64,
        /// Length of the file.
        size: u64,
    },
    /// Bytes that are not what was published or installed.
    #[error("{path}: {problem}; it is not used, and has to be fetched again")]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The files do not make an adapter.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No version is installed.
    #[error("no version of task {task} is installed")]
    NotInstalled {
        /// The task.
        task: TaskName,
    },
    /// No earlier version is kept.
    #[error("no version of task {task} from before the present one is kept")]
    NoEarlier {
        /// The task.
        task: TaskName,
    },
}
