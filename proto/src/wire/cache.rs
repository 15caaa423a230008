//! Commitments that were decoded before. Must never take one list of points for another: the key is a digest of all bytes.
//!
//! Each point costs a square root to decode, and each member's commitments go to all of its neighbours. A client decodes
//! each list once and has no use for this; a process with a whole cohort in it would decode each many times.

use super::{DecodeError, generated as wire};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tacit_aggregation::Digest;
use tacit_aggregation::messages::ShareCommitments;

/// What all clients of this process share, if they do.
static SHARED: OnceLock<CommitmentCache> = OnceLock::new();

/// For a process that runs many clients of one cohort: from now on commitments that one of them has received over the network
/// are not decoded again for another. There is room for those of `limit` members; called again it changes nothing.
pub fn share_commitments(limit: usize) {
    SHARED.get_or_init(|| CommitmentCache::new(limit));
}

/// Decodes what came over the network.
pub(super) fn read_shared(bytes: wire::ShareCommitments) -> Result<Arc<ShareCommitments>, DecodeError> {
    match SHARED.get() {
        Some(cache) => cache.read(bytes),
        None => bytes.try_into().map(Arc::new),
    }
}

/// A bounded store of decoded commitments, to be shared by the threads that decode for one cohort.
pub struct CommitmentCache {
    known: Mutex<BTreeMap<Digest, Arc<ShareCommitments>>>,
    limit: usize,
}

impl CommitmentCache {
    /// Room for the commitments of `limit` members; when more come it begins anew.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { known: Mutex::new(BTreeMap::new()), limit }
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn read(&self, bytes: wire::ShareCommitments) -> Result<Arc<ShareCommitments>, DecodeError> {
        let mut hash = Sha256::new();
        hash.update((bytes.mask_key.len() as u64).to_be_bytes());
        hash.update(&bytes.mask_key);
        hash.update(&bytes.self_mask);
        let key: Digest = hash.finalize().into();
        if let Some(known) = self.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        // Decoded without the lock: another thread may do the same, and one of the two equal results is kept.
        let commitments: Arc<ShareCommitments> = Arc::new(bytes.try_into()?);
        let mut known = self.lock();
        if known.len() >= self.limit {
            known.clear();
        }
        if self.limit > 0 {
            return Ok(Arc::clone(known.entry(key).or_insert(commitments)));
        }
        Ok(commitments)
    }

    /// A thread that panicked while it held the lock left a sound map behind: each change is one insertion.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Arc<ShareCommitments>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CommitmentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitmentCache {{ kept: {}, limit: {} }}", self.len(), self.limit)
    }
}
