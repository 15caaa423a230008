//! Base model, LoRA adapters, tokenizer, training and generation: the only crate of Tacit that knows tensors.
//!
//! It never speaks to a network, never knows what privacy costs, and never sees another machine's data.

pub mod base;
pub mod config;
pub mod dataset;
pub mod decoder;
pub mod device;
pub mod error;
pub mod evaluate;
mod fused;
pub mod generate;
mod kernel;
pub mod lora;
pub mod loss;
pub mod pretrain;
mod rope;
pub mod storage;
pub mod tokenizer;
pub mod train;

pub use base::BaseModel;
pub use config::DecoderConfig;
pub use decoder::Decoder;
pub use device::Compute;
pub use error::ModelError;
pub use generate::Choice;
pub use lora::{Adapter, AdapterTensors, LoraConfig, Projection};
pub use tokenizer::Tokenizer;
pub use train::{LocalTraining, LocalUpdate, Trainer};
