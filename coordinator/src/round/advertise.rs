//! Advertise: invited clients announce their keys. Must never close a cohort whose mechanism or cost the plan does not cover.

use super::share::{Closed, Share};
use super::{FailureReason, Progress, Refusal, check_sender, protocol};
use crate::Millis;
use std::collections::BTreeSet;
use std::sync::Arc;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_aggregation::messages::Advert;
use tacit_aggregation::server;
use tacit_privacy::RotationSeed;
use tacit_proto::RoundPlan;

/// Adverts are gathered.
#[derive(Debug)]
pub struct Advertise {
    server: server::Advertise,
    invited: BTreeSet<ClientId>,
    most: u32,
    round: u64,
    /// How long after its arrival a certificate is looked at, at the latest: by others in the cohort, in Share.
    looked_at_within: Millis,
}

impl Advertise {
    pub(super) fn new(
        plan: &RoundPlan,
        root: PublicKey,
        invited: BTreeSet<ClientId>,
    ) -> Result<Self, server::Abort> {
        let terms = Arc::new(plan.terms());
        let (most, round) = (terms.cohort_max, terms.round);
        let looked_at_within = plan.deadlines.advertise.saturating_add(plan.deadlines.share);
        Ok(Self { server: server::Advertise::new(terms, root)?, invited, most, round, looked_at_within })
    }

    /// Adverts that have come.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.server.count()
    }

    pub(super) fn accept(
        &mut self,
        client: ClientId,
        advert: Arc<Advert>,
        now: Millis,
    ) -> Result<Progress, Refusal> {
        if !self.invited.contains(&client) {
            return Err(Refusal::NotInvited { client, round: self.round });
        }
        check_sender(client, advert.client())?;
        // Everybody who is shown a certificate leaves when it has expired by then: one that will would end the round.
        let looked_at = now.saturating_add(self.looked_at_within) / 1000;
        self.server.accept(advert, looked_at).map_err(protocol(client))?;
        let count = self.server.count();
        Ok(Progress::when(count == self.most || count as usize == self.invited.len()))
    }

    pub(super) fn close(self, plan: &RoundPlan) -> Result<Share, FailureReason> {
        let server = self.server.close()?;
        let list = Arc::clone(server.list());
        let mechanism = plan.mechanism(&list.params)?;
        let cost = plan.admitted_cost(&mechanism)?;
        let rotation = RotationSeed(server.rotation_seed());
        Ok(Share::new(server, Arc::new(Closed { list, mechanism, cost, rotation })))
    }
}
