//! Which weights of a checkpoint are taken: averages under whatever name trainers have for them, inside of whatever wrapper.

use std::path::Path;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};

use crate::assemble::{call, dict, entry, global, integers, pickle, storage, tensor, text, tuple, zip};
use crate::process::Folder;

/// A file as a trainer writes it, of the weights under training and their average in `eps8/0000003.pt`.
struct Trained {
    model: StateDict,
    ema: StateDict,
    storages: Vec<Vec<u8>>,
}

impl Trained {
    fn new() -> Trained {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eps8/0000003.pt");
        let sets = StateDict::found(&Arc::new(Checkpoint::open(path).unwrap()), &["x_embedder.weight"]).unwrap();
        let [ema, model] = <[StateDict; 2]>::try_from(sets).ok().unwrap();
        Trained { model, ema, storages: Vec::new() }
    }

    fn tensor(&mut self, shape: &[usize], values: &[f32]) -> Vec<u8> {
        let key = self.storages.len().to_string();
        self.storages.push(values.iter().flat_map(|v| v.to_le_bytes()).collect());
        let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let strides: Vec<i64> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        tensor(storage("FloatStorage", &key, values.len() as i64), 0, &shape, &strides)
    }

    /// The pairs of a state dict, each name as `rename` has it.
    fn pairs(&mut self, average: bool, rename: impl Fn(&str) -> String) -> Vec<(String, Vec<u8>)> {
        let from = if average { self.ema.clone() } else { self.model.clone() };
        from.names().map(|n| (rename(n), self.tensor(&from.tensor(n).unwrap().shape, &from.read_f32(n).unwrap()))).collect()
    }

    fn dict(&mut self, average: bool, rename: impl Fn(&str) -> String) -> Vec<u8> {
        of(&self.pairs(average, rename))
    }

    fn file(&self, root: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut entries = vec![entry("a/data.pkl", &pickle(&dict(root))), entry("a/byteorder", b"little")];
        entries.extend(self.storages.iter().enumerate().map(|(i, bytes)| entry(&format!("a/data/{i}"), bytes)));
        zip(&entries)
    }
}

fn of(pairs: &[(String, Vec<u8>)]) -> Vec<u8> {
    dict(&pairs.iter().map(|(n, v)| (n.as_str(), v.clone())).collect::<Vec<_>>())
}

/// What `inspect` says of a file: name of the weights, their fingerprint, the other weights.
fn taken(f: &Folder, bytes: &[u8], options: &str) -> (String, String, String) {
    f.write("a.pt", bytes);
    let about = f.json(&format!("inspect a.pt {options}"));
    let text = |key: &str| about[key].as_str().unwrap().to_owned();
    (text("weights"), text("weights_xxh3"), about["other_weights"].to_string())
}

#[test]
fn averages_are_found_under_the_names_that_trainers_give_them() {
    let f = Folder::new();
    let fingerprint = |weights: &str| f.json(&format!("inspect GOLDEN/eps8/0000003.pt --weights {weights}"))["weights_xxh3"].clone();
    let (average, trained) = (fingerprint("ema"), fingerprint("model"));
    assert_ne!(average, trained);
    let same = |n: &str| n.to_owned();
    for (model, ema) in [("model", "model_ema"), ("model", "ema_state_dict"), ("state_dict", "state_dict_ema"), ("net", "net_ema")] {
        let mut t = Trained::new();
        let root = [(model, t.dict(false, same)), (ema, t.dict(true, same))];
        let file = t.file(&root);
        assert_eq!(taken(&f, &file, ""), (ema.into(), average.as_str().unwrap().into(), format!("[\"{model}\"]")));
        assert_eq!(taken(&f, &file, "--weights ema").0, ema);
        assert_eq!(taken(&f, &file, &format!("--weights {model}")).1, trained);
        assert_eq!(taken(&f, &file, "--weights model").1, trained);
    }
    // One flat list, a dict in a dict, an averaged model with its counter, names without dots.
    let mut t = Trained::new();
    let mut flat = t.pairs(false, |n| format!("online_model.{n}"));
    flat.extend(t.pairs(true, |n| format!("ema_model.{n}")));
    let file = t.file(&[("ema", of(&flat))]);
    assert_eq!(taken(&f, &file, ""), ("ema.ema_model".into(), average.as_str().unwrap().into(), "[\"ema.online_model\"]".into()));
    let mut t = Trained::new();
    let mut averaged = t.pairs(true, |n| format!("module.{n}"));
    averaged.push(("n_averaged".into(), t.tensor(&[], &[3.0])));
    let root = [("model", t.dict(false, same)), ("second", of(&averaged))];
    assert_eq!(taken(&f, &t.file(&root), "").0, "second");
    let mut t = Trained::new();
    let mut lit = t.pairs(false, |n| format!("model.{n}"));
    lit.extend(t.pairs(true, |n| format!("model_ema.{}", n.replace('.', ""))));
    let file = t.file(&[("state_dict", of(&lit))]);
    assert_eq!(taken(&f, &file, "").1, average);
}

#[test]
fn wrappers_inside_of_names_say_nothing() {
    let f = Folder::new();
    let average = f.json("inspect GOLDEN/eps8/0000003.pt")["weights_xxh3"].clone();
    for wrapper in ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"] {
        let mut t = Trained::new();
        let wrapped = |n: &str| n.replace(".dwconv.", &format!(".{wrapper}.dwconv."));
        let root = [("model", t.dict(false, wrapped)), ("ema", t.dict(true, wrapped))];
        assert_eq!(taken(&f, &t.file(&root), "").1, average, "{wrapper}");
    }
}

/// What is no weight may be anything: nothing of it is called.
#[test]
fn what_is_no_weight_is_passed_over() {
    let f = Folder::new();
    let average = f.json("inspect GOLDEN/eps8/0000003.pt")["weights_xxh3"].clone();
    let mut t = Trained::new();
    let anneal = call("__builtin__", "getattr", &[global("torch.optim.lr_scheduler", "OneCycleLR"), text("_annealing_cos")]);
    let partial = call("functools", "partial", &[global("os", "system")]);
    let scheduler = dict(&[("anneal_func", anneal), ("then", partial)]);
    let root = [("model", t.dict(false, str::to_owned)), ("ema", t.dict(true, str::to_owned)), ("scheduler", scheduler)];
    f.write("a.pt", t.file(&root));
    let text = f.ok("inspect a.pt -v");
    assert!(text.contains(&format!("weights_xxh3: {}", average.as_str().unwrap())), "{text}");
    assert!(text.contains("note: the pickle mentions `__builtin__.getattr` (byte "), "{text}");
}

#[test]
fn tensors_with_attributes_load() {
    let f = Folder::new();
    let average = f.json("inspect GOLDEN/eps8/0000003.pt")["weights_xxh3"].clone();
    let mut t = Trained::new();
    let from = t.ema.clone();
    let mut pairs = Vec::new();
    for (i, name) in from.names().enumerate() {
        let shape = &from.tensor(name).unwrap().shape;
        let plain = t.tensor(shape, &from.read_f32(name).unwrap());
        let typed = || {
            let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
            let strides: Vec<i64> = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
            let key = (t.storages.len() - 1).to_string();
            let elements = shape.iter().product::<usize>() as i64;
            let stored = [storage("FloatStorage", &key, elements), b"K\x00".to_vec(), integers(&dims), integers(&strides)];
            let inner = tuple(&[&stored[..], &[b"\x89".to_vec(), b"N".to_vec()]].concat());
            let function = global("torch._utils", "_rebuild_tensor_v2");
            let attributes = dict(&[("_is_initialized", b"\x88".to_vec())]);
            call("torch._tensor", "_rebuild_from_type_v2", &[function, global("torch", "Tensor"), inner, attributes])
        };
        pairs.push((name.to_owned(), if i % 3 == 0 { typed() } else { plain }));
    }
    assert_eq!(taken(&f, &t.file(&[("ema", of(&pairs))]), "").1, average);
}

#[test]
fn what_is_missing_or_no_tensor_is_named() {
    let f = Folder::new();
    let mut t = Trained::new();
    let mut pairs = t.pairs(true, str::to_owned);
    let at = pairs.iter().position(|(n, _)| n == "x_embedder.weight").unwrap();
    pairs[at].1 = call("somewhere", "Tensor", &[]);
    f.write("a.pt", t.file(&[("ema", of(&pairs))]));
    let line = f.fails(3, "inspect a.pt");
    assert!(line.contains("tensor `x_embedder.weight` is missing, which is an object of `somewhere.Tensor`, not a tensor"), "{line}");
    let line = f.fails(3, "inspect GOLDEN/eps8/0000003.pt --weights average");
    assert!(line.ends_with("weights `average`: expected `ema` or `model`, found none of that name"), "{line}");
    // An average that is not complete is no reason to refuse the weights that are.
    let mut t = Trained::new();
    let mut pairs = t.pairs(true, str::to_owned);
    pairs.pop();
    let root = [("model", t.dict(false, str::to_owned)), ("ema", of(&pairs))];
    f.write("a.pt", t.file(&root));
    let ran = f.run("compile a.pt -o a.fcdm --size 8x8");
    assert!(ran.code == Some(0) && ran.out.contains("weights: model of a PyTorch file\n"), "{ran:?}");
    assert!(ran.err.contains("note: weights `ema` are no FCDM: a.pt: 1 tensors of this FCDM are missing"), "{ran:?}");
}
