//! The command line of `tacit-audit`; parses and dispatches, computes nothing.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use tacit_privacy::Adjacency;

use crate::failure::Failure;
use crate::{calibrate, epsilon};

/// What does a private computation cost, and how much noise does a promise need?
///
/// Works offline: no network, no model, no trust in whoever ran the computation.
///
/// A mechanism that is (epsilon, delta) differentially private at the level of one client lets nobody who sees its
/// output tell much better than by guessing whether that client's update was in it: no event is more than e^epsilon times
/// as likely, but for a probability delta.
///
/// Exit codes: 0 the question is answered, 1 it cannot be (the reason is on standard error, or beside the empty answer), 2
/// it was asked wrongly.
#[derive(Debug, Parser)]
#[command(name = "tacit-audit", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The epsilon of noisy releases at a delta
    ///
    /// Two numbers are printed. The one by privacy loss distributions (PLD) is nearly exact; the one by Rényi divergences
    /// (RDP) is an upper bound. Both hold, so the smaller one counts. Where one does not exist, null and a reason stand in
    /// its place.
    Epsilon(epsilon::Epsilon),
    /// The least noise that keeps epsilon within a target
    ///
    /// Prints the noise multiplier, which is sigma over the sensitivity, rounded up by at most one part in a million: it
    /// keeps the target, a thousandth less does not.
    Calibrate(calibrate::Calibrate),
}

/// Runs the chosen command.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Epsilon(command) => command.run(),
        Command::Calibrate(command) => command.run(),
    }
}

/// Accepts the names of [`Adjacency`].
pub(crate) fn adjacency() -> impl TypedValueParser<Value = Adjacency> {
    PossibleValuesParser::new(["zero-out", "replace-one"]).map(|name| match name.as_str() {
        "replace-one" => Adjacency::ReplaceOne,
        _ => Adjacency::ZeroOut,
    })
}
