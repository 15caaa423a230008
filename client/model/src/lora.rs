//! LoRA adapters (Hu et al. 2021) with a frozen first factor (FFA-LoRA, Sun et al. 2024).
//!
//! `A` is drawn from a public seed and never trained; only `B` is trained and sent, so a sum of updates is
//! exactly the update of the sum. An adapter is therefore one flat vector: for each layer from the first, for
//! each adapted projection in the order of [`Projection`], `B` as `[rank, output]`, row-major.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use std::str::FromStr;

use crate::config::DecoderConfig;
use crate::error::ModelError;

/// The largest rank accepted; far above what helps, far below what would exhaust memory.
const MAX_RANK: usize = 256;

/// A matrix of a decoder block that an adapter may extend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Projection {
    /// `q_proj`
    #[serde(rename = "q_proj")]
    Query,
    /// `k_proj`
    #[serde(rename = "k_proj")]
    Key,
    /// `v_proj`
    #[serde(rename = "v_proj")]
    Value,
    /// `o_proj`
    #[serde(rename = "o_proj")]
    Output,
    /// `gate_proj`
    #[serde(rename = "gate_proj")]
    Gate,
    /// `up_proj`
    #[serde(rename = "up_proj")]
    Up,
    /// `down_proj`
    #[serde(rename = "down_proj")]
    Down,
}

impl Projection {
    /// All of them, in the order of the flat vector.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Path of the module inside a block, as the Hugging Face layout names it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Its name in plans, scenarios and `adapter_config.json`: the last part of the path.
    pub fn name(self) -> &'static str {
        self.module().rsplit('.').next().unwrap_or_default()
    }

    /// `(input, output)` widths.
    pub fn shape(self, config: &DecoderConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        match self {
            Self::Query | Self::Output => (hidden, hidden),
            Self::Key | Self::Value => (hidden, config.key_value_size()),
            Self::Gate | Self::Up => (hidden, config.intermediate_size),
            Self::Down => (config.intermediate_size, hidden),
        }
    }
}

impl FromStr for Projection {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let known = Self::ALL.into_iter().find(|projection| projection.name() == name);
        known.ok_or_else(|| ModelError::setting("projection", name, Self::ALL.map(Self::name).join(", ")))
    }
}

/// The public shape of an adapter; everyone who knows it can rebuild `A`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Width of the bottleneck.
    pub rank: usize,
    /// The adapter's output is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The matrices that are adapted, in every block.
    pub targets: Vec<Projection>,
    /// Seed of the frozen factors.
    pub seed: u64,
}

/// An adapter: its shape and the flat vector of its trained factors.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    config: LoraConfig,
    flat: Vec<f32>,
}

/// Both factors of one adapted matrix: `A [input, rank]` already multiplied by `alpha / rank`, `B [rank, output]`.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    pub(crate) scaled_a: Tensor<2>,
    pub(crate) b: Tensor<2>,
}

/// The adapted matrices of one block.
#[derive(Debug, Clone, Default)]
pub struct LayerTensors {
    factors: [Option<Factors>; 7],
}

/// An adapter on a device, ready to be hot-swapped into a forward pass.
#[derive(Debug, Clone)]
pub struct AdapterTensors {
    layers: Vec<LayerTensors>,
}

impl LoraConfig {
    /// Checks the shape against a model and puts the targets in canonical order.
    ///
    /// # Errors
    /// When rank, alpha or targets cannot work.
    pub fn validated(mut self, model: &DecoderConfig) -> Result<Self, ModelError> {
        if self.rank == 0 || self.rank > MAX_RANK.min(model.hidden_size) {
            let wanted = format!("between 1 and {}", MAX_RANK.min(model.hidden_size));
            return Err(ModelError::setting("lora.rank", self.rank, wanted));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(ModelError::setting("lora.alpha", self.alpha, "positive"));
        }
        if self.targets.is_empty() {
            return Err(ModelError::setting(
                "lora.targets",
                "empty",
                "at least one projection such as q_proj",
            ));
        }
        self.targets.sort_unstable();
        self.targets.dedup();
        Ok(self)
    }

    /// Length of the flat vector.
    pub fn dimension(&self, model: &DecoderConfig) -> usize {
        let per_layer: usize = self.targets.iter().map(|target| target.shape(model).1 * self.rank).sum();
        per_layer * model.num_hidden_layers
    }

    /// The frozen factor `A` of one matrix, `[input, rank]` row-major, uniform with variance `1 / input`.
    ///
    /// A function of the seed and the place alone, the same on every machine.
    pub fn frozen_factor(&self, model: &DecoderConfig, layer: usize, target: Projection) -> Vec<f32> {
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed);
        rng.set_stream((layer * Projection::ALL.len() + target as usize) as u64);
        let (input, _) = target.shape(model);
        let bound = (3.0 / input as f32).sqrt();
        (0..input * self.rank).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect()
    }

    /// `(layer, target, start, length)` of every factor `B` in the flat vector.
    pub(crate) fn places(&self, model: &DecoderConfig) -> Vec<(usize, Projection, usize, usize)> {
        let mut start = 0;
        let mut places = Vec::with_capacity(model.num_hidden_layers * self.targets.len());
        for layer in 0..model.num_hidden_layers {
            for &target in &self.targets {
                let length = target.shape(model).1 * self.rank;
                places.push((layer, target, start, length));
                start += length;
            }
        }
        places
    }
}

impl Adapter {
    /// The adapter that changes nothing: every `B` is zero.
    ///
    /// # Errors
    /// When the shape does not fit the model.
    pub fn zeros(config: LoraConfig, model: &DecoderConfig) -> Result<Self, ModelError> {
        let config = config.validated(model)?;
        let flat = vec![0.0; config.dimension(model)];
        Ok(Self { config, flat })
    }

    /// An adapter from its flat vector.
    ///
    /// # Errors
    /// When the shape does not fit the model, the length is wrong or a value is not finite.
    pub fn from_flat(config: LoraConfig, model: &DecoderConfig, flat: Vec<f32>) -> Result<Self, ModelError> {
        let config = config.validated(model)?;
        let dimension = config.dimension(model);
        if flat.len() != dimension {
            return Err(ModelError::setting(
                "adapter length",
                flat.len(),
                format!("{dimension} for this shape"),
            ));
        }
        if let Some(index) = flat.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::setting(
                "adapter value",
                format!("{} at {index}", flat[index]),
                "finite",
            ));
        }
        Ok(Self { config, flat })
    }

    /// The shape.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The trained factors; see the module for the layout.
    pub fn flat(&self) -> &[f32] {
        &self.flat
    }

    pub(crate) fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.flat
    }

    /// Copies the adapter to a device.
    pub fn tensors(&self, model: &DecoderConfig, device: &Device) -> AdapterTensors {
        let mut layers = vec![LayerTensors::default(); model.num_hidden_layers];
        let scale = (self.config.alpha / self.config.rank as f64) as f32;
        for (layer, target, start, length) in self.config.places(model) {
            let (input, output) = target.shape(model);
            let a: Vec<f32> =
                self.config.frozen_factor(model, layer, target).into_iter().map(|v| v * scale).collect();
            let b = self.flat[start..start + length].to_vec();
            layers[layer].factors[target as usize] = Some(Factors {
                scaled_a: Tensor::from_data(TensorData::new(a, [input, self.config.rank]), device),
                b: Tensor::from_data(TensorData::new(b, [self.config.rank, output]), device),
            });
        }
        AdapterTensors { layers }
    }
}

impl LayerTensors {
    pub(crate) fn get(&self, projection: Projection) -> Option<&Factors> {
        self.factors[projection as usize].as_ref()
    }
}

impl AdapterTensors {
    pub(crate) fn layer(&self, index: usize) -> &LayerTensors {
        &self.layers[index]
    }

    /// The trained factors in the order of the flat vector.
    pub(crate) fn trained_mut(&mut self) -> impl Iterator<Item = &mut Tensor<2>> {
        self.layers
            .iter_mut()
            .flat_map(|layer| layer.factors.iter_mut().flatten().map(|factors| &mut factors.b))
    }
}
