//! The public seed of the rotation. It is no secret: every client of a cohort and the coordinator know it.
//! Must never be used for noise, whose generator is keyed by fresh operating-system randomness.

use serde::{Deserialize, Serialize};

/// Seed of the random signs of one round's rotation, the same for the whole cohort.
///
/// The protocol derives it from the cohort root, so that nobody can choose it after seeing an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RotationSeed(pub [u8; 32]);
