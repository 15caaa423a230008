//! What the folder does with single files and folders of the disk. Must never report as done what the disk does not have.

use super::FolderError;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tacit_proto::crash::kill_point;

/// Overwrites a file with zeros, to the disk, and removes it.
pub(super) fn wipe(path: &Path) -> Result<(), FolderError> {
    let overwrite = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut left = file.metadata()?.len();
        while left > 0 {
            let zeros = &[0; 4096][..left.min(4096) as usize];
            file.write_all(zeros)?;
            left -= zeros.len() as u64;
        }
        file.sync_all()?;
        drop(file);
        kill_point();
        fs::remove_file(path)
    };
    overwrite().map_err(FolderError::io(path))?;
    flush_parent(path)?;
    kill_point();
    Ok(())
}

pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder).follow_links(false) {
        let entry =
            entry.map_err(|error| FolderError::Io { path: folder.to_owned(), source: error.into() })?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a folder that only its owner enters, and those above it.
pub(super) fn make_private(path: &Path) -> Result<(), FolderError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(FolderError::io(path))?;
    flush_parent(path)
}

/// Files that only their owner reads.
pub(super) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a rename durable. Elsewhere than on Unix folders cannot be flushed, and need not be.
pub(super) fn flush_parent(path: &Path) -> Result<(), FolderError> {
    #[cfg(unix)]
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(FolderError::io(parent))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
