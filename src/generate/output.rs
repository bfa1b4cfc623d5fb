//! Where generated pictures go, and the way there from states: through a decoder, if these are latents.

use std::path::{Path, PathBuf};

use clap::Args;
use fcdm_models::pictures::{Picture, grid, read_text, write_png};
use fcdm_models::tensors::{channels_first, write_tensor};
use fcdm_runtime::artifact::ModelInfo;
use fcdm_runtime::autoencoder::Decoder;
use fcdm_runtime::generate::Progress;
use serde_json::json;

use super::job::Job;
use super::method::Description;
use super::start::Init;
use crate::failure::Failure;
use crate::pictures::{self, Pictures, shown, writable};
use crate::say::sayln;

/// What to write.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    pub pictures: pictures::Arguments,
    /// Also write the final states: `latents [n,C,H,W]` in a safetensors file.
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
    /// Leave out pictures that are there already and were made in the same way.
    #[arg(long, conflicts_with = "save_latents")]
    resume: bool,
}

impl Arguments {
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
    pictures: Pictures<'a>,
    given_noise: bool,
    /// `None` if states cannot be shown.
    shown: Option<Shown>,
    /// Where final states go, for which the channels of one that cannot be shown are a reason too.
    latents_to: Option<PathBuf>,
    latents: Vec<f32>,
    /// Channels, height and width of states.
    state: [usize; 3],
}

impl<'a> Output<'a> {
    /// Makes the folder. States are shown as they are if there is no decoder. `grid` is for where nobody says otherwise.
    pub fn new(
        a: &'a Arguments,
        model: &ModelInfo,
        decoder: Option<Decoder>,
        grid: Option<usize>,
        pictures: usize,
    ) -> Result<Output<'a>, Failure> {
        a.save_latents.as_deref().map_or(Ok(()), writable)?;
        let state = [model.in_channels, model.height, model.width];
        let shown = Shown::new(decoder, model);
        let mut latents_to = a.save_latents.clone();
        if shown.is_none() {
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
        let pictures = Pictures::new(&a.pictures, a.pictures.grid.or(grid))?;
        Ok(Output { a, pictures, given_noise: false, shown, latents_to, latents, state })
    }

    /// Says that the starting noise was given.
    pub fn with_given_noise(mut self, given: bool) -> Self {
        self.given_noise = given;
        self
    }

    /// Height and width of pictures; `None` if states cannot be shown.
    pub fn size(&self) -> Option<[usize; 2]> {
        self.shown.as_ref().map(|s| [s.shape[0], s.shape[1]])
    }

    /// Number and name of a picture.
    fn name(&self, job: &Job, model: &ModelInfo) -> String {
        let name = |label: i32, seed: u64| {
            let class: String =
                super::class_name(label, model).chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
            if self.given_noise { class } else { format!("{class}-seed{seed}") }
        };
        let towards = job.towards.map_or_else(String::new, |(label, seed, weight)| format!("-to-{}-{weight:.3}", name(label, seed)));
        format!("{:06}-{}{towards}", job.index, name(job.label, job.seed))
    }

    /// The jobs that are left to do: with `--resume` those whose pictures are not there, or were made in another way.
    pub fn remaining(&mut self, jobs: &[Job], how: &Description<'_>) -> Vec<Job> {
        let mut remaining = jobs.to_vec();
        if self.a.resume {
            remaining.retain(|job| {
                let path = self.pictures.path(&self.name(job, how.model));
                let done = read_text(&path, PARAMETERS).is_ok_and(|text| text.as_deref() == Some(&how.text(job, self.given_noise)));
                if done {
                    self.pictures.keep(job.index, path);
                }
                !done
            });
        }
        remaining
    }

    /// Writes a batch of finished states `[n,H,W,C]`.
    pub fn add(&mut self, batch: &[Job], states: &[f32], init: Option<&Init>, how: &Description<'_>) -> Result<(), Failure> {
        if self.latents_to.is_some() {
            self.latents.extend(channels_first(states, self.state));
        }
        for (job, state) in batch.iter().zip(states.chunks_exact(self.state.iter().product())) {
            let Some(mut picture) = self.shown.as_mut().map(|s| s.picture(state)) else { return Ok(()) };
            if let Some(init) = init {
                init.restore(&mut picture);
            }
            let texts = [(PARAMETERS, &*how.text(job, self.given_noise)), ("Software", "fcdm")];
            self.pictures.add(job.index, &self.name(job, how.model), &picture, &texts)?;
        }
        Ok(())
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
        if let Some(shown) = &self.shown {
            self.pictures.finish(shown.shape)?;
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
                "steps": steps,
                "cfg_scale": how.guidance.scale,
                "sampled": done,
                "seconds": seconds,
                "ms_per_step": per_step,
            });
            sayln!("{summary:#}");
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
        sayln!("{sampler}, {steps} steps, {seconds:.2} s, {per_step:.1} ms a step");
        Ok(())
    }
}

/// Makes pictures of states: by a decoder, or of the states as they are.
struct Shown {
    decoder: Option<Decoder>,
    /// Height, width and channels.
    shape: [usize; 3],
    /// The decoder's picture.
    values: Vec<f32>,
}

impl Shown {
    /// `None` if there is no decoder and the states' channels are no picture's.
    fn new(decoder: Option<Decoder>, model: &ModelInfo) -> Option<Shown> {
        let as_they_are = Picture::CHANNELS.contains(&model.in_channels).then_some([model.height, model.width, model.in_channels]);
        let shape = decoder.as_ref().map(Decoder::picture).or(as_they_are)?;
        let values = vec![0.0; if decoder.is_some() { shape.iter().product() } else { 0 }];
        Some(Shown { decoder, shape, values })
    }

    fn picture(&mut self, state: &[f32]) -> Picture {
        let [h, w, c] = self.shape;
        let Some(decoder) = &mut self.decoder else { return Picture::from_unit(h, w, c, state) };
        decoder.decode(state, &mut self.values);
        Picture::from_unit(h, w, c, &self.values)
    }
}

/// Shows unfinished states, as one picture that is written anew again and again.
pub struct Preview {
    shown: Shown,
    /// Estimates of the final states.
    clean: Vec<f32>,
    path: PathBuf,
}

impl Preview {
    /// Writes to `preview.png` in the folder. States are shown as they are if there is no decoder; `None` if that cannot be.
    pub fn new(decoder: Option<Decoder>, model: &ModelInfo, folder: &Path) -> Option<Preview> {
        Some(Preview { shown: Shown::new(decoder, model)?, clean: Vec::new(), path: folder.join("preview.png") })
    }

    /// Writes what the states are on the way to.
    pub fn show(&mut self, progress: &Progress<'_>, state_len: usize) -> Result<(), Failure> {
        self.clean.resize(progress.states.len(), 0.0);
        progress.estimate(&mut self.clean);
        let all = self.clean.chunks_exact(state_len);
        let pictures: Vec<Picture> = all.map(|s| self.shown.picture(s)).collect();
        write_png(&self.path, &grid(&pictures, pictures::columns_of(pictures.len()), pictures::GAP), &[("Software", "fcdm")])?;
        Ok(())
    }
}

impl Drop for Preview {
    /// A preview is of no use once there are pictures.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
