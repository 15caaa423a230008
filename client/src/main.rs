//! The `tacit-client` command: the client that runs unattended, and its tools.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

// Training allocates and frees tensors of megabytes thousands of times a second; the system's allocator hands each back
// to the kernel and faults it in again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
