//! Time of composing privacy loss distributions, beside that of bare Fourier transforms of the same size: the
//! limit.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use realfft::RealFftPlanner;
use tacit_privacy::{Adjacency, PrivacyLoss, RdpCurve, RenyiDivergence, composed_epsilon};

const RUNS: u32 = 7;
/// The size that most of these compositions take, once for each direction.
const POINTS: usize = 1 << 16;

/// The shortest of some runs of `work`.
fn shortest<O>(mut work: impl FnMut() -> O) -> Duration {
    let mut run = || {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

/// One forward and one inverse transform of `points` real numbers, plans made beforehand.
fn transforms(points: usize) -> Duration {
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, inverse) = (planner.plan_fft_forward(points), planner.plan_fft_inverse(points));
    let mut values = forward.make_input_vec();
    values[0] = 1.0;
    let mut spectrum = forward.make_output_vec();
    shortest(|| {
        forward.process(black_box(&mut values), &mut spectrum).unwrap();
        inverse.process(&mut spectrum, &mut values).unwrap();
    })
}

fn main() {
    let sampled = |sigma, rate, adjacency| PrivacyLoss::poisson_gaussian(sigma, rate, adjacency).unwrap();
    let zero_out = |sigma, rate| sampled(sigma, rate, Adjacency::ZeroOut);
    let cases = [
        ("sigma 0.8, q 0.001", zero_out(0.8, 0.001), 10_000),
        ("sigma 1.0, q 0.01", zero_out(1.0, 0.01), 10_000),
        ("sigma 1.1, q 0.005", zero_out(1.1, 0.005), 10_000),
        ("sigma 1.0, q 0.01, replace-one", sampled(1.0, 0.01, Adjacency::ReplaceOne), 10_000),
        ("sigma 10, q 0.5", zero_out(10.0, 0.5), 1_000),
        ("sigma 1, q 1", zero_out(1.0, 1.0), 1_000_000),
        ("discrete Gaussian, sigma 5", PrivacyLoss::discrete_gaussian(5.0, 1).unwrap(), 10_000),
        ("Skellam, variance 100", PrivacyLoss::skellam(100.0, 1).unwrap(), 10_000),
        ("Laplace, scale 50", PrivacyLoss::laplace(50.0).unwrap(), 10_000),
    ];
    let limit = transforms(POINTS);
    println!("limit: transforming {POINTS} points there and back takes {limit:.3?}");
    println!("construction, composition and epsilon at delta 1e-5 (shortest of {RUNS} runs)");
    for (name, loss, steps) in cases {
        let time = shortest(|| loss.times(steps).unwrap().epsilon(1e-5).unwrap());
        let epsilon = loss.times(steps).unwrap().epsilon(1e-5).unwrap();
        let ratio = time.as_secs_f64() / limit.as_secs_f64();
        println!("{name:>31} x {steps:>7}: {time:>10.3?}, {ratio:>6.1} x limit, epsilon {epsilon:.4}");
    }
    println!("Rényi divergences: the curve of a book, and 10,000 steps at delta 1e-5 and the best order");
    for (sigma, rate) in [(0.8, 0.001), (1.0, 0.01), (10.0, 0.5), (0.1, 0.01)] {
        let one = || RenyiDivergence::poisson_gaussian(sigma, rate, Adjacency::ZeroOut).unwrap();
        let curve = shortest(|| RdpCurve::of(&one()));
        let epsilon = shortest(|| composed_epsilon(&[(one(), 10_000)], 1e-5).unwrap());
        println!("sigma {sigma}, q {rate}: curve {curve:.3?}, epsilon {epsilon:.3?}");
    }
}
