//! Bits per byte on the held-out sample, on all worker threads. Must never depend on how many there are: batches are summed in
//! order.

use tacit_model::evaluate::Sample;
use tacit_model::{Adapter, BaseModel};

use crate::error::SimulationError;
use crate::progress::Progress;
use crate::workers::Workers;

/// Bits per byte of an adapter on top of the base model.
pub(crate) fn bits_per_byte(
    workers: &mut Workers,
    model: &BaseModel,
    adapter: &Adapter,
    sample: &Sample,
    progress: &dyn Progress,
) -> Result<f64, SimulationError> {
    let config = model.decoder().config();
    progress.begin("measuring on held-out code", sample.batches());
    let nats = workers.map(sample.batches(), "measuring", |tools, batch| {
        let device = tools.decoder.device();
        let nats =
            sample.batch_nats(batch, &tools.decoder, Some(&adapter.tensors(config, &device)), &device)?;
        progress.advance();
        Ok(nats)
    })?;
    progress.end();
    Ok(sample.score(nats.iter().sum()).bits_per_byte())
}
