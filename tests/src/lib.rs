//! Evidence that crosses crates: layering, whole rounds, command lines, and what a finished demo must have left behind.

pub mod report;
