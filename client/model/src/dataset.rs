//! Token streams and the batches cut from them; knows token ids, never files.

use rand::{Rng, RngExt, seq::SliceRandom};

use crate::error::ModelError;

/// Inputs, targets and weights of `rows` sequences of equal length, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    rows: usize,
    length: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl Batch {
    /// An empty batch of sequences of `length` tokens.
    pub fn new(length: usize) -> Self {
        Self { rows: 0, length, inputs: Vec::new(), targets: Vec::new(), weights: Vec::new() }
    }

    /// Adds one sequence: predicts `tokens` in order, starting from `start`; shorter ones are padded with
    /// positions of weight zero, longer ones cut.
    pub fn push(&mut self, start: u32, tokens: &[u32]) {
        let tokens = &tokens[..tokens.len().min(self.length)];
        let padding = self.length - tokens.len();
        let inputs = std::iter::once(start).chain(tokens.iter().copied()).chain(std::iter::repeat(start));
        self.inputs.extend(inputs.take(self.length));
        self.targets.extend_from_slice(tokens);
        self.targets.extend(std::iter::repeat_n(start, padding));
        self.weights.extend(std::iter::repeat_n(1.0, tokens.len()));
        self.weights.extend(std::iter::repeat_n(0.0, padding));
        self.rows += 1;
    }

    /// `[rows, length]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.length]
    }

    /// The tokens that are read.
    pub fn inputs(&self) -> &[u32] {
        &self.inputs
    }

    /// The tokens that are predicted.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// The weight of each prediction in the loss.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Sets the weight of each prediction, `rows * length` of them.
    ///
    /// # Errors
    /// When there are not that many, or one is negative or not finite.
    pub fn set_weights(&mut self, weights: Vec<f32>) -> Result<(), ModelError> {
        if weights.len() != self.weights.len() {
            return Err(ModelError::setting("number of weights", weights.len(), self.weights.len()));
        }
        if let Some(bad) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            return Err(ModelError::setting("loss weight", bad, "finite and not negative"));
        }
        self.weights = weights;
        Ok(())
    }
}

/// All of one owner's text as one stream of tokens, documents parted by the end-of-text token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStream {
    tokens: Vec<u32>,
    separator: u32,
}

impl TokenStream {
    /// Joins documents; each starts after a separator.
    ///
    /// # Errors
    /// When there is not a single token.
    pub fn new<'a>(
        documents: impl IntoIterator<Item = &'a [u32]>,
        separator: u32,
    ) -> Result<Self, ModelError> {
        let mut tokens = Vec::new();
        for document in documents {
            tokens.push(separator);
            tokens.extend_from_slice(document);
        }
        if tokens.iter().all(|&token| token == separator) {
            return Err(ModelError::NoText("no tokens to train on: every file is empty".to_owned()));
        }
        Ok(Self { tokens, separator })
    }

    /// Number of tokens, separators included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never: a stream has at least one token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Cuts the stream into windows and deals them out in random order, again and again.
    pub fn deal<R: Rng>(&self, length: usize, rng: &mut R) -> Deal<'_> {
        let mut deal = Deal { stream: self, length, starts: Vec::new() };
        deal.refill(rng);
        deal
    }
}

/// An endless supply of windows: each pass over the stream uses fresh random cutting points and order.
#[derive(Debug, Clone)]
pub struct Deal<'a> {
    stream: &'a TokenStream,
    length: usize,
    starts: Vec<usize>,
}

impl Deal<'_> {
    fn refill<R: Rng>(&mut self, rng: &mut R) {
        let spare = self.stream.len().saturating_sub(self.length + 1);
        let offset = if spare == 0 { 0 } else { rng.random_range(0..=spare.min(self.length - 1)) };
        self.starts = (offset..=spare.max(offset)).step_by(self.length).collect();
        self.starts.shuffle(rng);
    }

    /// The next batch of `rows` windows.
    pub fn batch<R: Rng>(&mut self, rows: usize, rng: &mut R) -> Batch {
        let mut batch = Batch::new(self.length);
        for _ in 0..rows {
            if self.starts.is_empty() {
                self.refill(rng);
            }
            let start = self.starts.pop().unwrap_or(0);
            let tokens = &self.stream.tokens;
            let end = (start + 1 + self.length).min(tokens.len());
            match tokens.get(start + 1..end) {
                Some(window) if !window.is_empty() => batch.push(tokens[start], window),
                _ => batch.push(self.stream.separator, &tokens[..1]),
            }
        }
        batch
    }
}
