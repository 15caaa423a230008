//! What the two sides of a round say to each other: one alternative per step. Must never carry what no step needs.

use std::sync::Arc;
use tacit_aggregation::messages::{
    Advert, CohortList, Confirm, MaskedChunk, MaskedHeader, ShareDelivery, ShareMessage, SurvivorMaps,
    UnmaskRequest, UnmaskShares,
};

/// What a client sends in a round. The transport knows from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Advertise.
    Advert(Arc<Advert>),
    /// Share.
    Share(Arc<ShareMessage>),
    /// Collect, first.
    MaskedHeader(MaskedHeader),
    /// Collect, until the vector is complete.
    MaskedChunk(MaskedChunk),
    /// Confirm.
    Confirm(Confirm),
    /// Unmask.
    Unmask(UnmaskShares),
}

/// What a client receives in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// The cohort is closed; begins Share.
    Cohort {
        /// The whole cohort.
        list: Arc<CohortList>,
        /// Adverts of the receiver's neighbours, or of all members where their confirmations must be checked; client ids
        /// strictly increasing.
        adverts: Vec<Arc<Advert>>,
    },
    /// The envelopes for the receiver, senders strictly increasing; begins Collect.
    Shares(Vec<ShareDelivery>),
    /// Who shared and who survived; begins Confirm.
    Maps(SurvivorMaps),
    /// The request for shares; begins Unmask.
    Unmask(UnmaskRequest),
}

impl ClientMessage {
    /// The step's name, for messages to people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Advert(_) => "advertise",
            Self::Share(_) => "share",
            Self::MaskedHeader(_) | Self::MaskedChunk(_) => "collect",
            Self::Confirm(_) => "confirm",
            Self::Unmask(_) => "unmask",
        }
    }
}

impl ServerMessage {
    /// The name of the step that the message begins, for messages to people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Cohort { .. } => "share",
            Self::Shares(_) => "collect",
            Self::Maps(_) => "confirm",
            Self::Unmask(_) => "unmask",
        }
    }
}
