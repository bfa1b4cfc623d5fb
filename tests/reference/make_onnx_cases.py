"""make_onnx_cases.py CASES OUT: what ONNX Runtime makes of the ONNX models in ../shared/cases, as tests/cases/onnx.rs holds it against
fcdm's: OUT (safetensors), whose tensors are CASE/NAME: pictures as bytes [H,W,3], latents in ONNX's order. Needs onnxruntime, numpy, pillow and
safetensors."""
import glob, sys
import numpy as np, onnxruntime as ort
from PIL import Image
from safetensors.numpy import load_file, save_file

tensors = {}
case = lambda number: glob.glob(f"{sys.argv[1]}/{number}-*")[0]

def run(path, x):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]

def picture(number, name, latents, scale=1.0):
    y = run(f"{case(number)}/dec.onnx", load_file(f"{case(number)}/{latents}")["latents"] / np.float32(scale))
    tensors[f"{number}/{name}"] = np.clip(np.rint((y[0].transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)

for z in ["z8", "z16", "z24"]:
    picture("02", z, f"{z}.safetensors")
picture("08", "z", "z.safetensors", 0.18215)
picture("09", "z", "z.safetensors")
photo = np.asarray(Image.open(glob.glob(f"{case('07')}/photos/*/*.png")[0]).convert("RGB"), np.float32) / 127.5 - 1
moments = run(f"{case('07')}/enc.onnx", photo.transpose(2, 0, 1)[None])
mean, log = np.split(moments, 2, axis=1)
tensors["07/mean"] = mean * np.float32(0.18215)
tensors["07/std"] = np.exp(0.5 * np.clip(log, -30, 20)) * np.float32(0.18215)
x = load_file(f"{case('10')}/in.safetensors")
tensors["10/y"] = run(f"{case('10')}/m.onnx", next(iter(x.values())))
noise = np.random.default_rng(10).standard_normal((1, 4, 16, 16)).astype(np.float32)
tensors["10/latents"] = noise
y = run(f"{case('10')}/dec.onnx", noise)
tensors["10/picture"] = np.clip(np.rint((y[0].transpose(1, 2, 0) + 1) * 127.5), 0, 255).astype(np.uint8)
save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, sys.argv[2])
print({k: (v.shape, v.dtype) for k, v in tensors.items()})
