//! The command line of `tacit-client`; parses and prints, decides nothing.

mod adapter;
mod model;

use std::io::Write;

use clap::{Parser, Subcommand};

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
    /// Base models: train one from nothing, complete code with one, measure one
    #[command(subcommand)]
    Model(model::ModelCommand),
}

/// Runs the chosen command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Adapter(command) => adapter::run(command),
        Command::Model(command) => model::run(command),
    }
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
