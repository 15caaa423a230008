//! The public record of every round's cost: an append-only chain in which each entry commits to all before it.
//! Must never let an entry be changed, dropped or reordered without the head changing.
//!
//! One ledger serves all tasks of a coordinator. A round opens with a reservation, made before anybody may upload, and
//! ends with exactly one of commit, release and forfeit; a reservation without an end counts as spent. After a backup was
//! restored a restart says where the ledger goes on. `docs/privacy/ledger.md` has the rules and the encoding.

mod chain;
mod encoding;
mod error;
pub mod export;
pub mod head;
pub mod restart;
mod text;
pub mod tree;

use serde::Serialize;

use crate::accountant::{AccountantError, RdpCurve};
use crate::book::ClientNumber;
use crate::central::AdaptiveClip;
use crate::round_mechanism::RoundMechanism;

pub use chain::{Ledger, Open, verify, verify_against};
pub use encoding::Decoder;
pub use error::{LedgerError, Problem};
use restart::SignedRestart;
pub use text::{Reason, Task, Text, TextError};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Head of a ledger without entries.
pub const EMPTY_HEAD: Hash = [0; 32];

/// One event in its place in the chain.
///
/// Stored and exchanged as the bytes of [`Self::encode`]. `Serialize` is for people to read: text may lose
/// the last bit of a real number, and with it the hash.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Hash of the entry before, or [`EMPTY_HEAD`].
    pub previous: Hash,
    /// The coordinator's clock, in milliseconds since 1970. Stated, not proved: clocks are set, so it may go back.
    pub time: u64,
    /// The task; `*` for a restart, which is about all of them.
    pub task: Task,
    /// Number of the round within the task; for a restart, the first that may be opened after it.
    pub round: u64,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// [`tree::leaf_hash`] of [`Self::encode`]: the leaf of the Merkle tree, and the link of the next entry.
    #[must_use]
    pub fn hash(&self) -> Hash {
        tree::leaf_hash(&self.encode())
    }
}

/// What happened to a round, or to the ledger.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant, reason = "entries are held one at a time")]
pub enum Event {
    /// Its cohort closed: the most that it may cost is set aside.
    Reserve(Reserve),
    /// It released a sum, and an adapter was made of it.
    Commit(Commit),
    /// It ended before its sum could be known: nothing is paid.
    Release(Release),
    /// It ended after its sum could be known, without an adapter: its survivors pay as for a commit.
    Forfeit(Debit),
    /// The coordinator was restored from a backup, and the ledger goes on from there. What had come after that is not in it.
    Restart(SignedRestart),
}

impl Event {
    /// What was made public, if anything was.
    #[must_use]
    pub fn commit(&self) -> Option<&Commit> {
        if let Self::Commit(commit) = self { Some(commit) } else { None }
    }

    /// What its participants pay, if they do.
    #[must_use]
    pub fn debit(&self) -> Option<&Debit> {
        match self {
            Self::Commit(Commit { debit, .. }) | Self::Forfeit(debit) => Some(debit),
            Self::Reserve(_) | Self::Release(_) | Self::Restart(_) => None,
        }
    }
}

/// What is set aside for a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reserve {
    /// Digest of the signed plan.
    pub plan_digest: Hash,
    /// [`members_root`] of the cohort, whose size the mechanism has.
    pub cohort_root: Hash,
    /// The mechanism and its parameters.
    pub mechanism: RoundMechanism,
    /// The delta at which the cost will be stated.
    pub delta: f64,
}

impl Reserve {
    /// The most that the round may cost a member, recomputed from the mechanism.
    ///
    /// # Errors
    /// As [`RoundMechanism::worst_cost`].
    pub fn cost(&self) -> Result<RdpCurve, AccountantError> {
        self.mechanism.worst_cost()
    }
}

/// What the participants of a round pay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Debit {
    /// Place of the round's reservation in the ledger.
    pub reservation: u64,
    /// Digest of the signed plan.
    pub plan_digest: Hash,
    /// The mechanism and its parameters as they were used.
    pub mechanism: RoundMechanism,
    /// Clients whose updates are in the sum.
    pub survivors: u32,
    /// [`members_root`] of those clients.
    pub participants_root: Hash,
    /// The largest epsilon over clients after this round, each composed over the rounds that it joined, every open
    /// reservation counted as spent.
    pub epsilon: f64,
    /// The delta at which epsilon is stated.
    pub delta: f64,
}

impl Debit {
    /// The privacy cost of this round alone, recomputed from the mechanism.
    ///
    /// # Errors
    /// As [`RoundMechanism::cost`].
    pub fn cost(&self) -> Result<RdpCurve, AccountantError> {
        self.mechanism.cost(self.survivors)
    }
}

/// A debit, and what was made public for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Commit {
    /// What the participants pay.
    pub debit: Debit,
    /// The noised sum of the clip bits, released beside the updates' where the clip norm adapts: +1 for each
    /// update that was not clipped, -1 for each that was.
    pub clip_bits: Option<i32>,
    /// Digest of the published adapter.
    pub adapter_digest: Hash,
}

impl Commit {
    /// The clip norm of the task's next round, under the rule that this one followed; none where the norm
    /// stays.
    #[must_use]
    pub fn next_clip(&self) -> Option<(&AdaptiveClip, f64)> {
        let Debit { mechanism, survivors, .. } = &self.debit;
        let rule = mechanism.central()?.adaptive_clip()?;
        Some((rule, rule.next_clip(mechanism.clip(), self.clip_bits?, *survivors)))
    }
}

/// Why nothing is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Place of the round's reservation in the ledger.
    pub reservation: u64,
    /// Why the round ended.
    pub reason: Reason,
}

/// Merkle root over the numbers of clients in increasing order, eight bytes each, big-endian. Whoever is shown the list
/// recomputes it, and sees whether it is in the list.
#[must_use]
pub fn members_root(clients: impl IntoIterator<Item = ClientNumber>) -> Hash {
    let leaves = clients.into_iter().map(|client| tree::leaf_hash(&client.to_be_bytes()));
    leaves.collect::<tree::Tree>().root()
}

#[cfg(test)]
mod tests;
