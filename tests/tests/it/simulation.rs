//! Two simulations from one seed publish the same files, bit for bit, whatever their threads and masks.

use std::fs;
use std::path::Path;

use tacit_model::pretrain::{PretrainSettings, pretrain};
use tacit_model::{BaseModel, Compute, DecoderConfig};
use tacit_simulations::corpus::CorpusSource;
use tacit_simulations::output::OutputFolder;
use tacit_simulations::progress::Silent;
use tacit_simulations::{RunOptions, Scenario, simulate};

const SCENARIO: &str = r#"
name = "determinism"
model = "model"
seed = 11
rounds = 2
lora = { rank = 2, alpha = 4.0, targets = ["q_proj", "v_proj"], seed = 3 }
local = { optimizer = { rule = "adam" }, learning_rate = 0.01, steps = 2, batch = 2, sequence = 32 }
server = { rule = "momentum", learning_rate = 1.0, momentum = 0.5 }
privacy = { clip = 0.5, noise_multiplier = 2.0, delta = 1e-5, adjacency = "zero-out", epsilon_limit = 6.0 }
cohort = { size = 16, dropout = 0.25, corrupt = 0.05, threat = "semi_malicious" }
dropouts = { advertise = 0.1, share = 0.05, collect = 0.05, confirm = 0.03, unmask = 0.03 }
evaluation = { files = 4, bytes_per_file = 300, window = 32, completion_tokens = 4 }
corpus = { bytes_per_developer = 20000, minimum_bytes = 200, minimum_files = 1 }
"#;

fn code(number: usize) -> String {
    let function =
        |n: usize| format!("pub fn add_{number}_{n}(x: u32) -> u32 {{\n    let y = x + {n};\n    y\n}}\n\n");
    (0..20).map(function).collect()
}

/// A model of a shape that was trained for a step.
pub(crate) fn tiny_model(root: &Path, shape: DecoderConfig) -> BaseModel {
    let text = serde_json::json!({ "text": code(100) }).to_string();
    for name in ["train.jsonl", "valid.jsonl"] {
        fs::write(root.join(name), format!("{text}\n{text}\n")).expect("a file");
    }
    let settings = PretrainSettings {
        corpus: root.to_owned(),
        out: root.join("model"),
        texts: None,
        model: shape,
        steps: 1,
        batch: 2,
        sequence: 32,
        learning_rate: 1e-3,
        weight_decay: 0.1,
        fim_rate: 0.2,
        seed: 1,
        shards: 1,
        time_limit: None,
    };
    let device = Compute::Cpu.open().expect("a processor");
    pretrain(&settings, &device, &mut |_| {}).expect("trained");
    BaseModel::load(&root.join("model"), &device).expect("whole")
}

/// The published adapter's bytes, and the survivors of each round.
fn run(
    model: &BaseModel,
    corpus: &Path,
    scenario: &Scenario,
    threads: usize,
    plain: bool,
) -> (Vec<u8>, Vec<u32>) {
    let out = tempfile::tempdir().expect("a folder");
    let source = CorpusSource::Folder(corpus.to_owned());
    let options = RunOptions { source, threads, plain, compare: false };
    let folder = OutputFolder::prepare(out.path()).expect("writable");
    let finished = simulate(scenario, model, &options, &Silent).expect("runs");
    folder.publish(&finished.report, &finished.adapter, model.decoder().config()).expect("written");
    let bytes = fs::read(out.path().join("adapter/adapter_model.safetensors")).expect("published");
    assert!(finished.report.rounds.iter().all(|round| round.failure.is_none()), "both rounds release");
    (bytes, finished.report.rounds.iter().map(|round| round.survivors).collect())
}

#[test]
fn one_seed_gives_one_adapter() {
    let root = tempfile::tempdir().expect("a folder");
    let model = tiny_model(root.path(), DecoderConfig::new(300, 16, 1, 2, 1, 32));
    let corpus = root.path().join("corpus");
    for number in 0..30 {
        let folder = corpus.join(format!("dev{number:02}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("lib.rs"), code(number)).expect("a file");
    }
    let scenario = Scenario::parse(SCENARIO).expect("valid");
    let (bytes, survivors) = run(&model, &corpus, &scenario, 1, false);
    assert!(survivors.iter().any(|&count| count < 16), "clients dropped out before uploading: {survivors:?}");
    assert_eq!(run(&model, &corpus, &scenario, 1, false), (bytes.clone(), survivors.clone()), "again");
    assert_eq!(
        run(&model, &corpus, &scenario, 3, false),
        (bytes.clone(), survivors.clone()),
        "three threads"
    );
    assert_eq!(run(&model, &corpus, &scenario, 2, true), (bytes.clone(), survivors), "without masks");
    let other = run(&model, &corpus, &Scenario { seed: 12, ..scenario }, 2, true);
    assert_ne!(other.0, bytes, "another seed");
}

/// The shipped scenario of central trust, on a model and a fleet small enough for a test.
#[test]
fn under_central_trust_the_clip_norm_follows_the_counts_that_are_released() {
    let root = tempfile::tempdir().expect("a folder");
    let model = tiny_model(root.path(), DecoderConfig::new(300, 16, 1, 2, 1, 32));
    let corpus = root.path().join("corpus");
    for number in 0..40 {
        let folder = corpus.join(format!("dev{number:02}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("lib.rs"), code(number)).expect("a file");
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/central.toml");
    let scenario = Scenario::load(&shipped).expect("valid");
    let run = |plain: bool| {
        let source = CorpusSource::Folder(corpus.clone());
        let options = RunOptions { source, threads: 2, plain, compare: false };
        simulate(&scenario, &model, &options, &Silent).expect("runs").report
    };
    let report = run(false);
    assert_eq!((report.rounds.len(), report.parameters.local_sigma), (6, None));
    let rule = scenario.privacy.adaptive_clip.expect("it adapts");
    assert_eq!(report.rounds[0].clip, scenario.privacy.clip);
    let mut released = 0;
    for pair in report.rounds.windows(2) {
        // What was released, and nothing else, moves the norm.
        let due = match pair[0].unclipped_share {
            Some(share) => pair[0].clip * (-rule.learning_rate * (share - rule.target_quantile)).exp(),
            None => pair[0].clip,
        };
        assert!((pair[1].clip / due - 1.0).abs() < 1e-12, "{} where {due} is due", pair[1].clip);
        assert_eq!(pair[0].unclipped_share.is_some(), pair[0].failure.is_none());
        released += u32::from(pair[0].failure.is_none());
    }
    assert!(released >= 4, "{released}");
    // The share that is released is near the one that the simulation alone can see.
    for round in &report.rounds {
        let (Some(share), Some(norms)) = (round.unclipped_share, round.norms) else { continue };
        let noise = rule.count_noise / f64::from(round.survivors);
        assert!((share - (1.0 - norms.clipped)).abs() < 5.0 * noise + 0.25, "{share}, {}", norms.clipped);
    }
    assert!(report.summary.epsilon > 0.0 && report.summary.epsilon < scenario.privacy.epsilon_limit);
    assert_eq!(run(true).summary.adapter_sha256, report.summary.adapter_sha256, "masks change nothing");
}
