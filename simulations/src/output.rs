//! The output folder: proven writable before any work, and written so that a failure leaves nothing half-written.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tacit_model::storage::save_adapter;
use tacit_model::{Adapter, DecoderConfig};

use crate::error::SimulationError;
use crate::report::{Report, html};

/// Names inside the folder.
const REPORT: &str = "report.json";
const PAGE: &str = "report.html";
const ADAPTER: &str = "adapter";
/// Names inside the staging folder besides those.
const LOCK: &str = "lock";
const EARLIER_ADAPTER: &str = "earlier-adapter";
/// How the name of a staging folder begins.
const STAGING: &str = ".partial-";

/// A folder that can be written. Dropped without [`OutputFolder::publish`], it is as it was before.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    /// Locked as long as this run lives, which tells its staging folder from that of a run that was killed.
    _lock: File,
    /// Holds everything until it is complete; on the same file system, so that renaming is possible. Removed on drop.
    staging: tempfile::TempDir,
    /// Folders that did not exist before, innermost first.
    created: Vec<PathBuf>,
}

impl OutputFolder {
    /// Creates the folder where it is missing and proves that it can be written, and that nothing of the wrong kind is in the
    /// place of what will be. What a run that was killed left half-written is removed.
    ///
    /// # Errors
    /// [`SimulationError::Output`] with the operating system's reason, or the name that is in the way.
    pub fn prepare(path: &Path) -> Result<Self, SimulationError> {
        let refuse = |source| SimulationError::Output { path: path.to_owned(), source };
        let missing =
            path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let created: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        match stage(path) {
            Ok((staging, lock)) => Ok(Self { path: path.to_owned(), _lock: lock, staging, created }),
            Err(source) => {
                remove_empty(&created);
                Err(refuse(source))
            }
        }
    }

    /// Writes the report, the page and the adapter in the PEFT layout, replacing those of an earlier run.
    ///
    /// # Errors
    /// When a file cannot be written, or a name has been taken in the meantime; then those of an earlier run are untouched, unless
    /// renaming itself fails.
    pub fn publish(
        mut self,
        report: &Report,
        adapter: &Adapter,
        model: &DecoderConfig,
    ) -> Result<(), SimulationError> {
        let staging = self.staging.path().to_owned();
        let write = |name: &str, text: String| {
            let path = staging.join(name);
            fs::write(&path, text).map_err(SimulationError::io(path))
        };
        write(REPORT, report.to_json()?)?;
        write(PAGE, html::render(report))?;
        save_adapter(adapter, model, &report.parameters.base_model_name, &staging.join(ADAPTER))?;
        self.created.clear();
        check_targets(&self.path)
            .map_err(|source| SimulationError::Output { path: self.path.clone(), source })?;
        let target = self.path.join(ADAPTER);
        if target.symlink_metadata().is_ok() {
            // A folder cannot be renamed over another that is not empty.
            let old = staging.join(EARLIER_ADAPTER);
            fs::rename(&target, old).map_err(SimulationError::io(&target))?;
        }
        for name in [ADAPTER, PAGE, REPORT] {
            let target = self.path.join(name);
            fs::rename(staging.join(name), &target).map_err(SimulationError::io(&target))?;
        }
        Ok(())
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        if !self.created.is_empty() {
            // The staging folder is inside and would keep its parents alive; failure only leaves an empty folder.
            let _ = fs::remove_dir_all(self.staging.path());
            remove_empty(&self.created);
        }
    }
}

/// A staging folder inside the output folder, and its lock.
fn stage(path: &Path) -> io::Result<(tempfile::TempDir, File)> {
    fs::create_dir_all(path)?;
    remove_stale(path)?;
    check_targets(path)?;
    let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(path)?;
    let lock = File::create(staging.path().join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        // A file system without locks: then no other run takes the folder for a stale one either.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error.into()),
    }
    fs::write(staging.path().join(REPORT), b"{}")?;
    Ok((staging, lock))
}

/// Refuses a folder in the place of a file, or a file in that of a folder: renaming would fail halfway, or hide what is there.
fn check_targets(path: &Path) -> io::Result<()> {
    for (name, folder) in [(ADAPTER, true), (PAGE, false), (REPORT, false)] {
        let kind = match path.join(name).symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // A link is replaced itself, whatever it points to.
        if !(kind.is_symlink() || if folder { kind.is_dir() } else { kind.is_file() }) {
            let wanted = if folder { "folder" } else { "file" };
            return Err(io::Error::other(format!("`{name}` inside it is in the way, which is no {wanted}")));
        }
    }
    Ok(())
}

/// Removes the staging folders of runs that were killed. One whose run is alive, or that holds anything else, is left alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let named = entry.file_name().to_string_lossy().starts_with(STAGING);
        let folder = entry.path();
        if !named || !entry.file_type()?.is_dir() || !is_stale(&folder)? {
            continue;
        }
        // Killed between moving the earlier adapter aside and putting the new one into its place.
        let (earlier, target) = (folder.join(EARLIER_ADAPTER), path.join(ADAPTER));
        if earlier.is_dir() && target.symlink_metadata().is_err() {
            fs::rename(earlier, target)?;
        }
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Whether a staging folder holds only what a run writes, and nobody holds its lock.
fn is_stale(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if ![REPORT, PAGE, ADAPTER, LOCK, EARLIER_ADAPTER].iter().any(|own| name == *own) {
            return Ok(false);
        }
    }
    match File::open(folder.join(LOCK)) {
        Ok(lock) => Ok(lock.try_lock().is_ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn remove_empty(folders: &[PathBuf]) {
    for folder in folders {
        // Fails, rightly, when somebody else has put something there in the meantime.
        if fs::remove_dir(folder).is_err() {
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
        let readable = fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(SimulationError::io(path))?;
    }
    file.persist(path).map_err(|error| SimulationError::Io { path: path.to_owned(), source: error.error })?;
    Ok(())
}

#[cfg(test)]
mod tests {
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
    fn a_name_of_the_wrong_kind_is_refused_before_anything_is_replaced() {
        let (adapter, model) = adapter();
        for (name, folder) in [("report.json", true), ("report.html", true), ("adapter", false)] {
            let root = tempfile::tempdir().expect("a folder");
            let target = root.path().join(name);
            let block = || if folder { fs::create_dir(&target) } else { fs::write(&target, "kept") };
            block().expect("in the way");
            let error = OutputFolder::prepare(root.path()).expect_err("refused").to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("--out"), "{error}");
            assert_eq!(names(root.path()), [name]);

            // And when it appears while the run is under way.
            if folder { fs::remove_dir(&target) } else { fs::remove_file(&target) }.expect("removed");
            let out = OutputFolder::prepare(root.path()).expect("writable");
            block().expect("in the way");
            let error = out.publish(&sample(), &adapter, &model).expect_err("refused").to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
            assert_eq!(names(root.path()), [name]);
            assert_eq!(target.is_dir(), folder);
        }
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let make = |folder: &str, file: &str| {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
            fs::write(root.path().join(folder).join(file), "x").expect("a file");
        };
        make(".partial-one", "report.json");
        make(".partial-two/adapter", "adapter_config.json");
        make(".partial-two", "lock");
        make(".partial-three/earlier-adapter", "adapter_config.json");
        make(".partial-mine", "thesis.txt");
        fs::write(root.path().join(".partial-file"), "x").expect("a file");
        let first = OutputFolder::prepare(root.path()).expect("writable");
        let kept = names(root.path());
        assert_eq!(kept.len(), 4, "{kept:?}");
        assert!(root.path().join(".partial-mine/thesis.txt").is_file());
        assert!(root.path().join(".partial-file").is_file());
        assert!(root.path().join("adapter/adapter_config.json").is_file(), "the earlier adapter is back");

        let second = OutputFolder::prepare(root.path()).expect("writable");
        let (adapter, model) = adapter();
        first
            .publish(&sample(), &adapter, &model)
            .expect("the first run is alive, and its folder still there");
        drop(second);
        assert_eq!(
            names(root.path()),
            [".partial-file", ".partial-mine", "adapter", "report.html", "report.json"]
        );
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
