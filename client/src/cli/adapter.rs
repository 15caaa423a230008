//! `tacit-client adapter`: list, show, rollback, follow, export.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tacit_aggregation::params::TaskName;
use tacit_client::adapters::{AdapterFolder, Base};
use tacit_model::storage::save_adapter;
use tacit_model::{BaseModel, Compute};
use tacit_proto::Manifest;

use super::say;

#[derive(Debug, Subcommand)]
pub(crate) enum AdapterCommand {
    /// Every task and its installed version
    List(List),
    /// Where a version comes from
    Show(Show),
    /// Go back to the version before, and stay there
    Rollback(Change),
    /// Follow the coordinator's channel again after a rollback
    Follow(Change),
    /// Check a version and copy it into a folder, in the PEFT layout
    Export(Export),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The client's folder
    #[arg(long)]
    home: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The client's folder
    #[arg(long)]
    home: PathBuf,
    /// The task
    task: String,
    /// Another version than the installed one
    #[arg(long)]
    version: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// The client's folder
    #[arg(long)]
    home: PathBuf,
    /// The task
    task: String,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The client's folder
    #[arg(long)]
    home: PathBuf,
    /// The task
    task: String,
    /// Another version than the installed one
    #[arg(long)]
    version: Option<u64>,
    /// Folder of the base model that it is for
    #[arg(long, default_value = "models/tacit-base")]
    model: PathBuf,
    /// Folder to write `adapter_config.json` and `adapter_model.safetensors` to; it must not exist
    #[arg(long)]
    out: PathBuf,
}

pub(crate) fn run(command: AdapterCommand) -> anyhow::Result<()> {
    match command {
        AdapterCommand::List(arguments) => arguments.run(),
        AdapterCommand::Show(arguments) => arguments.run(),
        AdapterCommand::Rollback(arguments) => {
            let version = arguments.folder()?.rollback()?;
            say(&format!(
                "task {} is back at version {version}, until `tacit-client adapter follow`",
                arguments.task
            ))
        }
        AdapterCommand::Follow(arguments) => {
            arguments.folder()?.unpin()?;
            say(&format!("task {} follows its channel again", arguments.task))
        }
        AdapterCommand::Export(arguments) => arguments.run(),
    }
}

/// The folder of a task that has one.
fn open(home: &Path, task: &str) -> anyhow::Result<AdapterFolder> {
    let task = TaskName::new(task)?;
    if !AdapterFolder::tasks(home)?.contains(&task) {
        bail!(
            "{} has no adapter of task {task}; `tacit-client adapter list` names those that it has",
            home.display()
        );
    }
    Ok(AdapterFolder::open(home, &task)?)
}

/// A version that was asked for, or the installed one.
fn chosen(folder: &AdapterFolder, version: Option<u64>) -> anyhow::Result<u64> {
    let version =
        version.map_or_else(|| Ok(folder.record()?.current), |version| anyhow::Ok(Some(version)))?;
    version.with_context(|| format!("no version of task {} is installed yet", folder.task()))
}

impl Change {
    fn folder(&self) -> anyhow::Result<AdapterFolder> {
        open(&self.home, &self.task)
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for task in AdapterFolder::tasks(&self.home)? {
            let folder = AdapterFolder::open(&self.home, &task)?;
            rows.push((folder.record()?, folder.versions()?, task));
        }
        if self.json {
            let rows = rows.iter().map(|(record, versions, task)| {
                serde_json::json!({
                    "task": task.as_str(),
                    "installed": record.current,
                    "previous": record.previous,
                    "pinned": record.pinned,
                    "versions": versions,
                })
            });
            let rows: Vec<_> = rows.collect();
            return say(&serde_json::to_string(&serde_json::json!({ "adapters": rows }))?);
        }
        if rows.is_empty() {
            return say("no adapter is installed");
        }
        for (record, versions, task) in rows {
            let installed = record.current.map_or_else(|| "none".to_owned(), |version| version.to_string());
            let here: Vec<String> = versions.iter().map(ToString::to_string).collect();
            let pinned = if record.pinned { ", stays there" } else { "" };
            say(&format!("{task}: version {installed}{pinned}; here: {}", here.join(", ")))?;
        }
        Ok(())
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let folder = open(&self.home, &self.task)?;
        let version = chosen(&folder, self.version)?;
        let signed = folder.manifest(version)?;
        let manifest = signed.claimed();
        let path = folder.version_folder(version);
        if self.json {
            let mut shown = describe(manifest);
            shown["folder"] = path.display().to_string().into();
            return say(&serde_json::to_string(&shown)?);
        }
        say(&format!("task {}, version {version}, in {}", manifest.task, path.display()))?;
        say(&format!("adapter    {}", hex::encode(manifest.adapter)))?;
        say(&format!("parent     {}", hex::encode(manifest.parent)))?;
        say(&format!("base model {}", hex::encode(manifest.base_model)))?;
        match &manifest.origin {
            Some(origin) => say(&format!(
                "round {}, plan {}, ledger entry {} ({})",
                origin.round,
                hex::encode(origin.plan),
                origin.entry,
                hex::encode(origin.entry_hash)
            )),
            None => say("the first version, which changes nothing"),
        }
    }
}

fn describe(manifest: &Manifest) -> serde_json::Value {
    let origin = manifest.origin.map(|origin| {
        serde_json::json!({
            "round": origin.round,
            "plan": hex::encode(origin.plan),
            "ledger_entry": origin.entry,
            "ledger_entry_hash": hex::encode(origin.entry_hash),
        })
    });
    serde_json::json!({
        "task": manifest.task.as_str(),
        "channel": manifest.channel.name(),
        "serial": manifest.serial,
        "version": manifest.version,
        "adapter": hex::encode(manifest.adapter),
        "parent": hex::encode(manifest.parent),
        "base_model": hex::encode(manifest.base_model),
        "origin": origin,
        "created_ms": manifest.created,
        "coordinator": hex::encode(manifest.coordinator.0),
    })
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let folder = open(&self.home, &self.task)?;
        let version = chosen(&folder, self.version)?;
        if self.out.exists() {
            bail!("{} exists: choose another folder", self.out.display());
        }
        let model = BaseModel::load(&self.model, &Compute::Cpu.open()?)?;
        let base = Base { digest: model.digest(), config: model.decoder().config() };
        // Whom to trust was settled when it was installed; what is checked here is that it is still what it was then.
        let coordinator = folder.manifest(version)?.claimed().coordinator;
        let (_, adapter) = folder.load(version, &coordinator, &base)?;
        save_adapter(&adapter, base.config, &model.name(), &self.out)?;
        say(&format!("version {version} of task {} is in {}", self.task, self.out.display()))
    }
}
