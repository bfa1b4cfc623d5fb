//! `run` and `generate --noise` against PyTorch's golden files.

use crate::oracle::{File, NETS};
use crate::process::{Folder, Tensors, tensor};

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn run_gives_pytorchs_outputs() {
    for net in NETS {
        let f = Folder::new();
        let file = File::open(net, "forward");
        let (x, t, y) = (file.get("x"), file.get("t"), file.get("y"));
        f.ok(&format!("compile GOLDEN/{net}/weights.safetensors -o a.fcdm --size {}x{}", x.shape[2], x.shape[3]));
        let y_i64: Vec<i64> = y.values.iter().map(|&v| v as i64).collect();
        let t_i64: Vec<i64> = t.values.iter().map(|&v| v as i64).collect();
        let image = Tensors::default().f32("x", &x.shape, &x.f32());
        f.write("floats.safetensors", image.f32("t", &[3], &t.f32()).f32("y", &[3], &y.f32()).bytes());
        let image = Tensors::default().f32("x", &x.shape, &x.f32());
        // A flow's times are fractions.
        let image = if net == "flow16" { image.f32("t", &[3], &t.f32()) } else { image.i64("t", &[3], &t_i64) };
        f.write("integers.safetensors", image.i64("y", &[3], &y_i64).bytes());
        for kind in ["floats", "integers"] {
            let said = f.json(&format!("run a.fcdm --inputs {kind}.safetensors --outputs {kind}.out -t 2"));
            assert_eq!(said["outputs"], format!("{kind}.out"));
            let (shape, values) = tensor(&f.bytes(&format!("{kind}.out")), "output");
            assert_eq!(serde_json::json!(shape), said["shape"]);
            file.check("output", &wide(&values), "fcdm run");
        }
        assert!(f.bytes("floats.out") == f.bytes("integers.out"));
    }
}

/// Golden results by the command lines that make them.
const TRAJECTORIES: [(&str, &[(&str, &str)]); 2] = [
    (
        "eps8",
        &[
            ("ddpm10.cfg1.states", "--steps 10 --ddpm --cfg-scale 1"),
            ("ddpm10.cfg4.states", "--steps 10 --ddpm --cfg-scale 4"),
            ("ddpm7.final", "--steps 7 --ddpm --cfg-scale 1"),
            ("ddim10.cfg1.states", "--steps 10 --cfg-scale 1"),
            ("ddim10.cfg4.states", "--steps 10 --cfg-scale 4"),
            ("ddim10.cfg4.channels4.final", "--steps 10 --cfg-scale 4 --cfg-channels all"),
            ("ddim10.eta0.7.final", "--steps 10 --cfg-scale 1 --eta 0.7"),
            ("ddim10.strided.final", "--steps ddim10 --cfg-scale 1"),
        ],
    ),
    (
        "flow16",
        &[
            ("ode10.cfg1.states", "--steps 10 --cfg-scale 1"),
            ("ode10.cfg4.states", "--steps 10 --cfg-scale 4"),
            ("ode10.heun.final", "--steps 10 --sampler heun --cfg-scale 1"),
            ("sde10.cfg1.states", "--steps 10 --sampler sde --cfg-scale 1"),
            ("sde10.cfg4.states", "--steps 10 --sampler sde --cfg-scale 4"),
            ("sde10.heun.final", "--steps 10 --sampler sde --sde-solver heun --cfg-scale 1"),
            ("sde10.last_euler.final", "--steps 10 --sampler sde --last-step Euler --cfg-scale 1"),
            ("sde10.last_tweedie.final", "--steps 10 --sampler sde --last-step Tweedie --cfg-scale 1"),
            ("sde10.last_none.final", "--steps 10 --sampler sde --last-step none --cfg-scale 1"),
            ("sde10.constant.final", "--steps 10 --sampler sde --diffusion-form constant --cfg-scale 1"),
            ("sde10.decreasing.final", "--steps 10 --sampler sde --diffusion-form decreasing --cfg-scale 1"),
            ("sde10.increasing-decreasing.final", "--steps 10 --sampler sde --diffusion-form increasing-decreasing --cfg-scale 1"),
        ],
    ),
];

#[test]
fn given_noise_gives_pytorchs_trajectories() {
    for (net, results) in TRAJECTORIES {
        let f = Folder::new();
        let file = File::open(net, "sample");
        assert_eq!(file.results().count(), results.len());
        let (start, noise) = (file.get("start"), file.get("noise"));
        let labels: Vec<String> = file.get("y").i32().iter().map(i32::to_string).collect();
        f.ok(&format!("compile GOLDEN/{net}/weights.safetensors -o a.fcdm --size {}x{}", start.shape[2], start.shape[3]));
        let given = Tensors::default().f32("noise", &start.shape, &start.f32()).f32("step_noise", &noise.shape, &noise.f32());
        f.write("noise.safetensors", given.bytes());
        for (name, options) in results {
            for batch in 1..=labels.len() {
                let line = format!(
                    "generate a.fcdm -c {} -b {batch} --noise noise.safetensors --save-latents l.safetensors -o o --force",
                    labels.join(",")
                );
                f.ok(&format!("{line} {options}"));
                let (shape, values) = tensor(&f.bytes("l.safetensors"), "latents");
                assert_eq!(shape, start.shape);
                file.check_end(name, &wide(&values), &format!("batch {batch}"));
            }
        }
        if net == "flow16" {
            // No seed made it, so the name has none.
            let label = &labels[0];
            assert!(f.path(&format!("o/000000-class{label}.png")).exists());
        }
    }
}

/// Relative L2 distance of the whole network from PyTorch's f64 run, weights being rounded: at most 1 % for bf16, of 8 bits, where one
/// product alone is off by 0.2 %, and an eighth of that for f16, of 11; of whole numbers what 8, 6 and 4 bits of a row's range are off by,
/// uncalibrated.
#[test]
fn half_weights_stay_close() {
    let mut worst = 0.0f64;
    for net in NETS {
        let f = Folder::new();
        let file = File::open(net, "forward");
        let (x, t, y, want) = (file.get("x"), file.get("t"), file.get("y"), file.get("output"));
        let image = Tensors::default().f32("x", &x.shape, &x.f32());
        f.write("in.safetensors", image.f32("t", &[3], &t.f32()).f32("y", &[3], &y.f32()).bytes());
        for (precision, most) in [("bf16", 1.2e-2), ("f16", 1.5e-3), ("i8", 2e-2), ("w8a8", 3e-2), ("i6", 8e-2), ("i4", 0.3)] {
            let size = format!("{}x{}", x.shape[2], x.shape[3]);
            f.ok(&format!("compile GOLDEN/{net}/weights.safetensors -o a.fcdm --size {size} --precision {precision}"));
            f.ok("run a.fcdm --inputs in.safetensors --outputs out -t 2");
            let (_, values) = tensor(&f.bytes("out"), "output");
            let square = |d: f64| d * d;
            let off: f64 = values.iter().zip(&want.values).map(|(&a, &b)| square(f64::from(a) - b)).sum();
            let all: f64 = want.values.iter().map(|&b| square(b)).sum();
            let distance = (off / all).sqrt();
            println!("{net} {precision}: {distance:.2e}");
            assert!(distance < most, "{net} {precision}: {distance:e}");
            worst = worst.max(distance);
        }
    }
    // Of one network the weights are bf16 already.
    assert!(worst > 1e-5, "{worst:e}: nothing was rounded");
}
