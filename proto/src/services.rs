//! The gRPC services: traits for whoever serves them, and clients for whoever calls them, over domain types. Must never hold
//! logic: `tonic-build` makes them, and a test keeps them so.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::panic, clippy::unwrap_used)]

/// Orders from operators; see `admin.proto`.
pub mod admin {
    include!("generated/tacit.v1.Admin.rs");
}

/// Takes machines in; see `enrolment.proto`.
pub mod enrolment {
    include!("generated/tacit.v1.Enrolment.rs");
}

/// Rounds and adapters; see `fleet.proto`.
pub mod fleet {
    include!("generated/tacit.v1.Fleet.rs");
}

/// Descriptors of all .proto files, for reflection: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/tacit.v1.bin");
