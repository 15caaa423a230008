//! Writing so that a crash at any instant leaves the old or the new, whole. Must never say that something is there before the
//! disk has it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use tacit_proto::crash::kill_point;

use super::InstallError;

/// Puts a file in place of an older one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), InstallError> {
    let partial = path.with_extension("partial");
    File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(disk(&partial))?;
    rename(&partial, path)
}

/// Makes every file of a folder durable, and then puts the folder where no other is.
pub(super) fn publish_folder(from: &Path, to: &Path) -> Result<(), InstallError> {
    for entry in fs::read_dir(from).map_err(disk(from))? {
        let path = entry.map_err(disk(from))?.path();
        File::options().write(true).open(&path).and_then(|file| file.sync_all()).map_err(disk(&path))?;
    }
    sync_folder(from)?;
    rename(from, to)
}

/// Renames durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), InstallError> {
    kill_point();
    fs::rename(from, to).map_err(disk(to))?;
    to.parent().map_or(Ok(()), sync_folder)?;
    kill_point();
    Ok(())
}

/// Removes a folder, if it is there. It is out of the way before its files go, so that half of it is never taken for all.
pub(super) fn remove_folder(path: &Path) -> Result<(), InstallError> {
    let gone = path.with_extension("removed");
    ignore_missing(fs::remove_dir_all(&gone)).map_err(disk(&gone))?;
    ignore_missing(fs::rename(path, &gone)).map_err(disk(path))?;
    ignore_missing(fs::remove_dir_all(&gone)).map_err(disk(&gone))
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), InstallError> {
    ignore_missing(fs::remove_file(path)).map_err(disk(path))
}

/// Reads a file; none if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk(path)(error)),
    }
}

pub(super) fn disk(path: &Path) -> impl Fn(io::Error) -> InstallError + '_ {
    |source| InstallError::Disk { path: path.to_owned(), source }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A name lasts only once its folder is on disk too; Windows sees to that itself, and opens no folder.
fn sync_folder(folder: &Path) -> Result<(), InstallError> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk(folder))
}
