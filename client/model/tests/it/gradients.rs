//! Gradients against finite differences, and the adapter's linear against its dense form.

use burn::tensor::{Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tacit_model::dataset::Batch;
use tacit_model::storage::load_decoder;
use tacit_model::{Adapter, Projection, Trainer};

use crate::fixture::{adapter, device, model, model_folder};

fn batch(rng: &mut ChaCha20Rng) -> Batch {
    let mut batch = Batch::new(12);
    for length in [12, 9, 12] {
        let tokens: Vec<u32> = (0..length).map(|_| rng.random_range(4..290)).collect();
        batch.push(0, &tokens);
    }
    batch
}

#[test]
fn gradient_agrees_with_finite_differences_for_every_projection() {
    let model = model();
    let trainer = Trainer::new(model.decoder());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let batch = batch(&mut rng);
    for target in Projection::ALL {
        let adapter = adapter(&model, &[target], 0.4);
        let (_, gradient) = trainer.loss_and_gradient(&adapter, &batch).unwrap();
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(
            norm > 1e-4,
            "{target:?}: the gradient is almost zero ({norm:e}), so this test would show nothing"
        );
        // Along the gradient itself the slope must be its norm; along a random direction, the inner product.
        let random: Vec<f64> = gradient.iter().map(|_| rng.random::<f64>() - 0.5).collect();
        let along: Vec<f64> = gradient.iter().map(|g| f64::from(*g) / norm).collect();
        for direction in [along, random] {
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let step = 0.05 / length;
            let shifted = |sign: f64| {
                let flat = adapter
                    .flat()
                    .iter()
                    .zip(&direction)
                    .map(|(x, d)| x + (sign * step * d) as f32)
                    .collect();
                let moved =
                    Adapter::from_flat(adapter.config().clone(), model.decoder().config(), flat).unwrap();
                trainer.loss_and_gradient(&moved, &batch).unwrap().0
            };
            let numeric = (shifted(1.0) - shifted(-1.0)) / (2.0 * step * length);
            let exact = direction.iter().zip(&gradient).map(|(d, g)| d * f64::from(*g)).sum::<f64>() / length;
            assert!(
                (numeric - exact).abs() < 0.02 * norm,
                "{target:?}: numeric {numeric}, exact {exact}, norm {norm}"
            );
        }
    }
}

#[test]
fn positions_of_weight_zero_count_for_nothing() {
    let model = model();
    let trainer = Trainer::new(model.decoder());
    let adapter = adapter(&model, &[Projection::Query], 0.4);
    let mut short = Batch::new(8);
    short.push(0, &[10, 20, 30]);
    let mut masked = Batch::new(8);
    masked.push(0, &[10, 20, 30, 200, 201, 202, 203, 204]);
    masked.set_weights(vec![1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
    let (a, gradient_a) = trainer.loss_and_gradient(&adapter, &short).unwrap();
    let (b, gradient_b) = trainer.loss_and_gradient(&adapter, &masked).unwrap();
    assert!((a - b).abs() < 1e-5, "{a} {b}");
    for (x, y) in gradient_a.iter().zip(&gradient_b) {
        assert!((x - y).abs() < 1e-5);
    }
    masked.set_weights(vec![1.0; 8]).unwrap();
    let (all, _) = trainer.loss_and_gradient(&adapter, &masked).unwrap();
    assert!((a - all).abs() > 1e-3, "unmasked positions must change the loss");
    assert!(masked.set_weights(vec![f32::NAN; 8]).is_err());
    assert!(masked.set_weights(vec![1.0; 7]).is_err());
}

/// Writes the model with `W + (alpha / rank) A B` in place of every adapted `W` and compares logits.
#[test]
fn low_rank_form_equals_dense_form() {
    let model = model();
    let config = model.decoder().config().clone();
    let adapter = adapter(&model, &Projection::ALL, 0.3);
    let tokens: Vec<i32> = (0..24).map(|i| 4 + (i * 7) % 250).collect();
    let input = Tensor::<2, Int>::from_data(TensorData::new(tokens, [2, 12]), &device());
    let tensors = adapter.tensors(&config, &device());
    let low_rank: Vec<f32> =
        model.decoder().forward(input.clone(), Some(&tensors)).try_into_vec_as().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dense.safetensors");
    dense_copy(&adapter, &config, &path);
    let dense = load_decoder(config, &path, &device()).unwrap();
    let dense: Vec<f32> = dense.forward(input.clone(), None).try_into_vec_as().unwrap();
    let plain: Vec<f32> = model.decoder().forward(input, None).try_into_vec_as().unwrap();
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(distance(&low_rank, &dense) < 2e-4, "{}", distance(&low_rank, &dense));
    assert!(distance(&low_rank, &plain) > 0.05, "the adapter must change the logits");
}

fn dense_copy(adapter: &Adapter, config: &tacit_model::DecoderConfig, path: &std::path::Path) {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView};
    let bytes = std::fs::read(model_folder().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let lora = adapter.config();
    let scale = (lora.alpha / lora.rank as f64) as f32;
    let mut stored: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut start = 0;
    let mut additions = std::collections::HashMap::new();
    for layer in 0..config.num_hidden_layers {
        for &target in &lora.targets {
            let (input, output) = target.shape(config);
            let a = lora.frozen_factor(config, layer, target);
            let b = &adapter.flat()[start..start + lora.rank * output];
            start += lora.rank * output;
            let mut product = vec![0.0_f32; output * input];
            for i in 0..input {
                for o in 0..output {
                    product[o * input + i] =
                        scale * (0..lora.rank).map(|r| a[i * lora.rank + r] * b[r * output + o]).sum::<f32>();
                }
            }
            additions.insert(format!("model.layers.{layer}.{}.weight", target.module()), product);
        }
    }
    for (name, view) in file.tensors() {
        let mut values: Vec<f32> =
            view.data().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        if let Some(extra) = additions.get(&name) {
            values.iter_mut().zip(extra).for_each(|(v, e)| *v += e);
        }
        stored.push((name, view.shape().to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    let views: Vec<(String, TensorView<'_>)> = stored
        .iter()
        .map(|(name, shape, bytes)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        })
        .collect();
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
