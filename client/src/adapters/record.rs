//! What this machine remembers of a task's versions: which one is installed, and what it was told. Must never forget what
//! would show that the coordinator contradicts itself.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tacit_aggregation::Digest;
use tacit_proto::{Channel, Manifest};

use super::InstallError;

/// Versions whose digests are remembered.
const MAX_KNOWN: usize = 256;

/// The record of a task; one small file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The installed version.
    pub current: Option<u64>,
    /// The version that was installed before it.
    pub previous: Option<u64>,
    /// Whether the owner went back: nothing is installed until the owner says so.
    pub pinned: bool,
    /// The newest statement of each channel, by its name.
    seen: BTreeMap<String, Seen>,
    /// Digests of versions, by their number.
    known: BTreeMap<u64, Hex>,
    /// Number of the restart of the coordinator's ledger since which all that was told.
    #[serde(default)]
    restart: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    serial: u64,
    manifest: Hex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Hex(#[serde(with = "hex::serde")] Digest);

impl Record {
    /// Forgets what was told before a restart: the coordinator does not know all of it any more, and gives numbers again. Whether
    /// that changes anything.
    pub(super) fn forget_before(&mut self, restart: u32) -> bool {
        let is_news = restart > self.restart;
        if is_news {
            self.forget_told(restart);
        }
        is_news
    }

    /// Forgets what was told until now, and which restart that was under. What is installed stays.
    pub(super) fn forget_told(&mut self, restart: u32) {
        self.seen.clear();
        self.known.clear();
        self.restart = restart;
    }

    /// Whether this very statement was followed.
    pub(super) fn has_followed(&self, manifest: &Manifest, digest: &Digest) -> bool {
        self.seen.get(manifest.channel.name()).is_some_and(|seen| seen.manifest.0 == *digest)
    }

    /// Compares a statement with what was told before.
    pub(super) fn check(&self, manifest: &Manifest, digest: &Digest) -> Result<(), InstallError> {
        let (task, channel, serial) = (&manifest.task, manifest.channel, manifest.serial);
        if let Some(seen) = self.seen.get(channel.name()) {
            if serial < seen.serial {
                let (task, seen) = (task.clone(), seen.serial);
                return Err(InstallError::OutOfDate { task, channel, serial, seen });
            }
            if serial == seen.serial && seen.manifest.0 != *digest {
                return Err(InstallError::TwoStatements { task: task.clone(), channel, serial });
            }
        }
        for (version, said) in told(manifest) {
            match self.known.get(&version) {
                Some(known) if known.0 != said => {
                    let (known, said) = (hex::encode(known.0), hex::encode(said));
                    return Err(InstallError::Contradiction { task: task.clone(), version, known, said });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Remembers a statement that was checked, and that its version is here.
    pub(super) fn follow(&mut self, manifest: &Manifest, digest: &Digest) {
        let seen = Seen { serial: manifest.serial, manifest: Hex(*digest) };
        self.seen.insert(manifest.channel.name().to_owned(), seen);
        self.known.extend(told(manifest).map(|(version, digest)| (version, Hex(digest))));
        while self.known.len() > MAX_KNOWN {
            self.known.pop_first();
        }
        if manifest.channel != Channel::Training && self.current != Some(manifest.version) {
            self.previous = self.current.replace(manifest.version);
        }
    }
}

/// The digests that a manifest states: its version's, and the one's before.
fn told(manifest: &Manifest) -> impl Iterator<Item = (u64, Digest)> {
    let before = manifest.version.checked_sub(1).map(|version| (version, manifest.parent));
    [(manifest.version, manifest.adapter)].into_iter().chain(before)
}
