//! `tacit-coordinator doctor` and `restore`: data folders that nobody serves.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::json;
use tacit_coordinator::serve::{DataFolder, examine};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The data folder, or a backup; nobody may be serving it
    data: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let diagnosis = examine(&DataFolder::new(self.data))?;
        let lines = diagnosis.findings.iter().map(|finding| match &finding.problem {
            None => format!("good   {}: {}", finding.what, finding.found),
            Some(problem) => format!("WRONG  {}: {problem}", finding.what),
        });
        super::answer(self.json, &diagnosis, &lines.collect::<Vec<_>>().join("\n"))?;
        if !diagnosis.is_healthy() {
            bail!("something is wrong with this folder: restore a backup, or the files that are named");
        }
        Ok(())
    }
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A backup, as `backup` made it
    backup: PathBuf,
    /// The new data folder; it must not exist
    data: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let backup = DataFolder::new(self.backup);
        let diagnosis = examine(&backup)?;
        if let Some(finding) = diagnosis.findings.iter().find(|finding| finding.problem.is_some()) {
            bail!(
                "the backup is damaged: {}: {}",
                finding.what,
                finding.problem.as_deref().unwrap_or_default()
            );
        }
        backup.copy_to(&self.data)?;
        let folder = self.data.display();
        let text = format!(
            "Restored to {folder}: tacit-coordinator serve {folder}\nClients that have seen a later ledger than this one \
             refuse it, until the identity root has signed a restart: tacit-coordinator ledger head {folder}, and docs/operations.md."
        );
        super::answer(self.json, &json!({ "data": self.data }), &text)
    }
}
