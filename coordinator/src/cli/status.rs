//! `tacit-coordinator status`.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use tacit_proto::admin::Order;

use super::admin::print;
use super::remote::Remote;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again and again, until interrupted
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    #[command(flatten)]
    remote: Remote,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut seen = false;
        loop {
            if self.watch && !self.remote.json {
                // Clears the screen, and writes from its top.
                write!(std::io::stdout().lock(), "\x1b[2J\x1b[H")?;
            }
            match self.remote.carry(Order::Status) {
                Ok(answer) => print(&self.remote, &answer)?,
                // Whoever watches wants to see it come back.
                Err(error) if seen => super::complain(&error),
                Err(error) => return Err(error),
            }
            if !self.watch {
                return Ok(());
            }
            seen = true;
            std::thread::sleep(Duration::from_secs(self.every));
        }
    }
}
