"""make_onnx_autoencoders.py OUT: halves of autoencoders as people export them, small, with what ONNX Runtime makes of them:
OUT/NAME.onnx and OUT/expected.safetensors. Needs onnx, onnxruntime, torch, diffusers, numpy and safetensors; seeded.

    decoder.onnx    diffusers' AutoencoderKL of width 4 by PyTorch's exporter, height and width dynamic; its attention adds to a
                    table as large as the scores, which the exporter folds to constants that follow from the size
    encoder.onnx    the same one's encoder and quant_conv: `latent_parameters`, as Optimum names them, axes all dynamic
    others          a convolution or two, for every way in which halves differ: what is fixed, and what the outputs are

Tensors: NAME.HxW/in and /out.0, /out.1 .. in ONNX's order."""
import os, sys
import numpy as np, onnx, onnxruntime as ort, torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from safetensors.numpy import save_file

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)
rng = np.random.default_rng(11)
torch.manual_seed(11)
tensors = {}
values = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32)

def run(name, channels, *sizes):
    session = ort.InferenceSession(f"{OUT}/{name}.onnx", providers=["CPUExecutionProvider"])
    for height, width in sizes:
        x = values(1, channels, height, width)
        key = f"{name}.{height}x{width}"
        tensors[f"{key}/in"] = x
        for i, y in enumerate(session.run(None, {session.get_inputs()[0].name: x})):
            tensors[f"{key}/out.{i}"] = y

# --- by PyTorch
vae = AutoencoderKL(block_out_channels=(4, 4), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                    norm_num_groups=2, layers_per_block=1, latent_channels=4, scaling_factor=0.5).eval()
vae.set_attn_processor(AttnProcessor())
with torch.no_grad():
    for p in vae.parameters():
        p.copy_(torch.randn_like(p) * 0.2)

class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.v = vae
    def forward(self, latent_sample):
        return self.v.decode(latent_sample).sample

class Encoder(Decoder):
    def forward(self, sample):
        return self.v.encode(sample).latent_dist.parameters

def slim(path):
    """Without what only tells where nodes came from."""
    m = onnx.load(path)
    del m.graph.value_info[:]
    del m.metadata_props[:]
    for n in m.graph.node:
        n.doc_string = ""
        del n.metadata_props[:]
    for t in m.graph.initializer:
        t.doc_string = ""
    onnx.save(m, path)

size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
torch.onnx.export(Decoder().eval(), (torch.randn(1, 4, 10, 6),), f"{OUT}/decoder.onnx", input_names=["latent_sample"], dynamo=True,
                  opset_version=20, dynamic_shapes=({0: torch.export.Dim.STATIC, **size},), external_data=False)
slim(f"{OUT}/decoder.onnx")
axes = dict(enumerate(["batch_size", "num_channels", "height", "width"]))
torch.onnx.export(Encoder().eval(), (torch.randn(1, 3, 16, 12),), f"{OUT}/encoder.onnx", input_names=["sample"], dynamo=False, opset_version=14,
                  output_names=["latent_parameters"], dynamic_axes={"sample": axes, "latent_parameters": axes})
slim(f"{OUT}/encoder.onnx")
run("decoder", 4, (5, 7), (8, 8), (16, 16), (20, 24))
run("encoder", 3, (16, 12), (32, 24))

# --- by hand
def model(name, nodes, x, outputs, consts, opset=17):
    """nodes: (op, inputs, outputs, attributes); x: name and extents; outputs: names."""
    nodes = [h.make_node(op, i.split(" "), o.split(), name=f"{name}_{k}", **a) for k, (op, i, o, a) in enumerate(nodes)]
    g = h.make_graph(nodes, name, [h.make_tensor_value_info(x[0], T.FLOAT, x[1])], [h.make_tensor_value_info(o, T.FLOAT, None) for o in outputs],
                     [nh.from_array(np.asarray(v), n) for n, v in consts.items()])
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid("", opset)], ir_version=8, producer_name="fcdm"), f"{OUT}/{name}.onnx")

def decoder(name, extents, latents=4):
    """Twice as large, by a convolution behind a factor."""
    model(name, [("Mul", "z c", "m", {}), ("Conv", "m w b", "f", dict(pads=[1, 1, 1, 1])), ("Resize", "f  s", "picture", dict(mode="nearest"))],
          ("z", extents), ["picture"], {"c": np.float32(0.5), "w": values(3, latents, 3, 3), "b": values(3), "s": np.array([1, 1, 2, 2], np.float32)})

def encoder(name, channels, outputs, *tail, extents=(1, 3, "h", "w")):
    """Half as large, by a convolution to `f`, of which `tail` makes the outputs."""
    model(name, [("Conv", "x w b", "f" if tail else outputs[0], dict(strides=[2, 2])), *tail], ("x", extents), outputs,
          {"w": values(channels, 3, 2, 2), "b": values(channels)})

half = lambda *names: ("Split", "f", " ".join(names), dict(axis=1))
decoder("decoder_all_dynamic", ["n", "c", "h", "w"])
run("decoder_all_dynamic", 4, (6, 5))
decoder("decoder_static", [1, 4, 6, 5])
run("decoder_static", 4, (6, 5))
decoder("decoder_static_height", [1, 4, 6, "w"])
decoder("decoder_static_batch", [2, 4, 6, 5])
decoder("decoder_of_three_channels", [1, 3, "h", "w"], latents=3)
encoder("encoder_static", 4, ["latent"], extents=[1, 3, 12, 10])
run("encoder_static", 3, (12, 10))
encoder("encoder_moments", 8, ["moments"])
encoder("encoder_mean", 8, ["latent_mean"])
encoder("encoder_unsaid", 8, ["out"])
encoder("encoder_odd_moments", 7, ["latent_parameters"])
encoder("encoder_first_half", 16, ["out"], half("out", "rest"))
encoder("encoder_mean_logvar", 8, ["mean", "logvar"], half("mean", "logvar"))
encoder("encoder_std_mean", 8, ["latent_std", "latent_mean"], half("latent_mean", "latent_std"))
encoder("encoder_moments_and_mode", 8, ["mode", "moments"], half("mode", "rest"), ("Identity", "f", "moments", {}))
encoder("encoder_two_unsaid", 8, ["first", "second"], half("first", "second"))
encoder("encoder_that_samples", 8, ["latent_sample"], half("mean", "logvar"), ("RandomNormalLike", "mean", "noise", {}), ("Exp", "logvar", "std", {}),
        ("Mul", "noise std", "n", {}), ("Add", "mean n", "latent_sample", {}))
for name in ["moments", "mean_logvar", "std_mean", "moments_and_mode", "first_half"]:
    run(f"encoder_{name}", 3, (12, 10))
# A table of positions that follows from the size, of which the same values stand under one name at every size where they are the same.
model("decoder_positions", [("Conv", "z w b", "f", dict(pads=[1, 1, 1, 1])), ("Shape", "f", "height", dict(start=2, end=3)), ("Shape", "f", "width", dict(start=3)),
      ("Squeeze", "height", "rows", {}), ("Range", "zero rows one", "r", {}), ("Cast", "r", "p", dict(to=T.FLOAT)), ("Div", "p ten", "q", {}),
      ("Unsqueeze", "q last", "column", {}), ("Add", "f column", "g", {}), ("Concat", "width k", "wide", dict(axis=0)), ("Expand", "scale wide", "e", {}),
      ("Transpose", "e", "row", dict(perm=[1, 0])), ("Mul", "g row", "m", {}), ("Resize", "m  s", "picture", dict(mode="nearest"))],
      ("z", [1, 4, "h", "w"]), ["picture"],
      {"w": values(3, 4, 3, 3), "b": values(3), "zero": np.array(0), "one": np.array(1), "ten": np.float32(10), "last": np.array([1]), "k": np.array([1]),
       "scale": values(1, 1), "s": np.array([1, 1, 2, 2], np.float32)})
run("decoder_positions", 4, (5, 7), (20, 18))
save_file(tensors, f"{OUT}/expected.safetensors")
print({f: os.path.getsize(f"{OUT}/{f}") for f in sorted(os.listdir(OUT))})
