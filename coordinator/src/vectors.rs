//! Masked vectors on disk: one file per client and round, appended to until it is whole. Must never say that bytes are stored
//! before the disk has them, nor keep a vector in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::{MAX_CHUNK_BYTES, MaskedHeader};

/// Suffix of a vector that is not whole yet.
const PART: &str = "part";
/// Suffix of a vector whose digest was found to be the announced one.
const WHOLE: &str = "vector";

/// The folder of one round's vectors.
#[derive(Clone, Debug)]
pub struct VectorFolder {
    folder: PathBuf,
}

/// Why a vector cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The disk fails, or is full.
    #[error("{path}: {source}; free space or check the disk, what was acknowledged is kept")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A chunk starts beyond the end of what has arrived.
    #[error(
        "client {client} sends from byte {offset}, but only {stored} bytes have arrived: go on from there"
    )]
    Gap {
        /// The sender.
        client: ClientId,
        /// Where its chunk starts.
        offset: u64,
        /// Bytes stored.
        stored: u64,
    },
    /// More bytes than announced, or none.
    #[error(
        "client {client} sends {bytes} bytes from byte {offset} of a vector of {length}, at most {MAX_CHUNK_BYTES} at a time"
    )]
    Size {
        /// The sender.
        client: ClientId,
        /// Where its chunk starts.
        offset: u64,
        /// Its length.
        bytes: usize,
        /// Length of the announced vector.
        length: u64,
    },
    /// The whole vector is not the announced one.
    #[error(
        "the vector of client {client} is not the one that it announced: it has to be sent again from the start"
    )]
    Digest {
        /// The sender.
        client: ClientId,
    },
}

/// How far a vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// This many bytes of it are on disk.
    Part(u64),
    /// All of it is, and its digest is the announced one.
    Whole,
}

impl VectorFolder {
    /// Of a round; made when it is not there.
    ///
    /// # Errors
    /// [`VectorError::Disk`].
    pub fn open(folder: PathBuf) -> Result<Self, VectorError> {
        fs::create_dir_all(&folder).map_err(disk(&folder))?;
        Ok(Self { folder })
    }

    /// How much of an announced vector is stored.
    ///
    /// # Errors
    /// [`VectorError::Disk`].
    pub fn stored(&self, header: &MaskedHeader) -> Result<Stored, VectorError> {
        if self.path(header.client, WHOLE).exists() {
            return Ok(Stored::Whole);
        }
        let path = self.path(header.client, PART);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Stored::Part(metadata.len().min(header.length))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stored::Part(0)),
            Err(error) => Err(disk(&path)(error)),
        }
    }

    /// Appends what is new of a chunk, not yet durably.
    ///
    /// # Errors
    /// [`VectorError`]; nothing has changed then, but that a full disk may have taken a part of the chunk.
    pub fn append(&self, header: &MaskedHeader, offset: u64, bytes: &[u8]) -> Result<Stored, VectorError> {
        let (client, length) = (header.client, header.length);
        let end = offset.saturating_add(bytes.len() as u64);
        if !(1..=MAX_CHUNK_BYTES).contains(&bytes.len()) || end > length {
            return Err(VectorError::Size { client, offset, bytes: bytes.len(), length });
        }
        let Stored::Part(stored) = self.stored(header)? else { return Ok(Stored::Whole) };
        if offset > stored {
            return Err(VectorError::Gap { client, offset, stored });
        }
        let known = (stored - offset).min(bytes.len() as u64) as usize;
        let path = self.path(client, PART);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(disk(&path))?;
        file.write_all(&bytes[known..]).map_err(disk(&path))?;
        Ok(Stored::Part(stored.max(end)))
    }

    /// Makes what has arrived durable, and the vector whole when nothing is missing and its digest is the announced one.
    ///
    /// # Errors
    /// [`VectorError::Digest`] when it is another; what had arrived is removed. [`VectorError::Disk`].
    pub fn sync(&self, header: &MaskedHeader) -> Result<Stored, VectorError> {
        let Stored::Part(stored) = self.stored(header)? else { return Ok(Stored::Whole) };
        let path = self.path(header.client, PART);
        if stored == 0 {
            return Ok(Stored::Part(0));
        }
        let file = File::open(&path).map_err(disk(&path))?;
        file.sync_all().map_err(disk(&path))?;
        if stored < header.length {
            self.sync_folder()?;
            return Ok(Stored::Part(stored));
        }
        if digest(file).map_err(disk(&path))? != header.digest {
            fs::remove_file(&path).map_err(disk(&path))?;
            return Err(VectorError::Digest { client: header.client });
        }
        let whole = self.path(header.client, WHOLE);
        fs::rename(&path, &whole).map_err(disk(&whole))?;
        self.sync_folder()?;
        Ok(Stored::Whole)
    }

    /// Reads a whole vector. Whoever uses it compares its digest once more.
    ///
    /// # Errors
    /// [`VectorError::Disk`] when it is not there or cannot be read.
    pub fn read(&self, client: ClientId) -> Result<Vec<u8>, VectorError> {
        let path = self.path(client, WHOLE);
        fs::read(&path).map_err(disk(&path))
    }

    /// Removes a vector that was found to be whole, and is not what it was.
    ///
    /// # Errors
    /// [`VectorError::Disk`].
    pub fn discard(&self, client: ClientId) -> Result<(), VectorError> {
        let path = self.path(client, WHOLE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&path)(error)),
            _ => self.sync_folder(),
        }
    }

    /// Removes all vectors of the round.
    ///
    /// # Errors
    /// [`VectorError::Disk`].
    pub fn remove(self) -> Result<(), VectorError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&self.folder)(error)),
            _ => Ok(()),
        }
    }

    /// The folders of all rounds that have one, below the folder of all vectors.
    ///
    /// # Errors
    /// [`VectorError::Disk`].
    pub fn all_below(vectors: &Path) -> Result<Vec<PathBuf>, VectorError> {
        let mut rounds = Vec::new();
        for task in folders_in(vectors)? {
            rounds.extend(folders_in(&task)?);
        }
        Ok(rounds)
    }

    /// A name lasts only once its folder is on disk too.
    fn sync_folder(&self) -> Result<(), VectorError> {
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(disk(&self.folder))
    }

    fn path(&self, client: ClientId, suffix: &str) -> PathBuf {
        self.folder.join(format!("{:016x}.{suffix}", client.0))
    }
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, VectorError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(disk(folder))?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(disk(folder))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

fn disk(path: &Path) -> impl Fn(io::Error) -> VectorError + '_ {
    |source| VectorError::Disk { path: path.to_owned(), source }
}

fn digest(mut file: File) -> io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(0))?;
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
    use tacit_aggregation::identity::Signature;

    fn header(bytes: &[u8]) -> MaskedHeader {
        MaskedHeader {
            client: ClientId(0xa1),
            length: bytes.len() as u64,
            digest: Sha256::digest(bytes).into(),
            refused: vec![],
            signature: Signature([0; 64]),
        }
    }

    fn vectors() -> (tempfile::TempDir, VectorFolder) {
        let folder = tempfile::tempdir().unwrap();
        let vectors = VectorFolder::open(folder.path().join("task/7")).unwrap();
        (folder, vectors)
    }

    #[test]
    fn an_upload_goes_on_wherever_it_stopped() {
        let (_folder, vectors) = vectors();
        let bytes: Vec<u8> = (0..3000_u32).map(|value| value as u8).collect();
        let header = header(&bytes);
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(0));
        assert_eq!(vectors.sync(&header).unwrap(), Stored::Part(0));
        assert_eq!(vectors.append(&header, 0, &bytes[..1000]).unwrap(), Stored::Part(1000));
        assert_eq!(vectors.sync(&header).unwrap(), Stored::Part(1000));
        // A repeat, an overlap, something within what has arrived.
        assert_eq!(vectors.append(&header, 0, &bytes[..1000]).unwrap(), Stored::Part(1000));
        assert_eq!(vectors.append(&header, 900, &bytes[900..2000]).unwrap(), Stored::Part(2000));
        assert_eq!(vectors.append(&header, 5, &bytes[5..50]).unwrap(), Stored::Part(2000));
        let again = VectorFolder::open(vectors.folder.clone()).unwrap();
        assert_eq!(again.stored(&header).unwrap(), Stored::Part(2000));
        assert_eq!(again.append(&header, 2000, &bytes[2000..]).unwrap(), Stored::Part(3000));
        assert_eq!(again.sync(&header).unwrap(), Stored::Whole);
        assert_eq!(again.read(header.client).unwrap(), bytes);
        assert_eq!(again.append(&header, 0, &bytes[..9]).unwrap(), Stored::Whole);
        assert_eq!(again.sync(&header).unwrap(), Stored::Whole);
        again.remove().unwrap();
        assert!(!vectors.folder.exists());
        vectors.remove().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let (_folder, vectors) = vectors();
        let bytes = [7; 100];
        let header = header(&bytes);
        vectors.append(&header, 0, &bytes[..10]).unwrap();
        let refused = |offset, bytes: &[u8]| vectors.append(&header, offset, bytes).unwrap_err();
        assert!(matches!(refused(11, &[7]), VectorError::Gap { stored: 10, .. }));
        assert!(matches!(refused(10, &[7; 91]), VectorError::Size { .. }));
        assert!(matches!(refused(u64::MAX, &[7]), VectorError::Size { .. }));
        assert!(matches!(refused(10, &[]), VectorError::Size { .. }));
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(10));
        assert!(matches!(vectors.read(header.client), Err(VectorError::Disk { .. })));
    }

    #[test]
    fn another_vector_than_the_announced_starts_again() {
        let (_folder, vectors) = vectors();
        let header = header(&[7; 100]);
        vectors.append(&header, 0, &[8; 100]).unwrap();
        assert!(matches!(vectors.sync(&header), Err(VectorError::Digest { client: ClientId(0xa1) })));
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(0));
        vectors.append(&header, 0, &[7; 100]).unwrap();
        assert_eq!(vectors.sync(&header).unwrap(), Stored::Whole);
    }
}
