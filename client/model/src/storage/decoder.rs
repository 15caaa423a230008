//! `model.safetensors` of the Hugging Face Llama layout: matrices `[output, input]`, half precision.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

use super::{Stored, transposed, values, write_tensors};
use crate::config::DecoderConfig;
use crate::decoder::{Block, Decoder};
use crate::error::ModelError;
use crate::lora::Projection;

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";

fn block_tensor(layer: usize, module: &str) -> String {
    format!("model.layers.{layer}.{module}.weight")
}

/// Reads the weights named by `config` from a safetensors file.
///
/// # Errors
/// When the file is missing, cut short, lacks a tensor, or a tensor has another shape or a value that is not finite.
pub fn load_decoder(config: DecoderConfig, path: &Path, device: &Device) -> Result<Decoder, ModelError> {
    let bytes = std::fs::read(path).map_err(ModelError::io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| ModelError::weights(path, error))?;
    let hidden = config.hidden_size;
    let tensor =
        |data: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(data, shape), device);
    let gain = |name: &str| Ok::<_, ModelError>(tensor(values(path, &file, name, &[hidden])?, [1, hidden]));
    let matrix = |layer: usize, projection: Projection| {
        let (input, output) = projection.shape(&config);
        let stored = values(path, &file, &block_tensor(layer, projection.module()), &[output, input])?;
        Ok::<_, ModelError>(tensor(transposed(&stored, output, input), [input, output]))
    };
    let embedding =
        tensor(values(path, &file, EMBEDDING, &[config.vocab_size, hidden])?, [config.vocab_size, hidden]);
    let blocks = (0..config.num_hidden_layers)
        .map(|layer| {
            Ok(Block {
                attention_norm: gain(&block_tensor(layer, "input_layernorm"))?,
                query: matrix(layer, Projection::Query)?,
                key: matrix(layer, Projection::Key)?,
                value: matrix(layer, Projection::Value)?,
                output: matrix(layer, Projection::Output)?,
                feed_forward_norm: gain(&block_tensor(layer, "post_attention_layernorm"))?,
                gate: matrix(layer, Projection::Gate)?,
                up: matrix(layer, Projection::Up)?,
                down: matrix(layer, Projection::Down)?,
            })
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let norm = gain(FINAL_NORM)?;
    Ok(Decoder::new(config, embedding, blocks, norm))
}

/// Writes the weights in half precision.
///
/// # Errors
/// When the weights cannot be read from the device or the file cannot be written.
pub fn save_decoder(decoder: &Decoder, path: &Path) -> Result<(), ModelError> {
    let read = |tensor: &Tensor<2>| {
        tensor.try_to_vec_as::<f32>().map_err(|error| ModelError::Tensor(error.to_string()))
    };
    let mut tensors = BTreeMap::new();
    let hidden = decoder.config.hidden_size;
    let shape = vec![decoder.config.vocab_size, hidden];
    tensors.insert(EMBEDDING.to_owned(), Stored::half(shape, &read(&decoder.embedding)?));
    tensors.insert(FINAL_NORM.to_owned(), Stored::half(vec![hidden], &read(&decoder.norm)?));
    for (layer, block) in decoder.blocks.iter().enumerate() {
        let gains = [
            ("input_layernorm", &block.attention_norm),
            ("post_attention_layernorm", &block.feed_forward_norm),
        ];
        for (module, gain) in gains {
            tensors.insert(block_tensor(layer, module), Stored::half(vec![hidden], &read(gain)?));
        }
        let matrices = [
            (Projection::Query, &block.query),
            (Projection::Key, &block.key),
            (Projection::Value, &block.value),
            (Projection::Output, &block.output),
            (Projection::Gate, &block.gate),
            (Projection::Up, &block.up),
            (Projection::Down, &block.down),
        ];
        for (projection, matrix) in matrices {
            let (input, output) = projection.shape(&decoder.config);
            let stored = Stored::half(vec![output, input], &transposed(&read(matrix)?, input, output));
            tensors.insert(block_tensor(layer, projection.module()), stored);
        }
    }
    write_tensors(path, tensors)
}
