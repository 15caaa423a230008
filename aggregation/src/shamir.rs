//! Shamir's secret sharing over the scalar field of Ristretto255, with Feldman's commitments. Must never branch on a
//! secret, nor evaluate a polynomial at zero.

mod commitments;

pub use commitments::{CommitmentError, Commitments};
