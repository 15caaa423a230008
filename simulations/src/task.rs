//! From a scenario and a model to the plan of its rounds. Must never let a round begin whose plan is infeasible.

use tacit_coordinator::{
    Account, AdapterVersion, CentralSettings, OptimizerState, PlanSettings, RoundStart, TaskState,
};
use tacit_model::train::optimizer::LocalOptimizer;
use tacit_model::{BaseModel, LoraConfig};
use tacit_privacy::{Mechanism, NoiseKey, RoundMechanism};
use tacit_proto::{AdapterShape, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining};

use crate::error::SimulationError;
use crate::random::{Purpose, generator};
use crate::report::Parameters;
use crate::scenario::{Scenario, Trust};

/// A sum fails for lack of shares with probability at most 2^-40.
const CORRECTNESS_BITS: u8 = 40;
/// How long the phases stay open in virtual time, in milliseconds; a message takes seconds.
const DEADLINES: Deadlines =
    Deadlines { advertise: 60_000, share: 30_000, collect: 120_000, confirm: 30_000, unmask: 30_000 };

/// The learning task of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) settings: PlanSettings,
    /// The adapter's shape, checked against the model, targets in canonical order.
    pub(crate) lora: LoraConfig,
    pub(crate) dimension: usize,
    seed: u64,
}

impl Task {
    pub(crate) fn new(scenario: &Scenario, model: &BaseModel) -> Result<Self, SimulationError> {
        let decoder = model.decoder().config();
        let lora = scenario.lora.clone().validated(decoder)?;
        scenario.local.validate(decoder.max_position_embeddings)?;
        check_window("evaluation.window", scenario.evaluation.window, decoder.max_position_embeddings)?;
        let tokens = scenario.evaluation.completion_tokens;
        check_window("evaluation.completion_tokens", tokens + 1, decoder.max_position_embeddings)?;
        let dimension = lora.dimension(decoder);
        let settings = PlanSettings {
            task: tacit_aggregation::params::TaskName::new(&scenario.name)?,
            base_model: model.digest(),
            adapter: shape(&lora)?,
            training: training(scenario)?,
            cohort: CohortTerms {
                min: scenario.cohort.size,
                max: scenario.cohort.size,
                n_min: scenario.n_min(),
                threat: scenario.cohort.threat,
                corrupt_bp: scenario.cohort.corrupt.get(),
                dropout_bp: scenario.cohort.dropout.get(),
                correctness_bits: CORRECTNESS_BITS,
            },
            clip: scenario.privacy.clip,
            noise_multiplier: scenario.privacy.noise_multiplier,
            adjacency: scenario.privacy.adjacency,
            noise_law: scenario.privacy.noise_law,
            delta: scenario.privacy.delta,
            deadlines: DEADLINES,
            roster: None,
            central: match scenario.privacy.trust {
                Trust::Distributed => None,
                Trust::Central => Some(CentralSettings { adaptive_clip: scenario.privacy.adaptive_clip }),
            },
        };
        Ok(Self { settings, lora, dimension, seed: scenario.seed })
    }

    /// The key of the coordinator's noise in one round, where it adds the noise.
    pub(crate) fn noise_key(&self, round: u64) -> Option<NoiseKey> {
        let rng = &mut generator(self.seed, Purpose::CentralNoise, 0, round);
        self.settings.central.map(|_| NoiseKey::generate(rng))
    }

    /// The task before its first round: an adapter that changes nothing.
    pub(crate) fn start(&self, scenario: &Scenario) -> Result<TaskState, SimulationError> {
        let adapter = AdapterVersion::new(vec![0.0; self.dimension], self.settings.base_model)?;
        let optimizer = OptimizerState::new(scenario.server.clone(), self.dimension)?;
        Ok(TaskState { adapter, optimizer })
    }

    /// Plans a round that is never run, to learn what every round's parameters will be and whether they are feasible.
    pub(crate) fn parameters(
        &self,
        state: &TaskState,
        key: &CoordinatorKey,
        model: &BaseModel,
    ) -> Result<Parameters, SimulationError> {
        let (account, noise) = (Account::timeless(), self.noise_key(1));
        let noise = noise.as_ref();
        let start = RoundStart { noise, ..RoundStart::new(1, &state.adapter, &account) };
        let signed = self.settings.plan(start, key)?;
        let plan = signed.verify(&key.public_key())?;
        let params = plan.terms().params(self.settings.cohort.max)?;
        let mechanism = plan.mechanism(&params)?;
        Ok(Parameters {
            base_model: hex::encode(model.digest()),
            base_model_name: model.name(),
            dimension: self.dimension,
            cohort: params.n,
            n_min: params.n_min,
            corrupt: params.corrupt(),
            honest_minimum: params.honest_minimum(),
            degree: params.degree,
            threshold: params.threshold,
            bits: mechanism.bits(),
            scale: mechanism.scale(),
            sensitivity_inflation: mechanism.sensitivity_inflation(),
            local_sigma: match &mechanism {
                RoundMechanism::Distributed(mechanism) => Some(Mechanism::local_sigma(mechanism)),
                RoundMechanism::Central(_) => None,
            },
        })
    }
}

fn check_window(field: &'static str, tokens: usize, positions: usize) -> Result<(), SimulationError> {
    if tokens <= positions {
        return Ok(());
    }
    Err(SimulationError::setting(field, tokens, format!("within the model's {positions} positions")))
}

fn narrow(field: &'static str, value: usize) -> Result<u32, SimulationError> {
    u32::try_from(value).map_err(|_| SimulationError::setting(field, value, "below 2^32"))
}

fn shape(lora: &LoraConfig) -> Result<AdapterShape, SimulationError> {
    Ok(AdapterShape {
        rank: narrow("lora.rank", lora.rank)?,
        alpha: lora.alpha,
        targets: lora.targets.iter().map(|target| target.name().to_owned()).collect(),
        seed: lora.seed,
    })
}

fn training(scenario: &Scenario) -> Result<LocalTraining, SimulationError> {
    let local = &scenario.local;
    let rule = match local.optimizer {
        LocalOptimizer::Adam { beta1, beta2 } => LocalRule::Adam { beta1, beta2 },
        LocalOptimizer::Sgd { momentum } => LocalRule::Sgd { momentum },
    };
    Ok(LocalTraining {
        rule,
        learning_rate: local.learning_rate,
        steps: narrow("local.steps", local.steps)?,
        batch: narrow("local.batch", local.batch)?,
        sequence: narrow("local.sequence", local.sequence)?,
    })
}
