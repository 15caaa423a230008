//! The same round without masks (`--plain`): adverts and cohort, clipping, rotation, noise, ring and decoding are those of the
//! masked round, and so is the sum; only secrets are not shared. Nobody drops out while confirming or unmasking, so a round may be
//! released that would abort with masks. Must never be used but in one process that holds every client.

use std::collections::BTreeSet;

use rayon::prelude::*;
use tacit_aggregation::ring_vector::RingVector;
use tacit_client::contribute;
use tacit_client::participant::{Joined, Unmasked};
use tacit_coordinator::{Account, Driver, Outcome, plain_sum};

use super::masked::close_cohort;
use super::{Floor, Seat};
use crate::error::SimulationError;

pub(super) fn finish(
    floor: &mut Floor<'_, '_>,
    mut driver: Driver,
    joined: Vec<Joined>,
    account: &mut Account,
    now: u64,
) -> Result<(Outcome, u64), SimulationError> {
    let mut now = now;
    close_cohort(floor, &mut driver, &joined, account, &mut now)?;
    let Some(closed) = driver.round().cohort().cloned() else {
        // The cohort did not close; the driver has the reason.
        let outcome =
            driver.finish().map_err(|driver| SimulationError::Unfinished { step: driver.round().step() })?;
        return Ok((outcome, now));
    };
    // Every client computes the same context.
    let context = joined.first().map(|first| first.context(&closed.list));
    let uploading: Vec<(&Seat, Unmasked)> = floor
        .seats
        .iter()
        .zip(joined)
        .filter(|(seat, _)| seat.behaviour.uploads())
        .filter_map(|(seat, joined)| Some((seat, joined.into_unmasked(context.as_ref()?))))
        .collect();
    let survivors: BTreeSet<_> = uploading.iter().map(|(seat, _)| seat.id).collect();
    // As in the masked round, what is uploaded is debited first.
    for (seat, update) in &uploading {
        let client = &mut floor.fleet.clients[seat.place];
        client.budget.debit(&update.participation, &closed.cost).map_err(|source| {
            SimulationError::Client { developer: client.name.clone(), source: source.into() }
        })?;
    }
    let (fleet, pool) = (&*floor.fleet, floor.workers.exact());
    let vectors: Vec<RingVector> = floor.meter.measure("encode", || {
        pool.install(|| {
            uploading
                .into_par_iter()
                .map(|(seat, update)| {
                    let Unmasked { clipped, mut noise, .. } = update;
                    contribute(clipped, &closed.mechanism, &closed.rotation, &mut noise).map_err(|source| {
                        let developer = fleet.clients[seat.place].name.clone();
                        SimulationError::Client { developer, source: source.into() }
                    })
                })
                .collect::<Result<_, SimulationError>>()
        })
    })?;
    let params = closed.list.params;
    let outcome = floor.meter.measure("collect", || {
        let sum = plain_sum(&vectors, params.bits, params.dimension as usize)?;
        driver
            .finish_with_plain_sum(&survivors, sum, now, account)
            .map_err(|driver| SimulationError::Unfinished { step: driver.round().step() })
    })?;
    Ok((outcome, now))
}
