//! A function as a graph: topological order for the scheduler, post-dominators for the legality of a fusion, DOT for people,
//! and the sum of its costs.

use std::fmt::Write;

use petgraph::Graph;
use petgraph::algo::dominators::{Dominators, simple_fast};
use petgraph::algo::toposort;
use petgraph::graph::NodeIndex;

use crate::function::{Def, Function, Value};
use crate::ops::Cost;
use crate::types::Type;

/// A node of a function's graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// An input of the function.
    Input(Value),
    /// A weight.
    Weight(Value),
    /// An instruction, by its index.
    Inst(usize),
    /// A result of the function, by its position.
    Result(usize),
}

/// A use of a value: from where it is defined to where it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which value.
    pub value: Value,
    /// Which operand of the instruction it is; 0 for a result of the function.
    pub operand: usize,
}

/// The whole function. Nodes come in the order inputs and weights, instructions, results.
pub fn graph(f: &Function) -> Graph<Node, Edge> {
    build(f, true)
}

/// The function without its weights, as data flow at run time sees it.
pub fn graph_without_weights(f: &Function) -> Graph<Node, Edge> {
    build(f, false)
}

fn build(f: &Function, weights: bool) -> Graph<Node, Edge> {
    let mut g = Graph::new();
    let mut defined: Vec<Option<NodeIndex>> = vec![None; f.value_count()];
    for (v, data) in f.values() {
        defined[v.index()] = match data.def {
            Def::Input(_) => Some(g.add_node(Node::Input(v))),
            Def::Weight if weights => Some(g.add_node(Node::Weight(v))),
            Def::Weight | Def::Result { .. } => None,
        };
    }
    let insts: Vec<NodeIndex> = (0..f.insts().len()).map(|i| g.add_node(Node::Inst(i))).collect();
    for (inst, &node) in f.insts().iter().zip(&insts) {
        inst.results.iter().for_each(|r| defined[r.index()] = Some(node));
    }
    for (inst, &node) in f.insts().iter().zip(&insts) {
        for (operand, &value) in inst.operands.iter().enumerate() {
            if let Some(from) = defined[value.index()] {
                g.add_edge(from, node, Edge { value, operand });
            }
        }
    }
    for (i, &(_, value)) in f.results().iter().enumerate() {
        let node = g.add_node(Node::Result(i));
        if let Some(from) = defined[value.index()] {
            g.add_edge(from, node, Edge { value, operand: 0 });
        }
    }
    g
}

/// The instructions of a verified function in an order in which definitions come before uses.
pub fn topological_order(f: &Function) -> Vec<usize> {
    let g = graph_without_weights(f);
    let order = toposort(&g, None).expect("a verified function has no cycles");
    order.into_iter().filter_map(|n| if let Node::Inst(i) = g[n] { Some(i) } else { None }).collect()
}

/// Which instructions all paths from another to the function's results go through.
pub struct PostDominators {
    tree: Dominators<NodeIndex>,
}

impl PostDominators {
    /// Those of a verified function.
    pub fn new(f: &Function) -> PostDominators {
        // Edges from use to definition, and from an exit to the definitions of the results.
        let mut g: Graph<(), ()> = Graph::new();
        let insts: Vec<NodeIndex> = f.insts().iter().map(|_| g.add_node(())).collect();
        let exit = g.add_node(());
        let mut edge = |from: NodeIndex, v: Value| {
            if let Def::Result { inst, .. } = f.value(v).def {
                g.add_edge(from, insts[inst], ());
            }
        };
        f.insts().iter().zip(&insts).for_each(|(inst, &node)| inst.operands.iter().for_each(|&v| edge(node, v)));
        f.results().iter().for_each(|&(_, v)| edge(exit, v));
        PostDominators { tree: simple_fast(&g, exit) }
    }

    /// True if every path from instruction `of` to a result goes through instruction `by`. An instruction post-dominates itself;
    /// one that no result needs is post-dominated by nothing.
    pub fn post_dominates(&self, by: usize, of: usize) -> bool {
        self.tree.dominators(NodeIndex::new(of)).is_some_and(|mut chain| chain.any(|n| n == NodeIndex::new(by)))
    }

    /// The nearest other instruction that post-dominates this one, if there is one before the results.
    pub fn immediate(&self, of: usize) -> Option<usize> {
        self.tree.immediate_dominator(NodeIndex::new(of)).filter(|&n| n != self.tree.root()).map(NodeIndex::index)
    }
}

/// Cost of all instructions of a verified function.
pub fn cost(f: &Function) -> Cost {
    let types = |values: &[Value]| values.iter().map(|&v| f.ty(v)).collect::<Vec<&Type>>();
    f.insts().iter().map(|i| i.op.cost(&types(&i.operands), &types(&i.results))).sum()
}

/// DOT for people: a box an instruction with its op and weights, fused ones coloured, shapes along the edges.
pub fn dot(f: &Function) -> String {
    let g = graph_without_weights(f);
    let mut out = format!("digraph \"{}\" {{\n  node [shape=box, fontname=\"monospace\"];\n", f.name());
    for n in g.node_indices() {
        let (label, style) = match g[n] {
            Node::Input(v) | Node::Weight(v) => (format!("%{}\\n{}", f.value(v).name, f.ty(v)), ", shape=ellipse"),
            Node::Inst(i) => {
                (instruction_label(f, i), if f.insts()[i].op.is_fused() { ", style=filled, fillcolor=\"#ffd28a\"" } else { "" })
            }
            Node::Result(i) => (f.results()[i].0.clone(), ", shape=ellipse, peripheries=2"),
        };
        writeln!(out, "  n{} [label=\"{label}\"{style}];", n.index()).expect("a String takes all writes");
    }
    for e in g.edge_indices() {
        let (from, to) = g.edge_endpoints(e).expect("the edge is of this graph");
        let ty = f.ty(g[e].value);
        writeln!(out, "  n{} -> n{} [label=\"{ty}\"];", from.index(), to.index()).expect("a String takes all writes");
    }
    out.push_str("}\n");
    out
}

fn instruction_label(f: &Function, i: usize) -> String {
    let inst = &f.insts()[i];
    let weights = inst.operands.iter().map(|&v| f.value(v)).filter(|d| d.def == Def::Weight);
    weights.fold(inst.op.to_string(), |label, w| format!("{label}\\n@{} {}", w.name, w.ty))
}
