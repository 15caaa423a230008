//! A sweep as stand-alone SVG files, one for each field. Must never need a page around it.

use super::plot::{Line, escape, lines};
use crate::sweep::Point;

const STYLE: &str = include_str!("style.css");

/// `(field, SVG)` for each field that was varied: held-out bits per byte over the values, in the order they were given.
/// Values that are not numbers are numbered from one.
#[must_use]
pub fn panels(points: &[Point]) -> Vec<(String, String)> {
    let mut fields: Vec<&str> = points.iter().map(|point| point.field.as_str()).collect();
    fields.dedup();
    fields.into_iter().map(|field| (field.to_owned(), panel(field, points))).collect()
}

fn panel(field: &str, points: &[Point]) -> String {
    let own: Vec<&Point> = points.iter().filter(|point| point.field == field).collect();
    let place = |index: usize, point: &Point| {
        let number = point.value.as_float().or_else(|| point.value.as_integer().map(|value| value as f64));
        number.unwrap_or(index as f64 + 1.0)
    };
    let measured =
        own.iter().enumerate().map(|(index, point)| (place(index, point), point.heldout_private)).collect();
    let start =
        own.iter().enumerate().map(|(index, point)| (place(index, point), point.heldout_start)).collect();
    let drawn = [
        Line { name: "after the private fleet", points: measured, reference: false },
        Line { name: "before", points: start, reference: true },
    ];
    let svg = lines(
        &format!("Held-out bits per byte over {field}"),
        field,
        "held-out bits per byte",
        false,
        &drawn,
    );
    let epsilons: Vec<String> =
        own.iter().map(|point| format!("{}: epsilon {:.2}", point.value, point.epsilon)).collect();
    let inside =
        format!("<style>{}</style><desc>{}</desc>", STYLE.replace('\n', ""), escape(&epsilons.join("; ")));
    // What follows the drawing is a legend for a page; here the dashed line is the one before training.
    let svg = svg.split_inclusive("</svg>").next().unwrap_or_default();
    svg.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"300\" ", 1)
        .replacen("</title>", &format!("</title>{inside}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_gets_a_file_of_its_own() {
        let point = |field: &str, value: f64, bits: f64| Point {
            field: field.to_owned(),
            value: toml::Value::Float(value),
            heldout_start: 3.0,
            heldout_private: bits,
            epsilon: 4.0,
            rounds_released: 2,
            wall_seconds: 1.0,
        };
        let points =
            [point("privacy.clip", 0.5, 2.8), point("privacy.clip", 1.0, 2.7), point("lora.rank", 4.0, 2.9)];
        let panels = panels(&points);
        assert_eq!(
            panels.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
            ["privacy.clip", "lora.rank"]
        );
        for (field, svg) in panels {
            assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"), "{svg}");
            assert!(svg.contains(&field) && svg.contains("epsilon 4.00"));
        }
    }
}
