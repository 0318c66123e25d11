//! Charts as SVG: points over two axes, the vertical one logarithmic, without scripts, in the colours of the reader's light or dark mode.
//!
//! What series mean is told by shape and text as well as by colour.

use std::fmt::Write;

/// How the points of a series are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line through the points.
    Line,
    /// A filled circle at each point.
    Circle,
    /// A cross at each point.
    Cross,
}

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Place on the horizontal axis.
    pub x: f64,
    /// Place on the vertical axis, more than 0.
    pub y: f64,
    /// What stands beside it.
    pub label: String,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What they are.
    pub name: String,
    /// How they are drawn.
    pub mark: Mark,
    /// The points.
    pub points: Vec<Point>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The horizontal axis with its unit.
    pub x_axis: String,
    /// The vertical axis with its unit.
    pub y_axis: String,
    /// What is drawn; later series lie above earlier ones.
    pub series: Vec<Series>,
}

/// Size of a drawing where nothing else is asked for, in pixels, and of the room around the axes' rectangle.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 56.0;

/// Distance between lines of the legend, in pixels.
const LEGEND_LINE: f64 = 16.0;
/// Distance between lines of the title, and width of one of its letters, in pixels, roughly.
const TITLE_LINE: f64 = 19.0;
const TITLE_LETTER: f64 = 8.6;
/// Pixels along an axis for each figure beside it.
const PER_TICK: f64 = 110.0;
/// Height of a line of small text, in pixels: labels of points keep that far apart.
const LINE: f64 = 12.0;
/// Width of a letter of small text, in pixels, roughly.
const LETTER: f64 = 6.2;

/// Colours of lines, circles and crosses in light and dark mode, and of everything else.
const STYLE: &str = "\
<style>
  svg { background: #ffffff; font: 12px system-ui, sans-serif; }
  text { fill: #222222; } .small { font-size: 11px; } .title { font-size: 15px; font-weight: 600; }
  .axis { stroke: #888888; } .grid { stroke: #e2e2e2; }
  .line { stroke: #1f5fbf; fill: none; stroke-width: 2; } .circle { fill: #0a7d4f; } .cross { stroke: #b3401f; stroke-width: 1.8; }
  @media (prefers-color-scheme: dark) {
    svg { background: #16181c; } text { fill: #e6e6e6; } .grid { stroke: #30343a; }
    .line { stroke: #7db1ff; } .circle { fill: #4fd39a; } .cross { stroke: #ff9b73; }
  }
</style>
";

/// Values to pixels.
struct Scale {
    x: [f64; 2],
    y: [f64; 2],
    frame: Frame,
}

/// Size of a drawing and the upper end of its axes, in pixels.
#[derive(Clone, Copy)]
struct Frame {
    width: f64,
    height: f64,
    top: f64,
}

impl Scale {
    /// The ends of all finite points with y above 0; `None` without any.
    fn of(chart: &Chart, frame: Frame) -> Option<Self> {
        let points = || chart.series.iter().flat_map(|series| &series.points).filter(|p| is_drawn(p));
        let ends = |value: fn(&Point) -> f64| {
            let all = points().map(value);
            all.fold(None, |ends: Option<[f64; 2]>, v| {
                Some(ends.map_or([v, v], |[least, most]| [least.min(v), most.max(v)]))
            })
        };
        let [left, right] = ends(|p| p.x)?;
        let [low, high] = ends(|p| p.y.log10())?;
        let room = ((right - left) * 0.03).max(1e-9);
        let y = [low.floor(), high.ceil().max(low.floor() + 1.0)];
        Some(Self { x: [left - room, right + room], y, frame })
    }

    fn x(&self, x: f64) -> f64 {
        let [least, most] = self.x;
        LEFT + (x - least) / (most - least) * (self.frame.width - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        let [least, most] = self.y;
        let Frame { height, top, .. } = self.frame;
        height - BOTTOM - (y.log10() - least) / (most - least) * (height - top - BOTTOM)
    }
}

fn is_drawn(point: &Point) -> bool {
    point.x.is_finite() && point.y.is_finite() && point.y > 0.0
}

impl Chart {
    /// The chart as the text of an SVG file.
    pub fn svg(&self) -> String {
        self.svg_of(WIDTH, HEIGHT)
    }

    /// The same in another size, in pixels; letters keep theirs, so that a narrow one can be read on a phone.
    pub fn svg_of(&self, width: f64, height: f64) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n{STYLE}",
            escaped(&self.title)
        );
        let lines = self.legend_places(width).last().map_or(0.0, |(_, line)| *line);
        let title = title_lines(&self.title, width);
        let below = TITLE_LINE * title.len().saturating_sub(1) as f64;
        let frame = Frame { width, height, top: TOP + below + LEGEND_LINE * lines };
        for (i, part) in title.iter().enumerate() {
            text(&mut out, (LEFT, 26.0 + TITLE_LINE * i as f64), "title", "start", part);
        }
        if let Some(scale) = Scale::of(self, frame) {
            self.axes(&mut out, &scale);
            let mut labels = Vec::new();
            for series in &self.series {
                series.draw(&mut out, &scale, &mut labels);
            }
        }
        self.legend(&mut out, width, 48.0 + below);
        out.push_str("</svg>\n");
        out
    }

    /// Lines and figures of both axes.
    fn axes(&self, out: &mut String, scale: &Scale) {
        let Frame { width, height, top } = scale.frame;
        let (bottom, right) = (height - BOTTOM, width - RIGHT);
        for power in scale.y[0] as i32..=scale.y[1] as i32 {
            let y = scale.y(10f64.powi(power));
            line(out, "grid", (LEFT, y), (right, y));
            text(out, (LEFT - 6.0, y + 4.0), "small", "end", &figure(10f64.powi(power)));
        }
        for x in ticks(scale.x, (right - LEFT) / PER_TICK) {
            line(out, "grid", (scale.x(x), top), (scale.x(x), bottom));
            text(out, (scale.x(x), bottom + 18.0), "small", "middle", &figure(x));
        }
        line(out, "axis", (LEFT, bottom), (right, bottom));
        line(out, "axis", (LEFT, top), (LEFT, bottom));
        text(out, ((LEFT + right) / 2.0, height - 14.0), "", "middle", &self.x_axis);
        text(out, (LEFT - 60.0, top - 10.0), "small", "start", &self.y_axis);
    }

    /// Where the mark of each series stands in the legend: pixels from the left, and the number of its line.
    fn legend_places(&self, width: f64) -> Vec<(f64, f64)> {
        let (mut x, mut line) = (LEFT, 0.0);
        let mut places = Vec::new();
        for series in &self.series {
            let needed = 22.0 + LETTER * series.name.chars().count() as f64 + 22.0;
            if x > LEFT && x + needed > width {
                (x, line) = (LEFT, line + 1.0);
            }
            places.push((x, line));
            x += needed;
        }
        places
    }

    /// Mark and name of each series, from `first` pixels below the upper edge on.
    fn legend(&self, out: &mut String, width: f64, first: f64) {
        for (series, (x, line)) in self.series.iter().zip(self.legend_places(width)) {
            let y = first + LEGEND_LINE * line;
            mark(out, series.mark, (x + 8.0, y - 4.0));
            text(out, (x + 22.0, y), "small", "start", &series.name);
        }
    }
}

impl Series {
    /// Draws the points, with labels where these cover no label that is there already.
    fn draw(&self, out: &mut String, scale: &Scale, labels: &mut Vec<[f64; 3]>) {
        let drawn = || self.points.iter().filter(|p| is_drawn(p));
        if self.mark == Mark::Line {
            let points: Vec<String> =
                drawn().map(|p| format!("{:.1},{:.1}", scale.x(p.x), scale.y(p.y))).collect();
            let _ = writeln!(out, "<polyline class=\"line\" points=\"{}\"/>", points.join(" "));
        }
        for point in drawn() {
            let at = (scale.x(point.x), scale.y(point.y));
            if self.mark != Mark::Line {
                mark(out, self.mark, at);
            }
            let width = LETTER * point.label.chars().count() as f64;
            let free = |&(left, y): &(f64, f64)| {
                let covers =
                    |[x, other, w]: &[f64; 3]| (y - other).abs() < LINE && left < x + w && *x < left + width;
                left >= LEFT && left + width <= scale.frame.width && !labels.iter().any(covers)
            };
            // Right of the point, or left of it, as near as there is room.
            let shifts = [-3.0, 9.0, -15.0, 21.0, -27.0, 33.0, -39.0, 45.0];
            let places = shifts.iter().flat_map(|y| [at.0 + 7.0, at.0 - 7.0 - width].map(|x| (x, at.1 + y)));
            if let Some((left, y)) = places.into_iter().find(free).filter(|_| width > 0.0) {
                labels.push([left, y, width]);
                text(out, (left, y), "small", "start", &point.label);
            }
        }
    }
}

/// Lines of a title that fit a drawing of `width` pixels; a word that is longer than a line is cut.
fn title_lines(title: &str, width: f64) -> Vec<String> {
    let most = ((width - LEFT - 8.0) / TITLE_LETTER).max(1.0) as usize;
    let mut lines: Vec<String> = Vec::new();
    for word in title.split(' ') {
        let word: String = match word.chars().count() > most {
            true => word.chars().take(most - 1).chain(['\u{2026}']).collect(),
            false => word.to_owned(),
        };
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                *line += &format!(" {word}")
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Round numbers in `[least, most]`, about `count` of them.
fn ticks([least, most]: [f64; 2], count: f64) -> Vec<f64> {
    let rough = (most - least) / count.max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough).unwrap_or(power);
    let first = (least / step).ceil() as i64;
    (first..=(most / step).floor() as i64).map(|i| i as f64 * step).collect()
}

/// A number as it stands at an axis.
fn figure(x: f64) -> String {
    let text = if x != 0.0 && x.abs() < 1e-4 { format!("{x:.0e}") } else { format!("{x:.4}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn line(out: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, content: &str) {
    let content = escaped(content);
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>"
    );
}

fn mark(out: &mut String, mark: Mark, (x, y): (f64, f64)) {
    match mark {
        Mark::Line => line(out, "line", (x - 8.0, y), (x + 8.0, y)),
        Mark::Circle => {
            let _ = writeln!(out, "<circle class=\"circle\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
        }
        Mark::Cross => {
            line(out, "cross", (x - 4.0, y - 4.0), (x + 4.0, y + 4.0));
            line(out, "cross", (x - 4.0, y + 4.0), (x + 4.0, y - 4.0));
        }
    }
}

/// `content` as text of an XML file; characters that XML cannot hold are left out.
fn escaped(content: &str) -> String {
    let allowed = content.chars().filter(|c| !c.is_control());
    let mut out = String::new();
    for c in allowed {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        let point = |&(x, y): &(f64, f64)| Point { x, y, label: format!("<{x}>") };
        let points: Vec<Point> = points.iter().map(point).collect();
        let series = |mark| Series { name: format!("{mark:?} & more"), mark, points: points.clone() };
        Chart {
            title: "KL \"by\" size".into(),
            x_axis: "MB".into(),
            y_axis: "nats".into(),
            series: [Mark::Line, Mark::Circle, Mark::Cross].map(series).into(),
        }
    }

    #[test]
    fn text_is_escaped_and_every_element_closed() {
        let svg = chart(&[(1.0, 0.1), (2.0, 0.01), (3.0, 0.0005)]).svg();
        assert!(
            svg.contains("KL &quot;by&quot; size")
                && svg.contains("&lt;1&gt;")
                && svg.contains("Line &amp; more")
        );
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert_eq!(svg.matches("<circle").count(), 4);
    }

    #[test]
    fn points_lie_within_the_axes() {
        let chart = chart(&[(2e6, 3.0), (9e8, 1e-6)]);
        let frame = Frame { width: WIDTH, height: HEIGHT, top: TOP };
        let scale = Scale::of(&chart, frame).unwrap();
        for point in &chart.series[0].points {
            assert!((LEFT..=WIDTH - RIGHT).contains(&scale.x(point.x)));
            assert!((TOP..=HEIGHT - BOTTOM).contains(&scale.y(point.y)));
        }
        let ticks = ticks(scale.x, 6.0);
        assert!((4..=10).contains(&ticks.len()), "{ticks:?}");
    }

    #[test]
    fn long_titles_have_several_lines() {
        assert_eq!(title_lines("a-model.gguf: divergence from the teacher", WIDTH).len(), 1);
        let lines = title_lines("a-model.gguf: divergence from the teacher", 360.0);
        assert_eq!(lines, ["a-model.gguf: divergence from", "the teacher"]);
        let cut = title_lines(&"long".repeat(40), 360.0);
        assert!(cut.len() == 1 && cut[0].ends_with('\u{2026}') && cut[0].chars().count() == 32, "{cut:?}");
    }

    #[test]
    fn a_narrow_chart_has_a_legend_of_several_lines() {
        let mut chart = chart(&[(1.0, 0.1), (2.0, 0.01)]);
        chart.series.iter_mut().for_each(|series| series.name = "a name of some length".into());
        let lines = |width| chart.legend_places(width).iter().map(|(_, line)| *line).collect::<Vec<_>>();
        assert_eq!((lines(WIDTH), lines(360.0)), (vec![0.0; 3], vec![0.0, 1.0, 2.0]));
        assert!(
            chart
                .svg_of(360.0, 400.0)
                .starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 360 400\"")
        );
    }

    #[test]
    fn what_a_logarithm_cannot_show_is_left_out() {
        let svg = chart(&[(1.0, 0.0), (f64::NAN, 1.0), (2.0, -1.0)]).svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(!chart(&[(1.0, 0.0), (5.0, 2.0)]).svg().contains("NaN"));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([0.0, 1.5, 2000.0, 0.001, 1e-6].map(figure), ["0", "1.5", "2000", "0.001", "1e-6"]);
    }
}
