//! Local training: from an adapter version and one owner's text to a delta; nothing here leaves the machine.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::{Batch, TokenStream};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::lora::{Adapter, AdapterTensors};
use crate::loss::differentiable_loss;

pub mod optimizer;

use optimizer::{LocalOptimizer, OptimizerState};

/// How a client trains between receiving an adapter and sending its delta.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalTraining {
    /// The update rule and its constants.
    pub optimizer: LocalOptimizer,
    /// Step size.
    pub learning_rate: f64,
    /// Number of steps.
    pub steps: usize,
    /// Sequences per step.
    pub batch: usize,
    /// Tokens per sequence.
    pub sequence: usize,
}

/// What local training produced.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalUpdate {
    /// New adapter minus old, in the adapter's flat layout.
    pub delta: Vec<f32>,
    /// Tokens that were trained on, repetitions counted.
    pub tokens: u64,
    /// Loss of the first step in nats per token.
    pub first_loss: f64,
    /// Loss of the last step in nats per token.
    pub last_loss: f64,
}

impl LocalTraining {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that cannot work.
    pub fn validate(&self, positions: usize) -> Result<(), ModelError> {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(ModelError::setting("learning_rate", self.learning_rate, "positive"));
        }
        for (name, value) in [("steps", self.steps), ("batch", self.batch)] {
            if value == 0 {
                return Err(ModelError::setting(name, value, "at least 1"));
            }
        }
        if self.sequence < 2 || self.sequence > positions {
            return Err(ModelError::setting("sequence", self.sequence, format!("between 2 and {positions}")));
        }
        Ok(())
    }
}

/// The differentiable decoder of one worker thread; make it once, train for many clients.
#[derive(Debug, Clone)]
pub struct Trainer {
    decoder: Decoder,
}

impl Trainer {
    /// Shares the weights of `decoder`, frozen.
    pub fn new(decoder: &Decoder) -> Self {
        Self { decoder: decoder.autodiff() }
    }

    /// Loss in nats per token and its gradient in the adapter's flat layout.
    ///
    /// # Errors
    /// When a result cannot be read from the device.
    pub fn loss_and_gradient(&self, adapter: &Adapter, batch: &Batch) -> Result<(f64, Vec<f32>), ModelError> {
        let device = self.decoder.device();
        let mut tensors = adapter.tensors(self.decoder.config(), &device);
        for b in tensors.trained_mut() {
            *b = b.clone().require_grad();
        }
        self.step(&mut tensors, batch, adapter.flat().len())
    }

    fn step(
        &self,
        tensors: &mut AdapterTensors,
        batch: &Batch,
        dimension: usize,
    ) -> Result<(f64, Vec<f32>), ModelError> {
        let (value, loss) = differentiable_loss(&self.decoder, Some(tensors), batch)?;
        let mut gradients = loss.backward();
        let mut flat = Vec::with_capacity(dimension);
        for b in tensors.trained_mut() {
            let gradient = match b.grad_remove(&mut gradients) {
                Some(gradient) => read(gradient)?,
                None => vec![0.0; b.shape().num_elements()],
            };
            flat.extend_from_slice(&gradient);
        }
        Ok((value, flat))
    }

    /// Trains on one owner's text, starting from `adapter`.
    ///
    /// # Errors
    /// When the settings cannot work, or the loss stops being finite.
    pub fn train<R: Rng>(
        &self,
        adapter: &Adapter,
        settings: &LocalTraining,
        text: &TokenStream,
        rng: &mut R,
    ) -> Result<LocalUpdate, ModelError> {
        self.train_paced(adapter, settings, text, rng, || ControlFlow::Continue(()))
    }

    /// As [`Self::train`], asking before each step whether to go on; who is asked may take its time.
    ///
    /// # Errors
    /// As [`Self::train`], and [`ModelError::Interrupted`].
    pub fn train_paced<R: Rng>(
        &self,
        adapter: &Adapter,
        settings: &LocalTraining,
        text: &TokenStream,
        rng: &mut R,
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<LocalUpdate, ModelError> {
        settings.validate(self.decoder.config().max_position_embeddings)?;
        let mut current = adapter.clone();
        let mut state = OptimizerState::new(&settings.optimizer, adapter.flat().len());
        let mut deal = text.deal(settings.sequence, rng);
        let mut losses = Vec::with_capacity(settings.steps);
        for step in 0..settings.steps {
            if go_on().is_break() {
                return Err(ModelError::Interrupted { step });
            }
            let batch = deal.batch(settings.batch, rng);
            let (loss, gradient) = self.loss_and_gradient(&current, &batch)?;
            if !loss.is_finite() {
                return Err(ModelError::Diverged { step, loss });
            }
            state.step(current.flat_mut(), &gradient, settings.learning_rate);
            losses.push(loss);
        }
        let delta = current.flat().iter().zip(adapter.flat()).map(|(new, old)| new - old).collect();
        Ok(LocalUpdate {
            delta,
            tokens: (settings.steps * settings.batch * settings.sequence) as u64,
            first_loss: losses.first().copied().unwrap_or(f64::NAN),
            last_loss: losses.last().copied().unwrap_or(f64::NAN),
        })
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ModelError> {
    tensor.try_into_vec_as().map_err(|error| ModelError::Tensor(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::DecoderConfig;
    use crate::device::Compute;
    use crate::lora::{LoraConfig, Projection};

    #[test]
    fn no_gradient_is_computed_for_anything_but_the_trained_factors() {
        let device = Compute::Cpu.open().unwrap();
        let decoder = Decoder::random(DecoderConfig::new(270, 16, 2, 2, 1, 24), &device);
        let mut trainer = Trainer::new(&decoder);
        let lora =
            LoraConfig { rank: 2, alpha: 4.0, targets: vec![Projection::Query, Projection::Up], seed: 1 };
        let adapter = Adapter::zeros(lora, decoder.config()).unwrap();
        let mut tensors = adapter.tensors(decoder.config(), &trainer.decoder.device());
        for b in tensors.trained_mut() {
            *b = b.clone().require_grad();
        }
        let mut batch = Batch::new(6);
        batch.push(0, &[10, 20, 30, 40, 50, 60]);
        let gradients = differentiable_loss(&trainer.decoder, Some(&tensors), &batch).unwrap().1.backward();
        for weight in trainer.decoder.tensors_mut() {
            assert!(weight.is_autodiff() && !weight.is_tracked());
            assert!(weight.grad(&gradients).is_none());
        }
        assert_eq!(tensors.trained_mut().filter(|b| b.grad(&gradients).is_some()).count(), 4);
    }
}
