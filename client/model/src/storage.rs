//! Models and adapters as files: the Hugging Face layout and the PEFT layout, both through safetensors.

mod adapter;
mod decoder;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::error::ModelError;

pub use adapter::{load_adapter, load_trained, save_adapter, trained_tensors};
pub use decoder::{load_decoder, save_decoder};

/// A tensor on its way to a file, little-endian.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Stored {
    fn half(shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        Self { dtype: Dtype::F16, shape, bytes }
    }

    fn single(shape: Vec<usize>, values: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape,
            bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).map_err(ModelError::io(&partial))?;
    std::fs::rename(&partial, path).map_err(ModelError::io(path))
}

fn write_tensors(path: &Path, tensors: BTreeMap<String, Stored>) -> Result<(), ModelError> {
    // `transformers` refuses a file that does not name its framework.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| ModelError::weights(path, e))?;
    write_whole(path, &bytes)
}

/// The values of a tensor as `f32`, after checking its shape.
fn values(path: &Path, file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
    let tensor =
        file.tensor(name).map_err(|_| ModelError::weights(path, format!("tensor `{name}` is missing")))?;
    if tensor.shape() != shape {
        let reason =
            format!("tensor `{name}` has shape {:?}, but the configuration says {shape:?}", tensor.shape());
        return Err(ModelError::weights(path, reason));
    }
    let bytes = tensor.data();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => {
            bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        other => {
            let reason =
                format!("tensor `{name}` has type {other:?}, but only F32, F16 and BF16 are supported");
            return Err(ModelError::weights(path, reason));
        }
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(ModelError::weights(path, format!("tensor `{name}` holds {} at {index}", values[index])))
        }
        None => Ok(values),
    }
}

/// `[rows, columns]` to `[columns, rows]`, row-major.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
