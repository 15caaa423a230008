//! A composition in a TOML file. Must never pass over a field that it does not know.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tacit_privacy::Adjacency;

use crate::release::Release;
use crate::step::Step;

/// Releases composed in any order, adaptively.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) delta: f64,
    #[serde(default = "zero_out")]
    pub(crate) adjacency: Adjacency,
    pub(crate) step: Vec<Step>,
}

fn zero_out() -> Adjacency {
    Adjacency::ZeroOut
}

impl Spec {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let spec: Self =
            toml::from_str(&text).with_context(|| format!("{} is not a composition", path.display()))?;
        anyhow::ensure!(!spec.step.is_empty(), "{} has no [[step]]", path.display());
        Ok(spec)
    }

    /// Every step checked, with the number of times that it runs.
    pub(crate) fn releases(&self) -> anyhow::Result<Vec<(Release, u64)>> {
        let checked = |(index, step): (usize, &Step)| {
            let release = step.release(self.adjacency).with_context(|| format!("step {}", index + 1))?;
            Ok((release, step.steps))
        };
        self.step.iter().enumerate().map(checked).collect()
    }
}
