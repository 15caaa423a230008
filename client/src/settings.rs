//! The client's settings: `client.toml` in its folder. Must never take a setting that it does not know, nor a path that depends
//! on where the program was started.

mod period;

use crate::budget::{Budget, BudgetError, Limits, Period};
use crate::connection::{ConnectionError, Fingerprint, FingerprintError, Server, Trust};
use crate::folder::{self, FolderError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{Floors, ThreatModel};
use tacit_privacy::Adjacency;

/// The file's name.
pub const FILE: &str = "client.toml";

/// Everything that a client's owner decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The coordinator, `host:port`.
    pub coordinator: String,
    /// SHA-256 of the certificate that the coordinator must show, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Instead: a PEM file with the certificate of the authority that issued the coordinator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Folder of the base model.
    pub base_model: PathBuf,
    /// What is trained on.
    pub code: Code,
    /// What the owner tolerates.
    #[serde(default)]
    pub limits: LimitSettings,
    /// How much of the processor training takes.
    #[serde(default)]
    pub cpu: Cpu,
    /// How much of the network the client takes.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// How often the client asks for work.
    #[serde(default)]
    pub check_in: CheckInSettings,
}

/// What is trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Folders; links in them are not followed, and files and folders whose names begin with a dot are left out.
    pub folders: Vec<PathBuf>,
    /// Only files with these extensions; all that are text where the list is empty.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Bytes of text at most.
    #[serde(default = "code_bytes")]
    pub bytes: u64,
}

impl Default for Code {
    fn default() -> Self {
        Self { folders: Vec::new(), extensions: Vec::new(), bytes: code_bytes() }
    }
}

fn code_bytes() -> u64 {
    16 << 20
}

/// What the owner tolerates: [`Limits`], in the words of the file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Most epsilon for ever.
    pub epsilon: f64,
    /// The delta at which epsilon is counted.
    pub delta: f64,
    /// Most epsilon in any stretch of days; `"none"` for no such limit.
    #[serde(with = "period")]
    pub period: Option<Period>,
    /// Most epsilon for any one task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_task: Option<f64>,
    /// The weakest adjacency under which a plan may state epsilon.
    pub adjacency: Adjacency,
    /// Whether the coordinator may be trusted to add the noise.
    pub allow_central: bool,
    /// Fewest survivors in a sum.
    pub n_min: u32,
    /// Smallest fraction of colluders that a plan must withstand, per 10,000: of the cohort, or of the roster that it is drawn from.
    pub corrupt_bp: u16,
    /// Weakest server that a plan must withstand.
    pub threat: ThreatModel,
    /// Whether the cohort must be drawn from a roster of the identity root's, so that the coordinator does not choose it.
    pub roster: bool,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            epsilon: 8.0,
            delta: 1e-6,
            period: Some(Period { days: 30, epsilon: 2.0 }),
            per_task: None,
            adjacency: Adjacency::ZeroOut,
            allow_central: false,
            n_min: 10,
            corrupt_bp: 500,
            threat: ThreatModel::SemiMalicious,
            roster: false,
        }
    }
}

impl From<LimitSettings> for Limits {
    fn from(settings: LimitSettings) -> Self {
        let LimitSettings { epsilon, delta, period, per_task, adjacency, allow_central, .. } = settings;
        let LimitSettings { n_min, corrupt_bp, threat, roster, .. } = settings;
        let floors = Floors { n_min, corrupt_bp, threat, roster };
        Self { epsilon, delta, floors, adjacency, allow_central, period, per_task }
    }
}

/// How much of the processor training takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// Threads.
    pub threads: usize,
    /// Share of the time that they compute, in percent; they sleep the rest.
    pub share: u8,
    /// How far behind other programs they stand, from 0 to 19; where there is no such thing it is ignored.
    pub nice: u8,
}

impl Default for Cpu {
    fn default() -> Self {
        Self { threads: 1, share: 50, nice: 10 }
    }
}

/// How much of the network the client takes, in bytes per second; 0 for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bandwidth {
    /// To the coordinator.
    pub up: u64,
    /// From the coordinator.
    pub down: u64,
}

/// How often the client asks for work, in seconds: the coordinator's wish within these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckInSettings {
    /// Not more often.
    pub shortest: u64,
    /// Not less often.
    pub longest: u64,
}

impl Default for CheckInSettings {
    fn default() -> Self {
        Self { shortest: 1, longest: 900 }
    }
}

impl CheckInSettings {
    /// What the coordinator wishes for, within the bounds.
    #[must_use]
    pub fn clamp(&self, wish: Duration) -> Duration {
        wish.clamp(Duration::from_secs(self.shortest), Duration::from_secs(self.longest))
    }
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not in the form of `docs/client.toml`.
    #[error("{path}: {problem}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A value out of range.
    #[error("{path}: {name} is {value}; it must be {wanted}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// No way to the coordinator.
    #[error("{path}: {source}")]
    Server {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConnectionError,
    },
    /// Limits that limit nothing.
    #[error("{path}: {source}")]
    Limits {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        source: BudgetError,
    },
}

impl Settings {
    /// Reads the settings of a client's folder. Relative paths are relative to the folder.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting.
    pub fn read(folder: &Path) -> Result<Self, SettingsError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| SettingsError::Io { path: path.clone(), source })?;
        let mut settings = Self::parse(&text, &path)?;
        settings.base_model = folder.join(&settings.base_model);
        settings.ca = settings.ca.map(|ca| folder.join(ca));
        settings.code.folders.iter_mut().for_each(|code| *code = folder.join(&*code));
        Ok(settings)
    }

    /// Reads the text of a file, with paths as they are.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let form = |error: toml::de::Error| SettingsError::Form {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let settings: Self = toml::from_str(text).map_err(form)?;
        settings.validate(path)?;
        Ok(settings)
    }

    /// The coordinator, and how to know it.
    ///
    /// # Errors
    /// [`SettingsError`] for an address or a certificate that cannot be used.
    pub fn server(&self, folder: &Path) -> Result<Server, SettingsError> {
        let path = folder.join(FILE);
        let unusable = |source: ConnectionError| SettingsError::Server { path: path.clone(), source };
        let trust = match (&self.fingerprint, &self.ca) {
            (Some(fingerprint), _) => fingerprint.parse().map(Trust::Fingerprint).map_err(|error| {
                let problem = FingerprintError::to_string(&error);
                SettingsError::Form { path: path.clone(), problem }
            })?,
            (None, Some(ca)) => {
                let pem =
                    std::fs::read(ca).map_err(|source| SettingsError::Io { path: ca.clone(), source })?;
                Trust::authorities(&pem).map_err(unusable)?
            }
            (None, None) => {
                let problem = "neither a fingerprint nor a ca is given".to_owned();
                return Err(SettingsError::Form { path, problem });
            }
        };
        Server::new(&self.coordinator, trust).map_err(unusable)
    }

    /// Writes the settings to a client's folder.
    ///
    /// # Errors
    /// [`SettingsError::Folder`].
    pub fn write(&self, folder: &Path) -> Result<(), SettingsError> {
        let text = toml::to_string(self)
            .map_err(|error| SettingsError::Form { path: folder.join(FILE), problem: error.to_string() })?;
        Ok(folder::write_text(folder, FILE, &text)?)
    }

    fn validate(&self, path: &Path) -> Result<(), SettingsError> {
        let Self { cpu, check_in, code, .. } = self;
        let hex = |text: &String| text.parse::<Fingerprint>().is_ok();
        let pins = usize::from(self.fingerprint.is_some()) + usize::from(self.ca.is_some());
        let checks = [
            (
                "fingerprint",
                self.fingerprint.as_ref().is_none_or(hex),
                "another text".into(),
                "64 hexadecimal digits",
            ),
            (
                "fingerprint or ca",
                pins == 1,
                format!("given {pins} times"),
                "given once: exactly one of the two",
            ),
            ("code.folders", !code.folders.is_empty(), "empty".into(), "at least one folder"),
            ("cpu.threads", (1..=1024).contains(&cpu.threads), cpu.threads.to_string(), "from 1 to 1024"),
            ("cpu.share", (1..=100).contains(&cpu.share), cpu.share.to_string(), "from 1 to 100"),
            ("cpu.nice", cpu.nice <= 19, cpu.nice.to_string(), "from 0 to 19"),
            (
                "check_in.shortest",
                check_in.shortest <= check_in.longest,
                check_in.shortest.to_string(),
                "at most check_in.longest",
            ),
        ];
        for (name, good, value, wanted) in checks {
            if !good {
                return Err(SettingsError::Value { path: path.to_owned(), name, value, wanted });
            }
        }
        let limits = Budget::new(ClientId(0), self.limits.into()).map(drop);
        limits.map_err(|source| SettingsError::Limits { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckInSettings, Settings};
    use std::path::Path;
    use std::time::Duration;

    const SAMPLE: &str = include_str!("../../docs/client.toml");

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("client.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_sample_in_the_documents_has_every_setting_and_its_default() {
        let sample = parse(SAMPLE).expect("the sample");
        // What it states beyond the required settings is what holds without a word.
        let required: String =
            SAMPLE.lines().take_while(|line| !line.starts_with("[limits]")).collect::<Vec<_>>().join("\n");
        assert_eq!(parse(&required).expect("the required ones"), sample);
        // And it leaves none out but the alternatives: what is written of it names no other.
        let written = toml::to_string(&sample).expect("plain data");
        for line in written.lines().filter_map(|line| line.split_once(" = ")) {
            assert!(SAMPLE.contains(&format!("{} = ", line.0)), "{}", line.0);
        }
        assert_eq!(parse(&written).expect("its own form"), sample);
    }

    #[test]
    fn what_cannot_work_is_named() {
        for (from, to, named) in [
            ("share = 50", "share = 0", "cpu.share"),
            ("share = 50", "shares = 50", "shares"),
            ("threads = 1", "threads = 0", "cpu.threads"),
            ("nice = 10", "nice = 20", "cpu.nice"),
            ("longest = 900", "longest = 0", "check_in.shortest"),
            ("fingerprint = \"", "fingerprint = \"zz", "fingerprint"),
            ("fingerprint = \"", "# \"", "fingerprint or ca"),
            ("epsilon = 8.0", "epsilon = 0.0", "epsilon"),
            ("days = 30", "days = 0", "period.days"),
        ] {
            let text = SAMPLE.replace(from, to);
            assert_ne!(text, SAMPLE, "{from}");
            let error = parse(&text).expect_err(to);
            assert!(error.contains(named), "{to}: {error}");
        }
    }

    #[test]
    fn no_limit_on_a_stretch_of_days_is_said_and_kept() {
        let mut settings = parse(SAMPLE).expect("the sample");
        settings.limits.period = None;
        let written = toml::to_string(&settings).expect("plain data");
        assert!(written.contains("period = \"none\""), "{written}");
        assert_eq!(parse(&written).expect("its own form"), settings);
        let error = parse(&written.replace("\"none\"", "\"never\"")).expect_err("no such word");
        assert!(error.contains("or \"none\""), "{error}");
    }

    #[test]
    fn the_coordinators_wish_is_kept_within_bounds() {
        let bounds = CheckInSettings { shortest: 5, longest: 60 };
        let clamp = |wish| bounds.clamp(Duration::from_secs(wish)).as_secs();
        assert_eq!((clamp(0), clamp(30), clamp(1_000_000)), (5, 30, 60));
    }
}
