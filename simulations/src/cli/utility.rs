//! `tacit-sim utility`: measures the error of decoded means and writes figures and tables.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tacit_privacy::BasisPoints;
use tacit_simulations::output::write_whole;
use tacit_simulations::utility::figures::figures;
use tacit_simulations::utility::table::{allowances_csv, points_csv, summary};
use tacit_simulations::utility::{Settings, utility};

use super::bars::Bars;
use super::say;

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Utility {
    /// Write figures (SVG) and tables (CSV) into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print everything as one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Bits per coordinate
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "12,14,16,18")]
    bits: Vec<u32>,
    /// Coordinates of an update
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1024,8192,65536,524288")]
    dimensions: Vec<usize>,
    /// Cohort sizes
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10,30,100,300,1000")]
    clients: Vec<u32>,
    /// Noise multipliers
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,4")]
    noise_multipliers: Vec<f64>,
    /// The probability at which epsilons are compared
    #[arg(long, value_name = "P", default_value_t = 1e-5, allow_hyphen_values = true)]
    delta: f64,
    /// Fractions of the cohort that are assumed to collude, and to drop out
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0,0.05,0.1,0.15,0.2,0.25,0.3")]
    fractions: Vec<BasisPoints>,
    /// Cohort size of the cohorts with such an allowance
    #[arg(long, value_name = "N", default_value_t = 100)]
    allowance_clients: u32,
    /// Coordinates of the cohorts with such an allowance
    #[arg(long, value_name = "D", default_value_t = 8192)]
    allowance_dimension: usize,
    /// Decoded coordinates over which an error is measured, at least
    #[arg(long, value_name = "COUNT", default_value_t = 1 << 15)]
    coordinates: u64,
    /// Coordinates of all updates of a round together, up to which a cohort is measured; theory alone speaks of larger ones
    #[arg(long, value_name = "COUNT", default_value_t = 1 << 25)]
    largest: u64,
    /// Seed of updates, rotations and noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Utility {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(out) = &self.out {
            std::fs::create_dir_all(out).with_context(|| format!("{} cannot be created", out.display()))?;
        }
        let settings = Settings {
            bits: self.bits,
            dimensions: self.dimensions,
            clients: self.clients,
            noise_multipliers: self.noise_multipliers,
            delta: self.delta,
            fractions: self.fractions,
            allowance_clients: self.allowance_clients,
            allowance_dimension: self.allowance_dimension,
            coordinates: self.coordinates,
            largest: self.largest,
            seed: self.seed,
        };
        let bars = Bars::new()?;
        let evidence = utility(&settings, &bars)?;
        drop(bars);
        if let Some(out) = &self.out {
            for (name, svg) in figures(&evidence) {
                write_whole(&out.join(name), &svg)?;
            }
            write_whole(&out.join("points.csv"), &points_csv(&evidence))?;
            write_whole(&out.join("allowances.csv"), &allowances_csv(&evidence))?;
        }
        if self.json { say(&serde_json::to_string(&evidence)?) } else { say(summary(&evidence).trim_end()) }
    }
}
