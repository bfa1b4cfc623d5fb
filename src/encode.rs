//! `fcdm encode`: a folder of pictures becomes latents for training.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};
use fcdm_models::autoencoder::Half;
use fcdm_models::latents::manifest::{self, Row};
use fcdm_models::latents::{Contents, Dataset, Encoded, LatentLayout, PictureFile, Posteriors, Store};
use fcdm_models::pictures::{FORMATS, load_middle, unread};
use fcdm_runtime::artifact::{Artifact, keys};
use fcdm_runtime::autoencoder::Encoder;
use fcdm_runtime::engine::Cpu;
use serde_json::json;

use crate::failure::mistaken::{Wanted, explained};
use crate::failure::{Failure, PICTURE};
use crate::help::{AUTOENCODER, MACHINE, OUTPUT, examples};
use crate::model::{self, WantedSize};
use crate::progress;
use crate::say::{self, sayln};

const EXAMPLES: &str = examples!(
    "fcdm encode photos",
    "fcdm encode photos --vae sd-vae-ft-ema --size 256 -o latents",
    "fcdm encode photos --vae sd-vae-ft-ema --format zarr --samples --seed 1",
);

/// Encode a folder of pictures into latents for training.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The folder; every sub-folder is a class.
    ///
    /// Classes are in the order of their names.
    folder: PathBuf,
    /// The autoencoder [default: the one in the box].
    ///
    /// Its weights (see `compile --vae`), or an artifact compiled with --vae and --encoder.
    #[arg(long, alias = "model", value_name = "PATH", help_heading = AUTOENCODER)]
    vae: Option<PathBuf>,
    /// Scaling factor of the latents, if no file says it.
    ///
    /// See `compile --vae-scale`.
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = crate::compile::scale, help_heading = AUTOENCODER)]
    vae_scale: Option<f64>,
    /// Side of the square pictures.
    ///
    /// The middle of each picture is cut out and scaled to it.
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 14), help_heading = AUTOENCODER)]
    size: u32,
    /// Store samples, not means and deviations.
    ///
    /// One sample of the posterior for every picture, as the official scripts do. Half of the pictures, chosen at random, are mirrored.
    #[arg(long, help_heading = AUTOENCODER)]
    samples: bool,
    /// Seed of samples and of what is mirrored [default: 0].
    #[arg(long, value_name = "SEED", requires = "samples", help_heading = AUTOENCODER)]
    seed: Option<u64>,
    /// No mirrored pictures.
    #[arg(long, help_heading = AUTOENCODER)]
    no_flip: bool,
    /// Leave out pictures that cannot be read.
    ///
    /// They are counted. Without it one such is an error, before anything is encoded.
    #[arg(long, help_heading = AUTOENCODER)]
    skip_bad: bool,
    /// Folder of the latents.
    #[arg(short, long, default_value = "latents", value_name = "FOLDER", help_heading = OUTPUT)]
    output: PathBuf,
    /// npy: a file a picture; zarr: one array.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "npy", hide_possible_values = true, help_heading = OUTPUT)]
    format: Format,
    /// Encode all anew, in place of what is there.
    ///
    /// Takes away what is in the output folder of other pictures or other options.
    #[arg(long, help_heading = OUTPUT)]
    force: bool,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Threads [default: all].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = MACHINE)]
    threads: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Npy,
    Zarr,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    let none = |failure| explained(&a.folder, Wanted::PictureFolder, failure);
    let dataset = Dataset::open(&a.folder).map_err(|e| none(Failure::new(1, format!("{}: {e}", a.folder.display()))))?;
    if dataset.pictures.is_empty() && dataset.unread.is_empty() {
        return Err(none(Failure::usage(format!("{}: expected pictures ({FORMATS}), found none", a.folder.display()))));
    }
    let artifact = model::autoencoder(a.vae.as_deref(), a.vae_scale, WantedSize::Square(a.size as usize), Half::Encoder)?;
    let mut verification = Some(artifact.verify_in_background());
    let encoder = Encoder::new(&artifact, &Cpu::new(fcdm_command::threads(a.threads))?)?;
    let mut posteriors = Posteriors::new(encoder, a.samples.then_some(a.seed.unwrap_or(0)), !a.no_flip);
    let side = a.size as usize;
    if posteriors.picture()[..2] != [side, side] {
        let [h, w, _] = posteriors.picture();
        return Err(Failure::usage(format!("size: the artifact encodes pictures of {w} x {h}, found {side} x {side}")));
    }
    let checked = checked(a, dataset)?;
    let total = checked.files.len();
    let mut store = store(a, &checked, &artifact, &posteriors)?;
    let todo: Vec<usize> = (0..total).filter(|&i| !store.has(i)).collect();
    let mut bar = progress::steps(todo.len() as u64).with_message("encoding");
    let started = Instant::now();
    for (done, &index) in todo.iter().enumerate() {
        let read = load_middle(&checked.files[index].path, [side, side])?;
        let encoded = Encoded { label: checked.files[index].label as i64, values: posteriors.encode(&read.picture, index) };
        let verified = verification.take().map_or(Ok(true), |v| v.wait(&crate::signals::stopped))?;
        if !verified || crate::signals::stopped() {
            bar.finish_and_clear();
            let there = total - todo.len() + done;
            return Err(Failure::cancelled(format!("stopped; {there} of {total} pictures are encoded")));
        }
        store.add(index, encoded)?;
        bar.set_position(done as u64 + 1);
    }
    store.finish()?;
    bar.finish_and_clear();
    checked.say(a, posteriors.latent(), todo.len(), started.elapsed().as_secs_f64());
    Ok(())
}

/// A dataset of which every picture can be read.
struct Checked {
    files: Vec<PictureFile>,
    rows: Vec<Row>,
    classes: Vec<String>,
    /// Pictures that were left out, and why.
    bad: Vec<String>,
}

/// Reads every picture once, as it will be read to be encoded: what cannot be is better found now than after hours. Of those that a manifest
/// knows unchanged its word is taken.
fn checked(a: &Arguments, dataset: Dataset) -> Result<Checked, Failure> {
    let known: HashMap<String, Row> = match a.force {
        true => HashMap::new(),
        false => manifest::read(&a.output)?.into_iter().map(|row| (row.file.clone(), row)).collect(),
    };
    let bar = progress::steps(dataset.pictures.len() as u64).with_message("checking");
    let (next, results) = (AtomicUsize::new(0), Mutex::new((Vec::new(), bar)));
    let check = |index: usize| {
        let file = &dataset.pictures[index];
        let unreadable = |e: std::io::Error| format!("{}: {e}", file.path.display());
        let stamp = Row::stamp(&file.path).map_err(unreadable)?;
        if let Some(row) = known.get(&file.name).filter(|r| (r.bytes, r.modified) == stamp) {
            return Ok(Row { label: file.label, ..row.clone() });
        }
        let read = load_middle(&file.path, [a.size as usize; 2]).map_err(|e| e.to_string())?;
        Ok(Row::new(index, file, stamp, &read))
    };
    std::thread::scope(|scope| {
        for _ in 0..fcdm_command::threads(a.threads) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= dataset.pictures.len() || crate::signals::stopped() {
                        break;
                    }
                    let result: Result<Row, String> = check(index);
                    let (done, bar) = &mut *results.lock().expect("no thread panics with it");
                    done.push((index, result));
                    bar.set_position(done.len() as u64);
                }
            });
        }
    });
    let (mut results, bar) = results.into_inner().expect("no thread panics with it");
    bar.finish_and_clear();
    if crate::signals::stopped() {
        return Err(Failure::cancelled("stopped; nothing is encoded"));
    }
    results.sort_by_key(|(index, _)| *index);
    let (mut files, mut rows, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for (index, result) in results {
        match result {
            Ok(row) => {
                rows.push(Row { index: rows.len(), ..row });
                files.push(dataset.pictures[index].clone());
            }
            Err(line) => bad.push(line),
        }
    }
    bad.extend(dataset.unread.iter().map(|path| unread(path).to_string()));
    let kept = Dataset { pictures: files, ..dataset };
    refused(a, &kept, &bad)?;
    say_left_out(&kept, &bad);
    Ok(Checked { files: kept.pictures, rows, classes: kept.classes, bad })
}

/// Whether there is anything that the user has to decide on.
fn refused(a: &Arguments, kept: &Dataset, bad: &[String]) -> Result<(), Failure> {
    if let (Some(first), false) = (bad.first(), a.skip_bad) {
        let others = if bad.len() == 1 { String::new() } else { format!(", and {} others", bad.len() - 1) };
        return Err(Failure::new(PICTURE, format!("{first}{others}; --skip-bad leaves such out")));
    }
    if let (Some(first), false) = (kept.empty_classes().first(), a.skip_bad) {
        let line = format!("{}: expected pictures ({FORMATS}) in every sub-folder, found none in `{first}`", a.folder.display());
        return Err(Failure::new(PICTURE, format!("{line}; --skip-bad leaves its class without any")));
    }
    if kept.pictures.is_empty() {
        return Err(Failure::new(PICTURE, format!("{}: none of its pictures can be read", a.folder.display())));
    }
    Ok(())
}

fn say_left_out(kept: &Dataset, bad: &[String]) {
    if let Some(first) = kept.left_out.first() {
        say::note(format!("{} files that are no pictures are left out, the first is {}", kept.left_out.len(), first.display()));
    }
    if let Some(first) = bad.first() {
        say::warning(format!("{} pictures are left out; {first}", bad.len()));
    }
    for class in kept.empty_classes() {
        say::warning(format!("class `{class}` has no pictures; the others keep their numbers"));
    }
}

fn store(a: &Arguments, checked: &Checked, artifact: &Artifact, posteriors: &Posteriors) -> Result<Store, Failure> {
    let [h, w, c] = posteriors.latent();
    let layout = match a.format {
        Format::Npy => LatentLayout::Npy,
        Format::Zarr => LatentLayout::Zarr,
    };
    let made = json!({
        "size": a.size, "samples": a.samples, "flip": !a.no_flip, "seed": a.seed.unwrap_or(0), "autoencoder": artifact.metadata(keys::CHECKSUM),
    });
    let (pictures, classes, arrays) = (checked.rows.clone(), checked.classes.clone(), posteriors.arrays().to_vec());
    Ok(Store::open(&a.output, layout, Contents { pictures, classes, shape: [c, h, w], arrays, made }, a.force)?)
}

impl Checked {
    /// The summary.
    fn say(&self, a: &Arguments, [h, w, c]: [usize; 3], encoded: usize, seconds: f64) {
        let (total, classes) = (self.files.len(), &self.classes);
        let enlarged = self.rows.iter().filter(|r| r.enlarged).count();
        if a.json {
            let summary = json!({
                "pictures": total, "encoded": encoded, "left_out": self.bad, "enlarged": enlarged, "classes": classes,
                "shape": [c, h, w], "seconds": seconds,
            });
            say::json(&summary);
            return;
        }
        let each = seconds * 1e3 / encoded.max(1) as f64;
        let classes = match classes.len() {
            0 | 1 => "1 class".to_owned(),
            n => format!("{n} classes"),
        };
        sayln!("encoded {encoded} of {total} pictures of {classes} to latents {c} x {h} x {w}");
        sayln!("wrote {}, {each:.1} ms a picture", a.output.display());
        if enlarged > 0 {
            sayln!("{enlarged} of them are smaller than {0} x {0} and were enlarged", a.size);
        }
        if !self.bad.is_empty() {
            sayln!("{} pictures were left out", self.bad.len());
        }
    }
}
