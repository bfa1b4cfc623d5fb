//! The reference evaluator against PyTorch: the network as built and after the optimising pipeline, every block.
#![allow(clippy::unwrap_used)]

mod oracle;

use fcdm_compiler::weights::WeightSource;
use fcdm_ir::eval::{Tensor, evaluate, evaluate_all};
use fcdm_ir::vjp::backward;
use fcdm_ir::{Builder, Function, Module, Value};
use fcdm_models::fcdm::import::Import;
use fcdm_models::fcdm::{Size, network, parameters};
use fcdm_passes::OPTIMISED;
use fcdm_passes::partition::Copier;
use fcdm_passes::rewrite::sweep;
use oracle::{File, NETS, channels_first, checkpoint};

fn weight(import: &Import<'_>, f: &Function, name: &str) -> Option<Tensor> {
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
        let import = Import::new(&ckpt, true).unwrap();
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
        let import = Import::new(&ckpt, true).unwrap();
        let f = network(import.config(), size(&file));
        let (m, report) = fcdm_passes::run(OPTIMISED, Module { functions: vec![f] }, &mut |_, _| {}).unwrap();
        for fused in ["fold_grn_bias", "fuse_dwconv_norm_modulate", "fuse_linear_gelu_sumsq", "fuse_scale_linear_gated_add"] {
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
        let import = Import::new(&ckpt, true).unwrap();
        let shape = &file.get("xt").shape;
        let f = network(import.config(), Size { batch: shape[0], height: shape[2], width: shape[3] });
        let list = parameters(import.config());

        let mut b = Builder::new("gradients");
        let mut copier = Copier::new(&f);
        for &v in f.inputs() {
            let new = b.input(&f.value(v).name, f.ty(v).clone());
            copier.bind(v, new);
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
