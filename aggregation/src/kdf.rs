//! Every label of the key derivation, and the derivation itself: HKDF-SHA256 (RFC 5869) with ctx as salt. Must never derive
//! two purposes under one label.

use crate::context::Context;
use crate::identity::ClientId;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Self-mask key, from the self-mask seed b.
pub const SELF_MASK: &str = "self-mask";
/// Seed of the graph, from the cohort root. Public.
pub const GRAPH: &str = "graph";
/// Seed of the rotation, from the cohort root. Public.
pub const ROTATION: &str = "rotation";
/// Stream of the client's own self-mask seed and polynomial coefficients, from its round seed. Never leaves the client.
pub const POLYNOMIALS: &str = "polynomials";
/// Stream of the weights in the client's batch check of shares, from its round seed. Never leaves the client.
pub const SHARE_CHECK: &str = "share-check";

/// `share-enc|i|j`: key of the envelopes from client i to client j, from their X25519 secret.
#[must_use]
pub fn share_enc(from: ClientId, to: ClientId) -> String {
    format!("share-enc|{from}|{to}")
}

/// `pair-mask|min|max`: key of the mask that two clients share, from their Ristretto secret.
#[must_use]
pub fn pair_mask(one: ClientId, other: ClientId) -> String {
    format!("pair-mask|{}|{}", one.min(other), one.max(other))
}

/// 32 bytes for one purpose.
pub(crate) fn derive(context: &Context, secret: &[u8], label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(context.as_bytes()), secret)
        .expand(label.as_bytes(), key.as_mut_slice())
        .expect("32 bytes are within HKDF-SHA256's limit of 8,160");
    key
}
