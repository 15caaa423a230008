//! Tests of the composed privacy loss against exact values. Must never take a reference from the code under
//! test.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn probe() {
    for (sigma, q, steps, delta) in [
        (1.0, 0.01, 10_000, 1e-5),
        (0.8, 0.001, 10_000, 1e-5),
        (1.1, 0.01, 10_000, 1e-5),
        (10.0, 0.5, 1000, 1e-5),
        (1.0, 0.01, 1, 1e-5),
        (0.01, 1e-8, 10_000_000, 1e-5),
        (1e6, 0.5, 10_000, 1e-10),
        (1.0, 1e-8, 10_000_000, 1e-5),
        (0.5, 1e-6, 1_000_000, 1e-5),
        (0.5, 0.01, 1000, 1e-15),
    ] {
        for adjacency in [Adjacency::ZeroOut, Adjacency::ReplaceOne] {
            let start = std::time::Instant::now();
            let loss = PrivacyLoss::poisson_gaussian(sigma, q, adjacency).unwrap().times(steps).unwrap();
            let epsilon = loss.epsilon(delta);
            let t = start.elapsed();
            println!("{sigma} {q} {steps} {delta} {adjacency:?}: {epsilon:?} {t:?}");
            if let Ok(e) = epsilon {
                println!("    delta {:?} {:?}", loss.delta(e), start.elapsed() - t);
            }
        }
    }
}
