//! What is trained on: latents as [`crate::latents::saved`] reads them, with what `encode` stores beside them, or pictures themselves.

use std::path::{Path, PathBuf};

use fcdm_runtime::memory::NoMemory;
use thiserror::Error;

use crate::latents::saved::{Latents, LatentsError, Wanted};
use crate::latents::{Array, Dataset, PictureFile, classes_of};
use crate::pictures::{FORMATS, Picture, PictureError, load_middle, unread};
use crate::tensors::channels_last;

/// Pictures are kept as they were decoded up to so many bytes in all; beyond it each is decoded when its turn comes.
const KEPT: usize = 1 << 30;

/// Examples of which the statistics are measured: enough for three digits.
const MEASURED: usize = 1024;

/// Why there is nothing to train on.
#[derive(Debug, Error)]
pub enum ExamplesError {
    /// Latents.
    #[error(transparent)]
    Latents(#[from] LatentsError),
    /// A picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// What belongs together does not fit.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Field {
        /// The file or folder.
        file: String,
        /// What of it.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A folder cannot be read.
    #[error("{file}: cannot read: {source}")]
    Read {
        /// The folder.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// More than the machine has memory for.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

fn wrong(file: &Path, field: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> ExamplesError {
    ExamplesError::Field { file: file.display().to_string(), field: field.into(), expected: expected.into(), found: found.to_string() }
}

/// Longest side that pictures are trained at.
const MOST_SIDE: usize = 1 << 14;

/// The pictures of a folder, if it is one of pictures, and not of latents.
fn pictures_of(path: &Path) -> Result<Option<Dataset>, ExamplesError> {
    if !path.is_dir() {
        return Ok(None);
    }
    let dataset = Dataset::open(path).map_err(|source| ExamplesError::Read { file: path.display().to_string(), source })?;
    match dataset.pictures.is_empty() && dataset.unread.is_empty() {
        false => Ok(Some(dataset)),
        // Empty folders are of neither; what to expect there is said for both.
        true if dataset.left_out.is_empty() && std::fs::read_dir(path).is_ok_and(|mut all| all.next().is_none()) => {
            Err(wrong(path, "folder", format!("latents, or pictures ({FORMATS})"), "nothing"))
        }
        true => Ok(None),
    }
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Latents, or a folder of pictures.
    pub path: PathBuf,
    /// Labels, where they are elsewhere.
    pub labels: Option<PathBuf>,
    /// Side of square pictures, which are then what is trained on.
    pub side: Option<usize>,
    /// Whether examples are to be had mirrored.
    pub flip: bool,
    /// Whether a picture that cannot be read is an error, and not left out.
    pub strict: bool,
}

/// Examples of one shape, with labels.
pub struct Examples {
    source: Source,
    labels: Vec<i32>,
    classes: Vec<String>,
    shape: [usize; 3],
    notes: Vec<String>,
}

enum Source {
    Latents(Box<Stored>),
    Pictures { files: Vec<PictureFile>, side: usize, kept: Option<Vec<Picture>> },
}

/// Latents and what is beside them.
struct Stored {
    mean: Latents,
    deviation: Option<Latents>,
    mirrored: Option<Latents>,
    mirrored_deviation: Option<Latents>,
}

/// Mean and standard deviation by channel.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Statistics {
    /// Means.
    pub mean: Vec<f64>,
    /// Standard deviations.
    pub std: Vec<f64>,
    /// Of all values, the root of their mean square.
    pub scale: f64,
}

impl Examples {
    /// Opens latents, or pictures. `tell` hears how many pictures of how many have been read, and says whether to go on.
    ///
    /// # Errors
    /// See [`ExamplesError`].
    pub fn open(wish: &Wish, tell: &mut dyn FnMut(usize, usize) -> bool) -> Result<Option<Examples>, ExamplesError> {
        let dataset = pictures_of(&wish.path)?;
        match (dataset, wish.side) {
            (Some(dataset), Some(side)) => Examples::pictures(wish, dataset, side, tell),
            (Some(_), None) => Err(wrong(&wish.path, "image-size", "the side that pictures are trained at", "none; or encode them first")),
            (None, side) => {
                let mut examples = Examples::latents(wish)?;
                let [_, h, w] = examples.shape;
                // What the official trainer is told is the side of the pictures that the latents are of.
                if side.is_some_and(|side| ![h, 8 * h].contains(&side)) {
                    examples.notes.push(format!("image-size is for pictures; the latents are of {h} x {w}"));
                }
                Ok(Some(examples))
            }
        }
    }

    fn latents(wish: &Wish) -> Result<Examples, ExamplesError> {
        let path = &wish.path;
        let mean = Latents::open(path)?;
        let (count, shape) = (mean.count(), mean.shape());
        let mut notes: Vec<String> = mean.note().map(str::to_owned).into_iter().collect();
        let beside = |array| -> Result<Option<Latents>, ExamplesError> {
            let found = Latents::beside(path, Wanted::Array(array))?;
            match &found {
                Some(l) if (l.count(), l.shape()) != (count, shape) => {
                    let found = format!("{} of shape {:?}", l.count(), l.shape());
                    Err(wrong(path, "what is beside the latents", format!("as many of shape {shape:?}, {count}"), found))
                }
                _ => Ok(found),
            }
        };
        let mirrored = if wish.flip { beside(Array::FlippedLatents)? } else { None };
        if wish.flip && mirrored.is_none() {
            let found = "none: latents cannot be mirrored, only pictures; encode them without --no-flip and --samples";
            return Err(wrong(path, "flip", "latents of mirrored pictures beside the others", found));
        }
        let stored = Stored {
            mean,
            deviation: beside(Array::Deviations)?,
            mirrored_deviation: if wish.flip { beside(Array::FlippedDeviations)? } else { None },
            mirrored,
        };
        let labels = match &wish.labels {
            Some(path) => Some(Latents::open_as(path, Wanted::Labels)?),
            None => Latents::beside(path, Wanted::Labels)?,
        };
        let labels = match labels {
            None => {
                notes.push(format!("{}: there are no labels; all latents are of one class", path.display()));
                vec![0; count]
            }
            Some(mut labels) => {
                if labels.count() != count {
                    return Err(wrong(wish.labels.as_ref().unwrap_or(path), "labels", format!("{count}, one a latent"), labels.count()));
                }
                (0..count).map(|i| Ok(labels.read(i)?[0] as i32)).collect::<Result<_, LatentsError>>()?
            }
        };
        let classes = classes_of(path).unwrap_or_default();
        Ok(Examples { source: Source::Latents(Box::new(stored)), labels, classes, shape, notes })
    }

    fn pictures(
        wish: &Wish,
        dataset: Dataset,
        side: usize,
        tell: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Examples>, ExamplesError> {
        let path = &wish.path;
        if side == 0 || side > MOST_SIDE {
            return Err(wrong(path, "image-size", format!("from 1 to {MOST_SIDE}"), side));
        }
        let keep = dataset.pictures.len().saturating_mul(3 * side * side) <= KEPT;
        let (mut files, mut kept, mut notes, mut bad) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut refuse = |e: PictureError| {
            if wish.strict {
                return Err(e);
            }
            bad += 1;
            if bad == 1 {
                notes.push(format!("{e}: left out"));
            }
            Ok(())
        };
        let total = dataset.pictures.len();
        for (i, file) in dataset.pictures.iter().enumerate() {
            if !tell(i, total) {
                return Ok(None);
            }
            match load_middle(&file.path, [side; 2]) {
                Ok(read) => {
                    files.push(file.clone());
                    if keep {
                        kept.push(read.picture);
                    }
                }
                Err(e) => refuse(e)?,
            }
        }
        dataset.unread.iter().try_for_each(|path| refuse(unread(path)))?;
        if files.is_empty() {
            return Err(wrong(path, "pictures", "some that can be read", "none"));
        }
        if bad > 1 {
            notes.push(format!("{}: {bad} pictures that cannot be read are left out", path.display()));
        }
        let labels = files.iter().map(|f| f.label as i32).collect();
        let source = Source::Pictures { files, side, kept: keep.then_some(kept) };
        Ok(Some(Examples { source, labels, classes: dataset.classes, shape: [3, side, side], notes }))
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// Channels, height and width of each.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class of each.
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// Names of the classes; none if nobody says.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What was assumed or left out, in sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether they are pictures, and not latents.
    pub fn are_pictures(&self) -> bool {
        matches!(self.source, Source::Pictures { .. })
    }

    /// Whether `noise` of [`Examples::read`] is used.
    pub fn has_deviation(&self) -> bool {
        matches!(&self.source, Source::Latents(stored) if stored.deviation.is_some())
    }

    /// Values of an example, `[h,w,C]`: of a posterior, mean and deviation times `noise`, which is `[C,h,w]`.
    ///
    /// # Errors
    /// When it cannot be read any more.
    ///
    /// # Panics
    /// If there is no such example, or mirrored ones were not asked for.
    pub fn read(&mut self, index: usize, mirrored: bool, noise: &[f32]) -> Result<Vec<f32>, ExamplesError> {
        let shape = self.shape;
        match &mut self.source {
            Source::Latents(stored) => {
                let (mean, deviation) = match mirrored {
                    false => (&mut stored.mean, &mut stored.deviation),
                    true => (stored.mirrored.as_mut().expect("asked for"), &mut stored.mirrored_deviation),
                };
                let mut values = mean.read(index)?;
                if let Some(deviation) = deviation {
                    let deviation = deviation.read(index)?;
                    values.iter_mut().zip(deviation).zip(noise).for_each(|((v, d), n)| *v += d * n);
                }
                Ok(channels_last(&values, shape))
            }
            Source::Pictures { files, side, kept } => {
                let picture = match kept {
                    Some(kept) => kept[index].clone(),
                    None => load_middle(&files[index].path, [*side; 2])?.picture,
                };
                Ok(if mirrored { picture.mirrored() } else { picture }.to_unit())
            }
        }
    }

    /// Statistics of the examples, of some of them where they are many.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn statistics(&mut self) -> Result<Statistics, ExamplesError> {
        let [c, h, w] = self.shape;
        let (mut sum, mut square) = (vec![0.0f64; c], vec![0.0f64; c]);
        let step = self.count().div_ceil(MEASURED);
        let noise = vec![0.0; c * h * w];
        let mut n = 0.0;
        for index in (0..self.count()).step_by(step) {
            for pixel in self.read(index, false, &noise)?.chunks_exact(c) {
                for (k, &v) in pixel.iter().enumerate() {
                    sum[k] += f64::from(v);
                    square[k] += f64::from(v) * f64::from(v);
                }
            }
            n += (h * w) as f64;
        }
        let scale = (square.iter().sum::<f64>() / (n * c as f64)).sqrt();
        let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
        let std = square.iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0).sqrt()).collect();
        Ok(Statistics { mean, std, scale })
    }
}
