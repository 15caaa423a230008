//! What secure aggregation costs, beside what its primitives alone cost: each line names a limit that was measured in the
//! same run. The whole protocol is measured by `tacit-sim bench-secagg`.

#[path = "../tests/it/fleet.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod fleet;
#[path = "secagg/limits.rs"]
mod limits;
#[path = "secagg/masking.rs"]
mod masking;
#[path = "secagg/sharing.rs"]
mod sharing;
#[path = "secagg/unmasking.rs"]
mod unmasking;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fleet::{Fleet, NOW, closed, neighbours, share_one, terms};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tacit_aggregation::client::{Advertised, RoundSecrets};
use tacit_aggregation::params::{GraphRequest, ThreatModel, choose};

const BITS: u8 = 16;

/// The figures with their limits.
fn figures(_: &mut Criterion) {
    masking::report();
    sharing::report();
    unmasking::report();
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one client's steps");
    group.sample_size(10);
    for n in [100u32, 128, 256] {
        let mut terms = terms(ThreatModel::SemiMalicious, n, BITS, 6_144);
        (terms.dropout_bp, terms.correctness_bits) = (1_000, 40);
        let mut fleet = Fleet::new(n, terms, 1);
        let setup = fleet.setups[0].clone();
        let client = setup.certificate.client;
        let (mut server, mut clients) = closed(&mut fleet);
        let params = server.list().params;
        let label = format!("n={n} k={} t={}", params.degree, params.threshold);
        let secrets = *clients[&client].secrets().to_bytes();
        let again = || {
            let secrets = RoundSecrets::from_bytes(&secrets).expect("canonical");
            Advertised::resume(setup.clone(), secrets, NOW).expect("fine")
        };
        let adverts = neighbours(&server, clients[&client].advert());
        let list = Arc::clone(server.list());
        group.bench_function(BenchmarkId::new("share", &label), |bencher| {
            bencher.iter_batched(
                again,
                |state| state.share(&list, &adverts, NOW).expect("honest"),
                criterion::BatchSize::SmallInput,
            );
        });
        // Only the client's neighbours share: that is all it gets to see.
        clients.retain(|id, _| *id == client || adverts.iter().any(|advert| advert.client() == *id));
        let mut deliveries = Vec::new();
        for (id, state) in clients {
            let (_, message) = share_one(&server, state).expect("honest");
            if let Some(place) = message.envelopes.iter().position(|envelope| envelope.to == client) {
                deliveries.push(message.delivery(&message.envelope_tree(), place).expect("in range"));
            }
            assert!(server.accept(message).is_ok(), "{id} is honest");
        }
        let vector = fleet.vector();
        group.bench_function(
            BenchmarkId::new("decode commitments, check k shares, mask d=6144", &label),
            |bencher| {
                bencher.iter_batched(
                    || again().share(&list, &adverts, NOW).expect("honest").0,
                    |state| state.mask(&deliveries, vector.clone()).expect("honest"),
                    criterion::BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

fn choice(criterion: &mut Criterion) {
    let request = |clients| GraphRequest {
        threat: ThreatModel::SemiMalicious,
        clients,
        corrupt_bp: 2_000,
        dropout_bp: 2_000,
        correctness_bits: 40,
    };
    for clients in [256, 10_000] {
        criterion.bench_function(&format!("choose degree and threshold, n={clients}"), |bencher| {
            bencher.iter(|| choose(black_box(&request(clients))).expect("feasible"));
        });
    }
}

criterion_group!(
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = figures, steps, choice
);
criterion_main!(benches);
