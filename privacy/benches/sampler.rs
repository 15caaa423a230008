//! Samples a second of each noise law on one core, beside opendp's exact discrete Gaussian in the same run.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use dashu::integer::UBig;
use dashu::rational::RBig;
use opendp::traits::samplers::sample_discrete_gaussian;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tacit_privacy::DiscreteGaussian;

/// Coordinates that our samplers fill at once.
const COORDINATES: usize = 1 << 17;
/// Samples that opendp draws at once.
const REFERENCE_SAMPLES: usize = 4_000;
/// Runs of each, taken in turns so that other work on the machine slows both alike; the shortest counts.
const RUNS: usize = 7;

/// Seconds that `work` takes.
fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

fn main() {
    println!("million samples a second on one core, shortest of {RUNS} runs; ratio to opendp's discrete Gaussian");
    println!("{:>9} {:>10} {:>18} {:>8}", "deviation", "opendp", "discrete Gaussian", "ratio");
    let mut values = vec![0_i32; COORDINATES];
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for exponent in 0..=6 {
        let deviation = 10_u64.pow(exponent);
        let sampler = DiscreteGaussian::new((deviation * deviation) as f64).unwrap();
        let scale = RBig::from(UBig::from(deviation));
        let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..RUNS {
            ours = ours.min(seconds(|| sampler.add_noise(black_box(&mut values), &mut rng)));
            theirs = theirs.min(seconds(|| {
                for _ in 0..REFERENCE_SAMPLES {
                    black_box(sample_discrete_gaussian(scale.clone()).unwrap());
                }
            }));
        }
        let (ours, theirs) = (COORDINATES as f64 / ours / 1e6, REFERENCE_SAMPLES as f64 / theirs / 1e6);
        println!("{deviation:>9} {theirs:>10.3} {ours:>18.1} {:>8.0}", ours / theirs);
    }
}
