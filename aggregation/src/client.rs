//! The client's side of a round: `Advertised`, `Shared`, `Masked`, `Confirmed`, `Finished`, each consumed by the step into
//! the next. Must never answer a step twice in two ways, nor go on after a refusal: the state is gone then, with its secrets.
//!
//! All steps are deterministic functions of [`RoundSecrets`] and the messages accepted. [`Session`] drives the states, stores a
//! record of each step before it hands out the answer, and comes back from the records after a crash.

mod advertised;
mod confirmed;
mod error;
mod masked;
mod secrets;
mod session;
mod shared;

pub use advertised::Advertised;
pub use confirmed::{Confirmed, Finished};
pub use error::ClientError;
pub use masked::Masked;
pub use secrets::RoundSecrets;
#[cfg(test)]
pub(crate) use secrets::UniformScalars;
pub use session::Session;
pub use shared::Shared;

use crate::Digest;
use crate::cohort::Cohort;
use crate::context::Context;
use crate::identity::{Certificate, ClientId, IdentityKey, Membership, PublicKey};
use crate::params::{Floors, RoundParams, RoundTerms};
use std::sync::Arc;

/// What a client brings to a round.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// Terms of the plan, whose signature the client has checked.
    pub terms: Arc<RoundTerms>,
    /// The weakest parameters that this client accepts.
    pub floors: Floors,
    /// The organisation's identity root.
    pub root: PublicKey,
    /// The client's signing key.
    pub identity: Arc<IdentityKey>,
    /// The root's certificate for it.
    pub certificate: Certificate,
    /// Proof that the client is on the roster that the plan demands; none where it demands none.
    pub membership: Option<Membership>,
    /// Digest of the model that the client's update was trained on.
    pub parent: Digest,
}

/// What every state after Share knows about its owner.
#[derive(Debug)]
struct Member {
    identity: Arc<IdentityKey>,
    client: ClientId,
    index: u32,
    cohort: Cohort,
    /// Signing keys of members that are no neighbours, in the order of their cohort indices, where their confirmations
    /// count. Encoded, for decoded ones take six times the memory and only a quorum of them is used.
    witnesses: Vec<(u32, PublicKey)>,
}

impl Member {
    fn params(&self) -> &RoundParams {
        &self.cohort.params
    }

    fn context(&self) -> &Context {
        &self.cohort.context
    }

    /// Signing key of a member that is no neighbour.
    fn witness(&self, index: u32) -> Option<&PublicKey> {
        let place = self.witnesses.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(&self.witnesses[place].1)
    }
}
