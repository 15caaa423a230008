//! Training learns, frozen weights stay frozen, and the same seed gives the same bits.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tacit_model::dataset::TokenStream;
use tacit_model::pretrain::pretrain;
use tacit_model::train::optimizer::LocalOptimizer;
use tacit_model::{Adapter, BaseModel, LocalTraining, LoraConfig, ModelError, Projection, Trainer};

use crate::fixture::{device, model, settings};

fn zeros(model: &BaseModel) -> Adapter {
    let targets = vec![Projection::Query, Projection::Value, Projection::Down];
    let config = LoraConfig { rank: 4, alpha: 8.0, targets, seed: 2 };
    Adapter::zeros(config, model.decoder().config()).unwrap()
}

fn training(learning_rate: f64) -> LocalTraining {
    LocalTraining {
        optimizer: LocalOptimizer::Adam { beta1: 0.9, beta2: 0.99 },
        learning_rate,
        steps: 20,
        batch: 4,
        sequence: 24,
    }
}

fn stream(model: &BaseModel) -> TokenStream {
    let text = "let mut total: u32 = 0; for item in items { total += item.size; }\n".repeat(12);
    TokenStream::new([model.tokenizer().encode(&text).unwrap().as_slice()], 0).unwrap()
}

#[test]
fn local_training_lowers_the_loss_on_its_own_text() {
    let model = model();
    let trainer = Trainer::new(model.decoder());
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let update = trainer.train(&zeros(&model), &training(0.02), &stream(&model), &mut rng).unwrap();
    assert!(update.last_loss < 0.8 * update.first_loss, "{} {}", update.first_loss, update.last_loss);
    assert_eq!(update.tokens, 20 * 4 * 24);
    assert!(update.delta.iter().any(|x| *x != 0.0));
}

#[test]
fn the_same_seed_gives_the_same_delta_on_any_number_of_threads() {
    let model = model();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut rng = ChaCha20Rng::seed_from_u64(4);
            let trainer = Trainer::new(model.decoder());
            trainer.train(&zeros(&model), &training(0.02), &stream(&model), &mut rng).unwrap().delta
        })
    };
    assert_eq!(run(1), run(1));
    assert_eq!(run(1), run(2));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let model = model();
    let trainer = Trainer::new(model.decoder());
    let good = training(0.02);
    let bad = [
        (LocalTraining { learning_rate: 0.0, ..good.clone() }, "learning_rate"),
        (LocalTraining { steps: 0, ..good.clone() }, "steps"),
        (LocalTraining { batch: 0, ..good.clone() }, "batch"),
        (LocalTraining { sequence: 1, ..good.clone() }, "sequence"),
        (LocalTraining { sequence: 5_000, ..good }, "sequence"),
    ];
    for (settings, word) in bad {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let error = trainer.train(&zeros(&model), &settings, &stream(&model), &mut rng).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn divergence_is_an_error_not_a_delta() {
    let model = model();
    let trainer = Trainer::new(model.decoder());
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let wild = LocalTraining { optimizer: LocalOptimizer::Sgd { momentum: 0.0 }, ..training(3e38) };
    let result = trainer.train(&zeros(&model), &wild, &stream(&model), &mut rng);
    assert!(
        matches!(result, Err(ModelError::Diverged { .. })),
        "{:?}",
        result.map(|update| update.last_loss)
    );
}

#[test]
fn text_shorter_than_a_window_still_trains() {
    let model = model();
    let trainer = Trainer::new(model.decoder());
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let short = TokenStream::new([[20, 30, 40].as_slice()], 0).unwrap();
    let update = trainer.train(&zeros(&model), &training(0.02), &short, &mut rng).unwrap();
    assert!(update.last_loss < update.first_loss);
    assert!(TokenStream::new([[].as_slice()], 0).is_err());
}

#[test]
fn pretraining_learns_and_repeats_itself() {
    let run = || {
        let folder = tempfile::tempdir().unwrap();
        let result = pretrain(&settings(folder.path(), 30), &device(), &mut |_| {}).unwrap();
        (result.validation_loss, std::fs::read(folder.path().join("model/model.safetensors")).unwrap())
    };
    let (loss, weights) = run();
    // 300 tokens guessed blindly cost 5.7 nats each.
    assert!(loss < 4.0, "{loss}");
    assert_eq!(run(), (loss, weights));
}

#[test]
fn pretraining_on_nothing_is_an_error_and_leaves_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 5);
    std::fs::write(folder.path().join("train.jsonl"), "").unwrap();
    assert!(pretrain(&settings, &device(), &mut |_| {}).is_err());
    std::fs::write(folder.path().join("train.jsonl"), "{\"txt\": 1}\n").unwrap();
    let error = pretrain(&settings, &device(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    assert!(!settings.out.join("model.safetensors").exists());
}
