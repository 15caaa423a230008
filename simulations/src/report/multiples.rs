//! Small multiples as one stand-alone SVG: panels with common axes, lines for what is expected, dots for what was measured,
//! crosses for what does not exist. Must never drop a point silently: what lies beyond an axis is drawn at its edge.

use std::fmt::Write;

use super::plot::escape;

const STYLE: &str = include_str!("style.css");

const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const PANEL_TITLE: f64 = 20.0;
const PANEL_HEIGHT: f64 = 190.0;
const GAP: f64 = 16.0;
const BELOW: f64 = 44.0;
const LEGEND_LINE: f64 = 20.0;
/// Height of the row of crosses of one series.
const CROSS_ROW: f64 = 9.0;
/// Rough width of a letter of a legend.
const LETTER: f64 = 6.1;

/// One axis, the same in all panels.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) logarithmic: bool,
    /// Where there are marks, and what they say.
    pub(crate) marks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 at the lower end to 1 at the upper; less or more beyond them.
    fn place(&self, value: f64) -> f64 {
        let position = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).ln() } else { value };
        (position(value) - position(self.low)) / (position(self.high) - position(self.low))
    }
}

/// One series; its index among those of the figure gives its colour.
pub(crate) struct Series {
    /// What is expected: a line.
    pub(crate) line: Vec<(f64, f64)>,
    /// What was measured, with a note: dots.
    pub(crate) dots: Vec<(f64, f64, String)>,
    /// Where there is nothing, with the reason: crosses.
    pub(crate) missing: Vec<(f64, String)>,
}

/// One panel with a series for each name of the figure.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) series: Vec<Series>,
}

/// What a figure shows.
pub(crate) struct Figure<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) columns: usize,
    pub(crate) width: f64,
    /// Names of the series, and whether each is a reference, drawn dashed.
    pub(crate) names: Vec<(String, bool)>,
    /// A level across all panels, and its name.
    pub(crate) level: Option<(f64, &'a str)>,
    /// What a cross means, where there are any.
    pub(crate) missing: &'a str,
    pub(crate) panels: Vec<Panel>,
}

/// Where a panel is.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    top: f64,
    width: f64,
}

impl Frame {
    fn bottom(self) -> f64 {
        self.top + PANEL_HEIGHT
    }

    fn x(self, place: f64) -> f64 {
        self.left + self.width * place
    }

    fn y(self, place: f64) -> f64 {
        self.bottom() - PANEL_HEIGHT * place
    }
}

impl Figure<'_> {
    /// The figure as SVG.
    pub(crate) fn render(&self) -> String {
        let columns = self.columns.max(1);
        let rows = self.panels.len().div_ceil(columns);
        let width = (self.width - LEFT - RIGHT - GAP * (columns - 1) as f64) / columns as f64;
        let row_height = PANEL_TITLE + PANEL_HEIGHT + GAP;
        let legend_top = TOP + rows as f64 * row_height + BELOW;
        let mut body = String::new();
        for (index, panel) in self.panels.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let frame = Frame {
                left: LEFT + column as f64 * (width + GAP),
                top: TOP + row as f64 * row_height + PANEL_TITLE,
                width,
            };
            text(&mut body, "middle", frame.x(0.5), frame.top - 7.0, &panel.title);
            self.grid(&mut body, frame, column == 0, index + columns >= self.panels.len());
            self.draw(&mut body, frame, panel);
        }
        let middle = TOP + rows as f64 * row_height / 2.0;
        add(
            &mut body,
            format_args!(
                "<text class=\"middle\" transform=\"translate(14 {middle:.1}) rotate(-90)\">{}</text>",
                escape(self.y.name)
            ),
        );
        let centre = LEFT + (self.width - LEFT - RIGHT) / 2.0;
        text(&mut body, "middle", centre, legend_top - 22.0, self.x.name);
        let bottom = self.legend(&mut body, legend_top);
        let (width, height, title) = (self.width, bottom + 8.0, escape(self.title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"system-ui, sans-serif\" role=\"img\" aria-label=\"{title}\"><title>{title}</title><style>{}</style>\
             <rect width=\"{width}\" height=\"{height}\" style=\"fill:var(--raised)\"/>\n{body}</svg>\n",
            STYLE.replace('\n', "")
        )
    }

    fn grid(&self, body: &mut String, frame: Frame, first_column: bool, last_row: bool) {
        for (value, label) in &self.y.marks {
            let y = frame.y(self.y.place(*value));
            rule(body, "grid", (frame.x(0.0), y), (frame.x(1.0), y));
            if first_column {
                text(body, "end", frame.left - 7.0, y + 4.0, label);
            }
        }
        for (value, label) in &self.x.marks {
            let x = frame.x(self.x.place(*value));
            rule(body, "grid", (x, frame.bottom()), (x, frame.bottom() + 4.0));
            if last_row {
                text(body, "middle", x, frame.bottom() + 17.0, label);
            }
        }
        if let Some((value, _)) = self.level {
            let y = frame.y(self.y.place(value));
            rule(body, "line s7 dash", (frame.x(0.0), y), (frame.x(1.0), y));
        }
    }

    fn draw(&self, body: &mut String, frame: Frame, panel: &Panel) {
        for (class, series) in panel.series.iter().enumerate() {
            let dash = if self.names.get(class).is_some_and(|name| name.1) { " dash" } else { "" };
            let on_paper = |(x, y): (f64, f64)| {
                format!("{:.1},{:.1}", frame.x(self.x.place(x)), frame.y(self.y.place(y).clamp(0.0, 1.0)))
            };
            let path: Vec<String> = series.line.iter().map(|point| on_paper(*point)).collect();
            add(
                body,
                format_args!("<polyline class=\"line s{class}{dash}\" points=\"{}\"/>\n", path.join(" ")),
            );
            let beyond = series.line.iter().filter(|point| self.y.place(point.1) > 1.0);
            for (x, y) in beyond {
                // A triangle at the upper edge: further up than can be shown.
                let x = frame.x(self.x.place(*x));
                add(
                    body,
                    format_args!(
                        "<path class=\"b{class}\" d=\"M{:.1} {:.1}l4 -7 4 7z\"><title>{y:.3e}</title></path>\n",
                        x - 4.0,
                        frame.top
                    ),
                );
            }
            for (x, y, note) in &series.dots {
                let (x, y) = (frame.x(self.x.place(*x)), frame.y(self.y.place(*y).clamp(0.0, 1.0)));
                add(
                    body,
                    format_args!(
                        "<circle class=\"b{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>\n",
                        escape(note)
                    ),
                );
            }
            for (x, reason) in &series.missing {
                let (x, y) = (frame.x(self.x.place(*x)), frame.top + 8.0 + CROSS_ROW * class as f64);
                add(
                    body,
                    format_args!(
                        "<path class=\"line s{class}\" d=\"M{:.1} {:.1}l6 6m0 -6l-6 6\"><title>{}</title></path>\n",
                        x - 3.0,
                        y - 3.0,
                        escape(reason)
                    ),
                );
            }
        }
    }

    /// Draws the legend from `top` down and gives its lower end.
    fn legend(&self, body: &mut String, top: f64) -> f64 {
        let (mut x, mut y) = (LEFT, top);
        let mut entry = |class: &str, sign: &dyn Fn(f64, f64) -> String, name: &str, body: &mut String| {
            let width = 28.0 + LETTER * name.chars().count() as f64 + 16.0;
            if x + width > self.width - RIGHT && x > LEFT {
                (x, y) = (LEFT, y + LEGEND_LINE);
            }
            add(body, format_args!("<path class=\"{class}\" d=\"{}\"/>", sign(x, y)));
            text(body, "", x + 28.0, y + 4.0, name);
            x += width;
        };
        let stroke = |x: f64, y: f64| format!("M{x:.1} {y:.1}h22");
        for (class, (name, reference)) in self.names.iter().enumerate() {
            let dash = if *reference { " dash" } else { "" };
            entry(&format!("line s{class}{dash}"), &stroke, name, body);
        }
        if let Some((_, name)) = self.level {
            entry("line s7 dash", &stroke, name, body);
        }
        let series = || self.panels.iter().flat_map(|panel| &panel.series);
        if series().any(|series| !series.dots.is_empty()) {
            let dot = |x: f64, y: f64| format!("M{:.1} {y:.1}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z", x + 8.0);
            entry("b7", &dot, "measured", body);
        }
        if series().any(|series| !series.missing.is_empty()) {
            let cross = |x: f64, y: f64| format!("M{:.1} {:.1}l6 6m0 -6l-6 6", x + 8.0, y - 3.0);
            entry("line s7", &cross, self.missing, body);
        }
        if series().any(|series| series.line.iter().any(|point| self.y.place(point.1) > 1.0)) {
            let triangle = |x: f64, y: f64| format!("M{:.1} {:.1}l4 -7 4 7z", x + 7.0, y + 3.0);
            entry("b7", &triangle, "beyond the axis", body);
        }
        y
    }
}

fn add(body: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = body.write_fmt(arguments);
}

fn text(body: &mut String, class: &str, x: f64, y: f64, text: &str) {
    add(body, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(text)));
}

fn rule(body: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    add(
        body,
        format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(logarithmic: bool) -> Axis {
        Axis { name: "a<b", low: 1.0, high: 100.0, logarithmic, marks: vec![(10.0, "ten".to_owned())] }
    }

    fn figure() -> Figure<'static> {
        let series = Series {
            line: vec![(1.0, 1.0), (10.0, 10.0), (100.0, 1e6)],
            dots: vec![(10.0, 10.0, "it's measured".to_owned())],
            missing: vec![(100.0, "too <wide>".to_owned())],
        };
        Figure {
            title: "t",
            x: axis(true),
            y: axis(true),
            columns: 1,
            width: 482.0,
            names: vec![("one".to_owned(), false)],
            level: Some((10.0, "ten")),
            missing: "infeasible",
            panels: vec![Panel { title: "d & n".to_owned(), series: vec![series] }],
        }
    }

    #[test]
    fn values_end_up_where_they_belong() {
        let svg = figure().render();
        // 400 wide from 66 on, 190 high from 34 down; what is beyond the axis stays inside and gets a triangle.
        assert!(svg.contains("points=\"66.0,224.0 266.0,129.0 466.0,34.0\""), "{svg}");
        assert!(svg.contains("cx=\"266.0\" cy=\"129.0\""), "{svg}");
        assert_eq!(svg.matches("<title>1.000e6</title>").count(), 1, "{svg}");
        assert!(svg.contains("too &lt;wide&gt;") && svg.contains("d &amp; n") && !svg.contains("a<b"));
        for entry in ["measured", "infeasible", "beyond the axis", ">one<", ">ten<"] {
            assert!(svg.contains(entry), "{entry}");
        }
        let straight = Figure { y: axis(false), ..figure() }.render();
        assert!(straight.contains("266.0,206.7"), "{straight}");
    }
}
