//! `tacit-client model`: pretrain, complete, evaluate, describe for the coordinator.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tacit_client::adapters;
use tacit_model::evaluate::Sample;
use tacit_model::pretrain::{PretrainSettings, Progress, pretrain};
use tacit_model::storage::load_adapter;
use tacit_model::{BaseModel, Choice, Compute, DecoderConfig, LoraConfig, Projection};

use super::say;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Train a base model from nothing on a folder with `train.jsonl` and `valid.jsonl`
    Pretrain(Pretrain),
    /// Continue a prompt, or fill the gap before `--suffix`
    Complete(Complete),
    /// Bits per byte of files
    Evaluate(Evaluate),
    /// Print what a coordinator has to know of an adapter for a model, as JSON
    Layout(Layout),
}

#[derive(Debug, Args)]
pub(crate) struct Pretrain {
    /// Folder with `train.jsonl` and `valid.jsonl`, one object with a `text` per line
    #[arg(long)]
    corpus: PathBuf,
    /// Read only this many texts; they should lie in random order
    #[arg(long)]
    texts: Option<usize>,
    /// Folder to write `config.json`, `tokenizer.json` and `model.safetensors` to
    #[arg(long)]
    out: PathBuf,
    /// Where to compute: `cpu`, or `gpu` in a build with `--features wgpu`
    #[arg(long, default_value = "cpu")]
    device: Compute,
    /// Size of the vocabulary
    #[arg(long, default_value_t = 2048)]
    vocabulary: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 192)]
    hidden: usize,
    /// Decoder blocks
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Query heads
    #[arg(long, default_value_t = 6)]
    heads: usize,
    /// Key and value heads
    #[arg(long, default_value_t = 2)]
    key_value_heads: usize,
    /// Width of the feed-forward layer
    #[arg(long, default_value_t = 512)]
    feed_forward: usize,
    /// Optimiser steps
    #[arg(long, default_value_t = 20_000)]
    steps: usize,
    /// Sequences per step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Tokens per sequence
    #[arg(long, default_value_t = 256)]
    sequence: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Decoupled weight decay of the matrices
    #[arg(long, default_value_t = 0.1)]
    weight_decay: f32,
    /// Share of the texts rearranged for fill-in-the-middle
    #[arg(long, default_value_t = 0.3)]
    fim_rate: f64,
    /// Seed of weights, order and rearrangement
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Parts of a batch computed side by side; 2 on a CPU, 1 on a GPU
    #[arg(long, default_value_t = 2)]
    shards: usize,
    /// Shorten the schedule to what fits into this many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// Model folder
    #[arg(long, default_value = "models/tacit-base")]
    model: PathBuf,
    /// Adapter folder in the PEFT layout
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Text before the cursor
    prompt: String,
    /// Text after the cursor: fills the gap between prompt and this
    #[arg(long)]
    suffix: Option<String>,
    /// Tokens to write at most
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Sample at this temperature instead of taking the most likely token
    #[arg(long)]
    temperature: Option<f32>,
    /// Draw only from the likeliest tokens with this probability together
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Seed of the draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// Model folder
    #[arg(long, default_value = "models/tacit-base")]
    model: PathBuf,
    /// Adapter folder in the PEFT layout
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Text files to measure on
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Tokens per window; each window is predicted from its own start
    #[arg(long, default_value_t = 128)]
    window: usize,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Layout {
    /// Model folder
    #[arg(long, default_value = "models/tacit-base")]
    model: PathBuf,
    /// Width of the adapter's bottleneck
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// The adapter's output is multiplied by this over the rank
    #[arg(long, default_value_t = 16.0)]
    alpha: f64,
    /// Matrices that are adapted in every block
    #[arg(long, value_delimiter = ',', default_value = "q_proj,v_proj")]
    targets: Vec<Projection>,
    /// Seed of the frozen factors
    #[arg(long)]
    seed: u64,
}

pub(crate) fn run(command: ModelCommand) -> anyhow::Result<()> {
    match command {
        ModelCommand::Pretrain(arguments) => arguments.run(),
        ModelCommand::Complete(arguments) => arguments.run(),
        ModelCommand::Evaluate(arguments) => arguments.run(),
        ModelCommand::Layout(arguments) => arguments.run(),
    }
}

impl Pretrain {
    fn run(self) -> anyhow::Result<()> {
        let device = self.device.open()?;
        let model = DecoderConfig::new(
            self.vocabulary,
            self.hidden,
            self.layers,
            self.heads,
            self.key_value_heads,
            self.feed_forward,
        );
        let settings = PretrainSettings {
            corpus: self.corpus,
            out: self.out,
            texts: self.texts,
            model,
            steps: self.steps,
            batch: self.batch,
            sequence: self.sequence,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            fim_rate: self.fim_rate,
            seed: self.seed,
            shards: self.shards,
            time_limit: self.minutes.map(|minutes| minutes * 60.0),
        };
        let bar = ProgressBar::new(self.steps as u64)
            .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}")?);
        bar.set_message("reading the corpus and learning the tokenizer");
        bar.tick();
        let hidden = bar.is_hidden();
        let result =
            pretrain(&settings, &device, &mut |Progress { step, steps, loss, tokens_per_second }| {
                bar.set_length(steps as u64);
                bar.set_position(step as u64);
                bar.set_message(format!("loss {loss:.3} nats, {tokens_per_second:.0} tokens/s"));
                if hidden && step.is_multiple_of(500) {
                    // Without a terminal the bar is silent; a log still wants to know.
                    let _ = say(&format!(
                        "step {step}/{steps} loss {loss:.3} nats, {tokens_per_second:.0} tokens/s"
                    ));
                }
            })?;
        bar.finish_and_clear();
        if self.json {
            return say(&serde_json::to_string(&serde_json::json!({
                "validation_loss": result.validation_loss,
                "corpus_tokens": result.corpus_tokens,
                "trained_tokens": result.trained_tokens,
                "steps": result.steps,
                "seconds": result.seconds,
            }))?);
        }
        say(&format!(
            "{} steps, {} tokens of a corpus of {}, {:.0} s; validation loss {:.4} nats per token; written to {}",
            result.steps,
            result.trained_tokens,
            result.corpus_tokens,
            result.seconds,
            result.validation_loss,
            settings.out.display()
        ))
    }
}

impl Complete {
    fn run(self) -> anyhow::Result<()> {
        let device = Compute::Cpu.open()?;
        let model = BaseModel::load(&self.model, &device)?;
        let adapter =
            self.adapter.as_deref().map(|path| load_adapter(path, model.decoder().config())).transpose()?;
        let adapter = adapter.map(|adapter| adapter.tensors(model.decoder().config(), &device));
        let choice = match self.temperature {
            Some(temperature) => Choice::Sample { temperature, top_p: self.top_p },
            None => Choice::Greedy,
        };
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed);
        let written = match &self.suffix {
            Some(suffix) => {
                model.fill(adapter.as_ref(), &self.prompt, suffix, self.tokens, choice, &mut rng)?
            }
            None => model.complete(adapter.as_ref(), &self.prompt, self.tokens, choice, &mut rng)?,
        };
        say(&written)
    }
}

impl Evaluate {
    fn run(self) -> anyhow::Result<()> {
        let device = Compute::Cpu.open()?;
        let model = BaseModel::load(&self.model, &device)?;
        let adapter =
            self.adapter.as_deref().map(|path| load_adapter(path, model.decoder().config())).transpose()?;
        let adapter = adapter.map(|adapter| adapter.tensors(model.decoder().config(), &device));
        let texts = self
            .files
            .iter()
            .map(|path| std::fs::read_to_string(path).with_context(|| format!("{}", path.display())))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let sample = Sample::new(texts.iter().map(String::as_str), model.tokenizer(), self.window)?;
        let score = sample.measure(model.decoder(), adapter.as_ref())?;
        if self.json {
            return say(&serde_json::to_string(&serde_json::json!({
                "bits_per_byte": score.bits_per_byte(),
                "nats_per_token": score.nats / score.tokens as f64,
                "bytes": score.bytes,
                "tokens": score.tokens,
            }))?);
        }
        say(&format!(
            "{:.4} bits per byte over {} bytes ({} tokens, {:.4} nats each)",
            score.bits_per_byte(),
            score.bytes,
            score.tokens,
            score.nats / score.tokens as f64
        ))
    }
}

impl Layout {
    fn run(self) -> anyhow::Result<()> {
        let model = BaseModel::load(&self.model, &Compute::Cpu.open()?)?;
        let lora = LoraConfig { rank: self.rank, alpha: self.alpha, targets: self.targets, seed: self.seed };
        say(&serde_json::to_string_pretty(&adapters::layout(&model, lora)?)?)
    }
}
