//! The identity root's work, done offline: it makes the organisation's one key, takes clients in, and shuts them out.
//! Must never be called by the process that serves: whoever holds this key decides who is a client.

pub mod office;
pub mod x509;

pub use office::{Admission, Issued, Office, OfficeError, Revocations};
