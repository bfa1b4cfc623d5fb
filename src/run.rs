//! `fcdm run`: one evaluation of the network, for checking against other frameworks. Of an artifact; ONNX models are `onnx`'s.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use fcdm_compiler::kind::is_onnx;
use fcdm_models::tensors::{Extent, TensorFile, TensorsError, channels_first, channels_last, write_tensor};
use fcdm_runtime::artifact::{Artifact, ModelInfo};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::memory::{Need, f32s};
use fcdm_runtime::network::Network;
use serde_json::json;

use crate::failure::Failure;
use crate::failure::mistaken::{Wanted, opened};
use crate::help::{MACHINE, MODEL, OUTPUT, examples};
use crate::onnx::{self, Backend};
use crate::say::{self, sayln};

const EXAMPLES: &str = examples!(
    "fcdm run model.fcdm --inputs inputs.safetensors --outputs outputs.safetensors",
    "fcdm run model.onnx --inputs inputs.safetensors --outputs outputs.safetensors",
);

/// Evaluate a network once, to compare with other frameworks.
///
/// `x [N,C,H,W]`, `t [N]`, `y [N]` give `output [N,C_out,H,W]`; of an ONNX model, its own inputs and outputs.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The .fcdm file, or an ONNX model.
    ///
    /// An ONNX model is compiled in memory, for the extents of the inputs.
    model: PathBuf,
    /// A safetensors file with x, t and y.
    ///
    /// x is f32, t and y are f32 or i64; or an ONNX model's inputs by name.
    #[arg(long, value_name = "FILE", help_heading = MODEL)]
    inputs: PathBuf,
    /// Who evaluates an ONNX model: fcdm or tract.
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true, help_heading = MODEL)]
    backend: Option<Backend>,
    /// The safetensors file to write, with `output`.
    ///
    /// Or with an ONNX model's outputs.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    outputs: PathBuf,
    /// Print a summary as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// Threads [default: all].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = MACHINE)]
    threads: Option<u32>,
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    let threads = fcdm_command::threads(a.threads);
    if is_onnx(&a.model) {
        return onnx::run(&a.model, &a.inputs, &a.outputs, a.backend.unwrap_or_default(), threads, a.json);
    }
    if a.backend.is_some() {
        return Err(Failure::usage("--backend: an artifact has one already; it is for ONNX models"));
    }
    let artifact = Arc::new(opened(&a.model, Wanted::Artifact, Artifact::open_unverified(&a.model))?);
    let verification = artifact.verify_in_background();
    let mut network = Network::new(artifact, &Cpu::new(threads)?)?;
    let model = network.model().clone();
    let image = [model.in_channels, model.height, model.width];
    let Inputs { rows, x, t, y } = opened(&a.inputs, Wanted::Tensors, inputs(&a.inputs, &model))?;
    model.check_labels(y.iter().copied())?;
    model.check_times(t.iter().copied(), |t| ("t", t.to_string()))?;
    Need::of(format!("{rows} rows"))
        .held("denoiser", network.held_bytes())
        .with("images", f32s(&[rows, network.state_len()]))
        .with("condition", network.condition_bytes(rows))
        .with("outputs", f32s(&[3, rows, network.output_len()]))
        .reserve()?;
    let condition = network.condition(&t, &y);
    let mut out = vec![0.0; rows * network.output_len()];
    network.denoise(&channels_last(&x, image), &condition, 0, &mut out);
    // Nobody breaks it off: Ctrl-C ends this command at once.
    verification.wait(&|| false)?;
    let image = [model.out_channels, model.height, model.width];
    let shape = [rows, image[0], image[1], image[2]];
    write_tensor(&a.outputs, "output", &shape, &channels_first(&out, image))?;
    if a.json {
        say::json(&json!({ "outputs": a.outputs.display().to_string(), "shape": shape }));
    } else {
        sayln!("wrote output {shape:?} to {}", a.outputs.display());
    }
    Ok(())
}

/// What the network is evaluated on.
struct Inputs {
    rows: usize,
    x: Vec<f32>,
    t: Vec<f32>,
    y: Vec<i32>,
}

fn inputs(path: &Path, model: &ModelInfo) -> Result<Inputs, TensorsError> {
    let file = TensorFile::open(path)?;
    let expected = [Extent::Any("N"), Extent::Is(model.in_channels), Extent::Is(model.height), Extent::Is(model.width)];
    let (shape, x) = file.floats("x", &expected)?;
    let rows = shape[0];
    let t = file.numbers("t", &[Extent::Is(rows)])?;
    let classes = model.num_classes + usize::from(model.null_class);
    let y = file.labels("y", &[Extent::Is(rows)], classes)?;
    Ok(Inputs { rows, x, t, y })
}
