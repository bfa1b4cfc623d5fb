//! Where generated pictures and states go.

use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_runtime::artifact::ModelInfo;
use fcdm_runtime::file::tensors::{channels_first, write_tensor};
use fcdm_runtime::generate::{Description, Job, Step};
use fcdm_runtime::picture::files::{Destination, Files, parameters_of};
use fcdm_runtime::picture::png::write_png;
use fcdm_runtime::picture::{GAP, Picture, columns_of, grid};
use serde_json::json;

use crate::failure::Failure;
use crate::help::OUTPUT;
use crate::pictures::{self, shown, writable};
use crate::say::{self, sayln};

/// What to write.
#[derive(Args)]
#[group(skip)]
#[command(next_help_heading = OUTPUT)]
pub struct Arguments {
    #[command(flatten)]
    pub pictures: pictures::Arguments,
    /// Also write the latents, for `decode`.
    ///
    /// They are `latents [n,C,H,W]` in a safetensors file.
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
    /// Leave out pictures that are there already.
    ///
    /// Those, that is, that were made in the same way.
    #[arg(long, conflicts_with = "save_latents")]
    resume: bool,
}

impl Arguments {
    /// Whether all states are kept to be written, where pictures have that height, width and channels, or cannot be shown.
    pub fn keeps_latents(&self, shape: Option<[usize; 3]>) -> bool {
        self.save_latents.is_some() || shape.is_none()
    }

    /// The folder of the pictures, or of their only file.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        match self.pictures.destination()? {
            Destination::Folder(folder) => Ok(folder),
            Destination::File(file) => Ok(file.parent().map(Path::to_owned).unwrap_or_default()),
            Destination::Bytes => Err(Failure::usage("preview: expected --output with a folder or a file, found -")),
        }
    }
}

/// Writes pictures as they are finished.
pub struct Output<'a> {
    a: &'a Arguments,
    files: Files,
    /// Height, width and channels of pictures; `None` if states cannot be shown.
    shape: Option<[usize; 3]>,
    /// Where final states go, for which the channels of one that cannot be shown are a reason too.
    latents_to: Option<PathBuf>,
    latents: Vec<f32>,
    /// Channels, height and width of states.
    state: [usize; 3],
}

/// What was generated: the files, and what there is to say of it.
pub struct Done<'a> {
    a: &'a Arguments,
    /// The pictures.
    pub files: Files,
    /// Height, width and channels of pictures, if there are any.
    pub shape: Option<[usize; 3]>,
    new: usize,
    summary: Option<serde_json::Value>,
    lines: Vec<String>,
}

impl Done<'_> {
    /// Something more to say.
    pub(super) fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Prints what was done.
    pub fn report(self) {
        if let Some(summary) = &self.summary {
            say::json(summary);
            return;
        }
        self.a.pictures.announce(&self.files, self.new);
        for line in self.lines {
            sayln!("{line}");
        }
    }
}

impl<'a> Output<'a> {
    /// Makes the folder. Pictures have height, width and channels `shape`; `grid` is the number of columns of a contact sheet.
    pub fn new(
        a: &'a Arguments,
        model: &ModelInfo,
        shape: Option<[usize; 3]>,
        grid: Option<usize>,
        pictures: usize,
    ) -> Result<Output<'a>, Failure> {
        a.save_latents.as_deref().map_or(Ok(()), writable)?;
        let to = a.pictures.destination()?;
        if a.resume && !matches!(to, Destination::Folder(_)) {
            return Err(Failure::usage(format!("resume: expected --output with a folder, found {}", a.pictures.output.display())));
        }
        let state = [model.in_channels, model.height, model.width];
        let mut latents_to = a.save_latents.clone();
        if shape.is_none() {
            let channels = model.in_channels;
            let Destination::Folder(folder) = &to else {
                let line = format!(
                    "output: this model makes latents of {channels} channels and has no decoder (compile --vae): expected a folder, found {}",
                    a.pictures.output.display()
                );
                return Err(Failure::usage(line));
            };
            if a.pictures.grid.is_some() || a.resume {
                let line = format!(
                    "--grid and --resume need pictures; this model makes latents of {channels} channels and has no decoder (compile --vae)"
                );
                return Err(Failure::usage(line));
            }
            latents_to.get_or_insert_with(|| folder.join("latents.safetensors"));
        }
        let keep = if latents_to.is_some() { pictures * state.iter().product::<usize>() } else { 0 };
        let latents = Vec::with_capacity(keep);
        let files = a.pictures.open(grid.filter(|_| shape.is_some()), pictures)?;
        Ok(Output { a, files, shape, latents_to, latents, state })
    }

    /// The jobs that are left to do: with `--resume` those whose pictures are not there, or were made in another way.
    ///
    /// # Errors
    /// When a picture would take the place of another.
    pub fn remaining(&mut self, jobs: &[Job], how: &Description<'_>) -> Result<Vec<Job>, Failure> {
        if self.shape.is_none() {
            return Ok(jobs.to_vec());
        }
        let mut remaining = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (path, text) = (self.files.path(&how.name(job)), how.text(job));
            match path {
                Some(path) if self.a.resume && parameters_of(&path).as_deref() == Some(&text) => self.files.keep(job.index, path),
                path => {
                    self.a.pictures.may_replace(path.as_deref(), &text)?;
                    remaining.push(*job);
                }
            }
        }
        self.a.pictures.may_replace(self.files.sheet_path().as_deref(), &how.of_all(jobs))?;
        Ok(remaining)
    }

    /// Writes a finished state `[H,W,C]` and its picture.
    pub fn add(&mut self, job: &Job, state: &[f32], picture: Option<Picture>, how: &Description<'_>) -> Result<(), Failure> {
        if self.latents_to.is_some() {
            self.latents.extend(channels_first(state, self.state));
        }
        let Some(picture) = picture else { return Ok(()) };
        Ok(self.files.add(job.index, &how.name(job), picture, &how.text(job))?)
    }

    /// Writes what belongs to all pictures; `new` are those that were sampled now.
    pub fn finish(
        mut self,
        json: bool,
        jobs: &[Job],
        new: usize,
        seconds: f64,
        evaluated: u64,
        how: &Description<'_>,
    ) -> Result<Done<'a>, Failure> {
        if let Some(path) = &self.latents_to {
            let [c, h, w] = self.state;
            write_tensor(path, "latents", &[jobs.len(), c, h, w], &self.latents)?;
        }
        if let Some(bytes) = self.shape.map(|shape| self.files.finish(shape, &how.of_all(jobs))).transpose()?.flatten() {
            say::bytes(&bytes);
        }
        let (sampler, steps) = how.sampler();
        let per_step = seconds * 1e3 / evaluated.max(1) as f64;
        let summary = json.then(|| {
            let files = self.files.paths();
            let pictures = files.iter().zip(jobs).map(|(f, j)| json!({ "file": shown(f), "label": j.label, "seed": j.seed }));
            json!({
                "pictures": pictures.collect::<Vec<_>>(),
                "grid": self.files.sheet_path().map(shown),
                "latents": self.latents_to.as_deref().map(shown),
                "sampler": sampler,
                "steps": how.steps(),
                "spacing": how.spacing(),
                "cfg_scale": how.guidance.scale,
                "sampled": new,
                "seconds": seconds,
                "ms_per_step": per_step,
            })
        });
        let mut lines = Vec::new();
        if let Some(path) = &self.latents_to {
            lines.push(format!("wrote {} states to {}", jobs.len(), path.display()));
        }
        let [_, height, width] = self.state;
        let size = crate::size::line([height, width], self.shape.map(|[h, w, _]| [h, w]));
        let guided = how.guidance.in_words(how.model);
        lines.push(size);
        lines.push(format!("{sampler}, {steps} steps, {guided}; {seconds:.2} s, {per_step:.1} ms a step"));
        Ok(Done { a: self.a, files: self.files, shape: self.shape, new, summary, lines })
    }
}

/// Shows unfinished pictures, as one that is written anew again and again.
pub struct Preview(PathBuf);

impl Preview {
    /// Writes to `preview.png` in the folder.
    pub fn new(folder: &Path) -> Preview {
        Preview(folder.join("preview.png"))
    }

    /// Writes what a batch is on the way to.
    pub fn show(&self, step: &mut Step<'_>) -> Result<(), Failure> {
        let Some(pictures) = step.preview() else { return Ok(()) };
        write_png(&self.0, &grid(&pictures, columns_of(pictures.len()), GAP), &[("Software", "fcdm")])?;
        Ok(())
    }
}

impl Drop for Preview {
    /// A preview is of no use once there are pictures.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
