//! Adapters in the PEFT layout: `adapter_config.json` and `adapter_model.safetensors`, `A [rank, input]`,
//! `B [output, rank]`, single precision. And the trained half alone, as it is published: `B [rank, output]`, the flat
//! vector cut into pieces.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Stored, transposed, values, write_tensors, write_whole};
use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::lora::{Adapter, LoraConfig, Projection};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// `adapter_config.json`; `tacit_seed` lets a reader rebuild the frozen factors, others ignore it.
#[derive(Debug, Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    task_type: String,
    base_model_name_or_path: String,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    target_modules: Vec<Projection>,
    bias: String,
    fan_in_fan_out: bool,
    inference_mode: bool,
    tacit_seed: u64,
}

/// Names and shapes `[rank, output]` of the trained factors alone, in the order of the flat vector.
pub fn trained_tensors(config: &LoraConfig, model: &DecoderConfig) -> Vec<(String, [usize; 2])> {
    let tensor = |(layer, target, _, _): (usize, Projection, usize, usize)| {
        (trained_name(layer, target), [config.rank, target.shape(model).1])
    };
    config.places(model).into_iter().map(tensor).collect()
}

/// Reads an adapter from its configuration and a file of its trained factors alone, named as [`trained_tensors`] says.
///
/// # Errors
/// When a file is missing or damaged, or the shape does not fit the model.
pub fn load_trained(config: &Path, trained: &Path, model: &DecoderConfig) -> Result<Adapter, ModelError> {
    let config = read_config(config, model)?;
    let bytes = std::fs::read(trained).map_err(ModelError::io(trained))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| ModelError::weights(trained, error))?;
    let mut flat = Vec::with_capacity(config.dimension(model));
    for (name, shape) in trained_tensors(&config, model) {
        flat.extend(values(trained, &file, &name, &shape)?);
    }
    Adapter::from_flat(config, model, flat)
}

fn trained_name(layer: usize, target: Projection) -> String {
    format!("layers.{layer}.{}.lora_B", target.module())
}

fn tensor_name(layer: usize, target: Projection, factor: char) -> String {
    format!("base_model.model.model.layers.{layer}.{}.lora_{factor}.weight", target.module())
}

/// Writes an adapter into a folder, which is created.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn save_adapter(
    adapter: &Adapter,
    model: &DecoderConfig,
    base: &str,
    folder: &Path,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
    let config = adapter.config();
    let mut tensors = BTreeMap::new();
    for (layer, target, start, length) in config.places(model) {
        let (input, output) = target.shape(model);
        let a = transposed(&config.frozen_factor(model, layer, target), input, config.rank);
        let b = transposed(&adapter.flat()[start..start + length], config.rank, output);
        tensors.insert(tensor_name(layer, target, 'A'), Stored::single(vec![config.rank, input], &a));
        tensors.insert(tensor_name(layer, target, 'B'), Stored::single(vec![output, config.rank], &b));
    }
    write_tensors(&folder.join(WEIGHTS), tensors)?;
    let description = PeftConfig {
        peft_type: "LORA".to_owned(),
        task_type: "CAUSAL_LM".to_owned(),
        base_model_name_or_path: base.to_owned(),
        r: config.rank,
        lora_alpha: config.alpha,
        lora_dropout: 0.0,
        target_modules: config.targets.clone(),
        bias: "none".to_owned(),
        fan_in_fan_out: false,
        inference_mode: true,
        tacit_seed: config.seed,
    };
    let path = folder.join(CONFIG);
    let text =
        serde_json::to_string_pretty(&description).map_err(|error| ModelError::config(&path, error))?;
    write_whole(&path, (text + "\n").as_bytes())
}

/// Reads an adapter that [`save_adapter`] wrote.
///
/// # Errors
/// When a file is missing or damaged, the shape does not fit the model, or `A` is not what the seed gives.
pub fn load_adapter(folder: &Path, model: &DecoderConfig) -> Result<Adapter, ModelError> {
    let config = read_config(&folder.join(CONFIG), model)?;
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| ModelError::weights(&path, error))?;
    let mut flat = vec![0.0; config.dimension(model)];
    for (layer, target, start, length) in config.places(model) {
        let (input, output) = target.shape(model);
        let a = values(&path, &file, &tensor_name(layer, target, 'A'), &[config.rank, input])?;
        if transposed(&a, config.rank, input) != config.frozen_factor(model, layer, target) {
            let reason = format!(
                "the frozen factor of layer {layer}, {} is not the one of seed {}",
                target.module(),
                config.seed
            );
            return Err(ModelError::weights(&path, reason));
        }
        let b = values(&path, &file, &tensor_name(layer, target, 'B'), &[output, config.rank])?;
        flat[start..start + length].copy_from_slice(&transposed(&b, output, config.rank));
    }
    Adapter::from_flat(config, model, flat)
}

fn read_config(path: &Path, model: &DecoderConfig) -> Result<LoraConfig, ModelError> {
    let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
    let peft: PeftConfig = serde_json::from_str(&text).map_err(|error| ModelError::config(path, error))?;
    let config = LoraConfig {
        rank: peft.r,
        alpha: peft.lora_alpha,
        targets: peft.target_modules,
        seed: peft.tacit_seed,
    };
    config.validated(model)
}
