//! `tacit-client status`, `pause`, `resume`, `budget`, `forget`: an owner's view of a client, and hold on it.
//! Must never change what a running client holds.

use std::fs;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use tacit_client::accounts::Accounts;
use tacit_client::daemon::{PAUSED, State, Status};
use tacit_client::folder::Folder;
use tacit_client::ledger::{About, Contradiction};
use tacit_client::settings::Settings;
use tacit_proto::fleet::RoundName;

use super::home::{Home, ago};
use super::say;

#[derive(Debug, Args)]
pub(crate) struct ShowStatus {
    #[command(flatten)]
    home: Home,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    home: Home,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    home: Home,
    /// Take part again although the coordinator was caught in a contradiction; the evidence is kept
    #[arg(long)]
    despite_contradiction: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowBudget {
    #[command(flatten)]
    home: Home,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    home: Home,
    /// Do it: keys, settings, budget, adapters and evidence are wiped and cannot be brought back
    #[arg(long)]
    yes: bool,
}

impl ShowStatus {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = self.home.path();
        let running = Folder::is_in_use(home)?;
        let mut status = Status::read(home)?.unwrap_or_default();
        if !running {
            status.state = State::Stopped;
        }
        let contradiction = Contradiction::peek(home)?;
        if self.json {
            let mut value = serde_json::to_value(&status)?;
            value["running"] = running.into();
            value["paused"] = home.join(PAUSED).exists().into();
            value["contradiction"] = contradiction.map(|found| found.problem).into();
            return say(&serde_json::to_string(&value)?);
        }
        say(&format!("Client {} of {}: {}", status.client, status.coordinator, status.state.describe()))?;
        if home.join(PAUSED).exists() && status.state != State::Paused {
            say("  paused by its owner")?;
        }
        if let Some(round) = &status.round {
            say(&format!("  in round {round}: {}", status.step.as_deref().unwrap_or("-")))?;
        }
        let contact = status.last_contact.map_or_else(|| "never".to_owned(), ago);
        say(&format!("  last contact {contact}; ledger of {} entries seen", status.ledger))?;
        say(&format!("  epsilon spent {:.4} of {}", status.epsilon_spent, status.epsilon_limit))?;
        for (task, found) in &status.tasks {
            let version = found
                .installed
                .map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
            let ready = if found.ready { ", an update is ready" } else { "" };
            say(&format!("  task {task}: {version} installed{ready}"))?;
            let refusal = found.refusal.iter().filter(|why| found.excuse.as_ref() != Some(why));
            for why in found.excuse.iter().chain(refusal) {
                say(&format!("    stays out: {why}"))?;
            }
        }
        if status.restart > 0 {
            say(&format!(
                "  the coordinator was restored from a backup; its ledger goes on from restart {}",
                status.restart
            ))?;
        }
        if !status.lost.is_empty() {
            say(&format!("  lost in that, and spent all the same: {}", status.lost.join(", ")))?;
        }
        if !status.awaiting.is_empty() {
            say(&format!("  the ledger has yet to say how it ended: {}", status.awaiting.join(", ")))?;
        }
        if let Some((at, problem)) = &status.problem {
            say(&format!("  last problem, {}: {problem}", ago(*at)))?;
        }
        if let Some(found) = contradiction {
            say(&format!("  CONTRADICTION, {}: {}", ago(found.at), found.problem))?;
            if found.about == About::Head {
                say(
                    "  It takes part in nothing until the identity root has signed a restart of the ledger.",
                )?;
            } else {
                say("  It takes part in nothing.")?;
            }
            say("  `tacit-client resume --despite-contradiction` ends that.")?;
        }
        Ok(())
    }
}

impl Pause {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        Folder::is_in_use(self.home.path())?;
        let path = self.home.path().join(PAUSED);
        fs::write(&path, []).with_context(|| format!("{}", path.display()))
    }
}

impl Resume {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = self.home.path();
        Folder::is_in_use(home)?;
        if let Some(found) = Contradiction::peek(home)? {
            if !self.despite_contradiction {
                bail!(
                    "the coordinator contradicts itself: {}; --despite-contradiction takes part all the same",
                    found.problem
                );
            }
            // Needs the folder for itself: the running client would write over it.
            found.put_by(&Folder::open_existing(home)?)?;
        }
        match fs::remove_file(home.join(PAUSED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// What was spent, and what is left.
#[derive(Serialize)]
struct BudgetView {
    delta: f64,
    spent: f64,
    limit: f64,
    period: Option<PeriodView>,
    per_task: Option<f64>,
    tasks: std::collections::BTreeMap<String, f64>,
    participations: Vec<ParticipationView>,
    clock: u64,
}

#[derive(Serialize)]
struct PeriodView {
    days: u32,
    spent: f64,
    limit: f64,
}

#[derive(Serialize)]
struct ParticipationView {
    task: String,
    round: u64,
    at: u64,
    epsilon: f64,
    outcome_awaited: bool,
    lost_by_restart: Option<u32>,
}

impl ShowBudget {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = self.home.path();
        let Some(accounts) = Accounts::peek(home)? else {
            bail!("nothing was spent: `tacit-client run` has not run here yet");
        };
        let mut budget = accounts.budget.clone();
        // The owner's limits as they are now; a client that runs takes them up when it starts again.
        if let Ok(settings) = Settings::read(home) {
            budget = budget.with_limits(settings.limits.into())?;
        }
        budget.advance(tacit_client::daemon::now());
        let limits = *budget.limits();
        let mut tasks = std::collections::BTreeMap::new();
        let mut participations = Vec::new();
        for debit in budget.debits() {
            let (task, round) = (&debit.participation.task, debit.participation.round);
            tasks.insert(task.to_string(), budget.spent_on(task)?);
            participations.push(ParticipationView {
                task: task.to_string(),
                round,
                at: debit.at,
                epsilon: budget.cost_of(debit)?,
                outcome_awaited: accounts
                    .awaiting
                    .iter()
                    .any(|awaiting| awaiting.task == *task && awaiting.round == round),
                lost_by_restart: accounts.lost_by(&RoundName { task: task.clone(), round }),
            });
        }
        let spent_in_period = budget.spent_in_period()?;
        let period = limits.period.zip(spent_in_period);
        let view = BudgetView {
            delta: limits.delta,
            spent: budget.spent()?,
            limit: limits.epsilon,
            period: period.map(|(period, spent)| PeriodView {
                days: period.days,
                spent,
                limit: period.epsilon,
            }),
            per_task: limits.per_task,
            tasks,
            participations,
            clock: budget.clock(),
        };
        if self.json {
            return say(&serde_json::to_string(&view)?);
        }
        show(&view)
    }
}

fn show(view: &BudgetView) -> anyhow::Result<()> {
    let left =
        |spent: f64, limit: f64| format!("{spent:.4} spent, {:.4} left of {limit}", (limit - spent).max(0.0));
    say(&format!("Epsilon at delta {}:", view.delta))?;
    say(&format!("  for ever: {}", left(view.spent, view.limit)))?;
    if let Some(period) = &view.period {
        say(&format!("  in the last {} days: {}", period.days, left(period.spent, period.limit)))?;
    }
    for (task, spent) in &view.tasks {
        let text = view.per_task.map_or_else(|| format!("{spent:.4} spent"), |limit| left(*spent, limit));
        say(&format!("  on task {task}: {text}"))?;
    }
    for spent in &view.participations {
        let outcome = match spent.lost_by_restart {
            Some(restart) => format!(", not in the ledger since restart {restart}"),
            None if spent.outcome_awaited => ", outcome awaited".to_owned(),
            None => String::new(),
        };
        say(&format!(
            "    round {} of {}, {}: {:.4} alone{outcome}",
            spent.round,
            spent.task,
            ago(spent.at),
            spent.epsilon
        ))?;
    }
    Ok(())
}

impl Forget {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let home = self.home.path();
        let folder = Folder::open_existing(home)?;
        if !self.yes {
            bail!(
                "this wipes everything in {}, the record of what was spent too; --yes does it",
                home.display()
            );
        }
        Ok(folder.forget()?)
    }
}
