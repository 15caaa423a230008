//! Progress on a terminal: one bar for the work at hand, lines above it. Must never write to standard output.

use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tacit_simulations::progress::Progress;

/// A bar on standard error; without a terminal there, lines alone.
pub(super) struct Bars {
    bar: ProgressBar,
    started: ProgressStyle,
}

impl Bars {
    pub(super) fn new() -> anyhow::Result<Self> {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let started = ProgressStyle::with_template("{msg:32} {bar:36} {pos:>4}/{len} {elapsed}")?;
        Ok(Self { bar, started })
    }
}

impl Progress for Bars {
    fn begin(&self, label: &str, total: usize) {
        self.bar.set_style(self.started.clone());
        self.bar.reset();
        self.bar.set_length(total as u64);
        self.bar.set_message(label.to_owned());
        self.bar.tick();
    }

    fn advance(&self) {
        self.bar.inc(1);
    }

    fn end(&self) {
        self.bar.set_message("");
        self.bar.set_length(0);
        self.bar.set_position(0);
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            // If standard error is closed there is nobody who reads.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
