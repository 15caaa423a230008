//! How the flat vector of an adapter falls into named matrices, as a client's model software says it. Must never be used
//! before it was compared with the plan that it is for.

use super::{AdapterError, AdapterVersion};
use crate::plan::AdapterShape;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tacit_aggregation::Digest;

/// Most matrices of an adapter.
const MAX_TENSORS: usize = 1 << 12;
/// Longest name of a matrix or of a base model, in bytes.
const MAX_NAME: usize = 128;
/// Most rows or columns of a matrix.
const MAX_SIDE: u32 = 1 << 24;

/// The trained matrices of an adapter in the order of the flat vector, each row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterLayout {
    /// Name of the base model, for people and other software.
    pub base: String,
    /// SHA-256 of the base model's files.
    #[serde(with = "hex::serde")]
    pub base_model: Digest,
    /// Shape of the adapter.
    pub adapter: AdapterShape,
    /// The matrices.
    pub tensors: Vec<TrainedTensor>,
}

/// One trained matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedTensor {
    /// Its name in the published file.
    pub name: String,
    /// Rows and columns.
    pub shape: [u32; 2],
}

/// A layout that cannot be used, or is for something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A name or a number that no layout has.
    #[error("the layout is refused: {problem}; print it again with `tacit-client model layout`")]
    Value {
        /// What is wrong.
        problem: &'static str,
    },
    /// Made for another base model.
    #[error("the layout was made for another base model than the task's: print it for that one")]
    BaseModel,
    /// Made for another shape of the adapter.
    #[error(
        "the layout was made for another rank, alpha, targets or seed than the task's: print it for those"
    )]
    Shape,
}

impl TrainedTensor {
    /// Coordinates that it takes.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.shape[0]) * u64::from(self.shape[1])
    }

    /// Whether it takes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AdapterLayout {
    /// Coordinates of the flat vector.
    #[must_use]
    pub fn dimension(&self) -> u64 {
        self.tensors.iter().map(TrainedTensor::len).fold(0, u64::saturating_add)
    }

    /// Checks it against the base model and the shape of a task.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn check(&self, base_model: &Digest, adapter: &AdapterShape) -> Result<(), LayoutError> {
        let value = |problem| LayoutError::Value { problem };
        let plain = |name: &str| {
            (1..=MAX_NAME).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
        };
        if !plain(&self.base) || !self.tensors.iter().all(|tensor| plain(&tensor.name)) {
            return Err(value("a name is not 1 to 128 letters, digits, '.', '_' and '-'"));
        }
        if !(1..=MAX_TENSORS).contains(&self.tensors.len()) {
            return Err(value("it must have 1 to 4096 matrices"));
        }
        if !self.tensors.iter().flat_map(|tensor| tensor.shape).all(|side| (1..=MAX_SIDE).contains(&side)) {
            return Err(value("a matrix must have 1 to 2^24 rows and columns"));
        }
        let names: BTreeSet<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        if names.len() != self.tensors.len() {
            return Err(value("two matrices have one name"));
        }
        if self.base_model != *base_model {
            return Err(LayoutError::BaseModel);
        }
        if self.adapter != *adapter {
            return Err(LayoutError::Shape);
        }
        Ok(())
    }

    /// The version that a task begins with: it changes nothing, and follows the base model.
    ///
    /// # Errors
    /// [`AdapterError::Empty`] for a layout without coordinates, which [`Self::check`] refuses.
    pub fn initial(&self) -> Result<AdapterVersion, AdapterError> {
        AdapterVersion::new(vec![0.0; self.dimension() as usize], self.base_model)
    }
}

#[cfg(test)]
mod tests {
    use super::{AdapterLayout, LayoutError, TrainedTensor};
    use crate::plan::AdapterShape;

    fn layout() -> AdapterLayout {
        let tensor = |name: &str, shape| TrainedTensor { name: name.to_owned(), shape };
        AdapterLayout {
            base: "tacit-base".to_owned(),
            base_model: [3; 32],
            adapter: AdapterShape { rank: 4, alpha: 8.0, targets: vec!["q_proj".to_owned()], seed: 5 },
            tensors: vec![tensor("layers.0.b", [4, 10]), tensor("layers.1.b", [4, 12])],
        }
    }

    #[test]
    fn a_layout_is_for_one_base_model_and_one_shape() {
        let good = layout();
        assert_eq!(good.check(&[3; 32], &good.adapter), Ok(()));
        assert_eq!(good.dimension(), 88);
        let initial = good.initial().expect("it has coordinates");
        assert_eq!((initial.values(), initial.parent()), (&[0.0; 88][..], &[3; 32]));
        assert_eq!(good.check(&[4; 32], &good.adapter), Err(LayoutError::BaseModel));
        let other = AdapterShape { seed: 6, ..good.adapter.clone() };
        assert_eq!(good.check(&[3; 32], &other), Err(LayoutError::Shape));
        let json = serde_json::to_string(&good).expect("plain data");
        assert_eq!(serde_json::from_str::<AdapterLayout>(&json).expect("its own form"), good);
    }

    #[test]
    fn what_no_model_has_is_refused() {
        let bad: [fn(&mut AdapterLayout); 8] = [
            |l| l.base.clear(),
            |l| l.base = "a\"b".to_owned(),
            |l| l.tensors[0].name = "a/b".to_owned(),
            |l| l.tensors[0].name = "a".repeat(129),
            |l| l.tensors[1].name = l.tensors[0].name.clone(),
            |l| l.tensors.clear(),
            |l| l.tensors[0].shape[1] = 0,
            |l| l.tensors[0].shape = [1 << 25, 1 << 25],
        ];
        for change in bad {
            let mut layout = layout();
            change(&mut layout);
            let refused = layout.check(&[3; 32], &layout.adapter);
            assert!(matches!(refused, Err(LayoutError::Value { .. })), "{layout:?}");
        }
    }
}
