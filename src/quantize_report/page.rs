//! The page of a report: one file of HTML, which asks for no other.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fcdm_models::compare::Spread;
use fcdm_runtime::picture::{Picture, grid};

use super::chart::{Axis, Series, chart};
use super::{Report, Row};
use crate::about;
use crate::progress::size;

/// Colours that lines have in turn.
const COLOURS: usize = 8;

/// Pictures of a row of a sheet, at the most.
const COLUMNS: usize = 10;

/// Text in the place of markup.
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}

/// `41.2 dB`, or what is the same in every bit.
pub fn db(v: f64) -> String {
    if v.is_finite() { format!("{v:.1} dB") } else { "equal".to_owned() }
}

/// How close a row is: pictures if there are any, else states.
fn closeness(row: &Row) -> Spread {
    row.difference.psnr.unwrap_or(row.difference.snr)
}

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Fewer bits</title><style>";
    out += include_str!("page.css");
    out += "</style></head><body>\n<h1>Fewer bits: what they do to this model</h1>\n<dl>";
    for (name, text) in &report.facts {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(text));
    }
    out += "</dl>\n";
    table(&mut out, report);
    curve(&mut out, report);
    pictures(&mut out, report);
    steps(&mut out, report);
    layers(&mut out, report);
    out + "</body></html>\n"
}

fn table(out: &mut String, report: &Report) {
    let has_pictures = report.rows[0].difference.psnr.is_some();
    *out += "<h2>Sizes, times, closeness</h2>\n<div class=\"wide\"><table><thead><tr><th>type</th><th>file</th><th>memory</th><th>step</th><th>picture</th>";
    *out += if has_pictures { "<th>PSNR</th><th>worst</th><th>SSIM</th>" } else { "" };
    *out += "<th>SNR</th><th>worst</th></tr></thead><tbody>";
    for row in &report.rows {
        let d = &row.difference;
        let memory = row.memory.map_or_else(|| "unknown".to_owned(), size);
        let cells = [size(row.scheme.artifact.file_bytes() as u64), memory, format!("{:.2} ms", row.ms[0]), format!("{:.0} ms", row.ms[1])];
        let _ = write!(out, "<tr><td>{}</td>", escaped(&row.scheme.name));
        let pictures = d.psnr.zip(d.ssim).map(|(psnr, ssim)| [db(psnr.mean), db(psnr.worst), format!("{:.4}", ssim.mean)]);
        for cell in cells.into_iter().chain(pictures.into_iter().flatten()).chain([db(d.snr.mean), db(d.snr.worst)]) {
            let _ = write!(out, "<td>{cell}</td>");
        }
        *out += "</tr>";
    }
    *out += "</tbody></table></div>\n<p class=\"soft\">PSNR and SSIM are of 8-bit pictures, SNR of what the network generates, each against f32 with the \
             same noise; means over pictures, and the worst. A step is one with guidance of one picture; a picture all of its steps, without \
             decoding. Memory is what generating a picture takes, weights and all.</p>\n";
    let parts = report.rows.iter().map(|row| {
        let parts: Vec<String> =
            about::bytes_by_type(&row.scheme.artifact).into_iter().map(|(name, bytes)| format!("{name} {}", size(bytes))).collect();
        format!("<dt>{}</dt><dd>{}</dd>", escaped(&row.scheme.name), parts.join(", "))
    });
    let _ = writeln!(
        out,
        "<details><summary>Bytes of weights by how they are stored</summary><dl>{}</dl></details>",
        parts.collect::<String>()
    );
}

fn megabytes(row: &Row) -> f64 {
    row.scheme.artifact.file_bytes() as f64 / 1e6
}

fn curve(out: &mut String, report: &Report) {
    let far = || report.rows.iter().enumerate().filter(|(_, row)| closeness(row).mean.is_finite());
    if far().next().is_none() {
        return;
    }
    let title = if report.rows[0].difference.psnr.is_some() { "PSNR, dB" } else { "SNR, dB" };
    let x = Axis::of("file, MB", far().map(|(_, row)| megabytes(row)));
    let y = Axis::of(title, far().map(|(_, row)| closeness(row).mean));
    let series = |(i, row): (usize, &Row)| Series {
        name: row.scheme.name.clone(),
        colour: i % COLOURS,
        points: vec![(megabytes(row), closeness(row).mean)],
        joined: false,
    };
    let all: Vec<Series> = far().map(series).collect();
    let f32 = size(report.rows[0].scheme.artifact.file_bytes() as u64);
    let _ = writeln!(
        out,
        "<h2>Size against closeness</h2>\n<div class=\"wide\">{}</div>\n<p class=\"soft\">f32 itself has {f32}.</p>",
        chart("file size against closeness", &x, &y, &all)
    );
}

/// A picture as an image of its own.
fn image(picture: &Picture, says: &str) -> String {
    let bytes = BASE64_STANDARD.encode(picture.to_png(&[]));
    let (w, h) = (picture.width, picture.height);
    format!("<img width=\"{w}\" height=\"{h}\" alt=\"{}\" src=\"data:image/png;base64,{bytes}\">", escaped(says))
}

fn pictures(out: &mut String, report: &Report) {
    *out += "<h2>The same noise</h2>\n";
    if report.rows[0].run.pictures.is_empty() {
        *out +=
            "<p>What this network generates is latents, and there is no autoencoder to make pictures of them: give one with --vae.</p>\n";
        return;
    }
    let _ = writeln!(out, "<p class=\"soft\">{}</p>", escaped(&report.classes.join(", ")));
    for row in &report.rows {
        let pictures = &row.run.pictures;
        let sheet = grid(pictures, pictures.len().min(COLUMNS), 1);
        let close = row
            .difference
            .psnr
            .map_or_else(String::new, |psnr| format!("<span>PSNR {}, {} the worst</span>", db(psnr.mean), db(psnr.worst)));
        let bytes = size(row.scheme.artifact.file_bytes() as u64);
        let name = escaped(&row.scheme.name);
        let _ = writeln!(
            out,
            "<figure><figcaption><b>{name}</b><span>{bytes}</span>{close}</figcaption><div class=\"wide\">{}</div></figure>",
            image(&sheet, &format!("pictures of {}", row.scheme.name))
        );
    }
}

fn steps(out: &mut String, report: &Report) {
    let series = |(i, row): (usize, &Row)| Series {
        name: row.scheme.name.clone(),
        colour: i % COLOURS,
        points: row.difference.steps.iter().enumerate().map(|(k, &v)| ((k + 1) as f64, v)).collect(),
        joined: true,
    };
    let all: Vec<Series> = report.rows.iter().enumerate().skip(1).map(series).collect();
    if all.is_empty() {
        return;
    }
    let values = || all.iter().flat_map(|s| &s.points);
    let (x, y) = (Axis::of("step", values().map(|p| p.0)), Axis::of("SNR of the states, dB", values().map(|p| p.1)));
    let _ = writeln!(
        out,
        "<h2>Step by step</h2>\n<div class=\"wide\">{}</div>",
        chart("signal to noise of the states at every step", &x, &y, &all)
    );
}

fn layers(out: &mut String, report: &Report) {
    let mut all: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    let others = &report.rows[1..];
    for (i, row) in others.iter().enumerate() {
        for (name, found) in &row.layers {
            all.entry(name).or_insert_with(|| vec![None; others.len()])[i] = Some(*found);
        }
    }
    *out += "<h2>Layer by layer</h2>\n<details><summary>How close stored weights are to f32, dB</summary><div class=\"wide\"><table><thead><tr><th>weight</th>";
    others.iter().for_each(|row| *out += &format!("<th>{}</th>", escaped(&row.scheme.name)));
    *out += "</tr></thead><tbody>";
    for (name, found) in all {
        let _ = write!(out, "<tr><td>{}</td>", escaped(name));
        for v in found {
            let text = v.map_or_else(|| "-".to_owned(), |v| if v.is_finite() { format!("{v:.1}") } else { "equal".to_owned() });
            let _ = write!(out, "<td>{text}</td>");
        }
        *out += "</tr>";
    }
    *out += "</tbody></table></div></details>\n<p class=\"soft\">Calibration rounds weights for what they multiply, not for being close themselves: it \
             makes these numbers worse and pictures better.</p>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escaped("<script>\"a\" & b</script>"), "&lt;script&gt;&quot;a&quot; &amp; b&lt;/script&gt;");
        assert_eq!((db(41.26), db(f64::INFINITY)), ("41.3 dB".to_owned(), "equal".to_owned()));
    }
}
