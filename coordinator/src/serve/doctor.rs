//! Looks through a data folder that nobody serves, and says what is wrong. Must never change anything.

use super::data::{DataError, DataFolder};
use crate::account::Account;
use crate::engine::tables::{Journal, Rounds, Stage, States, Tasks};
use crate::identity::Roll;
use crate::publication::Publisher;
use crate::roster::{Listed, ListedError, MAX_ROSTERS, Rolls};
use crate::store::{Records, RocksStore, Store};
use crate::task::TaskSettings;
use serde::Serialize;
use std::sync::Arc;
use tacit_aggregation::identity::PublicKey;
use tacit_aggregation::params::TaskName;
use tacit_aggregation::server::Session;
use tacit_proto::{Channel, SignedPlan, Wire as _};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1024;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What is wrong, or none.
    pub problem: Option<String>,
    /// What was found, for people.
    pub found: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// In the order of looking.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.problem.is_none())
    }

    fn note<E: std::fmt::Display>(&mut self, what: impl Into<String>, looked: Result<String, E>) {
        let (found, problem) = match looked {
            Ok(found) => (found, None),
            Err(error) => (String::new(), Some(error.to_string())),
        };
        self.findings.push(Finding { what: what.into(), problem, found });
    }
}

/// Looks through a data folder. The store must not be in use.
///
/// # Errors
/// [`DataError`] when the folder holds no coordinator at all, or its store cannot be opened.
pub fn examine(data: &DataFolder) -> Result<Diagnosis, DataError> {
    let mut diagnosis = Diagnosis::default();
    let key = Arc::new(data.key()?);
    diagnosis.note("settings", data.settings().map(|settings| format!("listens on {}", settings.listen)));
    let appointment = data.appointment();
    let root = appointment.as_ref().ok().map(crate::identity::Appointment::root);
    diagnosis.note("appointment", appointment.map(|_| "signed by the identity root".to_owned()));
    let path = data.store();
    if !path.is_dir() {
        diagnosis.note("store", Ok::<_, String>("nothing was served yet".to_owned()));
        return Ok(diagnosis);
    }
    let store = RocksStore::open(&path)
        .map_err(|error| DataError::Malformed { path: path.clone(), problem: error.to_string() })?;
    let store: Arc<dyn Store> = Arc::new(store);
    let account = Account::load(store.as_ref());
    diagnosis.note(
        "ledger",
        account.as_ref().map(|account| {
            let open = account.reservations().count();
            let (size, restarts) = (account.ledger().size(), account.ledger().restarts());
            let last =
                restarts.last().map(|restart| format!("; goes on from restart {}", restart.claimed().number));
            format!(
                "{size} entries, each follows the one before; {open} reservations{}",
                last.unwrap_or_default()
            )
        }),
    );
    let records = Records(store.as_ref());
    if let Some(root) = &root {
        let rolls = records.scan::<Rolls>(&(), None, MAX_ROSTERS).map_err(|error| error.to_string());
        let listed = rolls.and_then(|rolls| {
            let read = |(_, roll): &(u64, Roll)| Ok(Listed::new(roll, root)?.number().to_string());
            let numbers: Result<Vec<String>, ListedError> = rolls.iter().map(read).collect();
            Ok(numbers.map_err(|error| error.to_string())?.join(", "))
        });
        diagnosis.note("rosters of epochs", listed);
    }
    let publisher = Publisher::open(data.path(), Arc::clone(&store), Arc::clone(&key));
    let tasks = records.scan::<Tasks>(&(), None, usize::MAX);
    diagnosis.note("tasks", tasks.as_ref().map(|tasks| tasks.len().to_string()));
    for (name, row) in tasks.unwrap_or_default() {
        let settings: Result<TaskSettings, String> = row.settings().map_err(|error| error.to_string());
        let state = settings.and_then(|settings| {
            let state = records.get::<States>(&name).map_err(|error| error.to_string())?;
            let state = state.ok_or("it is missing")?.state(&settings).map_err(|error| error.to_string())?;
            Ok::<_, String>(format!(
                "{} coordinates, round {} is next",
                state.adapter.values().len(),
                row.next_round
            ))
        });
        diagnosis.note(format!("task {name}"), state);
        if let (Ok(publisher), Ok(task)) = (&publisher, TaskName::new(&name)) {
            diagnosis.note(format!("versions of {name}"), versions(publisher, &task));
        }
        diagnosis.note(format!("rounds of {name}"), rounds(records, &name, key.public_key(), root));
    }
    Ok(diagnosis)
}

/// Reads every file of the versions that are kept, and the channels.
fn versions(publisher: &Publisher, task: &TaskName) -> Result<String, String> {
    let (mut from, mut count, mut bytes) = (0, 0, 0);
    loop {
        let listed = publisher.list(task, from, ROWS_AT_ONCE).map_err(|error| error.to_string())?;
        let Some(last) = listed.last() else { break };
        from = last.manifest.version + 1;
        for version in listed.iter().filter(|version| !version.retired) {
            count += 1;
            for file in &version.manifest.files {
                let blob = publisher.open_blob(&file.digest, 0);
                bytes += blob
                    .map_err(|error| format!("version {}, {}: {error}", version.manifest.version, file.name))?
                    .left();
            }
        }
    }
    for channel in Channel::ALL {
        publisher.manifest(task, channel).map_err(|error| error.to_string())?;
    }
    Ok(format!("{count} with {bytes} bytes, all as they were published"))
}

/// Comes back to the open round, if there is one, as a start would.
fn rounds(
    records: Records<'_>,
    task: &str,
    coordinator: PublicKey,
    root: Option<PublicKey>,
) -> Result<String, String> {
    let (mut from, mut ended, mut open) = (None, 0, Vec::new());
    loop {
        let rows = records.scan::<Rounds>(&(task.to_owned(),), from.as_ref(), ROWS_AT_ONCE);
        let rows = rows.map_err(|error| error.to_string())?;
        let Some(((_, last), _)) = rows.last() else { break };
        from = Some((task.to_owned(), last.saturating_add(1)));
        for ((_, round), row) in rows {
            match row.stage {
                Stage::Ended(_) => ended += 1,
                Stage::Planned => {}
                Stage::Open { .. } => {
                    let plan = SignedPlan::from_wire(&row.plan)
                        .map_err(|error| format!("round {round}: {error}"))?;
                    let journal = records.scan::<Journal>(&(task.to_owned(), round), None, usize::MAX);
                    let journal = journal.map_err(|error| format!("round {round}: {error}"))?;
                    let plan = plan.verify(&coordinator).map_err(|error| error.to_string())?;
                    let terms = plan.terms();
                    let root = root.ok_or("the identity root is not known")?;
                    let restored = Session::restore(
                        Arc::new(terms),
                        root,
                        journal.into_iter().map(|(_, record)| record),
                    );
                    let session = restored.map_err(|error| format!("round {round}: {error}"))?;
                    let step = session.phase().step().map_or("over".to_owned(), |step| step.to_string());
                    open.push(format!("round {round} is in {step}"));
                }
            }
        }
    }
    open.insert(0, format!("{ended} have ended"));
    Ok(open.join(", "))
}
