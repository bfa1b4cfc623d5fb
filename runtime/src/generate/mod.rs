//! Whole generations: an artifact, what is asked of it, pictures.
//!
//! [`Generator`] holds an artifact ready to run; an [`Order`] says how pictures are made, [`Job`]s which. [`Generator::pictures`] is the
//! short way; [`Generator::run`] hands every picture out as it is finished. [`sample`] is what both stand on: states only, one batch.
//!
//! ```no_run
//! # use std::ops::ControlFlow;
//! # use fcdm_runtime::{artifact::Artifact, generate::{Generator, Order, Seeds, Setup, jobs}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let artifact = Artifact::from_bytes("clothes", std::fs::read("clothes.fcdm")?)?;
//! let mut generator = Generator::new(artifact, &Setup::default())?;
//! let order = Order::new(generator.model())?;
//! let jobs = jobs(&[generator.model().label("hat")?], &Seeds::default(), None)?;
//! let pictures = generator.pictures(&order, &jobs, &mut |_| ControlFlow::Continue(()))?;
//! # Ok(())
//! # }
//! ```

mod begin;
mod description;
mod generator;
mod job;
mod method;
mod sample;
mod shown;

pub use begin::{Begin, Init, MaskEdge, Noise};
pub use description::Description;
pub use generator::{Event, GenerateError, Generator, Order, Setup, Step};
pub use job::{Job, Seeds, jobs, labels, seeds};
pub use method::{Choice, SamplerKind, StochasticChoice};
pub use sample::{AfterStep, Known, Progress, Request, Start, layout, sample};
pub use shown::Shown;
