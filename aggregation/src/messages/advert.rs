//! Advertise: a client's keys for one round, signed. Must never outlive its round.

use crate::Digest;
use crate::context::Fields;
use crate::identity::{Certificate, ClientId, Signature};
use crate::params::TaskName;

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
    /// The client's signature over all of the above.
    pub signature: Signature,
}

impl Advert {
    /// The client that this advert is from, if its certificate holds.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.certificate.client
    }

    /// The bytes that the client signs.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        Fields::new("advert")
            .integer(self.client().0)
            .bytes(self.task.as_str().as_bytes())
            .integer(self.round)
            .bytes(&self.plan)
            .bytes(&self.ledger_head)
            .bytes(&self.parent)
            .bytes(&self.channel_key)
            .bytes(&self.mask_key)
            .bytes(&self.nonce)
            .into_bytes()
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
}
