//! A Llama-architecture decoder: embedding, blocks, final normalisation, tied head.
//!
//! Holds frozen weights and runs them forward; it must never know about files, text or optimisers.

use burn::tensor::{Device, Distribution, Int, Tensor};

use crate::config::DecoderConfig;
use crate::fused;
use crate::generate::cache::{KeyValueCache, LayerCache};
use crate::lora::{AdapterTensors, LayerTensors, Projection};
use crate::rope::Rotary;

/// Value added to the score of a position that must not be seen.
const MASKED: f32 = -1e9;

/// One block: attention and a gated feed-forward layer, each behind a normalisation and a residual.
///
/// Matrices are `[input, output]`, normalisation gains `[1, hidden]`.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) attention_norm: Tensor<2>,
    pub(crate) query: Tensor<2>,
    pub(crate) key: Tensor<2>,
    pub(crate) value: Tensor<2>,
    pub(crate) output: Tensor<2>,
    pub(crate) feed_forward_norm: Tensor<2>,
    pub(crate) gate: Tensor<2>,
    pub(crate) up: Tensor<2>,
    pub(crate) down: Tensor<2>,
}

/// The whole decoder on one device.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) config: DecoderConfig,
    /// `[vocabulary, hidden]`, also the head.
    pub(crate) embedding: Tensor<2>,
    pub(crate) blocks: Vec<Block>,
    /// `[1, hidden]`.
    pub(crate) norm: Tensor<2>,
    rotary: Rotary,
}

/// What is constant over the blocks of one forward pass.
struct Pass {
    batch: usize,
    length: usize,
    rotary: Rotary,
    /// `[1, 1, group * length, past + length]`, absent when one new position sees everything.
    mask: Option<Tensor<4>>,
}

impl Block {
    fn random(config: &DecoderConfig, device: &Device) -> Self {
        let hidden = config.hidden_size;
        let normal =
            |input, output, std| Tensor::random([input, output], Distribution::Normal(0.0, std), device);
        let std = 1.0 / (hidden as f64).sqrt();
        // The two matrices that write to the residual stream start smaller, so that depth does not add variance.
        let writer = std / (2.0 * config.num_hidden_layers as f64).sqrt();
        Self {
            attention_norm: Tensor::ones([1, hidden], device),
            query: normal(hidden, hidden, std),
            key: normal(hidden, config.key_value_size(), std),
            value: normal(hidden, config.key_value_size(), std),
            output: normal(hidden, hidden, writer),
            feed_forward_norm: Tensor::ones([1, hidden], device),
            gate: normal(hidden, config.intermediate_size, std),
            up: normal(hidden, config.intermediate_size, std),
            down: normal(config.intermediate_size, hidden, writer),
        }
    }

    pub(crate) fn tensors_mut(&mut self) -> [&mut Tensor<2>; 9] {
        [
            &mut self.attention_norm,
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.output,
            &mut self.feed_forward_norm,
            &mut self.gate,
            &mut self.up,
            &mut self.down,
        ]
    }

    fn forward(
        &self,
        config: &DecoderConfig,
        x: Tensor<2>,
        pass: &Pass,
        adapter: Option<&LayerTensors>,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<2> {
        let normed = rms_norm(x.clone(), &self.attention_norm, config.rms_norm_eps);
        let x = x + self.attend(config, normed, pass, adapter, cache);
        let normed = rms_norm(x.clone(), &self.feed_forward_norm, config.rms_norm_eps);
        let gate = linear(normed.clone(), &self.gate, Projection::Gate, adapter);
        let up = linear(normed, &self.up, Projection::Up, adapter);
        x + linear(fused::gated(gate, up), &self.down, Projection::Down, adapter)
    }

    fn attend(
        &self,
        config: &DecoderConfig,
        x: Tensor<2>,
        pass: &Pass,
        adapter: Option<&LayerTensors>,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<2> {
        let (batch, length) = (pass.batch, pass.length);
        let (heads, groups, size) =
            (config.num_attention_heads, config.num_key_value_heads, config.head_size());
        let split = |y: Tensor<2>, heads: usize| y.reshape([batch, length, heads, size]).swap_dims(1, 2);
        let query = split(linear(x.clone(), &self.query, Projection::Query, adapter), heads);
        let key = split(linear(x.clone(), &self.key, Projection::Key, adapter), groups);
        let value = split(linear(x, &self.value, Projection::Value, adapter), groups);
        // The scale on the queries is one multiplication on the smallest operand.
        let query = pass.rotary.apply(query) * (1.0 / (size as f64).sqrt());
        let key = pass.rotary.apply(key);
        let (key, value) = match cache {
            Some(cache) => cache.extend(key, value),
            None => (key, value),
        };
        // Grouped-query attention: the query heads of a group lie behind each other and share keys and values.
        let query = query.reshape([batch, groups, heads / groups * length, size]);
        let scores = query.matmul(key.swap_dims(2, 3));
        let scores = match &pass.mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let mixed = fused::softmax(scores).matmul(value);
        let mixed = mixed.reshape([batch, heads, length, size]).swap_dims(1, 2);
        linear(mixed.reshape([batch * length, heads * size]), &self.output, Projection::Output, adapter)
    }
}

impl Decoder {
    /// Random weights for training from nothing; the device's own generator must have been seeded.
    pub(crate) fn random(config: DecoderConfig, device: &Device) -> Self {
        let std = 1.0 / (config.hidden_size as f64).sqrt();
        let embedding =
            Tensor::random([config.vocab_size, config.hidden_size], Distribution::Normal(0.0, std), device);
        let blocks = (0..config.num_hidden_layers).map(|_| Block::random(&config, device)).collect();
        let norm = Tensor::ones([1, config.hidden_size], device);
        Self::new(config, embedding, blocks, norm)
    }

    /// Assembles a decoder; the shapes must be those of `config`.
    pub(crate) fn new(
        config: DecoderConfig,
        embedding: Tensor<2>,
        blocks: Vec<Block>,
        norm: Tensor<2>,
    ) -> Self {
        let device = embedding.device();
        let rotary =
            Rotary::new(config.head_size(), config.max_position_embeddings, config.rope_theta, &device);
        Self { config, embedding, blocks, norm, rotary }
    }

    /// The shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The device that holds the weights.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// The same weights as constants of an autodiff graph: no gradient is computed for them.
    #[must_use]
    pub fn autodiff(&self) -> Self {
        let mut copy = self.clone();
        for tensor in copy.tensors_mut() {
            *tensor = tensor.clone().autodiff();
        }
        copy.rotary = copy.rotary.autodiff();
        copy
    }

    /// Every weight, in a fixed order: embedding, blocks, final normalisation.
    pub(crate) fn tensors_mut(&mut self) -> Vec<&mut Tensor<2>> {
        let mut tensors = vec![&mut self.embedding];
        tensors.extend(self.blocks.iter_mut().flat_map(Block::tensors_mut));
        tensors.push(&mut self.norm);
        tensors
    }

    /// Final hidden states `[batch * length, hidden]` of `tokens`, `[batch, length]`.
    ///
    /// With a cache the tokens continue what the cache holds.
    ///
    /// # Panics
    /// When past and new positions together exceed `max_position_embeddings`.
    pub(crate) fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        adapter: Option<&AdapterTensors>,
        mut cache: Option<&mut KeyValueCache>,
    ) -> Tensor<2> {
        let [batch, length] = tokens.dims();
        let past = cache.as_ref().map_or(0, |cache| cache.length());
        let pass = Pass {
            batch,
            length,
            rotary: self.rotary.window(past, length),
            mask: (length > 1).then(|| self.causal_mask(past, length)),
        };
        let mut x = self.embedding.clone().select(0, tokens.reshape([batch * length]));
        for (index, block) in self.blocks.iter().enumerate() {
            let layer = adapter.map(|adapter| adapter.layer(index));
            let layer_cache = cache.as_mut().map(|cache| cache.layer_mut(index));
            x = block.forward(&self.config, x, &pass, layer, layer_cache);
        }
        rms_norm(x, &self.norm, self.config.rms_norm_eps)
    }

    /// Logits `[rows, vocabulary]` of hidden states `[rows, hidden]`.
    pub(crate) fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.matmul(self.embedding.clone().transpose())
    }

    /// Logits `[batch * length, vocabulary]` of `tokens`, `[batch, length]`.
    pub fn forward(&self, tokens: Tensor<2, Int>, adapter: Option<&AdapterTensors>) -> Tensor<2> {
        self.logits(self.hidden(tokens, adapter, None))
    }

    fn causal_mask(&self, past: usize, length: usize) -> Tensor<4> {
        let group = self.config.num_attention_heads / self.config.num_key_value_heads;
        let total = past + length;
        let values: Vec<f32> = (0..group * length)
            .flat_map(|row| (0..total).map(move |column| (row % length, column)))
            .map(|(row, column)| if column <= past + row { 0.0 } else { MASKED })
            .collect();
        let data = burn::tensor::TensorData::new(values, [1, 1, group * length, total]);
        Tensor::from_data(data, &self.device())
    }
}

/// `x W`, plus the adapter's `(x A) B` where this projection is adapted; `x` is `[rows, input]`.
fn linear(
    x: Tensor<2>,
    weight: &Tensor<2>,
    projection: Projection,
    adapter: Option<&LayerTensors>,
) -> Tensor<2> {
    match adapter.and_then(|adapter| adapter.get(projection)) {
        None => x.matmul(weight.clone()),
        Some(factors) => {
            let low_rank = x.clone().matmul(factors.scaled_a.clone()).matmul(factors.b.clone());
            x.matmul(weight.clone()) + low_rank
        }
    }
}

/// Root-mean-square normalisation of each row, times the gain `[1, hidden]`.
fn rms_norm(x: Tensor<2>, gain: &Tensor<2>, epsilon: f64) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    let inverse = (mean_square + epsilon).sqrt().recip();
    x * inverse * gain.clone()
}
