//! `tacit-sim bench-secagg`: one round of secure aggregation, measured; shows what it cost.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use tacit_aggregation::params::ThreatModel;
use tacit_privacy::BasisPoints;
use tacit_simulations::bench_secagg::{DropAfter, SecaggReport, Settings, bench_secagg};

use super::bars::Bars;
use super::say;

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct BenchSecagg {
    /// Clients in the cohort, 3 to 16384
    #[arg(long, value_name = "N")]
    clients: u32,
    /// Coordinates of each client's vector
    #[arg(long, value_name = "D")]
    dimension: u32,
    /// Bits of the ring, 1 to 32: vectors are summed mod 2^B
    #[arg(long, value_name = "B", default_value_t = 16)]
    bits: u8,
    /// Fraction of the clients that drops out, a decimal of at most four digits
    #[arg(long, value_name = "P", default_value = "0")]
    dropout: BasisPoints,
    /// When they drop out: after they shared their secrets, or after they uploaded their vectors
    #[arg(long, value_enum, default_value_t = Leave::Share)]
    drop_after: Leave,
    /// Fraction of the clients assumed to collude with the server, a decimal of at most four digits
    #[arg(long, value_name = "GAMMA", default_value = "0.05")]
    corrupt: BasisPoints,
    /// What the server may do
    #[arg(long, value_enum, default_value_t = Threat::SemiMalicious)]
    threat: Threat,
    /// Neighbours of each client [default: as few as the other settings allow]. A larger even number is reached by assuming
    /// more colluders
    #[arg(long, value_name = "K")]
    degree: Option<u32>,
    /// Seed of keys, vectors and drop-outs
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Print the figures as one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Leave {
    Share,
    Collect,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Threat {
    SemiMalicious,
    HonestButCurious,
}

impl BenchSecagg {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let settings = Settings {
            clients: self.clients,
            dimension: self.dimension,
            bits: self.bits,
            dropout: self.dropout,
            drop_after: match self.drop_after {
                Leave::Share => DropAfter::Share,
                Leave::Collect => DropAfter::Collect,
            },
            corrupt: self.corrupt,
            threat: match self.threat {
                Threat::SemiMalicious => ThreatModel::SemiMalicious,
                Threat::HonestButCurious => ThreatModel::HonestButCurious,
            },
            degree: self.degree,
            seed: self.seed,
        };
        let bars = Bars::new()?;
        let report = bench_secagg(&settings, &bars)?;
        drop(bars);
        if self.json {
            say(&serde_json::to_string(&report)?)?
        } else {
            say(table(&report).trim_end())?
        }
        anyhow::ensure!(
            report.exact,
            "the unmasked sum is not the plain sum of the survivors' vectors: the protocol is broken, please report these settings"
        );
        Ok(())
    }
}

/// The figures for people.
fn table(report: &SecaggReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} clients, {} x {} bits, {} with {} colluding: degree {}, threshold {}",
        report.clients,
        report.dimension,
        report.bits,
        report.threat,
        report.corrupt,
        report.degree,
        report.threshold
    );
    let _ = writeln!(
        text,
        "{} dropped out, {} vectors in the sum, which is {}\n",
        report.dropped,
        report.survivors,
        if report.exact { "exact" } else { "WRONG" }
    );
    let _ = writeln!(text, "phase      client, ms   server, ms      bytes up    bytes down");
    for phase in ["advertise", "share", "collect", "confirm", "unmask"] {
        let milliseconds =
            |seconds: &BTreeMap<&'static str, f64>| seconds.get(phase).map_or(0.0, |s| s * 1e3);
        let bytes = |bytes: &BTreeMap<&'static str, u64>| bytes.get(phase).copied().unwrap_or(0);
        let _ = writeln!(
            text,
            "{phase:<9} {:>11.2}  {:>11.1}  {:>12}  {:>12}",
            milliseconds(&report.client_seconds),
            milliseconds(&report.server_seconds),
            bytes(&report.client_bytes_up_by_phase),
            bytes(&report.client_bytes_down_by_phase)
        );
    }
    let total = |seconds: &BTreeMap<&'static str, f64>| {
        seconds.iter().filter(|(phase, _)| **phase != "mask").map(|(_, s)| s * 1e3).sum::<f64>()
    };
    let _ = writeln!(
        text,
        "all       {:>11.2}  {:>11.1}  {:>12}  {:>12}",
        total(&report.client_seconds),
        total(&report.server_seconds),
        report.client_bytes_up,
        report.client_bytes_down
    );
    let _ = writeln!(
        text,
        "\nclient: mean of {} clients, one thread each; masks take {:.2} ms of collect",
        report.clients_measured,
        report.client_seconds.get("mask").map_or(0.0, |seconds| seconds * 1e3)
    );
    if let Some(bytes) = report.peak_rss_bytes {
        let _ = writeln!(text, "peak memory of the process, all clients included: {} MiB", bytes >> 20);
    }
    text
}
