//! A process that ends the others of a run whose own process was killed and could not. Must never signal a process that was not
//! started by the run: it holds on to each while that runs, so that a number used again means nothing to it.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::NetworkError;
use crate::process::{Process, program};

/// The guard, as the run sees it. When this is dropped, or the process is gone, the guard does its work and ends.
pub(super) struct Guard {
    orders: Option<ChildStdin>,
    // Dropped after its input, and only then waited for.
    process: Option<Process>,
}

impl Guard {
    /// Starts a guard that removes a folder in the end, if there is one.
    pub(super) fn start(folder: Option<&Path>, log: &Path) -> Result<Self, NetworkError> {
        let mut command = Command::new(program("tacit-sim")?);
        command.arg("guard").args(folder).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut process = Process::start(&mut command, log)?;
        Ok(Self { orders: process.input(), process: Some(process) })
    }

    /// Guards a process as well.
    pub(super) fn watch(&mut self, process: &Process) -> Result<(), NetworkError> {
        let Some(orders) = &mut self.orders else { return Ok(()) };
        let written = writeln!(orders, "{}", process.id());
        written.map_err(|source| NetworkError::System { what: "the guard's process", source })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(process) = self.process.take() {
            process.wait();
        }
    }
}

/// Hears of processes, one number on each line of standard input; at its end kills those that still run, and removes the folder.
pub fn serve(folder: Option<&Path>) {
    let numbers = std::io::stdin().lock().lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
    let watched: Vec<_> = numbers
        .filter_map(|number: i32| pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok())
        .collect();
    for process in watched {
        // Most have ended.
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
    if let Some(folder) = folder {
        // The run has removed it, if it could.
        let _ = fs::remove_dir_all(folder);
    }
}
