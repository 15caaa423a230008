//! One scenario run again and again with one value changed: which parameter buys what. Must never change two values at a
//! time, or report a run under parameters that it did not have.

use std::path::Path;

use serde::Serialize;
use tacit_model::BaseModel;

use crate::error::SimulationError;
use crate::progress::Progress;
use crate::run::{RunOptions, simulate};
use crate::scenario::Scenario;

/// A field of the scenario and the values that it takes in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Dotted path of the field, such as `privacy.noise_multiplier`.
    pub field: String,
    /// Its values, as TOML.
    pub values: Vec<toml::Value>,
}

/// What one run of a sweep gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The field that was changed.
    pub field: String,
    /// Its value.
    pub value: toml::Value,
    /// Held-out bits per byte before training.
    pub heldout_start: f64,
    /// Held-out bits per byte of the last adapter.
    pub heldout_private: f64,
    /// Largest epsilon over clients at the scenario's delta.
    pub epsilon: f64,
    /// Rounds that released a sum.
    pub rounds_released: u64,
    /// Seconds of the whole run.
    pub wall_seconds: f64,
}

/// A scenario file in which fields can be replaced.
#[derive(Debug, Clone)]
pub struct Template {
    table: toml::Table,
    folder: std::path::PathBuf,
}

impl Axis {
    /// Reads `field=value,value,...`.
    ///
    /// # Errors
    /// When there is no `=`, no value, or a value is not TOML.
    pub fn parse(text: &str) -> Result<Self, SimulationError> {
        let wrong = |why: &str| SimulationError::setting("--vary", text, why);
        let (field, values) =
            text.split_once('=').ok_or_else(|| wrong("of the form privacy.noise_multiplier=1,2,4"))?;
        let list: toml::Table =
            format!("list = [{values}]").parse().map_err(|_| wrong("a list of TOML values after the ="))?;
        match list.get("list") {
            Some(toml::Value::Array(values)) if !values.is_empty() => {
                Ok(Self { field: field.trim().to_owned(), values: values.clone() })
            }
            _ => Err(wrong("a list of at least one value after the =")),
        }
    }
}

impl Template {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn load(path: &Path) -> Result<Self, SimulationError> {
        Scenario::load(path)?;
        let text = std::fs::read_to_string(path).map_err(SimulationError::io(path))?;
        let table = text.parse().map_err(|error: toml::de::Error| SimulationError::ScenarioSyntax {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { table, folder: path.parent().unwrap_or(Path::new("")).to_owned() })
    }

    /// Replaces one field for good.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn set(&mut self, field: &str, value: toml::Value) -> Result<(), SimulationError> {
        let unknown =
            || SimulationError::setting("--vary", field, "a field that the scenario has, such as rounds");
        let mut parts: Vec<&str> = field.split('.').collect();
        let last = parts.pop().ok_or_else(unknown)?;
        let mut table = &mut self.table;
        for part in parts {
            table = table.get_mut(part).and_then(toml::Value::as_table_mut).ok_or_else(unknown)?;
        }
        *table.get_mut(last).ok_or_else(unknown)? = value;
        Ok(())
    }

    /// The scenario as it stands.
    ///
    /// # Errors
    /// When a replaced value cannot work.
    pub fn scenario(&self) -> Result<Scenario, SimulationError> {
        let mut scenario = Scenario::parse(&self.table.to_string())?;
        scenario.model = self.folder.join(&scenario.model);
        Ok(scenario)
    }
}

/// Runs every value of every axis, the other fields as in the template, and tells `found` of each point as it comes.
///
/// # Errors
/// When a value cannot work (before anything runs), or a run fails.
pub fn sweep(
    template: &Template,
    axes: &[Axis],
    model: &BaseModel,
    options: &RunOptions,
    progress: &dyn Progress,
    found: &mut dyn FnMut(&Point),
) -> Result<Vec<Point>, SimulationError> {
    let mut runs = Vec::new();
    for axis in axes {
        for value in &axis.values {
            let mut changed = template.clone();
            changed.set(&axis.field, value.clone())?;
            runs.push((axis.field.clone(), value.clone(), changed.scenario()?));
        }
    }
    runs.into_iter()
        .map(|(field, value, scenario)| {
            let summary = simulate(&scenario, model, options, progress)?.report.summary;
            let point = Point {
                field,
                value,
                heldout_start: summary.heldout_start,
                heldout_private: summary.heldout_private,
                epsilon: summary.epsilon,
                rounds_released: summary.rounds_released,
                wall_seconds: summary.wall_seconds,
            };
            found(&point);
            Ok(point)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> (tempfile::TempDir, Template) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("unit.toml");
        std::fs::write(&path, crate::scenario::tests::SMALL).expect("a file");
        let template = Template::load(&path).expect("valid");
        (folder, template)
    }

    #[test]
    fn an_axis_is_a_field_and_values() {
        let axis = Axis::parse("privacy.noise_multiplier=0.5,1.0").expect("valid");
        assert_eq!(axis.field, "privacy.noise_multiplier");
        assert_eq!(axis.values, [toml::Value::Float(0.5), toml::Value::Float(1.0)]);
        let axis = Axis::parse("lora.targets=[\"q_proj\"],[\"v_proj\"]").expect("valid");
        assert_eq!(axis.values.len(), 2);
        for wrong in ["rounds", "rounds=", "rounds=1,,2", "rounds=x"] {
            assert!(Axis::parse(wrong).expect_err("refused").to_string().contains("--vary"), "{wrong}");
        }
    }

    #[test]
    fn only_the_named_field_changes() {
        let (_folder, template) = template();
        let mut changed = template.clone();
        changed.set("privacy.noise_multiplier", toml::Value::Float(0.7)).expect("a field");
        let (before, after) = (template.scenario().expect("valid"), changed.scenario().expect("valid"));
        assert_eq!(after.privacy.noise_multiplier, 0.7);
        let mut back = after;
        back.privacy.noise_multiplier = before.privacy.noise_multiplier;
        assert_eq!(back, before);
    }

    #[test]
    fn fields_and_values_that_cannot_work_are_named() {
        let (_folder, mut template) = template();
        for field in ["noise", "privacy.noise", "privacy.clip.low", ""] {
            let error = template.set(field, toml::Value::Integer(1)).expect_err("refused").to_string();
            assert!(error.contains("--vary"), "{error}");
        }
        template.set("rounds", toml::Value::Integer(0)).expect("a field");
        assert!(template.scenario().expect_err("refused").to_string().contains("rounds"));
    }
}
