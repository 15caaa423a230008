//! What commands on a client's folder have in common. Must never make a folder where there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

/// Where the client lives.
#[derive(Debug, Args)]
pub(super) struct Home {
    /// The client's folder
    #[arg(long)]
    pub(super) home: PathBuf,
}

impl Home {
    pub(super) fn path(&self) -> &Path {
        &self.home
    }
}

/// How long ago a time is, or how far off, in words.
pub(super) fn ago(at: u64) -> String {
    let now = Duration::from_millis(tacit_client::daemon::now());
    let at = Duration::from_millis(at);
    match now.checked_sub(at) {
        Some(since) => format!("{} ago", span(since)),
        None => format!("in {}", span(at.saturating_sub(now))),
    }
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::span;
    use std::time::Duration;

    #[test]
    fn spans_are_in_the_unit_that_people_use() {
        for (seconds, text) in [(5, "5 s"), (150, "2 min"), (7_300, "2 h"), (864_000, "10 days")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
