//! Unmask: exactly one share per neighbour that shared. Must never name both kinds of share of one client.

use crate::context::{Context, Fields};
use crate::identity::{ClientId, Signature};
use crate::messages::{Confirm, SurvivorMaps};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Which of a client's two secrets a share belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShareKind {
    /// Of the self-mask seed b of a survivor.
    SelfMask,
    /// Of the mask key s of a client that shared and dropped out.
    MaskKey,
}

impl fmt::Display for ShareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfMask => "self-mask",
            Self::MaskKey => "mask-key",
        })
    }
}

/// What the server asks a confirmed client: the maps again, and proof that its neighbours and a quorum confirmed the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmaskRequest {
    /// The maps that everybody confirmed.
    pub maps: SurvivorMaps,
    /// Confirmations of at least t of the receiver's neighbours, and of enough members for a quorum, client ids strictly
    /// increasing.
    pub confirmations: Vec<Confirm>,
}

/// The 32 canonical bytes of one share, a scalar. Zeroised on drop, not printed, compared in constant time.
#[derive(Clone)]
pub struct ShareValue(pub [u8; 32]);

impl PartialEq for ShareValue {
    fn eq(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |differing, (a, b)| differing | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

impl Eq for ShareValue {}

impl Drop for ShareValue {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for ShareValue {}

impl fmt::Debug for ShareValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareValue(redacted)")
    }
}

/// One share, of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmaskShare {
    /// Whose secret it belongs to.
    pub of: ClientId,
    /// Which secret.
    pub kind: ShareKind,
    /// The share.
    pub share: ShareValue,
}

/// What a client answers in Unmask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmaskShares {
    /// The sender.
    pub client: ClientId,
    /// One per neighbour that shared and whose share was good, client ids strictly increasing.
    pub shares: Vec<UnmaskShare>,
    /// The sender's signature.
    pub signature: Signature,
}

impl UnmaskShares {
    /// The bytes that the client signs: ctx, sender, and a digest over the shares.
    #[must_use]
    pub fn payload(&self, context: &Context) -> Vec<u8> {
        let shares = self.shares.iter().fold(Fields::new("unmask-shares"), |fields, share| {
            fields.integer(share.of.0).bytes(share.kind.to_string().as_bytes()).bytes(&share.share.0)
        });
        Fields::new("unmask")
            .bytes(context.as_bytes())
            .integer(self.client.0)
            .bytes(&shares.digest())
            .into_bytes()
    }
}
