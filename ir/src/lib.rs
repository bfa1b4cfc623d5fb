//! The dataflow IR of `fcdm`: static-shaped, channels-last, pure SSA functions.
//!
//! - [`types`]: element and tensor types; [`function`]: values, instructions, functions, the builder;
//! - [`ops`]: the one table of ops, each with its shape rule, meaning, gradient and cost;
//! - [`text`]: the text form, which prints and parses to the same thing; [`verify`]: every rule, all errors;
//! - [`flow`]: dependence, and copies of parts of a function;
//! - [`eval`]: the reference evaluator (f64 on `ndarray`); [`vjp`]: gradients of a straight line of ops;
//! - [`resample`]: bilinear upsampling in plain ops;
//! - [`graph`]: a function as a `petgraph` graph, and DOT for people.
#![forbid(unsafe_code)]

pub mod eval;
pub mod flow;
pub mod function;
pub mod graph;
pub mod ops;
pub mod resample;
pub mod text;
pub mod types;
pub mod verify;
pub mod vjp;

pub use function::{Builder, Def, Function, Inst, Module, Value, ValueData};
pub use ops::{Cost, Op};
pub use types::{DType, Type, TypeError};
