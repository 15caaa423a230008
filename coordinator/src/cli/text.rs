//! Answers as people read them: lines for an object, a table for a list. Must never show less than the JSON, but for the last digits
//! of a number.

use serde_json::{Map, Value};
use time::OffsetDateTime;

/// What people look for first; other columns follow in alphabetical order.
const FIRST: [&str; 14] = [
    "task",
    "version",
    "client",
    "round",
    "stage",
    "step",
    "ready",
    "wanted",
    "invited",
    "cohort",
    "paid",
    "committed",
    "epsilon",
    "reason",
];
/// Fields that hold a time in milliseconds since 1970.
const MILLISECONDS: [&str; 7] = ["awaits_until", "created", "deadline", "ended", "now", "planned", "since"];
/// Fields that hold a time in seconds since 1970.
const SECONDS: [&str; 4] = ["enrolled", "expires", "not_after", "not_before"];
/// A column with a longer cell is written below its rows.
const WIDEST: usize = 32;
/// Smaller numbers, and those from its inverse on, are written with an exponent.
const SMALL: f64 = 1e-3;

/// An answer as text.
pub(super) fn text(answer: &Value) -> String {
    match answer {
        Value::Array(rows) if rows.is_empty() => "none".to_owned(),
        Value::Array(rows) => table(rows),
        Value::Object(fields) => lines(fields).join("\n"),
        other => cell("", other),
    }
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(time), _) if MILLISECONDS.contains(&name) => moment(time.div_euclid(1000)),
            (Some(time), _) if SECONDS.contains(&name) => moment(time),
            (None, Some(real)) if number.is_f64() => real_number(real),
            _ => number.to_string(),
        },
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(|value| cell(name, value)).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

fn real_number(real: f64) -> String {
    let plain = real == 0.0 || (SMALL..1.0 / SMALL).contains(&real.abs());
    if plain { format!("{real:.4}") } else { format!("{real:e}") }
}

/// A Unix second in UTC; the number itself where no calendar has it.
pub(super) fn moment(second: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(second) else { return second.to_string() };
    let (date, time) = (time.date(), time.time());
    let (hour, minute, second) = time.as_hms();
    format!(
        "{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

fn lines(fields: &Map<String, Value>) -> Vec<String> {
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (name, value) in fields {
        let inner = match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                table(rows).lines().map(str::to_owned).collect()
            }
            Value::Object(fields) => self::lines(fields),
            value => {
                lines.push(format!("{name:width$}  {}", cell(name, value)));
                continue;
            }
        };
        lines.push(format!("{name}:"));
        lines.extend(inner.iter().map(|line| format!("  {line}")));
    }
    lines
}

fn table(rows: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), *name));
    if names.is_empty() {
        return rows.iter().map(|row| cell("", row)).collect::<Vec<_>>().join("\n");
    }
    let of_row = |row: &Value, name: &str| cell(name, row.get(name).unwrap_or(&Value::Null));
    let width = |name: &&str| rows.iter().map(|row| of_row(row, name).chars().count()).max().unwrap_or(0);
    let (wide, narrow): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| width(name) > WIDEST);
    let widths: Vec<usize> = narrow.iter().map(|name| width(name).max(name.len())).collect();
    let line = |cells: Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(narrow.iter().map(|name| (*name).to_owned()).collect())];
    for row in rows {
        lines.push(line(narrow.iter().map(|name| of_row(row, name)).collect()));
        let said = wide.iter().filter(|name| row.get(**name).is_some_and(|value| !value.is_null()));
        lines.extend(said.map(|name| format!("  {name}: {}", of_row(row, name))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::text;
    use serde_json::json;

    #[test]
    fn a_coordinator_at_a_glance() {
        let task = |name: &str, deadline: Option<u64>, problem: Option<&str>| {
            json!({
                "task": name,
                "paused": false,
                "round": 7,
                "step": "collect",
                "invited": 40,
                "cohort": 38,
                "ready": 0,
                "wanted": 40,
                "deadline": deadline,
                "committed": 6,
                "epsilon": 1.234_567_890_123,
                "last": "round 6 released version 6 of 36 updates",
                "problem": problem,
            })
        };
        let problem = "the next round cannot be planned: nobody may be taken past an epsilon of 2 any more";
        let status = json!({
            "coordinator": "ab".repeat(32),
            "now": 1_700_000_000_123_u64,
            "tasks": [
                task("rust-completion", Some(1_700_000_060_000), None),
                task("go", None, Some(problem)),
            ],
            "ledger": { "entries": 12, "root": "cd".repeat(32) },
            "waiting_commands": 0,
        });
        let expected = format!(
            "\
coordinator       {}
ledger:
  entries  12
  root     {}
now               2023-11-14 22:13:20 UTC
tasks:
  task             round  step     ready  wanted  invited  cohort  committed  epsilon  deadline                 paused
  rust-completion  7      collect  0      40      40       38      6          1.2346   2023-11-14 22:14:20 UTC  no
    last: round 6 released version 6 of 36 updates
  go               7      collect  0      40      40       38      6          1.2346   -                        no
    last: round 6 released version 6 of 36 updates
    problem: {problem}
waiting_commands  0",
            "ab".repeat(32),
            "cd".repeat(32)
        );
        assert_eq!(text(&status), expected);
    }

    #[test]
    fn lists_and_numbers() {
        assert_eq!(text(&json!([])), "none");
        assert_eq!(text(&json!(["a", "b"])), "a\nb");
        let round = json!({
            "round": 1, "delta": 1e-5, "epsilon": 0.0, "faults": [], "participants": [3, u64::MAX], "spent": 1e6,
        });
        let expected = "delta         1e-5\nepsilon       0.0000\nfaults        none\n\
                        participants  3, 18446744073709551615\nround         1\nspent         1e6";
        assert_eq!(text(&round), expected);
        let clients = json!([
            { "client": "5", "enrolled": 1_700_000_000_u64, "note": "ü" },
            { "client": "77", "enrolled": i64::MAX, "note": "v", "excluded": null },
        ]);
        let expected = "\
client  enrolled                 excluded  note
5       2023-11-14 22:13:20 UTC  -         ü
77      9223372036854775807      -         v";
        assert_eq!(text(&clients), expected);
    }
}
