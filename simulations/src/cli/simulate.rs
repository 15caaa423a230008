//! `tacit-sim run`: checks the output folder, simulates, shows and writes.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tacit_model::{BaseModel, Compute};
use tacit_simulations::corpus::{CorpusSource, find_lock};
use tacit_simulations::output::OutputFolder;
use tacit_simulations::workers::MAX_THREADS;
use tacit_simulations::{Finished, RunOptions, Scenario, simulate};

use super::bars::Bars;
use super::{say, table};

/// Who the developers are and how many threads play them.
#[derive(Debug, Args)]
pub(crate) struct Fleet {
    /// Take the fleet's code from this folder: one folder inside for each developer, any language
    #[arg(long, value_name = "DIR", conflicts_with = "lock")]
    corpus: Option<PathBuf>,
    /// Take the crates of this Cargo.lock, as cargo downloaded them [default: the nearest one from here upwards]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Worker threads; the result does not depend on them [default: one for each core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS as i64))]
    threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The scenario, a TOML file
    scenario: PathBuf,
    /// Seed of everything random, in place of the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Write report.json, report.html and adapter/ into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summary as one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Sum without masks: the same arithmetic and the same adapter, sooner. Nobody drops out while confirming or unmasking, so
    /// a round may be released that would abort with masks
    #[arg(long)]
    plain: bool,
    /// Also run the same fleet without privacy, and central training on the pooled code
    #[arg(long)]
    compare: bool,
    #[command(flatten)]
    fleet: Fleet,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut scenario = Scenario::load(&self.scenario)?;
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        // Before any work: nobody wants to hear after ten minutes that nothing can be written.
        let out = self.out.as_deref().map(OutputFolder::prepare).transpose()?;
        let model = BaseModel::load(&scenario.model, &Compute::Cpu.open()?)
            .with_context(|| format!("the base model in {} cannot be used", scenario.model.display()))?;
        let options = RunOptions {
            source: self.fleet.source()?,
            threads: self.fleet.threads(),
            plain: self.plain,
            compare: self.compare,
        };
        let bars = Bars::new()?;
        let Finished { report, adapter } = simulate(&scenario, &model, &options, &bars)?;
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

impl Fleet {
    pub(super) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }

    pub(super) fn source(&self) -> anyhow::Result<CorpusSource> {
        if let Some(folder) = &self.corpus {
            return Ok(CorpusSource::Folder(folder.clone()));
        }
        let lock = match &self.lock {
            Some(lock) => lock.clone(),
            None => find_lock(&std::env::current_dir()?).context(
                "no Cargo.lock here or in any folder above: run inside a Rust workspace, or give --lock FILE or --corpus DIR",
            )?,
        };
        Ok(CorpusSource::Cargo { lock, cargo_home: cargo_home()? })
    }
}

/// Where cargo keeps what it downloaded.
fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    home.or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("neither CARGO_HOME nor a home folder is set: set CARGO_HOME, or give --corpus DIR")
}
