//! A bounded number of places for connections, shared fairly among their owners. Must never let one owner take all.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Places for connections whose owners are told apart by `K`.
#[derive(Debug)]
pub(super) struct Places<K> {
    most: usize,
    most_each: usize,
    taken: Mutex<Taken<K>>,
    left: Notify,
}

#[derive(Debug)]
struct Taken<K> {
    /// Number of the next place: older places have lower numbers.
    next: u64,
    places: BTreeMap<u64, Holder<K>>,
    /// Each owner's places.
    owners: BTreeMap<K, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Holder<K> {
    owner: K,
    since: Instant,
    evict: oneshot::Sender<()>,
}

impl<K: Ord + Copy> Taken<K> {
    /// Frees a place; the holder learns of it unless it left by itself.
    fn free(&mut self, number: u64) {
        let Some(holder) = self.places.remove(&number) else { return };
        if let Some(places) = self.owners.get_mut(&holder.owner) {
            places.remove(&number);
            if places.is_empty() {
                self.owners.remove(&holder.owner);
            }
        }
        // A holder that has gone meanwhile does not listen.
        let _ = holder.evict.send(());
    }

    fn oldest_of(&self, owner: K) -> Option<u64> {
        self.owners.get(&owner)?.first().copied()
    }

    /// The oldest place of the owner that has most places; of several such owners, the one whose oldest is older.
    fn oldest_of_heaviest(&self) -> Option<u64> {
        let weight = |places: &BTreeSet<u64>| (places.len(), std::cmp::Reverse(places.first().copied()));
        self.owners.values().max_by_key(|places| weight(places))?.first().copied()
    }

    fn take(&mut self, owner: K) -> (u64, oneshot::Receiver<()>) {
        let number = self.next;
        self.next += 1;
        let (evict, evicted) = oneshot::channel();
        self.places.insert(number, Holder { owner, since: Instant::now(), evict });
        self.owners.entry(owner).or_default().insert(number);
        (number, evicted)
    }
}

impl<K: Ord + Copy> Places<K> {
    /// As many places in all, and as many for each owner.
    pub(super) fn new(most: usize, most_each: usize) -> Arc<Self> {
        let taken = Taken { next: 0, places: BTreeMap::new(), owners: BTreeMap::new() };
        Arc::new(Self { most, most_each, taken: Mutex::new(taken), left: Notify::new() })
    }

    /// A place, when there is one. An owner that has all its places loses the oldest.
    pub(super) fn try_take(self: &Arc<Self>, owner: K) -> Option<Place<K>> {
        let mut taken = self.lock();
        if taken.owners.get(&owner).is_some_and(|places| places.len() >= self.most_each)
            && let Some(oldest) = taken.oldest_of(owner)
        {
            taken.free(oldest);
        }
        (taken.places.len() < self.most).then(|| self.place(&mut taken, owner))
    }

    /// A place, as soon as there is one: when all are taken, the owner that has most of them loses its oldest, once that is
    /// older than `grace`.
    pub(super) async fn take(self: &Arc<Self>, owner: K, grace: Duration) -> Place<K> {
        loop {
            let left = self.left.notified();
            let until = {
                let mut taken = self.lock();
                let victim = (taken.places.len() >= self.most).then(|| taken.oldest_of_heaviest()).flatten();
                let since = victim.and_then(|victim| taken.places.get(&victim)).map(|holder| holder.since);
                match (victim, since) {
                    (Some(_), Some(since)) if since.elapsed() < grace => since + grace,
                    (Some(victim), _) => {
                        taken.free(victim);
                        return self.place(&mut taken, owner);
                    }
                    (None, _) => return self.place(&mut taken, owner),
                }
            };
            tokio::select! {
                () = left => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// How many places are taken.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().places.len()
    }

    fn place(self: &Arc<Self>, taken: &mut Taken<K>, owner: K) -> Place<K> {
        let (number, evicted) = taken.take(owner);
        Place { places: self.clone(), number, evicted: Some(evicted) }
    }

    /// Every change under the lock is complete before anything in it can panic.
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken, until this is dropped or [`Self::poll_evicted`] is ready.
#[derive(Debug)]
pub(super) struct Place<K: Ord + Copy> {
    places: Arc<Places<K>>,
    number: u64,
    /// None once the place is somebody else's.
    evicted: Option<oneshot::Receiver<()>>,
}

impl<K: Ord + Copy> Place<K> {
    /// Ready once the place belongs to somebody else.
    pub(super) fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(evicted) = &mut self.evicted {
            // An error would say that the holder's record is gone, which is the same.
            let _ = std::task::ready!(Pin::new(evicted).poll(context));
            self.evicted = None;
        }
        Poll::Ready(())
    }

    /// Ends once the place belongs to somebody else.
    pub(super) async fn evicted(&mut self) {
        std::future::poll_fn(|context| self.poll_evicted(context)).await;
    }
}

impl<K: Ord + Copy> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.lock().free(self.number);
        self.places.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(100);

    fn is_evicted(place: &mut Place<u8>) -> bool {
        place.poll_evicted(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn the_heaviest_owner_makes_room_once_its_oldest_had_its_time() {
        let places = Places::new(4, 4);
        let mut quiet = places.take(1, GRACE).await;
        let mut greedy = Vec::new();
        for _ in 0..3 {
            greedy.push(places.take(2, GRACE).await);
        }
        let start = Instant::now();
        let _new = places.take(3, GRACE).await;
        assert!(start.elapsed() >= GRACE, "nobody is shut out before its time");
        assert!(is_evicted(&mut greedy[0]) && !is_evicted(&mut greedy[1]) && !is_evicted(&mut quiet));
        assert_eq!(places.len(), 4);
        let _another = places.take(3, GRACE).await;
        assert!(is_evicted(&mut greedy[1]) && !is_evicted(&mut quiet));
    }

    #[tokio::test]
    async fn who_leaves_makes_room_at_once() {
        let places = Places::new(1, 1);
        let first = places.take(1, GRACE).await;
        let waiting = places.clone();
        let second = tokio::spawn(async move { waiting.take(2, Duration::from_secs(3_600)).await });
        tokio::time::sleep(GRACE).await;
        assert!(!second.is_finished());
        drop(first);
        let _second = second.await.expect("taken");
        assert_eq!(places.len(), 1);
    }

    #[tokio::test]
    async fn an_owner_replaces_its_own_and_nobody_elses() {
        let places = Places::new(3, 2);
        let mut taken: Vec<_> = (0..2).filter_map(|_| places.try_take(1)).collect();
        let _other = places.try_take(2).expect("the third place");
        assert!(places.try_take(3).is_none(), "all are taken");
        let third = places.try_take(1).expect("in place of its own oldest");
        assert!(is_evicted(&mut taken[0]) && !is_evicted(&mut taken[1]));
        drop(third);
        drop(taken);
        assert_eq!(places.len(), 1);
    }
}
