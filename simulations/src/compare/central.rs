//! Central training: the same adapter, Adam with linear decay to zero, on the pooled code of all training developers, for as many
//! tokens as the fleet trained on; several rates, of which the best counts. Must never see held-out code but to measure.

use rand_chacha::ChaCha20Rng;
use tacit_model::dataset::{Batch, Deal, TokenStream};
use tacit_model::evaluate::Sample;
use tacit_model::train::optimizer::{LocalOptimizer, OptimizerState};
use tacit_model::{Adapter, ModelError};

use crate::error::SimulationError;
use crate::evaluate::bits_per_byte;
use crate::fleet::{Fleet, tokens};
use crate::random::{Purpose, generator};
use crate::report::CentralRun;
use crate::round::RoundContext;
use crate::workers::Workers;

/// The peak rates that are tried, around the one that a probe found best; the report has the result of each.
const LEARNING_RATES: [f64; 3] = [0.01, 0.02, 0.04];
/// Sequences per step, in parts that the workers share; the same parts whatever the number of threads.
const PARTS: usize = 4;
const ROWS_PER_PART: usize = 8;
/// Adam's constants, those of local training.
const RULE: LocalOptimizer = LocalOptimizer::Adam { beta1: 0.9, beta2: 0.99 };

/// One run for each learning rate, on the same windows in the same order.
pub(super) fn sweep(
    context: &RoundContext<'_>,
    fleet: &Fleet,
    workers: &mut Workers,
    sample: &Sample,
    budget: u64,
) -> Result<Vec<CentralRun>, SimulationError> {
    context.progress.begin("reading the pooled code", 1);
    let stream = tokens(fleet.developers(), context.model.tokenizer())?;
    context.progress.end();
    LEARNING_RATES
        .into_iter()
        .map(|learning_rate| {
            let trained = train(context, workers, &stream, budget, learning_rate)?;
            let heldout_bits_per_byte = match trained {
                Some(adapter) => {
                    Some(bits_per_byte(workers, context.model, &adapter, sample, context.progress)?)
                }
                None => None,
            };
            let outcome = heldout_bits_per_byte
                .map_or_else(|| "diverged".to_owned(), |bits| format!("{bits:.4} bits per byte"));
            context.progress.line(&format!("central training, learning rate {learning_rate}: {outcome}"));
            Ok(CentralRun { learning_rate, heldout_bits_per_byte })
        })
        .collect()
}

/// Trains on `budget` tokens, rounded up to whole steps; none when the loss stops being finite.
fn train(
    context: &RoundContext<'_>,
    workers: &mut Workers,
    stream: &TokenStream,
    budget: u64,
    learning_rate: f64,
) -> Result<Option<Adapter>, SimulationError> {
    let sequence = context.scenario.local.sequence;
    let steps = (budget as usize).div_ceil(PARTS * ROWS_PER_PART * sequence);
    let config = context.model.decoder().config();
    let mut adapter = Adapter::zeros(context.task.lora.clone(), config)?;
    let mut values = adapter.flat().to_vec();
    let mut state = OptimizerState::new(&RULE, values.len());
    let mut rng = generator(context.scenario.seed, Purpose::Central, 0, 0);
    let mut deal = stream.deal(sequence, &mut rng);
    context.progress.begin(&format!("central training at {learning_rate}"), steps);
    for step in 0..steps {
        let rate = learning_rate * (1.0 - step as f64 / steps as f64);
        let parts = parts(&mut deal, &mut rng);
        let answers = workers.map(parts.len(), "central training", |tools, part| {
            Ok(tools.trainer.loss_and_gradient(&adapter, &parts[part])?)
        })?;
        if answers.iter().any(|(loss, _)| !loss.is_finite()) {
            context.progress.end();
            return Ok(None);
        }
        state.step(&mut values, &mean_gradient(&parts, &answers), rate);
        adapter = match Adapter::from_flat(context.task.lora.clone(), config, values.clone()) {
            Ok(adapter) => adapter,
            Err(ModelError::Setting { .. }) => {
                context.progress.end();
                return Ok(None);
            }
            Err(other) => return Err(other.into()),
        };
        context.progress.advance();
    }
    context.progress.end();
    Ok(Some(adapter))
}

fn parts(deal: &mut Deal<'_>, rng: &mut ChaCha20Rng) -> Vec<Batch> {
    (0..PARTS).map(|_| deal.batch(ROWS_PER_PART, rng)).collect()
}

/// The gradient of the mean loss over all parts, from the gradients of each part's own mean.
fn mean_gradient(parts: &[Batch], answers: &[(f64, Vec<f32>)]) -> Vec<f32> {
    let weight = |batch: &Batch| batch.weights().iter().map(|&weight| f64::from(weight)).sum::<f64>();
    let total: f64 = parts.iter().map(weight).sum();
    let mut sum = vec![0.0_f64; answers.first().map_or(0, |(_, gradient)| gradient.len())];
    for (batch, (_, gradient)) in parts.iter().zip(answers) {
        let share = weight(batch) / total.max(1.0);
        sum.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += share * f64::from(value));
    }
    sum.into_iter().map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_weigh_by_their_predictions() {
        let mut whole = Batch::new(4);
        whole.push(0, &[1, 2, 3, 4]);
        let mut half = Batch::new(4);
        half.push(0, &[1, 2]);
        let answers = [(1.0, vec![3.0, 0.0]), (1.0, vec![0.0, 3.0])];
        assert_eq!(mean_gradient(&[whole, half], &answers), [2.0, 1.0]);
    }
}
