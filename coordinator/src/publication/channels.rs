//! Channels: which version of a task is installed by whom, and how that changes. Must never change a channel without a manifest
//! that says so under a higher serial number.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_privacy::BasisPoints;
use tacit_proto::{Channel, Manifest, SignedManifest};

use super::{PublicationError, Publisher};
use crate::store::{Batch, Records, Table};

/// First field of what decides who is in the canary share.
const CANARY: &[u8] = b"tacit/canary/v1";
/// Versions that a channel remembers, so that it can go back to them.
const MAX_HISTORY: usize = 32;

/// The present version of every channel of every task.
struct Channels;

impl Table for Channels {
    const NAME: &'static str = "channels";
    type Key = (String, String);
    type Value = ChannelRow;
}

/// What is known of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ChannelRow {
    /// The manifest of its present version, signed.
    manifest: Vec<u8>,
    /// The versions that it had, and the present one at the end.
    history: Vec<u64>,
}

/// Whether a client is in the canary share of a task. It stays in it while the share grows.
#[must_use]
pub fn canary_member(task: &TaskName, client: ClientId, share: BasisPoints) -> bool {
    let name = task.as_str().as_bytes();
    let mut hash = Sha256::new();
    hash.update(CANARY);
    hash.update((name.len() as u64).to_be_bytes());
    hash.update(name);
    hash.update(client.0.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk::<8>().expect("a digest has 32 bytes");
    u128::from(u64::from_be_bytes(*first)) * 10_000 < (u128::from(share.get()) << 64)
}

impl Publisher {
    /// The signed manifest of a channel's present version.
    ///
    /// # Errors
    /// [`PublicationError::Channel`] when it has none. [`PublicationError::Store`].
    pub fn manifest(&self, task: &TaskName, channel: Channel) -> Result<SignedManifest, PublicationError> {
        let row =
            self.row(task, channel)?.ok_or_else(|| refused(task, channel, "nothing was published in it"))?;
        Ok(SignedManifest::from_bytes(&row.manifest)?)
    }

    /// Lets everybody install what the canary share has.
    ///
    /// # Errors
    /// [`PublicationError::Channel`] when everybody does already, or there is nothing. [`PublicationError::Store`].
    pub fn promote(&self, batch: &mut Batch, task: &TaskName) -> Result<SignedManifest, PublicationError> {
        let canary = self.present(task, Channel::Canary)?;
        let canary = canary.ok_or_else(|| refused(task, Channel::Canary, "nothing was published in it"))?;
        let stable = self.present(task, Channel::Stable)?;
        if stable.is_some_and(|stable| stable.version == canary.version) {
            return Err(refused(task, Channel::Stable, "it has the version of the canary channel already"));
        }
        self.advance(batch, Channel::Stable, &self.version(task, canary.version)?)
    }

    /// Puts a channel back to the version that it had before: those who follow it install that one again. Training is not put
    /// back, the next round goes on from the newest version; and what the versions in between cost stays spent.
    ///
    /// # Errors
    /// [`PublicationError::Channel`] when there is no earlier version, and for `training`.
    /// [`PublicationError::NoSuchVersion`] when its files were retired.
    pub fn rollback(
        &self,
        batch: &mut Batch,
        task: &TaskName,
        channel: Channel,
    ) -> Result<SignedManifest, PublicationError> {
        if channel == Channel::Training {
            return Err(refused(task, channel, "training goes on from the newest version"));
        }
        let row =
            self.row(task, channel)?.ok_or_else(|| refused(task, channel, "nothing was published in it"))?;
        let [earlier @ .., before, _] = row.history.as_slice() else {
            return Err(refused(task, channel, "it has no earlier version"));
        };
        let manifest = self.version(task, *before)?;
        let serial = self.read(&row.manifest)?.serial + 1;
        self.put(batch, Manifest { channel, serial, ..manifest }, earlier.to_vec())
    }

    /// Makes a version the present one of a channel.
    pub(super) fn advance(
        &self,
        batch: &mut Batch,
        channel: Channel,
        manifest: &Manifest,
    ) -> Result<SignedManifest, PublicationError> {
        let row = self.row(&manifest.task, channel)?;
        let (serial, history) = match row {
            None => (0, Vec::new()),
            Some(row) => (self.read(&row.manifest)?.serial + 1, row.history),
        };
        self.put(batch, Manifest { channel, serial, ..manifest.clone() }, history)
    }

    fn put(
        &self,
        batch: &mut Batch,
        manifest: Manifest,
        mut history: Vec<u64>,
    ) -> Result<SignedManifest, PublicationError> {
        history.push(manifest.version);
        history.drain(..history.len().saturating_sub(MAX_HISTORY));
        let key = key(&manifest.task, manifest.channel);
        let signed = SignedManifest::sign(manifest, &self.key)?;
        batch.put::<Channels>(&key, &ChannelRow { manifest: signed.to_bytes(), history });
        Ok(signed)
    }

    /// The present version of a channel.
    pub(super) fn present(
        &self,
        task: &TaskName,
        channel: Channel,
    ) -> Result<Option<Manifest>, PublicationError> {
        self.row(task, channel)?.map(|row| self.read(&row.manifest)).transpose()
    }

    /// Versions whose files the channels of a task need: the present ones, and those that they go back to.
    pub(super) fn needed(&self, task: &TaskName) -> Result<BTreeSet<u64>, PublicationError> {
        let mut needed = BTreeSet::new();
        for channel in Channel::ALL {
            let history = self.row(task, channel)?.map(|row| row.history).unwrap_or_default();
            needed.extend(history.into_iter().rev().take(2));
        }
        Ok(needed)
    }

    fn row(&self, task: &TaskName, channel: Channel) -> Result<Option<ChannelRow>, PublicationError> {
        Ok(Records(&*self.store).get::<Channels>(&key(task, channel))?)
    }
}

fn key(task: &TaskName, channel: Channel) -> (String, String) {
    (task.as_str().to_owned(), channel.name().to_owned())
}

fn refused(task: &TaskName, channel: Channel, problem: &'static str) -> PublicationError {
    PublicationError::Channel { task: task.clone(), channel, problem }
}
