//! Functions as loaded plans: assembled, written as an artifact, read back.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::assemble::{EntryPoint, assemble};
use fcdm_compiler::weights::WeightSource;
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::Function;
use fcdm_runtime::artifact::{Artifact, ArtifactContents, ModelInfo, Prediction, TensorSource, write};
use fcdm_runtime::executor::{Executor, Program};
use fcdm_runtime::plan::Element;

/// The description of some model; entry points loaded by hand do not look at it.
fn some_model() -> ModelInfo {
    ModelInfo {
        prediction: Prediction::Velocity,
        in_channels: 1,
        out_channels: 1,
        num_classes: 1,
        null_class: false,
        class_names: vec![],
        hidden: 1,
        depths: vec![1; 5],
        mlp_ratio: 1.0,
        height: 4,
        width: 4,
        sampling: None,
    }
}

/// Writes functions as an artifact at `path` and loads it. The arena must be within a tenth of the least possible, or,
/// where that is a few kilobytes, of the least possible and a handful of alignments.
pub fn executor(
    path: &Path,
    entries: Vec<EntryPoint>,
    weights: Option<&Function>,
    source: &dyn WeightSource,
    winograd: Winograd,
    threads: usize,
) -> Executor {
    let assembly = assemble(entries, weights, winograd, &|_| Element::F32).unwrap();
    for e in &assembly.plan.entries {
        let allowed = (e.arena_lower_bound * 11).div_ceil(10).max(e.arena_lower_bound + 256);
        assert!(e.arena_bytes <= allowed, "{}: arena {}, at least {}", e.name, e.arena_bytes, e.arena_lower_bound);
    }
    let plan = assembly.plan.clone();
    let contents = ArtifactContents::new(plan, Some(some_model()));
    let tensor = |(name, usage): (&String, &fcdm_compiler::weights::WeightUse)| {
        TensorSource::f32(name.as_str(), usage.stored_shape(), assembly.values(usage, source).unwrap())
    };
    write(path, &contents, assembly.tensors.iter().map(tensor).collect(), &|| false, &mut |_, _| {}).unwrap();
    let artifact = Artifact::open(path).unwrap();
    let plan = artifact.plan().clone();
    Executor::new(Arc::new(Program::load(plan, Arc::new(artifact)).unwrap()), threads).unwrap()
}
