//! Why a client refuses. Must never be vague: every lie of a server that the protocol names has its own variant.

use crate::identity::{CertificateError, ClientId, RosterError};
use crate::messages::{AdvertFault, CommitmentFault};
use crate::params::{BelowFloor, ParamsError};
use crate::ring_vector::RingError;
use crate::step::Step;

/// A refusal. The client has left the round: its state is dropped, its secrets are gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    // Advertise.
    /// The plan's terms are out of range, or the cohort's parameters break the plan or the rule (a lowered t among them).
    #[error(transparent)]
    Parameters(#[from] ParamsError),
    /// A parameter weaker than the client's own floor (a lowered n_min or gamma, a weaker threat model).
    #[error(transparent)]
    ParameterBelowFloor(#[from] BelowFloor),
    /// The client's own update was trained on a model that the plan does not admit.
    #[error(
        "this client's update was trained on a model that the plan does not list: train on a listed one first"
    )]
    OwnParentNotAdmitted,
    /// The roster is not the root's or of another epoch or period, or a member, this client among them, is not on it or not
    /// drawn.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The client's certificate is for another key or client.
    #[error("the certificate of client {client} is not for this client's key")]
    OwnCertificate {
        /// The client that it names.
        client: ClientId,
    },

    // Share.
    /// The list does not have n entries.
    #[error("the cohort list has {listed} entries where n is {n}")]
    CohortSize {
        /// Entries in the list.
        listed: usize,
        /// Cohort size in the parameters.
        n: u32,
    },
    /// The ids do not strictly increase.
    #[error("the cohort list is out of order at client {client}")]
    CohortOrder {
        /// The first client that does not follow its predecessor.
        client: ClientId,
    },
    /// The client is not in the list.
    #[error("this client, {client}, is not in the cohort list")]
    NotInCohort {
        /// This client.
        client: ClientId,
    },
    /// The list has another advert under the client's id.
    #[error("the cohort list has another advert for this client, {client}, than the one that it sent")]
    OwnAdvertReplaced {
        /// This client.
        client: ClientId,
    },
    /// A second, different cohort list.
    #[error("the server shows a second, different cohort list")]
    TwoCohortLists,
    /// More or fewer adverts were delivered than this client must see.
    #[error("{delivered} adverts were delivered where {due} are due")]
    AdvertCount {
        /// Adverts delivered.
        delivered: usize,
        /// Adverts due: the neighbours', or everybody else's.
        due: usize,
    },
    /// The advert delivered for a neighbour is of another client, or is not the one in the cohort list.
    #[error(
        "the advert delivered for neighbour {expected} is of client {got}, or not the one in the cohort list"
    )]
    SwappedNeighbour {
        /// The neighbour that the graph gives, or the member whose turn it is.
        expected: ClientId,
        /// Whose advert was delivered.
        got: ClientId,
    },
    /// A neighbour's advert is replayed, or made under another plan, ledger or model list.
    #[error(transparent)]
    Advert(#[from] AdvertFault),
    /// A member's certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A neighbour's advert is not signed by it.
    #[error("the signature on the advert of neighbour {client} does not verify")]
    AdvertSignature {
        /// The neighbour.
        client: ClientId,
    },
    /// A key of a neighbour cannot be used.
    #[error("neighbour {client} advertised a key that contributes nothing, or is not encoded as keys are")]
    UselessKey {
        /// The neighbour.
        client: ClientId,
    },

    // Collect.
    /// The vector to mask does not fit the round.
    #[error(
        "the vector to mask has {bits} bits and {dimension} coordinates, the round {round_bits} and {round_dimension}"
    )]
    InputShape {
        /// Bits of the vector.
        bits: u8,
        /// Coordinates of the vector.
        dimension: usize,
        /// Bits of the round.
        round_bits: u8,
        /// Coordinates of the round.
        round_dimension: u32,
    },
    /// A delivery from a client that is no neighbour, or out of order, or a second one.
    #[error("the delivery from client {from} is not from a neighbour, or repeated, or out of order")]
    NotANeighbour {
        /// The sender.
        from: ClientId,
    },
    /// Commitments to a polynomial of another degree, or to another mask key than the advertised one.
    #[error(transparent)]
    Commitments(#[from] CommitmentFault),
    /// A signature that is not over this round's context.
    #[error(
        "what came from client {from} in {step} is not signed for this context: forged, altered, or made for another round, plan or cohort"
    )]
    WrongContext {
        /// The claimed sender.
        from: ClientId,
        /// The step.
        step: Step,
    },
    /// A share that cannot be opened or does not match its commitments. The sender is to blame: it signed the envelope.
    #[error("neighbour {from} sealed a share that does not match its own commitments")]
    BadShare {
        /// The sender.
        from: ClientId,
    },
    /// Fewer than t good shares.
    #[error(
        "{verified} neighbours delivered good shares ({refused} bad ones) where t is {threshold}: envelopes are withheld"
    )]
    TooFewShares {
        /// Good shares.
        verified: u32,
        /// Bad shares.
        refused: u32,
        /// The threshold.
        threshold: u32,
    },
    /// A vector out of range.
    #[error(transparent)]
    Ring(#[from] RingError),

    // Confirm.
    /// The maps are not over n members.
    #[error("the survivor maps are over {members} members where n is {n}")]
    MapSize {
        /// Members that a map is over.
        members: u32,
        /// Cohort size.
        n: u32,
    },
    /// This client's shares count as not delivered.
    #[error("the server says that this client, {client}, did not share")]
    MarkedNotShared {
        /// This client.
        client: ClientId,
    },
    /// This client counts as dropped although it answers.
    #[error("the server says that this client, {client}, dropped out, and still asks it")]
    MarkedDropped {
        /// This client.
        client: ClientId,
    },
    /// A survivor that did not share.
    #[error("client {client} is said to survive but not to have shared")]
    SurvivedNotShared {
        /// The client.
        client: ClientId,
    },
    /// Fewer survivors than the sum needs.
    #[error("{survivors} survivors are fewer than n_min {n_min}")]
    TooFewSurvivors {
        /// Survivors in the map.
        survivors: u32,
        /// Fewest that may be summed.
        n_min: u32,
    },
    /// The map contradicts the envelopes that this client received.
    #[error("the map of those who shared contradicts the deliveries as to neighbour {client}")]
    SharedMapDiffers {
        /// The neighbour.
        client: ClientId,
    },
    /// A neighbour whose share was bad is kept in the sum.
    #[error("neighbour {client}, whose share this client refused, is said to survive")]
    RefusedNeighbourSurvived {
        /// The neighbour.
        client: ClientId,
    },
    /// Fewer than t of the client's neighbours survive: the ring may be cut here.
    #[error(
        "only {survivors} of this client's neighbours are said to survive where t is {threshold}: the graph may be cut"
    )]
    TooFewSurvivingNeighbours {
        /// Surviving neighbours.
        survivors: u32,
        /// The threshold.
        threshold: u32,
    },
    /// A second, different pair of maps.
    #[error("the server shows a second, different pair of survivor maps")]
    TwoSurvivorMaps,

    // Unmask.
    /// A confirmation by a client that is no surviving neighbour, or a second one, or out of order.
    #[error(
        "the confirmation by client {from} is not by a surviving neighbour, or repeated, or out of order"
    )]
    ForeignConfirmation {
        /// The signer.
        from: ClientId,
    },
    /// A member's confirmation is not over the maps that this client confirmed.
    #[error(
        "client {from} did not confirm the maps that this client confirmed: the server shows different maps, or replays"
    )]
    ConfirmationMismatch {
        /// The signer.
        from: ClientId,
    },
    /// Fewer than t neighbours confirmed.
    #[error("{confirmed} neighbours confirmed these maps where t is {threshold}")]
    TooFewConfirmations {
        /// Neighbours shown to have confirmed.
        confirmed: u32,
        /// The threshold.
        threshold: u32,
    },
    /// Fewer members confirmed than make an honest one common to any two such sets: others may be shown other maps.
    #[error(
        "{confirmed} members, this client included, are shown to have confirmed these maps where {quorum} must"
    )]
    NoQuorum {
        /// Members shown to have confirmed, this client included.
        confirmed: u32,
        /// Members that must.
        quorum: u32,
    },
    /// A second request, for the other kind of share of a client.
    #[error("the server asks for both shares of client {client}")]
    BothSharesRequested {
        /// The client that would be exposed.
        client: ClientId,
    },

    // Sessions that survive a crash.
    /// A second, different set of deliveries.
    #[error("the server delivers a second, different set of shares")]
    TwoDeliveries,
    /// An event that is not due.
    #[error("a message of {step} came where one of {due} is due: it may come again later")]
    NotYet {
        /// The step of the message.
        step: Step,
        /// The step that is due.
        due: Step,
    },
    /// An answer that is not kept any more.
    #[error("this client has answered Unmask and keeps nothing of {step} any more")]
    AnswerDeleted {
        /// The step that is asked about.
        step: Step,
    },
    /// The client has refused something before.
    #[error("this client has left the round: {reason}")]
    LeftRound {
        /// What it refused.
        reason: String,
    },
    /// A record could not be stored.
    #[error("this session could not store a record: restore it from those that are stored")]
    Interrupted,
}
