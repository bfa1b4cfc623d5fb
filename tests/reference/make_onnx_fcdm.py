"""make_onnx_fcdm.py REFERENCE CHECKPOINT OUT.onnx: an FCDM as PyTorch exports it. REFERENCE is the folder of fcdm_torch.py, a plain
FCDM in PyTorch; CHECKPOINT a safetensors file. Two rows, 8x12."""
import sys
sys.path.insert(0, sys.argv[1])
import torch
import fcdm_torch as R
from safetensors.torch import load_file

def fused_norm(x):  # as one node
    return torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=1e-6).permute(0, 3, 1, 2)

R.channel_norm = fused_norm
m = R.FCDM.from_state_dict(load_file(sys.argv[2])).eval()
batch = 2
x = torch.randn(batch, m.cfg.in_channels, 8, 12)
args = (x, torch.full((batch,), 437, dtype=torch.int64), torch.arange(batch))
torch.onnx.export(m, args, sys.argv[3], input_names=["x", "t", "y"], output_names=["out"], opset_version=18, dynamo=False)
