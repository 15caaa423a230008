//! Files: what is written can be read back; what is damaged is named and refused.

use std::path::Path;

use tacit_model::storage::{load_adapter, save_adapter, trained_tensors};
use tacit_model::{Adapter, BaseModel, LoraConfig, Projection};

use crate::fixture::{adapter, device, model, model_folder};

fn copy_model(to: &Path) {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(model_folder().join(name), to.join(name)).unwrap();
    }
}

fn refused(folder: &Path) -> String {
    BaseModel::load(folder, &device()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn truncated_weights_are_named_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    copy_model(folder.path());
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = refused(folder.path());
        assert!(message.contains("model.safetensors") && message.contains("copied whole"), "{message}");
    }
}

#[test]
fn missing_and_foreign_files_are_named_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(folder.path()).contains("config.json"));
    copy_model(folder.path());
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from} not in {config}");
        std::fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
        refused(folder.path())
    };
    assert!(with("\"silu\"", "\"gelu\"").contains("hidden_act"));
    assert!(with("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"").contains("model_type"));
    assert!(with("\"num_attention_heads\": 4", "\"num_attention_heads\": 5").contains("heads"));
    assert!(with("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3").contains("layers.2"));
    assert!(with("\"intermediate_size\": 48", "\"intermediate_size\": 49").contains("shape"));
    std::fs::write(folder.path().join("config.json"), &config).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(refused(folder.path()).contains("tokenizer.json"));
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    copy_model(folder.path());
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&half::f16::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    assert!(refused(folder.path()).contains("NaN"), "{}", refused(folder.path()));
}

#[test]
fn adapters_survive_the_peft_layout_bit_for_bit() {
    let model = model();
    let config = model.decoder().config();
    let adapter = adapter(&model, &Projection::ALL, 0.3);
    let folder = tempfile::tempdir().unwrap();
    save_adapter(&adapter, config, "tacit-base", folder.path()).unwrap();
    assert_eq!(load_adapter(folder.path(), config).unwrap(), adapter);

    let path = folder.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert!(
        load_adapter(folder.path(), config).unwrap_err().to_string().contains("adapter_model.safetensors")
    );
    std::fs::write(&path, &bytes).unwrap();
    let path = folder.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"tacit_seed\": 11", "\"tacit_seed\": 12");
    std::fs::write(&path, text).unwrap();
    assert!(load_adapter(folder.path(), config).unwrap_err().to_string().contains("seed 12"));
}

#[test]
fn the_trained_half_is_the_flat_vector_in_pieces() {
    let model = model();
    let config = model.decoder().config();
    let targets = vec![Projection::Down, Projection::Key];
    let lora = LoraConfig { rank: 3, alpha: 6.0, targets, seed: 11 }.validated(config).unwrap();
    let tensors = trained_tensors(&lora, config);
    let expected = [
        ("layers.0.self_attn.k_proj.lora_B", [3, 16]),
        ("layers.0.mlp.down_proj.lora_B", [3, 32]),
        ("layers.1.self_attn.k_proj.lora_B", [3, 16]),
        ("layers.1.mlp.down_proj.lora_B", [3, 32]),
    ];
    assert_eq!(tensors, expected.map(|(name, shape)| (name.to_owned(), shape)));
    let length: usize = tensors.iter().map(|(_, shape)| shape[0] * shape[1]).sum();
    assert_eq!(length, lora.dimension(config));
    for projection in Projection::ALL {
        assert_eq!(projection.name().parse::<Projection>().unwrap(), projection);
        assert_eq!(serde_json::to_value(projection).unwrap(), projection.name());
    }
    assert!("lm_head".parse::<Projection>().unwrap_err().to_string().contains("q_proj, k_proj"));
}

#[test]
fn shapes_that_cannot_work_are_refused() {
    let model = model();
    let config = model.decoder().config();
    let shape =
        |rank, alpha, targets: &[Projection]| LoraConfig { rank, alpha, targets: targets.to_vec(), seed: 1 };
    for (bad, word) in [
        (shape(0, 8.0, &[Projection::Query]), "rank"),
        (shape(1_000, 8.0, &[Projection::Query]), "rank"),
        (shape(4, f64::NAN, &[Projection::Query]), "alpha"),
        (shape(4, 8.0, &[]), "targets"),
    ] {
        assert!(Adapter::zeros(bad, config).unwrap_err().to_string().contains(word));
    }
    let good = shape(2, 4.0, &[Projection::Query]);
    let dimension = good.dimension(config);
    assert!(Adapter::from_flat(good.clone(), config, vec![0.0; dimension + 1]).is_err());
    let mut flat = vec![0.0; dimension];
    flat[3] = f32::INFINITY;
    assert!(Adapter::from_flat(good, config, flat).unwrap_err().to_string().contains("at 3"));
}

#[test]
fn digest_covers_every_file() {
    let folder = tempfile::tempdir().unwrap();
    copy_model(folder.path());
    let before = BaseModel::load(folder.path(), &device()).unwrap().digest();
    assert_eq!(before, model().digest());
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "\n").unwrap();
    assert_ne!(BaseModel::load(folder.path(), &device()).unwrap().digest(), before);
}
