//! Greedy and sampled generation with a key-value cache, and fill-in-the-middle.

pub(crate) mod cache;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, RngExt};

use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::lora::AdapterTensors;
use cache::KeyValueCache;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// The most likely token.
    Greedy,
    /// A draw from the distribution.
    Sample {
        /// Divides the logits; below 1 is bolder, above 1 is wilder.
        temperature: f32,
        /// Only the smallest set of tokens with at least this probability together is drawn from (nucleus).
        top_p: f32,
    },
}

impl Choice {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn validate(self) -> Result<(), ModelError> {
        if let Self::Sample { temperature, top_p } = self {
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(ModelError::setting("temperature", temperature, "positive"));
            }
            if !(top_p > 0.0 && top_p <= 1.0) {
                return Err(ModelError::setting("top_p", top_p, "above 0 and at most 1"));
            }
        }
        Ok(())
    }

    fn pick<R: Rng>(self, logits: &[f32], rng: &mut R) -> u32 {
        match self {
            Self::Greedy => most_likely(logits),
            Self::Sample { temperature, top_p } => nucleus(logits, temperature, top_p, rng),
        }
    }
}

fn most_likely(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(index, _)| index as u32)
}

fn nucleus<R: Rng>(logits: &[f32], temperature: f32, top_p: f32, rng: &mut R) -> u32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .map(|(index, &logit)| (index as u32, f64::from((logit - highest) / temperature).exp()))
        .collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut kept = 0.0;
    let mut size = 0;
    while size < weights.len() && kept < f64::from(top_p) * total {
        kept += weights[size].1;
        size += 1;
    }
    let mut point = rng.random::<f64>() * kept;
    for &(index, weight) in &weights[..size] {
        point -= weight;
        if point <= 0.0 {
            return index;
        }
    }
    weights[0].0
}

/// Continues `prompt` by at most `limit` tokens; stops before `stop`.
///
/// The prompt is cut on the left so that prompt and continuation fit into the model's positions.
///
/// # Errors
/// When the prompt is empty, a setting is out of range, or a result cannot be read from the device.
pub fn continue_tokens<R: Rng>(
    decoder: &Decoder,
    adapter: Option<&AdapterTensors>,
    prompt: &[u32],
    limit: usize,
    stop: u32,
    choice: Choice,
    rng: &mut R,
) -> Result<Vec<u32>, ModelError> {
    choice.validate()?;
    let positions = decoder.config().max_position_embeddings;
    if prompt.is_empty() {
        return Err(ModelError::NoText("the prompt has no tokens".to_owned()));
    }
    if limit >= positions {
        return Err(ModelError::setting("tokens to generate", limit, format!("below {positions}")));
    }
    let prompt = &prompt[prompt.len().saturating_sub(positions - limit)..];
    let device = decoder.device();
    let mut cache = KeyValueCache::new(decoder.config().num_hidden_layers);
    let mut written = Vec::with_capacity(limit);
    let mut fresh = prompt.to_vec();
    while written.len() < limit {
        let logits = next_logits(decoder, adapter, &fresh, &mut cache, &device)?;
        let token = choice.pick(&logits, rng);
        if token == stop {
            break;
        }
        written.push(token);
        fresh = vec![token];
    }
    Ok(written)
}

fn next_logits(
    decoder: &Decoder,
    adapter: Option<&AdapterTensors>,
    fresh: &[u32],
    cache: &mut KeyValueCache,
    device: &Device,
) -> Result<Vec<f32>, ModelError> {
    let ids: Vec<i32> = fresh.iter().map(|&id| id as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, fresh.len()]), device);
    let hidden = decoder.hidden(tokens, adapter, Some(cache));
    let last = hidden.narrow(0, fresh.len() - 1, 1);
    decoder.logits(last).try_into_vec_as().map_err(|error| ModelError::Tensor(error.to_string()))
}
