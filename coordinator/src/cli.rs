//! The command line of `tacit-coordinator`: one variant and one file for each command. Parses and prints, decides nothing.

mod admin;
mod doctor;
mod identity;
mod init;
mod remote;
mod restart;
mod serve;
mod status;
mod text;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;

/// Run a federation of coding assistants that learns from code it never sees.
///
/// Exit codes: 0 it is done, 1 it is not (the reason is on standard error), 2 it was asked wrongly.
#[derive(Debug, Parser)]
#[command(name = "tacit-coordinator", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The organisation's identity root, offline: who is a client, and who is no longer
    ///
    /// Keep its folder on a machine that is not the server's and that nobody else uses: whoever has the key in it decides who
    /// is a client. Files go between the two machines in both directions; none of them is secret.
    Identity(identity::Identity),
    /// Make a new coordinator's data folder and key
    Init(init::Init),
    /// Serve, until interrupted
    Serve(serve::Serve),
    /// Where everything stands
    Status(status::Status),
    /// Learning tasks
    #[command(subcommand)]
    Task(admin::TaskCommand),
    /// Rounds of a task
    #[command(subcommand)]
    Round(admin::RoundCommand),
    /// Clients: invitations, requests, admission, exclusion
    #[command(subcommand)]
    Client(admin::ClientCommand),
    /// Tokens of operators: what each may do, and when it ends
    #[command(subcommand)]
    Token(admin::TokenCommand),
    /// Versions of a task's adapter
    #[command(subcommand)]
    Adapter(admin::AdapterCommand),
    /// The record of everything that was released and what it cost
    #[command(subcommand)]
    Ledger(admin::LedgerCommand),
    /// Copy everything into a new folder, while the coordinator serves
    Backup(admin::Backup),
    /// Make a data folder of a backup, after looking through it
    Restore(doctor::Restore),
    /// Look through a data folder that nobody serves: keys, ledger, tasks, files, open rounds
    Doctor(doctor::Doctor),
}

/// Runs the chosen command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Identity(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Task(command) => command.run(),
        Command::Round(command) => command.run(),
        Command::Client(command) => command.run(),
        Command::Adapter(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Ledger(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Doctor(command) => command.run(),
    }
}

/// Prints an error and its causes, one line each, to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // An error that only passes its cause on would say the same twice.
    causes.dedup_by(|later, earlier| earlier.contains(later.as_str()));
    let mut stderr = std::io::stderr().lock();
    // If standard error is closed there is nobody left to tell; the exit code still says it.
    let _ = writeln!(stderr, "error: {}", causes.join("\n  because: "));
}

/// Prints a result to standard output: one JSON object on one line, or text for people.
fn answer(json: bool, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if json {
        writeln!(stdout, "{}", serde_json::to_string(value)?)?
    } else {
        writeln!(stdout, "{text}")?
    }
    Ok(())
}

/// The time, Unix seconds.
#[allow(clippy::disallowed_methods, reason = "commands are where time comes in")]
fn now() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970: set it")?;
    Ok(since.as_secs())
}

/// A generator of secrets, from the operating system's randomness.
fn secrets() -> anyhow::Result<ChaCha20Rng> {
    Ok(tacit_coordinator::serve::secrets()?)
}
