//! Whole generations: an artifact, what is asked of it, pictures.
//!
//! [`Model`] is the short way: [`Options`] as people say them, pictures in memory. Under it a [`Generator`] holds an artifact ready to run;
//! an [`Order`] says how pictures are made, [`Job`]s which; [`Generator::run`] hands every picture out as it is finished. [`sample`] is
//! what all stand on: states only, one batch.

mod begin;
mod description;
mod generator;
mod job;
mod method;
mod model;
mod sample;
mod shown;

pub use crate::sampler::SamplerKind;
pub use begin::{Begin, Init, MaskEdge, Noise};
pub use description::Description;
pub use generator::{Event, GenerateError, Generator, Order, Setup, Step};
pub use job::{Job, Seeds, jobs, labels, seeds};
pub use method::{Choice, StochasticChoice};
pub use model::{Model, Options};
pub use sample::{AfterStep, Known, Progress, Request, Start, layout, sample};
pub use shown::Shown;
