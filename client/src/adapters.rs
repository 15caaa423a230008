//! Installed adapters: a folder of each task with its versions, one of which is the present one. Must never install what the
//! trusted coordinator did not sign, nor leave half a version where a whole one is looked for.
//!
//! A version's folder is an adapter as PEFT has it. Only the trained half of it is downloaded; the frozen half is
//! rebuilt from its seed.

mod download;
mod error;
mod files;
mod record;
#[cfg(test)]
mod tests;

pub use download::Download;
pub use error::InstallError;
pub use record::Record;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::PublicKey;
use tacit_aggregation::params::TaskName;
use tacit_model::storage::{load_adapter, load_trained, save_adapter, trained_tensors};
use tacit_model::{Adapter, BaseModel, DecoderConfig, LoraConfig};
use tacit_proto::adapter::{AdapterLayout, TrainedTensor};
use tacit_proto::manifest::PublishedFile;
use tacit_proto::{AdapterShape, AdapterVersion, Channel, Manifest, SignedManifest};

/// The folder of all tasks, within the client's.
const FOLDER: &str = "adapters";
/// The record within a task's folder.
const RECORD: &str = "record.json";
/// Held while the record is changed.
const LOCK: &str = "lock";
/// Files that are being downloaded.
const INCOMING: &str = "incoming";
/// A version that is being put together.
const STAGING: &str = "staging";
/// The signed manifest within a version's folder.
const MANIFEST: &str = "manifest";
/// The published description of the adapter.
const CONFIG: &str = "adapter_config.json";
/// The published trained matrices.
const TRAINED: &str = "trained.safetensors";

/// The base model that adapters are for.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// SHA-256 of its files.
    pub digest: Digest,
    /// Its shape.
    pub config: &'a DecoderConfig,
}

/// What a manifest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: it is followed already.
    Nothing,
    /// Nothing for now: the owner went back to an earlier version, and stays there.
    Pinned,
    /// Its files, these ones: [`AdapterFolder::download`] each, then [`AdapterFolder::install`].
    Files(Vec<PublishedFile>),
    /// What is here: [`AdapterFolder::install`].
    Install,
}

/// The versions of one task on this machine.
#[derive(Clone, Debug)]
pub struct AdapterFolder {
    folder: PathBuf,
    task: TaskName,
}

impl AdapterFolder {
    /// Opens the folder of a task within the client's; makes it when it is not there.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn open(client: &Path, task: &TaskName) -> Result<Self, InstallError> {
        // A task may be called `..`, which is no name for a folder.
        let folder = client.join(FOLDER).join(format!("task-{task}"));
        let incoming = folder.join(INCOMING);
        fs::create_dir_all(&incoming).map_err(files::disk(&incoming))?;
        Ok(Self { folder, task: task.clone() })
    }

    /// The tasks that a client's folder has adapters of, by name.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn tasks(client: &Path) -> Result<Vec<TaskName>, InstallError> {
        let folder = client.join(FOLDER);
        let names = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
            }),
        };
        let names = names.map_err(files::disk(&folder))?;
        let task = |name: &std::ffi::OsString| TaskName::new(name.to_str()?.strip_prefix("task-")?).ok();
        let mut tasks: Vec<TaskName> = names.iter().filter_map(task).collect();
        tasks.sort_unstable_by(|left, right| left.as_str().cmp(right.as_str()));
        Ok(tasks)
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        &self.task
    }

    /// What is installed.
    ///
    /// # Errors
    /// [`InstallError::Damaged`] when the record is; [`InstallError::Disk`].
    pub fn record(&self) -> Result<Record, InstallError> {
        let path = self.folder.join(RECORD);
        let Some(bytes) = files::read(&path)? else { return Ok(Record::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| InstallError::Damaged { path, problem: error.to_string() })
    }

    /// Versions that are here, in order.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn versions(&self) -> Result<Vec<u64>, InstallError> {
        let disk = files::disk(&self.folder);
        let mut versions = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(&disk)? {
            let name = entry.map_err(&disk)?.file_name();
            versions.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// The folder of a version, as PEFT has it.
    #[must_use]
    pub fn version_folder(&self, version: u64) -> PathBuf {
        self.folder.join(version.to_string())
    }

    /// What a manifest asks for.
    ///
    /// # Errors
    /// [`InstallError`] for a manifest that is not to be followed.
    pub fn consider(
        &self,
        signed: &SignedManifest,
        trusted: &PublicKey,
        base_model: &Digest,
    ) -> Result<Wanted, InstallError> {
        let record = self.record()?;
        let manifest = self.check(&record, signed, trusted, base_model)?;
        let installs = manifest.channel != Channel::Training;
        // After a restart of the ledger another version may have the number of one that was lost, which stays until this one's
        // files are here.
        let stored = self.manifest(manifest.version);
        let here = stored.is_ok_and(|stored| stored.claimed_adapter() == manifest.adapter);
        if installs && record.pinned {
            return Ok(Wanted::Pinned);
        }
        if here {
            let followed = record.has_followed(manifest, &signed.claimed_digest());
            let current = !installs || record.current == Some(manifest.version);
            return Ok(if followed && current { Wanted::Nothing } else { Wanted::Install });
        }
        let mut missing = Vec::new();
        for name in [CONFIG, TRAINED] {
            let file = self.published(manifest, name)?;
            if !download::is_whole(&self.folder.join(INCOMING), file)? {
                missing.push(file.clone());
            }
        }
        Ok(if missing.is_empty() { Wanted::Install } else { Wanted::Files(missing) })
    }

    /// Begins to download a file, or goes on where an earlier download stopped.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn download(&self, file: &PublishedFile) -> Result<Download, InstallError> {
        Download::open(&self.folder.join(INCOMING), file)
    }

    /// Puts the version together from what was downloaded, unless it is here, and makes it the present one in one step. A version
    /// to train on is only put together. What nobody needs any more is then removed: all versions but the present one, the one
    /// before and the newest, which training goes on from, and what is left of downloads, none of which may be under way.
    ///
    /// # Errors
    /// [`InstallError`]; the installed version is then what it was. [`InstallError::Missing`] also when a version that was here
    /// turned out to be damaged: it is removed, so that it is downloaded again.
    pub fn install(
        &self,
        signed: &SignedManifest,
        trusted: &PublicKey,
        base: &Base<'_>,
    ) -> Result<(), InstallError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let manifest = self.check(&record, signed, trusted, &base.digest)?;
        let folder = self.version_folder(manifest.version);
        let here = self.load(manifest.version, trusted, base);
        if here.is_err() {
            files::remove_folder(&folder)?;
        }
        if !here.is_ok_and(|(stored, _)| stored.adapter == manifest.adapter) {
            self.assemble(signed, manifest, base)?;
        }
        // The owner may have gone back while the files were coming.
        if record.pinned && manifest.channel != Channel::Training {
            return Ok(());
        }
        record.follow(manifest, &signed.claimed_digest());
        self.write(&record)?;
        self.prune(&record, manifest.version)
    }

    fn prune(&self, record: &Record, installed: u64) -> Result<(), InstallError> {
        let versions = self.versions()?;
        let needed = [record.current, record.previous, versions.last().copied(), Some(installed)];
        for version in versions.into_iter().filter(|version| !needed.contains(&Some(*version))) {
            files::remove_folder(&self.version_folder(version))?;
        }
        let incoming = self.folder.join(INCOMING);
        fs::remove_dir_all(&incoming).and_then(|()| fs::create_dir(&incoming)).map_err(files::disk(&incoming))
    }

    /// A version that is here, after a check that it is what the coordinator signed.
    ///
    /// # Errors
    /// [`InstallError::Damaged`] when it is not; [`Self::discard`] it then. [`InstallError`].
    pub fn load(
        &self,
        version: u64,
        trusted: &PublicKey,
        base: &Base<'_>,
    ) -> Result<(Manifest, Adapter), InstallError> {
        let folder = self.version_folder(version);
        let manifest = self.manifest(version)?.verify(trusted)?.clone();
        if manifest.base_model != base.digest {
            return Err(other_base(&manifest));
        }
        let path = folder.join(CONFIG);
        let config: Digest = Sha256::digest(fs::read(&path).map_err(files::disk(&path))?).into();
        if config != self.published(&manifest, CONFIG)?.digest {
            return Err(InstallError::Damaged { path, problem: "it is not what was published".to_owned() });
        }
        let adapter = load_adapter(&folder, base.config)?;
        compare(&manifest, &adapter, &folder)?;
        Ok((manifest, adapter))
    }

    /// The manifest with which a version came; its signature was verified then.
    ///
    /// # Errors
    /// [`InstallError::Missing`] when the version is not here, [`InstallError::Disk`], [`InstallError::Manifest`].
    pub fn manifest(&self, version: u64) -> Result<SignedManifest, InstallError> {
        let bytes = files::read(&self.version_folder(version).join(MANIFEST))?;
        let name = || format!("version {version} of task {}", self.task);
        let bytes = bytes.ok_or_else(|| InstallError::Missing { name: name() })?;
        Ok(SignedManifest::from_bytes(&bytes)?)
    }

    /// Goes back to the version that was installed before, and stays there until [`Self::unpin`].
    ///
    /// # Errors
    /// [`InstallError::NoEarlier`], [`InstallError::Disk`].
    pub fn rollback(&self) -> Result<u64, InstallError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let kept = record.previous.take().filter(|version| self.version_folder(*version).exists());
        let version = kept.ok_or_else(|| InstallError::NoEarlier { task: self.task.clone() })?;
        (record.current, record.pinned) = (Some(version), true);
        self.write(&record)?;
        Ok(version)
    }

    /// Follows the coordinator's channel again.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn unpin(&self) -> Result<(), InstallError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        record.pinned = false;
        self.write(&record)
    }

    /// The coordinator was restored from a backup, and the identity root lets it go on: what it publishes next may have numbers that
    /// were seen before. What is installed stays until then.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn restarted(&self, restart: u32) -> Result<(), InstallError> {
        if restart == 0 {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut record = self.record()?;
        if record.forget_before(restart) { self.write(&record) } else { Ok(()) }
    }

    /// Another coordinator is followed from now on, whose numbers are its own. What is installed stays until it publishes something.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn change_coordinator(&self) -> Result<(), InstallError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        record.forget_told(0);
        self.write(&record)
    }

    /// Removes a version, so that it is downloaded again.
    ///
    /// # Errors
    /// [`InstallError::Disk`].
    pub fn discard(&self, version: u64) -> Result<(), InstallError> {
        let _lock = self.lock()?;
        files::remove_folder(&self.version_folder(version))
    }

    fn check<'a>(
        &self,
        record: &Record,
        signed: &'a SignedManifest,
        trusted: &PublicKey,
        base_model: &Digest,
    ) -> Result<&'a Manifest, InstallError> {
        let manifest = signed.verify(trusted)?;
        if manifest.task != self.task {
            return Err(InstallError::Task { task: self.task.clone(), found: manifest.task.clone() });
        }
        record.check(manifest, &signed.claimed_digest())?;
        if manifest.base_model != *base_model {
            return Err(other_base(manifest));
        }
        Ok(manifest)
    }

    /// Makes a version's folder out of the downloaded files, in place of another that has its number.
    fn assemble(
        &self,
        signed: &SignedManifest,
        manifest: &Manifest,
        base: &Base<'_>,
    ) -> Result<(), InstallError> {
        let incoming = self.folder.join(INCOMING);
        let [config, trained] = [CONFIG, TRAINED].map(|name| self.published(manifest, name));
        let (config, trained) = (config?, trained?);
        for file in [config, trained] {
            if !download::is_whole(&incoming, file)? {
                return Err(InstallError::Missing { name: file.name.clone() });
            }
        }
        let [config, trained] = [config, trained].map(|file| download::place(&incoming, &file.digest));
        let adapter = load_trained(&config, &trained, base.config)?;
        compare(manifest, &adapter, &trained)?;
        let staging = self.folder.join(STAGING);
        files::remove_folder(&staging)?;
        save_adapter(&adapter, base.config, "", &staging)?;
        // The configuration as it was published: its digest is in the manifest, and stays comparable.
        fs::copy(&config, staging.join(CONFIG)).map_err(files::disk(&config))?;
        files::write(&staging.join(MANIFEST), &signed.to_bytes())?;
        let folder = self.version_folder(manifest.version);
        files::remove_folder(&folder)?;
        files::publish_folder(&staging, &folder)
    }

    fn published<'a>(
        &self,
        manifest: &'a Manifest,
        name: &'static str,
    ) -> Result<&'a PublishedFile, InstallError> {
        let (task, version) = (&self.task, manifest.version);
        manifest.file(name).ok_or_else(|| InstallError::NoSuchFile { task: task.clone(), version, name })
    }

    fn write(&self, record: &Record) -> Result<(), InstallError> {
        let path = self.folder.join(RECORD);
        let bytes = serde_json::to_vec_pretty(record);
        let bytes = bytes.map_err(|error| files::disk(&path)(error.into()))?;
        files::write(&path, &bytes)
    }

    /// One process at a time changes the record: the client that runs, or a command of its owner. Released when dropped.
    fn lock(&self) -> Result<File, InstallError> {
        let path = self.folder.join(LOCK);
        let file = File::options().create(true).append(true).open(&path).map_err(files::disk(&path))?;
        file.lock().map_err(files::disk(&path))?;
        Ok(file)
    }
}

/// What the coordinator has to know of an adapter to publish it.
///
/// # Errors
/// [`InstallError::Model`] when the shape does not fit the model.
pub fn layout(model: &BaseModel, lora: LoraConfig) -> Result<AdapterLayout, InstallError> {
    let config = model.decoder().config();
    let lora = lora.validated(config)?;
    let tensor = |(name, [rows, columns]): (String, [usize; 2])| TrainedTensor {
        name,
        shape: [rows as u32, columns as u32],
    };
    Ok(AdapterLayout {
        base: model.name(),
        base_model: model.digest(),
        tensors: trained_tensors(&lora, config).into_iter().map(tensor).collect(),
        adapter: AdapterShape {
            rank: lora.rank as u32,
            alpha: lora.alpha,
            targets: lora.targets.iter().map(|target| target.name().to_owned()).collect(),
            seed: lora.seed,
        },
    })
}

/// Whether the trained values are the ones that were signed.
fn compare(manifest: &Manifest, adapter: &Adapter, path: &Path) -> Result<(), InstallError> {
    let version = AdapterVersion::new(adapter.flat().to_vec(), manifest.parent);
    if version.is_ok_and(|version| *version.digest() == manifest.adapter) {
        return Ok(());
    }
    let problem = format!("it is not version {} of task {}", manifest.version, manifest.task);
    Err(InstallError::Damaged { path: path.to_owned(), problem })
}

fn other_base(manifest: &Manifest) -> InstallError {
    let (task, version) = (manifest.task.clone(), manifest.version);
    InstallError::BaseModel { task, version, wanted: hex::encode(manifest.base_model) }
}
