//! The losses of a run as a picture: an SVG that any browser shows, with a line for what is trained on and one for what was held out.

use std::fmt::Write;

use serde_json::Value;

/// Width and height, and what is left of them around the lines.
const SIZE: [f64; 2] = [800.0, 420.0];
const MARGIN: [f64; 4] = [64.0, 16.0, 44.0, 30.0];

/// A line: what it is called, how it is drawn, where it goes.
struct Line {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

/// The metrics of a run, line by line, as a picture; nothing of fewer than two points.
pub fn svg(metrics: &[Value]) -> Option<String> {
    let of = |key: &str| -> Vec<(f64, f64)> { metrics.iter().filter_map(|m| Some((m["step"].as_f64()?, m[key].as_f64()?))).collect() };
    let lines = [
        Line { name: "loss", colour: "#1f77b4", points: of("loss") },
        Line { name: "held out", colour: "#d62728", points: of("validation") },
        Line { name: "held out, by the average", colour: "#2ca02c", points: of("validation_ema") },
    ];
    if lines[0].points.len() < 2 {
        return None;
    }
    let all = || lines.iter().flat_map(|l| &l.points);
    let last = all().map(|p| p.0).fold(1.0, f64::max);
    let range = |of: &dyn Fn(f64, f64) -> f64, from: f64| all().map(|p| p.1).filter(|v| *v > 0.0 && v.is_finite()).fold(from, of);
    // Losses fall over orders of magnitude.
    let (least, most) = (range(&f64::min, f64::INFINITY) * 0.95, range(&f64::max, 0.0) * 1.05);
    if !least.is_finite() || least >= most {
        return None;
    }
    // At least a factor of three, in which there are round numbers to write beside.
    let wider = (3.0 * least / most).max(1.0).sqrt();
    let (least, most) = (least / wider, most * wider);
    let [left, right, bottom, top] = MARGIN;
    let x = |step: f64| left + step / last * (SIZE[0] - left - right);
    let y = |loss: f64| top + (most / loss).ln() / (most / least).ln() * (SIZE[1] - top - bottom);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE[0], SIZE[1]
    );
    let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333\">{words}</text>");
    };
    let mut rules = String::new();
    for tick in ticks(least, most) {
        let at = y(tick);
        let _ = writeln!(rules, "<path d=\"M{left} {at:.1}H{}\" stroke=\"#ddd\"/>", SIZE[0] - right);
        text(left - 6.0, at + 4.0, "end", &format!("{tick}"));
    }
    for quarter in 0..=4 {
        let step = last * f64::from(quarter) / 4.0;
        text(x(step), SIZE[1] - bottom + 18.0, "middle", &format!("{step:.0}"));
    }
    text((left + SIZE[0] - right) / 2.0, SIZE[1] - 8.0, "middle", "updates");
    for (i, line) in lines.iter().filter(|l| !l.points.is_empty()).enumerate() {
        let at = left + 10.0 + 170.0 * i as f64;
        text(at + 24.0, 18.0, "start", line.name);
        let _ = writeln!(rules, "<path d=\"M{at} 14h18\" stroke=\"{}\" stroke-width=\"2\"/>", line.colour);
    }
    out.push_str(&rules);
    for line in lines.iter().filter(|l| !l.points.is_empty()) {
        let points = line.points.iter().filter(|p| p.1 > 0.0 && p.1.is_finite());
        let path: Vec<String> = points.map(|&(step, loss)| format!("{:.1},{:.1}", x(step), y(loss))).collect();
        let _ = writeln!(out, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>", line.colour, path.join(" "));
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// Round numbers between two others: 1, 2 and 5 times powers of ten, or if these are few, tenths of the greatest power.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let round = |steps: &[i32]| -> Vec<f64> {
        let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
        // Of whole numbers, so that 0.3 is 0.3.
        let value =
            |power: i32, step: i32| if power < 0 { f64::from(step) / 10f64.powi(-power) } else { f64::from(step) * 10f64.powi(power) };
        powers.flat_map(|p| steps.iter().map(move |&s| value(p, s))).filter(|v| (least..=most).contains(v)).collect()
    };
    let few = round(&[1, 2, 5]);
    if few.len() >= 3 { few } else { round(&[1, 2, 3, 4, 5, 6, 7, 8, 9]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_is_a_picture() {
        let mut metrics: Vec<Value> = (1..=20).map(|k| json!({ "step": 10 * k, "loss": 2.0 / f64::from(k) })).collect();
        metrics.push(json!({ "step": 200, "validation": 0.3, "validation_ema": 0.25 }));
        let svg = svg(&metrics).unwrap_or_default();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains(">0.2<") && svg.contains(">1<") && svg.contains(">200<"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_flat_line_has_numbers_beside_it() {
        let svg = svg(&[json!({ "step": 1, "loss": 1.3 }), json!({ "step": 2, "loss": 1.31 })]).unwrap_or_default();
        assert!(svg.contains(">1<") && svg.contains(">2<"), "{svg}");
    }

    #[test]
    fn of_little_there_is_none() {
        assert_eq!(svg(&[]), None);
        assert_eq!(svg(&[json!({ "step": 1, "loss": 1.0 })]), None);
        assert_eq!(svg(&[json!({ "step": 1, "loss": 0.0 }), json!({ "step": 2, "loss": 0.0 })]), None);
    }
}
