//! A thread that measures beside everything else. Must never hold up what waits for signals.

use std::sync::mpsc;

use tacit_model::Decoder;
use tokio::sync::oneshot;

use super::NetworkError;
use crate::workers::Workers;

type Job = Box<dyn FnOnce(&mut Workers) + Send>;

/// Workers on a thread of their own, which ends when this is dropped and its work is done.
pub(super) struct Bench(mpsc::Sender<Job>);

impl Bench {
    /// Starts so many workers.
    pub(super) fn start(threads: usize, decoder: &Decoder) -> Result<Self, NetworkError> {
        let mut workers = Workers::start(threads, decoder)?;
        // Few measurements are ever under way, one after each round: the queue needs no bound.
        let (jobs, mine) = mpsc::channel::<Job>();
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
        let sent = self.0.send(Box::new(move |workers| {
            // Nobody waits for it after an interruption.
            let _ = answer.send(work(workers));
        }));
        async move {
            // The thread ends before its sender only by a panic, which it has reported.
            let lost = || NetworkError::System {
                what: "measuring",
                source: std::io::Error::other("its thread has ended"),
            };
            sent.map_err(|_| lost())?;
            answered.await.map_err(|_| lost())
        }
    }
}
