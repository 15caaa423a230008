//! `tacit-audit`: verify offline what privacy was spent. Must never trust the machine that it audits.

fn main() {}
