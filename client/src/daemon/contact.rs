//! A contact with the coordinator: what it says is checked, stored, and done. Must never act on a plan, a manifest or a ledger
//! whose signature was not verified.

use super::{Daemon, EPOCH, EPOCH_FILE, Fault, LONGEST, REVOCATIONS, REVOCATIONS_FILE, TaskStatus, now};
use crate::folder::{FolderError, Kind};
use crate::ledger::{About, Verdict};
use crate::participant::{Member, admit, check_place};
use crate::round::{Round, RoundError};
use crate::training::Job;
use crate::update::{Update, serves};
use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use std::collections::BTreeSet;
use std::time::Duration;
use tacit_aggregation::identity::{Membership, NewestEpoch};
use tacit_aggregation::params::TaskName;
use tacit_proto::fleet::{CheckIn, CheckedIn, MAX_ANNOUNCED, Offer, ReadyUpdate, RoundName};
use tacit_proto::ledger::{LedgerProof, MAX_ROUNDS, Prove};
use tacit_proto::{RoundPlan, SignedPlan, Wire as _};
use tokio::time::Instant;

/// The newest plan of each task, for the dry run.
const PLANS: &str = "plans";
pub(super) const PLAN: Kind = Kind { code: 10, version: 1 };
/// What follows a task's name there.
const PLAN_SUFFIX: &str = ".plan";
/// This client's places on the rosters that those plans demand.
const PLACES: &str = "places";
const PLACE: Kind = Kind { code: 21, version: 1 };

/// The newest plan of each task in a folder, as the coordinator signed it, with this client's place on the roster that it demands.
/// Those that an earlier program kept, in a form that is none any more, are left out: the next offer brings others.
pub(crate) fn stored_plans(
    folder: &crate::folder::Folder,
) -> Result<Vec<(SignedPlan, Option<Membership>)>, crate::folder::FolderError> {
    let mut plans = Vec::new();
    for name in folder.list(PLANS)? {
        let file = format!("{PLANS}/{name}");
        if let Some(bytes) = folder.read(&file, PLAN)? {
            let signed = match SignedPlan::from_wire(&bytes) {
                Ok(signed) => signed,
                Err(error) => {
                    tracing::warn!(file, %error, "a plan that was kept cannot be read");
                    continue;
                }
            };
            let place = format!("{PLACES}/{name}");
            let membership = if signed.roster().is_some() { folder.load(&place, PLACE)? } else { None };
            plans.push((signed, membership));
        }
    }
    Ok(plans)
}

impl Daemon {
    /// Checks in, and does what there is to do. When the coordinator wants to hear again.
    pub(super) async fn contact(&mut self) -> Result<Duration, Fault> {
        let mut ready = Update::ready(&self.folder)?;
        // Whoever is not drawn waits for nothing; the plan of a later period comes with every answer.
        ready.retain(|update| !self.undrawn.contains(&update.task));
        ready.truncate(MAX_ANNOUNCED);
        let answer = self.check_in(ready).await?;
        self.accounts.budget.advance(now());
        if self.take_ledger(&answer.ledger)? {
            // There may be another one, and what is offered is for whoever has adopted all of them.
            return Ok(Duration::ZERO);
        }
        if let Some(list) = answer.revocations {
            let verified = list.verify(&self.member.root, self.revocations.as_ref());
            verified.map_err(|error| Fault::Refused(error.to_string()))?;
            self.folder.write(REVOCATIONS_FILE, REVOCATIONS, &list.to_wire())?;
            self.revocations = Some(list);
        }
        let revoked =
            self.revocations.as_ref().is_some_and(|list| list.revokes(self.member.certificate.client));
        if revoked {
            self.stop_training();
            return Err(Fault::Refused(
                "the identity root has shut this client out: enrol anew, or ask the operator".into(),
            ));
        }
        if self.settle().await? {
            // What was offered is from before.
            return Ok(Duration::ZERO);
        }
        // What is known of a task stays to be seen until there is news of it.
        let offered: BTreeSet<_> =
            answer.offers.iter().map(|offer| offer.manifest.claimed().task.to_string()).collect();
        self.status.tasks.retain(|task, _| offered.contains(task));
        let before = self.status.problem.clone();
        for offer in answer.offers {
            self.consider(offer).await?;
            if self.round.is_some() {
                return Ok(Duration::ZERO);
            }
        }
        if self.status.problem == before {
            self.status.problem = None;
        }
        Ok(Duration::from_millis(answer.retry_after))
    }

    async fn check_in(&mut self, ready: Vec<ReadyUpdate>) -> Result<CheckedIn, Fault> {
        let request = CheckIn {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            base_models: vec![self.base.digest],
            ready,
            ledger_size: self.ledger.size(),
            revocations: self.revocations.as_ref().map_or(0, |list| list.number),
            restart: self.ledger.restart_number(),
        };
        let answer = self.line.once(async |client| client.check_in(request).await).await?;
        self.status.last_contact = Some(now());
        Ok(answer)
    }

    /// Accepts what is shown of the ledger. Whether a restart was adopted.
    fn take_ledger(&mut self, proof: &LedgerProof) -> Result<bool, Fault> {
        let before = self.ledger.size();
        let adopted = self.ledger.accept(&self.folder, proof, self.accounts.last_paid(), now())?;
        if let Some(restart) = self.ledger.restart().filter(|_| adopted) {
            tracing::warn!(restart = restart.number, size = restart.size, before, "the ledger was restarted");
            self.note_restart()?;
        }
        Ok(adopted)
    }

    /// Notes in the books what the last restart has left behind.
    pub(super) fn note_restart(&mut self) -> Result<(), FolderError> {
        let Some(restart) = self.ledger.restart() else { return Ok(()) };
        if self.accounts.restarted(restart) {
            self.accounts.store(&self.folder)?;
        }
        Ok(())
    }

    /// While the coordinator is not believed: whether the identity root lets its ledger go on from where it is.
    pub(super) async fn look_for_restart(&mut self) -> Result<Duration, Fault> {
        let contradiction = self.contradiction.take_if(|found| found.about == About::Head);
        let Some(contradiction) = contradiction else { return Ok(LONGEST) };
        let answer = self.check_in(Vec::new()).await;
        let adopts = answer.as_ref().is_ok_and(|answer| self.ledger.would_adopt(&answer.ledger));
        if !adopts {
            self.contradiction = Some(contradiction);
            return answer.map(|_| self.settings.check_in.clamp(LONGEST));
        }
        // Before the restart is adopted: a process that dies in between finds the contradiction, or the restart, again.
        contradiction.put_by(&self.folder)?;
        self.take_ledger(&answer?.ledger)?;
        Ok(Duration::ZERO)
    }

    /// Looks up in the ledger what became of the rounds that this client uploaded to. Whether a restart was adopted.
    async fn settle(&mut self) -> Result<bool, Fault> {
        let awaited: Vec<_> = self.accounts.awaiting.iter().take(MAX_ROUNDS).cloned().collect();
        if awaited.is_empty() {
            return Ok(false);
        }
        let rounds = awaited.iter().map(|awaiting| awaiting.name()).collect();
        let prove = Prove { since: self.ledger.size(), rounds, restart: self.ledger.restart_number() };
        let proof = self.line.once(async |client| client.prove(prove).await).await?;
        let adopted = self.take_ledger(&proof)?;
        for awaiting in awaited {
            let verdict = self.ledger.judge(&self.folder, &awaiting, &proof, now())?;
            if verdict != Verdict::Open {
                tracing::info!(round = %awaiting.name(), ?verdict, "the ledger says how the round ended");
                self.accounts.settle(&awaiting, verdict, self.ledger.restart_number());
                self.accounts.store(&self.folder)?;
            }
        }
        Ok(adopted)
    }

    /// Does what an offer asks for, as far as this client wants to.
    async fn consider(&mut self, offer: Offer) -> Result<(), Fault> {
        let plan = match offer.plan.verify(&self.member.coordinator) {
            Ok(plan) => plan.clone(),
            Err(error) => {
                self.problem(&error.to_string());
                return Ok(());
            }
        };
        let task = plan.task.clone();
        let mut status = TaskStatus { excuse: offer.excuse.clone(), ..TaskStatus::default() };
        status.installed = self.follow(&offer.manifest, &task).await?;
        let training_version = offer.parent.as_ref().unwrap_or(&offer.manifest);
        if plan.round < self.ledger.first_round() {
            status.refusal = Some(format!(
                "round {} has a number from before the ledger was restarted: it may have been used in what was lost",
                plan.round
            ));
            self.status.tasks.insert(task.to_string(), status);
            return Ok(());
        }
        if let Err(error) = admit(&offer.plan, &self.member, &self.accounts.budget) {
            status.refusal = Some(error.to_string());
            self.status.tasks.insert(task.to_string(), status);
            return Ok(());
        }
        let member = Member { membership: offer.membership.clone(), ..self.member.clone() };
        let epoch = check_place(&plan, &member, self.epoch.as_ref(), now());
        if let Err(error) = &epoch {
            status.refusal = Some(error.to_string());
            self.undrawn.insert(task.clone());
            self.status.tasks.insert(task.to_string(), status);
            return Ok(());
        }
        self.undrawn.remove(&task);
        self.note_epoch(epoch.ok().flatten())?;
        self.keep_plan(&task, &offer.plan, offer.membership.as_ref())?;
        let mut update = Update::load(&self.folder, &task)?;
        if update.as_ref().is_some_and(|update| !update.serves(&plan)) {
            // The task has moved on too far, or asks for other work, and no cohort takes it any more.
            Update::shred(&self.folder, &task)?;
            update = None;
        }
        status.ready = update.is_some();
        let name = RoundName { task: task.clone(), round: plan.round };
        match update {
            Some(update) if offer.join && self.accounts.may_join(&name) => {
                let rng = &mut UnwrapErr(SysRng);
                match Round::join(&self.folder, &offer.plan, &member, &update, &self.accounts, now(), rng) {
                    Ok(round) => {
                        tracing::info!(round = %name, "joining");
                        self.round = Some(round);
                    }
                    Err(RoundError::Folder(error)) => return Err(error.into()),
                    Err(error) => status.refusal = Some(error.to_string()),
                }
            }
            Some(_) => {}
            None if offer.excuse.is_none() && self.accounts.may_join(&name) => {
                let parent = training_version.clone();
                self.prepare(plan, &parent).await?;
            }
            None => {}
        }
        self.status.tasks.insert(task.to_string(), status);
        Ok(())
    }

    /// Begins to train for a plan, unless something is trained already or its task rests.
    async fn prepare(&mut self, plan: RoundPlan, parent: &tacit_proto::SignedManifest) -> Result<(), Fault> {
        let is_stale = |training: &super::Training| {
            training.task == plan.task && !serves(&plan, &training.parent, &training.recipe)
        };
        if self.training.as_ref().is_some_and(is_stale) {
            self.stop_training();
        }
        let rests = self.resting.get(&plan.task).is_some_and(|until| Instant::now() < *until);
        if self.training.is_some() || rests {
            return Ok(());
        }
        self.follow(parent, &plan.task).await?;
        let Some((digest, values)) = self.version(parent, &plan.task)? else { return Ok(()) };
        if plan.parents.binary_search(&digest).is_err() {
            self.problem(&format!(
                "the version to train on for task {} is none that its plan admits",
                plan.task
            ));
            return Ok(());
        }
        let job = Job {
            plan,
            parent: digest,
            values,
            base_model: self.settings.base_model.clone(),
            code: self.settings.code.clone(),
            cpu: self.settings.cpu,
        };
        self.train(job);
        Ok(())
    }

    /// Remembers the epoch of a roster that has drawn this client, before anything is said in it.
    fn note_epoch(&mut self, epoch: Option<NewestEpoch>) -> Result<(), Fault> {
        if let Some(epoch) = epoch.filter(|epoch| self.epoch != Some(*epoch)) {
            self.folder.store(EPOCH_FILE, EPOCH, &epoch)?;
            self.epoch = Some(epoch);
        }
        Ok(())
    }

    /// Keeps the plan for the dry run, with the place on the roster that it demands.
    fn keep_plan(
        &self,
        task: &TaskName,
        plan: &SignedPlan,
        membership: Option<&Membership>,
    ) -> Result<(), Fault> {
        let name = format!("{task}{PLAN_SUFFIX}");
        let (file, wire) = (format!("{PLANS}/{name}"), plan.to_wire());
        let known = self.folder.read(&file, PLAN)?;
        if known.is_none_or(|known| *known != wire) {
            if let Some(membership) = membership {
                self.folder.store(&format!("{PLACES}/{name}"), PLACE, membership)?;
            }
            self.folder.write(&file, PLAN, &wire)?;
        }
        Ok(())
    }
}
