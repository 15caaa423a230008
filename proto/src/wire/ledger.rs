//! The wire form of proofs about the ledger. Must never hold more hashes or entries than any proof has.

use super::check::{array, arrays, at_most, increasing, invalid, present, task};
use super::{DecodeError, generated as wire};
use crate::fleet::RoundName;
use crate::ledger::{
    LedgerProof, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_PROOF, MAX_ROUNDS, Prove, ProvedEntry, ProvedRestart,
    RoundEntries,
};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::MAX_COHORT;
use tacit_privacy::ledger::head::SignedHead;

impl From<&RoundName> for wire::RoundName {
    fn from(name: &RoundName) -> Self {
        Self { task: name.task.as_str().to_owned(), round: name.round }
    }
}

impl TryFrom<wire::RoundName> for RoundName {
    type Error = DecodeError;

    fn try_from(name: wire::RoundName) -> Result<Self, DecodeError> {
        Ok(Self { task: task("RoundName.task", &name.task)?, round: name.round })
    }
}

impl From<&Prove> for wire::ProveRequest {
    fn from(prove: &Prove) -> Self {
        let rounds = prove.rounds.iter().map(Into::into).collect();
        Self { since: prove.since, rounds, restart: prove.restart }
    }
}

impl TryFrom<wire::ProveRequest> for Prove {
    type Error = DecodeError;

    fn try_from(request: wire::ProveRequest) -> Result<Self, DecodeError> {
        at_most("ProveRequest.rounds", request.rounds.len(), MAX_ROUNDS)?;
        let rounds = request.rounds.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { since: request.since, rounds, restart: request.restart })
    }
}

impl From<&LedgerProof> for wire::LedgerProof {
    fn from(proof: &LedgerProof) -> Self {
        Self {
            head: proof.head.to_bytes().to_vec(),
            consistency: proof.consistency.concat(),
            rounds: proof.rounds.iter().map(Into::into).collect(),
            restart: proof.restart.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<wire::LedgerProof> for LedgerProof {
    type Error = DecodeError;

    fn try_from(proof: wire::LedgerProof) -> Result<Self, DecodeError> {
        at_most("LedgerProof.rounds", proof.rounds.len(), MAX_ROUNDS)?;
        Ok(Self {
            head: SignedHead::from_bytes(&array("LedgerProof.head", &proof.head)?),
            consistency: arrays("LedgerProof.consistency", &proof.consistency, MAX_PROOF)?,
            rounds: proof.rounds.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            restart: proof.restart.map(|restart| restart.try_into().map(Box::new)).transpose()?,
        })
    }
}

impl From<&ProvedRestart> for wire::LedgerRestart {
    fn from(restart: &ProvedRestart) -> Self {
        Self { entry: Some((&restart.entry).into()), consistency: restart.consistency.concat() }
    }
}

impl TryFrom<wire::LedgerRestart> for ProvedRestart {
    type Error = DecodeError;

    fn try_from(restart: wire::LedgerRestart) -> Result<Self, DecodeError> {
        Ok(Self {
            entry: present("LedgerRestart.entry", restart.entry)?.try_into()?,
            consistency: arrays("LedgerRestart.consistency", &restart.consistency, MAX_PROOF)?,
        })
    }
}

impl From<&RoundEntries> for wire::RoundEntries {
    fn from(entries: &RoundEntries) -> Self {
        Self {
            round: Some((&entries.round).into()),
            entries: entries.entries.iter().map(Into::into).collect(),
            participants: entries.participants.iter().flat_map(|client| client.0.to_be_bytes()).collect(),
        }
    }
}

impl TryFrom<wire::RoundEntries> for RoundEntries {
    type Error = DecodeError;

    fn try_from(entries: wire::RoundEntries) -> Result<Self, DecodeError> {
        let field = "RoundEntries.participants";
        at_most("RoundEntries.entries", entries.entries.len(), MAX_ENTRIES)?;
        let participants: Vec<ClientId> = arrays(field, &entries.participants, MAX_COHORT as usize)?
            .into_iter()
            .map(|bytes| ClientId(u64::from_be_bytes(bytes)))
            .collect();
        increasing(field, participants.iter().copied())?;
        Ok(Self {
            round: present("RoundEntries.round", entries.round)?.try_into()?,
            entries: entries.entries.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            participants,
        })
    }
}

impl From<&ProvedEntry> for wire::LedgerEntry {
    fn from(entry: &ProvedEntry) -> Self {
        Self { index: entry.index, entry: entry.entry.clone(), inclusion: entry.inclusion.concat() }
    }
}

impl TryFrom<wire::LedgerEntry> for ProvedEntry {
    type Error = DecodeError;

    fn try_from(entry: wire::LedgerEntry) -> Result<Self, DecodeError> {
        at_most("LedgerEntry.entry", entry.entry.len(), MAX_ENTRY_BYTES)?;
        if entry.entry.is_empty() {
            return Err(invalid("LedgerEntry.entry", "it is empty"));
        }
        let inclusion = arrays("LedgerEntry.inclusion", &entry.inclusion, MAX_PROOF)?;
        Ok(Self { index: entry.index, entry: entry.entry, inclusion })
    }
}
