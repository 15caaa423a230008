//! Training and decoding speed beside the limit of the machine: a bare matrix product in the same run.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use burn::module::{Lora, Module};
use burn::nn::LinearConfig;
use burn::tensor::{Distribution, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tacit_model::dataset::Batch;
use tacit_model::generate::continue_tokens;
use tacit_model::{Adapter, BaseModel, Choice, Compute, LoraConfig, Projection, Trainer};

const ROWS: usize = 512;
const WIDTH: usize = 192;
const RANK: usize = 4;

/// The limit: floating-point operations per second of one large product.
fn bare_product(criterion: &mut Criterion) {
    let device = Compute::Cpu.open().unwrap();
    let mut group = criterion.benchmark_group("limit");
    for size in [192_usize, 1024] {
        let a = Tensor::<2>::random([size, size], Distribution::Default, &device);
        let b = Tensor::<2>::random([size, size], Distribution::Default, &device);
        group.throughput(Throughput::Elements(2 * (size as u64).pow(3)));
        group.bench_function(
            format!("matrix product {size}^3, elements are floating-point operations"),
            |bench| {
                bench.iter(|| black_box(a.clone().matmul(b.clone()).into_data()));
            },
        );
    }
    group.finish();
}

/// Forward and backward of one adapted linear: `xW + (xA)B` against burn's dense `x(W + AB)`.
fn linear_forms(criterion: &mut Criterion) {
    let device = Compute::Cpu.open().unwrap().autodiff();
    let inner = device.clone().inner();
    let random =
        |rows, columns| Tensor::<2>::random([rows, columns], Distribution::Default, &inner).autodiff();
    let mut group = criterion.benchmark_group("adapted linear 512x192x192, rank 4");
    // The input needs its gradient, as in every block but the first.
    let input = random(ROWS, WIDTH).require_grad();
    let (weight, a) = (random(WIDTH, WIDTH), random(WIDTH, RANK));
    let b = random(RANK, WIDTH).require_grad();
    group.bench_function("low rank", |bench| {
        bench.iter(|| {
            let low_rank = input.clone().matmul(a.clone()).matmul(b.clone());
            let loss = (input.clone().matmul(weight.clone()) + low_rank).sum();
            let gradients = loss.backward();
            black_box((b.grad(&gradients).unwrap().into_data(), input.grad(&gradients).unwrap().into_data()))
        });
    });
    let dense =
        LinearConfig::new(WIDTH, WIDTH).with_bias(false).init(&device).apply_lora(Lora::new(RANK, 8.0));
    group.bench_function("burn's dense composition", |bench| {
        bench.iter(|| {
            let loss = dense.forward(input.clone()).sum();
            let gradients = loss.backward();
            black_box(input.grad(&gradients).unwrap().into_data())
        });
    });
    group.finish();
}

fn base_model() -> BaseModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tacit-base");
    BaseModel::load(&folder, &Compute::Cpu.open().unwrap()).unwrap()
}

fn training_and_decoding(criterion: &mut Criterion) {
    let model = base_model();
    let config = model.decoder().config().clone();
    let trainer = Trainer::new(model.decoder());
    let targets = vec![Projection::Query, Projection::Value];
    let lora = LoraConfig { rank: RANK, alpha: 8.0, targets, seed: 1 };
    let adapter = Adapter::zeros(lora, &config).unwrap();
    let text = include_str!("../src/decoder.rs");
    let tokens = model.tokenizer().encode(text).unwrap();
    let mut batch = Batch::new(128);
    for row in tokens.chunks(128).take(4) {
        batch.push(0, row);
    }
    let mut group = criterion.benchmark_group("base model");
    group.measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(4 * 128));
    group.bench_function("LoRA step, elements are tokens", |bench| {
        bench.iter(|| black_box(trainer.loss_and_gradient(&adapter, &batch).unwrap()));
    });
    let tensors = adapter.tensors(&config, &model.decoder().device());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    group.throughput(Throughput::Elements(64));
    group.bench_function("greedy decoding, elements are tokens", |bench| {
        bench.iter(|| {
            let prompt = &tokens[..64];
            let choice = Choice::Greedy;
            continue_tokens(model.decoder(), Some(&tensors), prompt, 64, u32::MAX, choice, &mut rng).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, bare_product, linear_forms, training_and_decoding);
criterion_main!(benches);
