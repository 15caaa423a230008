//! The command line of `tacit-client`; parses and prints, decides nothing.

mod adapter;
mod enrol;
mod home;
mod model;
mod run;
mod state;

use std::io::Write;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Train, measure and use code models whose training data never leaves this machine.
#[derive(Debug, Parser)]
#[command(name = "tacit-client", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installed adapters: list and check them, go back to the one before, copy one
    #[command(subcommand)]
    Adapter(adapter::AdapterCommand),
    /// Become a client, with a one-time token from the coordinator's operator
    Enrol(enrol::Enrol),
    /// Run unattended: train, take part in rounds, install adapters
    Run(run::Run),
    /// How the client is doing
    Status(state::ShowStatus),
    /// Take part in nothing until `resume`; a round that has begun is finished
    Pause(state::Pause),
    /// End a pause
    Resume(state::Resume),
    /// What was spent, on what, and what is left of each limit
    Budget(state::ShowBudget),
    /// Wipe every trace of the client on this machine
    Forget(state::Forget),
    /// Base models: train one from nothing, complete code with one, measure one
    #[command(subcommand)]
    Model(model::ModelCommand),
}

/// Runs the chosen command. The exit code.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let done = match arguments.command {
        Command::Enrol(command) => return command.run(),
        Command::Run(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Pause(command) => command.run(),
        Command::Resume(command) => command.run(),
        Command::Budget(command) => command.run(),
        Command::Forget(command) => command.run(),
        Command::Adapter(command) => adapter::run(command),
        Command::Model(command) => model::run(command),
    };
    done.map(|()| 0)
}

/// Begins to log to standard error: what `RUST_LOG` says, or what owners want to know.
fn log(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    if json { log.json().init() } else { log.init() }
}

/// Prints an error and its causes, one line each, to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut stderr = std::io::stderr().lock();
    // If standard error is closed there is nobody left to tell; the exit code still says it.
    let _ = writeln!(stderr, "error: {}", causes.join("\n  because: "));
}

/// Prints a result to standard output.
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(())
}
