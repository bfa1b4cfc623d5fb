//! Pictures from an artifact in a program of one's own: `cargo run --release --example generate -- MODEL CLASS`. Writes `0.png` and
//! `1.png`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use fcdm_runtime::generate::{Seeds, Setup};
use fcdm_runtime::{Model, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |i: usize, what: &str| std::env::args().nth(i).ok_or_else(|| format!("expected {what}"));
    generate(&argument(1, "a model")?, &argument(2, "a class")?, Path::new("."))
}

/// Two pictures of a class, into a folder.
pub fn generate(path: &str, class: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    // `Model::from_bytes` is how it goes where there are no files.
    let mut model = Model::open_with(path, &Setup { previews: true, ..Setup::default() })?;
    let options = Options { class_labels: vec![class.into()], seeds: Seeds::Each(vec![1, 2]), batch: 2, ..Options::default() };
    let pictures = model.generate(&options, |step| {
        let (done, all) = (step.progress.step + 1, step.progress.steps);
        // What the pictures are on the way to, for a user interface.
        let unfinished = if done == all / 2 { step.preview() } else { None };
        println!("step {done} of {all}{}", unfinished.map_or("", |_| ", half way"));
        // `Break` would end it here.
        ControlFlow::Continue(())
    })?;
    for (i, picture) in pictures.iter().enumerate() {
        std::fs::write(folder.join(format!("{i}.png")), picture.to_png(&[("Software", "mine")]))?;
    }
    Ok(())
}
