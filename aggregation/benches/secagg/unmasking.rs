//! The server's Unmask at n = 1,000, d = 2^20, against bare AES-256-CTR of the same masks on all cores, and the memory that it
//! takes.
//!
//! The clients are puppets: they say what honest ones would, but nobody opens an envelope and every masked vector is zero. The
//! server cannot tell, and does all of its work.

use crate::fleet::{Fleet, NOW, terms};
use crate::limits::{bare_keystream_on_all_cores, fastest, forget_peak, memory, say};
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelIterator as _, IntoParallelRefIterator as _,
    ParallelIterator as _,
};
use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tacit_aggregation::client::{Advertised, ClientSetup};
use tacit_aggregation::graph::Graph;
use tacit_aggregation::identity::{ClientId, Signature};
use tacit_aggregation::kdf;
use tacit_aggregation::messages::{
    CIPHERTEXT_BYTES, Confirm, Envelope, MaskedHeader, ShareCommitments, ShareKind, ShareMessage, ShareValue,
    UnmaskShare, UnmaskShares,
};
use tacit_aggregation::params::{RoundParams, ThreatModel};
use tacit_aggregation::server::{MaskedSum, Share, Unmask, VectorSummary};
use tacit_aggregation::shamir::{Polynomial, SecretScalar};

const CLIENTS: u32 = 1_000;
const DIMENSION: u32 = 1 << 20;
const BITS: u8 = 16;

/// Memory allowed above one vector, in bytes.
const ALLOWED: u64 = 64 << 20;

/// A client of whose state only the polynomials are left.
struct Puppet {
    setup: ClientSetup,
    id: ClientId,
    mask_key: Polynomial,
    self_mask: Polynomial,
}

/// A server that has everything that it needs to unmask.
struct Ready {
    server: Unmask,
    masked: MaskedSum,
    params: RoundParams,
    /// Pair masks of dropped clients with survivors, and self-masks.
    pairs: usize,
    selves: usize,
    /// Resident memory before the vectors were added.
    before: u64,
}

/// Prints time, ratio and memory.
pub(crate) fn report() {
    let with_vectors = |dimension: u32| {
        let Ready { server, masked, params, pairs, selves, before } = ready(dimension);
        let start = Instant::now();
        let sum = server.close(masked).expect("complete");
        let taken = start.elapsed();
        assert_eq!(sum.survivors.len(), selves);
        (taken, params, pairs, selves, before)
    };
    let (total, params, pairs, selves, before) = with_vectors(DIMENSION);
    let peak = memory("VmHWM").unwrap_or(0).saturating_sub(before);
    // With one coordinate nothing but recovery and key agreement is left.
    let (recovery, ..) = with_vectors(1);

    let (masks, bytes) = (pairs + selves, DIMENSION as usize * 2);
    let sample = 1_024;
    let bare = fastest(3, || bare_keystream_on_all_cores(sample, bytes)) * masks as u32 / sample as u32;
    let scalar = Scalar::from_bytes_mod_order([9; 32]);
    let point = RistrettoPoint::mul_base(&scalar);
    let agreement = fastest(2, || {
        (0..pairs).into_par_iter().for_each(|_| {
            black_box(black_box(point) * scalar);
        });
    });
    let expansion = total.saturating_sub(recovery);
    let rate = |time: Duration| (masks * bytes) as f64 / time.as_secs_f64() / 1e9;
    say(&format!(
        "server unmasks, n = {CLIENTS}, k = {}, t = {}, {} dropped after sharing, b = 16, d = 2^20, all cores:\n  \
         expanding and adding {masks} masks {expansion:.2?} ({:.1} GB/s); bare AES-256-CTR {bare:.2?} ({:.1} GB/s); ratio \
         {:.2} (limit 1.25)\n  recovering {CLIENTS} secrets and agreeing on {pairs} pair keys {recovery:.2?}; {pairs} bare \
         variable-base products {agreement:.2?}\n  memory above what it was before the vectors came: {:.1} MiB; one vector and \
         64 MiB are {:.1} MiB",
        params.degree,
        params.threshold,
        CLIENTS as usize - selves,
        rate(expansion),
        rate(bare),
        expansion.as_secs_f64() / bare.as_secs_f64(),
        peak as f64 / f64::from(1 << 20),
        (ALLOWED + bytes as u64) as f64 / f64::from(1 << 20),
    ));
}

fn ready(dimension: u32) -> Ready {
    let mut terms = terms(ThreatModel::SemiMalicious, CLIENTS, BITS, dimension);
    (terms.corrupt_bp, terms.dropout_bp, terms.correctness_bits) = (1_000, 1_000, 40);
    let mut fleet = Fleet::new(CLIENTS, terms, 1);
    let clients = fleet.advertise();
    let mut server = fleet.server();
    for client in clients.values() {
        server.accept(Arc::clone(client.advert()), NOW).expect("honest");
    }
    let mut server = server.close().expect("feasible");
    let params = server.list().params;
    let graph = graph(&server);
    fleet.setups.sort_by_key(|setup| setup.certificate.client);
    let puppets = puppets(&fleet.setups, &clients.into_values().collect::<Vec<_>>(), params.threshold);
    let messages: Vec<Arc<ShareMessage>> = puppets
        .par_iter()
        .enumerate()
        .map(|(index, puppet)| share(&server, &graph, &puppets, index, puppet))
        .collect();
    for message in messages {
        server.accept(message).expect("well-formed");
    }
    let context = *server.context();
    let mut server = server.close().expect("everybody shared");

    let packed = vec![0; params.packed_bytes()];
    let digest = Sha256::digest(&packed).into();
    let stays = |index: usize| !index.is_multiple_of(10);
    for puppet in (0..).zip(&puppets).filter(|(index, _)| stays(*index)).map(|(_, puppet)| puppet) {
        let mut header = MaskedHeader {
            client: puppet.id,
            length: packed.len() as u64,
            digest,
            refused: vec![],
            signature: Signature([0; 64]),
        };
        header.signature = puppet.setup.identity.sign(&header.payload(&context));
        server.accept(&header, &VectorSummary::of(&packed)).expect("well-formed");
    }
    let before = memory("VmRSS").unwrap_or(0);
    forget_peak();
    let (mut server, mut summation) = server.close().expect("enough survive");
    for client in server.survivors().collect::<Vec<_>>() {
        summation.add(client, &packed).expect("a survivor's");
    }
    let payload = server.maps().payload(&context);
    for puppet in (0..).zip(&puppets).filter(|(index, _)| stays(*index)).map(|(_, puppet)| puppet) {
        let signature = puppet.setup.identity.sign(&payload);
        server.accept(&Confirm { client: puppet.id, signature }).expect("a survivor's");
    }
    let mut server = server.close().expect("a quorum");
    let mut pairs = 0;
    for (index, puppet) in puppets.iter().enumerate().filter(|(index, _)| stays(*index)) {
        let shares: Vec<UnmaskShare> = graph
            .neighbours(index as u32)
            .into_iter()
            .map(|owner| {
                let owed = &puppets[owner as usize];
                let (kind, polynomial) = if stays(owner as usize) {
                    (ShareKind::SelfMask, &owed.self_mask)
                } else {
                    pairs += 1;
                    (ShareKind::MaskKey, &owed.mask_key)
                };
                UnmaskShare {
                    of: owed.id,
                    kind,
                    share: ShareValue(*polynomial.share_of(index as u32).to_bytes()),
                }
            })
            .collect();
        let mut message = UnmaskShares { client: puppet.id, shares, signature: Signature([0; 64]) };
        message.signature = puppet.setup.identity.sign(&message.payload(&context));
        server.accept(&message).expect("what is due");
    }
    let selves = (0..CLIENTS as usize).filter(|&index| stays(index)).count();
    Ready { server, masked: summation.finish().expect("all added"), params, pairs, selves, before }
}

/// The graph that the server computes from the cohort root.
fn graph(server: &Share) -> Graph {
    let params = server.list().params;
    let mut seed = [0; 32];
    Hkdf::<Sha256>::new(Some(server.context().as_bytes()), &server.list().root())
        .expand(kdf::GRAPH.as_bytes(), &mut seed)
        .expect("32 bytes");
    Graph::new(params.n, params.degree, &seed)
}

/// Clients and setups come in the order of ids.
fn puppets(setups: &[ClientSetup], clients: &[Advertised], threshold: u32) -> Vec<Puppet> {
    let puppet = |index: usize| {
        let mut rng = ChaCha20Rng::seed_from_u64(index as u64);
        let mut uniform = || {
            let mut bytes = [0; 64];
            rng.fill_bytes(&mut bytes);
            SecretScalar::from_uniform(&bytes)
        };
        let secrets = clients[index].secrets().to_bytes();
        let mask_key = secrets[32..64].try_into().expect("32 bytes");
        let mask_key = SecretScalar::from_canonical(mask_key).expect("canonical");
        let self_mask = uniform();
        Puppet {
            setup: setups[index].clone(),
            id: setups[index].certificate.client,
            mask_key: Polynomial::new(mask_key, threshold, &mut uniform),
            self_mask: Polynomial::new(self_mask, threshold, &mut uniform),
        }
    };
    (0..clients.len()).into_par_iter().map(puppet).collect()
}

fn share(
    server: &Share,
    graph: &Graph,
    puppets: &[Puppet],
    index: usize,
    puppet: &Puppet,
) -> Arc<ShareMessage> {
    let commitments =
        ShareCommitments { mask_key: puppet.mask_key.commit(), self_mask: puppet.self_mask.commit() };
    let envelopes = graph
        .neighbours(index as u32)
        .into_iter()
        .map(|to| Envelope { to: puppets[to as usize].id, ciphertext: [0; CIPHERTEXT_BYTES] })
        .collect();
    let mut message = ShareMessage {
        client: puppet.id,
        commitments: Arc::new(commitments),
        envelopes,
        signature: Signature([0; 64]),
    };
    message.signature = puppet.setup.identity.sign(&message.payload(server.context()));
    Arc::new(message)
}
