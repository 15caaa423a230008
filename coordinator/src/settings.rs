//! How the serving process is set up. Must never hold a secret: those lie in files of their own.

use crate::Millis;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The contents of `coordinator.toml`, in the data folder. Everything may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Where clients and administrators connect.
    pub listen: SocketAddr,
    /// Where Prometheus reads metrics, over plain HTTP; nowhere when left out.
    pub metrics: Option<SocketAddr>,
    /// The server's own certificate. Left out, one is made on first start, which clients know by its fingerprint.
    pub tls: Option<TlsFiles>,
    /// Host names for that certificate, beside the loopback's.
    pub hosts: Vec<String>,
    /// When clients come back.
    pub pace: Pace,
    /// How many connections there may be.
    pub connections: Connections,
    /// What uploads may take.
    pub uploads: Uploads,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, and those of its issuers.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// When clients are told to come back, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// One that has nothing to wait for.
    pub idle: Millis,
    /// One whose update waits for a cohort.
    pub ready: Millis,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// Of clients.
    pub members: usize,
    /// Whose owner is not known, or not yet.
    pub strangers: usize,
}

/// What uploads may take. One that gets on too slowly is cut, and its client goes on where it stopped when there is a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uploads {
    /// That are read at once; further ones wait.
    pub places: usize,
    /// How long a part may take to come, in milliseconds.
    pub patience: Millis,
    /// Slowest pace, in bytes a second, once patience is used up; 0 for any.
    pub slowest: u64,
}

/// Most of anything that is counted here.
const MOST: usize = 1_000_000;

impl ServerSettings {
    /// Reads the contents of `coordinator.toml`.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let counts = [
            ("connections.members", settings.connections.members),
            ("connections.strangers", settings.connections.strangers),
            ("uploads.places", settings.uploads.places),
        ];
        match counts.into_iter().find(|(_, value)| !(1..=MOST).contains(value)) {
            Some((name, value)) => Err(format!("{name} is {value}: it must be from 1 to {MOST}")),
            None if settings.uploads.patience == 0 => {
                Err("uploads.patience is 0: give uploads at least a millisecond, 30000 is usual".to_owned())
            }
            None => Ok(settings),
        }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            metrics: None,
            tls: None,
            hosts: Vec::new(),
            pace: Pace::default(),
            connections: Connections::default(),
            uploads: Uploads::default(),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { idle: 30_000, ready: 1_000 }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self { members: 16_384, strangers: 512 }
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self { places: 64, patience: 30_000, slowest: 4_096 }
    }
}

#[cfg(test)]
mod tests {
    use super::ServerSettings;

    #[test]
    fn settings_that_let_nobody_in_are_refused_by_name() {
        assert_eq!(ServerSettings::parse(""), Ok(ServerSettings::default()));
        for name in ["connections.members", "connections.strangers", "uploads.places"] {
            for value in ["0", "1000001", "18446744073709551615"] {
                let problem = ServerSettings::parse(&format!("{name} = {value}")).expect_err("out of range");
                // A number that TOML itself cannot hold is refused by it, with the line.
                assert!(problem.contains(name) || problem.contains(value), "{problem}");
            }
        }
        assert!(ServerSettings::parse("uploads.patience = 0").expect_err("none").contains("patience"));
        assert!(ServerSettings::parse("uploads.places = 1\nuploads.slowest = 0").is_ok());
    }
}
