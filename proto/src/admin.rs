//! What operators ask of a coordinator, as it travels. Must never hold a token: that goes beside the message.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{ClientId, SignedRoster};
use tacit_aggregation::params::TaskName;

use crate::Channel;

/// Longest settings of a task, in bytes.
pub const MAX_SETTINGS: usize = 1 << 20;
/// Longest file of issued certificates or revoked clients, in bytes.
pub const MAX_IMPORT: usize = 16 << 20;
/// Most clients of a roster.
pub const MAX_LISTED: usize = MAX_IMPORT / 8;
/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 64 << 20;
/// Longest path, reason or note, in bytes.
pub const MAX_LINE: usize = 4 << 10;
/// Most rows that are listed at once.
pub const MAX_ROWS: u32 = 1_000;

/// A roster with everybody on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRoster {
    /// What the identity root signed.
    pub signed: SignedRoster,
    /// The clients, strictly increasing; at most [`MAX_LISTED`].
    pub clients: Vec<ClientId>,
}

/// An order from an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// What everything is at.
    Status,
    /// Takes a new task on.
    CreateTask {
        /// The settings, as JSON.
        settings: String,
        /// Whether it waits to be resumed.
        paused: bool,
    },
    /// Begins no new round of a task.
    PauseTask(TaskName),
    /// Lets a paused task go on.
    ResumeTask(TaskName),
    /// A task's rounds, newest first.
    ListRounds {
        /// The task.
        task: TaskName,
        /// At most so many.
        limit: u32,
    },
    /// All of a round that may be known.
    ShowRound {
        /// The task.
        task: TaskName,
        /// Its number.
        round: u64,
    },
    /// Ends a task's open round.
    AbortRound(TaskName),
    /// Clients in the order of their numbers.
    ListClients {
        /// Those above this number.
        above: ClientId,
        /// At most so many.
        limit: u32,
        /// Those of whom nothing was heard for so many days; all of them with 0.
        silent_days: u32,
    },
    /// Shuts a client out of this coordinator.
    BanClient {
        /// The client.
        client: ClientId,
        /// Why, for other operators.
        reason: String,
    },
    /// Lets a banned client in again.
    UnbanClient(ClientId),
    /// Versions of a task's adapter.
    ListAdapters(TaskName),
    /// Lets everybody install what the canary share has.
    PromoteAdapter(TaskName),
    /// Puts a channel back to the version before.
    RollbackAdapter {
        /// The task.
        task: TaskName,
        /// The channel.
        channel: Channel,
    },
    /// Makes one-time enrolment tokens.
    Invite {
        /// How many.
        count: u32,
        /// How long they hold, in seconds.
        valid_for: u64,
        /// What they are for.
        note: String,
    },
    /// Machines that wait for the identity root.
    ListRequests,
    /// Takes in what the identity root has issued, as JSON.
    Admit(String),
    /// Takes in a list of revoked clients, as JSON.
    Revoke(String),
    /// Takes in the roster of an epoch.
    TakeRoster(FullRoster),
    /// Copies everything into a folder on the coordinator's machine.
    Backup(String),
    /// Writes the ledger into a file on the coordinator's machine.
    ExportLedger(String),
    /// Makes a token for operators.
    MakeToken {
        /// What it entitles to.
        role: Role,
        /// Whose it is.
        note: String,
    },
    /// Tokens of operators, never themselves.
    ListTokens,
    /// Ends a token, by its number.
    RevokeToken(String),
    /// Refuses a machine that waits for the identity root, by its ticket.
    RefuseRequest(Digest),
}

/// What an operator's token entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// To look.
    Viewer,
    /// To everything.
    Operator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            other => Err(format!("there is no role {other}: choose viewer or operator")),
        }
    }
}

impl Order {
    /// Whether it changes nothing, here or on the disk.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::ListRounds { .. }
                | Self::ShowRound { .. }
                | Self::ListClients { .. }
                | Self::ListAdapters(_)
                | Self::ListRequests
                | Self::ListTokens
        )
    }
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A JSON object or list.
    pub json: String,
}
