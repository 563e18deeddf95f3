//! Line charts as SVG, just enough for the curves in `docs/img/`: two axes, one line per curve, a
//! dashed line for a target. The same figures give the same bytes, so that a diff shows what changed.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 58.0;
const COLOURS: [&str; 6] = [
    "#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a",
];

/// A named line.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it shows, for the legend.
    pub name: String,
    /// Points in ascending order of x.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis, with the unit.
    pub x_label: String,
    /// In the legend's corner, with the unit.
    pub y_label: String,
    /// Whether x grows by factors of ten.
    pub x_log: bool,
    /// A value that should not be exceeded, and its name.
    pub target: Option<(f64, String)>,
    /// The lines.
    pub curves: Vec<Curve>,
}

impl Chart {
    /// The chart as a document; text without figures when there are none.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let (mut x_min, mut x_max) = (f64::MAX, f64::MIN);
        let mut y_max = self.target.as_ref().map_or(0.0, |(value, _)| *value);
        for (x, y) in points() {
            x_min = x_min.min(self.x_scale(*x));
            x_max = x_max.max(self.x_scale(*x));
            y_max = y_max.max(*y);
        }
        // The legend lies above the lines.
        let room = 1.05 + 0.07 * self.curves.len() as f64;
        let y_step = round_step(y_max * room / 6.0);
        let y_top = y_step * (y_max * room / y_step).ceil().max(1.0);
        let x_span = (x_max - x_min).max(1e-9);
        let at_x = |x: f64| LEFT + (self.x_scale(x) - x_min) / x_span * (WIDTH - LEFT - RIGHT);
        let at_y = |y: f64| HEIGHT - BOTTOM - y / y_top * (HEIGHT - TOP - BOTTOM);

        let mut svg = String::new();
        let mut put = |line: String| {
            svg.push_str(&line);
            svg.push('\n');
        };
        put(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">"
        ));
        put(format!(
            "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"
        ));
        put(text(WIDTH / 2.0, 18.0, "middle", 15, &self.title));
        put(text(WIDTH / 2.0, HEIGHT - 8.0, "middle", 12, &self.x_label));
        put(text(LEFT - 66.0, TOP - 12.0, "start", 12, &self.y_label));
        for step in 0..=(y_top / y_step).round() as usize {
            let y = step as f64 * y_step;
            put(line(LEFT, at_y(y), WIDTH - RIGHT, at_y(y), "#d0d7de", ""));
            put(text(LEFT - 6.0, at_y(y) + 4.0, "end", 12, &short(y)));
        }
        for x in self.x_ticks(x_min, x_max) {
            let bottom = HEIGHT - BOTTOM;
            put(line(at_x(x), bottom, at_x(x), bottom + 5.0, "#57606a", ""));
            put(text(at_x(x), bottom + 20.0, "middle", 12, &short(x)));
        }
        if let Some((value, name)) = &self.target {
            let y = at_y(*value);
            put(line(LEFT, y, WIDTH - RIGHT, y, "#57606a", "6 4"));
            put(text(WIDTH - RIGHT - 4.0, y - 5.0, "end", 12, name));
        }
        for (number, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let mut path = String::new();
            for (x, y) in &curve.points {
                // Writing to a string does not fail.
                let _ = write!(path, "{:.1},{:.1} ", at_x(*x), at_y(*y));
            }
            put(format!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                path.trim_end()
            ));
            if curve.points.len() <= 12 {
                for (x, y) in &curve.points {
                    put(format!(
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                        at_x(*x),
                        at_y(*y)
                    ));
                }
            }
            let y = TOP + 14.0 + 16.0 * number as f64;
            put(line(LEFT + 8.0, y - 4.0, LEFT + 28.0, y - 4.0, colour, ""));
            put(text(LEFT + 34.0, y, "start", 12, &curve.name));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn x_scale(&self, x: f64) -> f64 {
        if self.x_log { x.max(1e-9).log10() } else { x }
    }

    fn x_ticks(&self, min: f64, max: f64) -> Vec<f64> {
        if self.x_log {
            // A hair's breadth beside a power of ten still gets its mark.
            let decades = (min - 0.02).ceil() as i32..=(max + 0.02).floor() as i32;
            return decades.map(|decade| 10_f64.powi(decade)).collect();
        }
        let step = round_step((max - min) / 7.0);
        let first = (min / step).ceil() as i64;
        let last = (max / step).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `wanted`.
fn round_step(wanted: f64) -> f64 {
    let wanted = wanted.max(1e-9);
    let decade = 10_f64.powf(wanted.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.iter().find(|f| *f * decade >= wanted * 0.999);
    factor.copied().unwrap_or(10.0) * decade
}

/// A number for an axis: 1500000 is 1.5 M.
fn short(value: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    let (value, unit) = units
        .iter()
        .find(|(size, _)| value.abs() >= *size)
        .map_or((value, ""), |(size, unit)| (value / size, *unit));
    let digits = format!("{value:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{unit}")
}

fn text(x: f64, y: f64, anchor: &str, size: u32, what: &str) -> String {
    let what = what
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
         fill=\"#1f2328\">{what}</text>"
    )
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, dashes: &str) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-dasharray=\"{dashes}\"/>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_get_round_numbers() {
        assert_eq!([round_step(0.9), round_step(130.0)], [1.0, 200.0]);
        assert_eq!([short(0.25), short(1_500_000.0)], ["0.25", "1.5 M"]);
    }

    #[test]
    fn a_chart_holds_its_curves_and_survives_having_none() {
        let mut chart = Chart {
            title: "a < b".into(),
            x_log: true,
            target: Some((2.0, "target".into())),
            ..Chart::default()
        };
        assert!(chart.to_svg().ends_with("</svg>\n"));
        chart.curves.push(Curve {
            name: "one".into(),
            points: vec![(10.0, 1.0), (1000.0, 3.0)],
        });
        let svg = chart.to_svg();
        assert!(svg.contains("a &lt; b") && svg.contains("<polyline") && svg.contains("1 k"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
