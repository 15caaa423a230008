//! Check-ins at a rate, and how long they take. Must never count one from later than when it was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tacit_proto::fleet::ReadyUpdate;
use tokio::task::JoinSet;

use super::client::{Fault, SyntheticClient};
use super::measure::Histogram;
use super::run::LoadError;
use crate::progress::Progress;

/// Connections over which check-ins come at a rate.
const CALLERS: usize = 64;

/// Check-ins at a rate.
#[derive(Clone, Debug, Serialize)]
pub struct Rated {
    /// That were made.
    pub calls: u64,
    /// That were answered in a second.
    pub per_second: f64,
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// Check-ins of clients that wait with an update, at a rate, by fewer of them than a cohort needs.
///
/// # Errors
/// [`LoadError`].
pub(super) async fn at_a_rate(
    fleet: &mut Vec<SyntheticClient>,
    rate: u32,
    calls: u32,
    progress: &dyn Progress,
) -> Result<Rated, LoadError> {
    progress.begin("checking in", 1);
    let callers = CALLERS.min(fleet.len() / 2).max(1);
    let histogram = Arc::new(Histogram::default());
    let began = Instant::now();
    let mut calling = JoinSet::new();
    for place in 0..callers {
        let (Some(mut client), histogram) = (fleet.pop(), Arc::clone(&histogram)) else { break };
        calling.spawn(async move {
            let mut ready = Vec::new();
            for call in (place as u32..calls).step_by(callers) {
                // From when it is due: one that comes late because the one before took long counts in full.
                let due = began + Duration::from_secs_f64(f64::from(call) / f64::from(rate));
                tokio::time::sleep_until(due.into()).await;
                let answer = client.check_in(ready.clone()).await?;
                histogram.note(due.elapsed());
                ready = answer
                    .offers
                    .into_iter()
                    .map(|offer| ReadyUpdate {
                        task: offer.manifest.claimed().task.clone(),
                        parent: offer.parent.unwrap_or(offer.manifest).claimed_adapter(),
                    })
                    .collect();
            }
            Ok::<_, Fault>(client)
        });
    }
    while let Some(done) = calling.join_next().await {
        fleet.push(done.map_err(|_| LoadError::Interrupted)??);
    }
    let seconds = began.elapsed().as_secs_f64();
    progress.advance();
    Ok(Rated {
        calls: histogram.count(),
        per_second: histogram.count() as f64 / seconds,
        p50_ms: histogram.quantile(0.5).unwrap_or_default(),
        p99_ms: histogram.quantile(0.99).unwrap_or_default(),
    })
}
