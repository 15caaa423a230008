//! `tacit-client enrol`: from a one-time token to a client's folder. Must never print a secret.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use tacit_aggregation::identity::PublicKey;
use tacit_client::connection::{ConnectionError, Fingerprint};
use tacit_client::daemon::now;
use tacit_client::enrolment::{Enrolment, EnrolmentError, Progress};
use tacit_client::folder::Folder;
use tacit_client::settings::{self, Code, Settings};

use super::say;

/// Wait between two questions whether the identity root has decided.
const WAIT: Duration = Duration::from_secs(10);
/// Longest wait that the coordinator's wish makes of it.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub(crate) struct Enrol {
    /// Folder for this client's keys, settings and everything that it stores; made if it is not there
    #[arg(long, visible_alias = "out")]
    home: PathBuf,
    /// The one-time token from the coordinator's operator; without one, goes on with what is under way in the folder
    #[arg(long)]
    token: Option<String>,
    /// The coordinator, host:port
    #[arg(long)]
    coordinator: Option<String>,
    /// SHA-256 of the coordinator's certificate, as its operator publishes it
    #[arg(long, conflicts_with = "ca")]
    fingerprint: Option<String>,
    /// Instead: a PEM file with the certificate of the authority that issued the coordinator's
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The organisation's identity root, 64 hexadecimal digits, as its owner publishes it
    #[arg(long)]
    root: Option<String>,
    /// Folder of the base model, for the settings
    #[arg(long)]
    base_model: Option<PathBuf>,
    /// A folder of code to train on, for the settings; may be given several times
    #[arg(long)]
    code: Vec<PathBuf>,
    /// Make another client of a folder that is one's already; what it has spent stays spent. The coordinator is the one of its settings
    #[arg(long)]
    anew: bool,
    /// Ask once, and leave with code 3 where the identity root has not decided yet
    #[arg(long)]
    once: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Exit code of `--once` when the request waits for the identity root.
pub(crate) const PENDING: u8 = 3;

impl Enrol {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        let root = self.root.as_deref().map(public_key).transpose()?;
        let folder = Folder::open(&self.home)?;
        let settings = self.settings()?;
        let server = settings.server(&self.home)?;
        let mut enrolment =
            Enrolment::begin(&folder, self.token.as_deref(), self.anew, &mut UnwrapErr(SysRng))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut told = false;
        loop {
            let wait =
                match runtime.block_on(enrolment.advance(&folder, &server, root.as_ref(), now() / 1000)) {
                    Ok(Progress::Done(credentials)) => {
                        let root = hex::encode(credentials.issued.root.0);
                        if self.json {
                            say(&serde_json::to_string(&serde_json::json!({
                                "client": credentials.client().to_string(),
                                "root": root,
                                "not_after": credentials.issued.certificate.not_after,
                                "home": self.home,
                            }))?)?;
                        } else {
                            say(&format!("This machine is client {}.", credentials.client()))?;
                            if self.root.is_none() {
                                say(&format!("Compare the identity root with the published one: {root}"))?;
                            }
                            let file = self.home.join(settings::FILE);
                            say(&format!("Look at {}, then start `tacit-client run`.", file.display()))?;
                        }
                        return Ok(0);
                    }
                    Ok(Progress::Pending(wish)) => {
                        wish.unwrap_or(WAIT).clamp(Duration::from_secs(1), LONGEST)
                    }
                    Err(EnrolmentError::Connection(error @ ConnectionError::Unreachable { .. }))
                        if !self.once =>
                    {
                        tracing::warn!(%error, "asking again");
                        WAIT
                    }
                    Err(error) => return Err(error.into()),
                };
            if self.once {
                return Ok(PENDING);
            }
            if !told && !self.json {
                told = true;
                let key = hex::encode(enrolment.public_keys()[0].0);
                say(&format!(
                    "Waiting for the identity root to admit the key {key}. This may be interrupted and gone on with."
                ))?;
            }
            std::thread::sleep(wait);
        }
    }

    /// The settings of the folder; where there are none, they are written from the command line.
    fn settings(&self) -> anyhow::Result<Settings> {
        if self.home.join(settings::FILE).is_file() {
            return Ok(Settings::read(&self.home)?);
        }
        let Some(coordinator) = self.coordinator.clone() else { bail!("give the --coordinator, host:port") };
        if let Some(fingerprint) = &self.fingerprint {
            fingerprint.parse::<Fingerprint>()?;
        }
        let absolute =
            |path: &PathBuf| std::path::absolute(path).with_context(|| format!("{}", path.display()));
        let folders = match self.code.as_slice() {
            [] => vec![absolute(&PathBuf::from("."))?],
            given => given.iter().map(absolute).collect::<Result<_, _>>()?,
        };
        let base_model = self.base_model.clone().unwrap_or_else(|| PathBuf::from("models/tacit-base"));
        let settings = Settings {
            coordinator,
            fingerprint: self.fingerprint.clone(),
            ca: self.ca.as_ref().map(absolute).transpose()?,
            base_model: absolute(&base_model)?,
            code: Code { folders, ..Code::default() },
            limits: Default::default(),
            cpu: Default::default(),
            bandwidth: Default::default(),
            check_in: Default::default(),
        };
        settings.write(&self.home)?;
        Ok(Settings::read(&self.home)?)
    }
}

fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).context("--root is not 64 hexadecimal digits")?;
    Ok(PublicKey(bytes))
}
