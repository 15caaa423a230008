//! The output folder: proven writable before any work, and written so that a failure leaves nothing half-written.

use std::path::{Path, PathBuf};

use tacit_model::storage::save_adapter;
use tacit_model::{Adapter, DecoderConfig};

use crate::error::SimulationError;
use crate::report::{Report, html};

/// Names inside the folder.
const REPORT: &str = "report.json";
const PAGE: &str = "report.html";
const ADAPTER: &str = "adapter";

/// A folder that can be written. Dropped without [`OutputFolder::publish`], it is as it was before.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    /// Holds everything until it is complete; on the same file system, so that renaming is possible. Removed on drop.
    staging: tempfile::TempDir,
    /// Folders that did not exist before, innermost first.
    created: Vec<PathBuf>,
}

impl OutputFolder {
    /// Creates the folder where it is missing and proves that it can be written.
    ///
    /// # Errors
    /// [`SimulationError::Output`] with the operating system's reason.
    pub fn prepare(path: &Path) -> Result<Self, SimulationError> {
        let refuse = |source| SimulationError::Output { path: path.to_owned(), source };
        let missing =
            path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let created: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        let staged = std::fs::create_dir_all(path)
            .and_then(|()| tempfile::Builder::new().prefix(".partial-").tempdir_in(path))
            .and_then(|staging| {
                std::fs::write(staging.path().join(REPORT), b"{}")?;
                Ok(staging)
            });
        match staged {
            Ok(staging) => Ok(Self { path: path.to_owned(), staging, created }),
            Err(source) => {
                remove_empty(&created);
                Err(refuse(source))
            }
        }
    }

    /// Writes the report, the page and the adapter in the PEFT layout, replacing those of an earlier run.
    ///
    /// # Errors
    /// When a file cannot be written; then those of an earlier run are untouched, unless renaming itself fails.
    pub fn publish(
        mut self,
        report: &Report,
        adapter: &Adapter,
        model: &DecoderConfig,
    ) -> Result<(), SimulationError> {
        let staging = self.staging.path().to_owned();
        let write = |name: &str, text: String| {
            let path = staging.join(name);
            std::fs::write(&path, text).map_err(SimulationError::io(path))
        };
        write(REPORT, report.to_json()?)?;
        write(PAGE, html::render(report))?;
        save_adapter(adapter, model, &report.parameters.base_model_name, &staging.join(ADAPTER))?;
        self.created.clear();
        let target = self.path.join(ADAPTER);
        if target.exists() {
            // A folder cannot be renamed over another that is not empty.
            let old = staging.join("earlier-adapter");
            std::fs::rename(&target, old).map_err(SimulationError::io(&target))?;
        }
        for name in [ADAPTER, PAGE, REPORT] {
            let target = self.path.join(name);
            std::fs::rename(staging.join(name), &target).map_err(SimulationError::io(&target))?;
        }
        Ok(())
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        if !self.created.is_empty() {
            // The staging folder is inside and would keep its parents alive; failure only leaves an empty folder.
            let _ = std::fs::remove_dir_all(self.staging.path());
            remove_empty(&self.created);
        }
    }
}

fn remove_empty(folders: &[PathBuf]) {
    for folder in folders {
        // Fails, rightly, when somebody else has put something there in the meantime.
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

/// Writes one file whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, text: &str) -> Result<(), SimulationError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(SimulationError::io(path))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(SimulationError::io(path))?;
    // Temporary files are private to their owner; a report is for whoever may read the folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(SimulationError::io(path))?;
    }
    file.persist(path).map_err(|error| SimulationError::Io { path: path.to_owned(), source: error.error })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tacit_model::{LoraConfig, Projection};

    use super::*;
    use crate::report::tests::sample;

    fn adapter() -> (Adapter, DecoderConfig) {
        let model = DecoderConfig::new(300, 16, 1, 2, 1, 32);
        let config = LoraConfig { rank: 2, alpha: 4.0, targets: vec![Projection::Query], seed: 1 };
        (Adapter::zeros(config, &model).expect("fits"), model)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn everything_is_published_together_and_replaced_together() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("a/b");
        let (adapter, model) = adapter();
        for seed in [1, 2] {
            let mut report = sample();
            report.seed = seed;
            OutputFolder::prepare(&path)
                .expect("writable")
                .publish(&report, &adapter, &model)
                .expect("written");
            assert_eq!(names(&path), ["adapter", "report.html", "report.json"]);
            assert_eq!(names(&path.join("adapter")), ["adapter_config.json", "adapter_model.safetensors"]);
            assert_eq!(Report::load(&path.join("report.json")).expect("whole").seed, seed);
        }
    }

    #[test]
    fn a_run_that_fails_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        drop(OutputFolder::prepare(&root.path().join("a/b")).expect("writable"));
        assert_eq!(names(root.path()), Vec::<String>::new());
        fs::write(root.path().join("kept"), "by somebody else").expect("a file");
        drop(OutputFolder::prepare(root.path()).expect("writable"));
        assert_eq!(names(root.path()), ["kept"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_refused_at_once() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("file");
        fs::write(&file, "not a folder").expect("a file");
        for path in [file.clone(), file.join("below")] {
            let error = OutputFolder::prepare(&path).expect_err("refused").to_string();
            assert!(error.contains("cannot be written") && error.contains("--out"), "{error}");
        }
        assert_eq!(names(root.path()), ["file"]);
    }

    #[test]
    fn a_file_is_whole_or_absent() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("page.html");
        write_whole(&path, "first").expect("written");
        write_whole(&path, "second").expect("replaced");
        assert_eq!(fs::read_to_string(&path).expect("there"), "second");
        assert!(write_whole(&root.path().join("none/page.html"), "x").is_err());
        assert_eq!(names(root.path()), ["page.html"]);
    }
}
