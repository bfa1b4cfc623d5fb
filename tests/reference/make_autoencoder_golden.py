"""Write the golden files of the autoencoders: python make_autoencoder_golden.py [tests/golden].

Needs torch, safetensors, numpy and pillow, and the folder `shared` beside the repository (or what FCDM_SHARED names), which has
the reference FCDM, the real weights and the photos. Same files again on the same PyTorch version.

    kl8/config.json, diffusion_pytorch_model.safetensors    a small AutoencoderKL, random weights, diffusers' layout of today
    kl8/golden.safetensors                                  its intermediates
    kl8-old/config.json, diffusion_pytorch_model.bin        the same weights as an older directory: older names of attention, its weights
                                                            as 1x1 convolutions, a configuration without a scaling factor
    taef2.safetensors                                       TAEF2's intermediates for a crop of a photo
    clothing-latent.trajectory.safetensors                  fifty Euler steps of the FCDM trained on TAEF2's latents, and their pictures

The form is that of the other golden files (`about` in manifest.json, which this script adds to): inputs and results as float32, the results
computed in float64, and in the manifest under nets.NET.files.STEM.f32 the relative L2 distance of PyTorch's float32 run. NET is `.` for
the files that lie in tests/golden itself. Results of more than LIMIT values are sampled (NAME#sample, NAME#norm). An intermediate is
named as the module that gives it: encoder.down_blocks.0, decoder.5. The trajectory's results are those of the float32 run.
"""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
SHARED = pathlib.Path(os.environ.get("FCDM_SHARED") or HERE.parents[2] / "shared")
sys.path[:0] = [str(HERE), str(SHARED / "reference")]
from autoencoder import TAESD, AutoencoderKL, Config, older_names, published_names, randomise, read_picture, traced  # noqa: E402
from fcdm_torch import FCDM                               # noqa: E402
from sampling import bind, flow_ode                       # noqa: E402

LIMIT = 4096
KL8 = Config((8, 12, 16, 24), norm_num_groups=4)          # every stage with a width and a group size of its own
PHOTO, CROP = "clothing256/dress/00.jpg", (96, 96, 64, 64)
STEPS, SCALE = 50, 2.0


class Writer:
    def __init__(self):
        self.t, self.f32 = {}, {}

    def given(self, name, v):
        self.t[name] = v.detach().contiguous().clone()

    def result(self, name, v64, v32, limit=LIMIT, stored=None):
        """Relative L2 distances to three digits; sampling as in `about`. `stored`: what to store instead of `v64`."""
        v = (v64 if stored is None else stored).detach().double()
        gap = (v32.detach().double() - v64.detach()).norm() / v64.detach().norm()
        self.f32[name] = float(f"{gap.item():.2e}")
        if v.numel() <= limit:
            self.t[name] = v.float().contiguous().clone()
        else:
            s = -(-v.numel() // 512) | 1
            self.t[name + "#sample"] = v.flatten()[::s].float().clone()
            self.t[name + "#norm"] = v.norm().view(1)

    def results(self, trace64, trace32):
        for name in trace64:
            self.result(name, trace64[name], trace32[name])

    def save(self, path):
        save_file(self.t, path)
        return {"f32": self.f32}


def twin(model):
    """The same values in float64."""
    import copy
    return copy.deepcopy(model).double()


def diffusers_config(cfg, old):
    n = len(cfg.block_out_channels)
    fields = {
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.4.2" if old else "0.32.0", "act_fn": "silu",
        "block_out_channels": list(cfg.block_out_channels), "down_block_types": ["DownEncoderBlock2D"] * n, "in_channels": cfg.in_channels,
        "latent_channels": cfg.latent_channels, "layers_per_block": cfg.layers_per_block, "norm_num_groups": cfg.norm_num_groups,
        "out_channels": cfg.out_channels, "sample_size": 64, "up_block_types": ["UpDecoderBlock2D"] * n}
    if not old:
        fields |= {
            "force_upcast": True, "latents_mean": None, "latents_std": None, "mid_block_add_attention": cfg.mid_block_add_attention,
            "scaling_factor": cfg.scaling_factor, "shift_factor": None, "use_post_quant_conv": cfg.use_post_quant_conv, "use_quant_conv": cfg.use_quant_conv}
    return json.dumps(dict(sorted(fields.items())), indent=2) + "\n"


def save_directory(model, folder, old=False):
    """A directory in diffusers' layout."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(diffusers_config(model.cfg, old))
    sd = {k: v.contiguous().clone() for k, v in sorted(model.state_dict().items())}
    if old:
        torch.save({k: v.contiguous() for k, v in older_names(sd).items()}, folder / "diffusion_pytorch_model.bin")
    else:
        save_file(sd, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def kl_model():
    """One log-variance channel lies about the lower bound of its clamp."""
    m = randomise(AutoencoderKL(KL8), 81)
    with torch.no_grad():
        m.quant_conv.bias[2 * KL8.latent_channels - 1] = -30.0
    return m.eval()


def kl_golden(out):
    m = kl_model()
    save_directory(m, out / "kl8")
    save_directory(m, out / "kl8-old", old=True)
    g = torch.Generator().manual_seed(82)
    w = Writer()
    picture = torch.rand(1, 3, 64, 48, generator=g) * 2 - 1
    noise = torch.randn(1, KL8.latent_channels, 8, 6, generator=g)
    w.given("picture", picture)
    w.given("noise", noise)
    runs = []
    latents = m.encode(picture).sample(noise)
    w.given("latents", latents)
    for net, dtype in ((m, torch.float32), (twin(m), torch.float64)):
        with traced(net) as trace:
            p = net.encode(picture.to(dtype))
            trace |= {"mean": p.mean, "logvar": p.logvar, "std": p.std, "sample": p.sample(noise.to(dtype))}
            net.decode(latents.to(dtype))
        runs.append(trace)
    w.results(runs[1], runs[0])
    full = runs[1]["decoder.conv_out"]
    w.result("reconstruction", full, runs[0]["decoder.conv_out"], limit=full.numel())
    entry = w.save(out / "kl8" / "golden.safetensors")
    return {"config": dataclasses.asdict(KL8), "parameters": sum(p.numel() for p in m.parameters()), "files": {"golden": entry}}


def taef2():
    return TAESD.open(*published_names(SHARED / "data" / "taef2")).eval()


def taef2_golden(out):
    m = taef2()
    top, left, h, wd = CROP
    w = Writer()
    picture = read_picture(SHARED / "data" / PHOTO)[:, :, top:top + h, left:left + wd].contiguous()
    latents = m.encode(picture)
    w.given("picture", picture)
    w.given("latents", latents)
    runs = []
    for net, dtype in ((m, torch.float32), (twin(m), torch.float64)):
        with traced(net) as trace:
            net.encode(picture.to(dtype))
            trace["reconstruction"] = net.decode(latents.to(dtype))
        runs.append(trace)
    w.results({k: v for k, v in runs[1].items() if k != "reconstruction"}, runs[0])
    w.result("reconstruction", runs[1]["reconstruction"], runs[0]["reconstruction"], limit=10**9)
    return w.save(out / "taef2.safetensors")


def fcdm():
    import argparse
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = torch.load(SHARED / "data/checkpoints/clothing-latent.pt", map_location="cpu", weights_only=True)
    return FCDM.from_state_dict(checkpoint["ema"]).eval()


def trajectory_golden(out):
    net, decoder = fcdm(), taef2()
    channels = net.cfg.in_channels
    g = torch.Generator().manual_seed(83)
    noise = torch.randn(4, channels, 16, 16, generator=g)
    y = torch.tensor([0, 3, 4, 6])                        # dress, outwear, pants, shoes
    w = Writer()
    w.given("noise", noise)
    w.given("y", y)
    net64, decoder64 = twin(net), twin(decoder)
    for name, guided in (("all", channels), ("first3", 3)):
        ends, pictures = [], []
        for n, d, dtype in ((net, decoder, torch.float32), (net64, decoder64, torch.float64)):
            ends.append(flow_ode(bind(n, y, SCALE, guided), noise.to(dtype), STEPS)[-1])
            pictures.append(d.decode(ends[-1]))
        w.result(f"cfg2.{name}.latents", ends[1], ends[0], limit=10**9, stored=ends[0])
        w.result(f"cfg2.{name}.picture", pictures[1], pictures[0], limit=10**9 if name == "all" else LIMIT, stored=pictures[0])
        bytes32, bytes64 = ((255 * p).round().to(torch.uint8) for p in pictures)
        w.given(f"cfg2.{name}.picture_u8", bytes32)
        off = (bytes32.int() - bytes64.int()).abs()
        print(f"  {name}: {int((off > 0).sum())} of {off.numel()} bytes differ from the float64 run's, by at most {int(off.max())}")
    return w.save(out / "clothing-latent.trajectory.safetensors")


@torch.no_grad()
def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "golden"
    torch.set_num_threads(1)      # repeatable
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["about_autoencoders"] = __doc__
    manifest["nets"]["kl8"] = kl_golden(out)
    manifest["nets"]["."] = {"files": {"taef2": taef2_golden(out), "clothing-latent.trajectory": trajectory_golden(out)}}
    path.write_text(json.dumps(manifest, separators=(",", ":")))


if __name__ == "__main__":
    main()
