//! What artifacts and plans come to: loaded on one thread and the scalar instruction set, and run where that is soon done.

use std::sync::Arc;

use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::autoencoder::{Decoder, Encoder};
use fcdm_runtime::cost::Cost;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::executor::{Executor, Input, Program, WeightStore};
use fcdm_runtime::network::Network;
use fcdm_runtime::plan::{Element, Entry, Plan};
use fcdm_runtime::simd::Isa;

/// Bytes of an arena and of ports that are worth having here. What asks for more is refused by others than these.
const ROOM: usize = 4 << 20;

/// Multiply-accumulates and bytes of all steps that are worth running.
const WORK: u64 = 1 << 22;

/// A tensor of any name.
struct Zeros(Vec<u8>);

/// Elements of each, and bytes to spare for their alignment.
const ELEMENTS: usize = 1 << 16;

impl Zeros {
    fn new() -> Zeros {
        Zeros(vec![0; 4 * ELEMENTS + 64])
    }
}

impl WeightStore for Zeros {
    fn tensor(&self, _: &str) -> Option<(Element, &[usize], &[u8])> {
        let start = self.0.as_ptr().align_offset(64);
        Some((Element::F32, &[ELEMENTS], &self.0[start..start + 4 * ELEMENTS]))
    }
}

fn cpu() -> Cpu {
    Cpu { threads: 1, isa: Isa::SCALAR }
}

fn ports(entry: &Entry) -> Option<usize> {
    let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let all = entry.inputs.iter().chain(&entry.outputs).chain(&entry.state);
    all.map(|port| count(&port.shape)).try_fold(0usize, |sum, n| sum.checked_add(n?))
}

fn is_small(entry: &Entry) -> bool {
    entry.arena_bytes <= ROOM && ports(entry).is_some_and(|n| n <= ROOM / 4)
}

/// Loads whatever an artifact has, and evaluates its denoiser once.
pub fn load(artifact: &Arc<Artifact>) {
    if !artifact.plan().entries.iter().all(is_small) {
        return;
    }
    let size = artifact.model().map_or([8, 8], |m| [m.height, m.width]);
    if size.iter().product::<usize>() > ROOM / 64 {
        return;
    }
    for kind in DecoderKind::ALL {
        let _ = Decoder::new(artifact, kind, size, &cpu(), Some(16 << 20));
    }
    let _ = Encoder::new(artifact, &cpu());
    let Ok(mut network) = Network::new(artifact.clone(), &cpu()) else { return };
    let work = artifact
        .plan()
        .entries
        .iter()
        .flat_map(|e| &e.steps)
        .map(Cost::of)
        .fold(0u64, |n, c| n.saturating_add(c.macs).saturating_add(c.bytes));
    if work <= WORK {
        let held = network.model().specialisation.as_ref().map(|held| (held.times[0], held.classes[0] as i32));
        let (t, y) = held.unwrap_or((0.0, 0));
        let condition = network.condition(&[t], &[y]);
        let (x, mut y) = (vec![0.0; network.state_len()], vec![0.0; network.output_len()]);
        network.denoise(&x, &condition, 0, &mut y);
    }
}

/// Runs every entry point of a plan that is sound and small.
pub fn run(plan: Plan) {
    let Ok(program) = Program::load(plan, Arc::new(Zeros::new()), Isa::SCALAR) else { return };
    let work =
        program.entries().iter().flat_map(|e| &e.steps).map(Cost::of).fold(0u64, |n, c| n.saturating_add(c.macs).saturating_add(c.bytes));
    if work > WORK || !program.entries().iter().all(is_small) {
        return;
    }
    let program = Arc::new(program);
    let Ok(mut executor) = Executor::new(program.clone(), 1) else { return };
    for (i, entry) in program.entries().iter().enumerate() {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let floats: Vec<Vec<f32>> = entry.inputs.iter().map(|p| (0..count(&p.shape)).map(|i| (i % 7) as f32 - 3.0).collect()).collect();
        let labels: Vec<Vec<i32>> = entry.inputs.iter().map(|p| vec![0; count(&p.shape)]).collect();
        let input = |k: usize| if entry.inputs[k].dtype == Element::I32 { Input::I32(&labels[k]) } else { Input::F32(&floats[k]) };
        let inputs: Vec<Input<'_>> = (0..entry.inputs.len()).map(input).collect();
        let mut outputs: Vec<Vec<f32>> = entry.outputs.iter().map(|p| vec![0.0; count(&p.shape)]).collect();
        let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        executor.run(i, &inputs, &mut outputs);
    }
}
