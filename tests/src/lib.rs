//! Evidence that crosses crates: layering, whole rounds, command lines, decoders of foreign bytes, and what a finished demo must
//! have left behind.

pub mod decoders;
pub mod report;
