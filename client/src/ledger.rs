//! What this client remembers of the coordinator's ledger, and what it makes of what it is shown. Must never rely on a head that
//! is not stored, nor forget a contradiction.

mod contradiction;

pub use contradiction::{About, Contradiction};

use crate::Millis;
use crate::accounts::Awaiting;
use crate::folder::{Folder, FolderError, Kind};
use contradiction::Found;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_privacy::ledger::head::{HeadError, SignedHead, Witness};
use tacit_privacy::ledger::restart::{Restart, RestartError, SignedRestart};
use tacit_privacy::ledger::tree::leaf_hash;
use tacit_privacy::ledger::{Entry, Event, members_root};
use tacit_proto::ledger::{LedgerProof, RoundEntries};

const HEAD_FILE: &str = "head";
/// Version 2: the last restart that was adopted follows the head, where there is one.
const HEAD: Kind = Kind { code: 6, version: 2 };
const HEAD_1: Kind = Kind { version: 1, ..HEAD };

/// How long a reservation may stay open after this client's part in its round, in milliseconds: a week.
const PATIENCE: Millis = 7 * 24 * 60 * 60 * 1000;

/// This client's memory of the ledger: the last signed head that it accepted, and the last restart; one file, stored before
/// anything relies on it.
#[derive(Debug)]
pub struct Watch {
    witness: Witness,
    root: PublicKey,
    client: ClientId,
}

/// What the ledger says of a round that this client took part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended, and this client is among those who pay. Place of the entry.
    Debited(u64),
    /// It ended, and this client does not pay, as is right.
    Spared,
    /// It has not ended.
    Open,
    /// How it ended was in what a restart has left behind. It stays paid.
    Lost,
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
    /// A restart that is not this coordinator's, or not the identity root's.
    #[error(transparent)]
    Restart(RestartError),
    /// The coordinator contradicts itself. It is stored, and this client takes part in nothing until its owner has seen it.
    #[error("the coordinator contradicts itself: {}", .0.problem)]
    Contradiction(Box<Contradiction>),
}

impl Watch {
    /// The memory as it is stored, or a fresh one.
    ///
    /// # Errors
    /// [`LedgerError::Folder`]; [`LedgerError::Unsigned`] when the stored head is another coordinator's.
    pub fn load(
        folder: &Folder,
        (root, coordinator): (PublicKey, PublicKey),
        client: ClientId,
    ) -> Result<Self, LedgerError> {
        let stored = match folder.read(HEAD_FILE, HEAD) {
            Err(FolderError::Version { found: 1, .. }) => folder.read(HEAD_FILE, HEAD_1)?,
            stored => stored?,
        };
        let Some(bytes) = stored else {
            return Ok(Self { witness: Witness::new(coordinator.0), root, client });
        };
        let damaged = || folder.damaged(HEAD_FILE, "it is no signed head");
        let (head, restart) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let restart = match restart {
            [] => None,
            bytes => Some(SignedRestart::from_bytes(bytes.try_into().map_err(|_| damaged())?)),
        };
        let witness = Witness::restore(coordinator.0, SignedHead::from_bytes(head), restart);
        Ok(Self { witness: witness.map_err(LedgerError::Unsigned)?, root, client })
    }

    /// Entries of the last ledger that was seen.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.witness.size()
    }

    /// The last restart that was adopted.
    #[must_use]
    pub fn restart(&self) -> Option<&Restart> {
        self.witness.restart().map(SignedRestart::claimed)
    }

    /// Number of the last restart that was adopted; 0 before the first.
    #[must_use]
    pub fn restart_number(&self) -> u32 {
        self.witness.restart_number()
    }

    /// The first round that may be joined.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        self.witness.first_round()
    }

    /// Whether the proof shows a restart that would be adopted.
    #[must_use]
    pub fn would_adopt(&self, proof: &LedgerProof) -> bool {
        let Some(restart) = &proof.restart else { return false };
        let accepted = self.witness.clone().accept_restart(
            proof.head,
            &proof.consistency,
            &restart.shown(),
            &self.root.0,
        );
        accepted == Ok(true)
    }

    /// Takes the head of a proof, and the restart that it shows; what they add is stored when this returns, all of it or nothing.
    /// Whether a restart was adopted: [`Self::restart`]. `paid` is the highest round that this client has paid for: where that
    /// came after a restart, the restart was kept from it until now, and lets nobody go back any more.
    ///
    /// # Errors
    /// [`LedgerError`]; the memory is then unchanged.
    pub fn accept(
        &mut self,
        folder: &Folder,
        proof: &LedgerProof,
        paid: Option<u64>,
        now: Millis,
    ) -> Result<bool, LedgerError> {
        let mut witness = self.witness.clone();
        let accepted = match &proof.restart {
            None => witness.accept(proof.head, &proof.consistency).map(|()| false).map_err(Into::into),
            Some(restart) => {
                witness.accept_restart(proof.head, &proof.consistency, &restart.shown(), &self.root.0)
            }
        };
        let goes_back = || self.witness.clone().accept(proof.head, &proof.consistency).is_err();
        let adopted = match accepted {
            Ok(true) if paid >= Some(witness.first_round()) && goes_back() => {
                let (number, round) = (witness.restart_number(), paid.unwrap_or_default());
                let problem = format!(
                    "restart {number} of the ledger was kept from this client until it had paid for round {round}, which came \
                     after that, and is now to leave behind what it saw since"
                );
                return Err(self.caught(folder, About::Other, &problem, proof, now));
            }
            Ok(adopted) => adopted,
            Err(RestartError::Head(error @ HeadError::Signature { .. })) => {
                return Err(LedgerError::Unsigned(error));
            }
            Err(RestartError::Head(error)) => {
                return Err(self.caught(folder, About::Head, &error, proof, now));
            }
            Err(error @ RestartError::Forked { .. }) => {
                return Err(self.caught(folder, About::Other, &error, proof, now));
            }
            // A restart that is none excuses nothing.
            Err(error) => {
                return Err(match witness.accept(proof.head, &proof.consistency) {
                    Ok(()) => LedgerError::Restart(error),
                    Err(head) => {
                        let problem = format!("{head} (it shows a restart: {error})");
                        self.caught(folder, About::Head, &problem, proof, now)
                    }
                });
            }
        };
        // The same ledger, signed at another time, is not worth a write.
        if adopted || self.witness.seen().is_none() || witness.size() > self.witness.size() {
            let mut bytes = proof.head.to_bytes().to_vec();
            bytes.extend(witness.restart().iter().flat_map(|restart| restart.to_bytes()));
            folder.write(HEAD_FILE, HEAD, &bytes)?;
        }
        self.witness = witness;
        Ok(adopted)
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
            self.contradiction(
                folder,
                problem,
                &Found { shown: entries, ..self.found(About::Other, proof) },
                now,
            )
        })
    }

    fn verdict(
        &self,
        awaiting: &Awaiting,
        shown: Option<&RoundEntries>,
        now: Millis,
    ) -> Result<Verdict, String> {
        let overdue = now.saturating_sub(awaiting.since) > PATIENCE;
        // Whatever is missing of a round from before a restart is in what that has left behind.
        let restarted = awaiting.round < self.first_round();
        let Some(shown) = shown else {
            if restarted {
                return Ok(Verdict::Lost);
            }
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
            if !matches!(entry.event, Event::Reserve(_)) && end.replace((proved.index, entry.event)).is_some()
            {
                return Err("the ledger ends it twice".into());
            }
        }
        let Some((place, end)) = end else {
            if restarted {
                return Ok(Verdict::Lost);
            }
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
            (true, _) => Ok(Verdict::Debited(place)),
            (false, false) => Ok(Verdict::Spared),
            (false, true) => {
                Err("this client is not among those debited, but its update is in the sum".into())
            }
        }
    }

    fn found<'a>(&self, about: About, proof: &'a LedgerProof) -> Found<'a> {
        let (seen, adopted) = (self.witness.seen().copied(), self.witness.restart().copied());
        Found { about, seen, adopted, proof, shown: None }
    }

    fn caught(
        &self,
        folder: &Folder,
        about: About,
        problem: &dyn std::fmt::Display,
        proof: &LedgerProof,
        at: Millis,
    ) -> LedgerError {
        self.contradiction(folder, problem.to_string(), &self.found(about, proof), at)
    }

    /// Stores a contradiction, and gives it as an error.
    fn contradiction(&self, folder: &Folder, problem: String, found: &Found<'_>, at: Millis) -> LedgerError {
        match Contradiction::new(problem, found, at).store(folder) {
            Ok(contradiction) => LedgerError::Contradiction(Box::new(contradiction)),
            Err(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
