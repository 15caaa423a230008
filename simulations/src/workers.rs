//! Threads that train and measure. Results must never depend on how many there are: every item is computed by one thread
//! alone, on a pool of one, and answers come back in the order of the items.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tacit_model::{Decoder, Trainer};

use crate::error::SimulationError;

/// The most worker threads accepted.
pub const MAX_THREADS: usize = 1024;

/// What one thread owns.
struct Worker {
    // Matrix products split their work over the current rayon pool; with one thread their sums have one order.
    pool: ThreadPool,
    tools: Tools,
}

/// What a job may use.
pub struct Tools {
    /// The weights for measuring and writing.
    pub decoder: Decoder,
    /// The same weights for training.
    pub trainer: Trainer,
}

/// The worker threads of a simulation.
pub struct Workers {
    workers: Vec<Worker>,
    /// For work that is exact whatever its order: cryptography and integer sums.
    exact: ThreadPool,
}

impl Workers {
    /// Starts `threads` workers (at least one) that share the weights of `decoder`.
    ///
    /// # Errors
    /// [`SimulationError::Threads`] when the operating system refuses.
    pub fn start(threads: usize, decoder: &Decoder) -> Result<Self, SimulationError> {
        let threads = threads.clamp(1, MAX_THREADS);
        let pool = |size| ThreadPoolBuilder::new().num_threads(size).build();
        let workers = (0..threads)
            .map(|_| {
                let tools = Tools { decoder: decoder.clone(), trainer: Trainer::new(decoder) };
                Ok(Worker { pool: pool(1)?, tools })
            })
            .collect::<Result<Vec<_>, SimulationError>>()?;
        Ok(Self { workers, exact: pool(threads)? })
    }

    /// Number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The pool for exact work; not for floating-point sums.
    #[must_use]
    pub fn exact(&self) -> &ThreadPool {
        &self.exact
    }

    /// Runs `job` for every index below `items` and returns the answers in that order. `doing` says what, for a message.
    ///
    /// # Errors
    /// The error of the lowest index that failed; the rest is then given up.
    pub fn map<T: Send>(
        &mut self,
        items: usize,
        doing: &'static str,
        job: impl Fn(&Tools, usize) -> Result<T, SimulationError> + Sync,
    ) -> Result<Vec<T>, SimulationError> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let work = |worker: &mut Worker| {
            let Worker { pool, tools } = worker;
            let mut done = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= items {
                    break;
                }
                let answer = pool.install(|| job(tools, index));
                if answer.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                done.push((index, answer));
            }
            done
        };
        let mut all = Vec::with_capacity(items);
        let mut panicked = false;
        std::thread::scope(|scope| {
            let handles: Vec<_> =
                self.workers.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
            for handle in handles {
                match handle.join() {
                    Ok(done) => all.extend(done),
                    Err(_) => panicked = true,
                }
            }
        });
        if panicked {
            return Err(SimulationError::WorkerPanicked(doing));
        }
        all.sort_unstable_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, answer)| answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    fn workers(threads: usize) -> Workers {
        let root = tempfile::tempdir().expect("a folder");
        let model = crate::testing::tiny_model(root.path());
        Workers::start(threads, model.decoder()).expect("threads")
    }

    #[test]
    fn answers_keep_the_order_and_use_pools_of_one() {
        let mut workers = workers(3);
        let seen = Mutex::new(HashSet::new());
        let squares = workers.map(100, "squaring", |_, index| {
            assert_eq!(rayon::current_num_threads(), 1);
            seen.lock().expect("not poisoned").insert(std::thread::current().id());
            std::thread::sleep(std::time::Duration::from_micros(200));
            Ok(index * index)
        });
        assert_eq!(squares.expect("done"), (0..100).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!(seen.into_inner().expect("not poisoned").len(), 3, "every worker had its share");
        assert!(workers.map(0, "nothing", |_, _| Ok(())).expect("done").is_empty());
        assert_eq!((workers.threads(), workers.exact().current_num_threads()), (3, 3));
    }

    #[test]
    fn one_failure_ends_the_work() {
        let fail = |_: &Tools, index| match index {
            5 => Err(SimulationError::setting("rounds", 0, "positive")),
            _ => Ok(index),
        };
        let error = workers(2).map(1_000, "failing", fail).expect_err("failed");
        assert!(matches!(error, SimulationError::Setting { .. }));
        let panics = |_: &Tools, index: usize| match index {
            3 => std::panic::panic_any("on purpose"),
            _ => Ok(()),
        };
        let error = workers(2).map(10, "panicking", panics).expect_err("failed").to_string();
        assert!(error.contains("panicking"), "{error}");
    }
}
