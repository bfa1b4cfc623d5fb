//! The reference evaluator against PyTorch: the network as built and after the optimising pipeline, every block.
#![allow(clippy::unwrap_used)]

mod oracle;

use fcdm_compiler::weights::WeightSource;
use fcdm_ir::eval::{Tensor, evaluate, evaluate_all};
use fcdm_ir::{Function, Module};
use fcdm_models::fcdm::import::Import;
use fcdm_models::fcdm::{Size, network};
use fcdm_passes::OPTIMISED;
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
