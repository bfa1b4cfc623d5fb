//! Places for arena buffers. A buffer is alive from the first step that writes it to the last that touches it; two
//! buffers alive at the same time must not overlap, but that a step's output may take the place of an input which nobody reads after
//! it, where the kernel lets it ([`fcdm_runtime::kernels::Output::takes`]). Greedy: in several orders, each buffer goes to the lowest offset
//! that is free during its life, and the order that needs the least memory wins.

use fcdm_runtime::plan::{ALIGN, Entry, Operand, Place, Step as PlacedStep};

use crate::lower::{BufferId, Home, Program, Step, View};

/// The life and size of arena buffers that are at one place, one after the other.
#[derive(Clone, Debug)]
struct Life {
    buffers: Vec<BufferId>,
    bytes: usize,
    first: usize,
    last: usize,
}

/// Gives every buffer its place.
pub fn allocate(program: &Program, name: &str, rows: usize) -> Entry {
    let lives = lives(program);
    let lower_bound = largest_live_set(&lives, program.steps.len());
    let (offsets, arena_bytes) = best_placement(&lives);
    let mut places: Vec<Place> = Vec::with_capacity(program.buffers.len());
    for buffer in &program.buffers {
        places.push(match &buffer.home {
            Home::Arena => Place::Arena(0),
            Home::Input(i) => Place::Input(*i),
            Home::Output(i) => Place::Output(*i),
            Home::State(i) => Place::State(*i),
            Home::Weight(tensor) => Place::Weight(tensor.clone()),
        });
    }
    for (life, offset) in lives.iter().zip(offsets) {
        life.buffers.iter().for_each(|b| places[b.0] = Place::Arena(offset));
    }
    let operand = |v: &View| Operand { at: places[v.buffer.0].clone(), form: v.form, shape: v.shape.clone() };
    let steps = program.steps.iter().map(|s| PlacedStep {
        label: s.label.clone(),
        kernel: s.kernel.clone(),
        inputs: s.inputs.iter().map(operand).collect(),
        outputs: s.outputs.iter().map(operand).collect(),
    });
    Entry {
        name: name.to_owned(),
        rows,
        inputs: program.inputs.clone(),
        outputs: program.outputs.clone(),
        state: program.state.clone(),
        arena_bytes,
        arena_lower_bound: lower_bound,
        steps: steps.collect(),
    }
}

fn lives(program: &Program) -> Vec<Life> {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; program.buffers.len()];
    for (i, step) in program.steps.iter().enumerate() {
        for v in step.inputs.iter().chain(&step.outputs) {
            let span = spans[v.buffer.0].get_or_insert((i, i));
            span.1 = i;
        }
    }
    let mut lives: Vec<Life> = Vec::new();
    let mut life_of: Vec<Option<usize>> = vec![None; program.buffers.len()];
    // In the order in which buffers are first written, so that a chain of steps in place becomes one life.
    for (i, step) in program.steps.iter().enumerate() {
        for v in step.outputs.iter().chain(&step.inputs) {
            let id = v.buffer.0;
            let (Some((first, last)), Home::Arena, None) = (spans[id], &program.buffers[id].home, life_of[id]) else { continue };
            let bytes = program.buffers[id].bytes.next_multiple_of(ALIGN);
            let ends = |b: BufferId| spans[b.0].is_some_and(|s| s.1 == i);
            let taken = takeable(program, step).into_iter().find(|&(x, y)| first == i && y == v.buffer && ends(x));
            let at = match taken.and_then(|(x, _)| life_of[x.0]) {
                Some(at) => {
                    lives[at].buffers.push(v.buffer);
                    lives[at].last = last;
                    at
                }
                None => {
                    lives.push(Life { buffers: vec![v.buffer], bytes, first, last });
                    lives.len() - 1
                }
            };
            life_of[id] = Some(at);
        }
    }
    lives
}

/// Inputs of a step whose place its output may take if nobody reads them behind it, the preferred first, and the output: of the same
/// bytes, and at no position where the kernel reads it after it has begun to write.
pub fn takeable(program: &Program, step: &Step) -> Vec<(BufferId, BufferId)> {
    let signature = step.kernel.signature();
    // Two outputs of a step cannot take the same place: only the first may take one.
    let (Some(out), Some(y)) = (signature.outputs.first(), step.outputs.first().map(|v| v.buffer)) else { return Vec::new() };
    let of = |b: BufferId| &program.buffers[b.0];
    let fits = |&x: &BufferId| {
        let everywhere = step.inputs.iter().enumerate().all(|(i, v)| v.buffer != x || out.takes.contains(&i));
        x != y && of(x) == of(y) && of(x).home == Home::Arena && everywhere && out.part.is_none()
    };
    out.takes.iter().filter_map(|&i| step.inputs.get(i)).map(|v| v.buffer).filter(fits).map(|x| (x, y)).collect()
}

/// Bytes alive at the worst step.
fn largest_live_set(lives: &[Life], steps: usize) -> usize {
    let mut change = vec![0isize; steps + 1];
    for l in lives {
        change[l.first] += l.bytes as isize;
        change[l.last + 1] -= l.bytes as isize;
    }
    let mut live = 0isize;
    change
        .iter()
        .map(|c| {
            live += c;
            live
        })
        .max()
        .unwrap_or(0) as usize
}

/// What an order puts first; ties go to the buffer that is written first.
type Weight = fn(&Life) -> usize;

fn best_placement(lives: &[Life]) -> (Vec<usize>, usize) {
    // The largest, the largest in space and time, the longest-lived, the first written.
    let orders: [Weight; 4] = [|l| l.bytes, |l| l.bytes * (l.last - l.first + 1), |l| l.last - l.first, |_| 0];
    let placements = orders.iter().map(|order| {
        let mut sequence: Vec<usize> = (0..lives.len()).collect();
        sequence.sort_by_key(|&i| (std::cmp::Reverse(order(&lives[i])), lives[i].first));
        first_fit(lives, &sequence)
    });
    placements.min_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}

/// Places buffers in the given sequence, each at the lowest offset free during its life.
fn first_fit(lives: &[Life], sequence: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; lives.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(lives.len());
    let mut total = 0;
    for &i in sequence {
        let life = &lives[i];
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| lives[p].first <= life.last && life.first <= lives[p].last)
            .map(|&p| (offsets[p], offsets[p] + lives[p].bytes))
            .collect();
        busy.sort_unstable();
        let mut at = 0;
        for (from, to) in busy {
            if at + life.bytes <= from {
                break;
            }
            at = at.max(to);
        }
        offsets[i] = at;
        total = total.max(at + life.bytes);
        placed.push(i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(i: usize, bytes: usize, first: usize, last: usize) -> Life {
        Life { buffers: vec![BufferId(i)], bytes, first, last }
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let lives = [life(0, 64, 0, 1), life(1, 256, 1, 2), life(2, 128, 2, 3), life(3, 64, 3, 4)];
        let (offsets, bytes) = best_placement(&lives);
        assert_eq!(bytes, 384);
        assert_eq!(bytes, largest_live_set(&lives, 5));
        assert_ne!(offsets[0], offsets[1]);
    }

    #[test]
    fn what_never_lives_together_shares() {
        let lives = [life(0, 640, 0, 0), life(1, 640, 1, 1), life(2, 640, 2, 2)];
        assert_eq!(best_placement(&lives), (vec![0, 0, 0], 640));
    }
}
