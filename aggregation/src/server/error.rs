//! Why the server refuses a message or aborts a round. Must never leave the offender unnamed.

use super::UploadError;
use crate::Step;
use crate::identity::{CertificateError, ClientId, RosterError};
use crate::messages::{AdvertFault, CommitmentFault, ShareKind};
use crate::params::ParamsError;
use crate::ring_vector::RingError;

/// A refused message. The round goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The sender takes no part in this step.
    #[error("client {client} takes no part in {step} of this round")]
    NotTakingPart {
        /// The sender.
        client: ClientId,
        /// The step.
        step: Step,
    },
    /// The sender was excluded before.
    #[error("client {client} was excluded from this round")]
    Excluded {
        /// The sender.
        client: ClientId,
    },
    /// A second, different message for one step.
    #[error("client {client} sent a second, different message in {step}: the first one stands")]
    TwoMessages {
        /// The sender.
        client: ClientId,
        /// The step.
        step: Step,
    },
    /// The signature does not verify, so the sender is not blamed.
    #[error("the signature in {step} that is said to be by client {client} does not verify")]
    Signature {
        /// The claimed sender.
        client: ClientId,
        /// The step.
        step: Step,
    },

    // Advertise.
    /// The cohort is full.
    #[error("the cohort already has its {max} clients: client {client} may join a later round")]
    CohortFull {
        /// The sender.
        client: ClientId,
        /// Largest cohort of the plan.
        max: u32,
    },
    /// The certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The advert is for another round, plan, ledger or model.
    #[error(transparent)]
    Advert(#[from] AdvertFault),
    /// It is not on the roster that the plan demands, or not drawn.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A key that no neighbour could use.
    #[error("client {client} advertised a key that contributes nothing, or is not encoded as keys are")]
    UselessKey {
        /// The sender.
        client: ClientId,
    },

    // Share.
    /// Commitments that do not fit the round or the advert.
    #[error(transparent)]
    Commitments(#[from] CommitmentFault),
    /// Envelopes for others than the neighbours.
    #[error(
        "client {client} did not seal exactly one envelope for each of its neighbours, in the order of ids"
    )]
    Envelopes {
        /// The sender.
        client: ClientId,
    },

    // Collect.
    /// A vector of another length.
    #[error("client {client} announced {length} bytes where {expected} are due")]
    VectorLength {
        /// The sender.
        client: ClientId,
        /// Bytes announced.
        length: u64,
        /// Bytes due.
        expected: u64,
    },
    /// It refuses the shares of clients that sent it none, or is not in order.
    #[error("client {client} refuses the shares of clients that sent it none, or names them out of order")]
    RefusedStrangers {
        /// The sender.
        client: ClientId,
    },
    /// It holds fewer than t good shares, and should have left.
    #[error("client {client} holds only {verified} good shares where t is {threshold}")]
    TooFewShares {
        /// The sender.
        client: ClientId,
        /// Good shares.
        verified: u32,
        /// The threshold.
        threshold: u32,
    },
    /// The bytes do not have the signed digest.
    #[error("the masked vector of client {client} does not have the digest that it signed")]
    VectorDigest {
        /// The sender.
        client: ClientId,
    },
    /// The bytes have the signed digest but are no packed vector.
    #[error("the masked vector of client {client} is malformed: {error}")]
    Vector {
        /// The sender.
        client: ClientId,
        /// What is wrong.
        error: RingError,
    },
    /// A chunk that does not fit.
    #[error("the upload of client {client} cannot go on: {error}")]
    Upload {
        /// The sender.
        client: ClientId,
        /// What is wrong.
        error: UploadError,
    },
    /// Neighbours refused its shares.
    #[error(
        "client {client} is excluded: {accusers} of its neighbours found that its shares do not match its commitments"
    )]
    SentBadShares {
        /// The client.
        client: ClientId,
        /// How many neighbours say so.
        accusers: u32,
    },
    /// It refused the shares of several neighbours that nobody else refused.
    #[error("client {client} is excluded: it alone refuses the shares of {accused} neighbours that stay")]
    RefusesManyShares {
        /// The client.
        client: ClientId,
        /// How many neighbours it refuses.
        accused: u32,
    },
    /// It did nothing wrong, but masked with a client that sent bad shares to so many others that the mask cannot be removed.
    #[error(
        "client {client} is left out, at no fault of its own: its mask with client {with} cannot be removed"
    )]
    Stranded {
        /// The client.
        client: ClientId,
        /// Who sent bad shares to others.
        with: ClientId,
    },
    /// A vector was added twice.
    #[error("the masked vector of client {client} is already in the sum")]
    AddedTwice {
        /// The client.
        client: ClientId,
    },

    // Unmask.
    /// The shares are not exactly those due.
    #[error(
        "client {client} did not send exactly one share, of the right kind, for each neighbour that shared"
    )]
    ShareList {
        /// The sender.
        client: ClientId,
    },
    /// A share is no canonical scalar.
    #[error("the {kind} share of client {of} that client {client} sent is not a canonical scalar")]
    NotAScalar {
        /// The sender.
        client: ClientId,
        /// Whose secret it should belong to.
        of: ClientId,
        /// Which secret.
        kind: ShareKind,
    },
    /// A share does not match its owner's commitments, although its sender had accepted it.
    #[error("client {client} handed over a {kind} share of client {of} that does not match the commitments")]
    BadUnmaskShare {
        /// The sender.
        client: ClientId,
        /// Whose secret it should belong to.
        of: ClientId,
        /// Which secret.
        kind: ShareKind,
    },

    // Sessions that survive a crash.
    /// The step of the message is not open.
    #[error("a message of client {client} for {step} came while that step was not open")]
    NotOpen {
        /// The sender.
        client: ClientId,
        /// The step of the message.
        step: Step,
    },
    /// The sum is not complete, so nobody is asked to unmask it.
    #[error(
        "the masked vector of client {client} must be added before the survivors' confirmations are closed"
    )]
    VectorNotAdded {
        /// The survivor.
        client: ClientId,
    },
    /// There is no step to close, or no sum to add to.
    #[error("the round is not in a step where this can be done")]
    NotInStep,
    /// A record could not be stored.
    #[error("this session could not store a record: restore it from those that are stored")]
    Interrupted,
}

/// The end of a round without a sum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the round is aborted in {step}, releasing nothing: {reason}")]
pub struct Abort {
    /// The step whose closing failed.
    pub step: Step,
    /// Why.
    pub reason: AbortReason,
}

impl Abort {
    /// Whether the round costs its full privacy budget all the same: after the first Unmask request the sum may be known.
    #[must_use]
    pub fn costs_budget(&self) -> bool {
        self.step == Step::Unmask
    }
}

/// Why a round is aborted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbortReason {
    /// Too few, too many or unsuitable adverts for the plan.
    #[error(transparent)]
    Parameters(#[from] ParamsError),
    /// Fewer clients shared than must survive.
    #[error("{shared} clients shared with enough neighbours where at least {n_min} must survive")]
    TooFewShared {
        /// Clients that shared.
        shared: u32,
        /// Fewest survivors.
        n_min: u32,
    },
    /// Fewer clients survived than the sum needs.
    #[error("{survivors} clients survived where n_min is {n_min}")]
    TooFewSurvivors {
        /// Survivors.
        survivors: u32,
        /// Fewest survivors.
        n_min: u32,
    },
    /// Fewer than t neighbours can help to unmask a client.
    #[error(
        "only {holders} neighbours of client {client} can hand over its shares where t is {threshold}; {accusers} refused them as bad"
    )]
    Neighbourhood {
        /// The client.
        client: ClientId,
        /// Neighbours with a good share that still answer.
        holders: u32,
        /// Surviving neighbours that say that its shares are bad.
        accusers: u32,
        /// The threshold.
        threshold: u32,
    },
    /// Fewer members confirmed than each client demands.
    #[error("{confirmed} clients confirmed where {quorum} must")]
    NoQuorum {
        /// Members that confirmed.
        confirmed: u32,
        /// Members that must.
        quorum: u32,
    },
    /// Fewer than t good shares of a client came in.
    #[error(
        "{good} good shares of client {client} came in where t is {threshold}; bad ones came from {liars:?}"
    )]
    Unrecoverable {
        /// The client.
        client: ClientId,
        /// Good shares.
        good: u32,
        /// The threshold.
        threshold: u32,
        /// Who sent bad ones.
        liars: Vec<ClientId>,
    },
    /// A survivor's vector was not added.
    #[error("the masked vector of client {client} was not added to the sum")]
    VectorMissing {
        /// The client.
        client: ClientId,
    },
    /// The masked sum is of another round or other survivors.
    #[error("the masked sum is not over the confirmed survivors of this round")]
    ForeignSum,
}
