//! Wall-clock time by phase and peak memory: the only place that reads the machine's clock.
//! Must never influence a result: rounds run in virtual time.

use std::collections::BTreeMap;
use std::time::Instant;

/// Seconds by phase; a phase that is measured twice adds up.
#[derive(Debug, Default)]
pub struct Meter {
    seconds: BTreeMap<String, f64>,
}

/// A running clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

impl Meter {
    /// Runs `work` and adds its time to `phase`.
    pub fn measure<T>(&mut self, phase: &str, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let result = work();
        *self.seconds.entry(phase.to_owned()).or_default() += watch.seconds();
        result
    }

    /// Seconds of a phase so far.
    #[must_use]
    pub fn of(&self, phase: &str) -> f64 {
        self.seconds.get(phase).copied().unwrap_or(0.0)
    }

    /// All phases.
    #[must_use]
    pub fn into_seconds(self) -> BTreeMap<String, f64> {
        self.seconds
    }
}

/// The most memory that this process ever held in bytes; none where the operating system does not say.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The same of a process's `status` file.
pub(crate) fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up() {
        let mut meter = Meter::default();
        let wait = || std::thread::sleep(std::time::Duration::from_millis(2));
        meter.measure("train", wait);
        meter.measure("train", wait);
        assert_eq!(meter.measure("share", || 7), 7);
        assert!(meter.of("train") >= 0.004 && meter.of("nothing") == 0.0);
        assert_eq!(meter.into_seconds().into_keys().collect::<Vec<_>>(), ["share", "train"]);
    }

    #[test]
    fn peak_memory_is_read_in_bytes() {
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t   1234 kB\nVmRSS:\t 1 kB\n"), Some(1234 * 1024));
        assert_eq!(peak_of("Name:\tx\n"), None);
        if cfg!(target_os = "linux") {
            assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
