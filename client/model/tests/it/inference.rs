//! Generation, tokenizer and measurement.

use burn::tensor::{Int, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tacit_model::evaluate::Sample;
use tacit_model::generate::continue_tokens;
use tacit_model::{Choice, Projection};

use crate::fixture::{adapter, device, model};

/// Greedy generation without a cache: the whole text through the model for each token.
fn slow_greedy(
    model: &tacit_model::BaseModel,
    adapter: &tacit_model::AdapterTensors,
    prompt: &[u32],
    limit: usize,
) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..limit {
        let ids: Vec<i32> = tokens.iter().map(|&t| t as i32).collect();
        let input = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, tokens.len()]), &device());
        let logits: Vec<f32> = model.decoder().forward(input, Some(adapter)).try_into_vec_as().unwrap();
        let last = &logits[(tokens.len() - 1) * model.decoder().config().vocab_size..];
        let best = last.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        tokens.push(best as u32);
    }
    tokens[prompt.len()..].to_vec()
}

#[test]
fn cached_generation_equals_generation_from_scratch() {
    let model = model();
    let adapter = adapter(&model, &[Projection::Query, Projection::Value], 0.2)
        .tensors(model.decoder().config(), &device());
    let prompt = [0, 40, 80, 120, 33];
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    // No token has this id, so generation runs to its limit.
    let never = u32::MAX;
    let fast = continue_tokens(model.decoder(), Some(&adapter), &prompt, 20, never, Choice::Greedy, &mut rng)
        .unwrap();
    assert_eq!(fast, slow_greedy(&model, &adapter, &prompt, 20));
}

#[test]
fn sampling_is_seeded_and_its_settings_are_checked() {
    let model = model();
    let sample = |seed, temperature, top_p| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let choice = Choice::Sample { temperature, top_p };
        continue_tokens(model.decoder(), None, &[0, 50], 24, u32::MAX, choice, &mut rng)
    };
    assert_eq!(sample(1, 1.0, 0.9).unwrap(), sample(1, 1.0, 0.9).unwrap());
    assert_ne!(sample(1, 2.0, 1.0).unwrap(), sample(2, 2.0, 1.0).unwrap());
    // A nucleus of almost nothing is the most likely token.
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let greedy =
        continue_tokens(model.decoder(), None, &[0, 50], 24, u32::MAX, Choice::Greedy, &mut rng).unwrap();
    assert_eq!(sample(1, 1.0, 1e-6).unwrap(), greedy);
    assert!(sample(1, 0.0, 0.9).is_err());
    assert!(sample(1, 1.0, 1.5).is_err());
}

#[test]
fn prompts_longer_than_the_model_are_cut_on_the_left_and_empty_ones_refused() {
    let model = model();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let long: Vec<u32> = (0..2_000).map(|i| 4 + i % 250).collect();
    let limit = 10;
    let room = model.decoder().config().max_position_embeddings - limit;
    let mut run = |prompt: &[u32], limit| {
        continue_tokens(model.decoder(), None, prompt, limit, u32::MAX, Choice::Greedy, &mut rng)
    };
    assert_eq!(run(&long, limit).unwrap(), run(&long[long.len() - room..], limit).unwrap());
    assert!(run(&[], 4).is_err());
    assert!(run(&long, 512).is_err());
}

#[test]
fn text_survives_the_tokenizer_and_special_tokens_in_text_stay_text() {
    let model = model();
    let tokenizer = model.tokenizer();
    for text in [
        "fn main() { println!(\"héllo 世界 🦀\"); }\r\n\t",
        "",
        "a <|endoftext|> b <|fim_middle|>",
        "  \n\n 0123456789",
    ] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert_eq!(tokenizer.byte_length(&ids), text.len() as u64, "{text:?}");
        assert!(ids.iter().all(|&id| id >= 4), "{text:?} became a special token: {ids:?}");
    }
}

#[test]
fn completion_and_filling_give_text() {
    let model = model();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let written =
        model.complete(None, "def add_4(a, b):\n    return ", 12, Choice::Greedy, &mut rng).unwrap();
    assert!(written.contains("a + b"), "{written:?}");
    let filled =
        model.fill(None, "def add_5(a, b):\n    return a", " + 5\n", 12, Choice::Greedy, &mut rng).unwrap();
    assert!(!filled.contains("<|"), "{filled:?}");
}

#[test]
fn score_is_bits_per_byte_of_every_byte() {
    let model = model();
    let texts = ["def add_7(a, b):\n    return a + b + 7\n", "class Thing9:\n    size = 9\n", ""];
    let sample = Sample::new(texts, model.tokenizer(), 16).unwrap();
    let score = sample.measure(model.decoder(), None).unwrap();
    assert_eq!(score.bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    assert!((score.bits_per_byte() - score.nats / 2_f64.ln() / score.bytes as f64).abs() < 1e-12);
    // Far better than the eight bits of an untrained guess, far worse than certainty.
    assert!(score.bits_per_byte() > 0.01 && score.bits_per_byte() < 4.0, "{score:?}");
    let strange = Sample::new(["zqxj%%@@~~!!^^"], model.tokenizer(), 16).unwrap();
    assert!(strange.measure(model.decoder(), None).unwrap().bits_per_byte() > score.bits_per_byte());
    assert!(Sample::new([""], model.tokenizer(), 16).is_err());
}
