//! Files of the identity root: private, written whole or not at all, used by one process at a time.
//! Must never report as written what the disk does not have.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{FileError, failed, private, sync, write_json, write_whole};

/// Held open and locked by the process that uses the folder.
const LOCK: &str = "lock";

/// Why a file of the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is at it.
    #[error("another process uses {path}: wait until it has ended, and try again")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what this program wrote.
    #[error("{path}, line {line}, is not what this program wrote: {problem}; restore it from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The last line was not written to its end.
    #[error(
        "{path}, line {line}, was written in part when the machine or the program stopped. Nothing in it was handed out: remove it with `truncate -s {whole} {path}`, then issue again"
    )]
    Torn {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Bytes of the whole lines before it.
        whole: usize,
    },
}

/// A folder in use by this process alone, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder, readable by its owner only, if it is not there, and locks it.
    pub(super) fn create(path: &Path) -> Result<Self, FolderError> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path).map_err(failed(path))?;
        Self::open(path)
    }

    /// Locks a folder that is there.
    pub(super) fn open(path: &Path) -> Result<Self, FolderError> {
        let lock = path.join(LOCK);
        let held =
            private(OpenOptions::new().create(true).append(true)).open(&lock).map_err(failed(&lock))?;
        match held.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: held }),
            Err(TryLockError::WouldBlock) => Err(FolderError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(&lock)(error).into()),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names of the files in it.
    pub(super) fn names(&self) -> Result<Vec<String>, FolderError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed(&self.path))? {
            names.extend(entry.map_err(failed(&self.path))?.file_name().into_string());
        }
        Ok(names)
    }

    /// The text of a file; none where there is no file.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, FolderError> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path)(error).into()),
        }
    }

    /// The values of a file that holds one JSON object a line.
    pub(super) fn read_lines<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, FolderError> {
        let text = self.read(name)?.unwrap_or_default();
        let path = self.path(name);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            let line = text[..whole].lines().count() + 1;
            return Err(FolderError::Torn { path, line, whole });
        }
        let read = |(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| self.damaged(name, index + 1, &error))
        };
        text.lines().enumerate().map(read).collect()
    }

    /// Writes a whole file in place of an older one.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), FolderError> {
        Ok(write_whole(&self.path(name), content)?)
    }

    /// Writes a value as a JSON file in place of an older one.
    pub(super) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), FolderError> {
        Ok(write_json(&self.path(name), value)?)
    }

    /// Appends values to a file, one JSON object a line, all durable when it returns.
    pub(super) fn append<T: Serialize>(&self, name: &str, values: &[T]) -> Result<(), FolderError> {
        let path = self.path(name);
        let mut lines = Vec::new();
        for value in values {
            serde_json::to_writer(&mut lines, value).map_err(|error| failed(&path)(error.into()))?;
            lines.push(b'\n');
        }
        let mut log =
            private(OpenOptions::new().create(true).append(true)).open(&path).map_err(failed(&path))?;
        let before = log.metadata().map_err(failed(&path))?.len();
        let written = log.write_all(&lines).and_then(|()| log.sync_all()).and_then(|()| sync(&self.path));
        written.map_err(|error| {
            // If this fails as well, the half line is found and named when the file is read next.
            let _ = log.set_len(before);
            failed(&path)(error).into()
        })
    }

    pub(super) fn damaged(&self, name: &str, line: usize, problem: &impl ToString) -> FolderError {
        FolderError::Damaged { path: self.path(name), line, problem: problem.to_string() }
    }
}
