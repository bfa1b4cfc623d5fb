//! Pictures from an artifact in a program of one's own: `cargo run --release --example generate -- MODEL CLASS`. Writes `0.ppm` and
//! `1.ppm`, which every viewer of pictures opens.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::generate::{Generator, Order, Seeds, Setup, jobs};

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |i: usize, what: &str| std::env::args().nth(i).ok_or_else(|| format!("expected {what}"));
    generate(&argument(1, "a model")?, &argument(2, "a class")?, Path::new("."))
}

/// Two pictures of a class, into a folder.
pub fn generate(path: &str, class: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    // `Artifact::open(path)` maps the file; this is how it goes where there are none.
    let artifact = Artifact::from_bytes(path, std::fs::read(path)?)?;
    let mut generator = Generator::new(artifact, &Setup { previews: true, ..Setup::default() })?;
    let order = Order { batch: 2, ..Order::new(generator.model())? };
    let jobs = jobs(&[generator.model().label(class)?], &Seeds::Each(vec![1, 2]), None)?;
    let pictures = generator.pictures(&order, &jobs, &mut |step| {
        let (done, all) = (step.progress.step + 1, step.progress.steps);
        // What the pictures are on the way to, for a user interface.
        let unfinished = if done == all / 2 { step.preview() } else { None };
        println!("step {done} of {all}{}", unfinished.map_or("", |_| ", half way"));
        // `Break` would end it here.
        ControlFlow::Continue(())
    })?;
    for (i, p) in pictures.ok_or("somebody broke it off")?.iter().enumerate() {
        let header = format!("P{} {} {} 255\n", if p.channels == 3 { 6 } else { 5 }, p.width, p.height);
        std::fs::write(folder.join(format!("{i}.ppm")), [header.as_bytes(), &p.pixels].concat())?;
    }
    Ok(())
}
