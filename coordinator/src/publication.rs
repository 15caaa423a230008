//! Versions of adapters: their files, their manifests, and the channels that say which one is installed. Must never put a
//! manifest into a batch before the files that it names are on disk.

mod blobs;
mod channels;
mod files;
#[cfg(test)]
mod tests;

pub use blobs::Blob;
pub use channels::canary_member;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use serde::{Deserialize, Serialize};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_privacy::BasisPoints;
use tacit_proto::adapter::AdapterLayout;
use tacit_proto::manifest::{Origin, PublishedFile};
use tacit_proto::{AdapterVersion, Channel, CoordinatorKey, Manifest, ManifestError, SignedManifest};

use crate::Millis;
use crate::store::{Batch, Records, Store, StoreError, Table};
use blobs::BlobFolder;

/// Records read at once.
const PAGE: usize = 256;
/// Versions that [`Publisher::retire`] keeps at the least: the present one, and one to go back to.
pub const FEWEST_KEPT: u64 = 2;

/// Every version of every task.
struct Versions;

impl Table for Versions {
    const NAME: &'static str = "adapters";
    type Key = (String, u64);
    type Value = VersionRow;
}

/// What is known of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct VersionRow {
    /// Its manifest in the training channel, signed.
    manifest: Vec<u8>,
    /// Whether its files are gone.
    retired: bool,
}

/// Publishes versions of adapters. Its records are changed by the caller's batches, by one caller at a time: each method that
/// takes a batch reads the store as it is without it.
#[derive(Clone)]
pub struct Publisher {
    blobs: Arc<BlobFolder>,
    store: Arc<dyn Store>,
    key: Arc<CoordinatorKey>,
}

/// A version that is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The learning task.
    pub task: &'a TaskName,
    /// The matrices that the adapter consists of; checked by whoever made the task.
    pub layout: &'a AdapterLayout,
    /// The version.
    pub adapter: &'a AdapterVersion,
    /// The round that it comes from; none for the first version.
    pub origin: Option<Origin>,
    /// Share of the fleet that installs it first. Zero: everybody does, at once.
    pub canary: BasisPoints,
}

/// A version in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// What was published.
    pub manifest: Manifest,
    /// Whether its files are gone.
    pub retired: bool,
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files that no version names, now removed.
    pub removed: usize,
    /// Files that a version names, and that are not there: as task, version and name.
    pub missing: Vec<(TaskName, u64, String)>,
}

/// Why a version cannot be published, installed or read.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// The disk fails, or is full.
    #[error("{path}: {source}; free space or check the disk, nothing was published")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{path} is damaged and was moved to {moved}: check the disk, and restore the file from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        moved: PathBuf,
    },
    /// No published file has this digest.
    #[error("no published file has the digest {digest}")]
    NoSuchFile {
        /// The digest, in hexadecimal.
        digest: String,
    },
    /// A reader starts beyond the end.
    #[error("a file of {size} bytes cannot be read from byte {offset}")]
    Offset {
        /// Where the reader starts.
        offset: u64,
        /// Length of the file.
        size: u64,
    },
    /// A version that does not follow the newest one.
    #[error(
        "the adapter does not follow version {newest:?} of task {task}: it was published before, or its round is another task's"
    )]
    Chain {
        /// The task.
        task: TaskName,
        /// The newest version, if there is one.
        newest: Option<u64>,
    },
    /// An adapter of another size than its layout.
    #[error("the adapter of task {task} has {found} coordinates, its layout has {expected}")]
    Dimension {
        /// The task.
        task: TaskName,
        /// Coordinates of the adapter.
        found: u64,
        /// Coordinates of the layout.
        expected: u64,
    },
    /// The task has no such version.
    #[error("task {task} has no version {version}, or its files were retired")]
    NoSuchVersion {
        /// The task.
        task: TaskName,
        /// The version.
        version: u64,
    },
    /// A channel without a version, or without an earlier one.
    #[error("channel {channel} of task {task} cannot be changed: {problem}")]
    Channel {
        /// The task.
        task: TaskName,
        /// The channel.
        channel: Channel,
        /// Why not.
        problem: &'static str,
    },
    /// A manifest that cannot be signed, or is not what was signed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// Publishes into a folder and a store, under a key.
    ///
    /// # Errors
    /// [`PublicationError::Disk`].
    pub fn open(
        folder: &Path,
        store: Arc<dyn Store>,
        key: Arc<CoordinatorKey>,
    ) -> Result<Self, PublicationError> {
        Ok(Self { blobs: Arc::new(BlobFolder::open(folder.join("blobs"))?), store, key })
    }

    /// Stores the files of the next version durably, and puts its records into the batch. A crash before the batch is
    /// committed leaves files that no version names; [`Self::sweep`] removes them.
    ///
    /// The version becomes the present one of the channels `training` and `canary`, and of `stable` too if there is no
    /// canary share or it is the first. The manifest returned is the training channel's.
    ///
    /// # Errors
    /// [`PublicationError::Chain`] when the adapter's parent is not the newest version, or the base model for the first.
    pub fn publish(
        &self,
        batch: &mut Batch,
        publication: &Publication<'_>,
        now: Millis,
    ) -> Result<SignedManifest, PublicationError> {
        let Publication { task, layout, adapter, origin, canary } = *publication;
        let (found, expected) = (adapter.values().len() as u64, layout.dimension());
        if found != expected {
            return Err(PublicationError::Dimension { task: task.clone(), found, expected });
        }
        let newest = self.present(task, Channel::Training)?;
        let follows = newest.as_ref().map_or(layout.base_model, |newest| newest.adapter);
        if *adapter.parent() != follows {
            let newest = newest.map(|newest| newest.version);
            return Err(PublicationError::Chain { task: task.clone(), newest });
        }
        let version = newest.map_or(0, |newest| newest.version + 1);
        let named = |name: &str, bytes: Vec<u8>| -> Result<PublishedFile, PublicationError> {
            Ok(PublishedFile {
                name: name.to_owned(),
                digest: self.blobs.write(&bytes)?,
                size: bytes.len() as u64,
            })
        };
        let manifest = Manifest {
            task: task.clone(),
            channel: Channel::Training,
            serial: 0,
            version,
            adapter: *adapter.digest(),
            parent: *adapter.parent(),
            base_model: layout.base_model,
            origin,
            files: vec![
                named(files::CONFIG, files::config(layout))?,
                named(files::TRAINED, files::trained(layout, task.as_str(), version, adapter))?,
            ],
            created: now,
            coordinator: self.key.public_key(),
        };
        let signed = self.advance(batch, Channel::Training, &manifest)?;
        self.advance(batch, Channel::Canary, &manifest)?;
        if version == 0 || canary == BasisPoints::ZERO {
            self.advance(batch, Channel::Stable, &manifest)?;
        }
        let row = VersionRow { manifest: signed.to_bytes(), retired: false };
        batch.put::<Versions>(&(task.as_str().to_owned(), version), &row);
        Ok(signed)
    }

    /// What a client of a task installs.
    ///
    /// # Errors
    /// [`PublicationError::Channel`] when nothing was published. [`PublicationError::Store`].
    pub fn installs(
        &self,
        task: &TaskName,
        client: ClientId,
        canary: BasisPoints,
    ) -> Result<SignedManifest, PublicationError> {
        let channel = if canary_member(task, client, canary) { Channel::Canary } else { Channel::Stable };
        self.manifest(task, channel)
    }

    /// Versions of a task from a number on, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`PublicationError::Store`]; [`PublicationError::Manifest`] when a record is not what was signed.
    pub fn list(&self, task: &TaskName, from: u64, limit: usize) -> Result<Vec<Listed>, PublicationError> {
        let from = (task.as_str().to_owned(), from);
        let rows = Records(&*self.store).scan::<Versions>(&(from.0.clone(),), Some(&from), limit)?;
        rows.into_iter()
            .map(|(_, row)| Ok(Listed { manifest: self.read(&row.manifest)?, retired: row.retired }))
            .collect()
    }

    /// Digests of the versions just before one, at most `most`. Their files may be retired.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn before(&self, task: &TaskName, version: u64, most: u64) -> Result<Vec<Digest>, PublicationError> {
        let oldest = version.saturating_sub(most);
        let listed = self.list(task, oldest, usize::try_from(version - oldest).unwrap_or(usize::MAX))?;
        let before = listed.into_iter().filter(|listed| listed.manifest.version < version);
        Ok(before.map(|listed| listed.manifest.adapter).collect())
    }

    /// Opens a published file at an offset, to be read in parts. The first time in this process all of it is read and compared
    /// with its digest, and others who open a file wait for that: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`PublicationError::Damaged`] when it is not what it was: it is then moved away and no longer served.
    /// [`PublicationError::NoSuchFile`], [`PublicationError::Offset`], [`PublicationError::Disk`].
    pub fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Blob, PublicationError> {
        self.blobs.open_blob(digest, offset)
    }

    /// Gives up the files of versions that nobody needs: all but the newest `keep`, the present version of each channel, and the
    /// one that it goes back to. [`Self::sweep`] removes the files once the batch is
    /// committed.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn retire(
        &self,
        batch: &mut Batch,
        task: &TaskName,
        keep: u64,
    ) -> Result<Vec<u64>, PublicationError> {
        let Some(newest) = self.present(task, Channel::Training)? else { return Ok(Vec::new()) };
        let oldest = (newest.version + 1).saturating_sub(keep.max(FEWEST_KEPT));
        let needed = self.needed(task)?;
        let mut retired = Vec::new();
        let mut from = (task.as_str().to_owned(), 0);
        while from.1 < oldest {
            let rows = Records(&*self.store).scan::<Versions>(&(from.0.clone(),), Some(&from), PAGE)?;
            let Some(((_, last), _)) = rows.last() else { break };
            from.1 = last + 1;
            for (key, row) in rows {
                if key.1 < oldest && !row.retired && !needed.contains(&key.1) {
                    batch.put::<Versions>(&key, &VersionRow { retired: true, ..row });
                    retired.push(key.1);
                }
            }
        }
        Ok(retired)
    }

    /// Keeps every published file where it is, for a copy of them, until what this gives is dropped.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.blobs.hold()
    }

    /// Removes files that no version names, unless they are held, and says which ones are missing. At the start, and after a batch with retired
    /// versions was committed; never between [`Self::publish`] and the commit of its batch.
    ///
    /// # Errors
    /// As [`Self::list`], and [`PublicationError::Disk`].
    pub fn sweep(&self) -> Result<Swept, PublicationError> {
        let (mut named, mut missing) = (BTreeSet::new(), Vec::new());
        let mut from: Option<(String, u64)> = None;
        loop {
            let rows = Records(&*self.store).scan::<Versions>(&(), from.as_ref(), PAGE)?;
            let Some(((task, version), _)) = rows.last() else { break };
            from = Some((task.clone(), version + 1));
            for (_, row) in rows.into_iter().filter(|(_, row)| !row.retired) {
                let manifest = self.read(&row.manifest)?;
                for file in manifest.files {
                    if !self.blobs.has(&file.digest) {
                        missing.push((manifest.task.clone(), manifest.version, file.name));
                    }
                    named.insert(file.digest);
                }
            }
        }
        Ok(Swept { removed: self.blobs.keep_only(&named)?, missing })
    }

    /// A manifest of a version whose files are there.
    fn version(&self, task: &TaskName, version: u64) -> Result<Manifest, PublicationError> {
        let row = Records(&*self.store).get::<Versions>(&(task.as_str().to_owned(), version))?;
        let missing = PublicationError::NoSuchVersion { task: task.clone(), version };
        self.read(&row.filter(|row| !row.retired).ok_or(missing)?.manifest)
    }

    /// A manifest out of this coordinator's own records.
    fn read(&self, bytes: &[u8]) -> Result<Manifest, PublicationError> {
        Ok(SignedManifest::from_bytes(bytes)?.verify(&self.key.public_key())?.clone())
    }
}
