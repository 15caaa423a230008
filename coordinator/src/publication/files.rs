//! The files of a version: the trained matrices as safetensors, and `adapter_config.json` as PEFT has it. Must never depend
//! on anything but its arguments: the same version has the same bytes.

use serde_json::{Map, Value, json};
use tacit_proto::AdapterVersion;
use tacit_proto::adapter::AdapterLayout;

/// The trained matrices. Not named as PEFT's file is: without the frozen ones it is no adapter for PEFT.
pub(super) const TRAINED: &str = "trained.safetensors";
/// The description of the adapter.
pub(super) const CONFIG: &str = "adapter_config.json";

/// The trained matrices: the header of safetensors, and then the flat vector, little-endian, as it is.
pub(super) fn trained(layout: &AdapterLayout, task: &str, version: u64, adapter: &AdapterVersion) -> Vec<u8> {
    let about = json!({
        "format": "pt",
        "task": task,
        "version": version.to_string(),
        "adapter": hex::encode(adapter.digest()),
        "parent": hex::encode(adapter.parent()),
        "base_model": hex::encode(layout.base_model),
    });
    let mut header = Map::from_iter([("__metadata__".to_owned(), about)]);
    let mut start = 0;
    for tensor in &layout.tensors {
        let end = start + 4 * tensor.len();
        let place = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), place);
        start = end;
    }
    let mut header = Value::Object(header).to_string();
    // The format lets a header end in spaces; the values are then aligned in memory.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut bytes = Vec::with_capacity(8 + header.len() + 4 * adapter.values().len());
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(adapter.values().iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// `adapter_config.json`; `tacit_seed` lets a reader rebuild the frozen matrices.
pub(super) fn config(layout: &AdapterLayout) -> Vec<u8> {
    let shape = &layout.adapter;
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": layout.base,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "target_modules": shape.targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "tacit_seed": shape.seed,
    });
    format!("{config:#}\n").into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use tacit_proto::AdapterShape;
    use tacit_proto::adapter::TrainedTensor;

    #[test]
    fn the_trained_matrices_are_safetensors() {
        let tensor = |name: &str, shape| TrainedTensor { name: name.to_owned(), shape };
        let layout = AdapterLayout {
            base: "tacit-base".to_owned(),
            base_model: [3; 32],
            adapter: AdapterShape { rank: 2, alpha: 4.0, targets: vec!["v_proj".to_owned()], seed: 5 },
            // Not in the order of their names.
            tensors: vec![tensor("layers.2.b", [2, 3]), tensor("layers.10.b", [2, 1])],
        };
        let values: Vec<f32> = (0..8_u8).map(|value| f32::from(value) - 2.5).collect();
        let adapter = AdapterVersion::new(values.clone(), [6; 32]).unwrap();
        let bytes = trained(&layout, "rust", 7, &adapter);
        assert_eq!(bytes, trained(&layout, "rust", 7, &adapter));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 2);
        let read = |name: &str| {
            let tensor = file.tensor(name).unwrap();
            assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
            let (numbers, _) = tensor.data().as_chunks::<4>();
            (
                tensor.shape().to_vec(),
                numbers.iter().map(|&number| f32::from_le_bytes(number)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(read("layers.2.b"), (vec![2, 3], values[..6].to_vec()));
        assert_eq!(read("layers.10.b"), (vec![2, 1], values[6..].to_vec()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let about = metadata.metadata().as_ref().unwrap();
        assert_eq!((about["task"].as_str(), about["version"].as_str()), ("rust", "7"));
        assert_eq!(about["adapter"], hex::encode(adapter.digest()));
        let config: Value = serde_json::from_slice(&config(&layout)).unwrap();
        assert_eq!(
            (&config["r"], &config["tacit_seed"], &config["lora_alpha"]),
            (&json!(2), &json!(5), &json!(4.0))
        );
        assert_eq!(config["target_modules"], json!(["v_proj"]));
    }
}
