//! The report as one page that needs nothing else: no script, no font, no image from elsewhere.
//! Must never put a value into the page that is not escaped.

use std::fmt::Write;

use super::network::{NetworkReport, Used};
use super::plot::{Bar, Box5, Line, boxes, escape, lines, stacked};
use super::{Completion, Report, RoundReport, Traffic};

const STYLE: &str = include_str!("style.css");
/// The phases of a round in the order in which they happen.
pub const PHASES: [&str; 8] =
    ["train", "encode", "advertise", "share", "collect", "confirm", "unmask", "evaluate"];

/// Renders the page.
#[must_use]
pub fn render(report: &Report) -> String {
    let name = escape(&report.scenario.name);
    let sections = [
        tiles(report),
        plots(report),
        rounds(report),
        comparison(report),
        completions(report),
        facts(report),
        notes(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Tacit: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>A fleet learns: {name}</h1>\n<p class=\"soft\">{}</p>\n{}\n</main>\n</body>\n</html>\n",
        subtitle(report),
        sections.concat()
    )
}

fn subtitle(report: &Report) -> String {
    let corpus = &report.corpus;
    let how = if report.masked { "summed under masks" } else { "summed without masks (--plain)" };
    let end = match &report.network {
        Some(network) => network.sentence(),
        None => format!("In one process, seed {}.", report.seed),
    };
    escape(&format!(
        "{} developers, {} of them in each round's cohort, {} held out; updates clipped, noised and {how}. {end}",
        corpus.developers,
        report.parameters.cohort,
        corpus.held_out.len(),
    ))
}

fn tiles(report: &Report) -> String {
    let summary = &report.summary;
    let fall = summary.heldout_start - summary.heldout_private;
    let mut tiles = vec![
        (
            format!("{:.3} → {:.3}", summary.heldout_start, summary.heldout_private),
            "held-out bits per byte".to_owned(),
        ),
        (format!("{fall:+.3}").replace('+', "−"), "change in bits per byte".to_owned()),
        (
            format!("ε = {:.2}", summary.epsilon),
            format!("at δ = {:e}, the largest over clients", summary.delta),
        ),
        (format!("{} of {}", summary.rounds_released, report.rounds.len()), "rounds released".to_owned()),
        (duration(summary.wall_seconds), format!("wall-clock time, {} threads", report.threads)),
        (format!("{:.1}/s", summary.client_updates_per_second), "client updates trained".to_owned()),
    ];
    if fall < 0.0 {
        tiles[1].0 = format!("+{:.3}", -fall);
    }
    if let Some(share) = summary.recovered_share {
        tiles.insert(2, (format!("{:.0}%", share * 100.0), "of what central training gains".to_owned()));
    }
    let mut html = String::from("<div class=\"tiles\">\n");
    for (value, label) in tiles {
        let _ = writeln!(
            html,
            "<div class=\"tile\"><b>{}</b><span>{}</span></div>",
            escape(&value),
            escape(&label)
        );
    }
    html + "</div>\n"
}

fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

fn plots(report: &Report) -> String {
    let mut figures = vec![
        ("Held-out bits per byte by round", bits_plot(report)),
        ("Epsilon by round", epsilon_plot(report)),
        ("Wall-clock time by phase", time_plot(report)),
    ];
    if report.network.is_none() {
        figures.push(("Norms before clipping (seen by the simulation alone)", norms_plot(report)));
    }
    let mut html = String::from("<div class=\"plots\">\n");
    for (caption, plot) in figures {
        let _ = writeln!(html, "<figure><figcaption>{}</figcaption>{plot}</figure>", escape(caption));
    }
    html + "</div>\n"
}

fn bits_plot(report: &Report) -> String {
    let start = (0.0, report.summary.heldout_start);
    let round = |index: usize| (index + 1) as f64;
    let own = report.rounds.iter().map(|r| (r.round as f64, r.heldout_bits_per_byte));
    let mut drawn =
        vec![Line { name: "private", points: std::iter::once(start).chain(own).collect(), reference: false }];
    if let Some(comparison) = &report.comparison {
        let plain = comparison.federated_plain.iter().enumerate().map(|(index, &bits)| (round(index), bits));
        let points = std::iter::once(start).chain(plain).collect();
        drawn.push(Line { name: "without privacy", points, reference: false });
    }
    if let Some(central) = report.summary.heldout_central {
        let points = vec![(0.0, central), (report.rounds.len().max(1) as f64, central)];
        drawn.push(Line { name: "central training, best rate", points, reference: true });
    }
    lines("Held-out bits per byte by round", "round", "bits per byte", false, &drawn)
}

fn epsilon_plot(report: &Report) -> String {
    let own = report.rounds.iter().map(|r| (r.round as f64, r.epsilon));
    let limit = report.scenario.privacy.epsilon_limit;
    let drawn = [
        Line {
            name: "largest over clients",
            points: std::iter::once((0.0, 0.0)).chain(own).collect(),
            reference: false,
        },
        Line {
            name: "limit of every client",
            points: vec![(0.0, limit), (report.rounds.len().max(1) as f64, limit)],
            reference: true,
        },
    ];
    lines("Epsilon by round", "round", "epsilon", true, &drawn)
}

fn time_plot(report: &Report) -> String {
    let seconds = |round: &RoundReport, phase: &str| round.seconds.get(phase).copied().unwrap_or(0.0);
    // Encoding is a phase of its own only without masks.
    let happened = |phase: &&str| report.rounds.iter().any(|round| seconds(round, phase) > 0.0);
    let phases: Vec<&str> = PHASES.into_iter().filter(happened).collect();
    let bar = |round: &RoundReport| Bar {
        label: round.round.to_string(),
        parts: phases.iter().map(|phase| seconds(round, phase)).collect(),
    };
    let bars: Vec<Bar> = report.rounds.iter().map(bar).collect();
    stacked("Time by phase", "round", "seconds", &phases, &bars)
}

fn norms_plot(report: &Report) -> String {
    let groups: Vec<Box5> = report
        .rounds
        .iter()
        .filter_map(|round| {
            let norms = round.norms.as_ref()?;
            let values =
                [norms.minimum, norms.lower_quartile, norms.median, norms.upper_quartile, norms.maximum];
            Some(Box5 { label: round.round.to_string(), values, level: round.clip })
        })
        .collect();
    boxes("Norms before clipping", "round", "norm", "clip norm", &groups)
}

fn rounds(report: &Report) -> String {
    let mut html = String::from(
        "<h2>Rounds</h2>\n<div class=\"scroll\"><table>\n<tr><th>round</th><th>cohort</th><th>survivors</th>\
         <th>bits per byte</th><th>epsilon</th><th>clip norm</th><th>clipped</th><th>mean norm</th><th>noise in it</th>\
         <th>sent per client</th><th>received</th><th>seconds</th><th>outcome</th></tr>\n",
    );
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    for round in &report.rounds {
        let cells = [
            round.round.to_string(),
            round.cohort.to_string(),
            round.survivors.to_string(),
            format!("{:.4}", round.heldout_bits_per_byte),
            format!("{:.3}", round.epsilon),
            format!("{:.3}", round.clip),
            round.norms.map_or_else(|| "–".to_owned(), |norms| format!("{:.0}%", norms.clipped * 100.0)),
            figure(round.mean_norm),
            figure(round.noise_norm),
            traffic(round, |traffic| traffic.sent_per_client),
            traffic(round, |traffic| traffic.received_per_client),
            format!("{:.1}", round.seconds.values().sum::<f64>()),
            round.failure.clone().unwrap_or_else(|| "released".to_owned()),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    html.push_str("</table></div>\n");
    if let Some(reason) = &report.stopped_early {
        let wanted = report.scenario.rounds;
        let text = format!("The fleet stopped {reason} ({wanted} rounds were wanted).");
        let _ = writeln!(html, "<p>{}</p>", escape(&text));
    }
    html
}

fn traffic(round: &RoundReport, which: impl FnOnce(&Traffic) -> f64) -> String {
    round.traffic.as_ref().map_or_else(|| "–".to_owned(), |traffic| bytes(which(traffic)))
}

fn bytes(count: f64) -> String {
    if count >= 1e6 {
        format!("{:.1} MB", count / 1e6)
    } else if count >= 1e3 {
        format!("{:.1} kB", count / 1e3)
    } else {
        format!("{count:.0} B")
    }
}

fn comparison(report: &Report) -> String {
    let Some(comparison) = &report.comparison else { return String::new() };
    let mut html = format!(
        "<h2>Beside training without privacy</h2>\n<p>Central training pools the training developers' code and trains the same \
         adapter with Adam, its rate falling linearly to zero, on {} tokens, as many as the fleet. The best of the rates counts.</p>\n\
         <table class=\"facts\">\n",
        comparison.tokens
    );
    let mut row = |name: String, value: String| {
        let _ = writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(&name), escape(&value));
    };
    if let Some(plain) = report.summary.heldout_federated_plain {
        row("same cohorts, no clipping, no noise".to_owned(), format!("{plain:.4}"));
    }
    for run in &comparison.central {
        let value =
            run.heldout_bits_per_byte.map_or_else(|| "diverged".to_owned(), |bits| format!("{bits:.4}"));
        row(format!("central, learning rate {}", run.learning_rate), value);
    }
    if let Some(share) = report.summary.recovered_share {
        row("recovered share".to_owned(), format!("{share:.3}"));
    }
    html + "</table>\n"
}

fn completions(report: &Report) -> String {
    if report.completions.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<h2>Held-out code, continued</h2>\n<p class=\"soft\">The most likely continuation of the first lines of functions that nobody trained on.</p>\n",
    );
    for Completion { developer, path, prompt, author, before, after } in &report.completions {
        let block =
            |title: &str, text: &str| format!("<div><h3>{title}</h3><pre>{}</pre></div>", escape(text));
        let _ = writeln!(
            html,
            "<details open><summary>{}</summary><pre>{}</pre><div class=\"three\">{}{}{}</div></details>",
            escape(&format!("{developer}: {path}")),
            escape(prompt),
            block("before", before),
            block("after", after),
            block("the author", author)
        );
    }
    html
}

fn facts(report: &Report) -> String {
    let (corpus, chosen, summary) = (&report.corpus, &report.parameters, &report.summary);
    let skipped = &corpus.skipped;
    let rows = [
        ("base model", format!("{} ({})", chosen.base_model_name, chosen.base_model)),
        ("adapter", format!("sha256 {}", summary.adapter_sha256)),
        ("coordinates of a delta", chosen.dimension.to_string()),
        (
            "cohort, fewest survivors, colluding at most",
            format!("{}, {}, {}", chosen.cohort, chosen.n_min, chosen.corrupt),
        ),
        ("neighbours and threshold", format!("{} and {}", chosen.degree, chosen.threshold)),
        (
            "clip norm and noise multiplier",
            format!("{} and {}", report.scenario.privacy.clip, summary.noise_multiplier),
        ),
        (
            "bits, scale, inflation of the sensitivity",
            format!("{}, {:.4}, {:.4}", chosen.bits, chosen.scale, chosen.sensitivity_inflation),
        ),
        (
            "one client's noise, integer units",
            chosen.local_sigma.map_or_else(
                || "none: the coordinator adds the noise, and is trusted for it".to_owned(),
                |sigma| format!("{sigma:.4}"),
            ),
        ),
        (
            "corpus",
            format!(
                "{} developers, {} files, {} ({})",
                corpus.developers,
                corpus.files,
                bytes(corpus.bytes as f64),
                corpus.source
            ),
        ),
        ("corpus digest", format!("sha256 {}", corpus.digest)),
        (
            "files left out",
            format!(
                "{} not text, {} empty, {} duplicate, {} copies of held-out code, {} too large, {} unreadable, {} beyond the size cap",
                skipped.files.not_text,
                skipped.files.empty,
                skipped.files.duplicate,
                skipped.files.held_out_copies,
                skipped.files.too_large,
                skipped.files.unreadable,
                skipped.files.beyond_cap
            ),
        ),
        (
            "developers left out",
            format!(
                "{} without text, {} too small, {} with too few files; {} packages not fetched",
                skipped.developers_without_text,
                skipped.developers_too_small,
                skipped.developers_with_few_files,
                skipped.packages_missing
            ),
        ),
        (
            "held-out sample",
            format!(
                "{} files, {} bytes, {} tokens",
                report.evaluation.files.len(),
                report.evaluation.bytes,
                report.evaluation.tokens
            ),
        ),
        (
            if report.network.is_some() { "peak memory of the process that measured" } else { "peak memory" },
            summary.peak_rss_bytes.map_or_else(|| "unknown".to_owned(), |peak| bytes(peak as f64)),
        ),
    ];
    let mut html = String::from("<h2>What was run</h2>\n<table class=\"facts\">\n");
    for (name, value) in rows.into_iter().chain(report.network.iter().flat_map(processes)) {
        let _ = writeln!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(&value));
    }
    html.push_str("</table>\n<details><summary>Held-out sample, file by file</summary><div class=\"scroll\"><table>\n<tr><th>file</th><th>from byte</th><th>bytes</th></tr>\n");
    for file in &report.evaluation.files {
        let name = escape(&format!("{}: {}", file.developer, file.path));
        let _ = writeln!(html, "<tr><td>{name}</td><td>{}</td><td>{}</td></tr>", file.start, file.bytes);
    }
    html + "</table></div></details>\n"
}

/// What the processes of a run over the network used.
fn processes(network: &NetworkReport) -> Vec<(&'static str, String)> {
    let used = |used: &Used| {
        let Used { processes, clients, peak_rss_bytes, cpu_seconds } = used;
        let clients = if *clients > 0 { format!(" with {clients} clients") } else { String::new() };
        let memory = bytes(*peak_rss_bytes as f64);
        format!("{processes}{clients}, at most {memory} each, {cpu_seconds:.1} s on processors together")
    };
    let loopback = network.loopback_bytes.map_or_else(|| "unknown".to_owned(), |count| bytes(count as f64));
    vec![
        ("coordinator processes", used(&network.coordinator)),
        ("processes of one client", used(&network.client_processes)),
        ("processes of many clients", used(&network.fleet_processes)),
        ("through the loopback, any other program's included", loopback),
    ]
}

fn notes(report: &Report) -> String {
    if report.network.is_some() {
        return network_notes(report);
    }
    let phases = if report.masked {
        "there is no encode: rotating, rounding, noising and masking, which each client does, are part of collect"
    } else {
        "encode is rotating, rounding and noising, which each client does; with masks it is part of collect, as is masking"
    };
    let masks = if report.masked {
        ""
    } else {
        "<li>This run summed without masks (--plain): the same arithmetic, but a coordinator would have seen each update. Nobody \
         drops out while confirming or unmasking, so a round may be released here that would abort with masks.</li>\n"
    };
    format!(
        "<h2>How to read this</h2>\n<ul>\n{}\
         <li>Simulated noise, keys and shares are drawn from the seed, so that a run can be repeated; whoever knows the seed could \
         take the noise off. Production draws them from the operating system.</li>\n\
         <li>Time by phase: {phases}.</li>\n\
         <li>All clients ran in one process and in virtual time; the messages were encoded and decoded as they would be on a wire.</li>\n{masks}</ul>\n",
        measures(report)
    )
}

/// What the two figures of every round are.
fn measures(report: &Report) -> String {
    let adjacency = match report.scenario.privacy.adjacency {
        tacit_privacy::Adjacency::ZeroOut => "zero-out",
        tacit_privacy::Adjacency::ReplaceOne => "replace-one",
    };
    format!(
        "<li>Bits per byte: total nats over ln 2 over total bytes, on the held-out sample; each window is predicted from its own start.</li>\n\
         <li>Epsilon: the largest over clients, each composed over the rounds that it joined, as the coordinator could infer it; \
         {adjacency} adjacency, no amplification by sampling.</li>\n"
    )
}

fn network_notes(report: &Report) -> String {
    format!(
        "<h2>How to read this</h2>\n<ul>\n{}\
         <li>Everything here is public or an operator's to see: bits per byte are of each version as a client installed it, epsilon \
         was recomputed from the exported ledger, the rest is the operator's status. What only clients know (losses, norms \
         before clipping, bytes of each) was asked of none; memory and processor time were measured from outside.</li>\n\
         <li>Time by phase is as the operator saw it, looking four times a second; train is the wait until a cohort was ready, \
         and the version before was measured meanwhile.</li>\n\
         <li>Clients drew keys and noise from the operating system, so another run gives other figures; nobody was made to drop \
         out.</li>\n</ul>\n",
        measures(report)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    /// Whether tags nest: every element that opens closes in order.
    fn nests(html: &str) -> Result<(), String> {
        let mut open: Vec<&str> = Vec::new();
        for piece in html.split('<').skip(1) {
            let tag = piece.split('>').next().unwrap_or_default();
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with('!') || tag.ends_with('/') || name == "meta" {
                continue;
            }
            if tag.starts_with('/') {
                let last = open.pop();
                if last != Some(name) {
                    return Err(format!("</{name}> closes {last:?}"));
                }
            } else {
                open.push(name);
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
    }

    #[test]
    fn the_page_is_whole_escaped_and_needs_nothing_else() {
        let html = render(&sample());
        assert_eq!(nests(&html), Ok(()));
        assert_eq!(html.matches("<svg").count(), 4);
        assert!(html.contains("fn take&lt;T&gt;(x: &amp;T) -&gt; bool {"));
        assert!(html.contains("too few &lt;survivors&gt;"));
        assert!(html.contains("stopped before round 4: nobody is &lt;rested&gt; (2 rounds were wanted)"));
        assert!(html.contains("noising and masking, which each client does, are part of collect"));
        for foreign in ["http:", "https:", "<script", "<link", "<img", "url(", "@import", "NaN"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.contains("3.000 → 2.850") && html.contains("ε = 2.70") && html.contains("50%"));
        assert!(html.contains("central training, best rate") && html.contains("diverged"));
        assert!(html.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn a_run_over_the_network_says_so_and_shows_nothing_that_only_clients_know() {
        let mut report = sample();
        let used =
            |processes, clients| Used { processes, clients, peak_rss_bytes: 50_000_000, cpu_seconds: 61.25 };
        report.network = Some(NetworkReport {
            coordinator: used(1, 0),
            client_processes: used(8, 8),
            fleet_processes: used(2, 614),
            loopback_bytes: Some(2_500_000_000),
        });
        for round in &mut report.rounds {
            (round.norms, round.traffic) = (None, None);
        }
        let html = render(&report);
        assert_eq!(nests(&html), Ok(()));
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(html.contains("8 processes of one client each and 614 clients in 2 more processes"));
        assert!(html.contains("2 with 614 clients, at most 50.0 MB each, 61.2 s on processors together"));
        assert!(html.contains("2500.0 MB") && html.contains("recomputed from the exported ledger"));
        for simulated in ["in virtual time", "drawn from the seed", "seen by the simulation alone", "seed 1"]
        {
            assert!(!html.contains(simulated) && render(&sample()).contains(simulated), "{simulated}");
        }
    }

    #[test]
    fn a_run_that_found_nothing_still_renders() {
        let mut report = sample();
        report.rounds.clear();
        report.comparison = None;
        report.summary.heldout_central = None;
        report.summary.recovered_share = None;
        report.completions.clear();
        report.masked = false;
        report.stopped_early = None;
        report.summary.heldout_private = 3.2;
        let html = render(&report);
        assert_eq!(nests(&html), Ok(()));
        assert!(html.contains("+0.200") && html.contains("without masks") && !html.contains("NaN"));
        assert!(!html.contains("central training, best rate") && !html.contains("The fleet stopped"));
        assert!(html.contains("encode is rotating, rounding and noising"));
        assert!(html.contains("may be released here that would abort with masks"));
    }
}
