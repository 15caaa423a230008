//! Evidence that crosses crates, in one binary: each module is one kind of it.

mod connections;
mod decoders;
mod layering;
mod network;
mod publication;
mod rounds;
mod simulation;
