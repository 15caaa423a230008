//! The command line of `tacit-sim`; parses, shows and writes, decides nothing.

mod bars;
mod bench_secagg;
mod demo;
mod load;
mod plan;
mod simulate;
mod sweep;
mod table;
mod utility;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tacit_simulations::network;
use tacit_simulations::output::write_whole;
use tacit_simulations::report::{Report, html};

/// Simulate a fleet of developers that learns from code it never shows.
///
/// Every developer of the corpus becomes a client with keys and a privacy budget of its own; rounds run through the protocol that
/// production runs, in one process and in virtual time, or over the network.
#[derive(Debug, Parser)]
#[command(name = "tacit-sim", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario in this process
    Run(simulate::Run),
    /// Run a scenario over the network: one coordinator and many clients, in processes of their own
    Demo(demo::Demo),
    /// Many clients in one process, as `demo` starts them; ends with its standard input
    #[command(hide = true)]
    Fleet(demo::Together),
    /// Ends the processes of a `demo` that was killed
    #[command(hide = true)]
    Guard {
        /// The folder to remove
        folder: Option<PathBuf>,
    },
    /// Run a scenario again and again with one value changed at a time
    Sweep(sweep::Sweep),
    /// Render the page of a report again
    Report(Render),
    /// Choose the parameters of one round: graph, thresholds, encoding, noise, cost
    Plan(plan::Plan),
    /// Measure a round of secure aggregation
    BenchSecagg(bench_secagg::BenchSecagg),
    /// Measure a coordinator process with a fleet over TLS on this machine
    Load(load::Load),
    /// Measure what privacy costs in accuracy, beside central noise at equal epsilon
    Utility(utility::Utility),
}

#[derive(Debug, Args)]
struct Render {
    /// A `report.json` of an earlier run
    report: PathBuf,
    /// The page to write
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
}

/// Runs the chosen command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Run(run) => run.run(),
        Command::Demo(demo) => demo.run(),
        Command::Fleet(together) => together.run(),
        Command::Guard { folder } => {
            network::guard::serve(folder.as_deref());
            Ok(())
        }
        Command::Sweep(sweep) => sweep.run(),
        Command::BenchSecagg(bench) => bench.run(),
        Command::Load(load) => load.run(),
        Command::Report(Render { report, out }) => {
            Ok(write_whole(&out, &html::render(&Report::load(&report)?))?)
        }
        Command::Plan(plan) => plan.run(),
        Command::Utility(utility) => utility.run(),
    }
}

/// The answer is no, and standard output has said so: nothing is left to complain about, but the exit code must tell.
#[derive(Debug, thiserror::Error)]
#[error("the reason is on standard output")]
struct Answered;

/// Prints an error and its causes, one line each, to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    if error.is::<Answered>() {
        return;
    }
    let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // An error that only passes its cause on would say the same twice.
    causes.dedup_by(|later, earlier| earlier.contains(later.as_str()));
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
