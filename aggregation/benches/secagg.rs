//! Benchmarks of the secure sum.
fn main() {}
