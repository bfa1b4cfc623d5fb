//! Charts as SVG: lines and points over two axes, in the page's own colours.

use std::fmt::Write;

/// A line, or points if it is not joined.
pub struct Series {
    pub name: String,
    /// Of the page's colours.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
    pub joined: bool,
}

/// An axis.
pub struct Axis {
    pub title: &'static str,
    pub range: [f64; 2],
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

impl Axis {
    /// From the least to the greatest of some values, with some room, from 0 on if that is near.
    pub fn of(title: &'static str, values: impl Iterator<Item = f64>) -> Axis {
        let (mut least, mut most) = values.filter(|v| v.is_finite()).fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        if least > most {
            (least, most) = (0.0, 1.0);
        }
        let room = 0.06 * (most - least).max(1e-9 * most.abs()).max(1e-3);
        let least = if least >= 0.0 && least < 0.4 * most { 0.0 } else { least - room };
        Axis { title, range: [least, most + room] }
    }

    fn share(&self, v: f64) -> f64 {
        (v - self.range[0]) / (self.range[1] - self.range[0])
    }

    /// Round numbers, five or so.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.range[1] - self.range[0]) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power).find(|&step| step >= rough).unwrap_or(rough);
        let first = (self.range[0] / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|&v| v <= self.range[1]).collect()
    }
}

/// As few digits as tell ticks apart.
fn plain(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The chart; `label` says what it is to who cannot see it. Names stand at the ends of lines, and beside points, each where no other is.
pub fn chart(label: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let px = |v: f64| LEFT + x.share(v) * (WIDTH - LEFT - RIGHT);
    let py = |v: f64| TOP + (1.0 - y.share(v)) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", super::page::escaped(label));
    for v in y.ticks() {
        let at = py(v);
        let _ = write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>", WIDTH - RIGHT);
        let _ = write!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, at + 4.0, plain(v));
    }
    for v in x.ticks() {
        let at = px(v);
        let _ = write!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", HEIGHT - BOTTOM + 18.0, plain(v));
    }
    let (middle, foot) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6.0);
    let _ = write!(out, "<text class=\"title\" x=\"{middle:.1}\" y=\"{foot:.1}\" text-anchor=\"middle\">{}</text>", x.title);
    let across = (TOP + HEIGHT - BOTTOM) / 2.0;
    let _ =
        write!(out, "<text class=\"title\" transform=\"translate(12 {across:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>", y.title);
    let mut names: Vec<(f64, f64, usize, &str)> = Vec::new();
    for s in series {
        let places: Vec<(f64, f64)> = s.points.iter().filter(|p| p.1.is_finite()).map(|p| (px(p.0), py(p.1))).collect();
        if s.joined {
            let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(out, "<polyline class=\"c{}\" points=\"{}\"/>", s.colour, line.join(" "));
        }
        for (x, y) in places.iter().filter(|_| !s.joined) {
            let _ = write!(out, "<circle class=\"c{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>", s.colour);
        }
        if let Some(&(x, y)) = places.last() {
            names.push((x + 9.0, y + 4.0, s.colour, &s.name));
        }
    }
    // Names that would lie upon each other give way downwards.
    names.sort_by(|a, b| a.1.total_cmp(&b.1));
    for i in 0..names.len() {
        let above = names[..i].iter().filter(|other| (other.0 - names[i].0).abs() < 48.0).map(|other| other.1 + 14.0);
        names[i].1 = above.fold(names[i].1, f64::max);
    }
    for (x, y, colour, name) in names {
        let _ = write!(out, "<text class=\"name n{colour}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", super::page::escaped(name));
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let axis = Axis::of("MB", [0.85, 3.76].into_iter());
        assert_eq!(axis.range[0], 0.0);
        assert_eq!(axis.ticks(), [0.0, 1.0, 2.0, 3.0]);
        let axis = Axis::of("dB", [30.0, 47.0, f64::INFINITY].into_iter());
        assert!(axis.range[0] < 30.0 && axis.range[1] < 50.0 && axis.ticks().len() > 2, "{:?}", axis.ticks());
        // One value, or none, has an axis too.
        for values in [&[5.0][..], &[], &[0.0]] {
            let axis = Axis::of("", values.iter().copied());
            assert!(axis.range[0] < axis.range[1] && axis.ticks().len() < 20, "{:?}", axis.range);
        }
    }
}
