//! The coordinator in contradiction to itself, as it is kept and shown. Must never lose what proves it.

use crate::Millis;
use crate::folder::{self, Folder, FolderError, Kind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tacit_privacy::ledger::head::SignedHead;
use tacit_privacy::ledger::restart::SignedRestart;
use tacit_proto::fleet::{MAX_EVIDENCE, MAX_TEXT};
use tacit_proto::ledger::{LedgerProof, ProvedEntry, RoundEntries};

const FILE: &str = "contradiction";
/// Version 2 says what it is about.
const KIND: Kind = Kind { code: 7, version: 2 };
const VERSION_1: Kind = Kind { version: 1, ..KIND };
/// Where contradictions go that the owner has seen, or that a restart has ended.
const SEEN: &str = "evidence";

/// The coordinator in contradiction to itself, with the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// What is wrong, for people.
    pub problem: String,
    /// What shows it, in JSON: signed heads and entries as the coordinator sent them, in hexadecimal.
    pub evidence: Vec<u8>,
    /// When it was seen, in Unix milliseconds.
    pub at: Millis,
    /// Whether the operator was told.
    pub reported: bool,
    /// What it is about.
    pub about: About,
}

/// What a contradiction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// The ledger does not extend the one that was seen. A restart ends that.
    Head,
    /// Anything else. The owner alone ends that.
    Other,
}

/// As version 1 had it.
#[derive(Deserialize)]
struct Version1 {
    problem: String,
    evidence: Vec<u8>,
    at: Millis,
    reported: bool,
}

/// Where something was found.
pub(super) struct Found<'a> {
    pub(super) about: About,
    pub(super) seen: Option<SignedHead>,
    /// The restart that was adopted before.
    pub(super) adopted: Option<SignedRestart>,
    pub(super) proof: &'a LedgerProof,
    pub(super) shown: Option<&'a RoundEntries>,
}

#[derive(Default, Serialize)]
struct Evidence {
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<String>,
    shown: String,
    consistency: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<EntryEvidence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<String>,
    entries: Vec<EntryEvidence>,
    participants: Vec<u64>,
}

#[derive(Serialize)]
struct EntryEvidence {
    index: u64,
    entry: String,
    inclusion: Vec<String>,
}

impl From<&ProvedEntry> for EntryEvidence {
    fn from(proved: &ProvedEntry) -> Self {
        let ProvedEntry { index, entry, inclusion } = proved;
        Self { index: *index, entry: hex::encode(entry), inclusion: hex_all(inclusion) }
    }
}

fn hex_all(hashes: &[[u8; 32]]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

impl Contradiction {
    pub(super) fn new(mut problem: String, found: &Found<'_>, at: Millis) -> Self {
        let mut evidence = Evidence {
            seen: found.seen.map(|seen| hex::encode(seen.to_bytes())),
            adopted: found.adopted.map(|restart| hex::encode(restart.to_bytes())),
            shown: hex::encode(found.proof.head.to_bytes()),
            consistency: hex_all(&found.proof.consistency),
            restart: found.proof.restart.as_ref().map(|restart| (&restart.entry).into()),
            ..Evidence::default()
        };
        if let Some(shown) = found.shown {
            evidence.round = Some(shown.round.to_string());
            evidence.entries = shown.entries.iter().map(Into::into).collect();
            evidence.participants = shown.participants.iter().map(|client| client.0).collect();
        }
        let mut json = serde_json::to_vec(&evidence).unwrap_or_default();
        if json.len() > MAX_EVIDENCE {
            // The entries commit to the participants.
            evidence.participants.clear();
            json = serde_json::to_vec(&evidence).unwrap_or_default();
        }
        problem.truncate(problem.floor_char_boundary(MAX_TEXT));
        Self { problem, evidence: json, at, reported: false, about: found.about }
    }

    /// The contradiction that keeps this client from taking part, if there is one.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn load(folder: &Folder) -> Result<Option<Self>, FolderError> {
        Self::peek(folder.path())
    }

    /// The same in a folder that a client may be using.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn peek(folder: &Path) -> Result<Option<Self>, FolderError> {
        match read(folder, KIND) {
            Err(FolderError::Version { found: 1, .. }) => Ok(read(folder, VERSION_1)?.map(Version1::into)),
            read => read,
        }
    }

    /// Stores it. From then on this client takes part in nothing.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store(self, folder: &Folder) -> Result<Self, FolderError> {
        folder.store(FILE, KIND, &self)?;
        Ok(self)
    }

    /// Puts it by, at its owner's wish or for a restart: the client takes part again, and the evidence is kept.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn put_by(&self, folder: &Folder) -> Result<(), FolderError> {
        folder.store(&format!("{SEEN}/{}", self.at), KIND, self)?;
        folder.shred(FILE)
    }
}

impl From<Version1> for Contradiction {
    fn from(form: Version1) -> Self {
        let Version1 { problem, evidence, at, reported } = form;
        Self { problem, evidence, at, reported, about: About::Other }
    }
}

fn read<T: DeserializeOwned>(folder: &Path, kind: Kind) -> Result<Option<T>, FolderError> {
    folder::load(folder, FILE, kind)
}
