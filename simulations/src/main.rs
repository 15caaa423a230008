//! The `tacit-sim` command: fleets in one process, or in several on one machine.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

// Training allocates and frees tensors of megabytes thousands of times a second; the system's allocator hands each back
// to the kernel and faults it in again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Wrong usage ends here, with clap's own message and exit code 2.
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
