//! What secure aggregation reads besides whole messages: points, packed vectors, bitmaps, paths, keys, stored secrets, and the
//! envelopes that a neighbour may fill as it likes. Must never take a length from the bytes without comparing it with theirs.

use super::{Decoder, envelope, journal, number, stored};
use tacit_aggregation::bitmap::Bitmap;
use tacit_aggregation::client::RoundSecrets;
use tacit_aggregation::identity::{PublicKey, Signature};
use tacit_aggregation::merkle;
use tacit_aggregation::params::{Floors, RoundParams, TaskName};
use tacit_aggregation::ring_vector::{RingVector, check_packed, packed_bytes};
use tacit_aggregation::shamir::Commitments;

pub(super) const DECODERS: &[Decoder] = &[
    Decoder { name: "bitmap", longest: 4 << 10, check: bitmap },
    Decoder { name: "client_journal", longest: 32 << 10, check: journal::client },
    Decoder { name: "commitments", longest: 4 << 10, check: commitments },
    Decoder { name: "envelope", longest: 80, check: envelope::check },
    Decoder { name: "merkle_path", longest: 2 << 10, check: merkle_path },
    Decoder { name: "ring_vector", longest: 16 << 10, check: ring_vector },
    Decoder { name: "round_params", longest: 1 << 10, check: round_params },
    Decoder { name: "round_secrets", longest: 128, check: round_secrets },
    Decoder { name: "server_journal", longest: 32 << 10, check: journal::server },
    Decoder { name: "signature", longest: 1 << 10, check: signature },
    Decoder { name: "task_name", longest: 100, check: task_name },
];

/// Members (four bytes), then the set.
fn bitmap(mut bytes: &[u8]) -> bool {
    let Some(members) = number(&mut bytes) else { return false };
    let Ok(set) = Bitmap::from_bytes(members, bytes) else { return false };
    assert_eq!((set.as_bytes(), set.members()), (bytes, members));
    let indices: Vec<u32> = set.indices().collect();
    assert_eq!(indices.len() as u32, set.count());
    assert!(indices.iter().all(|&index| index < members && set.contains(index)));
    assert_eq!(Bitmap::from_indices(members, indices), set);
    assert!(!set.contains(members));
    true
}

/// Points of 32 bytes, one after the other.
fn commitments(bytes: &[u8]) -> bool {
    let (points, rest) = bytes.as_chunks::<32>();
    let Ok(commitments) = Commitments::from_bytes(points.to_vec()) else { return false };
    assert_eq!(commitments.as_bytes(), points, "each point has one encoding");
    assert_eq!((commitments.threshold(), commitments.secret()), (points.len(), &points[0]));
    assert!(!points.contains(&[0; 32]), "the identity would lower the threshold");
    rest.is_empty()
}

/// Leaf (32 bytes), place, size, and siblings of 32 bytes.
fn merkle_path(bytes: &[u8]) -> bool {
    let Some((leaf, mut rest)) = bytes.split_first_chunk::<32>() else { return false };
    let (Some(place), Some(size)) = (number(&mut rest), number(&mut rest)) else { return false };
    let path = rest.as_chunks::<32>().0;
    let Some(root) = merkle::root_from_path(leaf, place as usize, size as usize, path) else { return false };
    assert!(place < size && path.len() <= 32);
    // A path of another length proves nothing, and no sibling can be exchanged.
    let mut longer = path.to_vec();
    longer.push([0; 32]);
    assert_eq!(merkle::root_from_path(leaf, place as usize, size as usize, &longer), None);
    if let Some(last) = longer.len().checked_sub(2) {
        longer.pop();
        longer[last][0] ^= 1;
        assert_ne!(merkle::root_from_path(leaf, place as usize, size as usize, &longer), Some(root));
    }
    true
}

/// Bits (one byte), dimension (four bytes), then the packed vector.
fn ring_vector(bytes: &[u8]) -> bool {
    let Some((&bits, mut rest)) = bytes.split_first() else { return false };
    let Some(dimension) = number(&mut rest) else { return false };
    let dimension = dimension as usize;
    let Ok(vector) = RingVector::from_packed(bits, dimension, rest) else { return false };
    assert_eq!((vector.bits(), vector.dimension()), (bits, dimension));
    assert_eq!(rest.len(), packed_bytes(bits, dimension));
    assert_eq!(check_packed(bits, dimension, rest), Ok(()));
    assert_eq!(vector.to_packed(), rest, "each vector has one packed form");
    let values = vector.to_values();
    assert_eq!(RingVector::new(bits, &values).as_ref(), Ok(&vector));
    let mut twice = vector.clone();
    twice.add_packed(rest).expect("the same shape");
    let doubled = |value: &u32| ((u64::from(*value) << 1) & ((1 << bits) - 1)) as u32;
    assert_eq!(twice.to_values(), values.iter().map(doubled).collect::<Vec<_>>());
    true
}

/// Stored parameters of a round.
fn round_params(bytes: &[u8]) -> bool {
    if let Some(floors) = stored::either::<Floors>(bytes) {
        let _ = format!("{floors:?}");
    }
    let Some(params) = stored::either::<RoundParams>(bytes) else { return false };
    let _ = (params.corrupt(), params.dropouts(), params.honest_minimum());
    if params.n <= 64 && params.validate().is_ok() {
        let _ = (params.quorum(), params.packed_bytes(), params.needs_all_adverts());
    }
    true
}

fn round_secrets(bytes: &[u8]) -> bool {
    let Ok(stored) = bytes.try_into() else { return false };
    let Some(secrets) = RoundSecrets::from_bytes(stored) else { return false };
    assert_eq!(*secrets.to_bytes(), *stored, "each has one stored form");
    assert_eq!(format!("{secrets:?}"), "RoundSecrets(redacted)");
    true
}

/// Public key, signature, and what is signed.
fn signature(bytes: &[u8]) -> bool {
    let Some((key, rest)) = bytes.split_first_chunk::<32>() else { return false };
    let Some((signature, payload)) = rest.split_first_chunk::<64>() else { return false };
    let (key, signature) = (PublicKey(*key), Signature(*signature));
    if !key.verify(payload, &signature) {
        return false;
    }
    // It is over these bytes alone, and has no second form.
    assert!(!key.verify(&[payload, &[0]].concat(), &signature));
    let mut other = signature;
    other.0[63] ^= 0x10;
    assert!(!key.verify(payload, &other));
    true
}

fn task_name(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(name) = TaskName::new(text) else { return false };
    assert_eq!(name.as_str(), text);
    assert!((1..=64).contains(&text.len()) && text.is_ascii());
    true
}
