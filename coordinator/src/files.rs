//! Files that only their owner may read, written whole. Must never report as written what the disk does not have.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

/// Says which file it was.
pub(crate) fn failed(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    |source| FileError { path: path.to_owned(), source }
}

/// Writes a file that nobody but its owner may read, in place of an older one: whole, or not at all.
///
/// # Errors
/// [`FileError`].
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut partial =
        tempfile::Builder::new().prefix(".partial-").tempfile_in(folder).map_err(failed(path))?;
    let written = partial.write_all(content).and_then(|()| partial.as_file().sync_all());
    written.map_err(failed(path))?;
    partial.persist(path).map_err(|error| failed(path)(error.error))?;
    sync(folder).map_err(failed(path))
}

/// Writes a value as a JSON file that nobody but its owner may read, in place of an older one: whole, or not at all.
///
/// # Errors
/// [`FileError`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(path)(error.into()))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// Makes a folder, and those above it that are not there, durably.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if !(error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir()) => {
            return Err(error);
        }
        _ => {}
    }
    sync(parent.unwrap_or(Path::new(".")))
}

/// Makes a new name in a folder durable.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Files that nobody but their owner may read.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
