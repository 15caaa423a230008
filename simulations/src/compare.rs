//! What privacy is compared with: the same fleet without it, and central training on the pooled code.
//! Must never touch the private run's results.

mod central;
mod federated;

use tacit_model::evaluate::Sample;

use crate::error::SimulationError;
use crate::fleet::Fleet;
use crate::report::Comparison;
use crate::round::{RoundContext, RoundRecord};
use crate::workers::Workers;

/// Runs both.
pub(crate) fn compare(
    context: &RoundContext<'_>,
    fleet: &Fleet,
    workers: &mut Workers,
    sample: &Sample,
    records: &[RoundRecord],
) -> Result<Comparison, SimulationError> {
    let tokens = records.iter().map(|record| record.tokens).sum();
    let federated_plain = federated::run(context, fleet, workers, sample, records)?;
    let central = central::sweep(context, fleet, workers, sample, tokens)?;
    Ok(Comparison { federated_plain, central, tokens })
}

/// The lowest bits per byte of the central runs; none when all diverged.
pub(crate) fn best_central(comparison: &Comparison) -> Option<f64> {
    comparison.central.iter().filter_map(|run| run.heldout_bits_per_byte).min_by(f64::total_cmp)
}
