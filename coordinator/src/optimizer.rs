//! What the server does with the mean of a cohort's updates.
//! Must never depend on anything but its state and its arguments: the same rounds give the same adapter, bit for bit.

use serde::{Deserialize, Serialize};

/// The server's update rule (Reddi et al. 2021; the mean update takes the place of the negative gradient).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ServerOptimizer {
    /// Federated averaging (McMahan et al. 2017): the adapter moves by the mean, times the learning rate.
    FedAvg {
        /// Step size; 1 is plain averaging.
        learning_rate: f64,
    },
    /// Heavy-ball momentum (Polyak 1964; FedAvgM, Hsu et al. 2019): `v <- momentum v + mean`, and the adapter moves by the
    /// learning rate times v.
    Momentum {
        /// Step size.
        learning_rate: f64,
        /// Share of the last velocity that is kept.
        momentum: f64,
        /// Whether to move by `momentum v + mean` instead (Nesterov 1983).
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015) with bias correction.
    Adam {
        /// Step size.
        learning_rate: f64,
        /// Decay of the mean of the updates.
        beta1: f64,
        /// Decay of the mean of the squared updates.
        beta2: f64,
        /// Keeps the denominator away from zero.
        epsilon: f64,
    },
}

/// Settings or vectors that an update rule cannot work with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    /// A constant out of range.
    #[error("server optimiser: {name} is {value}; it must be {expected}")]
    Setting {
        /// Which constant.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// Vectors of different lengths.
    #[error(
        "server optimiser: the adapter has {adapter} coordinates, the mean update {update}, the state {state}"
    )]
    Dimension {
        /// Coordinates of the adapter.
        adapter: usize,
        /// Coordinates of the mean update.
        update: usize,
        /// Coordinates of the state.
        state: usize,
    },
    /// A step that leaves the range of numbers.
    #[error("server optimiser: coordinate {coordinate} is no longer finite; lower the learning rate")]
    NotFinite {
        /// Index of the first one.
        coordinate: usize,
    },
}

impl ServerOptimizer {
    /// Checks the constants.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`] names the first one out of range.
    pub fn validate(&self) -> Result<(), OptimizerError> {
        let positive = |name, value: f64| {
            let good = value.is_finite() && value > 0.0;
            if good {
                Ok(())
            } else {
                Err(OptimizerError::Setting { name, value, expected: "positive and finite" })
            }
        };
        let decay = |name, value: f64| {
            let good = (0.0..1.0).contains(&value);
            if good {
                Ok(())
            } else {
                Err(OptimizerError::Setting { name, value, expected: "from 0 to below 1" })
            }
        };
        match *self {
            Self::FedAvg { learning_rate } => positive("learning_rate", learning_rate),
            Self::Momentum { learning_rate, momentum, .. } => {
                positive("learning_rate", learning_rate)?;
                decay("momentum", momentum)
            }
            Self::Adam { learning_rate, beta1, beta2, epsilon } => {
                positive("learning_rate", learning_rate)?;
                decay("beta1", beta1)?;
                decay("beta2", beta2)?;
                positive("epsilon", epsilon)
            }
        }
    }
}

/// What an update rule carries from round to round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Velocity, or mean of the updates; empty for federated averaging.
    pub first: Vec<f32>,
    /// Mean of the squared updates; empty but for Adam.
    pub second: Vec<f32>,
    /// `beta1^t` and `beta2^t` after t steps.
    pub powers: [f64; 2],
}

/// An update rule with the moments that it carries from round to round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerState {
    optimizer: ServerOptimizer,
    /// Velocity, or mean of the updates; empty for federated averaging.
    first: Vec<f32>,
    /// Mean of the squared updates; empty but for Adam.
    second: Vec<f32>,
    /// `beta1^t` and `beta2^t` after t steps, multiplied up because a power function differs between machines.
    powers: [f64; 2],
    dimension: usize,
}

impl OptimizerState {
    /// All moments zero.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`], as [`ServerOptimizer::validate`].
    pub fn new(optimizer: ServerOptimizer, dimension: usize) -> Result<Self, OptimizerError> {
        optimizer.validate()?;
        let (first, second) = match optimizer {
            ServerOptimizer::FedAvg { .. } => (0, 0),
            ServerOptimizer::Momentum { .. } => (dimension, 0),
            ServerOptimizer::Adam { .. } => (dimension, dimension),
        };
        Ok(Self {
            optimizer,
            first: vec![0.0; first],
            second: vec![0.0; second],
            powers: [1.0; 2],
            dimension,
        })
    }

    /// As it was stored: the rule, and what [`Self::moments`] gave.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`]; [`OptimizerError::Dimension`] when the moments are another rule's.
    pub fn restore(
        optimizer: ServerOptimizer,
        dimension: usize,
        moments: Moments,
    ) -> Result<Self, OptimizerError> {
        let mut state = Self::new(optimizer, dimension)?;
        if (moments.first.len(), moments.second.len()) != (state.first.len(), state.second.len()) {
            let (update, found) = (moments.first.len(), moments.second.len());
            return Err(OptimizerError::Dimension { adapter: dimension, update, state: found });
        }
        (state.first, state.second, state.powers) = (moments.first, moments.second, moments.powers);
        Ok(state)
    }

    /// What the rule carries from round to round, for storage.
    #[must_use]
    pub fn moments(&self) -> Moments {
        Moments { first: self.first.clone(), second: self.second.clone(), powers: self.powers }
    }

    /// The update rule.
    #[must_use]
    pub fn optimizer(&self) -> &ServerOptimizer {
        &self.optimizer
    }

    /// Coordinates of the adapters that it moves.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The adapter after one more mean update, and the state after it. Moments are kept in single precision; every step is
    /// computed in double precision and rounded once.
    ///
    /// # Errors
    /// [`OptimizerError::Dimension`] and [`OptimizerError::NotFinite`].
    pub fn step(mut self, adapter: &[f32], mean: &[f32]) -> Result<(Vec<f32>, Self), OptimizerError> {
        let lengths =
            OptimizerError::Dimension { adapter: adapter.len(), update: mean.len(), state: self.dimension };
        let moments = match self.optimizer {
            ServerOptimizer::FedAvg { .. } => [0, 0],
            ServerOptimizer::Momentum { .. } => [self.dimension, 0],
            ServerOptimizer::Adam { .. } => [self.dimension; 2],
        };
        let stored = [self.first.len(), self.second.len()];
        if adapter.len() != self.dimension || mean.len() != self.dimension || stored != moments {
            return Err(lengths);
        }
        let moved = match self.optimizer {
            ServerOptimizer::FedAvg { learning_rate } => {
                let pairs = adapter.iter().zip(mean);
                pairs.map(|(&weight, &update)| moved(weight, learning_rate * f64::from(update))).collect()
            }
            ServerOptimizer::Momentum { learning_rate, momentum, nesterov } => {
                self.momentum(adapter, mean, learning_rate, momentum, nesterov)
            }
            ServerOptimizer::Adam { learning_rate, beta1, beta2, epsilon } => {
                self.adam(adapter, mean, learning_rate, [beta1, beta2], epsilon)
            }
        };
        let all = [&moved, &self.first, &self.second];
        match all.iter().find_map(|values| values.iter().position(|value| !value.is_finite())) {
            Some(coordinate) => Err(OptimizerError::NotFinite { coordinate }),
            None => Ok((moved, self)),
        }
    }

    fn momentum(
        &mut self,
        adapter: &[f32],
        mean: &[f32],
        rate: f64,
        momentum: f64,
        nesterov: bool,
    ) -> Vec<f32> {
        let both = adapter.iter().zip(mean).zip(&mut self.first);
        both.map(|((&weight, &update), velocity)| {
            let update = f64::from(update);
            *velocity = (momentum * f64::from(*velocity) + update) as f32;
            let kept = f64::from(*velocity);
            moved(weight, rate * if nesterov { momentum * kept + update } else { kept })
        })
        .collect()
    }

    fn adam(&mut self, adapter: &[f32], mean: &[f32], rate: f64, betas: [f64; 2], epsilon: f64) -> Vec<f32> {
        self.powers[0] *= betas[0];
        self.powers[1] *= betas[1];
        let [correct_first, correct_second] = self.powers.map(|power| 1.0 - power);
        let moments = self.first.iter_mut().zip(&mut self.second);
        let all = adapter.iter().zip(mean).zip(moments);
        all.map(|((&weight, &update), (first, second))| {
            let update = f64::from(update);
            *first = (betas[0] * f64::from(*first) + (1.0 - betas[0]) * update) as f32;
            *second = (betas[1] * f64::from(*second) + (1.0 - betas[1]) * update * update) as f32;
            let spread = (f64::from(*second) / correct_second).sqrt();
            moved(weight, rate * (f64::from(*first) / correct_first) / (spread + epsilon))
        })
        .collect()
    }
}

fn moved(weight: f32, by: f64) -> f32 {
    (f64::from(weight) + by) as f32
}

#[cfg(test)]
mod tests {
    use super::{OptimizerError, OptimizerState, ServerOptimizer};

    fn run(optimizer: ServerOptimizer, means: &[f32]) -> Vec<f32> {
        let mut state = OptimizerState::new(optimizer, 1).expect("good settings");
        let mut adapter = vec![1.0];
        means
            .iter()
            .map(|&mean| {
                let (moved, next) = state.clone().step(&adapter, &[mean]).expect("finite");
                (adapter, state) = (moved, next);
                adapter[0]
            })
            .collect()
    }

    #[test]
    fn averaging_moves_by_the_mean() {
        assert_eq!(run(ServerOptimizer::FedAvg { learning_rate: 2.0 }, &[0.5, -0.25]), [2.0, 1.5]);
    }

    #[test]
    fn momentum_remembers() {
        let rule = |nesterov| ServerOptimizer::Momentum { learning_rate: 2.0, momentum: 0.5, nesterov };
        // v = 1, 0.5, 1.25
        assert_eq!(run(rule(false), &[1.0, 0.0, 1.0]), [3.0, 4.0, 6.5]);
        // steps 2 (0.5 v + mean): 3, 0.5, 3.25
        assert_eq!(run(rule(true), &[1.0, 0.0, 1.0]), [4.0, 4.5, 7.75]);
    }

    #[test]
    fn adam_corrects_its_bias() {
        let rule = ServerOptimizer::Adam { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
        let moved = run(rule, &[0.5, 0.5, -0.5]);
        // A constant update moves by the learning rate whatever its size.
        assert!((moved[0] - 1.1).abs() < 1e-6 && (moved[1] - 1.2).abs() < 1e-6);
        // m = 0.1 (0.81 + 0.9 - 1) / 2 / 0.271, v = 0.25
        let third = 1.2 + 0.1 * (0.1 * (0.81 + 0.9 - 1.0) / 0.271);
        assert!((f64::from(moved[2]) - third).abs() < 1e-6, "{} is not {third}", moved[2]);
    }

    #[test]
    fn a_stored_state_goes_on_as_if_nothing_had_happened() {
        let rule = ServerOptimizer::Adam { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
        let state = OptimizerState::new(rule, 2).expect("good settings");
        let (adapter, state) = state.step(&[0.1, 0.2], &[0.3, -0.4]).expect("finite");
        let stored = serde_json::to_string(&state).expect("plain data");
        let restored: OptimizerState = serde_json::from_str(&stored).expect("its own form");
        assert_eq!(restored.step(&adapter, &[1.0, 1.0]), state.step(&adapter, &[1.0, 1.0]));
    }

    #[test]
    fn settings_are_read_strictly() {
        let good: ServerOptimizer =
            toml::from_str("rule = \"momentum\"\nlearning_rate = 2.0\nmomentum = 0.8")
                .expect("good settings");
        assert_eq!(good, ServerOptimizer::Momentum { learning_rate: 2.0, momentum: 0.8, nesterov: false });
        assert!(toml::from_str::<ServerOptimizer>("rule = \"fed-avg\"\nlearning_rate = 1.0").is_ok());
        for bad in [
            "rule = \"fed-avg\"\nlearning_rate = 1.0\nlr = 2.0",
            "rule = \"sgd\"\nlearning_rate = 1.0",
            "rule = \"adam\"",
        ] {
            assert!(toml::from_str::<ServerOptimizer>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let adam = |beta1, epsilon| ServerOptimizer::Adam { learning_rate: 0.1, beta1, beta2: 0.9, epsilon };
        let bad = [
            (ServerOptimizer::FedAvg { learning_rate: 0.0 }, "learning_rate"),
            (ServerOptimizer::Momentum { learning_rate: 1.0, momentum: 1.0, nesterov: false }, "momentum"),
            (adam(f64::NAN, 1e-8), "beta1"),
            (adam(0.9, 0.0), "epsilon"),
        ];
        for (optimizer, setting) in bad {
            match OptimizerState::new(optimizer, 1) {
                Err(OptimizerError::Setting { name, .. }) => assert_eq!(name, setting),
                other => panic!("{other:?}"),
            }
        }
        let state =
            OptimizerState::new(ServerOptimizer::FedAvg { learning_rate: 1.0 }, 2).expect("good settings");
        assert_eq!(
            state.clone().step(&[0.0; 2], &[0.0; 3]),
            Err(OptimizerError::Dimension { adapter: 2, update: 3, state: 2 })
        );
        assert_eq!(
            state.step(&[0.0, f32::MAX], &[0.0, f32::MAX]),
            Err(OptimizerError::NotFinite { coordinate: 1 })
        );
    }
}
