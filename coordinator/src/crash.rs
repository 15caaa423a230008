//! A testing aid: stops the process dead right after a chosen durable write, as a power cut would. Must do nothing unless the
//! environment asks for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that holds the number of the write, from 1.
pub const VARIABLE: &str = "TACIT_KILL_AT";

static WRITES: AtomicU64 = AtomicU64::new(0);
static KILL_AT: OnceLock<Option<u64>> = OnceLock::new();

/// Notes that something has become durable, of which nobody has been told yet.
pub fn durable_write() {
    let kill_at = KILL_AT.get_or_init(|| std::env::var(VARIABLE).ok()?.parse().ok());
    let Some(kill_at) = *kill_at else { return };
    if WRITES.fetch_add(1, Ordering::Relaxed) + 1 == kill_at {
        // No destructor runs, and nothing is flushed.
        std::process::abort();
    }
}
