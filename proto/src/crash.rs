//! A testing aid for both sides: stops the process dead at a chosen kill point, as a power cut would. Must do nothing unless the
//! environment asks for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that holds the number of the kill point, from 1, counted since the process began.
pub const VARIABLE: &str = "TACIT_KILL_AT";

static PASSED: AtomicU64 = AtomicU64::new(0);
static KILL_AT: OnceLock<Option<u64>> = OnceLock::new();

/// A kill point: something has become durable of which nobody has been told yet, or is about to.
pub fn kill_point() {
    let kill_at = KILL_AT.get_or_init(|| std::env::var(VARIABLE).ok()?.parse().ok());
    let Some(kill_at) = *kill_at else { return };
    if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == kill_at {
        // No destructor runs, and nothing is flushed.
        std::process::abort();
    }
}
