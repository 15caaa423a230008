//! Update rules on a flat vector: plain arithmetic in a fixed order, the same result on every run.

use serde::{Deserialize, Serialize};

/// The update rule of local training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LocalOptimizer {
    /// Stochastic gradient descent with heavy-ball momentum.
    Sgd {
        /// Share of the last step that is repeated.
        #[serde(default)]
        momentum: f32,
    },
    /// Adam (Kingma and Ba 2015) with bias correction.
    Adam {
        /// Decay of the mean of the gradients.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the mean of the squared gradients.
        #[serde(default = "beta2")]
        beta2: f32,
    },
}

fn beta1() -> f32 {
    0.9
}

fn beta2() -> f32 {
    0.99
}

/// Keeps Adam's denominator away from zero.
const EPSILON: f32 = 1e-8;

/// The moments that an update rule carries from step to step.
#[derive(Debug, Clone)]
pub struct OptimizerState {
    rule: LocalOptimizer,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl OptimizerState {
    /// All moments zero, for a vector of that length.
    pub fn new(rule: &LocalOptimizer, dimension: usize) -> Self {
        let second = match rule {
            LocalOptimizer::Sgd { .. } => Vec::new(),
            LocalOptimizer::Adam { .. } => vec![0.0; dimension],
        };
        Self { rule: rule.clone(), first: vec![0.0; dimension], second, steps: 0 }
    }

    /// One step against the gradient.
    ///
    /// # Panics
    /// When the lengths differ from that given to [`OptimizerState::new`].
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], learning_rate: f64) {
        assert!(
            values.len() == self.first.len() && gradient.len() == self.first.len(),
            "one length everywhere"
        );
        self.steps += 1;
        let rate = learning_rate as f32;
        match self.rule {
            LocalOptimizer::Sgd { momentum } => {
                for ((value, moment), &slope) in values.iter_mut().zip(&mut self.first).zip(gradient) {
                    *moment = momentum * *moment + slope;
                    *value -= rate * *moment;
                }
            }
            LocalOptimizer::Adam { beta1, beta2 } => {
                let correct1 = 1.0 - beta1.powi(self.steps);
                let correct2 = 1.0 - beta2.powi(self.steps);
                let moments = self.first.iter_mut().zip(&mut self.second);
                for ((value, (first, second)), &slope) in values.iter_mut().zip(moments).zip(gradient) {
                    *first = beta1 * *first + (1.0 - beta1) * slope;
                    *second = beta2 * *second + (1.0 - beta2) * slope * slope;
                    *value -= rate * (*first / correct1) / ((*second / correct2).sqrt() + EPSILON);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_repeats_the_last_step() {
        let mut state = OptimizerState::new(&LocalOptimizer::Sgd { momentum: 0.5 }, 1);
        let mut value = [0.0];
        state.step(&mut value, &[1.0], 0.1);
        assert!((value[0] + 0.1).abs() < 1e-7);
        state.step(&mut value, &[0.0], 0.1);
        assert!((value[0] + 0.15).abs() < 1e-7);
    }

    #[test]
    fn adam_moves_by_the_learning_rate_at_first() {
        let mut state = OptimizerState::new(&LocalOptimizer::Adam { beta1: 0.9, beta2: 0.99 }, 2);
        let mut values = [1.0, 1.0];
        state.step(&mut values, &[1e-3, -50.0], 0.02);
        assert!((values[0] - 0.98).abs() < 1e-5, "{values:?}");
        assert!((values[1] - 1.02).abs() < 1e-5, "{values:?}");
    }
}
