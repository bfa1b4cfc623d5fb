"""make_onnx_fcdm.py REFERENCE CHECKPOINT OUT: an FCDM as PyTorch exports it, at one row and at two, 8x12: OUT/fcdm1.onnx and
OUT/fcdm2.onnx, whose weights lie in OUT/fcdm.weights. REFERENCE is the folder of fcdm_torch.py, a plain FCDM in PyTorch;
CHECKPOINT a safetensors file."""
import os, sys
sys.path.insert(0, sys.argv[1])
import onnx, torch
import fcdm_torch as R
from safetensors.torch import load_file

def fused_norm(x):  # as one node
    return torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=1e-6).permute(0, 3, 1, 2)

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
