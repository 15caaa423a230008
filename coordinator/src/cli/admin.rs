//! The operators' commands: each asks a running coordinator for one thing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_coordinator::identity::Roll;
use tacit_coordinator::task::TaskSettings;
use tacit_proto::Channel;
use tacit_proto::adapter::AdapterLayout;
use tacit_proto::admin::{FullRoster, Order, Role};

use super::remote::Remote;
use super::restart;

/// Learning tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Take a new task on, from a TOML file
    Create {
        /// The settings; `docs/operations.md` has a sample
        settings: PathBuf,
        /// The adapter's layout, as `tacit-client model layout` prints it; left out, the settings hold it
        #[arg(long)]
        layout: Option<PathBuf>,
        /// Wait to be resumed
        #[arg(long)]
        paused: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// All tasks, and where their rounds stand
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Begin no new round; an open one goes on to its end
    Pause(OfTask),
    /// Let a paused task go on
    Resume(OfTask),
}

/// Rounds of a task.
#[derive(Debug, Subcommand)]
pub(crate) enum RoundCommand {
    /// A task's rounds, newest first
    List {
        /// The task
        task: TaskArg,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Everything that may be known of a round
    Show {
        /// The task
        task: TaskArg,
        /// Its number
        round: u64,
        #[command(flatten)]
        remote: Remote,
    },
    /// End the open round. Before anybody was asked to unmask it costs nothing, after that in full
    Abort(OfTask),
}

/// Clients of the fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Make one-time tokens with which machines enrol
    Invite {
        /// How many
        #[arg(default_value_t = 1)]
        count: u32,
        /// Hours that they hold
        #[arg(long, default_value_t = 48)]
        hours: u64,
        /// What they are for, for other operators
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Machines that wait for the identity root, as the JSON that `identity issue` takes
    Requests {
        #[command(flatten)]
        remote: Remote,
    },
    /// Take in what `identity issue` has written
    Admit {
        /// The file
        issued: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Refuse a machine that waits for the identity root
    Refuse {
        /// Its ticket, as `client requests` shows it
        #[arg(value_parser = ticket)]
        ticket: Digest,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take in what `identity revoke` has written
    Revoke {
        /// The file
        revoked: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take in what `identity roster` has written
    Roster {
        /// The file
        roster: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Clients in the order of their numbers
    List {
        /// Those above this number
        #[arg(long, default_value_t = 0)]
        above: u64,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Those of whom nothing was heard for so many days; all of them with 0
        #[arg(long, default_value_t = 0)]
        silent_days: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shut a client out of this coordinator
    Ban {
        /// Its number
        client: u64,
        /// Why, for other operators
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let a banned client in again
    Unban {
        /// Its number
        client: u64,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Versions of adapters.
#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// A task's versions
    List(OfTask),
    /// Let everybody install what the canary share has
    Promote(OfTask),
    /// Put a channel back to the version before. Training goes on from the newest one
    Rollback {
        /// The task
        task: TaskArg,
        /// `stable` or `canary`
        #[arg(long, default_value = "stable")]
        channel: Channel,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Tokens of operators.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown this once
    Make {
        /// `viewer`, which may only look, or `operator`
        role: Role,
        /// Whose it is, for other operators
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Tokens by number, role and note, never themselves
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// End a token, at once. The last operator's stays
    Revoke {
        /// Its number, as `token list` shows it
        number: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// The ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Write all entries with the signed head into a file on the coordinator's machine, for auditors
    Export {
        /// The file's absolute path there
        file: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// After `restore`: write the signed head of a data folder that nobody serves, for the identity root
    Head(restart::LedgerHead),
    /// Let the ledger of a data folder that nobody serves go on, with what `identity restart` signed
    Restart(restart::LedgerRestart),
}

/// A command about one task.
#[derive(Debug, Args)]
pub(crate) struct OfTask {
    /// The task
    task: TaskArg,
    #[command(flatten)]
    remote: Remote,
}

/// `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// A new folder's absolute path on the coordinator's machine
    folder: String,
    #[command(flatten)]
    remote: Remote,
}

/// A task's name.
#[derive(Clone, Debug)]
pub(crate) struct TaskArg(TaskName);

impl std::str::FromStr for TaskArg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        TaskName::new(name).map(Self).map_err(|error| error.to_string())
    }
}

fn ticket(digits: &str) -> Result<Digest, String> {
    let mut ticket = Digest::default();
    hex::decode_to_slice(digits, &mut ticket).map_err(|_| "a ticket has 64 hexadecimal digits".to_owned())?;
    Ok(ticket)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn settings(path: &Path, layout: Option<&Path>) -> anyhow::Result<String> {
    let mut table: toml::Table = toml::from_str(&read(path)?).with_context(|| path.display().to_string())?;
    if let Some(layout) = layout {
        let layout: AdapterLayout =
            serde_json::from_str(&read(layout)?).with_context(|| layout.display().to_string())?;
        table.insert("layout".to_owned(), toml::Value::try_from(layout)?);
    }
    let settings: TaskSettings = table.try_into().with_context(|| path.display().to_string())?;
    settings.validate().with_context(|| path.display().to_string())?;
    Ok(serde_json::to_string(&settings)?)
}

impl TaskCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { settings: path, layout, paused, remote } => {
                let settings = settings(&path, layout.as_deref())?;
                show(&remote, Order::CreateTask { settings, paused })
            }
            Self::List { remote } => {
                let status = remote.carry(Order::Status)?;
                print(&remote, status.get("tasks").unwrap_or(&Value::Null))
            }
            Self::Pause(of) => show(&of.remote, Order::PauseTask(of.task.0)),
            Self::Resume(of) => show(&of.remote, Order::ResumeTask(of.task.0)),
        }
    }
}

impl RoundCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { task, limit, remote } => show(&remote, Order::ListRounds { task: task.0, limit }),
            Self::Show { task, round, remote } => show(&remote, Order::ShowRound { task: task.0, round }),
            Self::Abort(of) => show(&of.remote, Order::AbortRound(of.task.0)),
        }
    }
}

impl ClientCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Invite { count, hours, note, remote } => {
                let answer =
                    remote.carry(Order::Invite { count, valid_for: hours.saturating_mul(3600), note })?;
                let tokens = answer.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default();
                let lines: Vec<&str> = tokens.iter().filter_map(Value::as_str).collect();
                super::answer(remote.json, &answer, &lines.join("\n"))
            }
            // The next command reads it, so that it is JSON either way.
            Self::Requests { remote } => {
                let answer = remote.carry(Order::ListRequests)?;
                super::answer(remote.json, &answer, &serde_json::to_string_pretty(&answer)?)
            }
            Self::Admit { issued, remote } => show(&remote, Order::Admit(read(&issued)?)),
            Self::Refuse { ticket, remote } => show(&remote, Order::RefuseRequest(ticket)),
            Self::Revoke { revoked, remote } => show(&remote, Order::Revoke(read(&revoked)?)),
            Self::Roster { roster, remote } => {
                let roll: Roll = serde_json::from_str(&read(&roster)?).with_context(|| {
                    format!("{} is not what `identity roster` wrote: copy it again", roster.display())
                })?;
                show(&remote, Order::TakeRoster(FullRoster { signed: roll.signed(), clients: roll.clients }))
            }
            Self::List { above, limit, silent_days, remote } => {
                let mut answer =
                    remote.carry(Order::ListClients { above: ClientId(above), limit, silent_days })?;
                if !remote.json {
                    let now = tacit_coordinator::serve::system_clock() / 1000;
                    for row in answer.as_array_mut().into_iter().flatten() {
                        row["last_seen"] =
                            row["last_seen"].as_u64().map_or(json!("never"), |last| json!(ago(now, last)));
                    }
                }
                print(&remote, &answer)
            }
            Self::Ban { client, reason, remote } => {
                show(&remote, Order::BanClient { client: ClientId(client), reason })
            }
            Self::Unban { client, remote } => show(&remote, Order::UnbanClient(ClientId(client))),
        }
    }
}

impl AdapterCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(of) => show(&of.remote, Order::ListAdapters(of.task.0)),
            Self::Promote(of) => show(&of.remote, Order::PromoteAdapter(of.task.0)),
            Self::Rollback { task, channel, remote } => {
                show(&remote, Order::RollbackAdapter { task: task.0, channel })
            }
        }
    }
}

impl TokenCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Make { role, note, remote } => {
                let answer = remote.carry(Order::MakeToken { role, note })?;
                let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
                super::answer(remote.json, &answer, token)
            }
            Self::List { remote } => show(&remote, Order::ListTokens),
            Self::Revoke { number, remote } => show(&remote, Order::RevokeToken(number)),
        }
    }
}

impl LedgerCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Export { file, remote } => show(&remote, Order::ExportLedger(file)),
            Self::Head(command) => command.run(),
            Self::Restart(command) => command.run(),
        }
    }
}

impl Backup {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        show(&self.remote, Order::Backup(self.folder))
    }
}

/// How long ago something was, in the largest unit of which there is one.
fn ago(now: u64, then: u64) -> String {
    let minutes = now.saturating_sub(then) / 60;
    match minutes {
        0..60 => format!("{minutes} min ago"),
        60..2_880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1_440),
    }
}

/// Has an order carried out, and shows the answer.
pub(crate) fn show(remote: &Remote, order: Order) -> anyhow::Result<()> {
    let answer = remote.carry(order)?;
    print(remote, &answer)
}

/// Shows an answer: for people, a list as a table and an object as lines.
pub(crate) fn print(remote: &Remote, answer: &Value) -> anyhow::Result<()> {
    super::answer(remote.json, answer, &super::text::text(answer))
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn times_are_told_in_the_largest_unit() {
        let told = |seconds: u64| ago(10_000_000 + seconds, 10_000_000);
        assert_eq!([told(59), told(61), told(3_600)], ["0 min ago", "1 min ago", "1 h ago"]);
        assert_eq!([told(47 * 3_600), told(48 * 3_600)], ["47 h ago", "2 days ago"]);
        assert_eq!(ago(5, 600), "0 min ago", "by a clock that is behind");
    }
}
