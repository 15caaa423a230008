//! A thread that measures beside everything else. Must never hold up what waits for signals.

use std::sync::mpsc;

use tacit_model::Decoder;
use tokio::sync::oneshot;

use super::NetworkError;
use crate::workers::Workers;

/// Measurements that may wait: there is one after each round, and a round takes far longer.
const MOST_WAITING: usize = 64;

type Job = Box<dyn FnOnce(&mut Workers) + Send>;

/// Workers on a thread of their own, which ends when this is dropped and its work is done.
pub(super) struct Bench(mpsc::SyncSender<Job>);

impl Bench {
    /// Starts so many workers.
    pub(super) fn start(threads: usize, decoder: &Decoder) -> Result<Self, NetworkError> {
        let mut workers = Workers::start(threads, decoder)?;
        let (jobs, mine) = mpsc::sync_channel::<Job>(MOST_WAITING);
        let work = move || mine.iter().for_each(|job| job(&mut workers));
        let thread = std::thread::Builder::new().name("measuring".to_owned()).spawn(work);
        thread.map_err(|source| NetworkError::System { what: "threads", source })?;
        Ok(Self(jobs))
    }

    /// What a piece of work gives.
    pub(super) fn run<T: Send + 'static, W: FnOnce(&mut Workers) -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Result<T, NetworkError>> + Send + use<T, W> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.try_send(Box::new(move |workers| {
            // Nobody waits for it after an interruption.
            let _ = answer.send(work(workers));
        }));
        async move {
            // The thread ends before its sender only by a panic, which it has reported; nor does it fall so far behind.
            let lost = || NetworkError::System {
                what: "measuring",
                source: std::io::Error::other("its thread has ended, or is far behind"),
            };
            sent.map_err(|_| lost())?;
            answered.await.map_err(|_| lost())
        }
    }
}
