//! The folders of a run over the network: the coordinator's, and for each client its own and its code. Must never put a held-out
//! file where a client can read it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tacit_client::Period;
use tacit_client::credentials::Credentials;
use tacit_client::folder::Folder;
use tacit_client::settings::{Bandwidth, CheckInSettings, Code, Cpu, LimitSettings, Settings};
use tacit_proto::connection::Fingerprint;
use tempfile::TempDir;

use super::{NetworkError, NetworkOptions};
use crate::corpus::Developer;
use crate::progress::Progress;
use crate::scenario::{Scenario, Trust};

/// How far training stands behind the coordinator and the rounds: a little, for on a busy machine it would otherwise never end.
const NICE: u8 = 1;

/// The folder of a run.
pub(super) enum Grounds {
    /// Removed in the end.
    Temporary(TempDir),
    /// Left to whoever asked for it.
    Given(PathBuf),
}

/// Where the clients are.
pub(super) struct Places {
    /// Folders of clients with a process each.
    pub(super) alone: Vec<PathBuf>,
    /// Folders that hold the folders of many clients; with how many there are.
    pub(super) fleets: Vec<(PathBuf, u32)>,
}

impl Grounds {
    pub(super) fn new(given: Option<&Path>) -> Result<Self, NetworkError> {
        let Some(path) = given else {
            let made = tempfile::Builder::new().prefix("tacit-demo-").tempdir();
            return made.map(Self::Temporary).map_err(NetworkError::io(std::env::temp_dir()));
        };
        fs::create_dir_all(path).map_err(NetworkError::io(path))?;
        if fs::read_dir(path).map_err(NetworkError::io(path))?.next().is_some() {
            return Err(NetworkError::NotEmpty { path: path.to_owned() });
        }
        std::path::absolute(path).map(Self::Given).map_err(NetworkError::io(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Given(path) => path,
        }
    }

    /// The folder that is removed in the end, if it is.
    pub(super) fn to_remove(&self) -> Option<&Path> {
        match self {
            Self::Temporary(folder) => Some(folder.path()),
            Self::Given(_) => None,
        }
    }

    /// The coordinator's.
    pub(super) fn site(&self) -> PathBuf {
        self.path().join("site")
    }

    /// Where the ledger is exported to.
    pub(super) fn export(&self) -> PathBuf {
        self.path().join("ledger.export")
    }

    /// A process's log.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }

    /// Makes a folder for each developer's client, with settings and credentials as `tacit-client enrol` writes them, and one with
    /// the code.
    pub(super) async fn furnish(
        &self,
        scenario: &Scenario,
        coordinator: (SocketAddr, Fingerprint),
        developers: Vec<Developer>,
        credentials: Vec<Credentials>,
        options: &NetworkOptions,
        progress: &dyn Progress,
    ) -> Result<Places, NetworkError> {
        fs::create_dir_all(self.site()).map_err(NetworkError::io(self.site()))?;
        let base_model =
            std::path::absolute(&scenario.model).map_err(NetworkError::io(scenario.model.as_path()))?;
        let fleets = (0..options.fleets.max(1)).map(|fleet| self.path().join(format!("fleet-{fleet}")));
        let mut places = Places { alone: Vec::new(), fleets: fleets.map(|folder| (folder, 0)).collect() };
        progress.begin("writing the clients' folders", developers.len());
        for (number, (developer, credentials)) in developers.into_iter().zip(credentials).enumerate() {
            let name = format!("{number:05}");
            let code = self.path().join("code").join(&name);
            write_code(&code, &developer)?;
            let home = if number < options.alone as usize {
                let home = self.path().join("clients").join(name);
                places.alone.push(home.clone());
                home
            } else {
                let fleets = places.fleets.len();
                let (folder, clients) = &mut places.fleets[number % fleets];
                *clients += 1;
                folder.join(name)
            };
            let folder = Folder::open(&home)?;
            credentials.store(&folder)?;
            settings(scenario, coordinator, &base_model, code).write(&home)?;
            progress.advance();
            // A signal is heard between two of them.
            tokio::task::yield_now().await;
        }
        progress.end();
        places.fleets.retain(|(_, clients)| *clients > 0);
        Ok(places)
    }
}

/// One developer's files, as the corpus has them.
fn write_code(folder: &Path, developer: &Developer) -> Result<(), NetworkError> {
    for file in &developer.files {
        let path = folder.join(&file.path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(NetworkError::io(parent))?;
        fs::write(&path, &file.text).map_err(NetworkError::io(&path))?;
    }
    Ok(())
}

/// What each client's owner decides: as much as the scenario allows, and as soon as possible.
fn settings(
    scenario: &Scenario,
    (address, fingerprint): (SocketAddr, Fingerprint),
    base_model: &Path,
    code: PathBuf,
) -> Settings {
    let privacy = &scenario.privacy;
    Settings {
        coordinator: address.to_string(),
        fingerprint: Some(fingerprint.to_string()),
        ca: None,
        base_model: base_model.to_owned(),
        code: Code { folders: vec![code], ..Code::default() },
        limits: LimitSettings {
            roster: false,
            epsilon: privacy.epsilon_limit,
            delta: privacy.delta,
            // All rounds fall into one period.
            period: Some(Period { days: 30, epsilon: privacy.epsilon_limit }),
            per_task: None,
            adjacency: privacy.adjacency,
            allow_central: privacy.trust == Trust::Central,
            n_min: scenario.n_min(),
            corrupt_bp: scenario.cohort.corrupt.get(),
            threat: scenario.cohort.threat,
        },
        cpu: Cpu { threads: 1, share: 100, nice: NICE },
        bandwidth: Bandwidth::default(),
        check_in: CheckInSettings::default(),
    }
}
