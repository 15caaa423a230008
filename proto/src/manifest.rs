//! A signed manifest of an adapter version, as it travels. Must never be trusted before its signature was checked.

/// Longest signed manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 16 << 10;

/// The bytes of a signed manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestBytes(pub Vec<u8>);
