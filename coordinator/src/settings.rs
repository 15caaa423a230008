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
