//! Clients that share a process train a few at a time. Must never hold one back that is told to stop.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Who may train: so many at once of those that have the same turns; without any, everybody.
#[derive(Clone, Debug, Default)]
pub struct Turns(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    free: Mutex<usize>,
    changed: Condvar,
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to train, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Shared>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            *shared.free() += 1;
            shared.changed.notify_one();
        }
    }
}

impl Turns {
    /// Turns for so many at once.
    #[must_use]
    pub fn new(at_once: NonZeroUsize) -> Self {
        Self(Some(Arc::new(Shared { free: Mutex::new(at_once.get()), changed: Condvar::new() })))
    }

    /// Blocks until it is this thread's turn; none when it is told to stop before: [`Self::wake`] follows that order.
    pub(super) fn wait(&self, stop: &AtomicBool) -> Option<Turn> {
        let Some(shared) = &self.0 else { return Some(Turn(None)) };
        let mut free = shared.free();
        loop {
            if stop.load(Ordering::Relaxed) {
                // What woke this thread may have been meant for another.
                shared.changed.notify_one();
                return None;
            }
            if *free > 0 {
                *free -= 1;
                return Some(Turn(Some(Arc::clone(shared))));
            }
            free = shared.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets those that wait see whether they are told to stop.
    pub(super) fn wake(&self) {
        if let Some(shared) = &self.0 {
            // Under the lock: nobody is between its look and its wait.
            let _free = shared.free();
            shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn so_many_have_a_turn_and_whoever_is_told_to_stop_waits_no_longer() {
        let turns = Turns::new(NonZeroUsize::new(2).expect("not zero"));
        let (now, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let stops: Vec<AtomicBool> = (0..12).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            let both: Vec<_> = (0..2).map(|_| turns.wait(&AtomicBool::new(false))).collect();
            for stop in &stops {
                scope.spawn(|| {
                    let Some(_turn) = turns.wait(stop) else { return };
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
            stops[..4].iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
            turns.wake();
            assert_eq!(done.load(Ordering::SeqCst), 0, "both turns are taken");
            drop(both);
        });
        assert_eq!((done.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (8, 2));
        let nobody_waits = Turns::default();
        let many: Vec<_> = (0..100).map(|_| nobody_waits.wait(&AtomicBool::new(false))).collect();
        assert!(many.iter().all(Option::is_some));
    }
}
