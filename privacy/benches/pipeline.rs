//! Time and memory of each step of the client's pipeline and of decoding, beside the time of copying the same vector: the
//! memory's limit. Ends with an error where a step holds more than one vector beside its input.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "pipeline/heap.rs"]
mod heap;

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
/// A power of two on each side of the caches, and a number that is none: the rotation then has two stages.
const DIMENSIONS: [usize; 3] = [1 << 16, 1 << 20, 1_000_000];
/// Bytes that a step may hold beside one vector.
const SLACK: usize = 64 << 10;
const TRIES: usize = 20;

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

fn clipped(dimension: usize) -> Clipped {
    Clipped::new(update(dimension), CLIP).unwrap()
}

fn rotated(dimension: usize) -> Rotated {
    clipped(dimension).rotate(&SEED)
}

fn steps(criterion: &mut Criterion) {
    for dimension in DIMENSIONS {
        let mechanism = mechanism(dimension);
        let mut group = criterion.benchmark_group(format!("d={dimension}"));
        group.throughput(Throughput::Elements(dimension as u64)).sample_size(10);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let (source, mut target) = (update(dimension), vec![0.0_f32; dimension]);
        group.bench_function("copy", |bencher| {
            bencher.iter(|| black_box(&mut target).copy_from_slice(black_box(&source)))
        });
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        group.bench_function("encode", |bencher| {
            let encode = |values| {
                let rotated = Clipped::new(values, CLIP).unwrap().rotate(&SEED);
                rotated.round_and_wipe(&mechanism, &mut rng).unwrap();
            };
            bencher.iter_batched(|| source.clone(), encode, BatchSize::PerIteration);
        });
        group.bench_function("round and noise", |bencher| {
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

/// The shortest of several runs of `work` on what `prepare` makes, and the most bytes on the heap beyond those before it.
fn best<I, O>(mut prepare: impl FnMut() -> I, mut work: impl FnMut(I) -> O) -> (Duration, usize) {
    let mut run = || {
        let input = prepare();
        let before = heap::start();
        let start = Instant::now();
        let output = black_box(work(black_box(input)));
        let elapsed = start.elapsed();
        let extra = heap::most() - before;
        drop(output);
        (elapsed, extra)
    };
    let runs: Vec<_> = (0..TRIES).map(|_| run()).collect();
    let shortest = runs.iter().map(|run| run.0).min().unwrap();
    (shortest, runs.iter().map(|run| run.1).max().unwrap())
}

fn ratios(_: &mut Criterion) {
    println!("one core, shortest of {TRIES} runs; memory beside the input, in vectors of 4 d bytes");
    for dimension in DIMENSIONS {
        let mechanism = mechanism(dimension);
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut other = ChaCha20Rng::seed_from_u64(4);
        let (source, mut target) = (update(dimension), vec![0.0_f32; dimension]);
        let copy = best(|| (), |()| target.copy_from_slice(black_box(&source)));
        let ring = rotated(dimension).noise(&mechanism, &mut rng).unwrap().into_ring();
        let clip = best(|| source.clone(), |values| Clipped::new(values, CLIP).unwrap());
        let rotate = best(|| clipped(dimension), |clipped| clipped.rotate(&SEED));
        let round =
            best(|| rotated(dimension), |rotated| rotated.round_and_wipe(&mechanism, &mut rng).unwrap());
        let encode = best(
            || source.clone(),
            |values| {
                let rotated = Clipped::new(values, CLIP).unwrap().rotate(&SEED);
                rotated.round_and_wipe(&mechanism, &mut rng).unwrap();
            },
        );
        let all = best(
            || source.clone(),
            |values| Clipped::new(values, CLIP).unwrap().rotate(&SEED).noise(&mechanism, &mut other).unwrap(),
        );
        let decode = best(|| (), |()| decode_sum(&ring, &mechanism, &SEED).unwrap());
        let steps = [
            ("copy", copy),
            ("clip", clip),
            ("rotate", rotate),
            ("scale and round", round),
            ("encode: these three", encode),
            ("encode with noise", all),
            ("decode", decode),
        ];
        for (name, (time, extra)) in steps {
            let milliseconds = time.as_secs_f64() * 1e3;
            let ratio = time.as_secs_f64() / copy.0.as_secs_f64();
            let vectors = extra as f64 / (4 * dimension) as f64;
            println!(
                "d={dimension:<8} {name:<20} {milliseconds:>9.3} ms {ratio:>8.1} x copy {vectors:>7.3} vectors"
            );
            assert!(extra <= 4 * dimension + SLACK, "{name} holds {extra} bytes beside its input");
        }
    }
}

criterion_group!(benches, steps, ratios);
criterion_main!(benches);
