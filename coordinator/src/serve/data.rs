//! The folder in which a coordinator keeps everything. Must never be shared by two processes.

use crate::files::{FileError, failed, write_whole};
use crate::identity::Appointment;
use crate::identity::forms::AppointmentError;
use crate::settings::ServerSettings;
use crate::store::RocksStore;
use rand_core::CryptoRng;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tacit_aggregation::identity::PublicKey;
use tacit_proto::CoordinatorKey;
use zeroize::Zeroizing;

/// The coordinator's signing key: 64 hexadecimal digits.
const KEY: &str = "coordinator.key";
/// The identity root's word that the key is its coordinator's.
const APPOINTMENT: &str = "appointment.json";
/// The settings.
const SETTINGS: &str = "coordinator.toml";

/// A data folder.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a coordinator already.
    #[error(
        "{path} holds a coordinator's key already: with a second one every plan and head that was signed would be foreign"
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing was set up here.
    #[error("{path} holds no coordinator: make one with `tacit-coordinator init {path}`")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The root has not named this coordinator yet.
    #[error(
        "{path} holds no {APPOINTMENT}: have the identity root name this coordinator, `tacit-coordinator identity appoint {key} --folder ROOT`, \
         and copy the file here"
    )]
    NotAppointed {
        /// The folder.
        path: PathBuf,
        /// The coordinator's public key, in hexadecimal.
        key: String,
    },
    /// The appointment is of another key, or not signed.
    #[error("{path}: {source}")]
    Appointment {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AppointmentError,
    },
    /// The appointment names another coordinator.
    #[error("{path} names the coordinator {named}, but the key here is {found}: it is another coordinator's")]
    Another {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        named: PublicKey,
        /// Who this is.
        found: PublicKey,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl DataFolder {
    /// A folder, whether it is there or not.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the folder, draws the coordinator's key and writes the settings; says what the public key is.
    ///
    /// # Errors
    /// [`DataError::Exists`], [`DataError::File`].
    pub fn init<R: CryptoRng>(&self, settings: &ServerSettings, rng: &mut R) -> Result<PublicKey, DataError> {
        make_private(&self.0)?;
        let path = self.file(KEY);
        if path.exists() {
            return Err(DataError::Exists { path: self.0.clone() });
        }
        let text = toml::to_string_pretty(settings).map_err(|error| DataError::Malformed {
            path: self.file(SETTINGS),
            problem: error.to_string(),
        })?;
        write_whole(&self.file(SETTINGS), text.as_bytes())?;
        let key = CoordinatorKey::generate(rng);
        let digits = Zeroizing::new(hex::encode(key.to_bytes().as_slice()));
        write_whole(&path, digits.as_bytes())?;
        Ok(key.public_key())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the store is.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.file("store")
    }

    /// Where masked vectors are.
    #[must_use]
    pub fn vectors(&self) -> PathBuf {
        self.file("vectors")
    }

    /// Where the first operator's token is written.
    #[must_use]
    pub fn first_token(&self) -> PathBuf {
        self.file("admin.token")
    }

    /// Copies everything that a coordinator needs into a new folder, while it serves: the store as of one moment, published
    /// files, keys and settings. Masked vectors of an open round are not copied; such a round ends without a release.
    ///
    /// # Errors
    /// [`DataError::File`], [`DataError::Malformed`] when the folder exists.
    pub fn backup(&self, to: &Path, store: &RocksStore) -> Result<(), DataError> {
        let malformed = |problem: String| DataError::Malformed { path: to.to_owned(), problem };
        if to.exists() {
            return Err(malformed("it exists already: name a new folder".into()));
        }
        whole_or_none(to, |partial| {
            // Files are written before the records that name them: the store goes first.
            store.copy_to(&partial.join("store")).map_err(|error| malformed(error.to_string()))?;
            make_private(&partial.join("blobs"))?;
            copy_files(&self.file("blobs"), &partial.join("blobs"))?;
            copy_files(&self.0, partial)
        })
    }

    /// Copies a folder that nobody serves, files and all, into a new one.
    ///
    /// # Errors
    /// [`DataError::File`], [`DataError::Malformed`] when the folder exists.
    pub fn copy_to(&self, to: &Path) -> Result<(), DataError> {
        if to.exists() {
            let problem = "it exists already: name a new folder".to_owned();
            return Err(DataError::Malformed { path: to.to_owned(), problem });
        }
        whole_or_none(to, |partial| copy_tree(&self.0, partial))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The settings, or the defaults where there is no file.
    ///
    /// # Errors
    /// [`DataError::Malformed`] names the line.
    pub fn settings(&self) -> Result<ServerSettings, DataError> {
        let path = self.file(SETTINGS);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ServerSettings::default()),
            read => read.map_err(failed(&path))?,
        };
        ServerSettings::parse(&text).map_err(|problem| DataError::Malformed { path, problem })
    }

    /// The coordinator's key.
    ///
    /// # Errors
    /// [`DataError::Empty`], [`DataError::Malformed`], [`DataError::File`].
    pub fn key(&self) -> Result<CoordinatorKey, DataError> {
        let path = self.file(KEY);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataError::Empty { path: self.0.clone() });
            }
            read => Zeroizing::new(read.map_err(failed(&path))?),
        };
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_end(), key.as_mut_slice())
            .map_err(|_| DataError::Malformed { path, problem: "it is not 64 hexadecimal digits".into() })?;
        Ok(CoordinatorKey::from_bytes(&key))
    }

    /// The identity root's word that the key here is its coordinator's.
    ///
    /// # Errors
    /// [`DataError::NotAppointed`], [`DataError::Another`], [`DataError::Appointment`], and as [`Self::key`].
    pub fn appointment(&self) -> Result<Appointment, DataError> {
        let found = self.key()?.public_key();
        let path = self.file(APPOINTMENT);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DataError::NotAppointed { path: self.0.clone(), key: hex::encode(found.0) });
            }
            read => read.map_err(failed(&path))?,
        };
        let appointment: Appointment = serde_json::from_str(&text)
            .map_err(|error| DataError::Malformed { path: path.clone(), problem: error.to_string() })?;
        appointment.verify().map_err(|source| DataError::Appointment { path: path.clone(), source })?;
        let named = appointment.coordinator();
        if named == found { Ok(appointment) } else { Err(DataError::Another { path, named, found }) }
    }
}

/// The folder in which a name is.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder that only its owner may enter: keys lie in it, also in a backup.
fn make_private(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(failed(folder))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed(folder))?;
    }
    Ok(())
}

/// Makes a folder with what `fill` puts into it, under another name until all of it is there. Nothing is left where that fails;
/// what a process left that died is never added to, for it may be of another folder.
fn whole_or_none(to: &Path, fill: impl FnOnce(&Path) -> Result<(), DataError>) -> Result<(), DataError> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = to.with_file_name(name);
    if partial.exists() {
        let problem = "it is left of a copy that was interrupted: remove it, and try again".to_owned();
        return Err(DataError::Malformed { path: partial, problem });
    }
    make_private(&partial)?;
    let filled = fill(&partial)
        .and_then(|()| Ok(crate::files::sync(&partial).map_err(failed(&partial))?))
        .and_then(|()| Ok(fs::rename(&partial, to).map_err(failed(to))?));
    if filled.is_err() {
        // What cannot be removed is named the next time.
        let _ = fs::remove_dir_all(&partial);
    }
    filled?;
    Ok(crate::files::sync(folder_of(to)).map_err(failed(to))?)
}

/// Copies the files of a folder, but for those that are just being written.
fn copy_files(from: &Path, to: &Path) -> Result<(), DataError> {
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = name.starts_with(".partial-") || name.ends_with(".part");
        if !unfinished && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            copy(&entry.path(), &to.join(name))?;
        }
    }
    Ok(crate::files::sync(to).map_err(failed(to))?)
}

/// Copies a file with its permissions, durably.
fn copy(from: &Path, to: &Path) -> Result<(), DataError> {
    fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all()).map_err(failed(to))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), DataError> {
    make_private(to)?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(crate::files::sync(to).map_err(failed(to))?)
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_copy_that_failed_leaves_nothing_and_one_that_was_interrupted_is_not_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::new(folder.path().join("data"));
        data.init(&ServerSettings::default(), &mut ChaCha20Rng::seed_from_u64(1)).unwrap();
        let store = RocksStore::open(&data.store()).unwrap();
        let backup = folder.path().join("monday.1");
        // No published files yet: that fails half way.
        assert!(matches!(data.backup(&backup, &store), Err(DataError::File(_))));
        fs::create_dir_all(data.file("blobs")).unwrap();
        data.backup(&backup, &store).unwrap();
        data.backup(&folder.path().join("monday.2"), &store).unwrap();
        // A restore of another backup died; its log would be read as this one's.
        let restored = folder.path().join("restored");
        let stale = folder.path().join("restored.partial/store/999999.log");
        fs::create_dir_all(stale.parent().unwrap()).unwrap();
        fs::write(&stale, b"stale").unwrap();
        let refused = DataFolder::new(&backup).copy_to(&restored);
        assert!(matches!(&refused, Err(DataError::Malformed { .. })), "{refused:?}");
        assert!(!restored.exists());
        fs::remove_dir_all(folder.path().join("restored.partial")).unwrap();
        DataFolder::new(&backup).copy_to(&restored).unwrap();
    }

    #[test]
    fn nobody_but_the_owner_enters_a_data_folder_or_its_backup() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::new(folder.path().join("data"));
        data.init(&ServerSettings::default(), &mut ChaCha20Rng::seed_from_u64(1)).unwrap();
        let store = RocksStore::open(&data.store()).unwrap();
        fs::create_dir_all(data.file("blobs")).unwrap();
        let (backup, copy) = (folder.path().join("backup"), folder.path().join("copy"));
        data.backup(&backup, &store).unwrap();
        DataFolder::new(&backup).copy_to(&copy).unwrap();
        for path in [data.path(), &backup, &copy] {
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o77;
            assert_eq!((mode(path), mode(&path.join(KEY))), (0, 0), "{}", path.display());
        }
        assert_eq!(DataFolder::new(&copy).key().unwrap().public_key(), data.key().unwrap().public_key());
        assert!(matches!(data.backup(&backup, &store), Err(DataError::Malformed { .. })), "it exists");
    }
}
