//! `tacit-sim load`: a coordinator process and a fleet over TLS on the loopback, measured; shows what they cost.

use std::fmt::Write as _;

use clap::Args;
use tacit_simulations::load::run::{LoadReport, Settings, run};

use super::bars::Bars;
use super::say;

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Clients of the fleet, all of them in every round, 4 to 10000
    #[arg(long, value_name = "N")]
    clients: u32,
    /// Coordinates of each client's update
    #[arg(long, value_name = "D")]
    dimension: u32,
    /// Rounds, one after the other
    #[arg(long, value_name = "R", default_value_t = 1)]
    rounds: u32,
    /// Other clients in the coordinator's store
    #[arg(long, value_name = "R", default_value_t = 0)]
    registered: u64,
    /// Check-ins a second, before the first round
    #[arg(long, value_name = "Q")]
    rate: Option<u32>,
    /// Seconds for which they come
    #[arg(long, value_name = "S", default_value_t = 10)]
    rate_seconds: u32,
    /// Seed of keys and updates
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Print the figures as one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let settings = Settings {
            clients: self.clients,
            dimension: self.dimension,
            rounds: self.rounds,
            registered: self.registered,
            rate: self.rate,
            rate_seconds: self.rate_seconds,
            seed: self.seed,
        };
        let bars = Bars::new()?;
        let report = run(&settings, &bars)?;
        drop(bars);
        if self.json {
            say(&serde_json::to_string(&report)?)?
        } else {
            say(table(&report).trim_end())?
        }
        anyhow::ensure!(
            report.exact,
            "a round released something else than its survivors' contributions give"
        );
        Ok(())
    }
}

fn table(report: &LoadReport) -> String {
    let mut text = String::new();
    let exact = if report.exact { "exact" } else { "NOT exact" };
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:28} {value}");
    };
    line("clients", format!("{}, of {} registered", report.clients, report.registered));
    line("coordinates", format!("{}, {} bytes masked", report.dimension, report.vector_bytes));
    line("rounds", format!("{}, {exact}, {:.1} s", report.rounds, report.wall_seconds));
    for step in ["advertise", "share", "collect", "confirm", "unmask"] {
        let seconds = report.phase_seconds.get(step).copied().unwrap_or_default();
        line(&format!("  {step}"), format!("{seconds:.2} s"));
    }
    let megabytes = |rate: f64| rate / 1e6;
    line("uploads", format!("{:.1} MB/s", megabytes(report.upload_bytes_per_second)));
    line("bare stream", format!("{:.1} MB/s", megabytes(report.bare_stream_bytes_per_second)));
    line("unary calls", format!("half within {:.1} ms, 99% within {:.1} ms", report.p50_ms, report.p99_ms));
    if let Some(rated) = &report.check_ins {
        let per_second = rated.per_second;
        line(
            &format!("check-ins at {per_second:.0} a second"),
            format!("half within {:.1} ms, 99% within {:.1} ms", rated.p50_ms, rated.p99_ms),
        );
    }
    line(
        "calls told to come back",
        format!("{}, {} failed otherwise", report.turned_away, report.failed_calls),
    );
    line("coordinator's memory", format!("{:.1} MB at most", report.coordinator_peak_rss_bytes as f64 / 1e6));
    line("coordinator's processors", format!("{:.1} s", report.coordinator_cpu_seconds));
    text
}
