//! Evidence that crosses crates: layering, whole rounds, command lines.
