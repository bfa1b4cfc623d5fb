//! Where generated pictures and states go.

use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_models::pictures::{GAP, Picture, Pictures, columns_of, grid, read_text, write_png};
use fcdm_models::tensors::{channels_first, write_tensor};
use fcdm_runtime::artifact::ModelInfo;
use fcdm_runtime::generate::{Description, Job, Step};
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

    /// The folder of the pictures.
    pub fn folder(&self) -> &Path {
        &self.pictures.output
    }
}

/// Keyword of the text in which a picture says how it was made.
const PARAMETERS: &str = "parameters";

/// Writes pictures as they are finished.
pub struct Output<'a> {
    a: &'a Arguments,
    pictures: Pictures,
    /// Height, width and channels of pictures; `None` if states cannot be shown.
    shape: Option<[usize; 3]>,
    /// Where final states go, for which the channels of one that cannot be shown are a reason too.
    latents_to: Option<PathBuf>,
    latents: Vec<f32>,
    /// Channels, height and width of states.
    state: [usize; 3],
}

impl<'a> Output<'a> {
    /// Makes the folder. Pictures have height, width and channels `shape`. `grid` is for where nobody says otherwise.
    pub fn new(
        a: &'a Arguments,
        model: &ModelInfo,
        shape: Option<[usize; 3]>,
        grid: Option<usize>,
        pictures: usize,
    ) -> Result<Output<'a>, Failure> {
        a.save_latents.as_deref().map_or(Ok(()), writable)?;
        let state = [model.in_channels, model.height, model.width];
        let mut latents_to = a.save_latents.clone();
        if shape.is_none() {
            if a.pictures.grid.is_some() || a.pictures.npz.is_some() || a.resume {
                let channels = model.in_channels;
                let line = format!(
                    "--grid, --npz and --resume need pictures; this model makes latents of {channels} channels and has no decoder (compile --vae)"
                );
                return Err(Failure::usage(line));
            }
            latents_to.get_or_insert_with(|| a.pictures.output.join("latents.safetensors"));
        }
        let keep = if latents_to.is_some() { pictures * state.iter().product::<usize>() } else { 0 };
        let latents = Vec::with_capacity(keep);
        let pictures = a.pictures.open(a.pictures.grid.or(grid))?;
        Ok(Output { a, pictures, shape, latents_to, latents, state })
    }

    /// The jobs that are left to do: with `--resume` those whose pictures are not there, or were made in another way.
    pub fn remaining(&mut self, jobs: &[Job], how: &Description<'_>) -> Vec<Job> {
        let mut remaining = jobs.to_vec();
        if self.a.resume {
            remaining.retain(|job| {
                let path = self.pictures.path(&how.name(job));
                let done = read_text(&path, PARAMETERS).is_ok_and(|text| text.as_deref() == Some(&how.text(job)));
                if done {
                    self.pictures.keep(job.index, path);
                }
                !done
            });
        }
        remaining
    }

    /// Writes a finished state `[H,W,C]` and its picture.
    pub fn add(&mut self, job: &Job, state: &[f32], picture: Option<Picture>, how: &Description<'_>) -> Result<(), Failure> {
        if self.latents_to.is_some() {
            self.latents.extend(channels_first(state, self.state));
        }
        let Some(picture) = picture else { return Ok(()) };
        let texts = [(PARAMETERS, &*how.text(job)), ("Software", "fcdm")];
        Ok(self.pictures.add(job.index, &how.name(job), &picture, &texts)?)
    }

    /// Writes what belongs to all pictures, and the summary; `done` are those that were sampled now.
    pub fn finish(
        mut self,
        json: bool,
        jobs: &[Job],
        done: usize,
        seconds: f64,
        evaluated: u64,
        how: &Description<'_>,
    ) -> Result<(), Failure> {
        if let Some(path) = &self.latents_to {
            let [c, h, w] = self.state;
            write_tensor(path, "latents", &[jobs.len(), c, h, w], &self.latents)?;
        }
        if let Some(shape) = self.shape {
            self.pictures.finish(shape)?;
        }
        let files: Vec<&Path> = self.pictures.files().collect();
        let (sampler, steps) = how.sampler();
        let per_step = seconds * 1e3 / evaluated.max(1) as f64;
        if json {
            let pictures = files.iter().zip(jobs).map(|(f, j)| json!({ "file": shown(f), "label": j.label, "seed": j.seed }));
            let summary = json!({
                "pictures": pictures.collect::<Vec<_>>(),
                "latents": self.latents_to.as_deref().map(shown),
                "sampler": sampler,
                "steps": how.steps(),
                "spacing": how.spacing(),
                "cfg_scale": how.guidance.scale,
                "sampled": done,
                "seconds": seconds,
                "ms_per_step": per_step,
            });
            say::json(&summary);
            return Ok(());
        }
        match files.len() {
            0 => {}
            1 => sayln!("wrote {}", files[0].display()),
            n if done < n => sayln!("wrote {done} pictures to {}, {} were there", self.a.pictures.output.display(), n - done),
            n => sayln!("wrote {n} pictures to {}", self.a.pictures.output.display()),
        }
        if let Some(path) = &self.latents_to {
            sayln!("wrote {} states to {}", jobs.len(), path.display());
        }
        let [_, height, width] = self.state;
        let size = crate::size::line([height, width], self.shape.map(|[h, w, _]| [h, w]));
        let guided = how.guidance.in_words(how.model);
        sayln!("{size}; {sampler}, {steps} steps, {guided}, {seconds:.2} s, {per_step:.1} ms a step");
        Ok(())
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
