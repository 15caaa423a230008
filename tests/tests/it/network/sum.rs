//! What follows from updates and noise keys alone: the sum, in integers, and the adapter that moves by it. Must never use what a
//! coordinator has computed.

use sha2::{Digest as _, Sha256};
use tacit_aggregation::context::Context;
use tacit_aggregation::messages::CohortList;
use tacit_client::contribute;
use tacit_client::participant::JoinSecrets;
use tacit_coordinator::AdapterVersion;
use tacit_privacy::{Clipped, RotationSeed, RoundMechanism, decode_sum};
use tacit_proto::RoundPlan;

/// What a client puts into a sum.
pub(super) struct Contribution<'a> {
    pub(super) plan: &'a RoundPlan,
    pub(super) list: &'a CohortList,
    pub(super) delta: &'a [f32],
    pub(super) secrets: JoinSecrets,
}

/// The mean of contributions, summed in integers.
pub(super) fn mean_of<'a>(contributions: impl ExactSizeIterator<Item = Contribution<'a>>) -> Vec<f32> {
    let count = contributions.len() as f64;
    let (mut sum, mut decoding) = (Vec::new(), None);
    for Contribution { plan, list, delta, secrets } in contributions {
        let mechanism = plan.mechanism(&list.params).expect("covered");
        let context = Context::new(&plan.terms(), &list.params, &list.root());
        let rotation = RotationSeed(rotation_seed(context.as_bytes(), &list.root()));
        let clipped = Clipped::new(delta.to_vec(), mechanism.clip()).expect("finite");
        let ring = contribute(clipped, &mechanism, &rotation, &mut secrets.noise(&context));
        let ring = ring.expect("clipped for this plan").to_values();
        sum.resize(ring.len(), 0_u64);
        sum.iter_mut().zip(ring).for_each(|(sum, value)| *sum += u64::from(value));
        decoding = Some((mechanism, rotation));
    }
    let (mechanism, rotation) = decoding.expect("somebody took part");
    let sum: Vec<u32> = sum.iter().map(|value| (value % (1 << mechanism.bits())) as u32).collect();
    let RoundMechanism::Distributed(mechanism) = &mechanism else { panic!("clients add the noise") };
    let decoded = decode_sum(&sum, mechanism, &rotation).expect("in the ring");
    decoded.iter().map(|value| (f64::from(*value) / count) as f32).collect()
}

/// An adapter that has moved by a mean.
pub(super) fn moved(adapter: &AdapterVersion, mean: &[f32]) -> AdapterVersion {
    let moved = adapter.values().iter().zip(mean);
    let values = moved.map(|(value, step)| (f64::from(*value) + f64::from(*step)) as f32).collect();
    AdapterVersion::new(values, *adapter.digest()).expect("finite")
}

/// The seed of a round's rotation, worked out from the documented derivation: HKDF-SHA256 of the cohort root.
fn rotation_seed(context: &[u8; 32], root: &[u8; 32]) -> [u8; 32] {
    let key = hmac(context, &[root]);
    hmac(&key, &[tacit_aggregation::kdf::ROTATION.as_bytes(), &[1]])
}

/// HMAC-SHA256 under a key of 32 bytes.
fn hmac(key: &[u8; 32], message: &[&[u8]]) -> [u8; 32] {
    let padded = |pad: u8| -> [u8; 64] { std::array::from_fn(|place| key.get(place).unwrap_or(&0) ^ pad) };
    let mut inner = Sha256::new_with_prefix(padded(0x36));
    message.iter().for_each(|part| inner.update(part));
    Sha256::new_with_prefix(padded(0x5c)).chain_update(inner.finalize()).finalize().into()
}
