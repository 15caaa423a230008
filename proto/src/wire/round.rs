//! The two envelopes that hold any step's message. Must never hold none.

use super::cache::{CommitmentCache, read_shared};
use super::check::{at_most, increasing, present};
use super::secagg::read_delivery;
use super::{DecodeError, Wire, decode, generated as wire};
use crate::messages::{ClientMessage, ServerMessage};
use std::sync::Arc;
use tacit_aggregation::messages::{Advert, ShareCommitments, ShareDelivery};
use tacit_aggregation::params::MAX_COHORT;

impl From<&ClientMessage> for wire::ClientMessage {
    fn from(message: &ClientMessage) -> Self {
        use wire::client_message::Body;
        let body = match message {
            ClientMessage::Advert(advert) => Body::Advert(advert.as_ref().into()),
            ClientMessage::Share(share) => Body::Share(share.as_ref().into()),
            ClientMessage::MaskedHeader(header) => Body::MaskedHeader(header.into()),
            ClientMessage::MaskedChunk(chunk) => Body::MaskedChunk(chunk.into()),
            ClientMessage::Confirm(confirm) => Body::Confirm(confirm.into()),
            ClientMessage::Unmask(shares) => Body::Unmask(shares.into()),
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<wire::ClientMessage> for ClientMessage {
    type Error = DecodeError;

    fn try_from(message: wire::ClientMessage) -> Result<Self, DecodeError> {
        use wire::client_message::Body;
        Ok(match present("ClientMessage.body", message.body)? {
            Body::Advert(advert) => Self::Advert(Arc::new(advert.try_into()?)),
            Body::Share(share) => Self::Share(Arc::new(share.try_into()?)),
            Body::MaskedHeader(header) => Self::MaskedHeader(header.try_into()?),
            Body::MaskedChunk(chunk) => Self::MaskedChunk(chunk.try_into()?),
            Body::Confirm(confirm) => Self::Confirm(confirm.try_into()?),
            Body::Unmask(shares) => Self::Unmask(shares.try_into()?),
        })
    }
}

impl From<&ServerMessage> for wire::ServerMessage {
    fn from(message: &ServerMessage) -> Self {
        use wire::server_message::Body;
        let body = match message {
            ServerMessage::Cohort { list, adverts } => Body::Cohort(wire::CohortClosed {
                list: Some(list.as_ref().into()),
                adverts: adverts.iter().map(|advert| advert.as_ref().into()).collect(),
            }),
            ServerMessage::Shares(deliveries) => Body::Shares(wire::ShareDeliveries {
                deliveries: deliveries.iter().map(Into::into).collect(),
            }),
            ServerMessage::Maps(maps) => Body::Maps(maps.into()),
            ServerMessage::Unmask(request) => Body::Unmask(request.into()),
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<wire::ServerMessage> for ServerMessage {
    type Error = DecodeError;

    fn try_from(message: wire::ServerMessage) -> Result<Self, DecodeError> {
        Self::read(message, read_shared)
    }
}

impl ServerMessage {
    fn read(
        message: wire::ServerMessage,
        commitments: impl Fn(wire::ShareCommitments) -> Result<Arc<ShareCommitments>, DecodeError>,
    ) -> Result<Self, DecodeError> {
        use wire::server_message::Body;
        Ok(match present("ServerMessage.body", message.body)? {
            Body::Cohort(closed) => {
                let field = "CohortClosed.adverts";
                at_most(field, closed.adverts.len(), MAX_COHORT as usize)?;
                let list = Arc::new(present("CohortClosed.list", closed.list)?.try_into()?);
                let adverts: Vec<Arc<Advert>> = closed
                    .adverts
                    .into_iter()
                    .map(|advert| advert.try_into().map(Arc::new))
                    .collect::<Result<_, _>>()?;
                Self::Cohort { list, adverts }
            }
            Body::Shares(shares) => {
                let field = "ShareDeliveries.deliveries";
                at_most(field, shares.deliveries.len(), MAX_COHORT as usize)?;
                let deliveries: Vec<ShareDelivery> = shares
                    .deliveries
                    .into_iter()
                    .map(|delivery| read_delivery(delivery, &commitments))
                    .collect::<Result<_, _>>()?;
                increasing(field, deliveries.iter().map(|delivery| delivery.from))?;
                Self::Shares(deliveries)
            }
            Body::Maps(maps) => Self::Maps(maps.try_into()?),
            Body::Unmask(request) => Self::Unmask(request.try_into()?),
        })
    }

    /// [`Wire::from_wire`] for a process that holds many clients of one cohort: commitments that another of them has
    /// received are not decoded again. The result is the same.
    ///
    /// # Errors
    /// [`DecodeError`] names the field.
    pub fn from_wire_cached(bytes: &[u8], cache: &CommitmentCache) -> Result<Self, DecodeError> {
        let message = decode::<wire::ServerMessage>("ServerMessage", Self::MAX_BYTES, bytes)?;
        Self::read(message, |commitments| cache.read(commitments))
    }
}
