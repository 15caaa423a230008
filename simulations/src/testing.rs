//! A model and a corpus small enough for unit tests. Must never be compiled into anything else.

use std::fs;
use std::path::Path;

use tacit_model::pretrain::{PretrainSettings, pretrain};
use tacit_model::{BaseModel, Compute, DecoderConfig};

/// Some code of developer `number`.
pub(crate) fn code(number: usize) -> String {
    let function = |n: usize| {
        format!(
            "/// Adds {n}.\npub fn add_{number}_{n}(x: u32) -> u32 {{\n    let y = x + {n};\n    y\n}}\n\n"
        )
    };
    (0..30).map(function).collect()
}

/// A folder of developers, one file each.
pub(crate) fn write_corpus(root: &Path, developers: usize) {
    for number in 0..developers {
        let folder = root.join(format!("dev{number:02}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("lib.rs"), code(number)).expect("a file");
    }
}

/// Trains two steps of a model with a few thousand parameters and loads it.
pub(crate) fn tiny_model(root: &Path) -> BaseModel {
    let corpus = root.join("pretraining");
    fs::create_dir_all(&corpus).expect("a folder");
    let line = serde_json::json!({ "text": code(1_000) }).to_string();
    fs::write(corpus.join("train.jsonl"), format!("{line}\n{line}\n")).expect("a file");
    fs::write(corpus.join("valid.jsonl"), format!("{line}\n")).expect("a file");
    let mut model = DecoderConfig::new(300, 16, 1, 2, 1, 32);
    model.max_position_embeddings = 256;
    let settings = PretrainSettings {
        corpus,
        out: root.join("model"),
        texts: None,
        model,
        steps: 2,
        batch: 2,
        sequence: 32,
        learning_rate: 1e-3,
        weight_decay: 0.1,
        fim_rate: 0.3,
        seed: 1,
        shards: 1,
        time_limit: None,
    };
    let device = Compute::Cpu.open().expect("a processor");
    pretrain(&settings, &device, &mut |_| {}).expect("trained");
    BaseModel::load(&root.join("model"), &device).expect("whole")
}
