//! The identity root's work, done offline: it makes the organisation's one key, takes clients in, and shuts them out.
//! The process that serves must never open an [`Office`]: whoever holds its key decides who is a client.
//!
//! What the root hands out crosses to the server as files of the [`forms`], which the server checks against the root's public key.

mod folder;
pub mod forms;
pub mod office;
mod restarts;
pub mod x509;

pub use folder::FolderError;
pub use forms::{Admission, Appointment, Issued, Revocations, Roll};
pub use office::{EpochRequest, Office, OfficeError};
pub use restarts::{RestartForm, RestoredHead};
