//! The whole protocol, both sides: honest rounds, hostile servers, hostile clients, and vectors for other implementations.
#![allow(clippy::panic, reason = "a failed check panics in a test")]

mod fleet;
mod honest;
mod hostile_client;
mod hostile_keys;
mod hostile_replay;
mod hostile_server;
mod model;
mod resume;
mod roster;
mod secrecy;
mod uniformity;
