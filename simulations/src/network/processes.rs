//! The processes of the clients. Must never outlive the run.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::grounds::{Grounds, Places};
use super::{NetworkError, NetworkOptions};
use crate::process::{Process, ProcessError, program};
use crate::report::network::{NetworkReport, Used};
use crate::site::Site;

/// How long clients may take to stop.
const LEAVE: Duration = Duration::from_secs(10);

/// The clients' processes, killed when this is dropped.
pub(super) struct Processes {
    alone: Vec<Process>,
    /// Each with the clients in it.
    fleets: Vec<(Process, u32)>,
}

impl Processes {
    /// Starts them all.
    pub(super) fn start(
        places: &Places,
        options: &NetworkOptions,
        grounds: &Grounds,
    ) -> Result<Self, NetworkError> {
        let (client, this) = (program("tacit-client")?, program("tacit-sim")?);
        let mut processes = Self {
            alone: Vec::with_capacity(places.alone.len()),
            fleets: Vec::with_capacity(places.fleets.len()),
        };
        let at_once = (options.threads / places.fleets.len().max(1)).max(1).to_string();
        for (number, (folder, clients)) in places.fleets.iter().enumerate() {
            let mut command = Command::new(&this);
            command.args(["fleet", "--at-once", &at_once]).arg(folder);
            // It ends when this pipe does, whatever becomes of this process.
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let process = Process::start(&mut command, &grounds.log(&format!("fleet-{number}")))?;
            processes.fleets.push((process, *clients));
        }
        for (number, home) in places.alone.iter().enumerate() {
            let mut command = Command::new(&client);
            command.args(["run", "--json", "--home"]).arg(home).stdin(Stdio::null()).stdout(Stdio::null());
            let process = Process::start(&mut command, &grounds.log(&format!("client-{number}")))?;
            processes.alone.push(process);
        }
        Ok(processes)
    }

    /// Each of them.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Process> {
        self.alone.iter_mut().chain(self.fleets.iter_mut().map(|(process, _)| process))
    }

    /// Whether all of them run.
    pub(super) fn check(&mut self) -> Result<(), NetworkError> {
        for process in self.all() {
            if process.has_ended()? {
                let what = "a process of clients".to_owned();
                return Err(NetworkError::Ended { what, log: process.last_words() });
            }
        }
        Ok(())
    }

    /// Notes what they and the coordinator have used, and stops them.
    pub(super) fn stop(mut self, site: &Site, loopback: Option<u64>) -> Result<NetworkReport, NetworkError> {
        let coordinator = used([Ok((site.usage()?, 0))].into_iter())?;
        let client_processes = used(self.alone.iter().map(|process| Ok((process.usage()?, 1))))?;
        let fleet_processes =
            used(self.fleets.iter().map(|(process, clients)| Ok((process.usage()?, *clients))))?;
        let loopback_bytes = loopback_bytes().zip(loopback).map(|(now, before)| now.saturating_sub(before));
        self.alone.iter().for_each(Process::tell_to_stop);
        // The end of its input is what a fleet stops at.
        self.fleets.iter_mut().for_each(|(process, _)| drop(process.input()));
        let until = Instant::now() + LEAVE;
        for process in self.alone.into_iter().chain(self.fleets.into_iter().map(|(process, _)| process)) {
            // One that does not listen is killed: there is nothing left that it could harm.
            let _ = process.end(until);
        }
        Ok(NetworkReport { coordinator, client_processes, fleet_processes, loopback_bytes })
    }
}

/// What some processes used together.
fn used(
    each: impl Iterator<Item = Result<(crate::process::Usage, u32), ProcessError>>,
) -> Result<Used, ProcessError> {
    each.into_iter().try_fold(Used::default(), |sum, one| {
        let (usage, clients) = one?;
        Ok(Used {
            processes: sum.processes + 1,
            clients: sum.clients + clients,
            peak_rss_bytes: sum.peak_rss_bytes.max(usage.peak_rss_bytes),
            cpu_seconds: sum.cpu_seconds + usage.cpu_seconds,
        })
    })
}

/// Bytes that the loopback has carried since it is there; none where the operating system does not say.
pub(super) fn loopback_bytes() -> Option<u64> {
    received(&fs::read_to_string("/proc/net/dev").ok()?)
}

/// Of a table of interfaces: the first figure after the loopback's name.
fn received(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Usage;

    #[test]
    fn the_loopbacks_bytes_are_read() {
        let table = "Inter-|   Receive\n face |bytes    packets\n  eth0: 5 6 7\n    lo: 1234 9 0 0\n";
        assert_eq!(received(table), Some(1234));
        assert_eq!(received("  eth0: 5 6 7\n"), None);
    }

    #[test]
    fn memory_is_of_the_largest_and_time_of_all() {
        let usage = |peak_rss_bytes, cpu_seconds| Usage { peak_rss_bytes, cpu_seconds };
        let sum = used([Ok((usage(5, 1.5), 1)), Ok((usage(3, 2.0), 7))].into_iter()).expect("both are there");
        assert_eq!(sum, Used { processes: 2, clients: 8, peak_rss_bytes: 5, cpu_seconds: 3.5 });
    }
}
