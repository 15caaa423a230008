//! Domain types to bytes and back. Must never panic on any bytes, nor hand out a value whose form is not the one that the
//! domain type's own encoder gives.

mod cache;
mod check;
mod error;
mod lists;
mod plan;
mod round;
mod secagg;

pub use cache::CommitmentCache;
pub use error::DecodeError;

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

    /// The protobuf encoding.
    fn to_wire(&self) -> Vec<u8>;

    /// Decodes and checks the form of every field; signatures are for the receiver.
    ///
    /// # Errors
    /// [`DecodeError`] names the field.
    fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Refuses over-long input before it costs memory, and then decodes it.
fn decode<M: prost::Message + Default>(
    message: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<M, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { message, length: bytes.len(), limit });
    }
    lists::check(message, bytes)?;
    M::decode(bytes).map_err(|reason| DecodeError::Malformed { message, reason: reason.to_string() })
}

macro_rules! wire {
    ($($domain:ty = $generated:ident up to $limit:expr;)*) => {$(
        impl Wire for $domain {
            const MAX_BYTES: usize = $limit;

            fn to_wire(&self) -> Vec<u8> {
                generated::$generated::from(self).encode_to_vec()
            }

            fn from_wire(bytes: &[u8]) -> Result<Self, DecodeError> {
                decode::<generated::$generated>(stringify!($generated), Self::MAX_BYTES, bytes)?.try_into()
            }
        }
    )*};
}

use crate::messages::{ClientMessage, ServerMessage};
use crate::plan::{RoundPlan, SignedPlan};
use tacit_aggregation::identity::Certificate;
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
    Advert = Advert up to 2 * KIB;
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
}

#[cfg(test)]
mod tests;
