//! Published files, named by their SHA-256. Must never serve bytes that are not what the name says, nor say that a file is
//! stored before the disk has it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use sha2::{Digest as _, Sha256};
use tacit_aggregation::Digest;
use tacit_proto::fleet::MAX_PART_BYTES;

use super::PublicationError;
use crate::files::make_folder;

/// Suffix of a file that is not whole yet.
const PART: &str = "part";
/// Folder of files that turned out to be damaged.
const QUARANTINE: &str = "quarantine";

/// The folder of published files.
#[derive(Debug)]
pub(super) struct BlobFolder {
    folder: PathBuf,
    /// Files whose bytes this process has compared with their name; at most as many as there are files.
    verified: Mutex<BTreeSet<Digest>>,
    /// While somebody holds it no file is removed.
    held: Mutex<()>,
}

/// A published file, open somewhere.
#[derive(Debug)]
pub struct Blob {
    path: PathBuf,
    file: File,
    left: u64,
}

impl Blob {
    /// Bytes that are still to be read.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, at most [`MAX_PART_BYTES`]; none at the end.
    ///
    /// # Errors
    /// [`PublicationError::Disk`].
    pub fn next_part(&mut self) -> Result<Option<Vec<u8>>, PublicationError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut part = vec![0; self.left.min(MAX_PART_BYTES as u64) as usize];
        self.file.read_exact(&mut part).map_err(disk(&self.path))?;
        self.left -= part.len() as u64;
        Ok(Some(part))
    }
}

impl BlobFolder {
    /// Opens the folder; makes it when it is not there.
    pub(super) fn open(folder: PathBuf) -> Result<Self, PublicationError> {
        make_folder(&folder).map_err(disk(&folder))?;
        Ok(Self { folder, verified: Mutex::default(), held: Mutex::default() })
    }

    /// Stores bytes durably under their digest.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<Digest, PublicationError> {
        let digest: Digest = Sha256::digest(bytes).into();
        match self.open_blob(&digest, 0) {
            Ok(_) => {}
            Err(PublicationError::NoSuchFile { .. } | PublicationError::Damaged { .. }) => {
                let (path, part) = (self.path(&digest), self.path(&digest).with_extension(PART));
                File::create(&part)
                    .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
                    .map_err(disk(&part))?;
                fs::rename(&part, &path).map_err(disk(&path))?;
            }
            Err(error) => return Err(error),
        }
        // Also where the file was there already: the process that wrote it may have died before this.
        self.sync_folder()?;
        Ok(digest)
    }

    /// Opens a file at an offset. The first time in this process all of it is read and compared with its name.
    pub(super) fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Blob, PublicationError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PublicationError::NoSuchFile { digest: hex::encode(digest) });
            }
            Err(error) => return Err(disk(&path)(error)),
        };
        let mut verified = self.verified();
        if !verified.contains(digest) {
            if hash(&mut file).map_err(disk(&path))? != *digest {
                return Err(self.quarantine(&path));
            }
            verified.insert(*digest);
        }
        drop(verified);
        let size = file.metadata().map_err(disk(&path))?.len();
        let left = size.checked_sub(offset).ok_or(PublicationError::Offset { offset, size })?;
        file.seek(SeekFrom::Start(offset)).map_err(disk(&path))?;
        Ok(Blob { path, file, left })
    }

    /// Keeps every file where it is until what this gives is dropped.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is not in the list, and what was never finished; says how many files. None while somebody holds them.
    pub(super) fn keep_only(&self, digests: &BTreeSet<Digest>) -> Result<usize, PublicationError> {
        let _alone = match self.held.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(0),
        };
        let names: BTreeSet<String> = digests.iter().map(hex::encode).collect();
        let kept = |name: &str| name == QUARANTINE || names.contains(name);
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder).map_err(disk(&self.folder))? {
            let path = entry.map_err(disk(&self.folder))?.path();
            if path.file_name().and_then(OsStr::to_str).is_some_and(kept) {
                continue;
            }
            fs::remove_file(&path).map_err(disk(&path))?;
            removed += 1;
        }
        self.verified().retain(|digest| digests.contains(digest));
        self.sync_folder()?;
        Ok(removed)
    }

    /// Whether a file is there, whatever is in it.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Moves a damaged file out of the way, for whoever wants to look at it.
    fn quarantine(&self, path: &Path) -> PublicationError {
        let folder = self.folder.join(QUARANTINE);
        let moved = path.file_name().map_or_else(|| folder.clone(), |name| folder.join(name));
        match fs::create_dir_all(&folder).and_then(|()| fs::rename(path, &moved)) {
            Ok(()) => PublicationError::Damaged { path: path.to_owned(), moved },
            Err(error) => disk(path)(error),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(hex::encode(digest))
    }

    /// A thread that died with the set in its hands left it whole.
    fn verified(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name lasts only once its folder is on disk too.
    fn sync_folder(&self) -> Result<(), PublicationError> {
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(disk(&self.folder))
    }
}

fn disk(path: &Path) -> impl Fn(io::Error) -> PublicationError + '_ {
    |source| PublicationError::Disk { path: path.to_owned(), source }
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, BlobFolder) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobFolder::open(folder.path().join("blobs")).unwrap();
        (folder, blobs)
    }

    fn read(mut blob: Blob) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| blob.next_part().unwrap()).collect()
    }

    #[test]
    fn a_file_is_read_in_parts_from_any_offset() {
        let (_folder, blobs) = blobs();
        let bytes: Vec<u8> = (0..MAX_PART_BYTES + 1000).map(|place| (place * 31 % 251) as u8).collect();
        let digest = blobs.write(&bytes).unwrap();
        assert_eq!(digest, <Digest>::from(Sha256::digest(&bytes)));
        let parts = read(blobs.open_blob(&digest, 0).unwrap());
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_PART_BYTES, 1000]);
        assert_eq!(parts.concat(), bytes);
        let rest = blobs.open_blob(&digest, 12_345).unwrap();
        assert_eq!(rest.left(), bytes.len() as u64 - 12_345);
        assert_eq!(read(rest).concat(), &bytes[12_345..]);
        assert!(read(blobs.open_blob(&digest, bytes.len() as u64).unwrap()).is_empty());
        let refused = blobs.open_blob(&digest, bytes.len() as u64 + 1);
        assert!(matches!(refused, Err(PublicationError::Offset { .. })));
        assert!(matches!(blobs.open_blob(&[1; 32], 0), Err(PublicationError::NoSuchFile { .. })));
    }

    #[test]
    fn a_damaged_file_is_named_and_moved_and_can_be_published_again() {
        let (_folder, blobs) = blobs();
        for damage in [&b"payloaX"[..], b"payloa", b"", b"payload."] {
            let digest = blobs.write(b"payload").unwrap();
            let path = blobs.path(&digest);
            fs::write(&path, damage).unwrap();
            let started = BlobFolder::open(blobs.folder.clone()).unwrap();
            let refused = started.open_blob(&digest, 0);
            let Err(PublicationError::Damaged { path: named, moved }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(named, path);
            assert_eq!(fs::read(moved).unwrap(), damage);
            assert!(matches!(started.open_blob(&digest, 0), Err(PublicationError::NoSuchFile { .. })));
            // A process that finds it damaged when it publishes the same again replaces it.
            fs::write(&path, damage).unwrap();
            let started = BlobFolder::open(blobs.folder.clone()).unwrap();
            assert_eq!(started.write(b"payload").unwrap(), digest);
            assert_eq!(read(started.open_blob(&digest, 0).unwrap()).concat(), b"payload");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_nothing_passes_for_whole() {
        let (_folder, blobs) = blobs();
        let digest: Digest = Sha256::digest(b"payload").into();
        let part = blobs.path(&digest).with_extension(PART);
        std::os::unix::fs::symlink("/dev/full", &part).unwrap();
        let refused = blobs.write(b"payload");
        let Err(PublicationError::Disk { path, source }) = refused else { panic!("{refused:?}") };
        assert_eq!((&path, source.kind()), (&part, io::ErrorKind::StorageFull));
        assert!(matches!(blobs.open_blob(&digest, 0), Err(PublicationError::NoSuchFile { .. })));
        fs::remove_file(part).unwrap();
        assert_eq!(blobs.write(b"payload").unwrap(), digest);
    }

    #[test]
    fn only_what_is_listed_is_kept() {
        let (_folder, blobs) = blobs();
        let kept = blobs.write(b"kept").unwrap();
        let dropped = blobs.write(b"dropped").unwrap();
        assert_eq!(read(blobs.open_blob(&dropped, 0).unwrap()).concat(), b"dropped");
        fs::write(blobs.path(&[7; 32]).with_extension(PART), b"half").unwrap();
        assert_eq!(blobs.keep_only(&BTreeSet::from([kept])).unwrap(), 2);
        assert!(blobs.has(&kept) && !blobs.has(&dropped));
        assert_eq!(blobs.keep_only(&BTreeSet::from([kept])).unwrap(), 0);
        // What was verified before it was removed is verified again once it is back.
        fs::write(blobs.path(&dropped), b"else").unwrap();
        assert!(matches!(blobs.open_blob(&dropped, 0), Err(PublicationError::Damaged { .. })));
    }
}
