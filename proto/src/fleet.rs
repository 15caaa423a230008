//! What a client and the coordinator say to each other outside of a round's steps, and around them. Must never name the
//! caller: the transport knows from whom a message comes.

use crate::ledger::LedgerProof;
use crate::manifest::SignedManifest;
use crate::messages::{ClientMessage, ServerMessage};
use crate::plan::SignedPlan;
use std::fmt;
use tacit_aggregation::identity::{Membership, RevocationList};
use tacit_aggregation::messages::MaskedChunk;
use tacit_aggregation::params::TaskName;
use tacit_aggregation::{Digest, Step};

/// Most base models, and most ready updates, that a client may announce.
pub const MAX_ANNOUNCED: usize = 16;
/// Longest text for people in a message, in bytes.
pub const MAX_TEXT: usize = 4 << 10;
/// Longest evidence in a report, in bytes.
pub const MAX_EVIDENCE: usize = 64 << 10;
/// Most bytes of a file in one part of a download.
pub const MAX_PART_BYTES: usize = 1 << 20;

/// Names a round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundName {
    /// The learning task.
    pub task: TaskName,
    /// Number of the round within the task.
    pub round: u64,
}

impl fmt::Display for RoundName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task, self.round)
    }
}

/// Says that the client is there, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckIn {
    /// Version of the client's software, such as 0.2.0.
    pub version: String,
    /// SHA-256 of the base models that it can train.
    pub base_models: Vec<Digest>,
    /// Updates that wait for a cohort.
    pub ready: Vec<ReadyUpdate>,
    /// Entries of the last ledger that it saw.
    pub ledger_size: u64,
    /// Number of the newest revocation list that it has.
    pub revocations: u64,
    /// Number of the last restart of the ledger that it adopted; 0 before the first.
    pub restart: u32,
}

/// An update that waits for a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyUpdate {
    /// The learning task.
    pub task: TaskName,
    /// The adapter version that it was trained on.
    pub parent: Digest,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedIn {
    /// The coordinator's clock, in milliseconds since 1970.
    pub now: u64,
    /// The ledger, and the proof that it extends the one that the caller saw.
    pub ledger: LedgerProof,
    /// One for each task that the caller may take part in.
    pub offers: Vec<Offer>,
    /// When to check in again, in milliseconds from now.
    pub retry_after: u64,
    /// A newer list of revoked clients, if there is one.
    pub revocations: Option<RevocationList>,
}

/// A task that a client may take part in.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The plan of the round that is open or comes next.
    pub plan: SignedPlan,
    /// The version that the caller's channel installs.
    pub manifest: SignedManifest,
    /// The version to train on, where it is another.
    pub parent: Option<SignedManifest>,
    /// Whether the caller's update is in the cohort that is forming.
    pub join: bool,
    /// Why the caller may not take part now.
    pub excuse: Option<String>,
    /// Proves that the caller is on the roster that the plan demands, for its advert.
    pub membership: Option<Membership>,
}

/// Waits for the beginning of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receive {
    /// The round.
    pub round: RoundName,
    /// The last step whose message the caller has answered.
    pub after: Step,
}

/// What there is for the caller of [`Receive`].
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The message that begins the next step.
    Message(ServerMessage),
    /// The round is over for the caller.
    End(RoundEnd),
    /// Nothing happened for a while: ask again.
    Nothing,
}

/// How a round ended, as far as the caller is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundEnd {
    /// Whether a sum was released.
    pub committed: bool,
    /// Why not, or why the caller has no further part in it, for people.
    pub reason: String,
}

/// A message of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// The round.
    pub round: RoundName,
    /// Anything but a chunk.
    pub message: ClientMessage,
}

/// The receipt for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// After a masked header: how many bytes of the vector are stored.
    pub resume_at: u64,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadPart {
    /// The round; in every part the same.
    pub round: RoundName,
    /// The bytes, and where they start.
    pub chunk: MaskedChunk,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes that are stored durably.
    pub resume_at: u64,
    /// Whether all of them are, and their digest is the announced one.
    pub complete: bool,
}

/// Asks for a published file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Where to begin, in bytes.
    pub offset: u64,
}

/// A part of a file, at most [`MAX_PART_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadPart {
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A contradiction of the coordinator's, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, for people; at most [`MAX_TEXT`].
    pub problem: String,
    /// Signed heads and entries that show it; at most [`MAX_EVIDENCE`].
    pub evidence: Vec<u8>,
}

/// The receipt for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported;
