//! The wire messages of a round and its plan. Must never leave a message unused: whatever a receiver computes from one before
//! it trusts its sender is computed here as well.

use super::Decoder;
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::{Certificate, ClientId, PublicKey};
use tacit_aggregation::messages::{
    Advert, CohortList, Confirm, MaskedChunk, MaskedHeader, ShareDelivery, ShareMessage, SurvivorMaps,
    UnmaskRequest, UnmaskShares,
};
use tacit_aggregation::params::{RoundParams, RoundTerms, TaskName, ThreatModel};
use tacit_proto::{
    ClientMessage, CommitmentCache, RoundPlan, ServerMessage, SignedManifest, SignedPlan, Wire,
};

/// Longest input tried; what a cohort's size makes longer repeats itself.
const LONGEST: usize = 8 << 10;
/// Largest cohort whose parameters are recomputed: the choice of degree and threshold takes long for more.
const SMALL_COHORT: u32 = 64;

macro_rules! decoders {
    ($($name:literal => $check:expr;)*) => {
        &[$(Decoder { name: $name, longest: LONGEST, check: $check }),*]
    };
}

pub(super) const DECODERS: &[Decoder] = decoders! {
    "signed_manifest" => signed_manifest;
    "wire_advert" => |bytes| read(bytes).inspect(advert).is_some();
    "wire_certificate" => |bytes| read(bytes).inspect(certificate).is_some();
    "wire_client_message" => |bytes| read(bytes).inspect(client_message).is_some();
    "wire_cohort_list" => |bytes| read(bytes).inspect(cohort_list).is_some();
    "wire_confirm" => |bytes| read::<Confirm>(bytes).is_some();
    "wire_masked_chunk" => |bytes| read::<MaskedChunk>(bytes).is_some();
    "wire_masked_header" => |bytes| read(bytes).inspect(masked_header).is_some();
    "wire_round_plan" => |bytes| RoundPlan::from_wire(bytes).is_ok_and(|plan| round_plan(&plan, bytes.len()));
    "wire_server_message" => server_message;
    "wire_share_delivery" => |bytes| read(bytes).inspect(share_delivery).is_some();
    "wire_share_message" => |bytes| read(bytes).inspect(share_message).is_some();
    "wire_signed_plan" => signed_plan;
    "wire_survivor_maps" => |bytes| read(bytes).inspect(survivor_maps).is_some();
    "wire_unmask_request" => |bytes| read(bytes).inspect(unmask_request).is_some();
    "wire_unmask_shares" => |bytes| read(bytes).inspect(unmask_shares).is_some();
};

/// Bytes that a message's own form may have more than what was received: one number of a list that came unpacked is a byte
/// shorter than a packed list of one, and that may take a byte more of the length around it.
const PACKING: usize = 2;

/// What is accepted comes back from its own form, which is the only one and hardly longer than what was received.
fn read<M: Wire + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let message = match M::from_wire(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.to_string().len() < 400, "an error echoes what it refuses");
            return None;
        }
    };
    let form = message.to_wire();
    assert!(form.len() <= bytes.len() + PACKING, "{} bytes became {}", bytes.len(), form.len());
    let again = M::from_wire(&form).expect("its own form");
    assert_eq!(again, message);
    assert_eq!(again.to_wire(), form);
    Some(message)
}

fn terms() -> RoundTerms {
    RoundTerms {
        roster: None,
        task: TaskName::new("t").expect("a plain name"),
        round: 1,
        plan: [1; 32],
        parents: vec![[2; 32]],
        ledger_head: [3; 32],
        dimension: 8,
        bits: 12,
        threat: ThreatModel::SemiMalicious,
        corrupt_bp: 0,
        dropout_bp: 2_000,
        correctness_bits: 20,
        cohort_min: 3,
        cohort_max: SMALL_COHORT,
        n_min: 2,
    }
}

fn context() -> Context {
    let terms = terms();
    let params = terms.params(5).expect("a small cohort");
    Context::new(&terms, &params, &[0; 32])
}

fn certificate(certificate: &Certificate) {
    let _ = certificate.verify(&PublicKey([5; 32]), 7);
    let _ = certificate.verify(&certificate.issuer, certificate.not_after);
    assert!(certificate.verify(&certificate.issuer, u64::MAX).is_err() || certificate.not_after == u64::MAX);
}

fn advert(advert: &Advert) {
    certificate(&advert.certificate);
    let _ = advert.check_terms(&terms());
    assert_eq!(advert.digest(), advert.digest());
    assert!(advert.payload().len() > 32 * 6);
}

fn round_params(params: &RoundParams) {
    let (corrupt, dropouts) = (params.corrupt(), params.dropouts());
    if params.n <= SMALL_COHORT && params.validate().is_ok() {
        assert!(corrupt < params.n && dropouts < params.n);
        assert!(params.honest_minimum() >= 2 && params.threshold >= 1 && params.threshold <= params.degree);
        assert!(params.quorum() <= params.n);
    }
}

fn cohort_list(list: &CohortList) {
    round_params(&list.params);
    let _ = list.root();
    if let Some(entry) = list.entries.last() {
        let _ = list.index_of(entry.client);
    }
    if list.params.n <= SMALL_COHORT {
        let _ = terms().admit(&list.params);
    }
}

fn share_message(message: &ShareMessage) {
    let tree = message.envelope_tree();
    let payload = message.payload(&context());
    let count = message.envelopes.len();
    for (place, envelope) in message.envelopes.iter().enumerate() {
        let delivery = message.delivery(&tree, place).expect("there is an envelope");
        let signed = delivery.payload(&context(), envelope.to, place, count);
        assert_eq!(signed.as_ref(), Some(&payload), "a delivery proves the envelope that its sender signed");
    }
    assert!(message.delivery(&tree, count).is_none());
    let _ = message.commitments.check(message.client, 3, message.commitments.mask_key.secret());
}

fn share_delivery(delivery: &ShareDelivery) {
    for (place, count) in [(0, 1), (1, 2), (2, 3), (9, 5), (4_095, 16_384)] {
        let _ = delivery.payload(&context(), ClientId(1), place, count);
    }
    let _ = delivery.commitments.check(delivery.from, 3, &[0; 32]);
}

fn masked_header(header: &MaskedHeader) {
    assert!(header.refused.windows(2).all(|pair| pair[0] < pair[1]));
    let _ = header.payload(&context());
}

fn survivor_maps(maps: &SurvivorMaps) {
    assert_eq!(maps.shared.members(), maps.survived.members());
    assert!(maps.shared.count() <= maps.shared.members());
    assert_eq!(maps.survived.indices().count() as u32, maps.survived.count());
    let _ = maps.survived.first_outside(&maps.shared);
    let _ = maps.payload(&context());
}

fn unmask_request(request: &UnmaskRequest) {
    survivor_maps(&request.maps);
    assert!(request.confirmations.windows(2).all(|pair| pair[0].client < pair[1].client));
}

fn unmask_shares(shares: &UnmaskShares) {
    assert!(shares.shares.windows(2).all(|pair| pair[0].of < pair[1].of), "one share per client");
    let _ = shares.payload(&context());
}

fn client_message(message: &ClientMessage) {
    match message {
        ClientMessage::Advert(inner) => advert(inner),
        ClientMessage::Share(inner) => share_message(inner),
        ClientMessage::MaskedHeader(inner) => masked_header(inner),
        ClientMessage::MaskedChunk(_) | ClientMessage::Confirm(_) => {}
        ClientMessage::Unmask(inner) => unmask_shares(inner),
    }
}

fn server_message(bytes: &[u8]) -> bool {
    // A cache of decoded commitments changes nothing, on the second reading either.
    let cache = CommitmentCache::new(2);
    let read = read::<ServerMessage>(bytes);
    for _ in 0..2 {
        assert_eq!(ServerMessage::from_wire_cached(bytes, &cache).ok(), read);
    }
    match &read {
        Some(ServerMessage::Cohort { list, adverts }) => {
            cohort_list(list);
            adverts.iter().for_each(|inner| advert(inner));
        }
        Some(ServerMessage::Shares(deliveries)) => deliveries.iter().for_each(share_delivery),
        Some(ServerMessage::Maps(maps)) => survivor_maps(maps),
        Some(ServerMessage::Unmask(request)) => unmask_request(request),
        None => {}
    }
    read.is_some()
}

/// A plan may hold any bits as a real number until it is validated, so its canonical bytes are compared.
fn round_plan(plan: &RoundPlan, received: usize) -> bool {
    let form = plan.to_wire();
    assert!(form.len() <= received);
    let again = RoundPlan::from_wire(&form).expect("its own form");
    assert_eq!(again.canonical_bytes(), plan.canonical_bytes());
    assert_eq!(again.digest(), plan.digest());
    if plan.validate().is_err() {
        return true;
    }
    let terms = plan.terms();
    assert!(terms.validate().is_ok());
    let smallest = terms.cohort_min.clamp(3, SMALL_COHORT);
    for clients in [smallest, terms.cohort_max.min(SMALL_COHORT)] {
        let Ok(params) = terms.params(clients) else { continue };
        assert!(terms.admit(&params).is_ok(), "what the plan gives, the plan admits");
        if let Ok(mechanism) = plan.mechanism(&params) {
            assert_eq!((mechanism.clients(), mechanism.n_min()), (params.n, params.n_min));
        }
    }
    true
}

fn signed_plan(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedPlan::from_wire(bytes) else { return false };
    let form = signed.to_wire();
    assert!(form.len() <= bytes.len());
    let again = SignedPlan::from_wire(&form).expect("its own form");
    assert_eq!(again.claimed_digest(), signed.claimed_digest());
    // Nobody can sign for the key that nobody has drawn; only the corpus holds a plan that verifies.
    let _ = signed.verify(&PublicKey([9; 32]));
    true
}

/// Only the canonical form is accepted, so what is accepted is that form.
fn signed_manifest(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedManifest::from_bytes(bytes) else { return false };
    assert_eq!(signed.to_bytes(), bytes);
    let _ = signed.verify(&PublicKey([9; 32]));
    if let Ok(manifest) = signed.verify(&signed.claimed().coordinator) {
        let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        assert!(
            !names.is_empty() && names.is_sorted() && !names.iter().any(|name| name.contains(['/', '\\']))
        );
    }
    true
}
