//! What secure aggregation costs, beside what its primitives alone cost: a client's masking against bare AES-256-CTR over
//! the same bytes, the server's unmasking, and Shamir sharing with its commitments.

#[path = "../tests/it/fleet.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod fleet;

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes256Enc, Block};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fleet::{
    Fleet, Leaving, NOW, Progress, close_collect, closed, confirm_all, inputs, mask_all, neighbours,
    share_one, shared, terms,
};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tacit_aggregation::client::{Advertised, RoundSecrets};
use tacit_aggregation::mask::{Mask, MaskKey, Sign, apply, apply_in_parallel};
use tacit_aggregation::params::{GraphRequest, ThreatModel, choose};
use tacit_aggregation::ring_vector::RingVector;

const DIMENSION: usize = 1 << 20;
const NEIGHBOURS: usize = 100;
const BITS: u8 = 16;

fn masks(count: usize) -> Vec<Mask> {
    (0..count)
        .map(|index| Mask {
            key: MaskKey::from_bytes([index as u8; 32]),
            sign: if index % 2 == 0 { Sign::Add } else { Sign::Subtract },
        })
        .collect()
}

/// Keystream of every mask, produced in the same blocks and thrown away: the least that masking can cost.
fn bare_keystream(count: usize) {
    let mut counters = [Block::default(); 512];
    let mut keystream = [Block::default(); 512];
    for first in (0..DIMENSION * 2 / 16).step_by(counters.len()) {
        for (counter, block) in (first as u64..).zip(&mut counters) {
            block[8..].copy_from_slice(&counter.to_be_bytes());
        }
        for index in 0..count {
            let cipher = Aes256Enc::new(&[index as u8; 32].into());
            cipher.encrypt_blocks_b2b(&counters, &mut keystream).expect("as many blocks out as in");
            black_box(&keystream);
        }
    }
}

fn fastest(mut run: impl FnMut()) -> Duration {
    let once = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..7).map(|_| once(&mut run)).min().unwrap_or_default()
}

fn masking(criterion: &mut Criterion) {
    let masks = masks(NEIGHBOURS + 1);
    let mut vector = RingVector::zeros(BITS, DIMENSION).expect("in range");
    let bytes = (masks.len() * DIMENSION * 2) as u64;

    let masked = fastest(|| apply(&mut vector, &masks));
    let bare = fastest(|| bare_keystream(masks.len()));
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    #[expect(clippy::print_stderr, reason = "the ratio is what this benchmark is for")]
    {
        eprintln!(
            "masking d = 2^20, b = 16, k = 100: {masked:.1?} ({:.2} GB/s); bare AES-256-CTR {bare:.1?} ({:.2} GB/s); ratio {:.3}",
            rate(masked),
            rate(bare),
            masked.as_secs_f64() / bare.as_secs_f64()
        );
    }

    let mut group = criterion.benchmark_group("mask d=2^20 b=16 k=100");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("client", |bencher| bencher.iter(|| apply(&mut vector, &masks)));
    group.bench_function("server, all cores", |bencher| {
        bencher.iter(|| apply_in_parallel(&mut vector, &masks));
    });
    group.bench_function("bare AES-256-CTR", |bencher| bencher.iter(|| bare_keystream(masks.len())));
    group.finish();
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
        group.bench_function(BenchmarkId::new("check k shares and mask d=6144", &label), |bencher| {
            bencher.iter_batched(
                || again().share(&list, &adverts, NOW).expect("honest").0,
                |state| state.mask(&deliveries, vector.clone()).expect("honest"),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn unmasking(criterion: &mut Criterion) {
    let n = 128;
    let mut terms = terms(ThreatModel::SemiMalicious, n, BITS, 6_144);
    (terms.dropout_bp, terms.correctness_bits) = (1_000, 40);
    let mut fleet = Fleet::new(n, terms, 1);
    let inputs = inputs(&mut fleet);
    let leaving = Leaving { collect: inputs.keys().step_by(16).copied().collect(), ..Leaving::default() };
    let progress = shared(&mut fleet, &leaving.share).expect("enough stay");
    let collected = close_collect(mask_all(progress, &inputs, &leaving.collect)).expect("enough stay");
    let (Progress { mut server, clients }, summation) =
        confirm_all(collected, &BTreeSet::new()).expect("enough stay");
    for (id, client) in clients {
        let request = server.request_for(id).expect("confirmed");
        server.accept(&client.unmask(&request).expect("honest").1).expect("honest");
    }
    let masked = summation.finish().expect("all added");
    criterion.bench_function("server unmasks n=128 d=6144, 8 dropped", |bencher| {
        bencher.iter_batched(
            || (server.clone(), masked.clone()),
            |(server, masked)| server.close(masked).expect("complete"),
            criterion::BatchSize::LargeInput,
        );
    });
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
    targets = masking, steps, unmasking, choice
);
criterion_main!(benches);
