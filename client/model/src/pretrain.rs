//! Training of a base model from nothing: all weights, AdamW, warm-up and cosine decay.

mod corpus;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::optim::{AdamW, AdamWConfig, Optimizer};
use burn::tensor::{Device, Tensor};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::base::BaseModel;
use crate::config::DecoderConfig;
use crate::dataset::Batch;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::loss::{DeviceBatch, differentiable_loss, mean_nats};
use crate::tokenizer::Tokenizer;

/// Texts that the tokenizer is learned from; more changes the merges hardly at all.
const TOKENIZER_TEXTS: usize = 3_000;
/// Steps between two progress reports; reading the loss waits for the device.
const REPORT_EVERY: usize = 50;
/// Validation windows, the same at every run.
const VALIDATION_BATCHES: usize = 16;
/// Gradients are scaled down to this global norm.
const GRADIENT_NORM: f32 = 1.0;

/// The recipe.
#[derive(Debug, Clone)]
pub struct PretrainSettings {
    /// Folder with `train.jsonl` and `valid.jsonl`; each line an object with a `text`.
    pub corpus: PathBuf,
    /// Where the model folder is written.
    pub out: PathBuf,
    /// Only this many texts are read; they should lie in random order.
    pub texts: Option<usize>,
    /// The shape; its vocabulary is what the tokenizer learns.
    pub model: DecoderConfig,
    /// Optimiser steps.
    pub steps: usize,
    /// Sequences per step.
    pub batch: usize,
    /// Tokens per sequence.
    pub sequence: usize,
    /// Peak step size.
    pub learning_rate: f64,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f32,
    /// Share of the texts rearranged for fill-in-the-middle.
    pub fim_rate: f64,
    /// Seed of weights, order and rearrangement.
    pub seed: u64,
    /// Parts of each batch whose gradients are computed side by side, each on a thread of its own; a GPU wants
    /// one. The result depends on this number but not on how many cores there are.
    pub shards: usize,
    /// Shortens the schedule to what fits into this many seconds of training at the speed seen so far.
    pub time_limit: Option<f64>,
}

/// How far training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Loss of this step in nats per token.
    pub loss: f64,
    /// Tokens per second so far.
    pub tokens_per_second: f64,
}

/// What training gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pretrained {
    /// Loss on `valid.jsonl` in nats per token.
    pub validation_loss: f64,
    /// Tokens in `train.jsonl`.
    pub corpus_tokens: u64,
    /// Tokens trained on, repetitions counted.
    pub trained_tokens: u64,
    /// Steps done.
    pub steps: usize,
    /// Seconds of training.
    pub seconds: f64,
}

/// Trains a base model and writes it; `report` hears of progress.
///
/// # Errors
/// When the corpus cannot be read, the settings cannot work, the loss diverges or the result cannot be written.
pub fn pretrain(
    settings: &PretrainSettings,
    device: &Device,
    report: &mut dyn FnMut(Progress),
) -> Result<Pretrained, ModelError> {
    settings.validate()?;
    std::fs::create_dir_all(&settings.out).map_err(ModelError::io(&settings.out))?;
    let mut rng = ChaCha20Rng::seed_from_u64(settings.seed);
    let texts =
        corpus::read_texts(&settings.corpus.join("train.jsonl"), settings.texts.unwrap_or(usize::MAX))?;
    let sample = texts.iter().take(TOKENIZER_TEXTS).map(String::as_str);
    let tokenizer = Tokenizer::train(settings.model.vocab_size, sample)?;
    let stream = corpus::pack(&texts, &tokenizer, settings.fim_rate, &mut rng)?;
    drop(texts);
    let validation = corpus::read_texts(&settings.corpus.join("valid.jsonl"), usize::MAX)?;
    let validation = corpus::pack(&validation, &tokenizer, 0.0, &mut rng)?;

    let mut model = settings.model.clone();
    model.vocab_size = tokenizer.vocabulary();
    device.seed(settings.seed);
    let mut loop_state = Loop::new(settings, model, device);
    let started = Instant::now();
    let mut steps = settings.steps;
    let mut step = 0;
    while step < steps {
        let shards: Vec<Batch> = (0..settings.shards)
            .map(|_| random_windows(&stream, settings, settings.batch / settings.shards, &mut rng))
            .collect();
        let rate = schedule(step, steps, settings.learning_rate);
        let loss = loop_state.step(&shards, rate)?;
        step += 1;
        if step.is_multiple_of(REPORT_EVERY) || step == steps {
            if !loss.is_finite() {
                return Err(ModelError::Diverged { step, loss });
            }
            let seconds = started.elapsed().as_secs_f64();
            if let Some(limit) = settings.time_limit {
                let affordable = (step as f64 * limit / seconds) as usize;
                steps = affordable.clamp(step, settings.steps.max(step));
            }
            let tokens_per_second = (step * settings.batch * settings.sequence) as f64 / seconds;
            report(Progress { step, steps, loss, tokens_per_second });
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let decoder = loop_state.into_decoder();
    BaseModel::save(&decoder, &tokenizer, &settings.out)?;
    Ok(Pretrained {
        validation_loss: validation_loss(&decoder, &validation, settings)?,
        corpus_tokens: stream.len() as u64,
        trained_tokens: (step * settings.batch * settings.sequence) as u64,
        steps: step,
        seconds,
    })
}

impl PretrainSettings {
    fn validate(&self) -> Result<(), ModelError> {
        self.model.validate().map_err(|reason| ModelError::config(Path::new("model shape"), reason))?;
        for (name, value) in [("steps", self.steps), ("batch", self.batch)] {
            if value == 0 {
                return Err(ModelError::setting(name, value, "at least 1"));
            }
        }
        if self.shards == 0 || !self.batch.is_multiple_of(self.shards) {
            return Err(ModelError::setting(
                "shards",
                self.shards,
                format!("a divisor of batch {}", self.batch),
            ));
        }
        let positions = self.model.max_position_embeddings;
        if self.sequence < 2 || self.sequence > positions {
            return Err(ModelError::setting("sequence", self.sequence, format!("between 2 and {positions}")));
        }
        if !(0.0..=1.0).contains(&self.fim_rate) {
            return Err(ModelError::setting("fim-rate", self.fim_rate, "between 0 and 1"));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(ModelError::setting("learning-rate", self.learning_rate, "positive"));
        }
        Ok(())
    }
}

/// Linear warm-up over the first fiftieth, then cosine decay to a twentieth of the peak.
fn schedule(step: usize, steps: usize, peak: f64) -> f64 {
    let warm_up = (steps / 50).max(1);
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let progress = (step - warm_up) as f64 / (steps - warm_up).max(1) as f64;
    peak * (0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()))
}

fn random_windows<R: Rng>(stream: &[u32], settings: &PretrainSettings, rows: usize, rng: &mut R) -> Batch {
    let mut batch = Batch::new(settings.sequence);
    let last = stream.len().saturating_sub(settings.sequence + 1);
    for _ in 0..rows {
        let start = rng.random_range(0..=last);
        let end = (start + 1 + settings.sequence).min(stream.len());
        batch.push(stream[start], &stream[start + 1..end]);
    }
    batch
}

fn validation_loss(
    decoder: &Decoder,
    stream: &[u32],
    settings: &PretrainSettings,
) -> Result<f64, ModelError> {
    // A seed of its own: the same windows whatever the recipe drew before.
    let mut rng = ChaCha20Rng::seed_from_u64(0);
    let mut total = 0.0;
    for _ in 0..VALIDATION_BATCHES {
        let windows = random_windows(stream, settings, settings.batch.min(32), &mut rng);
        let batch = DeviceBatch::new(&windows, &decoder.device());
        let nats: f32 = mean_nats(decoder, None, &batch)
            .try_into_scalar()
            .map_err(|error| ModelError::Tensor(error.to_string()))?;
        total += f64::from(nats);
    }
    Ok(total / VALIDATION_BATCHES as f64)
}

/// Weights and optimiser state between steps.
struct Loop {
    decoder: Decoder,
    decaying: AdamW,
    plain: AdamW,
    states: Vec<Option<<AdamW as Optimizer>::State<2>>>,
    device: Device,
}

impl Loop {
    fn new(settings: &PretrainSettings, model: DecoderConfig, device: &Device) -> Self {
        let mut decoder = Decoder::random(model, device).autodiff();
        let states = decoder.tensors_mut().iter().map(|_| None).collect();
        let rule = |decay| {
            AdamWConfig::new()
                .with_beta_1(0.9)
                .with_beta_2(0.95)
                .with_epsilon(1e-8)
                .with_weight_decay(decay)
                .build()
        };
        let device = device.clone().autodiff();
        Self { decoder, decaying: rule(settings.weight_decay), plain: rule(0.0), states, device }
    }

    /// One optimiser step on the mean loss of the shards; returns that loss.
    fn step(&mut self, shards: &[Batch], rate: f64) -> Result<f64, ModelError> {
        for tensor in self.decoder.tensors_mut() {
            *tensor = tensor.clone().detach().require_grad();
        }
        let mut parts = self.gradients(shards)?.into_iter();
        let (mut loss, mut slopes) =
            parts.next().ok_or_else(|| ModelError::setting("shards", 0, "at least 1"))?;
        for (other_loss, other) in parts {
            loss += other_loss;
            slopes = slopes.into_iter().zip(other).map(|(a, b)| a + b).collect();
        }
        let share = 1.0 / shards.len() as f64;
        let slopes: Vec<Tensor<2>> = slopes.into_iter().map(|slope| slope * share).collect();
        let norm = slopes
            .iter()
            .map(|slope| slope.clone().square().sum())
            .reduce(|a, b| a + b)
            .unwrap_or_else(|| Tensor::zeros([1], &self.device.clone().inner()))
            .sqrt();
        let factor = (norm + 1e-6).recip().mul_scalar(GRADIENT_NORM).clamp_max(1.0).reshape([1, 1]);
        let tensors = self.decoder.tensors_mut();
        for ((tensor, slope), state) in tensors.into_iter().zip(slopes).zip(&mut self.states) {
            // Normalisation gains are pulled towards nothing; every matrix decays.
            let rule = if tensor.dims()[0] == 1 { &self.plain } else { &self.decaying };
            let (updated, next) =
                rule.step(rate, tensor.clone().inner(), slope * factor.clone(), state.take());
            *state = next;
            *tensor = updated.autodiff();
        }
        Ok(loss * share)
    }

    /// Loss and gradients of each shard, in order.
    fn gradients(&self, shards: &[Batch]) -> Result<Vec<(f64, Vec<Tensor<2>>)>, ModelError> {
        let one = |batch: &Batch| {
            let mut decoder = self.decoder.clone();
            let (value, loss) = differentiable_loss(&decoder, None, batch)?;
            let mut gradients = loss.backward();
            let slopes = decoder
                .tensors_mut()
                .into_iter()
                .map(|t| t.grad_remove(&mut gradients).unwrap_or_else(|| t.zeros_like().inner()))
                .collect();
            Ok((value, slopes))
        };
        if let [batch] = shards {
            return Ok(vec![one(batch)?]);
        }
        // One rayon thread each: the products of a shard must not wait for the other shard's.
        let failed =
            || ModelError::Tensor("a training thread could not be started or stopped early".to_owned());
        std::thread::scope(|scope| {
            let workers: Vec<_> = shards
                .iter()
                .map(|batch| {
                    scope.spawn(move || {
                        let pool =
                            rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|_| failed())?;
                        pool.install(|| one(batch))
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().map_err(|_| failed()).flatten()).collect()
        })
    }

    fn into_decoder(mut self) -> Decoder {
        for tensor in self.decoder.tensors_mut() {
            *tensor = tensor.clone().inner();
        }
        let Decoder { config, embedding, blocks, norm, .. } = self.decoder;
        Decoder::new(config, embedding, blocks, norm)
    }
}
