//! Results on standard output: one JSON object, or a short table. Must never print anything but the result there.

use std::io::Write;

use serde::Serialize;
use tacit_privacy::{Adjacency, shortest};

use crate::step::Step;

/// Prints one JSON object on one line.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string(value)?)
}

/// Prints lines of a name and what it stands for.
pub(crate) fn table(rows: &[(&str, String)]) -> anyhow::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        rows.iter().map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned()).collect();
    say(&lines.join("\n"))
}

/// The rows that say what was asked of one mechanism.
pub(crate) fn describe(step: &Step) -> String {
    let mut parts = vec![step.mechanism.text().to_owned()];
    let mut add =
        |name: &str, value: Option<String>| parts.extend(value.map(|value| format!("{name} {value}")));
    add("sigma", step.sigma.map(shortest));
    add("rho", step.rho.map(shortest));
    add("sensitivity", step.sensitivity.map(shortest));
    add("sampling rate", step.sampling_rate.map(shortest));
    add("clients", step.clients.map(|value| value.to_string()));
    add("dimension", step.dimension.map(|value| value.to_string()));
    format!("{}, {} times", parts.join(", "), step.steps)
}

/// An adjacency with what it means.
pub(crate) fn neighbours(adjacency: Adjacency) -> String {
    match adjacency {
        Adjacency::ZeroOut => "zero-out: one client's update replaced by zero",
        Adjacency::ReplaceOne => "replace-one: one client's update replaced by any other",
    }
    .to_owned()
}

/// Six significant digits, rounded up: what is shown still holds.
pub(crate) fn rounded_up(value: f64) -> String {
    if value <= 0.0 {
        return "0".to_owned();
    }
    let unit = 10_f64.powi(value.log10().floor() as i32 - 5);
    let shown = format!("{:.5e}", value);
    let nearest: f64 = shown.parse().unwrap_or(value);
    let up = if nearest < value { nearest + unit } else { nearest };
    // Printed through the shortest decimal that reads back as six digits.
    shortest(format!("{:.5e}", up).parse::<f64>().unwrap_or(up))
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_never_less() {
        for (value, shown) in [
            (0.0, "0"),
            (1.0, "1"),
            (4.377_178_000_1, "4.37718"),
            (4.377_181, "4.37719"),
            (0.000_123_456_01, "0.000123457"),
            (9.999_999, "10"),
            (123_456.01, "123457"),
            (1.234_567e-9, "1.23457e-9"),
            (9.223_371e18, "9.22338e18"),
        ] {
            assert_eq!(rounded_up(value), shown);
        }
    }
}
