//! Known answers for other implementations. Holds tests only; must never hold code that the protocol uses.

mod forms;
mod root;
mod tests;
