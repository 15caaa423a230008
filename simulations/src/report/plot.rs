//! Plots as inline SVG: lines, stacked bars, boxes. Must never refer to anything outside the page, nor let a label or a
//! value break out of its element. Colours are classes, so that the page's style sheet serves light and dark.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;

/// Replaces what HTML and SVG would read as markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A line through points, or a level when `level` is set.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// `(x, y)`; a value that is not finite is left out.
    pub(super) points: Vec<(f64, f64)>,
    /// Dashed and without markers: a reference, not a measurement of this run.
    pub(super) reference: bool,
}

/// One bar of parts on top of each other.
pub(super) struct Bar {
    pub(super) label: String,
    /// One value for each name.
    pub(super) parts: Vec<f64>,
}

/// Five numbers of one group.
pub(super) struct Box5 {
    pub(super) label: String,
    /// Minimum, lower quartile, median, upper quartile, maximum.
    pub(super) values: [f64; 5],
    /// The level to compare them with.
    pub(super) level: f64,
}

/// A range and its round marks.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    /// Covers the values; begins at zero when `from_zero`.
    fn covering(values: impl Iterator<Item = f64>, from_zero: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if from_zero {
            low = low.min(0.0);
        }
        if high - low < 1e-9 * high.abs().max(1e-9) {
            let margin = if high == 0.0 { 1.0 } else { high.abs() * 0.1 };
            high += margin;
            if !from_zero {
                low -= margin;
            }
        }
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            power * [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    fn marks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|index| self.low + index as f64 * self.step).collect()
    }

    /// The mark as text with just enough digits for the step.
    fn label(&self, mark: f64) -> String {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        let digits = digits + usize::from((self.step * 10_f64.powi(digits as i32)).fract().abs() > 1e-6);
        let text = format!("{mark:.digits$}");
        if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
            text.replace('-', "")
        } else {
            text
        }
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (value - self.low) / (self.high - self.low)
    }
}

/// An SVG being drawn.
struct Canvas(String);

impl Canvas {
    fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
        ))
    }

    fn add(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(arguments);
    }

    fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.add(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text)));
    }

    fn y_axis(&mut self, scale: &Scale, name: &str) {
        for mark in scale.marks() {
            let y = scale.y(mark);
            self.add(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            ));
            self.text("mark end", LEFT - 7.0, y + 4.0, &scale.label(mark));
        }
        let middle = TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
        self.add(format_args!(
            "<text class=\"axis middle\" transform=\"translate(14 {middle:.1}) rotate(-90)\">{}</text>",
            escape(name)
        ));
    }

    fn x_name(&mut self, name: &str) {
        self.text("axis middle", LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 6.0, name);
    }

    fn x_labels(&mut self, labels: &[String]) {
        // Leave out labels that would run into each other.
        let every = labels.len().div_ceil(16).max(1);
        for (index, label) in labels.iter().enumerate().filter(|(index, _)| index.is_multiple_of(every)) {
            self.text("mark middle", slot(index, labels.len()).1, HEIGHT - BOTTOM + 16.0, label);
        }
    }

    fn finish(mut self) -> String {
        self.0.push_str("</svg>");
        self.0
    }
}

/// Width and centre of one of `count` equal columns.
fn slot(index: usize, count: usize) -> (f64, f64) {
    let width = (WIDTH - LEFT - RIGHT) / count.max(1) as f64;
    (width, LEFT + width * (index as f64 + 0.5))
}

/// A legend in HTML; the classes are those of the plot.
pub(super) fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for (index, name) in names.enumerate() {
        let _ = write!(html, "<span><i class=\"b{}\"></i>{}</span> ", index % 10, escape(name));
    }
    html + "</p>"
}

/// Lines over rounds.
pub(super) fn lines(title: &str, x_name: &str, y_name: &str, from_zero: bool, lines: &[Line<'_>]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let y = Scale::covering(all().map(|point| point.1), from_zero);
    let mut x = Scale::covering(all().map(|point| point.0), false);
    // Rounds are whole numbers: marks between them would mean nothing.
    x.step = x.step.max(1.0).round();
    (x.low, x.high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.0), h.max(p.0)));
    if x.high <= x.low {
        (x.low, x.high) = if x.low.is_finite() { (x.low - 1.0, x.low + 1.0) } else { (0.0, 1.0) };
    }
    let mut canvas = Canvas::new(title);
    canvas.y_axis(&y, y_name);
    let mut mark = (x.low / x.step).ceil() * x.step;
    while mark <= x.high + 1e-9 {
        canvas.text("mark middle", x.x(mark), HEIGHT - BOTTOM + 16.0, &format!("{mark:.0}"));
        mark += x.step;
    }
    canvas.x_name(x_name);
    for (index, line) in lines.iter().enumerate() {
        let class = index % 10;
        let points = line.points.iter().filter(|point| point.1.is_finite());
        let places: Vec<(f64, f64)> = points.map(|point| (x.x(point.0), y.y(point.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let style = if line.reference { " dash" } else { "" };
        canvas.add(format_args!("<polyline class=\"line s{class}{style}\" points=\"{}\"/>", path.join(" ")));
        if !line.reference {
            for ((x, y), point) in places.iter().zip(line.points.iter().filter(|point| point.1.is_finite())) {
                canvas.add(format_args!(
                    "<circle class=\"b{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"><title>{}: {:.4}</title></circle>",
                    escape(&format!("{}, {x_name} {}", line.name, point.0)),
                    point.1
                ));
            }
        }
    }
    canvas.finish() + &legend(lines.iter().map(|line| line.name))
}

/// Bars whose parts are stacked, one colour for each name.
pub(super) fn stacked(title: &str, x_name: &str, y_name: &str, names: &[&str], bars: &[Bar]) -> String {
    let y = Scale::covering(bars.iter().map(|bar| bar.parts.iter().sum()), true);
    let mut canvas = Canvas::new(title);
    canvas.y_axis(&y, y_name);
    canvas.x_labels(&bars.iter().map(|bar| bar.label.clone()).collect::<Vec<_>>());
    canvas.x_name(x_name);
    for (index, bar) in bars.iter().enumerate() {
        let (width, centre) = slot(index, bars.len());
        let width = (width * 0.7).min(70.0);
        let mut below = 0.0;
        for (part, &value) in bar.parts.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let (top, bottom) = (y.y(below + value), y.y(below));
            canvas.add(format_args!(
                "<rect class=\"b{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}: {value:.2}</title></rect>",
                part % 10,
                centre - width / 2.0,
                bottom - top,
                escape(names.get(part).copied().unwrap_or_default())
            ));
            below += value;
        }
    }
    canvas.finish() + &legend(names.iter().copied())
}

/// Boxes from quartile to quartile with whiskers to the extremes, and each group's level across.
pub(super) fn boxes(title: &str, x_name: &str, y_name: &str, level: &str, groups: &[Box5]) -> String {
    let y =
        Scale::covering(groups.iter().flat_map(|group| group.values.into_iter().chain([group.level])), true);
    let mut canvas = Canvas::new(title);
    canvas.y_axis(&y, y_name);
    canvas.x_labels(&groups.iter().map(|group| group.label.clone()).collect::<Vec<_>>());
    canvas.x_name(x_name);
    for (index, group) in groups.iter().enumerate() {
        let (width, centre) = slot(index, groups.len());
        let half = (width * 0.25).min(22.0);
        let [minimum, lower, median, upper, maximum] = group.values.map(|value| y.y(value));
        canvas.add(format_args!(
            "<line class=\"line s0\" x1=\"{centre:.1}\" x2=\"{centre:.1}\" y1=\"{minimum:.1}\" y2=\"{maximum:.1}\"/>\
             <rect class=\"box\" x=\"{:.1}\" y=\"{upper:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>median {:.3}</title></rect>\
             <line class=\"line s0\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{median:.1}\" y2=\"{median:.1}\"/>",
            centre - half,
            half * 2.0,
            (lower - upper).max(0.5),
            group.values[2],
            centre - half,
            centre + half
        ));
    }
    // Each in its own slot: side by side they are one line where the level stays.
    for (index, group) in groups.iter().enumerate() {
        let ((width, centre), height) = (slot(index, groups.len()), y.y(group.level));
        canvas.add(format_args!(
            "<line class=\"line s1 dash\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>",
            centre - 0.5 * width,
            centre + 0.5 * width
        ));
    }
    canvas.finish() + &legend(["minimum, quartiles, maximum", level].into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_cover_their_values_with_round_marks() {
        for (low, high) in [(2.71, 2.97), (0.0, 431.0), (-3.0, 5.0), (1e-6, 2e-6), (5.0, 5.0), (0.0, 0.0)] {
            let scale = Scale::covering([low, high].into_iter(), false);
            assert!(scale.low <= low && scale.high >= high, "{low} {high}");
            let marks = scale.marks();
            assert!((2..=12).contains(&marks.len()), "{low} {high}: {marks:?}");
            let labels: std::collections::BTreeSet<String> = marks.iter().map(|&m| scale.label(m)).collect();
            assert_eq!(labels.len(), marks.len(), "{labels:?}");
        }
        assert_eq!(Scale::covering([0.1, 0.9].into_iter(), true).low, 0.0);
        assert_eq!(Scale { low: 0.0, high: 1.0, step: 0.25 }.label(0.25), "0.25");
        assert_eq!(Scale { low: 0.0, high: 1.0, step: 0.2 }.label(0.2), "0.2");
        assert_eq!(Scale { low: -1.0, high: 1.0, step: 0.5 }.label(-0.0), "0.0");
    }

    #[test]
    fn values_end_up_where_they_belong() {
        let line =
            Line { name: "a<b", points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)], reference: false };
        let svg = lines("t", "round", "bits", false, &[line]);
        assert!(svg.contains("points=\"62.0,258.0 626.0,14.0\""), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b") && !svg.contains("NaN"));
        let bars = [Bar { label: "1".to_owned(), parts: vec![3.0, 0.0, 7.0] }];
        let svg = stacked("t", "round", "seconds", &["x", "y", "z"], &bars);
        assert_eq!(svg.matches("<rect").count(), 2, "an empty part is not drawn");
        assert!(svg.contains("height=\"73.2\"") && svg.contains("height=\"170.8\""), "{svg}");
        let group = Box5 { label: "1".to_owned(), values: [0.0, 1.0, 2.0, 3.0, 4.0], level: 2.0 };
        let svg = boxes("t", "round", "norm", "clip", &[group]);
        assert!(svg.contains("y1=\"258.0\" y2=\"14.0\""), "whiskers from minimum to maximum: {svg}");
        assert!(svg.contains("y1=\"136.0\" y2=\"136.0\""), "the level, half way up: {svg}");
    }

    #[test]
    fn nothing_to_draw_is_drawn_empty() {
        for svg in [
            lines("t", "x", "y", false, &[]),
            lines("t", "x", "y", true, &[Line { name: "one", points: vec![(1.0, 2.0)], reference: false }]),
            stacked("t", "x", "y", &[], &[]),
            boxes("t", "x", "y", "clip", &[]),
        ] {
            assert!(svg.contains("</svg>") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
