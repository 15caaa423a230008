//! A published file on its way to this machine: appended to as it comes, gone on with after a break. Must never pass for whole
//! before its digest was compared.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tacit_aggregation::Digest;
use tacit_proto::manifest::PublishedFile;

use super::InstallError;
use super::files::{disk, remove_file, rename};

/// Suffix of a file that is not whole yet.
const PART: &str = "part";

/// A file that is being downloaded. Dropped at any time, it is gone on with by another.
#[derive(Debug)]
pub struct Download {
    published: PublishedFile,
    part: PathBuf,
    whole: PathBuf,
    file: File,
    hash: Sha256,
    received: u64,
}

/// Where a whole file lies.
pub(super) fn place(incoming: &Path, digest: &Digest) -> PathBuf {
    incoming.join(hex::encode(digest))
}

/// Whether a file is all there. One that is not what its name says is removed.
pub(super) fn is_whole(incoming: &Path, published: &PublishedFile) -> Result<bool, InstallError> {
    let path = place(incoming, &published.digest);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(disk(&path)(error)),
    };
    let mut hash = Sha256::new();
    read_into(&mut file, &mut hash).map_err(disk(&path))?;
    let whole = <Digest>::from(hash.finalize()) == published.digest;
    if !whole {
        remove_file(&path)?;
    }
    Ok(whole)
}

impl Download {
    /// Begins, or goes on where an earlier one stopped.
    pub(super) fn open(incoming: &Path, published: &PublishedFile) -> Result<Self, InstallError> {
        let whole = place(incoming, &published.digest);
        let part = whole.with_extension(PART);
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(&part).map_err(disk(&part))?;
        let mut hash = Sha256::new();
        let most = published.size.saturating_add(1);
        let mut received = read_into(&mut (&mut file).take(most), &mut hash).map_err(disk(&part))?;
        if received > published.size {
            file.set_len(0).map_err(disk(&part))?;
            (hash, received) = (Sha256::new(), 0);
        }
        Ok(Self { published: published.clone(), part, whole, file, hash, received })
    }

    /// Bytes that are here: from where to ask for more.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.received
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`InstallError::Damaged`] for more bytes than the file has; what has arrived is removed then.
    /// [`InstallError::Disk`] when they cannot be written: what was written before is kept.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        if bytes.len() as u64 > self.published.size - self.received {
            return Err(self.damaged("it is longer than the manifest says"));
        }
        self.file.write_all(bytes).map_err(disk(&self.part))?;
        self.hash.update(bytes);
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Ends a download of which nothing is missing.
    ///
    /// # Errors
    /// [`InstallError::Incomplete`] when something is: it is kept, to go on from. [`InstallError::Damaged`] when its digest is
    /// not the manifest's: it is removed, to begin again.
    pub fn finish(self) -> Result<(), InstallError> {
        let (received, size) = (self.received, self.published.size);
        if received < size {
            self.file.sync_all().map_err(disk(&self.part))?;
            return Err(InstallError::Incomplete { name: self.published.name, received, size });
        }
        if <Digest>::from(self.hash.clone().finalize()) != self.published.digest {
            return Err(self.damaged("its digest is not the manifest's"));
        }
        self.file.sync_all().map_err(disk(&self.part))?;
        // An open file cannot be renamed everywhere.
        drop(self.file);
        rename(&self.part, &self.whole)
    }

    fn damaged(&self, problem: &'static str) -> InstallError {
        // What cannot be removed is refused again the next time.
        let removed = self.file.set_len(0).map_err(disk(&self.part));
        let damaged = InstallError::Damaged { path: self.part.clone(), problem: problem.to_owned() };
        removed.err().unwrap_or(damaged)
    }
}

/// Hashes bytes to their end; says how many they are.
fn read_into(file: &mut impl io::Read, hash: &mut Sha256) -> io::Result<u64> {
    let (mut length, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                hash.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn published(bytes: &[u8]) -> PublishedFile {
        PublishedFile { name: "a".to_owned(), digest: Sha256::digest(bytes).into(), size: bytes.len() as u64 }
    }

    #[test]
    fn a_torn_download_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|place| (place * 7 % 253) as u8).collect();
        let file = published(&bytes);
        let mut download = Download::open(folder.path(), &file).unwrap();
        assert_eq!(download.offset(), 0);
        download.push(&bytes[..70_000]).unwrap();
        drop(download);
        let mut download = Download::open(folder.path(), &file).unwrap();
        assert_eq!(download.offset(), 70_000);
        download.push(&bytes[70_000..70_001]).unwrap();
        let refused = download.finish();
        assert!(matches!(refused, Err(InstallError::Incomplete { received: 70_001, size: 200_000, .. })));
        assert!(!is_whole(folder.path(), &file).unwrap());
        let mut download = Download::open(folder.path(), &file).unwrap();
        let offset = download.offset() as usize;
        bytes[offset..].chunks(4_096).for_each(|part| download.push(part).unwrap());
        download.finish().unwrap();
        assert!(is_whole(folder.path(), &file).unwrap());
        assert_eq!(fs::read(place(folder.path(), &file.digest)).unwrap(), bytes);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_bytes_are_refused_and_begin_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = published(b"payload");
        let mut download = Download::open(folder.path(), &file).unwrap();
        download.push(b"payloaX").unwrap();
        assert!(matches!(download.finish(), Err(InstallError::Damaged { .. })));
        let mut download = Download::open(folder.path(), &file).unwrap();
        assert_eq!(download.offset(), 0);
        download.push(b"pay").unwrap();
        assert!(matches!(download.push(b"loads"), Err(InstallError::Damaged { .. })));
        drop(download);
        // A part that is damaged on the disk, or is longer than the file.
        for damage in [&b"pax"[..], b"payload and more"] {
            fs::write(place(folder.path(), &file.digest).with_extension(PART), damage).unwrap();
            let mut download = Download::open(folder.path(), &file).unwrap();
            let offset = download.offset() as usize;
            download.push(&b"payload"[offset..]).unwrap();
            assert_eq!(download.finish().is_ok(), offset == 0);
        }
        assert!(is_whole(folder.path(), &file).unwrap());
        // What was whole and is damaged on the disk is found and removed.
        fs::write(place(folder.path(), &file.digest), b"payloaX").unwrap();
        assert!(!is_whole(folder.path(), &file).unwrap());
        assert!(!place(folder.path(), &file.digest).exists());
    }
}
