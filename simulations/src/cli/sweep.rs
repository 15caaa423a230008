//! `tacit-sim sweep`: runs a scenario with one value changed at a time and draws what came of it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tacit_model::{BaseModel, Compute};
use tacit_simulations::RunOptions;
use tacit_simulations::output::write_whole;
use tacit_simulations::report::panel::panels;
use tacit_simulations::sweep::{Axis, Point, Template, sweep};

use super::bars::Bars;
use super::say;
use super::simulate::Fleet;

#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// The scenario, a TOML file
    scenario: PathBuf,
    /// A field and its values, such as `privacy.noise_multiplier=1.0,2.0`; may be given again, each field is varied alone
    #[arg(long, value_name = "FIELD=VALUES", required = true)]
    vary: Vec<String>,
    /// A field and one value for all runs, such as `rounds=3`; may be given again
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Write sweep.json and one sweep-FIELD.svg for each field into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the points as one JSON array on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    fleet: Fleet,
}

impl Sweep {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut template = Template::load(&self.scenario)?;
        for text in &self.set {
            let Axis { field, values } = Axis::parse(text)?;
            let [value] = <[toml::Value; 1]>::try_from(values)
                .ok()
                .with_context(|| format!("--set {text}: give one value; --vary takes several"))?;
            template.set(&field, value)?;
        }
        let axes = self.vary.iter().map(|text| Axis::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if let Some(out) = &self.out {
            std::fs::create_dir_all(out).with_context(|| format!("{} cannot be created", out.display()))?;
        }
        let model = BaseModel::load(&template.scenario()?.model, &Compute::Cpu.open()?)?;
        // Masks change no result, only the time it takes.
        let options = RunOptions {
            source: self.fleet.source()?,
            threads: self.fleet.threads(),
            plain: true,
            compare: false,
        };
        let bars = Bars::new()?;
        let quiet = self.json;
        let mut found = |point: &Point| {
            if !quiet {
                // A closed standard output ends the run at the final result.
                let _ = say(&line(point));
            }
        };
        let points = sweep(&template, &axes, &model, &options, &bars, &mut found)?;
        let json = serde_json::to_string_pretty(&points)?;
        if let Some(out) = &self.out {
            for (field, svg) in panels(&points) {
                write_whole(&out.join(format!("sweep-{field}.svg")), &svg)?;
            }
            write_whole(&out.join("sweep.json"), &(json.clone() + "\n"))?;
        }
        if self.json { say(&json) } else { Ok(()) }
    }
}

fn line(point: &Point) -> String {
    format!(
        "{} = {}: {:.4} -> {:.4} bits per byte, epsilon {:.2}, {} rounds, {:.0} s",
        point.field,
        point.value,
        point.heldout_start,
        point.heldout_private,
        point.epsilon,
        point.rounds_released,
        point.wall_seconds
    )
}
