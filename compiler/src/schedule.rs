//! The order of a program's steps. Lowering gives them in the order of the function's instructions; another one may need less memory, since
//! a value takes its bytes from the step that writes it to the last that reads it. Kernels do not see the order: results are the same.
//!
//! One other order is tried: list scheduling of the graph of dependences, after which steps slide towards those that wait for them. The
//! given order stays unless that one needs fewer bytes once it is placed, so nothing gets worse. [`crate::checker`] proves what is taken.

use std::collections::{BTreeSet, HashMap};

use fcdm_runtime::plan::{ALIGN, Entry};
use petgraph::Direction::Incoming;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::allocate::{allocate, takeable};
use crate::lower::{BufferId, Home, Program, Step};

/// Orders and places a program: which of its steps each placed step is, and the entry.
pub fn schedule(program: &Program, name: &str, rows: usize) -> (Vec<usize>, Entry) {
    let given = allocate(program, name, rows);
    let (graph, touches) = (dependences(program), Touches::of(program));
    let order = slide(&graph, &touches, &list(&graph, &touches));
    // Nothing can be placed in less than lives at one time.
    if peak(&touches, &order) < given.arena_bytes {
        let steps = order.iter().map(|&i| program.steps[i].clone()).collect();
        let entry = allocate(&Program { steps, ..program.clone() }, name, rows);
        if entry.arena_bytes < given.arena_bytes {
            return (order, entry);
        }
    }
    ((0..program.steps.len()).collect(), given)
}

/// Which memory steps that touch it must touch in the given order.
#[derive(PartialEq, Eq, Hash)]
enum Space {
    Buffer(BufferId),
    Output(usize),
    State(usize),
}

fn space(program: &Program, buffer: BufferId) -> Option<Space> {
    match program.buffers[buffer.0].home {
        Home::Arena => Some(Space::Buffer(buffer)),
        Home::Output(k) => Some(Space::Output(k)),
        Home::State(k) => Some(Space::State(k)),
        Home::Input(_) | Home::Weight(_) => None,
    }
}

/// Edges from steps to those that must come behind them: to the readers of what they write, and to the next that writes there what
/// they read or have written, be it a part.
fn dependences(program: &Program) -> DiGraph<(), ()> {
    let mut graph = DiGraph::with_capacity(program.steps.len(), 4 * program.steps.len());
    // The last that wrote, and who has read since.
    let mut seen: HashMap<Space, (Option<NodeIndex>, Vec<NodeIndex>)> = HashMap::new();
    for step in &program.steps {
        let node = graph.add_node(());
        for space in step.inputs.iter().filter_map(|v| space(program, v.buffer)) {
            let (writer, readers) = seen.entry(space).or_default();
            readers.push(node);
            writer.iter().for_each(|&w| {
                graph.update_edge(w, node, ());
            });
        }
        for space in step.outputs.iter().filter_map(|v| space(program, v.buffer)) {
            let (writer, readers) = seen.entry(space).or_default();
            for before in readers.drain(..).chain(writer.replace(node)).filter(|&b| b != node) {
                graph.update_edge(before, node, ());
            }
        }
    }
    graph
}

/// What steps touch of the arena.
struct Touches {
    /// By buffer: its bytes, none outside of the arena, and the steps.
    buffers: Vec<(usize, Vec<usize>)>,
    /// By step: the buffers, each once.
    steps: Vec<Vec<usize>>,
    /// By step: inputs whose place its output may take, and the output, if one begins as the other ends.
    taken: Vec<Vec<(usize, usize)>>,
}

impl Touches {
    fn of(program: &Program) -> Touches {
        let mut buffers: Vec<(usize, Vec<usize>)> = program.buffers.iter().map(|b| (b.bytes.next_multiple_of(ALIGN), Vec::new())).collect();
        let in_arena = |b: &usize| program.buffers[*b].home == Home::Arena;
        let steps = program.steps.iter().enumerate().map(|(i, step)| {
            let all = step.inputs.iter().chain(&step.outputs).map(|v| v.buffer.0).filter(in_arena);
            let touched: Vec<usize> = all.collect::<BTreeSet<usize>>().into_iter().collect();
            touched.iter().for_each(|&b| buffers[b].1.push(i));
            touched
        });
        let steps = steps.collect();
        let taken = |s: &Step| takeable(program, s).into_iter().map(|(x, y)| (x.0, y.0)).collect();
        Touches { buffers, steps, taken: program.steps.iter().map(taken).collect() }
    }
}

/// The bytes alive as steps run one after the other.
struct Lives<'a> {
    touches: &'a Touches,
    /// By buffer: how many steps have yet to touch it.
    left: Vec<usize>,
    now: usize,
    peak: usize,
}

impl<'a> Lives<'a> {
    fn new(touches: &'a Touches) -> Lives<'a> {
        Lives { touches, left: touches.buffers.iter().map(|b| b.1.len()).collect(), now: 0, peak: 0 }
    }

    /// Bytes alive while a step runs next, and behind it.
    fn around(&self, step: usize) -> (usize, usize) {
        let begins = |b: usize| self.left[b] == self.touches.buffers[b].1.len();
        let ends = |b: usize| self.left[b] == 1;
        let sum = |which: &dyn Fn(usize) -> bool| -> usize {
            self.touches.steps[step].iter().filter(|&&b| which(b)).map(|&b| self.touches.buffers[b].0).sum()
        };
        let all = self.now + sum(&begins);
        let taken = self.touches.taken[step].iter().find(|&&(x, y)| ends(x) && begins(y));
        (all - taken.map_or(0, |&(x, _)| self.touches.buffers[x].0), all - sum(&ends))
    }

    fn run(&mut self, step: usize) {
        let (during, behind) = self.around(step);
        (self.now, self.peak) = (behind, self.peak.max(during));
        self.touches.steps[step].iter().for_each(|&b| self.left[b] -= 1);
    }
}

/// Bytes alive at the worst step of an order.
fn peak(touches: &Touches, order: &[usize]) -> usize {
    let mut lives = Lives::new(touches);
    order.iter().for_each(|&step| lives.run(step));
    lives.peak
}

/// List scheduling: of the steps whose operands are there, the one behind which the fewest bytes are alive, the first of those.
fn list(graph: &DiGraph<(), ()>, touches: &Touches) -> Vec<usize> {
    let count = |v: NodeIndex| graph.neighbors_directed(v, Incoming).count();
    let mut missing: Vec<usize> = graph.node_indices().map(count).collect();
    let mut ready: Vec<usize> = (0..missing.len()).filter(|&step| missing[step] == 0).collect();
    let mut lives = Lives::new(touches);
    let mut order = Vec::with_capacity(missing.len());
    while let Some(at) = (0..ready.len()).min_by_key(|&i| (lives.around(ready[i]).1, ready[i])) {
        let step = ready.swap_remove(at);
        lives.run(step);
        order.push(step);
        for next in graph.neighbors(NodeIndex::new(step)).map(NodeIndex::index) {
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.push(next);
            }
        }
    }
    order
}

/// An order, but that steps move to before the first that waits for them, where more bytes live shorter than longer for it.
fn slide(graph: &DiGraph<(), ()>, touches: &Touches, order: &[usize]) -> Vec<usize> {
    let mut at = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &step)| at[step] = i);
    // A step that moves shares the place of the one that it moves to, and runs before it, since it did.
    let mut place = at.clone();
    for &step in order.iter().rev() {
        let Some(target) = graph.neighbors(NodeIndex::new(step)).map(|v| place[v.index()]).min() else { continue };
        let (mut shorter, mut longer) = (0, 0);
        for &b in &touches.steps[step] {
            let (bytes, touched) = &touches.buffers[b];
            let mut before = touched.iter().filter(|&&s| s != step).map(|&s| place[s] < target);
            match before.next() {
                Some(first) if before.any(|p| p != first) => {}
                Some(true) => longer += bytes,
                Some(false) => shorter += bytes,
                None => {}
            }
        }
        if shorter > longer {
            place[step] = target;
        }
    }
    let mut order = order.to_vec();
    order.sort_by_key(|&step| (place[step], at[step]));
    order
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checker::check;
    use crate::lower::{Buffer, View, lower};
    use crate::target::Target;
    use fcdm_ir::flow::sweep;
    use fcdm_ir::ops::{Add, DwConv2d, Exp, Gelu, Grn, LayerNorm, Linear, Sum};
    use fcdm_ir::vjp::backward;
    use fcdm_ir::{Builder, Function, Module, Type};
    use fcdm_passes::{OPTIMISED, run};
    use fcdm_runtime::kernels::Copy;
    use fcdm_runtime::plan::Form;

    /// Bytes of a function in the given order, and as it is scheduled.
    fn bytes(f: &Function) -> (usize, usize) {
        let program = lower(f, &[], &Target::CPU).unwrap();
        let (order, entry) = schedule(&program, "f", 1);
        assert_eq!(check(&program, &order, &entry), Ok(()));
        let given = allocate(&program, "f", 1);
        let touches = Touches::of(&program);
        assert_eq!(peak(&touches, &(0..program.steps.len()).collect::<Vec<_>>()), given.arena_lower_bound);
        assert_eq!(peak(&touches, &order), entry.arena_lower_bound);
        (given.arena_bytes, entry.arena_bytes)
    }

    /// Blocks of a ConvNeXt V2 and their gradients by all weights.
    fn training_step(blocks: usize) -> Function {
        let mut b = Builder::new("step");
        let (c, e) = (16, 48);
        let ty = Type::f32([2, 8, 8, c]);
        let (mut x, dy) = (b.input("x", ty.clone()), b.input("dy", ty));
        let mut weights = Vec::new();
        for i in 0..blocks {
            let mut weight = |b: &mut Builder, name: &str, shape: &[usize]| {
                let w = b.weight(&format!("{i}.{name}"), Type::f32(shape));
                weights.push(w);
                w
            };
            let (dw, db) = (weight(&mut b, "dw.weight", &[7, 7, c]), weight(&mut b, "dw.bias", &[c]));
            let h = b.one(DwConv2d { pad: 3 }, &[x, dw, db]);
            let h = b.one(LayerNorm { eps: 1e-6 }, &[h]);
            let (w, bias) = (weight(&mut b, "up.weight", &[e, c]), weight(&mut b, "up.bias", &[e]));
            let h = b.one(Linear {}, &[h, w, bias]);
            let h = b.one(Gelu {}, &[h]);
            let (gamma, beta) = (weight(&mut b, "gamma", &[e]), weight(&mut b, "beta", &[e]));
            let h = b.one(Grn { eps: 1e-6 }, &[h, gamma, beta]);
            let (w, bias) = (weight(&mut b, "down.weight", &[c, e]), weight(&mut b, "down.bias", &[c]));
            let h = b.one(Linear {}, &[h, w, bias]);
            x = b.one(Add {}, &[x, h]);
        }
        let grads = backward(&mut b, &[(x, dy)], &weights);
        let named = grads.into_iter().enumerate().map(|(i, g)| (format!("d{i}"), g.unwrap()));
        sweep(&b.finish(named.chain([("y".to_owned(), x)]).collect()))
    }

    #[test]
    fn a_training_step_needs_no_more() {
        for blocks in [1, 3, 8] {
            let f = training_step(blocks);
            let (given, taken) = bytes(&f);
            assert!(taken <= given, "{blocks} blocks: {taken} of {given}");
            let (m, _) = run(OPTIMISED, Module { functions: vec![f] }, &mut |_, _| {}).unwrap();
            let (given, taken) = bytes(m.function("step").unwrap());
            assert!(taken * 10 <= given * 9, "{blocks} blocks, optimised: {taken} of {given}");
        }
    }

    /// Large values, of each of which a sum is wanted: one at a time is enough.
    #[test]
    fn large_values_live_one_at_a_time() {
        let mut b = Builder::new("f");
        let x = b.input("x", Type::f32([64, 64]));
        let inputs: Vec<_> = (0..4).map(|i| b.input(&format!("x{i}"), Type::f32([64, 64]))).collect();
        let large: Vec<_> = inputs.iter().map(|&y| b.one(Add {}, &[x, y])).collect();
        let sums: Vec<_> = large.iter().map(|&v| b.one(Sum { axes: vec![0] }, &[v])).collect();
        let all = sums[1..].iter().fold(sums[0], |a, &s| b.one(Add {}, &[a, s]));
        let y = b.one(Exp {}, &[all]);
        let (given, taken) = bytes(&b.finish(vec![("y".into(), y)]));
        let (one, sum) = (64 * 64 * 4, 64 * 4);
        assert_eq!(given, 4 * one + sum);
        assert!(taken <= one + 2 * sum, "{taken}");
    }

    /// What touches the same memory keeps its order, in whole or in part, in the arena or in state.
    #[test]
    fn dependences_are_of_reads_and_writes() {
        let view = |b: usize| View { buffer: BufferId(b), form: Form::F32, shape: vec![8] };
        let step = |x: &[usize], y: usize| {
            let kernel = Copy { extents: vec![4], from: 0, x_strides: vec![1], to: 0, y_strides: vec![1] }.into();
            Step { label: "s".into(), kernel, inputs: x.iter().map(|&b| view(b)).collect(), outputs: vec![view(y)] }
        };
        // An input, two buffers, an old and a new state.
        let homes = [Home::Input(0), Home::Arena, Home::Arena, Home::State(0), Home::State(0)];
        let program = Program {
            buffers: homes.into_iter().map(|home| Buffer { bytes: 32, home }).collect(),
            steps: vec![step(&[0], 1), step(&[0], 1), step(&[1], 2), step(&[3], 2), step(&[0], 4), step(&[0], 1)],
            ..Program::default()
        };
        let graph = dependences(&program);
        let edges: BTreeSet<_> = graph.raw_edges().iter().map(|e| (e.source().index(), e.target().index())).collect();
        assert_eq!(edges, BTreeSet::from([(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (1, 5)]));
    }
}
