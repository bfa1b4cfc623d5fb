//! A function as a graph, DOT of it for people, and the sum of its costs.

use std::fmt::Write;

use petgraph::Graph;
use petgraph::graph::NodeIndex;

use crate::function::{Def, Function, Value};
use crate::ops::Cost;
use crate::types::Type;

/// A node of a function's graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// An input of the function.
    Input(Value),
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

/// A function without its weights, as data flow at run time sees it. Nodes come in the order inputs, instructions, results.
pub fn graph(f: &Function) -> Graph<Node, Edge> {
    let mut g = Graph::new();
    let mut defined: Vec<Option<NodeIndex>> = vec![None; f.value_count()];
    for (v, data) in f.values() {
        defined[v.index()] = match data.def {
            Def::Input(_) => Some(g.add_node(Node::Input(v))),
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

/// Cost of all instructions of a verified function.
pub fn cost(f: &Function) -> Cost {
    let types = |values: &[Value]| values.iter().map(|&v| f.ty(v)).collect::<Vec<&Type>>();
    f.insts().iter().map(|i| i.op.cost(&types(&i.operands), &types(&i.results))).sum()
}

/// DOT for people: a box an instruction with its op and weights, fused ones coloured, shapes along the edges.
pub fn dot(f: &Function) -> String {
    let g = graph(f);
    let mut out = format!("digraph \"{}\" {{\n  node [shape=box, fontname=\"monospace\"];\n", f.name());
    for n in g.node_indices() {
        let (label, style) = match g[n] {
            Node::Input(v) => (format!("%{}\\n{}", f.value(v).name, f.ty(v)), ", shape=ellipse"),
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
