//! The whole way in one program: a checkpoint becomes a model, and the model makes a picture:
//! `cargo run --release -p fcdm-models --example compile -- CHECKPOINT HEIGHT WIDTH`. Writes `model.fcdm` and `picture.png`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use fcdm_compiler::checkpoint::Checkpoint;
use fcdm_models::compile::{Networks, Options, Silent, compile};
use fcdm_models::fcdm::Import;
use fcdm_runtime::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |i: usize, what: &str| std::env::args().nth(i).ok_or_else(|| format!("expected {what}"));
    let size = [argument(2, "a height")?.parse()?, argument(3, "a width")?.parse()?];
    picture(&argument(1, "a checkpoint")?, size, Path::new("."))
}

/// A picture of class 0 by a checkpoint of a model of pictures.
pub fn picture(checkpoint: &str, [height, width]: [usize; 2], folder: &Path) -> Result<(), Box<dyn Error>> {
    // The running average, if there is one; `Some(name)` takes another set of weights. True: its last class is the null class.
    let import = Import::open(Checkpoint::open(checkpoint)?, None, true)?;
    println!("{:?}", import.config());
    let path = folder.join("model.fcdm");
    let networks = Networks { fcdm: Some(&import), ..Networks::default() };
    compile(networks, &Options::new(height, width), &path, &mut Silent)?;

    let mut model = Model::open(&path)?;
    let options = fcdm_runtime::Options { class_labels: vec!["0".into()], ..Default::default() };
    let pictures = model.generate(&options, |_| ControlFlow::Continue(()))?;
    std::fs::write(folder.join("picture.png"), pictures[0].to_png(&[]))?;
    Ok(())
}
