//! `tacit-coordinator ledger head` and `ledger restart`: a ledger that was restored from a backup goes on.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tacit_coordinator::files::write_json;
use tacit_coordinator::identity::RestartForm;
use tacit_coordinator::serve::{DataFolder, restored_head, take_restart};

/// Arguments of `ledger head`.
#[derive(Debug, Args)]
pub(crate) struct LedgerHead {
    /// The data folder; nobody may be serving it
    data: PathBuf,
    /// File to write, for the identity root
    #[arg(long, default_value = "head.json")]
    out: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl LedgerHead {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let head = restored_head(&DataFolder::new(self.data), super::now()? * 1000)?;
        write_json(&self.out, &head)?;
        let (size, file) = (head.size, self.out.display());
        let text = format!("a ledger of {size} entries\nWritten for the identity root: {file}");
        super::answer(self.json, &json!({ "size": size, "file": self.out }), &text)
    }
}

/// Arguments of `ledger restart`.
#[derive(Debug, Args)]
pub(crate) struct LedgerRestart {
    /// The data folder; nobody may be serving it
    data: PathBuf,
    /// The file from the identity root
    restart: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl LedgerRestart {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.restart.display();
        let text = fs::read_to_string(&self.restart).with_context(|| format!("{path} cannot be read"))?;
        let form: RestartForm = serde_json::from_str(&text)
            .with_context(|| format!("{path} is not what `tacit-coordinator identity restart` wrote"))?;
        let restart = take_restart(&DataFolder::new(&self.data), form, super::now()? * 1000)?;
        let (number, size, first) = (restart.number, restart.size, restart.first_round());
        let text = format!(
            "restart {number}: the ledger goes on from {size} entries, and rounds from {first} on\nClients follow at their next \
             contact: tacit-coordinator serve {}",
            self.data.display()
        );
        super::answer(self.json, &json!({ "number": number, "size": size, "first_round": first }), &text)
    }
}
