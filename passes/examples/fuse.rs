//! A block of FCDM before and after the passes: `cargo run -p fcdm-passes --example fuse`.

use std::error::Error;

use fcdm_ir::Module;
use fcdm_ir::text::parse_function;
use fcdm_passes::OPTIMISED;

fn main() -> Result<(), Box<dyn Error>> {
    let before = parse_function(BLOCK)?;
    println!("{before}");
    println!("{}", fused()?);
    Ok(())
}

const BLOCK: &str = "\
weight @norm.w : f32[7,7,64]
weight @norm.b : f32[64]
weight @up.w : f32[192,64]
weight @up.b : f32[192]
weight @grn.gamma : f32[192]
weight @grn.beta : f32[192]
weight @down.w : f32[64,192]
weight @down.b : f32[64]

fn @block(%x: f32[1,16,16,64], %shift: f32[1,64], %scale: f32[1,64], %gate: f32[1,64]) {
  %0 = dwconv2d %x, @norm.w, @norm.b {pad=3} : f32[1,16,16,64]
  %1 = layer_norm %0 {eps=1e-6} : f32[1,16,16,64]
  %2 = modulate %1, %shift, %scale : f32[1,16,16,64]
  %3 = linear %2, @up.w, @up.b : f32[1,16,16,192]
  %4 = gelu %3 : f32[1,16,16,192]
  %5 = grn %4, @grn.gamma, @grn.beta {eps=1e-6} : f32[1,16,16,192]
  %6 = linear %5, @down.w, @down.b : f32[1,16,16,64]
  %7 = gated_add %x, %6, %gate : f32[1,16,16,64]
  return y=%7
}
";

/// The block in four kernels, and what depends on weights alone in a function of its own.
pub fn fused() -> Result<Module, Box<dyn Error>> {
    let module = Module { functions: vec![parse_function(BLOCK)?] };
    let (module, report) = fcdm_passes::run(OPTIMISED, module, &mut |_, _| {})?;
    println!("{} passes ran", report.runs.len());
    Ok(module)
}
