//! What is known of a run over the network, measured from outside its processes. Must never hold what a process would have to
//! say of itself for it.

use serde::{Deserialize, Serialize};

/// The processes of a run, and what they used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// The coordinator's process.
    pub coordinator: Used,
    /// Processes that are one client each.
    pub client_processes: Used,
    /// Processes that are many clients each.
    pub fleet_processes: Used,
    /// Bytes through the loopback while the clients ran, those of any other program included; null where the operating system
    /// does not say.
    pub loopback_bytes: Option<u64>,
}

/// What processes of one kind used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// How many there were.
    pub processes: u32,
    /// Clients in all of them.
    pub clients: u32,
    /// The most memory that one of them had at once, in bytes.
    pub peak_rss_bytes: u64,
    /// Time on processors, of all of them.
    pub cpu_seconds: f64,
}

impl NetworkReport {
    /// What was run, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { client_processes: alone, fleet_processes: together, .. } = self;
        format!(
            "This run was over the network: one coordinator process, {} processes of one client each and {} clients in {} more \
             processes, all speaking TLS over the loopback.",
            alone.processes, together.clients, together.processes
        )
    }
}
