//! A tiny model, trained for a moment on a made-up language so that its logits are not flat.

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tacit_model::pretrain::{PretrainSettings, pretrain};
use tacit_model::{Adapter, BaseModel, Compute, DecoderConfig, LoraConfig, Projection};
use tempfile::TempDir;

pub(crate) fn device() -> Device {
    Compute::Cpu.open().unwrap()
}

pub(crate) fn settings(folder: &Path, steps: usize) -> PretrainSettings {
    let line = |i: usize| {
        let text = format!("def add_{i}(a, b):\n    return a + b + {i}\n\nclass Thing{i}:\n    size = {i}\n")
            .repeat(8);
        serde_json::json!({ "text": text }).to_string() + "\n"
    };
    std::fs::write(folder.join("train.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    std::fs::write(folder.join("valid.jsonl"), (40..44).map(line).collect::<String>()).unwrap();
    PretrainSettings {
        corpus: folder.to_owned(),
        out: folder.join("model"),
        texts: None,
        model: DecoderConfig::new(300, 32, 2, 4, 2, 48),
        steps,
        batch: 4,
        sequence: 32,
        learning_rate: 1e-2,
        weight_decay: 0.01,
        fim_rate: 0.2,
        seed: 3,
        shards: 2,
        time_limit: None,
    }
}

/// The tiny model's folder; made once for all tests.
pub(crate) fn model_folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        pretrain(&settings(folder.path(), 60), &device(), &mut |_| {}).unwrap();
        folder
    });
    Box::leak(folder.path().join("model").into_boxed_path())
}

pub(crate) fn model() -> BaseModel {
    BaseModel::load(model_folder(), &device()).unwrap()
}

/// An adapter on every projection with random factors.
pub(crate) fn adapter(model: &BaseModel, targets: &[Projection], size: f32) -> Adapter {
    let config = LoraConfig { rank: 3, alpha: 6.0, targets: targets.to_vec(), seed: 11 };
    let dimension = config.dimension(model.decoder().config());
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let flat = (0..dimension).map(|_| (rng.random::<f32>() - 0.5) * size).collect();
    Adapter::from_flat(config, model.decoder().config(), flat).unwrap()
}
