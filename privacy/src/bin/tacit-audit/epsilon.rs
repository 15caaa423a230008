//! `tacit-audit epsilon`: what releases cost.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tacit_privacy::{AccountantError, Adjacency};

use crate::cli;
use crate::failure::Failure;
use crate::output;
use crate::release::{Accountant, NoNumber, Release};
use crate::spec::Spec;
use crate::step::{Name, Step};

/// The arguments of `tacit-audit epsilon`.
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_long_help = "Examples:\n  \
        tacit-audit epsilon --mechanism gaussian --sigma 2 --steps 10 --delta 1e-5\n  \
        tacit-audit epsilon --mechanism poisson-gaussian --sigma 1.1 --sampling-rate 0.01 \\\n      \
        --steps 10000 --delta 1e-6\n  \
        tacit-audit epsilon --mechanism zcdp --rho 0.1 --steps 1 --delta 1e-6 --json\n  \
        tacit-audit epsilon --mechanism distributed-discrete-gaussian --sigma 10 --sensitivity 50 \\\n      \
        --clients 100 --dimension 6144 --steps 20 --delta 1e-6\n\n\
        A file for --spec:\n  \
        delta = 1e-6\n  \
        adjacency = \"zero-out\"         # or \"replace-one\"; this line may be left out\n\n  \
        [[step]]\n  \
        mechanism = \"poisson-gaussian\"\n  \
        sigma = 1.1\n  \
        sensitivity = 1.0              # 1 if left out\n  \
        sampling_rate = 0.01\n  \
        steps = 1000                   # 1 if left out\n\n  \
        [[step]]\n  \
        mechanism = \"laplace\"\n  \
        sigma = 30.0"
)]
pub(crate) struct Epsilon {
    /// The mechanism that adds the noise
    #[arg(long, value_enum, required_unless_present = "spec")]
    mechanism: Option<Name>,
    /// Standard deviation of the total noise (of Laplace noise too: its scale is sigma over the square root of 2); of
    /// distributed-discrete-gaussian, of one client's share
    #[arg(long, allow_hyphen_values = true)]
    sigma: Option<f64>,
    /// How far one client's update can move the sum: its largest Euclidean length, for laplace its largest l1 norm; a whole
    /// number for discrete-gaussian and skellam; twice as much counts under replace-one [default: 1]
    #[arg(long, allow_hyphen_values = true)]
    sensitivity: Option<f64>,
    /// Probability with which each client joins one step, independently, unseen by whoever looks at the output
    #[arg(long, allow_hyphen_values = true)]
    sampling_rate: Option<f64>,
    /// Cost of one step in zero-concentrated differential privacy
    #[arg(long, allow_hyphen_values = true)]
    rho: Option<f64>,
    /// Clients whose shares of noise can be relied on: survivors less those who may collude
    #[arg(long)]
    clients: Option<u32>,
    /// Coordinates of the vector
    #[arg(long)]
    dimension: Option<usize>,
    /// What neighbours differ in: one client's update replaced by zero (added or removed), or by any other
    #[arg(long, value_parser = cli::adjacency(), default_value = "zero-out")]
    adjacency: Adjacency,
    /// How often the mechanism runs on the same clients
    #[arg(long, default_value_t = 1)]
    steps: u64,
    /// Probability with which the promise may fail; far below one over the number of clients
    #[arg(long, required_unless_present = "spec", allow_hyphen_values = true)]
    delta: Option<f64>,
    /// Compose what this TOML file lists, instead of one mechanism
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "mechanism", "sigma", "sensitivity", "sampling_rate", "rho", "clients", "dimension", "adjacency", "steps", "delta",
    ])]
    spec: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The two epsilons, and why one is missing.
#[derive(Debug, Serialize)]
struct Answer {
    epsilon_pld: Option<f64>,
    epsilon_rdp: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct OfOne<'a> {
    #[serde(flatten)]
    step: &'a Step,
    adjacency: Adjacency,
    delta: f64,
    #[serde(flatten)]
    answer: &'a Answer,
}

#[derive(Debug, Serialize)]
struct OfMany<'a> {
    #[serde(flatten)]
    spec: &'a Spec,
    #[serde(flatten)]
    answer: &'a Answer,
}

impl Epsilon {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let (spec, releases) = match &self.spec {
            Some(path) => {
                let spec = Spec::load(path)?;
                let releases = spec.releases()?;
                (spec, releases)
            }
            None => self.single()?,
        };
        let answer = Answer::of(&releases, spec.delta)?;
        match (self.json, &self.spec) {
            (true, Some(_)) => output::json(&OfMany { spec: &spec, answer: &answer })?,
            (true, None) => {
                let (step, adjacency, delta) = (&spec.step[0], spec.adjacency, spec.delta);
                output::json(&OfOne { step, adjacency, delta, answer: &answer })?;
            }
            (false, _) => answer.show(&spec)?,
        }
        let answered = answer.epsilon_pld.or(answer.epsilon_rdp).is_some();
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// A composition of the one mechanism on the command line.
    fn single(&self) -> Result<(Spec, Vec<(Release, u64)>), Failure> {
        let (Some(mechanism), Some(delta)) = (self.mechanism, self.delta) else {
            return Err(Failure::Usage("--mechanism and --delta are needed, or --spec".to_owned()));
        };
        let &Self { sigma, sensitivity, sampling_rate, rho, clients, dimension, steps, adjacency, .. } = self;
        let sensitivity = sensitivity.or((mechanism != Name::Zcdp).then_some(1.0));
        let step = Step { mechanism, sigma, sensitivity, sampling_rate, rho, clients, dimension, steps };
        let release = step.release(adjacency).map_err(Failure::of_step)?;
        Ok((Spec { delta, adjacency, step: vec![step] }, vec![(release, steps)]))
    }
}

impl Answer {
    fn of(releases: &[(Release, u64)], delta: f64) -> Result<Self, AccountantError> {
        if !(delta > 0.0 && delta < 1.0) {
            return Err(AccountantError::DeltaOutOfRange(delta));
        }
        let by = |accountant: Accountant| accountant.epsilon(releases, delta);
        let (pld, rdp) = (by(Accountant::Pld), by(Accountant::Rdp));
        let because = |name: &str, result: &Result<f64, NoNumber>| {
            result.as_ref().err().map(|reason| format!("{name}: {reason}"))
        };
        let reasons: Vec<String> =
            because("epsilon_pld", &pld).into_iter().chain(because("epsilon_rdp", &rdp)).collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        Ok(Self { epsilon_pld: pld.ok(), epsilon_rdp: rdp.ok(), reason })
    }

    fn show(&self, spec: &Spec) -> anyhow::Result<()> {
        let mut rows: Vec<(&str, String)> =
            spec.step.iter().map(|step| ("release", output::describe(step))).collect();
        rows.push(("neighbours", output::neighbours(spec.adjacency)));
        rows.push(("delta", format!("{:e}", spec.delta)));
        let number = |epsilon: Option<f64>| epsilon.map_or_else(|| "none".to_owned(), output::rounded_up);
        let (pld, rdp) = (number(self.epsilon_pld), number(self.epsilon_rdp));
        rows.push((
            "epsilon (PLD)",
            format!("{pld:<9}  by privacy loss distributions: nearly exact, never below the truth"),
        ));
        rows.push(("epsilon (RDP)", format!("{rdp:<9}  by Rényi divergences: an upper bound")));
        rows.extend(self.reason.iter().map(|reason| ("because", reason.clone())));
        output::table(&rows)
    }
}
