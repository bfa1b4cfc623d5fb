//! `fcdm quantize-report`: what fewer bits do to a model, in numbers and pictures.

mod chart;
mod page;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use fcdm_models::autoencoder::{self, Autoencoder};
use fcdm_models::calibrate::Calibration;
use fcdm_models::compare::{Difference, Run, Spread, Timed, Trial, classes, difference, method, over, run as generate, weights};
use fcdm_models::compile::{CompileError, Networks, Options};
use fcdm_models::fcdm::Import;
use fcdm_models::size;
use fcdm_models::types::{Types, WeightType};
use fcdm_runtime::artifact::{Artifact, keys};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::file::{FileError, replace_file};
use fcdm_runtime::generate::labels;
use fcdm_runtime::picture::Picture;
use fcdm_runtime::sampler::Guidance;
use serde_json::{Value, json};

use crate::about;
use crate::failure::Failure;
use crate::help::{AUTOENCODER, MODEL, OUTPUT, WEIGHTS, examples};
use crate::progress;
use crate::say::sayln;
use crate::signals::stopped;

const EXAMPLES: &str = examples!(
    "fcdm quantize-report checkpoint.pt -o report",
    "fcdm quantize-report checkpoint.pt --num 4 --steps 20 -o quick",
    "fcdm quantize-report checkpoint.pt --vae taesd --calibrate --types w8a8,i4",
);

/// What fewer bits do to a model: a page of numbers and pictures.
///
/// Compiles the checkpoint with each type, generates the same pictures with each, and writes report.html, one page without links to anything
/// else, and report.json.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The checkpoint: .pt, .pth or .safetensors.
    checkpoint: PathBuf,
    /// Types to compare with f32.
    ///
    /// As `compile --quantize` takes them.
    #[arg(long, value_name = "TYPE,..", value_delimiter = ',', default_value = "f16,i8,w8a8,i6,i4", help_heading = WEIGHTS)]
    types: Vec<WeightType>,
    /// Round weights for what they multiply.
    ///
    /// As `compile --calibrate`.
    #[arg(long, help_heading = WEIGHTS)]
    calibrate: bool,
    /// The autoencoder: a folder or file.
    ///
    /// As `compile --vae`. Without one a model of latents has numbers and no pictures.
    #[arg(long, value_name = "PATH", value_delimiter = ',', help_heading = AUTOENCODER)]
    vae: Vec<PathBuf>,
    /// Scaling factor of the latents, if no file says it.
    #[arg(long, value_name = "FACTOR", requires = "vae", value_parser = crate::compile::scale, help_heading = AUTOENCODER)]
    vae_scale: Option<f64>,
    /// Latents' size [default: as trained, or 32x32].
    #[arg(long, value_name = "HxW", value_parser = crate::compile::parse_size, help_heading = MODEL)]
    size: Option<[usize; 2]>,
    /// Which weights, by name [default: the average].
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    weights: Option<String>,
    /// Classes of the pictures, in turn [default: all].
    #[arg(short, long = "class-labels", value_name = "CLASSES", value_delimiter = ',', help_heading = MODEL)]
    classes: Vec<String>,
    /// Pictures of each type.
    #[arg(short, long, value_name = "N", default_value_t = PICTURES, value_parser = clap::value_parser!(u16).range(1..=256), help_heading = MODEL)]
    num: u16,
    /// Steps of each picture.
    #[arg(long, value_name = "N", default_value_t = STEPS, value_parser = clap::value_parser!(u16).range(1..=1000), help_heading = MODEL)]
    steps: u16,
    /// The folder to write [default: quantize-report].
    #[arg(short, long, value_name = "DIR", default_value = "quantize-report", hide_default_value = true, help_heading = OUTPUT)]
    output: PathBuf,
    /// Overwrite files that are no report.
    #[arg(long, help_heading = OUTPUT)]
    force: bool,
}

/// Pictures of each type, and their steps, where nobody says otherwise.
const PICTURES: u16 = 10;
const STEPS: u16 = 50;

/// What is generated.
pub struct Wish<'a> {
    /// Classes; of none, all that the models have.
    pub classes: &'a [String],
    pub pictures: usize,
    pub steps: usize,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish { classes: &[], pictures: PICTURES.into(), steps: STEPS.into() }
    }
}

/// The file that is looked at, and that of numbers.
const FILES: [&str; 2] = ["report.html", "report.json"];

/// What the numbers of a report begin with: files that do not are not overwritten.
const KIND: &str = "fcdm quantize-report";

/// The seed of the first picture.
const SEED: u64 = 1000;

/// Steps whose time is taken at once, and rounds over all types.
const TIMED: usize = 5;
const ROUNDS: usize = 5;

/// A model under a name.
pub struct Scheme {
    pub name: String,
    pub artifact: Arc<Artifact>,
}

/// A scheme and what came of it.
pub struct Row {
    pub scheme: Scheme,
    pub run: Run,
    pub difference: Difference,
    /// Milliseconds of a step and of a picture.
    pub ms: [f64; 2],
    /// Bytes that generating a picture takes.
    pub memory: Option<u64>,
    /// How close stored weights are to f32, dB.
    pub layers: Vec<(String, f64)>,
}

/// All of a report.
pub struct Report {
    pub rows: Vec<Row>,
    /// What was compared and how, by what it is called.
    pub facts: Vec<(&'static str, String)>,
    /// Names of the classes of the pictures.
    pub classes: Vec<String>,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    crate::signals::stop_when_asked();
    may_write(&a.output, a.force)?;
    let import = crate::compile::open(&a.checkpoint, a.weights.as_deref(), true)?;
    let vae = crate::compile::open_vae(&a.vae, autoencoder::PREFIX, a.vae_scale)?;
    let [height, width] = a.size.map_or_else(|| size::inferred(Some(&import), vae.as_ref()).map_err(Failure::usage), Ok)?;
    let base = Options { batches: vec![1, 2], ..Options::new(height, width) };
    let mut schemes = vec![compiled(&import, vae.as_ref(), "f32", &base)?];
    for &ty in a.types.iter().filter(|&&ty| ty != WeightType::F32) {
        let calibrated = a.calibrate && ty.encoding.has_integers();
        let options = Options {
            types: Types { default: ty, ..Types::default() },
            calibration: calibrated.then(Calibration::default),
            ..base.clone()
        };
        schemes.push(compiled(&import, vae.as_ref(), &ty.name(), &options)?);
    }
    let wish = Wish { classes: &a.classes, pictures: a.num.into(), steps: a.steps.into() };
    report(schemes, &wish, &a.output, a.calibrate)
}

/// Compiles a scheme into a file that goes away by itself.
pub fn compiled(import: &Import, vae: Option<&Autoencoder>, name: &str, options: &Options) -> Result<Scheme, Failure> {
    let networks = Networks { fcdm: Some(import), autoencoder: vae, preview: None };
    let artifact = crate::model::for_one_run(networks, options, name)?;
    Ok(Scheme { name: name.to_owned(), artifact })
}

/// Whether the folder's files are reports, or are not there.
pub fn may_write(folder: &Path, force: bool) -> Result<(), Failure> {
    let numbers = folder.join(FILES[1]);
    let is_report = std::fs::read(&numbers).is_ok_and(|bytes| {
        serde_json::from_slice::<Value>(&bytes).is_ok_and(|v| v["kind"].as_str().is_some_and(|kind| kind.starts_with(KIND)))
    });
    match FILES.iter().map(|name| folder.join(name)).find(|path| path.exists() && !is_report) {
        Some(path) if !force => Err(Failure::usage(format!("output: {} is no report of this kind; --force overwrites it", path.display()))),
        _ => Ok(()),
    }
}

/// Compares schemes, the first being the reference, and writes the report.
pub fn report(schemes: Vec<Scheme>, wish: &Wish<'_>, folder: &Path, calibrated: bool) -> Result<(), Failure> {
    // What one was specialised to is what all can do.
    let models = || schemes.iter().filter_map(|scheme| scheme.artifact.model());
    let model = models().find(|model| model.specialisation.is_some()).or_else(|| models().next()).expect("they are denoisers").clone();
    let known = if wish.classes.is_empty() { classes(&model) } else { labels(wish.classes, &model)? };
    let count = wish.pictures;
    let trial = Trial { seed: SEED, labels: over(&known, count), method: method(&model, wish.steps)?, decode: true };
    let evaluations = trial.evaluations(&model)?;
    let total = schemes.len() * count * evaluations;
    let (mut bar, mut done) = (progress::steps(total as u64).with_message("generating"), 0);
    let mut runs = Vec::new();
    for scheme in &schemes {
        let run = generate(&scheme.artifact, &trial, &mut |states| {
            done += states as u64;
            bar.set_position(done);
            !stopped()
        })?;
        runs.push(run.ok_or(CompileError::Cancelled)?);
    }
    bar.finish_and_clear();
    let ms = timed(&schemes, &trial, evaluations)?;
    let facts = facts(&schemes, &trial, evaluations, calibrated)?;
    let class = |&label: &i32| model.class_names.get(label as usize).cloned().unwrap_or_else(|| format!("class {label}"));
    let differences: Vec<Difference> = runs.iter().map(|run| difference(&runs[0], run, count)).collect();
    let floats = schemes[0].artifact.clone();
    let rows = schemes.into_iter().zip(runs).zip(differences).zip(ms).map(|(((scheme, run), difference), ms)| Row {
        memory: about::memory(&scheme.artifact),
        layers: weights(&floats, &scheme.artifact).into_iter().collect(),
        scheme,
        run,
        difference,
        ms,
    });
    write(&Report { rows: rows.collect(), facts, classes: trial.labels.iter().map(class).collect() }, folder)
}

/// Milliseconds of a guided step of one picture and of all its steps, medians; schemes in turn, so that a slow spell of the machine meets
/// all of them.
fn timed(schemes: &[Scheme], trial: &Trial, evaluations: usize) -> Result<Vec<[f64; 2]>, Failure> {
    let mut all = schemes.iter().map(|scheme| Timed::new(&scheme.artifact, trial)).collect::<Result<Vec<_>, _>>()?;
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); schemes.len()];
    let mut bar = progress::steps((ROUNDS * schemes.len()) as u64).with_message("timing");
    for round in 0..ROUNDS {
        for (i, (timed, seconds)) in all.iter_mut().zip(&mut seconds).enumerate() {
            if stopped() {
                return Err(CompileError::Cancelled.into());
            }
            let steps = timed.steps(trial.labels[0], TIMED)?;
            // The first step of all reads the weights.
            seconds.extend(steps.into_iter().skip(1));
            bar.set_position((round * schemes.len() + i + 1) as u64);
        }
    }
    bar.finish_and_clear();
    let of = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        let ms = 1e3 * seconds[seconds.len() / 2];
        [ms, ms * evaluations as f64]
    };
    Ok(seconds.iter_mut().map(of).collect())
}

/// What was compared, and how.
fn facts(schemes: &[Scheme], trial: &Trial, steps: usize, calibrated: bool) -> Result<Vec<(&'static str, String)>, Failure> {
    let floats = &schemes[0].artifact;
    let model = floats.model().expect("it is a denoiser");
    let count = trial.labels.len() as u64;
    let size = [model.height, model.width];
    let states = if floats.autoencoder().is_some() || Picture::CHANNELS.contains(&model.in_channels) { "pictures" } else { "latents" };
    let weights = floats.metadata(keys::PROVENANCE).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let fingerprint = weights.and_then(|v| v["weights_xxh3"].as_str().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned());
    Ok(vec![
        ("network", format!("FCDM, width {}, blocks {:?}, {}", model.hidden, model.depths, about::kind(model.prediction))),
        ("states", format!("{}x{}x{}", size[0], size[1], model.in_channels)),
        (
            states,
            format!(
                "{count} of each type, seeds {} to {}, {steps} steps, {}",
                trial.seed,
                trial.seed + count - 1,
                Guidance::of(model).in_words(model)
            ),
        ),
        ("rounding", if calibrated { "for what layers multiply (calibrated)" } else { "to the nearest numbers" }.to_owned()),
        ("machine", format!("{}, {} threads", Cpu::new(1)?.isa.name(), fcdm_runtime::threads::available())),
        ("weights", format!("{fingerprint} (XXH3)")),
    ])
}

/// A number for JSON; `null` where there is no end to it, as of what is equal in every bit.
fn number(v: f64) -> Value {
    if v.is_finite() { json!((v * 1e4).round() / 1e4) } else { Value::Null }
}

fn spread(s: &Spread) -> Value {
    json!({ "mean": number(s.mean), "worst": number(s.worst) })
}

fn to_json(report: &Report) -> Value {
    let facts: serde_json::Map<String, Value> = report.facts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let row = |row: &Row| {
        let Row { scheme, difference: d, .. } = row;
        let layers: serde_json::Map<String, Value> = row.layers.iter().map(|(name, db)| (name.clone(), number(*db))).collect();
        json!({
            "type": scheme.name,
            "file_bytes": scheme.artifact.file_bytes(),
            "bytes_by_type": about::bytes_by_type(&scheme.artifact),
            "memory_bytes": row.memory,
            "step_ms": number(row.ms[0]),
            "picture_ms": number(row.ms[1]),
            "snr_db": spread(&d.snr),
            "psnr_db": d.psnr.as_ref().map(spread),
            "ssim": d.ssim.as_ref().map(spread),
            "step_snr_db": d.steps.iter().map(|&v| number(v)).collect::<Vec<_>>(),
            "weight_snr_db": layers,
        })
    };
    json!({ "kind": format!("{KIND} 1"), "about": facts, "classes": report.classes, "types": report.rows.iter().map(row).collect::<Vec<_>>() })
}

/// Writes both files, the page first: numbers are what tells that a folder is a report.
fn write(report: &Report, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::new(1, format!("{}: cannot make the folder: {e}", folder.display())))?;
    let [page, numbers] = FILES.map(|name| folder.join(name));
    let put = |path: &Path, text: &str| replace_file(path, |file| file.write_all(text.as_bytes()).map_err(FileError::writing(path)));
    put(&page, &page::page(report))?;
    put(&numbers, &format!("{:#}\n", to_json(report)))?;
    for row in &report.rows {
        let Row { scheme, difference: d, .. } = row;
        let (name, close) = d.psnr.map_or(("SNR", d.snr), |psnr| ("PSNR", psnr));
        let bytes = progress::size(scheme.artifact.file_bytes() as u64);
        sayln!("{:5} {bytes:>9}  {:8.2} ms a step  {name} {}", scheme.name, row.ms[0], page::db(close.mean));
    }
    sayln!("wrote {}", page.display());
    Ok(())
}
