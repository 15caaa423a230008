//! The shipped base model against `transformers` 5: token ids, logits and their maxima.
//!
//! The vectors were made with
//! `AutoModelForCausalLM.from_pretrained("models/tacit-base", dtype=torch.float32)` on the ids of the text behind one
//! end-of-text token; the first 256 logits of three positions, and the most likely token of every position.

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use serde::Deserialize;
use tacit_model::BaseModel;

use crate::fixture::device;

#[derive(Deserialize)]
struct Reference {
    text: String,
    ids: Vec<u32>,
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
    argmax: Vec<usize>,
}

#[test]
fn the_base_model_gives_the_logits_that_transformers_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference: Reference =
        serde_json::from_str(include_str!("../vectors/transformers_logits.json")).unwrap();
    let model = BaseModel::load(&folder.join("../../models/tacit-base"), &device()).unwrap();
    assert_eq!(model.tokenizer().encode(&reference.text).unwrap(), reference.ids);

    let tokens: Vec<i32> = std::iter::once(0).chain(reference.ids.iter().map(|&id| id as i32)).collect();
    let length = tokens.len();
    let input = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, length]), &device());
    let logits: Vec<f32> = model.decoder().forward(input, None).try_into_vec_as().unwrap();
    let rows: Vec<&[f32]> = logits.chunks(model.decoder().config().vocab_size).collect();
    for (&position, expected) in reference.positions.iter().zip(&reference.logits) {
        for (ours, theirs) in rows[position].iter().zip(expected) {
            assert!((ours - theirs).abs() < 2e-4, "position {position}: {ours} against {theirs}");
        }
    }
    for (row, &expected) in rows.iter().zip(&reference.argmax) {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(best, expected);
    }
}
