//! Many clients in one process: each the whole client of production, with its own folder, connection and budget. Must never run
//! on when whoever started it is gone.

use std::fs;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use tacit_client::credentials::Credentials;
use tacit_client::daemon::{Base, Daemon, Turns};
use tacit_client::folder::Folder;
use tacit_client::settings::Settings;
use tacit_proto::share_commitments;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::NetworkError;
use crate::process::raise_open_files;

/// Threads that run the clients' loops, which wait for the disk most of the time.
const THREADS: usize = 8;

/// Runs the clients whose folders lie in a folder, until standard input ends. So many of them train at once.
///
/// # Errors
/// [`NetworkError`] when a client cannot go on.
pub fn serve(folder: &Path, at_once: NonZeroUsize) -> Result<(), NetworkError> {
    raise_open_files();
    let entries = fs::read_dir(folder).map_err(NetworkError::io(folder))?;
    let homes = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut homes = homes.map_err(NetworkError::io(folder))?;
    homes.sort_unstable();
    share_commitments(homes.len());
    let (tell, told) = watch::channel(false);
    let ended = tell.clone();
    let listen = move || {
        // Whatever comes is no order; the end is, however it comes.
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        ended.send_replace(true);
    };
    let thread = std::thread::Builder::new().name("standard input".to_owned()).spawn(listen);
    thread.map_err(|source| NetworkError::System { what: "threads", source })?;
    // It keeps the connections; the clients' loops, each of which stays on one thread, have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|source| NetworkError::System { what: "threads", source })?;
    let turns = Turns::new(at_once);
    let share = homes.len().div_ceil(THREADS).max(1);
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = homes
            .chunks(share)
            .map(|homes| {
                let (runtime, turns, tell, told) = (runtime.handle(), &turns, &tell, &told);
                scope.spawn(move || {
                    let ended = runtime.block_on(LocalSet::new().run_until(run(homes, turns, told)));
                    // Where one client cannot go on, the run is over for all of them.
                    tell.send_replace(true);
                    ended
                })
            })
            .collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|ended| ended.unwrap_or(Err(NetworkError::Interrupted)))
    });
    runtime.shutdown_background();
    ended
}

/// Some of the clients, until they are told to stop.
async fn run(homes: &[PathBuf], turns: &Turns, told: &watch::Receiver<bool>) -> Result<(), NetworkError> {
    let mut base: Option<(PathBuf, Base)> = None;
    let mut clients = JoinSet::new();
    for home in homes {
        let (folder, settings) = (Folder::open_existing(home)?, Settings::read(home)?);
        let credentials = Credentials::load(&folder)?;
        let base = match &base {
            Some((path, base)) if *path == settings.base_model => base.clone(),
            _ => base.insert((settings.base_model.clone(), Base::read(&settings.base_model)?)).1.clone(),
        };
        let certificate = credentials.issued.transport_certificate.as_slice();
        let channel = settings.server(home)?.channel(Some((certificate, &credentials.keys.transport)))?;
        let home = home.clone();
        let cannot = |source| NetworkError::Client { folder: home.clone(), source };
        let daemon =
            Daemon::new(folder, settings, &credentials, base, channel, told.clone()).map_err(cannot)?;
        let daemon = daemon.taking(turns.clone());
        clients.spawn_local(async move {
            daemon.run().await.map_err(|source| NetworkError::Client { folder: home, source })
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|_| NetworkError::Interrupted)??;
    }
    Ok(())
}
