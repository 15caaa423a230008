//! A version of the adapter: its trained coordinates and the chain of digests that it stands in.
//! Must never exist with a coordinate that is not finite.

mod layout;

pub use layout::{AdapterLayout, LayoutError, TrainedTensor};

use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tacit_aggregation::Digest;

/// Names format and version of what is hashed.
const TAG: &[u8] = b"tacit/adapter/v1";

/// One version of an adapter, in the model's flat layout.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterVersion {
    values: Arc<[f32]>,
    parent: Digest,
    digest: Digest,
}

/// A vector that is no adapter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// No coordinates.
    #[error("an adapter has at least one coordinate")]
    Empty,
    /// NaN or an infinity.
    #[error("coordinate {coordinate} of the adapter is not a finite number")]
    NotFinite {
        /// Index of the first one.
        coordinate: usize,
    },
}

impl AdapterVersion {
    /// The version with these coordinates that follows `parent`: the version before it, or the base model's digest for the
    /// first one.
    ///
    /// # Errors
    /// [`AdapterError`] for a vector that is empty or not finite.
    pub fn new(values: Vec<f32>, parent: Digest) -> Result<Self, AdapterError> {
        if values.is_empty() {
            return Err(AdapterError::Empty);
        }
        if let Some(coordinate) = values.iter().position(|value| !value.is_finite()) {
            return Err(AdapterError::NotFinite { coordinate });
        }
        let mut hash = Sha256::new();
        hash.update(TAG);
        hash.update(parent);
        hash.update((values.len() as u64).to_be_bytes());
        for value in &values {
            hash.update(value.to_le_bytes());
        }
        Ok(Self { values: values.into(), parent, digest: hash.finalize().into() })
    }

    /// The coordinates.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Digest of the version before.
    #[must_use]
    pub fn parent(&self) -> &Digest {
        &self.parent
    }

    /// SHA-256 of `tacit/adapter/v1`, the parent's digest, the number of coordinates (eight bytes, big-endian), and each
    /// coordinate (four bytes, little-endian).
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::{AdapterError, AdapterVersion};
    use sha2::{Digest as _, Sha256};

    #[test]
    fn the_digest_is_of_the_values_and_the_parent() {
        let version = AdapterVersion::new(vec![1.0, -2.5], [9; 32]).expect("finite");
        let bytes = [
            &b"tacit/adapter/v1"[..],
            &[9; 32],
            &[0, 0, 0, 0, 0, 0, 0, 2],
            &[0, 0, 0x80, 0x3f],
            &[0, 0, 0x20, 0xc0],
        ];
        let expected: [u8; 32] = Sha256::digest(bytes.concat()).into();
        assert_eq!(version.digest(), &expected);
        let others = [(vec![1.0, -2.5], [8; 32]), (vec![1.0, 2.5], [9; 32]), (vec![1.0, -2.5, 0.0], [9; 32])];
        for (values, parent) in others {
            assert_ne!(AdapterVersion::new(values, parent).expect("finite").digest(), &expected);
        }
    }

    #[test]
    fn what_is_not_finite_is_no_adapter() {
        assert_eq!(AdapterVersion::new(Vec::new(), [0; 32]), Err(AdapterError::Empty));
        for bad in [f32::NAN, f32::INFINITY] {
            let refused = AdapterVersion::new(vec![0.0, bad], [0; 32]);
            assert_eq!(refused, Err(AdapterError::NotFinite { coordinate: 1 }));
        }
    }
}
