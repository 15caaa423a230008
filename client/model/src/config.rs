//! The shape of a Llama-architecture decoder, as `config.json` of the Hugging Face layout says it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// The shape and constants of a decoder; field names are those of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Always `["LlamaForCausalLM"]`.
    pub architectures: Vec<String>,
    /// Always `llama`.
    pub model_type: String,
    /// Token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads (grouped-query attention).
    pub num_key_value_heads: usize,
    /// Positions that the model was trained on.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every normalisation.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// The head reuses the embedding.
    pub tie_word_embeddings: bool,
    /// The activation of the feed-forward gate; only `silu`.
    pub hidden_act: String,
    /// End-of-text token, also the padding of nothing: sequences are packed.
    pub eos_token_id: u32,
    /// Start-of-text token; the same as the end.
    pub bos_token_id: u32,
    /// The type of the stored weights.
    #[serde(default = "default_dtype", alias = "torch_dtype")]
    pub dtype: String,
}

fn default_rope_theta() -> f64 {
    10_000.0
}

fn default_dtype() -> String {
    "float16".to_owned()
}

impl DecoderConfig {
    /// A decoder of the given shape with the constants that this project trains with.
    pub fn new(
        vocabulary: usize,
        hidden: usize,
        layers: usize,
        heads: usize,
        key_value_heads: usize,
        feed_forward: usize,
    ) -> Self {
        Self {
            architectures: vec!["LlamaForCausalLM".to_owned()],
            model_type: "llama".to_owned(),
            vocab_size: vocabulary,
            hidden_size: hidden,
            intermediate_size: feed_forward,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            max_position_embeddings: 256,
            rms_norm_eps: 1e-5,
            rope_theta: default_rope_theta(),
            tie_word_embeddings: true,
            hidden_act: "silu".to_owned(),
            eos_token_id: 0,
            bos_token_id: 0,
            dtype: default_dtype(),
        }
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not this JSON, or describes a model that this crate cannot run exactly.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
        let config: Self = serde_json::from_str(&text).map_err(|e| ModelError::config(path, e))?;
        config.validate().map_err(|reason| ModelError::config(path, reason))?;
        Ok(config)
    }

    /// Says why this shape cannot be run, if it cannot.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(format!("{name} is 0, but it must be positive"));
            }
        }
        if self.model_type != "llama" {
            return Err(format!("model_type is `{}`, but only `llama` is supported", self.model_type));
        }
        if self.hidden_act != "silu" {
            return Err(format!("hidden_act is `{}`, but only `silu` is supported", self.hidden_act));
        }
        if !self.tie_word_embeddings {
            return Err("tie_word_embeddings is false, but only tied heads are supported".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) || !self.head_size().is_multiple_of(2) {
            return Err(format!(
                "hidden_size {} does not split into {} heads of even size",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "num_key_value_heads {} does not divide num_attention_heads {}",
                self.num_key_value_heads, self.num_attention_heads
            ));
        }
        if !(self.rms_norm_eps > 0.0 && self.rope_theta > 0.0) {
            return Err("rms_norm_eps and rope_theta must be positive".to_owned());
        }
        Ok(())
    }

    /// Width of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of all key heads together (the same for values).
    pub fn key_value_size(&self) -> usize {
        self.head_size() * self.num_key_value_heads
    }
}
