//! The reference evaluator against PyTorch: the network as built and after the optimising pipeline, every block.
#![allow(clippy::unwrap_used)]

mod oracle;

use fcdm_compiler::weights::WeightSource;
use fcdm_ir::eval::{Tensor, evaluate, evaluate_all};
use fcdm_ir::flow::Copier;
use fcdm_ir::flow::sweep;
use fcdm_ir::vjp::backward;
use fcdm_ir::{Builder, Function, Module, Value};
use fcdm_models::fcdm::Import;
use fcdm_models::fcdm::{Size, network, parameters};
use fcdm_passes::OPTIMISED;
use fcdm_runtime::sampler::{GivenNoise, Guidance, Layout, Sampler};
use oracle::{File, NETS, channels_first, checkpoint};

fn weight(import: &Import, f: &Function, name: &str) -> Option<Tensor> {
    let (_, data) = f.weights().find(|(_, d)| d.name == name)?;
    let values = import.load(name).ok()?.into_iter().map(f64::from).collect();
    Some(Tensor::from_shape_vec(data.ty.shape.clone(), values).unwrap())
}

fn size(file: &File) -> Size {
    let shape = &file.get("x").shape;
    Size { batch: shape[0], height: shape[2], width: shape[3] }
}

fn inputs(file: &File) -> [Tensor; 3] {
    [file.get("x").channels_last().tensor(), file.get("t").tensor(), file.get("y").tensor()]
}

fn flat(t: &Tensor) -> Vec<f64> {
    channels_first(&t.iter().copied().collect::<Vec<_>>(), t.shape())
}

#[test]
fn every_block_of_the_network() {
    for net in NETS {
        let (file, ckpt) = (File::open(net, "forward"), checkpoint(net));
        let import = Import::new(ckpt, true).unwrap();
        let f = network(import.config(), size(&file));
        let all = evaluate_all(&f, &inputs(&file), &mut |name| weight(&import, &f, name)).unwrap();
        let mut seen = 0;
        for name in file.results().filter(|n| !n.starts_with("cfg.")) {
            let v = f.result(name).or_else(|| f.values().find(|(_, d)| d.name == name).map(|(v, _)| v));
            let v = v.unwrap_or_else(|| panic!("the network has no value `{name}`"));
            file.check(name, &flat(&all[v.index()]), "evaluator");
            seen += 1;
        }
        assert!(seen >= 16, "{net}: only {seen} results were compared");
    }
}

#[test]
fn the_optimised_functions_mean_the_same() {
    for net in NETS {
        let (file, ckpt) = (File::open(net, "forward"), checkpoint(net));
        let import = Import::new(ckpt, true).unwrap();
        let f = network(import.config(), size(&file));
        let (m, report) = fcdm_passes::run(OPTIMISED, Module { functions: vec![f] }, &mut |_, _| {}).unwrap();
        for fused in [
            "fold_grn_bias",
            "fuse_dwconv_norm_modulate",
            "fuse_linear_gelu_sumsq",
            "fuse_scale_linear_gated_add",
            "fuse_concat_linear",
            "fuse_conv_shuffle",
        ] {
            assert!(report.runs.iter().any(|r| r.pass == fused && r.fired), "{net}: `{fused}` did not fire");
        }
        let [x, t, y] = inputs(&file);
        let folded = m.function(Module::WEIGHTS).unwrap();
        let derived = evaluate(folded, &[], &mut |n| weight(&import, folded, n)).unwrap();
        let known = |f: &Function, name: &str| match folded.results().iter().position(|(n, _)| n == name) {
            Some(i) => Some(derived[i].clone()),
            None => weight(&import, f, name),
        };
        let condition = m.function("condition").unwrap();
        let rows = evaluate(condition, &[t, y], &mut |n| known(condition, n)).unwrap();
        let denoise = m.function("denoise").unwrap();
        let arguments: Vec<Tensor> = denoise
            .inputs()
            .iter()
            .map(|&v| {
                let name = &denoise.value(v).name;
                condition.results().iter().position(|(n, _)| n == name).map_or_else(|| x.clone(), |i| rows[i].clone())
            })
            .collect();
        let out = evaluate(denoise, &arguments, &mut |n| known(denoise, n)).unwrap();
        file.check("output", &flat(&out[0]), "evaluator, optimised");
    }
}

/// The gradients of the training losses in input and every parameter, from the loss's gradient in the output.
#[test]
fn gradients_of_the_whole_network() {
    for net in NETS {
        let (file, ckpt) = (File::open(net, "loss"), checkpoint(net));
        let import = Import::new(ckpt, true).unwrap();
        let shape = &file.get("xt").shape;
        let f = network(import.config(), Size { batch: shape[0], height: shape[2], width: shape[3] });
        let list = parameters(import.config());

        let mut b = Builder::new("gradients");
        let mut copier = Copier::new(&f);
        for &v in f.inputs() {
            copier.input(&mut b, v);
        }
        let x = copier.copy(&mut b, f.inputs()[0]);
        let out = copier.copy(&mut b, f.results()[0].1);
        let dout = b.input("grad_output", f.ty(f.results()[0].1).clone());
        let mut wrt: Vec<Value> = vec![x];
        wrt.extend(list.iter().map(|p| b.weight(&p.name, p.ty())));
        let grads = backward(&mut b, &[(out, dout)], &wrt);
        let names = std::iter::once("input").chain(list.iter().map(|p| p.name.as_str()));
        let results = names.zip(grads).map(|(n, g)| (n.to_owned(), g.unwrap())).collect();
        let g = sweep(&b.finish(results));

        let inputs = [
            file.get("xt").channels_last().tensor(),
            file.get("t").tensor(),
            file.get("y").tensor(),
            file.get("grad_output").channels_last().tensor(),
        ];
        let all = evaluate(&g, &inputs, &mut |name| weight(&import, &g, name)).unwrap();
        file.check("grad_input", &flat(&all[0]), "evaluator");
        for (p, grad) in list.iter().zip(&all[1..]) {
            // The layout's inverse is defined on f32; positions are moved through it instead of values.
            let places = p.to_checkpoint((0..p.count()).map(|i| i as f32).collect());
            let values: Vec<f64> = grad.iter().copied().collect();
            let ordered: Vec<f64> = places.iter().map(|&i| values[i as usize]).collect();
            file.check(&format!("grad.{}", p.name), &ordered, "evaluator");
        }
    }
}

/// The network on the evaluator, with guidance: `x [n,H,W,C]` at one time for each row.
struct Guided<'a> {
    f: Function,
    import: &'a Import,
    y: Vec<i32>,
    guidance: Guidance,
}

impl Guided<'_> {
    fn evaluate(&self, x: &[f32], t: &[f64], y: &[i32]) -> Vec<f32> {
        let shape = &self.f.ty(self.f.inputs()[0]).shape;
        let x = Tensor::from_shape_vec(shape.clone(), x.iter().map(|&v| f64::from(v)).collect()).unwrap();
        let t = Tensor::from_shape_vec(vec![t.len()], t.to_vec()).unwrap();
        let y = Tensor::from_shape_vec(vec![y.len()], y.iter().map(|&v| f64::from(v)).collect()).unwrap();
        let out = evaluate(&self.f, &[x, t, y], &mut |name| weight(self.import, &self.f, name)).unwrap();
        out[0].iter().map(|&v| v as f32).collect()
    }

    fn guided(&self, x: &[f32], t: &[f64]) -> Vec<f32> {
        let c = self.import.config();
        let mut out = self.evaluate(x, t, &self.y);
        if self.guidance.scale != 1.0 {
            let null = self.evaluate(x, t, &vec![c.num_classes as i32; self.y.len()]);
            self.guidance.combine(&mut out, &null, c.in_channels, c.out_channels());
        }
        out
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn guided_outputs() {
    for net in NETS {
        let (file, ckpt) = (File::open(net, "forward"), checkpoint(net));
        let import = Import::new(ckpt, true).unwrap();
        for name in file.results().filter(|n| n.starts_with("cfg.")) {
            let f = network(import.config(), size(&file));
            let shape = f.ty(f.results()[0].1).shape.clone();
            let net = Guided { f, import: &import, y: file.get("cfg.y").i32(), guidance: oracle::guidance(name) };
            let out = net.guided(&file.get("x").channels_last().f32(), &file.get("t").values);
            file.check(name, &channels_first(&wide(&out), &shape), "evaluator");
        }
    }
}

#[test]
fn every_trajectory() {
    for net in ["eps8", "flow16"] {
        let (file, ckpt) = (File::open(net, "sample"), checkpoint(net));
        let import = Import::new(ckpt, true).unwrap();
        let (c, start) = (import.config(), file.get("start"));
        let [n, channels, height, width] = start.shape[..] else { panic!("four axes") };
        let layout = Layout { states: n, positions: height * width, channels, out_channels: c.out_channels() };
        for name in file.results() {
            let (method, guidance, whole) = oracle::method(name);
            let net = Guided { f: network(c, Size { batch: n, height, width }), import: &import, y: file.get("y").i32(), guidance };
            let mut denoise = |x: &[f32], _: usize, t: f64, out: &mut [f32]| out.copy_from_slice(&net.guided(x, &vec![t; n]));
            let mut noise = GivenNoise::new(file.get("noise").channels_last().f32());
            let mut sampler = Sampler::new(method, layout).unwrap();
            let (mut states, mut trajectory) = (start.channels_last().f32(), Vec::new());
            let shape = [n, height, width, channels];
            for k in 0..sampler.steps() {
                sampler.step(k, &mut states, &mut denoise, &mut noise);
                trajectory.extend(channels_first(&wide(&states), &shape));
            }
            let values = if whole { trajectory } else { channels_first(&wide(&states), &shape) };
            file.check(name, &values, "evaluator");
        }
    }
}
