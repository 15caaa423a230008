//! The server's side of a round: `Advertise`, `Share`, `Collect`, `Confirm`, `Unmask`, each closed into the next, and the
//! `Sum` at the end. Must never hold a client's vector in the clear, nor release anything of a round that aborts.
//!
//! A phase takes messages one by one, in any order. A bad one is refused with a named error and changes nothing; a client
//! that signed a bad one is excluded. The same message again is fine; another one for the same step is refused. All phases
//! are deterministic functions of the messages that they accepted, in any order. [`Session`] drives the phases, stores a record
//! of each message before it acknowledges it, and comes back from the records after a crash.

mod advertise;
mod collect;
mod confirm;
mod disputes;
mod error;
mod recover;
mod session;
mod share;
mod summary;
mod summation;
mod unmask;
mod upload;

pub use advertise::Advertise;
pub use collect::Collect;
pub use confirm::Confirm;
pub use error::{Abort, AbortReason, ServerError};
pub use session::{Phase, Session};
pub use share::Share;
pub use summary::{VectorReader, VectorSummary};
pub use summation::{MaskedSum, Summation};
pub use unmask::{Sum, Unmask};
pub use upload::{Upload, UploadError};

use crate::Step;
use crate::cohort::Cohort;
use crate::identity::{ClientId, Signature};
use crate::messages::{Advert, CohortList};
use crate::signatures;
use curve25519_dalek::ristretto::RistrettoPoint;
use ed25519_dalek::VerifyingKey;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What became of an accepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is new.
    Accepted,
    /// It had been accepted before.
    Repeated,
}

/// The closed cohort and its members' keys, by cohort index.
#[derive(Clone, Debug)]
struct Roster {
    list: Arc<CohortList>,
    cohort: Cohort,
    adverts: Vec<Arc<Advert>>,
    verifying: Vec<VerifyingKey>,
    mask_keys: Vec<RistrettoPoint>,
    excluded: BTreeSet<u32>,
}

impl Roster {
    /// Cohort index of the sender of a message.
    fn sender(&self, client: ClientId, step: Step) -> Result<u32, ServerError> {
        let index = self.cohort.index_of(client).ok_or(ServerError::NotTakingPart { client, step })?;
        if self.excluded.contains(&index) { Err(ServerError::Excluded { client }) } else { Ok(index) }
    }

    /// Checks a member's signature.
    fn check_signature(
        &self,
        index: u32,
        step: Step,
        payload: &[u8],
        signature: &Signature,
    ) -> Result<(), ServerError> {
        if signatures::verify(&self.verifying[index as usize], payload, signature) {
            return Ok(());
        }
        Err(ServerError::Signature { client: self.cohort.client(index), step })
    }

    /// Excludes the sender of a signed message that breaks the protocol.
    fn exclude(&mut self, index: u32, error: ServerError) -> ServerError {
        self.excluded.insert(index);
        error
    }
}
