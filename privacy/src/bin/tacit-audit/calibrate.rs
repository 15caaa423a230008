//! `tacit-audit calibrate`: the least noise for a promise.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tacit_privacy::{AccountantError, Adjacency, calibrate, shortest};

use crate::cli;
use crate::failure::Failure;
use crate::output;
use crate::release::{Accountant, NoNumber};
use crate::step::{Name, Step};

/// A noise multiplier with which every other argument can be checked.
const PLENTY: f64 = (1 << 12) as f64;

/// The arguments of `tacit-audit calibrate`.
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_long_help = "Examples:\n  \
        tacit-audit calibrate --epsilon 1 --delta 1e-6 --steps 100\n  \
        tacit-audit calibrate --epsilon 2 --delta 1e-6 --steps 10000 --sampling-rate 0.01 --json\n  \
        tacit-audit calibrate --epsilon 4 --delta 1e-6 --steps 20 \\\n      \
        --mechanism distributed-discrete-gaussian --sensitivity 50 --clients 100 --dimension 6144"
)]
pub(crate) struct Calibrate {
    /// The largest epsilon that is allowed
    #[arg(long, allow_hyphen_values = true)]
    epsilon: f64,
    /// Probability with which the promise may fail; far below one over the number of clients
    #[arg(long, allow_hyphen_values = true)]
    delta: f64,
    /// How often the mechanism runs on the same clients
    #[arg(long, default_value_t = 1)]
    steps: u64,
    /// The mechanism that adds the noise [default: gaussian, or poisson-gaussian if a sampling rate is given]
    #[arg(long, value_enum)]
    mechanism: Option<Name>,
    /// How far one client's update can move the sum: its largest Euclidean length, for laplace its largest l1 norm; a whole
    /// number for discrete-gaussian and skellam; twice as much counts under replace-one [default: 1]
    #[arg(long, allow_hyphen_values = true)]
    sensitivity: Option<f64>,
    /// Probability with which each client joins one step, independently, unseen by whoever looks at the output
    #[arg(long, allow_hyphen_values = true)]
    sampling_rate: Option<f64>,
    /// Clients whose shares of noise can be relied on: survivors less those who may collude
    #[arg(long)]
    clients: Option<u32>,
    /// Coordinates of the vector
    #[arg(long)]
    dimension: Option<usize>,
    /// What neighbours differ in: one client's update replaced by zero (added or removed), or by any other
    #[arg(long, value_parser = cli::adjacency(), default_value = "zero-out")]
    adjacency: Adjacency,
    /// Which accountant must confirm the target [default: pld, or rdp for zcdp and distributed-discrete-gaussian]
    #[arg(long, value_enum)]
    accountant: Option<Accountant>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    noise_multiplier: f64,
    #[serde(flatten)]
    step: Step,
    adjacency: Adjacency,
    delta: f64,
    target_epsilon: f64,
    epsilon: f64,
    accountant: Accountant,
}

impl Calibrate {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return Err(AccountantError::DeltaOutOfRange(self.delta).into());
        }
        let accountant = self.accountant.unwrap_or(match self.name() {
            Name::Zcdp | Name::DistributedDiscreteGaussian => Accountant::Rdp,
            _ => Accountant::Pld,
        });
        // Everything but the noise is checked with more noise than anybody needs, so that no refusal of an argument is taken
        // for too little noise below.
        let plenty = self.step(PLENTY).release(self.adjacency).map_err(Failure::of_step)?;
        if let (Accountant::Pld, Err(reason @ (NoNumber::NotFromRho | NoNumber::NotForSums))) =
            (accountant, plenty.loss())
        {
            return Err(anyhow::Error::new(reason)
                .context("--accountant pld has no epsilon to aim at")
                .into());
        }
        let epsilon_at = |noise_multiplier: f64| -> anyhow::Result<f64> {
            let release = self.step(noise_multiplier).release(self.adjacency)?;
            Ok(accountant.epsilon(&[(release, self.steps)], self.delta)?)
        };
        let noise_multiplier = calibrate(self.epsilon, epsilon_at)?;
        let answer = Answer {
            noise_multiplier,
            step: self.step(noise_multiplier),
            adjacency: self.adjacency,
            delta: self.delta,
            target_epsilon: self.epsilon,
            epsilon: epsilon_at(noise_multiplier)?,
            accountant,
        };
        if self.json {
            output::json(&answer)?
        } else {
            answer.show()?
        }
        Ok(ExitCode::SUCCESS)
    }

    fn name(&self) -> Name {
        let sampled = self.sampling_rate.is_some_and(|rate| rate != 1.0);
        self.mechanism.unwrap_or(if sampled { Name::PoissonGaussian } else { Name::Gaussian })
    }

    /// The mechanism with as much noise.
    fn step(&self, noise_multiplier: f64) -> Step {
        let mechanism = self.name();
        let sensitivity = self.sensitivity.unwrap_or(1.0);
        let total = noise_multiplier * sensitivity;
        let (sigma, rho) = match mechanism {
            Name::Zcdp => (None, Some(0.5 / (noise_multiplier * noise_multiplier))),
            Name::DistributedDiscreteGaussian => {
                (Some(total / f64::from(self.clients.unwrap_or(1)).sqrt()), None)
            }
            _ => (Some(total), None),
        };
        Step {
            mechanism,
            sigma,
            sensitivity: if mechanism == Name::Zcdp { self.sensitivity } else { Some(sensitivity) },
            sampling_rate: self.sampling_rate,
            rho,
            clients: self.clients,
            dimension: self.dimension,
            steps: self.steps,
        }
    }
}

impl Answer {
    fn show(&self) -> anyhow::Result<()> {
        let by = match self.accountant {
            Accountant::Pld => "privacy loss distributions",
            Accountant::Rdp => "Rényi divergences",
        };
        let epsilon = output::rounded_up(self.epsilon);
        output::table(&[
            ("noise multiplier", format!("{}  sigma over sensitivity", shortest(self.noise_multiplier))),
            ("release", output::describe(&self.step)),
            ("neighbours", output::neighbours(self.adjacency)),
            ("delta", format!("{:e}", self.delta)),
            ("epsilon", format!("{epsilon}  by {by}; the target is {}", shortest(self.target_epsilon))),
        ])
    }
}
