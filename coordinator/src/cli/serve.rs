//! `tacit-coordinator serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;
use tacit_coordinator::serve::{Coordinator, DataFolder};
use tracing_subscriber::EnvFilter;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The data folder, as `init` made it
    data: PathBuf,
    /// Listen here instead of where coordinator.toml says; port 0 takes a free one
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// How logs are written, on standard error. RUST_LOG chooses what is logged: `RUST_LOG=debug`
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log: LogFormat,
    /// When it listens, say so as one JSON object on standard output: address, fingerprint, what was recovered
    #[arg(long)]
    json: bool,
}

/// Files that the process opens for other things than connections: its store, vectors, published files.
const FILES_OF_ITS_OWN: u64 = 1_024;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log {
            LogFormat::Human => logs.init(),
            LogFormat::Json => logs.json().init(),
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.context("no threads can be started")?.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let stop = signals()?;
        let data = DataFolder::new(self.data);
        let mut settings = data.settings()?;
        settings.listen = self.listen.unwrap_or(settings.listen);
        allow_open_files(settings.connections.members + settings.connections.strangers);
        let coordinator = Coordinator::start(&data, &settings)?;
        let (address, fingerprint) = (coordinator.address()?, hex::encode(coordinator.fingerprint()));
        let recovery = coordinator.recovery();
        for round in &recovery.rounds {
            let problem = round.problem.as_deref();
            tracing::info!(task = round.task, round = round.round, step = round.step, problem, "recovered");
        }
        for file in &recovery.missing {
            tracing::error!(file, "a published file is missing: restore it from a backup");
        }
        let mut text = format!(
            "Listening on {address}, {} tasks, {} rounds recovered, {} reservations, {} ledger entries\n\
             Fingerprint of the certificate: {fingerprint}",
            recovery.tasks,
            recovery.rounds.len(),
            recovery.reservations,
            recovery.entries
        );
        if let Some(file) = coordinator.first_token() {
            text.push_str(&format!("\nThe first operator's token is in {}", file.display()));
        }
        let value = json!({
            "address": address,
            "fingerprint": fingerprint,
            "tasks": recovery.tasks,
            "recovered": recovery.rounds.iter().map(|round| json!({
                "task": round.task, "round": round.round, "step": round.step, "problem": round.problem,
            })).collect::<Vec<_>>(),
            "reservations": recovery.reservations,
            "ledger_entries": recovery.entries,
            "first_token": coordinator.first_token(),
        });
        super::answer(self.json, &value, &text)?;
        coordinator.serve(stop).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Lets the process open as many files as it may, and says when that is too few for its connections.
fn allow_open_files(connections: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let allowed = if raised.is_ok() { maximum } else { current };
        // None means that there is no limit.
        if let Some(allowed) = allowed.filter(|allowed| *allowed < connections as u64 + FILES_OF_ITS_OWN) {
            tracing::warn!(
                allowed,
                connections,
                "the system lets this process open fewer files than it may have connections: raise `ulimit -n`"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = connections;
}

/// Ready when the process is asked to stop.
fn signals() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("signals cannot be received")?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        // Without a handler the process ends at once, which it survives.
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("stopping");
    })
}
