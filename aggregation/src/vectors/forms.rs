//! Known answers for every form that does not need a round: packed vectors of all widths, bitmaps, trees, payloads, contexts,
//! seals. Must never be checked by the code alone that wrote them: each is read back as its receiver would.

use crate::bitmap::Bitmap;
use crate::client::UniformScalars;
use crate::context::Context;
use crate::identity::{ClientId, Signature};
use crate::keys::{Channel, SecretScalar, pair_mask_key, self_mask_key};
use crate::merkle::{self, Tree};
use crate::messages::{CohortEntry, CohortList, Envelope, MaskedHeader, ShareCommitments, ShareMessage};
use crate::params::{RoundParams, RoundTerms, ThreatModel};
use crate::ring_vector::RingVector;
use crate::shamir::Polynomial;
use serde_json::{Value, json};
use std::sync::Arc;
use x25519_dalek::StaticSecret;

/// Widths whose lanes are narrow and wide, whose coordinates end within bytes and at their edges.
const WIDTHS: [u8; 17] = [1, 2, 3, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 20, 23, 31, 32];

fn hex_of(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(hex::encode(bytes))
}

/// Coordinates that use every bit of a width.
fn coordinates(bits: u8) -> Vec<u32> {
    let largest = u32::MAX >> (32 - bits);
    [0, 1, largest, 0x5a5a_5a5a & largest, largest - largest / 3, 0xdead_beef & largest, largest / 2].into()
}

fn packed() -> Vec<Value> {
    let one = |&bits: &u8| {
        let vector = RingVector::new(bits, &coordinates(bits)).expect("reduced");
        json!({ "bits": bits, "values": vector.to_values(), "packed": hex_of(vector.to_packed()) })
    };
    WIDTHS.iter().map(one).collect()
}

fn bitmaps() -> Vec<Value> {
    let one = |(members, indices): (u32, Vec<u32>)| {
        let set = Bitmap::from_indices(members, indices.iter().copied());
        json!({ "members": members, "indices": indices, "bytes": hex_of(set.as_bytes()) })
    };
    [(1, vec![]), (8, vec![0, 7]), (9, vec![8]), (11, vec![0, 3, 8, 10]), (16, (0..16).collect())]
        .map(one)
        .into()
}

fn trees() -> Vec<Value> {
    let one = |size: u8| {
        let data: Vec<[u8; 1]> = (0..size).map(|place| [place]).collect();
        let tree = Tree::new(data.iter().map(|data| merkle::leaf(data)).collect());
        let path = |place| tree.path(place).into_iter().map(hex_of).collect::<Vec<_>>();
        let paths: Vec<Vec<Value>> = (0..data.len()).map(path).collect();
        json!({
            "leaves": data.iter().map(hex_of).collect::<Vec<_>>(), "root": hex_of(tree.root()), "paths": paths,
        })
    };
    [1, 2, 3, 4, 5, 7].map(one).into()
}

fn shamir() -> (Polynomial, Polynomial) {
    let mut scalars = UniformScalars::new(&[0xb1; 32]);
    let first = Polynomial::new(scalars.draw(), 3, || scalars.draw());
    let second = Polynomial::new(scalars.draw(), 3, || scalars.draw());
    (first, second)
}

/// A share message that is no round's: the digests and leaves that its signature covers.
fn share_message(context: &Context) -> Value {
    let (mask_key, self_mask) = shamir();
    let commitments = ShareCommitments { mask_key: mask_key.commit(), self_mask: self_mask.commit() };
    let envelope = |to: u64| Envelope { to: ClientId(to), ciphertext: [to as u8; 80] };
    let message = ShareMessage {
        client: ClientId(5),
        commitments: Arc::new(commitments),
        envelopes: [7, 8, 1 << 40].map(envelope).into(),
        signature: Signature([0; 64]),
    };
    let points = |points: &[[u8; 32]]| points.iter().map(hex_of).collect::<Vec<_>>();
    json!({
        "client": "5",
        "commitments": {
            "mask_key": points(message.commitments.mask_key.as_bytes()),
            "self_mask": points(message.commitments.self_mask.as_bytes()),
        },
        "commitments_digest": hex_of(message.commitments.digest()),
        "envelopes": message.envelopes.iter().map(|envelope| json!({
            "to": envelope.to.to_string(),
            "ciphertext": hex_of(envelope.ciphertext),
            "leaf": hex_of(envelope.leaf()),
        })).collect::<Vec<_>>(),
        "envelopes_root": hex_of(message.envelope_tree().root()),
        "payload": hex_of(message.payload(context)),
    })
}

fn cohort() -> Value {
    let entry = |(client, advert): (u64, u8)| CohortEntry { client: ClientId(client), advert: [advert; 32] };
    let entries: Vec<CohortEntry> = [(1, 9), (2, 8), (u64::MAX, 7)].map(entry).into();
    let leaf = |entry: &CohortEntry| json!({ "client": entry.client.to_string(), "advert_digest": hex_of(entry.advert), "leaf": hex_of(entry.leaf()) });
    let leaves: Vec<Value> = entries.iter().map(leaf).collect();
    let list = CohortList { params: params(), entries };
    json!({ "entries": leaves, "root": hex_of(list.root()) })
}

fn refusing_header(context: &Context) -> Value {
    let header = MaskedHeader {
        client: ClientId(3),
        length: 8,
        digest: [0x77; 32],
        refused: vec![ClientId(70), ClientId(1_000)],
        signature: Signature([0; 64]),
    };
    json!({
        "client": "3", "length": 8, "digest": hex_of(header.digest), "refused": ["70", "1000"],
        "payload": hex_of(header.payload(context)),
    })
}

fn params() -> RoundParams {
    RoundParams {
        n: 256,
        n_min: 231,
        degree: 60,
        threshold: 47,
        bits: 16,
        dimension: 1_000,
        threat: ThreatModel::SemiMalicious,
        corrupt_bp: 500,
        dropout_bp: 1_000,
        correctness_bits: 40,
    }
}

/// One context, and what becomes of it when one field changes.
fn contexts() -> Vec<Value> {
    type Change = fn(&mut RoundTerms, &mut RoundParams, &mut [u8; 32]);
    let changes: [(&str, Change); 14] = [
        ("nothing", |_, _, _| {}),
        ("task", |terms, _, _| terms.task = crate::params::TaskName::new("other").expect("a plain name")),
        ("round", |terms, _, _| terms.round += 1),
        ("plan", |terms, _, _| terms.plan[31] ^= 1),
        ("parents", |terms, _, _| terms.parents.truncate(1)),
        ("ledger_head", |terms, _, _| terms.ledger_head[0] ^= 1),
        ("n", |_, params, _| params.n += 1),
        ("n_min", |_, params, _| params.n_min += 1),
        ("degree", |_, params, _| params.degree += 2),
        ("threshold", |_, params, _| params.threshold += 1),
        ("dimension", |_, params, _| params.dimension += 1),
        ("bits", |_, params, _| params.bits += 1),
        ("cohort_root", |_, _, root| root[0] ^= 1),
        ("n and n_min exchanged", |_, params, _| std::mem::swap(&mut params.n, &mut params.n_min)),
    ];
    let one = |(name, change): (&str, Change)| {
        let (mut terms, mut params, mut root) = (crate::params::tests_support::terms(), params(), [0x55; 32]);
        change(&mut terms, &mut params, &mut root);
        json!({ "changed": name, "context": hex_of(Context::new(&terms, &params, &root).as_bytes()) })
    };
    changes.map(one).into()
}

/// One channel, in both directions.
fn seal(context: &Context) -> Value {
    let (own, other) = (ClientId(9), ClientId(4));
    let (secret, theirs) = (StaticSecret::from([0x11; 32]), StaticSecret::from([0x22; 32]));
    let public = x25519_dalek::PublicKey::from(&theirs);
    let channel = Channel::agree(context, &secret, own, other, public.as_bytes()).expect("contributes");
    let (mask_key, self_mask) = shamir();
    let (mask_key, self_mask) = (mask_key.share_of(3), self_mask.share_of(3));
    let keys = (hex_of(channel.sealing.as_bytes()), hex_of(channel.opening.as_bytes()));
    let ciphertext = channel.sealing.seal(context, &self_mask, &mask_key);
    json!({
        "from": own.to_string(), "to": other.to_string(),
        "secret_of_sender": hex_of([0x11; 32]), "secret_of_receiver": hex_of([0x22; 32]),
        "sealing_key": keys.0, "opening_key": keys.1,
        "share_of_self_mask": hex_of(self_mask.to_bytes()), "share_of_mask_key": hex_of(mask_key.to_bytes()),
        "ciphertext": hex_of(ciphertext),
    })
}

fn mask_keys(context: &Context) -> Value {
    let mut scalars = UniformScalars::new(&[0xb2; 32]);
    let (secret, other) = (scalars.draw(), scalars.draw());
    let (own, their) = (ClientId(9), ClientId(4));
    json!({
        "secret": hex_of(secret.to_bytes()), "other_secret": hex_of(other.to_bytes()),
        "public": hex_of(secret.public().compress().as_bytes()),
        "other_public": hex_of(other.public().compress().as_bytes()),
        "own": own.to_string(), "other": their.to_string(),
        "pair_mask_key": hex_of(pair_mask_key(context, &secret, own, their, &other.public()).as_bytes()),
        "self_mask_key": hex_of(self_mask_key(context, &secret).as_bytes()),
    })
}

fn weights() -> Value {
    let mut stream = UniformScalars::new(&[0xb3; 32]);
    let weights: Vec<Value> = (0..3).map(|_| hex_of(stream.weight().to_le_bytes())).collect();
    json!({ "stream_key": hex_of([0xb3; 32]), "weights": weights })
}

/// All of them, under a context.
pub(super) fn forms(context: &Context) -> Value {
    json!({
        "packed": packed(), "bitmaps": bitmaps(), "trees": trees(), "cohort": cohort(),
        "share_message": share_message(context), "masked_header": refusing_header(context),
        "contexts": contexts(), "seal": seal(context), "mask_keys": mask_keys(context), "share_check": weights(),
        "root": super::root::root_forms(),
    })
}

mod tests {
    use super::{Channel, ClientId, Context, Polynomial, SecretScalar, StaticSecret, merkle};
    use crate::bitmap::Bitmap;
    use crate::keys::{mask_point, pair_mask_key};
    use crate::ring_vector::RingVector;
    use crate::vectors::tests::stored;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn raw(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().expect("a string")).expect("hexadecimal")
    }

    fn array<const L: usize>(value: &Value) -> [u8; L] {
        raw(value).try_into().expect("the right length")
    }

    fn list(value: &Value) -> &Vec<Value> {
        value.as_array().expect("a list")
    }

    fn number(value: &Value) -> u64 {
        value.as_u64().expect("a number")
    }

    #[test]
    fn packed_vectors_and_bitmaps_are_read_back_and_corrupted_ones_are_not() {
        let stored = stored();
        let mut widths = BTreeSet::new();
        for case in list(&stored["forms"]["packed"]) {
            let bits = number(&case["bits"]) as u8;
            let values: Vec<u32> = list(&case["values"]).iter().map(|value| number(value) as u32).collect();
            let packed = raw(&case["packed"]);
            // Bit by bit, without the crate's own reader.
            let bit = |at: usize| u32::from(packed[at / 8] >> (at % 8) & 1);
            for (place, value) in values.iter().enumerate() {
                let read =
                    (0..usize::from(bits)).map(|i| bit(place * usize::from(bits) + i) << i).sum::<u32>();
                assert_eq!(read, *value, "{bits} bits");
            }
            let read = RingVector::from_packed(bits, values.len(), &packed).expect("good");
            assert_eq!(read.to_values(), values);
            assert!(RingVector::from_packed(bits, values.len(), &packed[1..]).is_err());
            assert!(RingVector::from_packed(bits, values.len(), &[&packed[..], &[0]].concat()).is_err());
            let used = values.len() * usize::from(bits) % 8;
            if used != 0 {
                let mut dirty = packed;
                *dirty.last_mut().expect("not empty") |= 0x80;
                assert!(RingVector::from_packed(bits, values.len(), &dirty).is_err(), "{bits} bits");
            }
            widths.insert(bits);
        }
        assert_eq!(widths.len(), super::WIDTHS.len());
        for case in list(&stored["forms"]["bitmaps"]) {
            let members = number(&case["members"]) as u32;
            let set = Bitmap::from_bytes(members, &raw(&case["bytes"])).expect("good");
            let indices: Vec<u32> = list(&case["indices"]).iter().map(|index| number(index) as u32).collect();
            assert_eq!(set.indices().collect::<Vec<_>>(), indices);
        }
    }

    #[test]
    fn paths_lead_to_their_roots_and_corrupted_ones_do_not() {
        let stored = stored();
        let mut checked = 0;
        for tree in list(&stored["forms"]["trees"]) {
            let (leaves, root) = (list(&tree["leaves"]), array::<32>(&tree["root"]));
            for (place, (data, path)) in leaves.iter().zip(list(&tree["paths"])).enumerate() {
                let path: Vec<[u8; 32]> = list(path).iter().map(array).collect();
                let leaf = merkle::leaf(&raw(data));
                let leads = |leaf: &[u8; 32], place: usize, path: &[[u8; 32]]| {
                    merkle::root_from_path(leaf, place, leaves.len(), path) == Some(root)
                };
                assert!(leads(&leaf, place, &path));
                assert!(!leads(&merkle::leaf(b"another"), place, &path));
                assert!(!leads(&leaf, place, &[&path[..], &[[0; 32]]].concat()), "a longer path");
                assert!(leaves.len() == 1 || !leads(&leaf, place ^ 1, &path), "another place");
                for sibling in 0..path.len() {
                    let mut altered = path.clone();
                    altered[sibling][31] ^= 1;
                    assert!(!leads(&leaf, place, &altered));
                }
                checked += 1;
            }
        }
        assert_eq!(checked, 1 + 2 + 3 + 4 + 5 + 7);
    }

    #[test]
    fn every_field_of_the_context_changes_it() {
        let stored = stored();
        let contexts: BTreeSet<String> =
            list(&stored["forms"]["contexts"]).iter().map(|case| case["context"].to_string()).collect();
        assert_eq!(contexts.len(), 14);
    }

    #[test]
    fn the_receiver_opens_the_seal_and_the_other_side_has_the_same_mask_key() {
        let stored = stored();
        let context = Context::from_bytes(array(&stored["round"]["context"]));
        let seal = &stored["forms"]["seal"];
        let id = |value: &Value| ClientId(value.as_str().expect("a string").parse().expect("a number"));
        let receiver = StaticSecret::from(array::<32>(&seal["secret_of_receiver"]));
        let sender = StaticSecret::from(array::<32>(&seal["secret_of_sender"]));
        let public = x25519_dalek::PublicKey::from(&sender);
        let channel =
            Channel::agree(&context, &receiver, id(&seal["to"]), id(&seal["from"]), public.as_bytes());
        let channel = channel.expect("contributes");
        assert_eq!(channel.opening.as_bytes(), &array::<32>(&seal["sealing_key"]));
        assert_eq!(channel.sealing.as_bytes(), &array::<32>(&seal["opening_key"]));
        let (self_mask, mask_key) =
            channel.opening.open(&context, &array(&seal["ciphertext"])).expect("sealed for it");
        assert_eq!(*self_mask.to_bytes(), array::<32>(&seal["share_of_self_mask"]));
        assert_eq!(*mask_key.to_bytes(), array::<32>(&seal["share_of_mask_key"]));
        // Sealed to the receiver, it is not sealed by it.
        assert!(channel.sealing.open(&context, &array(&seal["ciphertext"])).is_none());

        let keys = &stored["forms"]["mask_keys"];
        let other = SecretScalar::from_canonical(&array(&keys["other_secret"])).expect("canonical");
        let point = mask_point(&array(&keys["public"])).expect("a point");
        let key = pair_mask_key(&context, &other, id(&keys["other"]), id(&keys["own"]), &point);
        assert_eq!(key.as_bytes(), &array::<32>(&keys["pair_mask_key"]));
        let polynomial = Polynomial::new(other, 1, SecretScalar::default);
        assert_eq!(polynomial.commit().secret(), &array::<32>(&keys["other_public"]));
    }
}
