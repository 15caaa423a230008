//! Masked vectors on disk: one file per client and round, appended to until it is whole. Must never say that bytes are stored
//! before the disk has them, nor keep a vector in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::files::make_folder;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::{MAX_CHUNK_BYTES, MaskedHeader};
use tacit_aggregation::server::{VectorReader, VectorSummary};

/// Suffix of a vector that is not whole yet.
const PART: &str = "part";
/// Suffix of a vector whose digest was found to be the announced one.
const WHOLE: &str = "vector";

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 64 << 10;

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
        // The names above the files must last as long as what is acknowledged does.
        make_folder(&folder).map_err(disk(&folder))?;
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

    /// Goes on with an announced vector from what has arrived of it, which is read once.
    ///
    /// # Errors
    /// [`VectorError::Disk`].
    pub fn writer(&self, header: &MaskedHeader) -> Result<VectorWriter, VectorError> {
        let whole = self.path(header.client, WHOLE);
        let (path, is_whole) =
            if whole.exists() { (whole, true) } else { (self.path(header.client, PART), false) };
        let mut options = OpenOptions::new();
        let options = options.read(true).append(!is_whole).create(!is_whole);
        let mut file = options.open(&path).map_err(disk(&path))?;
        let seen = read_all(&mut file).map_err(disk(&path))?;
        Ok(VectorWriter { folder: self.clone(), header: header.clone(), path, file, seen, is_whole })
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
            _ => sync_folder(&self.folder),
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

    /// Where they lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, client: ClientId, suffix: &str) -> PathBuf {
        self.folder.join(format!("{:016x}.{suffix}", client.0))
    }
}

/// An announced vector that is written to its file. At most one at a time for each client.
#[derive(Debug)]
pub struct VectorWriter {
    folder: VectorFolder,
    header: MaskedHeader,
    path: PathBuf,
    file: File,
    seen: VectorReader,
    is_whole: bool,
}

impl VectorWriter {
    /// Bytes that have arrived.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.seen.length()
    }

    /// Whether no byte is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_whole || self.stored() >= self.header.length
    }

    /// Appends what is new of a chunk, not yet durably.
    ///
    /// # Errors
    /// [`VectorError`]; when the disk fails it may have taken a part of the chunk, which the next writer finds.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), VectorError> {
        let MaskedHeader { client, length, .. } = self.header;
        let end = offset.saturating_add(bytes.len() as u64);
        if !(1..=MAX_CHUNK_BYTES).contains(&bytes.len()) || end > length {
            return Err(VectorError::Size { client, offset, bytes: bytes.len(), length });
        }
        if self.is_complete() {
            return Ok(());
        }
        let stored = self.stored();
        if offset > stored {
            return Err(VectorError::Gap { client, offset, stored });
        }
        let new = &bytes[(stored - offset).min(bytes.len() as u64) as usize..];
        self.file.write_all(new).map_err(disk(&self.path))?;
        self.seen.read(new);
        Ok(())
    }

    /// Makes what has arrived durable. When nothing is missing and the digest is the announced one the vector is whole, and this
    /// says what was seen of it; its name is durable after [`sync_folder`], which may serve many.
    ///
    /// # Errors
    /// [`VectorError::Digest`] when it is another; what had arrived is removed. [`VectorError::Disk`].
    pub fn finish(self) -> Result<Option<VectorSummary>, VectorError> {
        let complete = self.is_complete();
        if !self.is_whole {
            self.file.sync_all().map_err(disk(&self.path))?;
        }
        if !complete {
            sync_folder(&self.folder.folder)?;
            return Ok(None);
        }
        let vector = self.seen.finish();
        if *vector.digest() != self.header.digest {
            fs::remove_file(&self.path).map_err(disk(&self.path))?;
            return Err(VectorError::Digest { client: self.header.client });
        }
        if !self.is_whole {
            let whole = self.folder.path(self.header.client, WHOLE);
            fs::rename(&self.path, &whole).map_err(disk(&whole))?;
        }
        Ok(Some(vector))
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// [`VectorError::Disk`].
pub fn sync_folder(folder: &Path) -> Result<(), VectorError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk(folder))
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

fn read_all(file: &mut File) -> io::Result<VectorReader> {
    let (mut seen, mut buffer) = (VectorReader::default(), Vec::new());
    if file.metadata()?.len() > 0 {
        buffer.resize(READ_BYTES, 0);
    }
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(seen),
            count => seen.read(&buffer[..count]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};
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

    /// One stream: chunks, and its end.
    fn send(
        vectors: &VectorFolder,
        header: &MaskedHeader,
        chunks: &[(u64, &[u8])],
    ) -> Result<Option<VectorSummary>, VectorError> {
        let mut writer = vectors.writer(header)?;
        for (offset, bytes) in chunks {
            writer.append(*offset, bytes)?;
        }
        writer.finish()
    }

    #[test]
    fn an_upload_goes_on_wherever_it_stopped() {
        let (_folder, vectors) = vectors();
        let bytes: Vec<u8> = (0..3000_u32).map(|value| value as u8).collect();
        let (header, whole) = (header(&bytes), Some(VectorSummary::of(&bytes)));
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(0));
        assert_eq!(send(&vectors, &header, &[]).unwrap(), None);
        assert_eq!(send(&vectors, &header, &[(0, &bytes[..1000])]).unwrap(), None);
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(1000));
        // A repeat, an overlap, something within what has arrived.
        let chunks = [(0, &bytes[..1000]), (900, &bytes[900..2000]), (5, &bytes[5..50])];
        assert_eq!(send(&vectors, &header, &chunks).unwrap(), None);
        let again = VectorFolder::open(vectors.folder.clone()).unwrap();
        assert_eq!(again.stored(&header).unwrap(), Stored::Part(2000));
        assert_eq!(send(&again, &header, &[(2000, &bytes[2000..])]).unwrap(), whole);
        assert_eq!(again.stored(&header).unwrap(), Stored::Whole);
        assert_eq!(again.read(header.client).unwrap(), bytes);
        assert_eq!(send(&again, &header, &[(0, &bytes[..9])]).unwrap(), whole);
        assert_eq!(send(&again, &header, &[]).unwrap(), whole);
        assert_eq!(again.read(header.client).unwrap(), bytes);
        again.remove().unwrap();
        assert!(!vectors.folder.exists());
        vectors.remove().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let (_folder, vectors) = vectors();
        let bytes = [7; 100];
        let header = header(&bytes);
        send(&vectors, &header, &[(0, &bytes[..10])]).unwrap();
        let refused = |offset, bytes: &[u8]| send(&vectors, &header, &[(offset, bytes)]).unwrap_err();
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
        let other = send(&vectors, &header, &[(0, &[8; 100])]);
        assert!(matches!(other, Err(VectorError::Digest { client: ClientId(0xa1) })));
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(0));
        assert!(send(&vectors, &header, &[(0, &[7; 100])]).unwrap().is_some());
        // A whole one that the disk has changed is another, too.
        fs::write(vectors.path(header.client, WHOLE), [9; 100]).unwrap();
        assert!(matches!(send(&vectors, &header, &[]), Err(VectorError::Digest { .. })));
        assert_eq!(vectors.stored(&header).unwrap(), Stored::Part(0));
    }

    #[test]
    fn a_file_that_is_longer_than_announced_is_another() {
        let (_folder, vectors) = vectors();
        let header = header(&[7; 100]);
        fs::write(vectors.path(header.client, PART), [7; 101]).unwrap();
        assert!(matches!(send(&vectors, &header, &[]), Err(VectorError::Digest { .. })));
        assert!(send(&vectors, &header, &[(0, &[7; 100])]).unwrap().is_some());
    }
}
