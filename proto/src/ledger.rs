//! Proofs about the coordinator's ledger, as they travel. Must never judge one: that is for the receiver's witness.

use crate::fleet::RoundName;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;
use tacit_privacy::ledger::head::SignedHead;
use tacit_privacy::ledger::restart::Shown;

/// Most rounds that may be asked about at once.
pub const MAX_ROUNDS: usize = 64;
/// Most hashes in a proof: two for each level of a tree of 2^64 entries.
pub const MAX_PROOF: usize = 128;
/// Most entries of one round.
pub const MAX_ENTRIES: usize = 4;
/// Longest encoding of an entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 4 << 10;

/// Asks for proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prove {
    /// Entries of a ledger that the caller saw; 0 for none.
    pub since: u64,
    /// Rounds whose entries are to be shown; at most [`MAX_ROUNDS`].
    pub rounds: Vec<RoundName>,
    /// Number of the last restart of the ledger that the caller adopted; 0 before the first.
    pub restart: u32,
}

/// The ledger as it is, with proofs.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerProof {
    /// The newest head.
    pub head: SignedHead,
    /// That it extends the one asked about.
    pub consistency: Vec<Digest>,
    /// What it says of each round asked for that it knows.
    pub rounds: Vec<RoundEntries>,
    /// The first restart after the one that the caller adopted, if there is one. Boxed: there hardly ever is.
    pub restart: Option<Box<ProvedRestart>>,
}

/// A restart of the ledger, with what shows that the ledger goes on from it: see [`tacit_privacy::ledger::restart`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedRestart {
    /// Its entry.
    pub entry: ProvedEntry,
    /// That the ledger extends the one that was restored.
    pub consistency: Vec<Digest>,
}

impl ProvedRestart {
    /// For a witness.
    #[must_use]
    pub fn shown(&self) -> Shown<'_> {
        let ProvedEntry { index, entry, inclusion } = &self.entry;
        Shown { index: *index, entry, inclusion, consistency: &self.consistency }
    }
}

/// What the ledger says of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundEntries {
    /// The round.
    pub round: RoundName,
    /// The reservation, and how the round ended if it did.
    pub entries: Vec<ProvedEntry>,
    /// After a commit or a forfeit, who pays, strictly increasing.
    pub participants: Vec<ClientId>,
}

/// An entry, and the proof that it is in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedEntry {
    /// Its place, from 0.
    pub index: u64,
    /// Its canonical encoding.
    pub entry: Vec<u8>,
    /// Siblings from the entry to the root.
    pub inclusion: Vec<Digest>,
}
