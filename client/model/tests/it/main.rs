//! Evidence for the model crate: gradients, equivalences, files, determinism.
#![allow(clippy::unwrap_used, missing_docs)]

mod files;
mod fixture;
mod gradients;
mod inference;
mod learning;
mod reference;
