//! The messages of a round, as domain types, with the canonical bytes that are signed. Must never hold a field that a
//! receiver uses and no signature, digest or authentication tag covers.

mod advert;
mod cohort;
mod confirm;
mod key_owners;
mod masked;
mod share;
mod unmask;

pub use advert::{Advert, AdvertFault};
pub use cohort::{CohortEntry, CohortList};
pub use confirm::{Confirm, SurvivorMaps};
pub use key_owners::KeyKind;
pub(crate) use key_owners::KeyOwners;
pub use masked::{MAX_CHUNK_BYTES, MaskedChunk, MaskedHeader, MaskedUpload, chunks};
pub use share::{CIPHERTEXT_BYTES, CommitmentFault, Envelope, ShareCommitments, ShareDelivery, ShareMessage};
pub use unmask::{ShareKind, ShareValue, UnmaskRequest, UnmaskShare, UnmaskShares};
