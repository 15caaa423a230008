//! Time of each step of the client's pipeline, beside the time of copying the same vector: the memory's
//! limit.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tacit_privacy::{
    Adjacency, BasisPoints, Clipped, Mechanism, MechanismRequest, NoiseLaw, Rotated, RotationSeed, decode_sum,
};

const SEED: RotationSeed = RotationSeed([9; 32]);
const CLIP: f64 = 1.0;

fn mechanism(dimension: usize) -> Mechanism {
    Mechanism::build(&MechanismRequest {
        clients: 128,
        n_min: 103,
        corrupt: BasisPoints::new(500).unwrap(),
        dropout: BasisPoints::new(2_000).unwrap(),
        dimension,
        clip: CLIP,
        noise_multiplier: 1.0,
        adjacency: Adjacency::ZeroOut,
        noise_law: NoiseLaw::DiscreteGaussian,
    })
    .unwrap()
}

fn update(dimension: usize) -> Vec<f32> {
    (0..dimension).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5).collect()
}

fn rotated(dimension: usize) -> Rotated {
    Clipped::new(update(dimension), CLIP).unwrap().rotate(&SEED)
}

fn steps(criterion: &mut Criterion) {
    for dimension in [1 << 16, 1 << 20] {
        let mechanism = mechanism(dimension);
        let mut group = criterion.benchmark_group(format!("d=2^{}", dimension.ilog2()));
        group.throughput(Throughput::Elements(dimension as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let (source, mut target) = (update(dimension), vec![0.0_f32; dimension]);
        group.bench_function("copy", |bencher| {
            bencher.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)))
        });
        group.bench_function("encode", |bencher| {
            let clip_and_rotate = |values| Clipped::new(values, CLIP).unwrap().rotate(&SEED);
            bencher.iter_batched(|| source.clone(), clip_and_rotate, BatchSize::PerIteration);
        });
        group.bench_function("noise", |bencher| {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let noise = |rotated: Rotated| rotated.noise(&mechanism, &mut rng).unwrap();
            bencher.iter_batched(|| rotated(dimension), noise, BatchSize::PerIteration);
        });
        group.bench_function("decode", |bencher| {
            let ring =
                rotated(dimension).noise(&mechanism, &mut ChaCha20Rng::seed_from_u64(2)).unwrap().into_ring();
            bencher.iter(|| decode_sum(black_box(&ring), &mechanism, &SEED).unwrap());
        });
        group.finish();
    }
}

/// The shortest of `tries` runs of `work` on what `prepare` makes.
fn shortest<I, O>(tries: usize, mut prepare: impl FnMut() -> I, mut work: impl FnMut(I) -> O) -> Duration {
    let mut run = || {
        let input = prepare();
        let start = Instant::now();
        let output = black_box(work(black_box(input)));
        let elapsed = start.elapsed();
        drop(output);
        elapsed
    };
    (0..tries).map(|_| run()).min().unwrap_or_default()
}

fn ratios(_: &mut Criterion) {
    println!("step against a copy of the same vector (shortest of 20 runs)");
    for dimension in [1 << 16, 1 << 20] {
        let mechanism = mechanism(dimension);
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let (source, mut target) = (update(dimension), vec![0.0_f32; dimension]);
        let copy = shortest(20, || (), |()| target.copy_from_slice(black_box(&source)));
        let ring = rotated(dimension).noise(&mechanism, &mut rng).unwrap().into_ring();
        let encode =
            shortest(20, || source.clone(), |values| Clipped::new(values, CLIP).unwrap().rotate(&SEED));
        let noise =
            shortest(20, || rotated(dimension), |rotated| rotated.noise(&mechanism, &mut rng).unwrap());
        let decode = shortest(20, || (), |()| decode_sum(&ring, &mechanism, &SEED).unwrap());
        for (name, time) in [("copy", copy), ("encode", encode), ("noise", noise), ("decode", decode)] {
            let ratio = time.as_secs_f64() / copy.as_secs_f64();
            let rate = dimension as f64 / time.as_secs_f64() / 1e6;
            let power = dimension.ilog2();
            println!(
                "d=2^{power} {name:>6}: {time:>10.3?}, {rate:>7.1} M coordinates/s, {ratio:>6.1} x copy"
            );
        }
    }
}

criterion_group!(benches, steps, ratios);
criterion_main!(benches);
