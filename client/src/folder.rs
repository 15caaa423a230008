//! The client's folder: small files, each written whole and durably or not at all, readable by their owner alone. Must never
//! guess at a damaged file, leave a secret behind where one was shredded, or be used by two processes at once.
//!
//! A file is: 8 bytes of magic, its kind (1), the version of that kind's payload (1), the payload's length (8, big-endian), the
//! payload, and SHA-256 over all of that. It is written under a temporary name, flushed to the disk, renamed, and the folder
//! flushed. A file is shredded by renaming it, overwriting it and removing it; a process that dies in the middle is caught up
//! with when the folder is next opened. Overwriting is best effort: a file system that copies on write, or an SSD, may keep the
//! old blocks until it reuses them.
//!
//! Tests of crashes find a kill point ([`tacit_proto::crash`]) before and after the rename of each file written, and after each
//! step of wiping one.

mod disk;

use disk::{files_below, flush_parent, make_private, private_options, wipe, with_suffix};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tacit_proto::crash::kill_point;
use zeroize::Zeroizing;

/// First bytes of every file.
const MAGIC: &[u8; 8] = b"tacit/cl";
/// Magic, kind, version, length.
const HEADER: usize = 8 + 1 + 1 + 8;
/// Longest payload: a cohort list with all its adverts is the longest message of a round.
const MAX_PAYLOAD: u64 = 1 << 30;
/// Ends the name of a file that is being written.
const TEMPORARY: &str = ".tmp";
/// Ends the name of a file that is being wiped.
const SHREDDED: &str = ".shred";
/// The file whose lock says that the folder is in use.
const LOCK: &str = "lock";
/// How often, and how far apart, the lock is tried.
const ATTEMPTS: u32 = 10;
const MOMENT: Duration = Duration::from_millis(20);

/// What a file holds, and the version of its form. A form that changes gets another version, and old files a way to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Tells kinds apart, so that no file passes for another.
    pub code: u8,
    /// Version of the payload's form.
    pub version: u8,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The operating system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Another process has the folder.
    #[error("{path} is in use by another tacit-client: stop that one first, or give another --folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such folder.
    #[error("{path} is not a client's folder: `tacit-client enrol` makes one")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Not what was written.
    #[error("{path} is damaged: {problem}. Nothing was read from it. {remedy}", remedy = Self::REMEDY)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Written by another version of this program.
    #[error(
        "{path} has version {found} of its form, and this program reads version {known}: use the program that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// The version that is known here.
        known: u8,
    },
    /// A test stopped the process here.
    #[cfg(test)]
    #[error("killed by a test")]
    Killed,
}

impl FolderError {
    const REMEDY: &str = "Restore the folder's file from a backup made after the last round, or start anew with \
                          `tacit-client forget` and `tacit-client enrol`";

    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    fn damaged(path: &Path, problem: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// A client's folder, which no other process changes meanwhile.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held until the process ends, however that happens.
    _lock: File,
    /// Durable changes, and the one from which on everything fails.
    #[cfg(test)]
    fuse: (AtomicU64, u64),
}

impl Folder {
    /// Opens the folder, makes it if it is not there, and wipes what a process that died left half done.
    ///
    /// # Errors
    /// [`FolderError::InUse`], or [`FolderError::Io`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        make_private(path)?;
        let lock_path = path.join(LOCK);
        let lock = private_options().create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(FolderError::io(&lock_path))?;
        // Whoever looks whether the folder is in use holds the lock for a moment.
        let mut attempts = 0..ATTEMPTS;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempts.next().is_some() => std::thread::sleep(MOMENT),
                Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { path: path.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(FolderError::Io { path: lock_path, source }),
            }
        }
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
            #[cfg(test)]
            fuse: (AtomicU64::new(0), u64::MAX),
        };
        folder.sweep()?;
        Ok(folder)
    }

    /// Opens a folder that must be there.
    ///
    /// # Errors
    /// As [`Self::open`], and [`FolderError::Missing`].
    pub fn open_existing(path: &Path) -> Result<Self, FolderError> {
        if !path.join(LOCK).is_file() {
            return Err(FolderError::Missing { path: path.to_owned() });
        }
        Self::open(path)
    }

    /// Whether a process is using the folder.
    ///
    /// # Errors
    /// [`FolderError::Missing`], or [`FolderError::Io`].
    pub fn is_in_use(path: &Path) -> Result<bool, FolderError> {
        let lock_path = path.join(LOCK);
        let lock = match File::open(&lock_path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(FolderError::Missing { path: path.to_owned() });
            }
            lock => lock.map_err(FolderError::io(&lock_path))?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(FolderError::Io { path: lock_path, source }),
        }
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file: once this returns it is there, whole, whatever happens to the machine; if the machine dies before, the
    /// file is what it was.
    ///
    /// # Errors
    /// [`FolderError::Io`], a full disk among it; the old file, if there was one, is then still there.
    pub fn write(&self, name: &str, kind: Kind, payload: &[u8]) -> Result<(), FolderError> {
        let path = self.place(name)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        (header[8], header[9]) = (kind.code, kind.version);
        header[10..].copy_from_slice(&(payload.len() as u64).to_be_bytes());
        let digest = Sha256::new().chain_update(header).chain_update(payload).finalize();
        write_whole(&path, &[&header, payload, &digest], true)?;
        self.changed()
    }

    /// Writes a value.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn store<T: Serialize>(&self, name: &str, kind: Kind, value: &T) -> Result<(), FolderError> {
        let encode = || {
            // Of the right size from the start: a vector that grows leaves copies of secrets behind.
            let mut bytes = Zeroizing::new(vec![0; postcard::experimental::serialized_size(value)?]);
            postcard::to_slice(value, &mut bytes)?;
            Ok(bytes)
        };
        let encoded =
            encode().map_err(|error: postcard::Error| FolderError::damaged(&self.path.join(name), error))?;
        self.write(name, kind, &encoded)
    }

    /// Reads a file; none where there is none.
    ///
    /// # Errors
    /// [`FolderError::Damaged`] or [`FolderError::Version`] names the file.
    pub fn read(&self, name: &str, kind: Kind) -> Result<Option<Zeroizing<Vec<u8>>>, FolderError> {
        read(&self.path, name, kind)
    }

    /// Reads a value; none where there is none.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn load<T: DeserializeOwned>(&self, name: &str, kind: Kind) -> Result<Option<T>, FolderError> {
        load(&self.path, name, kind)
    }

    /// A file of the folder whose contents make no sense to those who know them.
    pub(crate) fn damaged(&self, name: &str, problem: &str) -> FolderError {
        FolderError::damaged(&self.path.join(name), problem)
    }

    /// Whether there is such a file, good or bad.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Names of the files in a folder inside, sorted; none where it is not there.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn list(&self, inside: &str) -> Result<Vec<String>, FolderError> {
        let path = self.path.join(inside);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FolderError::io(&path))?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(FolderError::io(&path))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Wipes a file and removes it. From the first moment on, whatever happens to the machine, nobody reads it again.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn shred(&self, name: &str) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let wiped = with_suffix(&path, SHREDDED);
        match fs::rename(&path, &wiped) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(FolderError::io(&path))?,
        }
        flush_parent(&path)?;
        kill_point();
        self.changed()?;
        wipe(&wiped)?;
        self.changed()
    }

    /// Wipes every file of a folder inside.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn shred_all(&self, inside: &str) -> Result<(), FolderError> {
        for name in self.list(inside)? {
            self.shred(&format!("{inside}/{name}"))?;
        }
        Ok(())
    }

    /// Wipes and removes everything, the folder too.
    ///
    /// # Errors
    /// [`FolderError::Io`]; some of it is then still there, and the call may be repeated.
    pub fn forget(self) -> Result<(), FolderError> {
        for path in files_below(&self.path)? {
            if path != self.path.join(LOCK) {
                wipe(&path)?;
            }
        }
        fs::remove_dir_all(&self.path).map_err(FolderError::io(&self.path))
    }

    /// Where a file is to be written; its folder is made if it is not there.
    fn place(&self, name: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            make_private(parent)?;
        }
        Ok(path)
    }

    /// Wipes what was being written or wiped when a process died: the next one begins from what is whole.
    fn sweep(&self) -> Result<(), FolderError> {
        for path in files_below(&self.path)? {
            let name = path.to_string_lossy();
            if name.ends_with(TEMPORARY) || name.ends_with(SHREDDED) {
                wipe(&path)?;
            }
        }
        Ok(())
    }

    /// After a durable change: in a test it may be the last one that is made.
    fn changed(&self) -> Result<(), FolderError> {
        #[cfg(test)]
        if self.fuse.0.fetch_add(1, Ordering::Relaxed) + 1 >= self.fuse.1 {
            return Err(FolderError::Killed);
        }
        Ok(())
    }

    /// As [`Self::open`], for a test in which everything fails from the n-th durable change on, which is still made.
    #[cfg(test)]
    pub(crate) fn open_until(path: &Path, changes: u64) -> Result<Self, FolderError> {
        let mut folder = Self::open(path)?;
        folder.fuse.1 = changes;
        Ok(folder)
    }
}

/// Reads a file of a folder that another process may be using; none where there is none.
///
/// # Errors
/// As [`Folder::read`].
pub fn read(folder: &Path, name: &str, kind: Kind) -> Result<Option<Zeroizing<Vec<u8>>>, FolderError> {
    let path = folder.join(name);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(FolderError::io(&path))?,
    };
    let length = file.metadata().map_err(FolderError::io(&path))?.len();
    let damaged = |problem: &str| FolderError::damaged(&path, problem);
    if length > MAX_PAYLOAD {
        return Err(damaged("it is larger than any file here"));
    }
    // Of the right size from the start: a vector that grows leaves copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.read_to_end(&mut bytes).map_err(FolderError::io(&path))?;
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(damaged("it is too short"));
    };
    let Some((payload, digest)) = rest.split_last_chunk::<32>() else {
        return Err(damaged("it is too short"));
    };
    if !header.starts_with(MAGIC) {
        return Err(damaged("it does not begin as this program's files do"));
    }
    if Sha256::new().chain_update(header).chain_update(payload).finalize().as_slice() != digest {
        return Err(damaged("its checksum does not match"));
    }
    if header[10..] != (payload.len() as u64).to_be_bytes() {
        return Err(damaged("its length is not the one that it states"));
    }
    if header[8] != kind.code {
        return Err(damaged("it is another of this program's files, under a wrong name"));
    }
    if header[9] != kind.version {
        return Err(FolderError::Version { path, found: header[9], known: kind.version });
    }
    Ok(Some(Zeroizing::new(payload.to_vec())))
}

/// Reads a value of a folder that another process may be using; none where there is none.
///
/// # Errors
/// As [`read`].
pub fn load<T: DeserializeOwned>(folder: &Path, name: &str, kind: Kind) -> Result<Option<T>, FolderError> {
    let Some(payload) = read(folder, name, kind)? else { return Ok(None) };
    let damaged = |error: postcard::Error| FolderError::damaged(&folder.join(name), error);
    let (value, rest) = postcard::take_from_bytes(&payload).map_err(damaged)?;
    if rest.is_empty() {
        return Ok(Some(value));
    }
    Err(FolderError::damaged(&folder.join(name), format!("{} bytes are left over", rest.len())))
}

/// Writes plain text that people and programs read while the client runs. Whole or not at all, but not flushed: it says how
/// things stand, and nothing depends on it.
///
/// # Errors
/// [`FolderError::Io`].
pub fn publish(folder: &Path, name: &str, text: &str) -> Result<(), FolderError> {
    write_whole(&folder.join(name), &[text.as_bytes()], false)
}

/// Writes plain text that its owner may edit, durably.
///
/// # Errors
/// [`FolderError::Io`].
pub fn write_text(folder: &Path, name: &str, text: &str) -> Result<(), FolderError> {
    write_whole(&folder.join(name), &[text.as_bytes()], true)
}

fn write_whole(path: &Path, parts: &[&[u8]], durable: bool) -> Result<(), FolderError> {
    let temporary = with_suffix(path, TEMPORARY);
    let write = || {
        let mut file = private_options().create(true).truncate(true).open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        if durable {
            file.sync_all()?;
            kill_point();
        }
        drop(file);
        fs::rename(&temporary, path)
    };
    if let Err(source) = write() {
        // What could not be written whole is not left behind; that it could not be removed changes nothing.
        let _ = fs::remove_file(&temporary);
        return Err(FolderError::Io { path: path.to_owned(), source });
    }
    if durable {
        flush_parent(path)?;
        kill_point();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Folder, FolderError, Kind, load};
    use std::fs;

    const KIND: Kind = Kind { code: 200, version: 1 };

    #[test]
    fn a_file_is_read_as_it_was_written_and_no_byte_of_it_can_change() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(&root.path().join("client")).expect("new");
        assert_eq!(folder.load::<u64>("a/number", KIND).expect("none"), None);
        folder.store("a/number", KIND, &77_u64).expect("written");
        folder.store("a/number", KIND, &78_u64).expect("written over");
        assert_eq!(folder.load::<u64>("a/number", KIND).expect("good"), Some(78));
        assert_eq!(folder.list("a").expect("there"), ["number"]);

        let path = folder.path().join("a/number");
        let good = fs::read(&path).expect("there");
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&path, bad).expect("writable");
            let error = folder.read("a/number", KIND).expect_err("damaged");
            assert!(matches!(error, FolderError::Damaged { .. }), "{place}: {error}");
            assert!(error.to_string().contains("a/number"), "{error}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).expect("writable");
            assert!(matches!(folder.read("a/number", KIND), Err(FolderError::Damaged { .. })), "{length}");
        }
        fs::write(&path, &good).expect("writable");
        let other = Kind { code: 201, version: 1 };
        assert!(matches!(folder.read("a/number", other), Err(FolderError::Damaged { .. })));
        let newer = Kind { version: 2, ..KIND };
        let error = folder.read("a/number", newer).expect_err("another form");
        assert!(matches!(error, FolderError::Version { found: 1, known: 2, .. }));
        // A payload of another type leaves bytes over.
        folder.store("b", KIND, &(1_u64, 2_u64)).expect("written");
        assert!(matches!(folder.load::<u64>("b", KIND), Err(FolderError::Damaged { .. })));
    }

    #[test]
    fn one_process_at_a_time_and_anybody_may_look() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("client");
        assert!(matches!(Folder::open_existing(&path), Err(FolderError::Missing { .. })));
        let folder = Folder::open(&path).expect("new");
        folder.store("x", KIND, &5_u8).expect("written");
        assert!(matches!(Folder::open(&path), Err(FolderError::InUse { .. })));
        assert!(Folder::is_in_use(&path).expect("there"));
        assert_eq!(load::<u8>(&path, "x", KIND).expect("good"), Some(5));
        drop(folder);
        assert!(!Folder::is_in_use(&path).expect("there"));
        Folder::open_existing(&path).expect("free again");
    }

    #[test]
    fn what_is_shredded_is_gone_at_every_crash_and_nothing_half_written_stays() {
        let secret = [0xa5_u8; 100];
        for changes in 1..=3 {
            let root = tempfile::tempdir().expect("a folder");
            let path = root.path().join("client");
            let folder = Folder::open_until(&path, changes).expect("new");
            let written = folder.write("round/secrets", KIND, &secret);
            assert_eq!(written.is_err(), changes == 1);
            if written.is_ok() {
                assert!(folder.shred("round/secrets").is_err());
            }
            drop(folder);
            fs::write(path.join("budget.tmp"), b"half").expect("writable");

            let folder = Folder::open(&path).expect("opened after the crash");
            assert_eq!(
                folder.holds("round/secrets"),
                changes == 1,
                "the write was done, and so was the wiping"
            );
            if changes > 1 {
                assert!(folder.list("round").expect("there").is_empty());
            }
            assert!(!folder.holds("budget.tmp"));
            folder.shred("round/secrets").expect("as often as wanted");
            folder.shred("round/secrets").expect("as often as wanted");
            assert!(folder.list("round").expect("there").is_empty());
        }
    }

    #[test]
    fn forgetting_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("client");
        let folder = Folder::open(&path).expect("new");
        folder.store("a/b/c", KIND, &1_u8).expect("written");
        super::publish(&path, "status.json", "{}").expect("written");
        folder.forget().expect("all of it");
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(&root.path().join("client")).expect("new");
        folder.store("keys/secret", KIND, &1_u8).expect("written");
        let mode =
            |name: &str| fs::metadata(folder.path().join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("keys"), mode("keys/secret"), mode("lock")), (0o700, 0o700, 0o600, 0o600));
    }
}
