//! Refuses scenarios that cannot work, before anything is read or trained. Must name the field and what would be right.

use tacit_aggregation::params::TaskName;
use tacit_privacy::BasisPoints;

use super::{Scenario, Trust};
use crate::error::SimulationError;

/// Smallest cohort that the protocol can sum privately: two honest clients, one of whom a threshold of two needs.
const SMALLEST_COHORT: u32 = 4;
/// More rounds than any simulation needs; bounds the report.
const MAX_ROUNDS: u32 = 100_000;

impl Scenario {
    /// Checks every field that can be checked without the model and the corpus.
    ///
    /// # Errors
    /// [`SimulationError::Setting`] names the first field that cannot work and what would.
    pub fn validate(&self) -> Result<(), SimulationError> {
        if TaskName::new(&self.name).is_err() {
            let wanted = "1 to 64 characters of a-z, 0-9, '.', '_' and '-'";
            return Err(SimulationError::setting("name", &self.name, wanted));
        }
        if !(1..=MAX_ROUNDS).contains(&self.rounds) {
            let wanted = format!("between 1 and {MAX_ROUNDS}");
            return Err(SimulationError::setting("rounds", self.rounds, wanted));
        }
        self.validate_training()?;
        self.validate_privacy()?;
        self.validate_cohort()?;
        self.validate_data()
    }

    fn validate_training(&self) -> Result<(), SimulationError> {
        at_least_one("lora.rank", self.lora.rank)?;
        positive("lora.alpha", self.lora.alpha)?;
        if self.lora.targets.is_empty() {
            let wanted = "at least one projection such as \"q_proj\"";
            return Err(SimulationError::setting("lora.targets", "empty", wanted));
        }
        positive("local.learning_rate", self.local.learning_rate)?;
        at_least_one("local.steps", self.local.steps)?;
        at_least_one("local.batch", self.local.batch)?;
        at_least_two("local.sequence", self.local.sequence)
    }

    fn validate_privacy(&self) -> Result<(), SimulationError> {
        let privacy = &self.privacy;
        positive("privacy.clip", privacy.clip)?;
        positive("privacy.noise_multiplier", privacy.noise_multiplier)?;
        positive("privacy.epsilon_limit", privacy.epsilon_limit)?;
        if !(privacy.delta > 0.0 && privacy.delta < 1.0) {
            let wanted = "between 0 and 1, and well below one over the number of developers; 1e-5 is usual";
            return Err(SimulationError::setting("privacy.delta", privacy.delta, wanted));
        }
        let Some(rule) = &privacy.adaptive_clip else { return Ok(()) };
        if privacy.trust != Trust::Central {
            let wanted = "left out unless privacy.trust is \"central\": clients cannot noise the count of clipped deltas";
            return Err(SimulationError::setting("privacy.adaptive_clip", "given", wanted));
        }
        if !(rule.target_quantile > 0.0 && rule.target_quantile < 1.0) {
            let field = "privacy.adaptive_clip.target_quantile";
            return Err(SimulationError::setting(field, rule.target_quantile, "between 0 and 1"));
        }
        positive("privacy.adaptive_clip.learning_rate", rule.learning_rate)?;
        let least = 0.5 * privacy.noise_multiplier;
        if !(rule.count_noise.is_finite() && rule.count_noise > least) {
            let wanted = format!(
                "above {least}, half of privacy.noise_multiplier; a twentieth of the cohort is usual"
            );
            return Err(SimulationError::setting(
                "privacy.adaptive_clip.count_noise",
                rule.count_noise,
                wanted,
            ));
        }
        Ok(())
    }

    fn validate_cohort(&self) -> Result<(), SimulationError> {
        let cohort = &self.cohort;
        if cohort.size < SMALLEST_COHORT {
            let wanted = format!("at least {SMALLEST_COHORT}");
            return Err(SimulationError::setting("cohort.size", cohort.size, wanted));
        }
        let lowest = cohort.size - cohort.dropout.of(cohort.size);
        if let Some(n_min) = cohort.n_min.filter(|n_min| !(lowest..=cohort.size).contains(n_min)) {
            let wanted =
                format!("between {lowest} (the cohort less the drop-outs allowed) and {}", cohort.size);
            return Err(SimulationError::setting("cohort.n_min", n_min, wanted));
        }
        let honest = self.n_min().saturating_sub(cohort.corrupt.of(cohort.size));
        if honest < 2 {
            let wanted = format!(
                "small enough that {} survivors leave two honest ones; lower it or cohort.dropout",
                self.n_min()
            );
            return Err(SimulationError::setting("cohort.corrupt", cohort.corrupt, wanted));
        }
        let steps = [
            ("dropouts.share", self.dropouts.share),
            ("dropouts.collect", self.dropouts.collect),
            ("dropouts.confirm", self.dropouts.confirm),
            ("dropouts.unmask", self.dropouts.unmask),
        ];
        for (field, probability) in steps {
            if !(0.0..=1.0).contains(&probability) {
                return Err(SimulationError::setting(field, probability, "a probability between 0 and 1"));
            }
        }
        if !(0.0..1.0).contains(&self.dropouts.advertise) {
            let wanted = "a probability below 1: somebody has to come";
            return Err(SimulationError::setting("dropouts.advertise", self.dropouts.advertise, wanted));
        }
        Ok(())
    }

    fn validate_data(&self) -> Result<(), SimulationError> {
        at_least_one("evaluation.files", self.evaluation.files)?;
        at_least_one("evaluation.bytes_per_file", self.evaluation.bytes_per_file)?;
        at_least_two("evaluation.window", self.evaluation.window)?;
        at_least_one("evaluation.completion_tokens", self.evaluation.completion_tokens)?;
        let corpus = &self.corpus;
        if corpus.bytes_per_developer < corpus.minimum_bytes.max(1) {
            let wanted = format!("at least corpus.minimum_bytes, {}", corpus.minimum_bytes.max(1));
            return Err(SimulationError::setting(
                "corpus.bytes_per_developer",
                corpus.bytes_per_developer,
                wanted,
            ));
        }
        at_least_one("corpus.minimum_files", corpus.minimum_files)?;
        if corpus.held_out == BasisPoints::ZERO || corpus.held_out.get() == BasisPoints::WHOLE {
            let wanted = "above 0 and below 1: some code to learn from and some to measure on";
            return Err(SimulationError::setting("corpus.held_out", corpus.held_out, wanted));
        }
        Ok(())
    }
}

fn positive(field: &'static str, value: f64) -> Result<(), SimulationError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(SimulationError::setting(field, value, "positive and finite"))
}

fn at_least_one(field: &'static str, value: usize) -> Result<(), SimulationError> {
    if value >= 1 { Ok(()) } else { Err(SimulationError::setting(field, value, "at least 1")) }
}

fn at_least_two(field: &'static str, value: usize) -> Result<(), SimulationError> {
    if value >= 2 { Ok(()) } else { Err(SimulationError::setting(field, value, "at least 2")) }
}
