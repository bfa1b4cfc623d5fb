"""make_onnx_fcdm.py REFERENCE CHECKPOINT OUT: an FCDM as PyTorch exports it, at one row and at two, 8x12: OUT/fcdm1.onnx and
OUT/fcdm2.onnx, whose weights lie in OUT/fcdm.weights; and as people export it without more ado, the norm in plain ops: OUT/fcdm_plain.onnx; with
any number of rows: OUT/fcdm_batch.onnx; with extents that are all free, by the newer exporter: OUT/fcdm_free.onnx. REFERENCE is the folder of fcdm_torch.py, a plain FCDM in PyTorch;
CHECKPOINT a safetensors file."""
import os, sys
sys.path.insert(0, sys.argv[1])
import onnx, torch
import fcdm_torch as R
from safetensors.torch import load_file

def fused_norm(x):  # as one node
    return torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=1e-6).permute(0, 3, 1, 2)

def plain_norm(x):
    centred = x - x.mean(1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)

R.channel_norm = fused_norm
m = R.FCDM.from_state_dict(load_file(sys.argv[2])).eval()
weights = []
for batch in (1, 2):
    path = f"{sys.argv[3]}/fcdm{batch}.onnx"
    x = torch.randn(batch, m.cfg.in_channels, 8, 12)
    args = (x, torch.full((batch,), 437, dtype=torch.int64), torch.arange(batch))
    torch.onnx.export(m, args, path, input_names=["x", "t", "y"], output_names=["out"], opset_version=18, dynamo=False)
    model = onnx.load(path)
    shared = f"{sys.argv[3]}/fcdm.weights"
    if os.path.exists(shared):
        os.remove(shared)
    onnx.save(model, path, save_as_external_data=True, location="fcdm.weights", size_threshold=0)
    weights.append(open(shared, "rb").read())
assert weights[0] == weights[1]

def shared(model, path):
    """Values that lie in the file of weights are left there."""
    data = weights[0]
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for n in model.graph.node:
        n.doc_string = ""
        del n.metadata_props[:]
    for t in model.graph.initializer:
        raw = onnx.numpy_helper.to_array(t).tobytes()
        at = data.find(raw) if len(raw) >= 64 else -1
        if at >= 0:
            for field in ["raw_data", "float_data", "int64_data"]:
                t.ClearField(field)
            t.data_location = onnx.TensorProto.EXTERNAL
            for key, value in [("location", "fcdm.weights"), ("offset", at), ("length", len(raw))]:
                t.external_data.add(key=key, value=str(value))
    with open(path, "wb") as f:
        f.write(model.SerializeToString())

R.channel_norm = plain_norm
args = (torch.randn(2, m.cfg.in_channels, 8, 12), torch.full((2,), 437, dtype=torch.int64), torch.arange(2))
names = dict(input_names=["x", "t", "y"], output_names=["out"])
rows = {name: {0: "batch"} for name in ["x", "t", "y", "out"]}
free = torch.export.Dim.DYNAMIC
for name, options in [("plain", dict(opset_version=17, dynamo=False)), ("batch", dict(opset_version=17, dynamo=False, dynamic_axes=rows)),
                      ("free", dict(opset_version=20, dynamo=True, external_data=False, dynamic_shapes=({0: free, 2: free, 3: free}, {0: free}, {0: free})))]:
    path = f"{sys.argv[3]}/fcdm_{name}.onnx"
    torch.onnx.export(m, args, path, **names, **options)
    shared(onnx.load(path), path)
