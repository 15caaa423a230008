//! Uploaded: the masked update is on its way. Must never change once its header is signed.

use super::{Confirmed, ParticipantError};
use tacit_aggregation::client::{ClientError, Masked};
use tacit_aggregation::messages::{MaskedUpload, SurvivorMaps, chunks};
use tacit_proto::ClientMessage;

/// The client has masked its update and waits to hear who survived.
#[derive(Debug)]
pub struct Uploaded {
    masked: Masked,
    upload: MaskedUpload,
    round: u64,
}

impl Uploaded {
    pub(super) fn new(masked: Masked, upload: MaskedUpload, round: u64) -> Self {
        Self { masked, upload, round }
    }

    /// The signed header, and the chunks from an offset in bytes on: 0 for all of it, or where the coordinator says that it
    /// stands.
    #[must_use]
    pub fn upload_from(&self, offset: u64) -> Vec<ClientMessage> {
        let header = ClientMessage::MaskedHeader(self.upload.header.clone());
        let chunks = chunks(&self.upload.packed, offset).map(ClientMessage::MaskedChunk);
        std::iter::once(header).chain(chunks).collect()
    }

    /// A [`ClientError::BadShare`] for each neighbour whose share did not match its commitments.
    pub fn bad_shares(&self) -> impl Iterator<Item = ClientError> + '_ {
        self.masked.bad_shares()
    }

    /// Checks who is said to have survived, and signs it.
    ///
    /// # Errors
    /// [`ParticipantError::Protocol`] names the lie. The client has then left the round.
    pub fn confirm(self, maps: &SurvivorMaps) -> Result<(Confirmed, ClientMessage), ParticipantError> {
        let (confirmed, confirm) = self.masked.confirm(maps)?;
        Ok((Confirmed::new(confirmed, self.round), ClientMessage::Confirm(confirm)))
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }
}
