//! Real files: read to the bit.

use std::io::Write;

use fcdm_compiler::checkpoint::{ElementType, Format, StateDict, count_nonfinite};

use crate::{golden, weights};

#[test]
fn a_torch_checkpoint_equals_its_safetensors_twin() {
    let pt = weights(&golden("eps8/0000003.pt"), "ema");
    let twin = weights(&golden("eps8/0000003.safetensors"), "all");
    assert_eq!((pt.format(), pt.name()), (Format::Torch, "ema"));
    assert_eq!((twin.format(), twin.name()), (Format::Safetensors, "all"));
    assert_eq!(pt.notes().collect::<Vec<_>>(), [""; 0]);
    let (mut a, mut b): (Vec<_>, Vec<_>) = (pt.names().collect(), twin.names().collect());
    assert_eq!(a[0], "t_embedder_1.mlp.0.weight", "names come in the file's order");
    a.sort();
    b.sort();
    assert_eq!(a, b);
    for name in a {
        assert_eq!(pt.tensor(name), twin.tensor(name), "{name}");
        let bits = |c: &StateDict| c.read_f32(name).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&pt), bits(&twin), "{name}");
    }
}

#[test]
fn model_and_ema_are_told_apart_and_arguments_are_read() {
    let model = weights(&golden("eps8/0000003.pt"), "model");
    let ema = weights(&golden("eps8/0000003.pt"), "ema");
    assert_eq!((model.name(), ema.name()), ("model", "ema"));
    assert_eq!(model.names().len(), ema.names().len());
    let name = "final_layer.conv.weight";
    assert_ne!(model.read_f32(name).unwrap(), ema.read_f32(name).unwrap());
    assert_eq!(ema.tensor(name).unwrap().shape, [8, 8, 3, 3]);
    let arguments = ema.checkpoint().arguments();
    assert_eq!(arguments["model"], "\"FCDM-tiny\"");
    assert_eq!(arguments["num_classes"], "10");
    assert_eq!(arguments["vae_scaling_factor"], "0.18215");
    assert_eq!(arguments["zarr_path"], "null");
    assert_eq!(ema.checkpoint().optimizer_step(), Some(3));
    let error = ema.read_f32("nonsense").unwrap_err().to_string();
    let count = ema.names().len();
    assert!(error.ends_with(&format!("tensor `nonsense`: expected among the ema weights, found {count} tensors without it")));
}

#[test]
fn half_precision_weights_are_widened() {
    for (file, dtype) in [("flow16", ElementType::BF16), ("wide20", ElementType::F16)] {
        let path = golden(&format!("{file}/weights.safetensors"));
        let checkpoint = weights(&path, "all");
        let bytes = std::fs::read(&path).unwrap();
        let raw = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(checkpoint.names().len(), raw.len());
        for name in checkpoint.names() {
            assert_eq!(checkpoint.tensor(name).unwrap().dtype, dtype);
            let widen = |b: &[u8]| match dtype {
                ElementType::BF16 => half::bf16::from_le_bytes([b[0], b[1]]).to_f32(),
                _ => half::f16::from_le_bytes([b[0], b[1]]).to_f32(),
            };
            let expected: Vec<f32> = raw.tensor(name).unwrap().data().chunks_exact(2).map(widen).collect();
            let values = checkpoint.read_f32(name).unwrap();
            assert_eq!(values, expected, "{name}");
            assert_eq!(count_nonfinite(&values), 0);
        }
    }
}

#[test]
fn a_trained_checkpoint_is_read() {
    let path = golden("../../../shared/data/checkpoints/clothing-pixel.pt");
    if !path.exists() {
        // Written past the test harness, which would swallow it.
        writeln!(std::io::stderr(), "SKIPPED a_trained_checkpoint_is_read: none at {}", path.display()).unwrap();
        return;
    }
    let checkpoint = weights(&path, "ema");
    assert_eq!(checkpoint.checkpoint().arguments()["depth"], "[1, 1, 2, 1, 1]");
    assert_eq!(checkpoint.checkpoint().arguments()["in_channels"], "3");
    assert!(checkpoint.checkpoint().optimizer_step().is_some_and(|step| step > 0));
    for name in checkpoint.names() {
        let values = checkpoint.read_f32(name).unwrap();
        assert_eq!(values.len(), checkpoint.tensor(name).unwrap().shape.iter().product::<usize>());
        assert_eq!(count_nonfinite(&values), 0, "{name}");
    }
}
