//! The same cohorts and survivors without clipping, noise and masks: the mean of the deltas in double precision, in order.

use tacit_coordinator::OptimizerState;
use tacit_model::Adapter;
use tacit_model::evaluate::Sample;

use crate::error::SimulationError;
use crate::evaluate::bits_per_byte;
use crate::fleet::Fleet;
use crate::round::{RoundContext, RoundRecord, train_clients};
use crate::workers::Workers;

/// Bits per byte after each round; a round that failed changes nothing here either. Nothing when training diverges: the server's
/// rate was chosen for clipped deltas.
pub(super) fn run(
    context: &RoundContext<'_>,
    fleet: &Fleet,
    workers: &mut Workers,
    sample: &Sample,
    records: &[RoundRecord],
) -> Result<Vec<f64>, SimulationError> {
    match rounds(context, fleet, workers, sample, records) {
        Err(error) if error.is_divergence() => {
            context.progress.line(&format!("without privacy: {error}"));
            Ok(Vec::new())
        }
        other => other,
    }
}

fn rounds(
    context: &RoundContext<'_>,
    fleet: &Fleet,
    workers: &mut Workers,
    sample: &Sample,
    records: &[RoundRecord],
) -> Result<Vec<f64>, SimulationError> {
    let config = context.model.decoder().config();
    let mut adapter = Adapter::zeros(context.task.lora.clone(), config)?;
    let mut optimizer = OptimizerState::new(context.scenario.server.clone(), context.task.dimension)?;
    let mut measured = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        if record.ended.is_ok() {
            let round = index as u64 + 1;
            let updates = train_clients(context, fleet, workers, &adapter, &record.survivors, round)?;
            let mut sum = vec![0.0_f64; context.task.dimension];
            for update in &updates {
                sum.iter_mut().zip(&update.delta).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            let mean: Vec<f32> = sum.iter().map(|sum| (sum / updates.len() as f64) as f32).collect();
            let (values, next) = optimizer.step(adapter.flat(), &mean)?;
            optimizer = next;
            adapter = Adapter::from_flat(context.task.lora.clone(), config, values)?;
        }
        let bits = bits_per_byte(workers, context.model, &adapter, sample, context.progress)?;
        context.progress.line(&format!("without privacy, round {}: {bits:.4} bits per byte", index + 1));
        measured.push(bits);
    }
    Ok(measured)
}
