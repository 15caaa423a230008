//! Samples a second of each noise law on one core, beside opendp's exact discrete Gaussian in the same run.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use dashu::integer::UBig;
use dashu::rational::RBig;
use opendp::traits::samplers::sample_discrete_gaussian;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tacit_privacy::{DiscreteGaussian, Skellam};

/// Coordinates that our samplers fill at once.
const COORDINATES: usize = 1 << 14;
/// Samples that opendp draws at once.
const REFERENCE_SAMPLES: usize = 400;
/// Runs of each, taken in turns so that other work on the machine slows both alike; the shortest counts.
const RUNS: usize = 60;

/// Seconds that `work` takes.
fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

/// One of our samplers, with the rate that it reached.
struct Ours<F> {
    add: F,
    least_seconds: f64,
}

impl<F: FnMut(&mut [i32])> Ours<F> {
    fn new(add: F) -> Self {
        Self { add, least_seconds: f64::INFINITY }
    }

    fn run(&mut self, values: &mut [i32]) {
        let elapsed = seconds(|| (self.add)(black_box(values)));
        self.least_seconds = self.least_seconds.min(elapsed);
    }

    fn millions_a_second(&self) -> f64 {
        COORDINATES as f64 / self.least_seconds / 1e6
    }
}

fn main() {
    println!("million samples a second on one core, shortest of {RUNS} runs, and the ratio to opendp's");
    println!(
        "{:>9} {:>10} {:>18} {:>8} {:>10} {:>8}",
        "deviation", "opendp", "discrete Gaussian", "ratio", "Skellam", "ratio"
    );
    let mut values = vec![0_i32; COORDINATES];
    let (mut rng, mut other_rng) = (ChaCha20Rng::seed_from_u64(1), ChaCha20Rng::seed_from_u64(2));
    for exponent in 0..=6 {
        let deviation = 10_u64.pow(exponent);
        let variance = (deviation * deviation) as f64;
        let scale = RBig::from(UBig::from(deviation));
        let gaussian = DiscreteGaussian::new(variance).unwrap();
        let mut gaussian = Ours::new(|values: &mut [i32]| gaussian.add_noise(values, &mut rng));
        // Beyond its largest variance there is no Skellam sampler.
        let skellam = Skellam::new(variance).ok();
        let mut skellam = skellam.as_ref().map(|sampler| {
            Ours::new(|values: &mut [i32]| sampler.add_noise(values, &mut other_rng).unwrap())
        });
        let mut opendp = f64::INFINITY;
        for _ in 0..RUNS {
            gaussian.run(&mut values);
            if let Some(skellam) = &mut skellam {
                skellam.run(&mut values);
            }
            opendp = opendp.min(seconds(|| {
                for _ in 0..REFERENCE_SAMPLES {
                    black_box(sample_discrete_gaussian(scale.clone()).unwrap());
                }
            }));
        }
        let opendp = REFERENCE_SAMPLES as f64 / opendp / 1e6;
        let rate = gaussian.millions_a_second();
        print!("{deviation:>9} {opendp:>10.3} {rate:>18.1} {:>8.0}", rate / opendp);
        match skellam.map(|skellam| skellam.millions_a_second()) {
            Some(rate) => println!(" {rate:>10.1} {:>8.0}", rate / opendp),
            None => println!(" {:>10} {:>8}", "-", "-"),
        }
    }
}
