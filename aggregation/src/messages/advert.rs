//! Advertise: a client's keys for one round, signed. Must never outlive its round.

use crate::Digest;
use crate::context::Fields;
use crate::identity::{Certificate, ClientId, Membership, RosterError, Signature};
use crate::messages::KeyKind;
use crate::params::{RoundTerms, TaskName, admit_member};

/// A client's announcement that it joins a round of a plan, with its keys for that round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The client's certificate, which also names the client.
    pub certificate: Certificate,
    /// The learning task.
    pub task: TaskName,
    /// Round number within the task.
    pub round: u64,
    /// SHA-256 of the signed plan that the client checked.
    pub plan: Digest,
    /// The ledger head that the client saw.
    pub ledger_head: Digest,
    /// Digest of the model that the client's update was trained on, one of the plan's list.
    pub parent: Digest,
    /// X25519 public key for share envelopes.
    pub channel_key: [u8; 32],
    /// Ristretto255 public key for pair masks, S_u.
    pub mask_key: [u8; 32],
    /// Fresh random bytes.
    pub nonce: [u8; 32],
    /// Proves that the client is on the roster that the plan demands; none where it demands none.
    pub membership: Option<Membership>,
    /// The client's signature over all of the above.
    pub signature: Signature,
}

impl Advert {
    /// The client that this advert is from, if its certificate holds.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.certificate.client
    }

    /// The bytes that the client signs; where there is a proof of membership, its index and path come last.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let fields = Fields::new("advert")
            .integer(self.client().0)
            .bytes(self.task.as_str().as_bytes())
            .integer(self.round)
            .bytes(&self.plan)
            .bytes(&self.ledger_head)
            .bytes(&self.parent)
            .bytes(&self.channel_key)
            .bytes(&self.mask_key)
            .bytes(&self.nonce);
        match &self.membership {
            Some(Membership { index, path }) => {
                fields.integer(*index).bytes(path.as_flattened()).into_bytes()
            }
            None => fields.into_bytes(),
        }
    }

    /// SHA-256 over the whole advert, as the cohort list has it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Fields::new("advert-digest")
            .bytes(&self.payload())
            .bytes(&self.signature.0)
            .bytes(&self.certificate.payload())
            .bytes(&self.certificate.signature.0)
            .digest()
    }

    /// Checks that the advert is for these terms.
    ///
    /// # Errors
    /// [`AdvertFault`] names what differs.
    pub fn check_terms(&self, terms: &RoundTerms) -> Result<(), AdvertFault> {
        let client = self.client();
        if self.task != terms.task || self.round != terms.round {
            return Err(AdvertFault::ReplayedRound { client, task: self.task.clone(), round: self.round });
        }
        if self.plan != terms.plan {
            return Err(AdvertFault::PlanDiffers { client });
        }
        if self.ledger_head != terms.ledger_head {
            return Err(AdvertFault::LedgerDiffers { client });
        }
        if terms.parents.binary_search(&self.parent).is_err() {
            return Err(AdvertFault::ParentNotAdmitted { client });
        }
        Ok(())
    }

    /// Checks that the client may be in a cohort under these terms: listed and drawn where they demand a roster.
    ///
    /// # Errors
    /// [`RosterError`].
    pub fn check_membership(&self, terms: &RoundTerms) -> Result<(), RosterError> {
        admit_member(terms.roster.as_ref(), self.client(), self.membership.as_ref())
    }
}

/// An advert made for something else than the round at hand, or with another member's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdvertFault {
    /// For another task or round.
    #[error(
        "client {client} advertised for round {round} of task {task}: an old or foreign advert is replayed"
    )]
    ReplayedRound {
        /// The client.
        client: ClientId,
        /// The task in its advert.
        task: TaskName,
        /// The round in its advert.
        round: u64,
    },
    /// Under another plan.
    #[error("client {client} was shown another plan")]
    PlanDiffers {
        /// The client.
        client: ClientId,
    },
    /// On another ledger.
    #[error("client {client} was shown another ledger head")]
    LedgerDiffers {
        /// The client.
        client: ClientId,
    },
    /// With an update trained on a model that the plan does not list.
    #[error("client {client} joins with a model that the plan does not list")]
    ParentNotAdmitted {
        /// The client.
        client: ClientId,
    },
    /// With a key that another member of the cohort has.
    #[error(
        "clients {client} and {other} have the same {key}: one machine takes two places, or copies what another announced"
    )]
    SharedKey {
        /// The client.
        client: ClientId,
        /// The one that had the key first, or comes first in the cohort.
        other: ClientId,
        /// Which key.
        key: KeyKind,
    },
}
