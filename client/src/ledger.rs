//! What this client remembers of the coordinator's ledger, and what it makes of what it is shown. Must never rely on a head that
//! is not stored, nor forget a contradiction.

use crate::Millis;
use crate::accounts::Awaiting;
use crate::folder::{self, Folder, FolderError, Kind};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_privacy::ledger::head::{HeadError, SignedHead, Witness};
use tacit_privacy::ledger::tree::leaf_hash;
use tacit_privacy::ledger::{Entry, Event, members_root};
use tacit_proto::fleet::{MAX_EVIDENCE, MAX_TEXT};
use tacit_proto::ledger::{LedgerProof, RoundEntries};

const HEAD_FILE: &str = "head";
const HEAD: Kind = Kind { code: 6, version: 1 };
const CONTRADICTION_FILE: &str = "contradiction";
const CONTRADICTION: Kind = Kind { code: 7, version: 1 };
/// Where contradictions go that the owner has seen.
const SEEN: &str = "evidence";

/// How long a reservation may stay open after this client's part in its round, in milliseconds: a week.
const PATIENCE: Millis = 7 * 24 * 60 * 60 * 1000;

/// This client's memory of the ledger: the last signed head that it accepted, stored before anything relies on it.
#[derive(Debug)]
pub struct Watch {
    witness: Witness,
    client: ClientId,
}

/// What the ledger says of a round that this client took part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended, and this client is among those who pay.
    Debited,
    /// It ended, and this client does not pay, as is right.
    Spared,
    /// It has not ended.
    Open,
}

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
}

/// Why a proof is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nothing could be stored or read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The stored head, or the one shown, is not the coordinator's. That proves nothing against it.
    #[error(transparent)]
    Unsigned(HeadError),
    /// The coordinator contradicts itself. It is stored, and this client takes part in nothing until its owner has seen it.
    #[error("the coordinator contradicts itself: {}", .0.problem)]
    Contradiction(Box<Contradiction>),
}

#[derive(Default, Serialize)]
struct Evidence {
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    shown: String,
    consistency: Vec<String>,
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

impl Watch {
    /// The memory as it is stored, or a fresh one.
    ///
    /// # Errors
    /// [`LedgerError::Folder`]; [`LedgerError::Unsigned`] when the stored head is another coordinator's.
    pub fn load(folder: &Folder, coordinator: PublicKey, client: ClientId) -> Result<Self, LedgerError> {
        let Some(bytes) = folder.read(HEAD_FILE, HEAD)? else {
            return Ok(Self { witness: Witness::new(coordinator.0), client });
        };
        let bytes =
            bytes.as_slice().try_into().map_err(|_| folder.damaged(HEAD_FILE, "it is no signed head"))?;
        let witness = Witness::restore(coordinator.0, SignedHead::from_bytes(bytes));
        Ok(Self { witness: witness.map_err(LedgerError::Unsigned)?, client })
    }

    /// Entries of the last ledger that was seen.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.witness.size()
    }

    /// Takes the head of a proof; what it adds is stored when this returns.
    ///
    /// # Errors
    /// [`LedgerError`]; the memory is then unchanged.
    pub fn accept(&mut self, folder: &Folder, proof: &LedgerProof, now: Millis) -> Result<(), LedgerError> {
        let seen = self.witness.seen().copied();
        match self.witness.accept(proof.head, &proof.consistency) {
            Ok(()) if seen.is_none() || self.witness.size() > seen.map_or(0, |seen| size_of(&seen)) => {
                Ok(folder.write(HEAD_FILE, HEAD, &proof.head.to_bytes())?)
            }
            // The same ledger, signed at another time.
            Ok(()) => Ok(()),
            Err(error @ HeadError::Signature { .. }) => Err(LedgerError::Unsigned(error)),
            Err(error) => Err(self.contradiction(folder, error.to_string(), seen, proof, None, now)),
        }
    }

    /// What the ledger of an accepted proof says of a round that this client has uploaded to.
    ///
    /// # Errors
    /// [`LedgerError::Contradiction`] when entries are not in the ledger, or make no sense, or leave out what this client has to
    /// pay.
    pub fn judge(
        &self,
        folder: &Folder,
        awaiting: &Awaiting,
        proof: &LedgerProof,
        now: Millis,
    ) -> Result<Verdict, LedgerError> {
        let name = awaiting.name();
        let entries = proof.rounds.iter().find(|entries| entries.round == name);
        self.verdict(awaiting, entries, now).map_err(|problem| {
            let problem = format!("round {name}: {problem}");
            self.contradiction(folder, problem, self.witness.seen().copied(), proof, entries, now)
        })
    }

    fn verdict(
        &self,
        awaiting: &Awaiting,
        shown: Option<&RoundEntries>,
        now: Millis,
    ) -> Result<Verdict, String> {
        let overdue = now.saturating_sub(awaiting.since) > PATIENCE;
        let Some(shown) = shown else {
            if awaiting.unmasked {
                return Err(
                    "the ledger does not know it, but this client has handed over shares that unmask its sum"
                        .into(),
                );
            }
            // Uploaded, and never asked to unmask. If the coordinator has lost the round nobody can know the sum.
            return Ok(if overdue { Verdict::Spared } else { Verdict::Open });
        };
        let mut end = None;
        for proved in &shown.entries {
            self.witness
                .check_entry(&leaf_hash(&proved.entry), proved.index, &proved.inclusion)
                .map_err(|error| error.to_string())?;
            let entry = Entry::decode(&proved.entry).map_err(|error| error.to_string())?;
            if entry.task.as_str() != awaiting.task.as_str() || entry.round != awaiting.round {
                return Err("an entry of another round is shown for it".into());
            }
            if !matches!(entry.event, Event::Reserve(_)) && end.replace(entry.event).is_some() {
                return Err("the ledger ends it twice".into());
            }
        }
        let Some(end) = end else {
            return match awaiting.unmasked && overdue {
                true => Err(
                    "its reservation was still open a week after this client's shares could unmask its sum"
                        .into(),
                ),
                false => Ok(Verdict::Open),
            };
        };
        let Some(debit) = end.debit() else {
            return match awaiting.unmasked {
                true => Err("the ledger releases it without cost, but this client has handed over shares that unmask its sum".into()),
                false => Ok(Verdict::Spared),
            };
        };
        if members_root(shown.participants.iter().map(|client| client.0)) != debit.participants_root
            || shown.participants.len() != debit.survivors as usize
        {
            return Err("the participants that are shown for it are not those of its entry".into());
        }
        if debit.plan_digest != awaiting.plan {
            return Err(
                "the ledger debits it for another plan than the one that this client was shown".into()
            );
        }
        match (shown.participants.binary_search(&self.client).is_ok(), awaiting.unmasked) {
            (true, _) => Ok(Verdict::Debited),
            (false, false) => Ok(Verdict::Spared),
            (false, true) => {
                Err("this client is not among those debited, but its update is in the sum".into())
            }
        }
    }

    /// Stores a contradiction, and gives it as an error.
    fn contradiction(
        &self,
        folder: &Folder,
        mut problem: String,
        seen: Option<SignedHead>,
        proof: &LedgerProof,
        shown: Option<&RoundEntries>,
        at: Millis,
    ) -> LedgerError {
        let hex_all = |hashes: &[[u8; 32]]| hashes.iter().map(hex::encode).collect();
        let mut evidence = Evidence {
            seen: seen.map(|seen| hex::encode(seen.to_bytes())),
            shown: hex::encode(proof.head.to_bytes()),
            consistency: hex_all(&proof.consistency),
            ..Evidence::default()
        };
        if let Some(shown) = shown {
            evidence.round = Some(shown.round.to_string());
            let entry = |proved: &tacit_proto::ledger::ProvedEntry| EntryEvidence {
                index: proved.index,
                entry: hex::encode(&proved.entry),
                inclusion: hex_all(&proved.inclusion),
            };
            evidence.entries = shown.entries.iter().map(entry).collect();
            evidence.participants = shown.participants.iter().map(|client| client.0).collect();
        }
        let mut json = serde_json::to_vec(&evidence).unwrap_or_default();
        if json.len() > MAX_EVIDENCE {
            // The entries commit to the participants.
            evidence.participants.clear();
            json = serde_json::to_vec(&evidence).unwrap_or_default();
        }
        problem.truncate(problem.floor_char_boundary(MAX_TEXT));
        let contradiction = Contradiction { problem, evidence: json, at, reported: false };
        match contradiction.store(folder) {
            Ok(()) => LedgerError::Contradiction(Box::new(contradiction)),
            Err(error) => error.into(),
        }
    }
}

/// Entries of a head that was accepted.
fn size_of(head: &SignedHead) -> u64 {
    let bytes = head.to_bytes();
    bytes.first_chunk().map_or(0, |size| u64::from_be_bytes(*size))
}

impl Contradiction {
    /// The contradiction that keeps this client from taking part, if there is one.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn load(folder: &Folder) -> Result<Option<Self>, FolderError> {
        folder.load(CONTRADICTION_FILE, CONTRADICTION)
    }

    /// The same in a folder that a client may be using.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn peek(folder: &Path) -> Result<Option<Self>, FolderError> {
        folder::load(folder, CONTRADICTION_FILE, CONTRADICTION)
    }

    /// Stores it. From then on this client takes part in nothing.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store(&self, folder: &Folder) -> Result<(), FolderError> {
        folder.store(CONTRADICTION_FILE, CONTRADICTION, self)
    }

    /// Puts it by, at its owner's wish: the client takes part again, and the evidence is kept.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn put_by(&self, folder: &Folder) -> Result<(), FolderError> {
        folder.store(&format!("{SEEN}/{}", self.at), CONTRADICTION, self)?;
        folder.shred(CONTRADICTION_FILE)
    }
}

#[cfg(test)]
mod tests;
