//! What the engine counts, for Prometheus. Must never name a client.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of a histogram of seconds: from a tenth of a millisecond to about 13 seconds.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 18))
}

/// A task, and how its round ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    task: String,
    outcome: String,
}

/// What the engine counts.
#[derive(Clone, Debug)]
pub struct Figures(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    commands: Counter,
    commits: Histogram,
    rounds: Family<Ended, Counter>,
}

impl Default for Figures {
    fn default() -> Self {
        let (commands, rounds) = (Counter::default(), Family::default());
        Self(Arc::new(Counts { commands, commits: seconds(), rounds }))
    }
}

impl Figures {
    /// Shows them in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Counts { commands, commits, rounds } = self.0.as_ref();
        registry.register("commands", "Commands that the engine has taken", commands.clone());
        let help = "Time that one durable write of the engine took";
        registry.register_with_unit("commit", help, Unit::Seconds, commits.clone());
        registry.register("rounds_ended", "Rounds that have ended since the start", rounds.clone());
    }

    pub(super) fn command(&self) {
        self.0.commands.inc();
    }

    pub(super) fn commit(&self, took: Duration) {
        self.0.commits.observe(took.as_secs_f64());
    }

    pub(super) fn round_ended(&self, task: &str, committed: bool) {
        let outcome = if committed { "committed" } else { "failed" };
        let labels = Ended { task: task.to_owned(), outcome: outcome.to_owned() };
        self.0.rounds.get_or_create(&labels).inc();
    }
}
