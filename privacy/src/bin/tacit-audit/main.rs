//! `tacit-audit`: verify offline what privacy was spent. Must never trust the machine that it audits.

mod calibrate;
mod cli;
mod epsilon;
mod failure;
mod output;
mod release;
mod spec;
mod step;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Wrong usage that clap can see ends here, with its message and exit code 2.
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
