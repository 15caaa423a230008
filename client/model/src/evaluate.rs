//! Bits per byte on a fixed sample; changes nothing.

use burn::tensor::Device;

use crate::dataset::Batch;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::fused;
use crate::lora::AdapterTensors;
use crate::loss::DeviceBatch;
use crate::tokenizer::Tokenizer;

/// Sequences evaluated together; bounds the memory of the logits.
const ROWS: usize = 8;

/// A fixed sample of text, cut into windows that are each predicted from their own start.
#[derive(Debug, Clone)]
pub struct Sample {
    batches: Vec<Batch>,
    bytes: u64,
    tokens: u64,
}

/// Nats and bytes of a sample under a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Total negative log-likelihood in nats.
    pub nats: f64,
    /// Bytes of text predicted.
    pub bytes: u64,
    /// Tokens predicted.
    pub tokens: u64,
}

impl Score {
    /// `nats / ln 2 / bytes`.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }
}

impl Sample {
    /// Cuts each text into windows of at most `window` tokens.
    ///
    /// # Errors
    /// When the texts hold no token.
    pub fn new<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        tokenizer: &Tokenizer,
        window: usize,
    ) -> Result<Self, ModelError> {
        let mut sample = Self { batches: Vec::new(), bytes: 0, tokens: 0 };
        for text in texts {
            for tokens in tokenizer.encode(text)?.chunks(window) {
                sample.bytes += tokenizer.byte_length(tokens);
                sample.tokens += tokens.len() as u64;
                if sample.batches.last().is_none_or(|batch| batch.shape()[0] == ROWS) {
                    sample.batches.push(Batch::new(window));
                }
                if let Some(batch) = sample.batches.last_mut() {
                    batch.push(tokenizer.end_of_text(), tokens);
                }
            }
        }
        if sample.tokens == 0 {
            return Err(ModelError::NoText("no text to measure on: every held-out file is empty".to_owned()));
        }
        Ok(sample)
    }

    /// Number of batches, the unit in which work can be split.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Bytes of text in the sample.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Total nats of one batch.
    ///
    /// # Errors
    /// When the result cannot be read from the device.
    pub fn batch_nats(
        &self,
        index: usize,
        decoder: &Decoder,
        adapter: Option<&AdapterTensors>,
        device: &Device,
    ) -> Result<f64, ModelError> {
        let batch = &self.batches[index];
        let on_device = DeviceBatch::new(batch, device);
        let hidden = decoder.hidden(on_device.inputs, adapter, None);
        let nats = fused::nats(decoder.logits(hidden), batch.targets())?;
        Ok(nats.iter().zip(batch.weights()).map(|(&nats, &weight)| f64::from(nats) * f64::from(weight)).sum())
    }

    /// The score of `nats` summed over all batches in order.
    pub fn score(&self, nats: f64) -> Score {
        Score { nats, bytes: self.bytes, tokens: self.tokens }
    }

    /// Measures the whole sample on one thread.
    ///
    /// # Errors
    /// When a result cannot be read from the device.
    pub fn measure(&self, decoder: &Decoder, adapter: Option<&AdapterTensors>) -> Result<Score, ModelError> {
        let device = decoder.device();
        let mut nats = 0.0;
        for index in 0..self.batches.len() {
            nats += self.batch_nats(index, decoder, adapter, &device)?;
        }
        Ok(self.score(nats))
    }
}
