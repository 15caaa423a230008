//! The crate and its command from outside. Must never reach past the public interface.

#[cfg(feature = "cli")]
mod audit;
mod pipeline;
