//! `tacit-client run`: the daemon, and its dry run. Must never send anything in a dry run.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rand::SeedableRng as _;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;
use rand_core::UnwrapErr;
use tacit_client::credentials::Credentials;
use tacit_client::daemon::{Base, Daemon, now};
use tacit_client::enrolment::renew;
use tacit_client::folder::Folder;
use tacit_client::rehearsal::{Rehearsal, rehearse};
use tacit_client::settings::Settings;
use tokio::sync::watch;

use super::home::Home;
use super::say;

/// How long what still runs after the last turn may take to end.
const LEAVE: Duration = Duration::from_secs(2);

/// How long before its end a certificate is renewed, in seconds: 30 days.
const RENEW: u64 = 30 * 24 * 3600;
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    home: Home,
    /// Train, and print what would leave this machine in each step of a round; send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the dry run as one JSON object; write the log as JSON lines
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.home.path();
        let folder = Folder::open_existing(path)?;
        let settings = Settings::read(path)?;
        let credentials = Credentials::load(&folder)?;
        if self.dry_run {
            let mut rng = ChaCha20Rng::from_rng(&mut UnwrapErr(SysRng));
            let rehearsals = rehearse(&folder, &settings, &credentials, &mut rng)?;
            if self.json {
                return say(&serde_json::to_string(&serde_json::json!({ "rounds": rehearsals }))?);
            }
            return rehearsals.iter().try_for_each(show);
        }
        super::log(self.json);
        let base =
            Base::read(&settings.base_model).context("the base model of the settings cannot be used")?;
        drop(folder);
        // One thread keeps the connection, this one runs the loop.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let ended = runtime.block_on(self.keep_running(&settings, &base));
        runtime.shutdown_timeout(LEAVE);
        ended
    }

    /// Runs until told to stop; begins anew when there are new credentials.
    async fn keep_running(&self, settings: &Settings, base: &Base) -> anyhow::Result<()> {
        let path = self.home.path();
        let server = settings.server(path)?;
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            signalled().await;
            tracing::info!("stopping");
            tell.send_replace(true);
            // The sender stays until the program ends: without one nobody could be told.
            std::future::pending::<()>().await;
        });
        loop {
            let folder = Folder::open_existing(path)?;
            let mut credentials = Credentials::load(&folder)?;
            let mut told = told.clone();
            if credentials.end_within(RENEW, now() / 1000) {
                let renewed = tokio::select! {
                    _ = told.wait_for(|told| *told) => return Ok(()),
                    renewed = renew(&folder, &credentials, &server, now() / 1000) => renewed,
                };
                match renewed {
                    Ok(Some(renewed)) => credentials = renewed,
                    Ok(None) => {
                        tracing::warn!("the certificate ends soon, and the identity root has not renewed it")
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the certificate ends soon, and could not be renewed")
                    }
                }
            }
            let certificate = credentials.issued.transport_certificate.as_slice();
            let channel = server.channel(Some((certificate, &credentials.keys.transport)))?;
            let (stop, stopped) = watch::channel(*told.borrow());
            let daemon = Daemon::new(folder, settings.clone(), &credentials, base.clone(), channel, stopped)?;
            tracing::info!(client = credentials.client().0, coordinator = %server, "running");
            let watched = async {
                tokio::select! {
                    _ = told.wait_for(|told| *told) => {}
                    () = ending(&credentials) => {}
                }
                stop.send_replace(true);
            };
            let run = daemon.run();
            tokio::pin!(run);
            tokio::select! {
                ended = &mut run => ended?,
                () = watched => run.await?,
            }
            if *told.borrow() {
                return Ok(());
            }
        }
    }
}

/// Ends when it is time to look for a renewal: the next day, once the credentials end soon.
async fn ending(credentials: &Credentials) {
    loop {
        tokio::time::sleep(DAY).await;
        if credentials.end_within(RENEW, now() / 1000) {
            return;
        }
    }
}

/// Ends at the first order to stop.
async fn signalled() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    // Without the means to hear an order the process is ended by force.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn show(rehearsal: &Rehearsal) -> anyhow::Result<()> {
    let Rehearsal { task, round, cohort, messages, vector } = rehearsal;
    say(&format!("Round {round} of task {task}, in a cohort of {cohort}. Nothing is sent."))?;
    for message in messages {
        say(&format!("\n{} ({} bytes)", message.step, message.bytes))?;
        message.clear.iter().try_for_each(|text| say(&format!("  in clear: {text}")))?;
        message.sealed.iter().try_for_each(|text| say(&format!("  sealed:   {text}")))?;
    }
    say(&format!(
        "\nThe update has {} coordinates, from {} tokens. Its norm is {:.4}; it is clipped to {}.",
        vector.dimension, vector.tokens, vector.norm, vector.clip
    ))?;
    say("Its first coordinates:        stays on this machine        as noised")?;
    for (place, bare) in vector.stays_here.iter().enumerate() {
        let noised = vector.noised.get(place).map_or_else(|| "-".to_owned(), |value| format!("{value:.6}"));
        say(&format!("  {place:<8}{bare:>28.6}{noised:>29}"))?;
    }
    say(&format!("Taking part costs at most epsilon {} at delta {}.", vector.epsilon, vector.delta))
}
