//! When clients were last heard of: noted in memory, written in batches from time to time. Must never make a client wait for the
//! disk, nor decide anything: a crash loses what was noted since the last write.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tacit_aggregation::identity::ClientId;

use crate::Millis;
use crate::store::{Batch, Epoch, Records, Store, StoreError, Table};

/// Between two writes.
pub const EVERY: Duration = Duration::from_secs(600);
/// Parts of the memory that have a lock each.
const SHARDS: usize = 16;
/// Records in one commit.
const AT_ONCE: usize = 4_096;
/// Milliseconds in a minute: no finer is it kept.
const MINUTE: Millis = 60_000;

/// When each client was last heard of.
struct Heard;

/// Minutes since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Minute(u64);

impl Table for Heard {
    const NAME: &'static str = "heard";
    type Key = ClientId;
    type Value = Minute;
}

/// When clients were last heard of. Holds those heard of since the last write: never more than there are clients.
pub struct Presence {
    store: Arc<dyn Store>,
    epoch: Epoch,
    shards: [Mutex<HashMap<ClientId, Minute>>; SHARDS],
}

impl Presence {
    /// Over a store, under a lease.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, epoch: Epoch) -> Self {
        Self { store, epoch, shards: Default::default() }
    }

    /// A client was heard of.
    pub fn note(&self, client: ClientId, now: Millis) {
        self.shard(client).insert(client, Minute(now / MINUTE));
    }

    /// Writes what was noted since the last time; how many clients that were. What cannot be written is kept for the next time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write(&self) -> Result<usize, StoreError> {
        let mut written = 0;
        for shard in &self.shards {
            let noted: Vec<(ClientId, Minute)> =
                lock(shard).iter().map(|(key, value)| (*key, *value)).collect();
            for some in noted.chunks(AT_ONCE) {
                let mut batch = Batch::new();
                some.iter().for_each(|(client, minute)| {
                    batch.put::<Heard>(client, minute);
                });
                batch.commit(self.store.as_ref(), self.epoch)?;
                written += some.len();
                // Only now, so that at no time a reader finds it in neither place; and not if it was noted again meanwhile.
                let mut shard = lock(shard);
                for (client, minute) in some {
                    if shard.get(client) == Some(minute) {
                        shard.remove(client);
                    }
                }
            }
            let mut shard = lock(shard);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
        Ok(written)
    }

    /// When a client was last heard of, in Unix seconds; none when it never was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last(&self, client: ClientId) -> Result<Option<u64>, StoreError> {
        let noted = self.shard(client).get(&client).copied();
        let last = match noted {
            Some(noted) => Some(noted),
            None => Records(self.store.as_ref()).get::<Heard>(&client)?,
        };
        Ok(last.map(|Minute(minute)| minute * 60))
    }

    fn shard(&self, client: ClientId) -> MutexGuard<'_, HashMap<ClientId, Minute>> {
        // Numbers are drawn at random.
        lock(&self.shards[client.0 as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<HashMap<ClientId, Minute>>) -> MutexGuard<'_, HashMap<ClientId, Minute>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{AT_ONCE, MINUTE, Presence, SHARDS};
    use crate::store::{Change, Epoch, MemoryStore, Row, Store, StoreError};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tacit_aggregation::identity::ClientId;

    /// Counts commits, and refuses them at will.
    #[derive(Default)]
    struct Counted {
        store: MemoryStore,
        commits: AtomicUsize,
        refuses: std::sync::atomic::AtomicBool,
    }

    impl Store for Counted {
        fn lease(&self) -> Result<Epoch, StoreError> {
            self.store.lease()
        }

        fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.store.get(table, key)
        }

        fn scan(
            &self,
            table: &'static str,
            prefix: &[u8],
            from: &[u8],
            limit: usize,
        ) -> Result<Vec<Row>, StoreError> {
            self.store.scan(table, prefix, from, limit)
        }

        fn commit(&self, epoch: Epoch, changes: Vec<Change>) -> Result<(), StoreError> {
            if self.refuses.load(Ordering::Relaxed) {
                return Err(StoreError::Backend { place: "a test".into(), problem: "no space".into() });
            }
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.store.commit(epoch, changes)
        }
    }

    fn presence() -> (Arc<Counted>, Presence) {
        let store = Arc::new(Counted::default());
        let epoch = store.lease().unwrap();
        (Arc::clone(&store), Presence::new(store, epoch))
    }

    #[test]
    fn what_is_noted_is_known_at_once_and_after_a_restart_once_it_is_written() {
        let (store, presence) = presence();
        let all = [ClientId(3), ClientId(4), ClientId(3 + SHARDS as u64)];
        let last = |presence: &Presence| all.map(|client| presence.last(client).unwrap());
        presence.note(all[0], 7 * MINUTE + 59_999);
        presence.note(all[2], 8 * MINUTE);
        assert_eq!(last(&presence), [Some(420), None, Some(480)]);
        let epoch = store.lease().unwrap();
        let again = || Presence::new(Arc::clone(&store) as _, epoch);
        assert_eq!(last(&again()), [None; 3], "a crash loses what was not written");

        let presence = again();
        presence.note(all[0], 7 * MINUTE);
        presence.note(all[2], 8 * MINUTE);
        assert_eq!((presence.write().unwrap(), presence.write().unwrap()), (2, 0));
        presence.note(all[0], 9 * MINUTE);
        assert_eq!(last(&presence), [Some(540), None, Some(480)], "the newer of the two");
        assert_eq!(last(&again()), [Some(420), None, Some(480)]);
    }

    #[test]
    fn notes_are_written_many_at_a_time_and_not_lost_by_a_failure() {
        let (store, presence) = presence();
        let clients: Vec<ClientId> = (0..20_000).map(ClientId).collect();
        clients.iter().for_each(|client| presence.note(*client, MINUTE));
        assert_eq!(store.commits.load(Ordering::Relaxed), 0, "nobody waits for the disk");
        store.refuses.store(true, Ordering::Relaxed);
        presence.write().unwrap_err();
        store.refuses.store(false, Ordering::Relaxed);
        assert_eq!(presence.write().unwrap(), clients.len());
        let most = SHARDS * (1 + clients.len() / SHARDS / AT_ONCE);
        assert!(store.commits.load(Ordering::Relaxed) <= most);
        assert!(clients.iter().all(|client| presence.last(*client).unwrap() == Some(60)));
    }
}
