//! Where pictures go.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_models::pictures::{Picture, grid, read_png, write_npz, write_png};
use fcdm_models::tensors::{channels_first, write_tensor};
use fcdm_runtime::artifact::ModelInfo;
use fcdm_runtime::file::{FileError, replace_file};
use serde_json::json;

use super::job::Job;
use super::method::Description;
use crate::failure::Failure;
use crate::say::sayln;

/// What to write.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Folder for the pictures.
    #[arg(short, long, default_value = "out", value_name = "FOLDER")]
    output: PathBuf,
    /// Also write all pictures as one, `grid.png`; the number of columns may be given.
    #[arg(long, value_name = "COLUMNS", num_args = 0..=1, default_missing_value = "0")]
    grid: Option<usize>,
    /// Also write an archive with one array `arr_0`, uint8 [n,H,W,C], as evaluators read it.
    #[arg(long, value_name = "FILE")]
    npz: Option<PathBuf>,
    /// Also write the final states: `latents [n,C,H,W]` in a safetensors file.
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
}

/// Gap between the pictures of a grid.
const GAP: usize = 2;

/// Writes pictures as they are finished.
pub struct Output<'a> {
    a: &'a Arguments,
    given_noise: bool,
    /// The model's channels cannot be shown: only states are written.
    latents_to: Option<PathBuf>,
    latents: Vec<f32>,
    files: Vec<PathBuf>,
    image: [usize; 3],
    _folder: Folder,
}

/// Folders that were made, the innermost first. Those into which nothing was written go away again.
struct Folder(Vec<PathBuf>);

impl Folder {
    fn make(path: &Path) -> io::Result<Folder> {
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let folder = Folder(missing.map(Path::to_owned).collect());
        std::fs::create_dir_all(path).map(|()| folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One that is not empty stays, and so do those around it.
        let _ = self.0.iter().try_for_each(std::fs::remove_dir);
    }
}

impl<'a> Output<'a> {
    /// Makes the folder.
    pub fn new(a: &'a Arguments, model: &ModelInfo, pictures: usize) -> Result<Output<'a>, Failure> {
        let mut files = a.npz.iter().chain(&a.save_latents);
        files.try_for_each(|p| writable(p))?;
        let failed = |e: io::Error| Failure::new(1, format!("{}: cannot make the folder: {e}", a.output.display()));
        let shown = Picture::CHANNELS.contains(&model.in_channels);
        let mut latents_to = a.save_latents.clone();
        if !shown {
            if a.grid.is_some() || a.npz.is_some() {
                let channels = model.in_channels;
                return Err(Failure::usage(format!("--grid and --npz need pictures; this model makes latents of {channels} channels")));
            }
            latents_to.get_or_insert_with(|| a.output.join("latents.safetensors"));
        }
        let folder = Folder::make(&a.output).map_err(failed)?;
        let image = [model.in_channels, model.height, model.width];
        let keep = if latents_to.is_some() { pictures * image.iter().product::<usize>() } else { 0 };
        Ok(Output { a, given_noise: false, latents_to, latents: Vec::with_capacity(keep), files: Vec::new(), image, _folder: folder })
    }

    /// Says that the starting noise was given.
    pub fn with_given_noise(mut self, given: bool) -> Self {
        self.given_noise = given;
        self
    }

    /// Writes a batch of finished states `[n,H,W,C]`.
    pub fn add(&mut self, first: usize, batch: &[Job], states: &[f32], how: &Description<'_>) -> Result<(), Failure> {
        let [c, h, w] = self.image;
        if self.latents_to.is_some() {
            self.latents.extend(channels_first(states, self.image));
        }
        if !Picture::CHANNELS.contains(&c) {
            return Ok(());
        }
        for (i, (job, state)) in batch.iter().zip(states.chunks_exact(c * h * w)).enumerate() {
            let seed = if self.given_noise { String::new() } else { format!("-seed{}", job.seed) };
            let class: String =
                super::class_name(job, how.model).chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
            let path = self.a.output.join(format!("{:06}-{class}{seed}.png", first + i));
            let picture = Picture::from_unit(h, w, c, state);
            write_png(&path, &picture, &[("parameters", &how.text(job, self.given_noise)), ("Software", "fcdm")])?;
            self.files.push(path);
        }
        Ok(())
    }

    /// Writes what belongs to all pictures, and the summary.
    pub fn finish(self, json: bool, jobs: &[Job], seconds: f64, evaluated: u64, how: &Description<'_>) -> Result<(), Failure> {
        let [c, h, w] = self.image;
        if let Some(path) = &self.latents_to {
            write_tensor(path, "latents", &[jobs.len(), c, h, w], &self.latents)?;
        }
        if let Some(columns) = self.a.grid {
            let all = self.files.iter().map(|p| read(p)).collect::<Result<Vec<_>, _>>()?;
            let columns = if columns == 0 { (all.len() as f64).sqrt().ceil() as usize } else { columns };
            write_png(&self.a.output.join("grid.png"), &grid(&all, columns, GAP), &[("Software", "fcdm")])?;
        }
        if let Some(path) = &self.a.npz {
            let pictures = self.files.iter().map(|p| read_png(p));
            replace_file(path, |file| write_npz(file, [h, w, c], self.files.len(), pictures).map_err(FileError::writing(path)))?;
        }
        let (sampler, steps) = how.sampler();
        let per_step = seconds * 1e3 / evaluated.max(1) as f64;
        if json {
            let pictures = self.files.iter().zip(jobs).map(|(f, j)| json!({ "file": shown(f), "label": j.label, "seed": j.seed }));
            let summary = json!({
                "pictures": pictures.collect::<Vec<_>>(),
                "latents": self.latents_to.as_deref().map(shown),
                "sampler": sampler,
                "steps": steps,
                "cfg_scale": how.guidance.scale,
                "seconds": seconds,
                "ms_per_step": per_step,
            });
            sayln!("{summary:#}");
            return Ok(());
        }
        match self.files.len() {
            0 => {}
            1 => sayln!("wrote {}", self.files[0].display()),
            n => sayln!("wrote {n} pictures to {}", self.a.output.display()),
        }
        if let Some(path) = &self.latents_to {
            sayln!("wrote {} states to {}", jobs.len(), path.display());
        }
        sayln!("{sampler}, {steps} steps, {seconds:.2} s, {per_step:.1} ms a step");
        Ok(())
    }
}

/// Paths that are no UTF-8 have no JSON form.
fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// Hours of sampling should not end in a folder that is not there.
fn writable(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = |kind: io::ErrorKind, text: &str| FileError::writing(path)(io::Error::new(kind, text));
    if path.is_dir() {
        return Err(found(io::ErrorKind::IsADirectory, "it is a directory").into());
    }
    if !folder.is_dir() {
        return Err(found(io::ErrorKind::NotFound, "there is no such folder").into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Picture, Failure> {
    read_png(path).map_err(|e| Failure::new(1, format!("{}: {e}", path.display())))
}
