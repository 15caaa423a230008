//! Share: each client's secrets, shared among its neighbours under seal, with commitments that let them check. Must never
//! carry a share in the clear.

use crate::Digest;
use crate::context::{Context, Fields};
use crate::identity::{ClientId, Signature};
use crate::merkle::{self, Tree};
use crate::shamir::Commitments;
use std::fmt;
use std::sync::Arc;

/// Bytes of a sealed pair of shares: two scalars and an authentication tag.
pub const CIPHERTEXT_BYTES: usize = 32 + 32 + 16;

/// AES-256-GCM of (share of b, share of s), for one neighbour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The neighbour that can open it.
    pub to: ClientId,
    /// Sealed shares.
    pub ciphertext: [u8; CIPHERTEXT_BYTES],
}

impl Envelope {
    /// The envelope's leaf in its sender's Merkle tree.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        merkle::leaf(&Fields::new("envelope").integer(self.to.0).bytes(&self.ciphertext).into_bytes())
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope {{ to: {}, .. }}", self.to)
    }
}

/// A client's commitments to both of its polynomials. `C_0` of the first is the advert's mask key S_u.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareCommitments {
    /// To the polynomial that shares the mask key's secret s_u.
    pub mask_key: Commitments,
    /// To the polynomial that shares the self-mask seed b_u.
    pub self_mask: Commitments,
}

impl ShareCommitments {
    /// SHA-256 over all points.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Fields::new("commitments")
            .bytes(self.mask_key.as_bytes().as_flattened())
            .bytes(self.self_mask.as_bytes().as_flattened())
            .digest()
    }

    /// The same commitments without their decoded points: see [`Commitments::without_points`].
    #[must_use]
    pub fn without_points(self) -> Self {
        Self { mask_key: self.mask_key.without_points(), self_mask: self.self_mask.without_points() }
    }

    /// Checks that both polynomials have t coefficients and that the first shares the advertised mask key.
    ///
    /// # Errors
    /// [`CommitmentFault`] names what is wrong with the commitments of `from`.
    pub fn check(&self, from: ClientId, threshold: u32, mask_key: &[u8; 32]) -> Result<(), CommitmentFault> {
        for polynomial in [&self.mask_key, &self.self_mask] {
            let count = polynomial.threshold();
            if count != threshold as usize {
                return Err(CommitmentFault::Count { from, count, threshold });
            }
        }
        if self.mask_key.secret() != mask_key {
            return Err(CommitmentFault::NotMaskKey { from });
        }
        Ok(())
    }
}

/// Commitments that do not fit the round or the advert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentFault {
    /// To a polynomial of another degree.
    #[error("client {from} committed to {count} coefficients where t is {threshold}")]
    Count {
        /// The sender.
        from: ClientId,
        /// Commitments to one of its polynomials.
        count: usize,
        /// The threshold.
        threshold: u32,
    },
    /// To another secret than that of the advertised mask key.
    #[error("client {from} shared another mask key than the one that it advertised")]
    NotMaskKey {
        /// The sender.
        from: ClientId,
    },
}

/// What a client sends in Share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMessage {
    /// The sender.
    pub client: ClientId,
    /// Commitments to both polynomials.
    pub commitments: Arc<ShareCommitments>,
    /// One envelope per neighbour, client ids strictly increasing.
    pub envelopes: Vec<Envelope>,
    /// The sender's signature over [`Self::payload`].
    pub signature: Signature,
}

impl ShareMessage {
    /// The bytes that the client signs: ctx, sender, digest of the commitments, root of the envelopes.
    #[must_use]
    pub fn payload(&self, context: &Context) -> Vec<u8> {
        payload(context, self.client, &self.commitments.digest(), &self.envelope_tree().root())
    }

    /// The Merkle tree over the envelopes, from which deliveries are cut.
    #[must_use]
    pub fn envelope_tree(&self) -> Tree {
        Tree::new(self.envelopes.iter().map(Envelope::leaf).collect())
    }

    /// What the neighbour at a place among the envelopes gets of this message, given its [`Self::envelope_tree`].
    #[must_use]
    pub fn delivery(&self, tree: &Tree, place: usize) -> Option<ShareDelivery> {
        let envelope = self.envelopes.get(place)?;
        Some(ShareDelivery {
            from: self.client,
            commitments: Arc::clone(&self.commitments),
            ciphertext: envelope.ciphertext,
            path: tree.path(place),
            signature: self.signature,
        })
    }
}

/// What a client receives of one neighbour's [`ShareMessage`].
#[derive(Clone, PartialEq, Eq)]
pub struct ShareDelivery {
    /// The neighbour.
    pub from: ClientId,
    /// Its commitments.
    pub commitments: Arc<ShareCommitments>,
    /// Its envelope for the receiver.
    pub ciphertext: [u8; CIPHERTEXT_BYTES],
    /// Siblings of that envelope in the neighbour's Merkle tree, nearest first.
    pub path: Vec<Digest>,
    /// The neighbour's signature.
    pub signature: Signature,
}

impl ShareDelivery {
    /// The bytes that the neighbour signed, if the receiver's envelope is the one at `place` of `count`; none when the
    /// path has the wrong length.
    #[must_use]
    pub fn payload(&self, context: &Context, to: ClientId, place: usize, count: usize) -> Option<Vec<u8>> {
        let leaf = Envelope { to, ciphertext: self.ciphertext }.leaf();
        let root = merkle::root_from_path(&leaf, place, count, &self.path)?;
        Some(payload(context, self.from, &self.commitments.digest(), &root))
    }
}

impl fmt::Debug for ShareDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareDelivery {{ from: {}, .. }}", self.from)
    }
}

fn payload(context: &Context, sender: ClientId, commitments: &Digest, envelopes: &Digest) -> Vec<u8> {
    Fields::new("share")
        .bytes(context.as_bytes())
        .integer(sender.0)
        .bytes(commitments)
        .bytes(envelopes)
        .into_bytes()
}
