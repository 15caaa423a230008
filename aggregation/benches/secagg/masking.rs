//! A client's masks against bare AES-256-CTR over the same bytes.

use crate::limits::{bare_keystream, fastest, say};
use tacit_aggregation::mask::{Mask, MaskKey, Sign, apply};
use tacit_aggregation::ring_vector::RingVector;

const DIMENSION: usize = 1 << 20;
const NEIGHBOURS: usize = 100;
const BITS: u8 = 16;

/// Prints the ratio for d = 2^20, b = 16, k = 100.
pub(crate) fn report() {
    let masks: Vec<Mask> = (0..=NEIGHBOURS)
        .map(|index| Mask {
            key: MaskKey::from_bytes([index as u8; 32]),
            sign: if index % 2 == 0 { Sign::Add } else { Sign::Subtract },
        })
        .collect();
    let mut vector = RingVector::zeros(BITS, DIMENSION).expect("in range");
    let (mut masked, mut bare) = (std::time::Duration::MAX, std::time::Duration::MAX);
    // In turns, so that both meet the same machine.
    for _ in 0..10 {
        masked = masked.min(fastest(1, || apply(&mut vector, &masks)));
        bare = bare.min(fastest(1, || bare_keystream(masks.len(), 2 * DIMENSION)));
    }
    let rate = |time: std::time::Duration| (masks.len() * DIMENSION * 2) as f64 / time.as_secs_f64() / 1e9;
    say(&format!(
        "client masks, d = 2^20, b = 16, k = 100: {masked:.1?} ({:.1} GB/s); bare AES-256-CTR {bare:.1?} ({:.1} GB/s); \
         ratio {:.2} (limit 1.25)",
        rate(masked),
        rate(bare),
        masked.as_secs_f64() / bare.as_secs_f64()
    ));
}
