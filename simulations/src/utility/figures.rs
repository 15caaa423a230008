//! The evidence as figures. Must never show a measurement that is all chance as if it were a cost.

use std::collections::BTreeSet;

use super::{Allowance, Evidence, Figures, Outcome, Point, Updates};
use crate::report::multiples::{Axis, Figure, Panel, Series};

/// Widths of figures with several columns and with one, in pixels.
const WIDE: f64 = 960.0;
const NARROW: f64 = 640.0;
/// What a cross means.
const MISSING: &str = "no scale serves";
/// Excess that the design allows at 16 bits.
const ALLOWED: f64 = 0.02;
/// An excess is drawn as measured from so many standard errors on.
const DISTINCT: f64 = 3.0;

/// File names and SVGs of everything in `evidence`.
#[must_use]
pub fn figures(evidence: &Evidence) -> Vec<(&'static str, String)> {
    vec![
        ("rmse.svg", errors(evidence)),
        ("excess-random.svg", excess(evidence, Updates::Random)),
        ("excess-aligned.svg", excess(evidence, Updates::Aligned)),
        ("collusion.svg", collusion(evidence)),
        ("dropout.svg", dropout(evidence)),
    ]
}

/// The number, with a power of two as such.
fn dimension(value: usize) -> String {
    if value.is_power_of_two() { format!("2^{}", value.ilog2()) } else { value.to_string() }
}

fn clients(evidence: &Evidence) -> Axis {
    let values: BTreeSet<u32> = evidence.settings.clients.iter().copied().collect();
    let ends = (values.first().copied().unwrap_or(1), values.last().copied().unwrap_or(10));
    Axis {
        name: "clients in the cohort",
        // Room for marks at both ends.
        low: f64::from(ends.0) / 1.15,
        high: f64::from(ends.1) * 1.15,
        logarithmic: true,
        marks: values.iter().map(|&value| (f64::from(value), value.to_string())).collect(),
    }
}

/// A row for each noise multiplier, a column for each dimension, a series for each number of bits.
fn panels(evidence: &Evidence, updates: Updates, series: impl Fn(&[&Point]) -> Vec<Series>) -> Vec<Panel> {
    let settings = &evidence.settings;
    let mut panels = Vec::new();
    for &noise_multiplier in &settings.noise_multipliers {
        for &d in &settings.dimensions {
            let own = |point: &&Point| {
                (point.updates, point.dimension, point.noise_multiplier) == (updates, d, noise_multiplier)
            };
            let points: Vec<&Point> = evidence.points.iter().filter(own).collect();
            let title = format!("z = {noise_multiplier}, d = {}", dimension(d));
            panels.push(Panel { title, series: series(&points) });
        }
    }
    panels
}

/// The points of one number of bits as a series of `value`, with a dot where `measured` gives one.
fn over_clients(
    points: &[&Point],
    bits: u32,
    value: impl Fn(&Figures) -> f64,
    measured: impl Fn(&Figures) -> Option<f64>,
) -> Series {
    let mut series = Series { line: Vec::new(), dots: Vec::new(), missing: Vec::new() };
    for point in points.iter().filter(|point| point.bits == bits) {
        let n = f64::from(point.clients);
        match &point.outcome {
            Outcome::Feasible(figures) => {
                series.line.push((n, value(figures)));
                if let Some(found) = measured(figures) {
                    let note = format!("{bits} bits, {} clients: {found:.4e}", point.clients);
                    series.dots.push((n, found, note));
                }
            }
            Outcome::Infeasible { reason } => series.missing.push((n, reason.clone())),
        }
    }
    series
}

fn bit_names(evidence: &Evidence) -> Vec<(String, bool)> {
    evidence.settings.bits.iter().map(|bits| (format!("{bits} bits"), false)).collect()
}

/// Marks at the powers of ten from `low` to `high`.
fn decades(low: i32, high: i32, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    (low..=high).map(|power| 10_f64.powi(power)).map(|value| (value, label(value))).collect()
}

fn errors(evidence: &Evidence) -> String {
    let bits = &evidence.settings.bits;
    let panels = panels(evidence, Updates::Random, |points| {
        let mut all: Vec<Series> =
            bits.iter().map(|&bits| over_clients(points, bits, |f| f.rmse, |f| f.measured)).collect();
        // The central error at equal epsilon; at the most bits, where the distributed epsilon is the promised one.
        let most = bits.iter().copied().max().unwrap_or_default();
        let central = over_clients(points, most, |f| f.central_rmse, |_| None);
        all.push(Series { missing: Vec::new(), ..central });
        all
    });
    let values = || panels.iter().flat_map(|p| &p.series).flat_map(|s| &s.line).map(|point| point.1.log10());
    let low = values().fold(f64::INFINITY, f64::min).floor();
    let high = values().fold(f64::NEG_INFINITY, f64::max).ceil();
    let (low, high) = if low < high { (low as i32, high as i32) } else { (-3, 0) };
    let mut names = bit_names(evidence);
    names.push(("central Gaussian at equal epsilon".to_owned(), true));
    Figure {
        title: "Root mean square error of the mean over cohort size",
        x: clients(evidence),
        y: Axis {
            name: "RMSE of a coordinate of the mean (clip norms)",
            low: 10_f64.powi(low),
            high: 10_f64.powi(high),
            logarithmic: true,
            marks: decades(low, high, |value| value.to_string()),
        },
        columns: evidence.settings.dimensions.len(),
        width: WIDE,
        names,
        level: None,
        missing: MISSING,
        panels,
    }
    .render()
}

fn excess(evidence: &Evidence, updates: Updates) -> String {
    let distinct = |figures: &Figures| {
        let found = figures.measured? / figures.central_rmse - 1.0;
        let chance = figures.standard_error? / figures.central_rmse;
        (found > DISTINCT * chance).then_some(100.0 * found)
    };
    let panels = panels(evidence, updates, |points| {
        let series = |&bits: &u32| over_clients(points, bits, |f| 100.0 * f.excess(), distinct);
        evidence.settings.bits.iter().map(series).collect()
    });
    let title = match updates {
        Updates::Random => "Error beyond the central Gaussian's, updates in random directions",
        Updates::Aligned => "Error beyond the central Gaussian's, all updates in one direction",
    };
    Figure {
        title,
        x: clients(evidence),
        y: Axis {
            name: "RMSE beyond the central Gaussian's (%)",
            low: 0.01,
            high: 1000.0,
            logarithmic: true,
            marks: decades(-2, 3, |value| value.to_string()),
        },
        columns: evidence.settings.dimensions.len(),
        width: WIDE,
        names: bit_names(evidence),
        level: Some((100.0 * ALLOWED, "2%")),
        missing: MISSING,
        panels,
    }
    .render()
}

/// A series of allowances: those that `own` gives a fraction for.
fn over_fractions(evidence: &Evidence, plain: f64, own: impl Fn(&Allowance) -> Option<f64>) -> Series {
    let mut series = Series { line: Vec::new(), dots: Vec::new(), missing: Vec::new() };
    for allowance in &evidence.allowances {
        if let Some(fraction) = own(allowance) {
            series.line.push((100.0 * fraction, allowance.ratio));
            let found = allowance.measured / plain;
            series.dots.push((100.0 * fraction, found, format!("{found:.4}")));
        }
    }
    series.line.sort_by(|a, b| a.0.total_cmp(&b.0));
    series
}

fn allowance_figure(
    evidence: &Evidence,
    title: &str,
    x_name: &'static str,
    named: Vec<(&str, Series)>,
) -> String {
    let most = evidence.settings.fractions.iter().map(|fraction| 100.0 * fraction.as_f64());
    let most = most.fold(5.0, f64::max);
    let top = named.iter().flat_map(|(_, series)| &series.line).map(|point| point.1).fold(1.0, f64::max);
    let tenths = (10.0 * top).ceil() as u32;
    let every = if tenths > 20 { 5 } else { 1 };
    let marks = (10..=tenths).filter(|tenth| tenth.is_multiple_of(every));
    let (names, series) = named.into_iter().map(|(name, series)| ((name.to_owned(), false), series)).unzip();
    let settings = &evidence.settings;
    let panel = format!(
        "n = {}, d = {}, z = 1, {} bits",
        settings.allowance_clients,
        dimension(settings.allowance_dimension),
        super::ALLOWANCE_BITS
    );
    Figure {
        title,
        x: Axis {
            name: x_name,
            low: 0.0,
            high: most,
            logarithmic: false,
            marks: settings
                .fractions
                .iter()
                .map(|f| (100.0 * f.as_f64(), (100.0 * f.as_f64()).to_string()))
                .collect(),
        },
        y: Axis {
            name: "RMSE over that without allowance",
            low: 1.0,
            high: f64::from(tenths.max(11)) / 10.0,
            logarithmic: false,
            marks: marks
                .map(|tenth| (f64::from(tenth) / 10.0, format!("{:.1}", f64::from(tenth) / 10.0)))
                .collect(),
        },
        columns: 1,
        width: NARROW,
        names,
        level: None,
        missing: MISSING,
        panels: vec![Panel { title: panel, series }],
    }
    .render()
}

/// Error of the plan that allows for neither.
fn plain(evidence: &Evidence) -> f64 {
    let none = evidence.allowances.iter().find(|a| a.corrupt.get() == 0 && a.dropout.get() == 0);
    none.map_or(f64::NAN, |allowance| allowance.rmse)
}

fn collusion(evidence: &Evidence) -> String {
    let plain = plain(evidence);
    let with = |dropout: u16| {
        let own =
            move |a: &Allowance| (a.dropped == 0 && a.dropout.get() == dropout).then(|| a.corrupt.as_f64());
        over_fractions(evidence, plain, own)
    };
    let named = vec![
        ("no drop-outs allowed", with(0)),
        ("20% may drop out, nobody does", with(super::COMBINED_DROPOUT)),
    ];
    allowance_figure(
        evidence,
        "Cost of assumed collusion",
        "clients assumed to collude (% of the cohort)",
        named,
    )
}

fn dropout(evidence: &Evidence) -> String {
    let plain = plain(evidence);
    let with = |all: bool| {
        let clients = evidence.settings.allowance_clients;
        let own = move |a: &Allowance| {
            let dropped = if all { a.dropout.of(clients) } else { 0 };
            (a.corrupt.get() == 0 && a.dropped == dropped).then(|| a.dropout.as_f64())
        };
        over_fractions(evidence, plain, own)
    };
    let named = vec![("nobody drops out", with(false)), ("all of them drop out", with(true))];
    allowance_figure(
        evidence,
        "Cost of allowing for drop-outs",
        "clients that may drop out (% of the cohort)",
        named,
    )
}
