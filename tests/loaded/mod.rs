//! Functions as loaded plans: assembled, written as an artifact, read back.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::assemble::{EntryPoint, assemble};
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::WeightSource;
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::Function;
use fcdm_runtime::artifact::{Artifact, ArtifactContents, TensorSource, write};
use fcdm_runtime::executor::{Executor, Program};
use fcdm_runtime::simd::Isa;

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
    let assembly = assemble(entries, weights, &Target::CPU.with_winograd(winograd)).unwrap();
    for e in &assembly.plan.entries {
        let allowed = (e.arena_lower_bound * 11).div_ceil(10).max(e.arena_lower_bound + 256);
        assert!(e.arena_bytes <= allowed, "{}: arena {}, at least {}", e.name, e.arena_bytes, e.arena_lower_bound);
    }
    let plan = assembly.plan.clone();
    let contents = ArtifactContents::new(plan, None);
    let tensors = assembly.tensors().map(|(stored, usage)| {
        let bytes = assembly.bytes(usage, &stored, source).unwrap();
        TensorSource::bytes(stored.name, stored.element, stored.shape, bytes)
    });
    write(path, &contents, tensors.collect(), &|| false, &mut |_, _| {}).unwrap();
    let artifact = Artifact::open(path).unwrap();
    let plan = artifact.plan().clone();
    Executor::new(Arc::new(Program::load(plan, Arc::new(artifact), Isa::from_env().unwrap()).unwrap()), threads).unwrap()
}
