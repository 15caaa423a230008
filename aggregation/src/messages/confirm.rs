//! Confirm: everybody signs who shared and who survived, once. Must never be signed for two pairs of maps.

use crate::bitmap::Bitmap;
use crate::context::{Context, Fields};
use crate::identity::{ClientId, Signature};

/// Who shared and whose vectors are in the sum, as sets of cohort indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurvivorMaps {
    /// Those whose shares were delivered.
    pub shared: Bitmap,
    /// Those whose masked vectors are summed.
    pub survived: Bitmap,
}

impl SurvivorMaps {
    /// The bytes that every survivor signs: ctx and both maps.
    #[must_use]
    pub fn payload(&self, context: &Context) -> Vec<u8> {
        Fields::new("confirm")
            .bytes(context.as_bytes())
            .bytes(self.shared.as_bytes())
            .bytes(self.survived.as_bytes())
            .into_bytes()
    }
}

/// A client's signature over the maps of its round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// The signer.
    pub client: ClientId,
    /// Its signature over [`SurvivorMaps::payload`].
    pub signature: Signature,
}
