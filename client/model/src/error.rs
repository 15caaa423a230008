//! The errors of this crate, in the words of its users; it must never wrap an error without saying which file or value it was.

use std::path::PathBuf;

/// What can go wrong with models, adapters, text and training.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// `config.json` or `adapter_config.json` is not what this crate can run.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A safetensors file is damaged, cut short or lacks a tensor.
    #[error("{path}: {reason}; fetch the file again or check that it was copied whole")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer could not be loaded, trained or applied.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A number that the caller gave cannot work.
    #[error("{name} is {value}, but it must be {wanted}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: String,
        /// What is accepted.
        wanted: String,
    },
    /// There is no text to learn from or to measure on.
    #[error("{0}")]
    NoText(String),
    /// A loss or a weight stopped being a number.
    #[error("training diverged at step {step}: the loss is {loss}; use a lower learning rate")]
    Diverged {
        /// The local step.
        step: usize,
        /// The loss in nats per token.
        loss: f64,
    },
    /// Training was stopped.
    #[error("training was stopped before step {step}")]
    Interrupted {
        /// The local step.
        step: usize,
    },
    /// No such compute device.
    #[error("device `{0}` is not available; use `cpu`, or build with `--features wgpu` for `gpu`")]
    Device(String),
    /// The tensor library reported a failure.
    #[error("tensor library: {0}")]
    Tensor(String),
}

impl ModelError {
    /// An input/output error with its file.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// A damaged weights file.
    pub(crate) fn weights(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Weights { path: path.into(), reason: reason.to_string() }
    }

    /// A configuration that cannot be run.
    pub(crate) fn config(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Config { path: path.into(), reason: reason.to_string() }
    }

    /// A setting outside its range.
    pub(crate) fn setting(name: &'static str, value: impl ToString, wanted: impl ToString) -> Self {
        Self::Setting { name, value: value.to_string(), wanted: wanted.to_string() }
    }
}
