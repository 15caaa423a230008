//! Domain types to bytes and back. Must never panic on any bytes, nor hand out a value whose form is not the one that the
//! domain type's own encoder gives.

mod admin;
mod cache;
mod check;
mod enrolment;
mod error;
mod fleet;
mod ledger;
mod lists;
mod plan;
mod round;
mod secagg;

pub use cache::{CommitmentCache, share_commitments};
pub use error::DecodeError;

use bytes::{Buf, Bytes};
use prost::Message as _;

/// What `prost-build` makes of the .proto files; a test keeps it so.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!("generated/tacit.v1.rs");
}

/// A message that has a wire form.
pub trait Wire: Sized {
    /// Longest wire form that is decoded, in bytes.
    const MAX_BYTES: usize;

    /// What protobuf encodes.
    fn to_message(&self) -> impl prost::Message;

    /// The protobuf encoding.
    fn to_wire(&self) -> Vec<u8> {
        self.to_message().encode_to_vec()
    }

    /// Decodes and checks the form of every field; signatures are for the receiver.
    ///
    /// # Errors
    /// [`DecodeError`] names the field.
    fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The same; a part of a masked vector shares the memory of the bytes that it came in.
    ///
    /// # Errors
    /// As [`Self::from_wire`].
    fn from_buffer(bytes: Bytes) -> Result<Self, DecodeError>;
}

/// Refuses over-long input before it costs memory, and then decodes it.
fn decode<M: prost::Message + Default>(
    message: &'static str,
    limit: usize,
    bytes: impl Buf + AsRef<[u8]>,
) -> Result<M, DecodeError> {
    let length = bytes.remaining();
    if length > limit {
        return Err(DecodeError::TooLong { message, length, limit });
    }
    lists::check(message, bytes.as_ref())?;
    M::decode(bytes).map_err(|reason| DecodeError::Malformed { message, reason: reason.to_string() })
}

macro_rules! wire {
    ($($domain:ty = $generated:ident up to $limit:expr;)*) => {$(
        impl Wire for $domain {
            const MAX_BYTES: usize = $limit;

            fn to_message(&self) -> impl prost::Message {
                generated::$generated::from(self)
            }

            fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError> {
                decode::<generated::$generated>(stringify!($generated), Self::MAX_BYTES, bytes)?.try_into()
            }

            fn from_buffer(bytes: Bytes) -> Result<Self, DecodeError> {
                decode::<generated::$generated>(stringify!($generated), Self::MAX_BYTES, bytes)?.try_into()
            }
        }
    )*};
}

use crate::admin::{Answer, MAX_ANSWER, MAX_IMPORT, Order};
use crate::enrolment::{Credentials, Enrol, Enrolled, Fetch};
use crate::fleet::{
    CheckIn, CheckedIn, Download, DownloadPart, MAX_PART_BYTES, Receive, Received, Report, Reported, Send,
    Sent, UploadPart, Uploaded,
};
use crate::ledger::{LedgerProof, Prove};
use crate::messages::{ClientMessage, ServerMessage};
use crate::plan::{RoundPlan, SignedPlan};
use tacit_aggregation::identity::{Certificate, RevocationList};
use tacit_aggregation::messages::{
    Advert, CohortList, Confirm, MAX_CHUNK_BYTES, MaskedChunk, MaskedHeader, ShareDelivery, ShareMessage,
    SurvivorMaps, UnmaskRequest, UnmaskShares,
};

/// A kibibyte.
const KIB: usize = 1 << 10;
/// A mebibyte.
const MIB: usize = 1 << 20;

wire! {
    RoundPlan = RoundPlan up to 16 * KIB;
    SignedPlan = SignedPlan up to 17 * KIB;
    Certificate = Certificate up to KIB;
    Advert = Advert up to 3 * KIB;
    CohortList = CohortList up to MIB;
    ShareMessage = ShareMessage up to 2 * MIB;
    ShareDelivery = ShareDelivery up to MIB;
    MaskedHeader = MaskedHeader up to 256 * KIB;
    MaskedChunk = MaskedChunk up to MAX_CHUNK_BYTES + KIB;
    SurvivorMaps = SurvivorMaps up to 8 * KIB;
    Confirm = Confirm up to KIB;
    UnmaskRequest = UnmaskRequest up to 2 * MIB;
    UnmaskShares = UnmaskShares up to 2 * MIB;
    ClientMessage = ClientMessage up to 3 * MIB;
    ServerMessage = ServerMessage up to 64 * MIB;
    Enrol = EnrolRequest up to KIB;
    Enrolled = EnrolResponse up to KIB;
    Fetch = FetchRequest up to KIB;
    Credentials = Credentials up to 8 * KIB;
    CheckIn = CheckInRequest up to 8 * KIB;
    CheckedIn = CheckInResponse up to 16 * MIB;
    RevocationList = RevocationList up to 12 * MIB;
    Receive = ReceiveRequest up to KIB;
    Received = ReceiveResponse up to 64 * MIB + KIB;
    Send = SendRequest up to 3 * MIB + KIB;
    Sent = SendResponse up to KIB;
    UploadPart = UploadPart up to MAX_CHUNK_BYTES + 2 * KIB;
    Uploaded = UploadResponse up to KIB;
    Prove = ProveRequest up to 16 * KIB;
    LedgerProof = LedgerProof up to 8 * MIB;
    Download = DownloadRequest up to KIB;
    DownloadPart = DownloadPart up to MAX_PART_BYTES + KIB;
    Report = ReportRequest up to 80 * KIB;
    Reported = ReportResponse up to KIB;
    Order = Order up to MAX_IMPORT + KIB;
    Answer = Answer up to MAX_ANSWER + KIB;
}

#[cfg(test)]
mod tests;
