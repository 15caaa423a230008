//! The table and the completions at the end of a run, as text.

use std::fmt::Write;

use tacit_simulations::report::{Completion, Report};

/// Lines shown of a prompt: its last ones.
const PROMPT_LINES: usize = 4;
/// Lines shown of what a model or the author wrote.
const WRITTEN_LINES: usize = 5;

/// The rounds, the figures and the completions of a run.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::from("round  cohort  survivors  bits/byte  epsilon  seconds\n");
    let summary = &report.summary;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:>5}  {:>6}  {:>9}  {:>9.4}  {:>7.3}  {:>7}",
        0, "", "", summary.heldout_start, 0.0, ""
    );
    for round in &report.rounds {
        let mark = if round.failure.is_some() { "  nothing released" } else { "" };
        let _ = writeln!(
            text,
            "{:>5}  {:>6}  {:>9}  {:>9.4}  {:>7.3}  {:>7.1}{mark}",
            round.round,
            round.cohort,
            round.survivors,
            round.heldout_bits_per_byte,
            round.epsilon,
            round.seconds.values().sum::<f64>()
        );
    }
    text.push('\n');
    for completion in &report.completions {
        text.push_str(&complete(completion));
    }
    text.push_str(&figures(report));
    text
}

fn figures(report: &Report) -> String {
    let summary = &report.summary;
    let change = summary.heldout_private - summary.heldout_start;
    let mut rows = vec![
        (
            "held-out bits per byte",
            format!("{:.4} -> {:.4} ({change:+.4})", summary.heldout_start, summary.heldout_private),
        ),
        ("epsilon", format!("{:.3} at delta {:e}, the largest over clients", summary.epsilon, summary.delta)),
    ];
    if let Some(plain) = summary.heldout_federated_plain {
        rows.push(("the fleet without privacy", format!("{plain:.4}")));
    }
    if let Some(central) = summary.heldout_central {
        rows.push(("central training", format!("{central:.4}")));
    }
    if let Some(share) = summary.recovered_share {
        rows.push(("recovered share", format!("{share:.3}")));
    }
    rows.push(("coordinates of a delta", summary.dimension.to_string()));
    rows.push(("client updates per second", format!("{:.2}", summary.client_updates_per_second)));
    rows.push(("wall-clock seconds", format!("{:.1}", summary.wall_seconds)));
    if let Some(peak) = summary.peak_rss_bytes {
        rows.push(("peak memory", format!("{:.0} MB", peak as f64 / 1e6)));
    }
    rows.push(("adapter", format!("sha256 {}", summary.adapter_sha256)));
    rows.iter().map(|(name, value)| format!("{name:<26} {value}\n")).collect()
}

fn complete(completion: &Completion) -> String {
    let Completion { developer, path, prompt, author, before, after } = completion;
    let lines: Vec<&str> = prompt.lines().collect();
    let prompt = lines[lines.len().saturating_sub(PROMPT_LINES)..].join("\n");
    let mut text = format!("held-out {developer}, {path}\n");
    for (title, written) in
        [("", prompt.as_str()), ("before", before), ("after", after), ("the author", author)]
    {
        for (index, line) in written.lines().take(WRITTEN_LINES).enumerate() {
            let name = if index == 0 { title } else { "" };
            let _ = writeln!(text, "{name:>10} | {}", visible(line));
        }
    }
    text + "\n"
}

/// Control characters would move the cursor or change colours: code comes from strangers, and from a model that learned from them.
fn visible(line: &str) -> String {
    let shown = |character: char| match character {
        '\t' => "    ".to_owned(),
        other if other.is_control() => "\u{fffd}".to_owned(),
        other => other.to_string(),
    };
    line.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_show_the_end_of_the_prompt_and_no_control_characters() {
        let completion = Completion {
            developer: "serde".to_owned(),
            path: "src/lib.rs".to_owned(),
            prompt: (0..9).map(|n| format!("line {n}\n")).collect(),
            author: "\tok\n".to_owned(),
            before: "a\u{1b}[31mred".to_owned(),
            after: String::new(),
        };
        let text = complete(&completion);
        assert!(
            text.contains(" | line 8\n") && text.contains("line 5") && !text.contains("line 4"),
            "{text}"
        );
        assert!(text.contains("the author |     ok\n"), "{text}");
        assert!(text.contains("before | a\u{fffd}[31mred\n") && !text.contains('\u{1b}'));
    }
}
