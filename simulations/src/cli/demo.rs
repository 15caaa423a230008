//! `tacit-sim demo` and the processes of clients that it starts: checks the output folder, runs, shows and writes.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tacit_model::{BaseModel, Compute};
use tacit_simulations::network::{self, FEWEST_ALONE, NetworkOptions};
use tacit_simulations::output::OutputFolder;
use tacit_simulations::{Finished, Scenario};

use super::bars::Bars;
use super::simulate::Fleet;
use super::{say, table};

/// Most processes of one kind.
const MOST: i64 = 64;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The scenario, a TOML file; its seed and its drop-outs are of simulations only
    scenario: PathBuf,
    /// Write report.json, report.html and adapter/ into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summary as one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Processes that are one client each, `tacit-client run`
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(i64::from(FEWEST_ALONE)..=MOST))]
    clients: u32,
    /// Processes that share all other clients [default: one for each two threads]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST))]
    fleets: Option<u32>,
    /// Keep everything that the processes write in this folder, and leave it there [default: a temporary folder, removed in the
    /// end]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    #[command(flatten)]
    fleet: Fleet,
}

/// A process of many clients.
#[derive(Debug, Args)]
pub(crate) struct Together {
    /// The folder of the clients' folders
    folder: PathBuf,
    /// Clients that train at once
    #[arg(long, default_value = "1")]
    at_once: NonZeroUsize,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let scenario = Scenario::load(&self.scenario)?;
        let out = self.out.as_deref().map(OutputFolder::prepare).transpose()?;
        let model = BaseModel::load(&scenario.model, &Compute::Cpu.open()?)
            .with_context(|| format!("the base model in {} cannot be used", scenario.model.display()))?;
        let threads = self.fleet.threads();
        let options = NetworkOptions {
            source: self.fleet.source()?,
            threads,
            alone: self.clients,
            fleets: self.fleets.unwrap_or_else(|| u32::try_from(threads.div_ceil(2)).unwrap_or(1)),
            work: self.work,
        };
        let model = Arc::new(model);
        let bars = Bars::new()?;
        let Finished { report, adapter } = network::run(&scenario, Arc::clone(&model), &options, &bars)?;
        drop(bars);
        if let Some(out) = out {
            out.publish(&report, &adapter, model.decoder().config())?;
        }
        if self.json {
            return say(&serde_json::to_string(&report.summary)?);
        }
        say(table::render(&report).trim_end())
    }
}

impl Together {
    pub(super) fn run(self) -> anyhow::Result<()> {
        Ok(network::fleet::serve(&self.folder, self.at_once)?)
    }
}
