//! A coordinator's process from its start to its death: an engine on its own thread over what is on the disk. Must never hand
//! anything from one life to the next but the disk.

use super::brittle::{Brittle, Death};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tacit_aggregation::identity::PublicKey;
use tacit_coordinator::engine::{Engine, EngineError, Handle, Recovery, Refused, Setup, Stopped};
use tacit_coordinator::publication::Publisher;
use tacit_coordinator::store::{RocksStore, Store};
use tokio::runtime::Runtime;

/// What lasts longer than a life.
pub(super) struct Site {
    pub(super) folder: PathBuf,
    pub(super) key: Arc<tacit_proto::CoordinatorKey>,
    pub(super) root: PublicKey,
    /// The time that the coordinator sees, in milliseconds.
    pub(super) clock: Arc<AtomicU64>,
}

/// One life.
pub(super) struct Life {
    pub(super) handle: Handle,
    pub(super) store: Arc<Brittle>,
    pub(super) publisher: Publisher,
    pub(super) recovery: Recovery,
    pub(super) vectors: PathBuf,
    thread: JoinHandle<Result<(), Stopped>>,
    waiting: Runtime,
}

impl Site {
    pub(super) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    pub(super) fn vectors(&self) -> PathBuf {
        self.folder.join("vectors")
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Starts a coordinator on what the disk has.
    pub(super) fn start(&self, death: Option<Death>) -> Result<Life, EngineError> {
        let rocks: Arc<dyn Store> = Arc::new(RocksStore::open(&self.store())?);
        let store = Arc::new(Brittle::new(rocks, death));
        let publisher = Publisher::open(&self.folder, Arc::clone(&store) as _, Arc::clone(&self.key))?;
        let clock = Arc::clone(&self.clock);
        let setup = Setup {
            store: Arc::clone(&store) as _,
            vectors: self.vectors(),
            publisher: publisher.clone(),
            key: Arc::clone(&self.key),
            root: self.root,
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
        };
        let (engine, commands, handle, recovery) =
            Engine::start(setup, rand_chacha::rand_core::SeedableRng::seed_from_u64(77))?;
        let thread = std::thread::spawn(move || engine.run(&commands));
        let waiting = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Ok(Life { handle, store, publisher, recovery, vectors: self.vectors(), thread, waiting })
    }
}

impl Life {
    /// Waits for an answer of the engine.
    pub(super) fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Handle) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.waiting.block_on(question(&self.handle))
    }

    /// Waits until the engine has done, and made durable, whatever was due.
    pub(super) fn settled(&self) -> Result<(), Refused> {
        self.ask(async |handle| handle.call(|_, _| Ok(())).await)
    }

    /// The end of the life, whatever the engine was doing; nothing more becomes durable. How the engine ended.
    pub(super) fn kill(self) -> Result<(), Stopped> {
        self.store.die();
        // A full queue does not matter: without a handle the engine stops as well.
        let _ = self.handle.stop();
        drop(self.handle);
        self.thread.join().expect("the engine does not panic")
    }

    /// An orderly end.
    pub(super) fn stop(self) {
        assert_eq!(self.handle.stop(), Ok(()));
        self.thread.join().expect("the engine does not panic").expect("the store works");
    }
}

/// A folder in memory where there is one: what is tested is the death of processes, not of the machine.
pub(super) fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}
