"""Autoencoders in PyTorch: a plain reference ("oracle") for the TAESD family and for diffusers' AutoencoderKL.

Made for checking other implementations, not for speed, and written from descriptions of the two networks, not from their code.
Works in float32 or float64 (`model.double()`). Module names are those of published weight files, so that the name of a
module is the name of its output: inside `with traced(model) as trace:` every block's output lands in `trace` under it.

Pictures are [N,3,H,W]: in [0,1] for TAESD, in [-1,1] for AutoencoderKL.
"""
from __future__ import annotations

import contextlib
import json
import pathlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

# --------------------------------------------------------------------------- TAESD

TAESD_WIDTH = 64
POOL_WIDENING = 4       # the pool branch is this much wider than its block, and has as many groups
BLOCK, CONV, DOWN, UP, RELU, CLAMP = "block", "conv", "down", "up", "relu", "clamp"
ENCODER = (CONV, BLOCK, DOWN, *[BLOCK] * 3, DOWN, *[BLOCK] * 3, DOWN, *[BLOCK] * 3, CONV)
DECODER = (CLAMP, CONV, RELU, *[BLOCK] * 3, UP, DOWN, *[BLOCK] * 3, UP, DOWN, *[BLOCK] * 3, UP, DOWN, BLOCK, CONV)


class SoftClamp(nn.Module):
    """Latents into (-3, 3)."""

    def forward(self, x):
        return torch.tanh(x / 3) * 3


class TinyBlock(nn.Module):
    def __init__(self, cin, cout, pool):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(), nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU(), nn.Conv2d(cout, cout, 3, padding=1))
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1, bias=False)
        wide = POOL_WIDENING * cin
        self.pool = nn.Sequential(
            nn.Conv2d(cin, wide, 1, bias=False), nn.GroupNorm(POOL_WIDENING, wide, eps=1e-5), nn.ReLU(), nn.Conv2d(wide, cin, 1, bias=False)) if pool else None

    def forward(self, x):
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + self.skip(x))


def _sequence(kinds, cin, cout, pooled, stride):
    """The flat sequence of one half. `pooled`: indices of the blocks with a pool branch. `stride`: of the convolutions without bias."""
    layers = []
    for i, kind in enumerate(kinds):
        a, b = (cin if kind == CONV and CONV not in kinds[:i] else TAESD_WIDTH), (cout if i == len(kinds) - 1 else TAESD_WIDTH)
        layers.append({
            BLOCK: lambda: TinyBlock(a, b, i in pooled),
            CONV: lambda: nn.Conv2d(a, b, 3, padding=1),
            DOWN: lambda: nn.Conv2d(a, b, 3, padding=1, stride=stride, bias=False),
            UP: lambda: nn.Upsample(scale_factor=2, mode="nearest"),
            RELU: nn.ReLU,
            CLAMP: SoftClamp,
        }[kind]())
    return nn.Sequential(*layers)


class TAESD(nn.Module):
    def __init__(self, latent_channels=4, encoder_pools=(), decoder_pools=()):
        super().__init__()
        self.encoder = _sequence(ENCODER, 3, latent_channels, encoder_pools, 2)
        self.decoder = _sequence(DECODER, latent_channels, 3, decoder_pools, 1)

    @classmethod
    def from_state_dicts(cls, encoder, decoder):
        """From the two files' tensors: latent channels and pool branches are read off them."""
        def pools(sd):
            return {int(k.split(".")[0]) for k in sd if k.endswith(".pool.0.weight")}
        m = cls(decoder["1.weight"].shape[1], pools(encoder), pools(decoder))
        m.encoder.load_state_dict({k: v.float() for k, v in encoder.items()})
        m.decoder.load_state_dict({k: v.float() for k, v in decoder.items()})
        return m

    @classmethod
    def open(cls, encoder_file, decoder_file):
        return cls.from_state_dicts(*(torch.load(f, map_location="cpu", weights_only=True) for f in (encoder_file, decoder_file)))

    def encode(self, picture):
        return self.encoder(picture)

    def decode(self, latents):
        return self.decoder(latents).clamp(0, 1)


# --------------------------------------------------------------------------- AutoencoderKL

KL_EPS = 1e-6
LOGVAR_BOUNDS = (-30.0, 20.0)
OLD_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


@dataclass
class Config:
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215     # files from before diffusers had the field mean this
    shift_factor: float = 0.0
    in_channels: int = 3
    out_channels: int = 3
    use_quant_conv: bool = True         # false in SD3's and FLUX.1's
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @classmethod
    def from_json(cls, fields):
        known = {k: fields[k] for k in cls.__dataclass_fields__ if fields.get(k) is not None}
        return cls(**known | {"block_out_channels": tuple(known.get("block_out_channels", cls.block_out_channels))})


class Resnet(nn.Module):
    def __init__(self, cin, cout, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, cin, eps=KL_EPS)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, cout, eps=KL_EPS)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """One head as wide as the map, over all its positions."""

    def __init__(self, width, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps=KL_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        h = self.group_norm(x).flatten(2).transpose(1, 2)                     # [N, H*W, C]
        weight = torch.softmax(self.to_q(h) @ self.to_k(h).transpose(1, 2) * h.shape[-1] ** -0.5, dim=-1)
        h = self.to_out[0](weight @ self.to_v(h))
        return x + h.transpose(1, 2).reshape(x.shape)


class Downsampler(nn.Module):
    """Zeros to the right and below only."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsampler(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.Module):
    """Resnets, then one resampling except in the last stage. `name`: downsamplers or upsamplers."""

    def __init__(self, cin, cout, layers, groups, name, resample):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(cin if i == 0 else cout, cout, groups) for i in range(layers))
        self.resampling = name
        setattr(self, name, nn.ModuleList([resample(cout)] if resample else []))

    def forward(self, x):
        for m in (*self.resnets, *getattr(self, self.resampling)):
            x = m(x)
        return x


class Middle(nn.Module):
    def __init__(self, width, groups, attention):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(width, width, groups) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(width, groups)] if attention else [])

    def forward(self, x):
        for m in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = m(x)
        return x


class KLEncoder(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        widths, g = c.block_out_channels, c.norm_num_groups
        self.conv_in = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Stage(widths[max(i - 1, 0)], w, c.layers_per_block, g, "downsamplers", Downsampler if i + 1 < len(widths) else None)
            for i, w in enumerate(widths))
        self.mid_block = Middle(widths[-1], g, c.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(g, widths[-1], eps=KL_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * c.latent_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for b in self.down_blocks:
            x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class KLDecoder(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        widths, g = c.block_out_channels[::-1], c.norm_num_groups
        self.conv_in = nn.Conv2d(c.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], g, c.mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            Stage(widths[max(i - 1, 0)], w, c.layers_per_block + 1, g, "upsamplers", Upsampler if i + 1 < len(widths) else None)
            for i, w in enumerate(widths))
        self.conv_norm_out = nn.GroupNorm(g, widths[-1], eps=KL_EPS)
        self.conv_out = nn.Conv2d(widths[-1], c.out_channels, 3, padding=1)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for b in self.up_blocks:
            x = b(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


@dataclass
class Posterior:
    mean: torch.Tensor
    logvar: torch.Tensor

    @property
    def std(self):
        return torch.exp(0.5 * self.logvar)

    def sample(self, noise):
        return self.mean + self.std * noise


class AutoencoderKL(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        z = cfg.latent_channels
        self.encoder, self.decoder = KLEncoder(cfg), KLDecoder(cfg)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1) if cfg.use_quant_conv else nn.Identity()
        self.post_quant_conv = nn.Conv2d(z, z, 1) if cfg.use_post_quant_conv else nn.Identity()

    @classmethod
    def open(cls, folder):
        """A directory in diffusers' layout, attention under its newer or its older names."""
        folder = pathlib.Path(folder)
        m = cls(Config.from_json(json.loads((folder / "config.json").read_text())))
        path = next(folder / n for n in WEIGHT_FILES if (folder / n).exists())
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file
            sd = load_file(path)
        else:
            sd = torch.load(path, map_location="cpu", weights_only=True)
        m.load_state_dict(newer_names({k: v.float() for k, v in sd.items()}))
        return m

    def encode(self, picture):
        """Posterior of the UNSCALED latents: a diffusion model sees (latents - shift_factor) * scaling_factor."""
        mean, logvar = self.quant_conv(self.encoder(picture)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_BOUNDS))

    def decode(self, latents):
        """Unscaled latents to a picture about [-1,1], not clamped."""
        return self.decoder(self.post_quant_conv(latents))


def newer_names(sd):
    """Attention as `to_q, to_k, to_v, to_out.0`, its weights as matrices (some older files hold 1x1 convolutions)."""
    out = {}
    for k, v in sd.items():
        parts = k.split(".")
        if "attentions" in parts:
            parts[-2] = OLD_ATTENTION_NAMES.get(parts[-2], parts[-2])
            if v.dim() == 4:
                v = v[:, :, 0, 0]
        out[".".join(parts)] = v
    return out


def older_names(sd):
    """The inverse, with attention's weights as 1x1 convolutions."""
    old = {new: name for name, new in OLD_ATTENTION_NAMES.items()}
    out = {}
    for k, v in sd.items():
        head, _, tail = k.partition(".attentions.0.")
        module, _, kind = tail.rpartition(".")
        if module in old:
            k, v = f"{head}.attentions.0.{old[module]}.{kind}", v[:, :, None, None] if kind == "weight" else v
        out[k] = v
    return out


# --------------------------------------------------------------------------- both

def blocks(model):
    """Modules whose outputs are worth comparing, with their names: TAESD's layers; AutoencoderKL's stages, what they are made of, and the
    single layers between them. Not what is inside of a residual block."""
    whole = (TinyBlock, Resnet, Attention, Downsampler, Upsampler)
    inside = {id(c) for m in model.modules() if isinstance(m, whole) for c in m.modules() if c is not m}
    halves = (nn.ModuleList, type(model.encoder), type(model.decoder), type(model))
    for name, m in model.named_modules():
        if id(m) not in inside and not isinstance(m, halves):
            yield name, m


@contextlib.contextmanager
def traced(model):
    trace = {}

    def hook(name):
        return lambda module, args, out: trace.__setitem__(name, out)

    handles = [m.register_forward_hook(hook(name)) for name, m in blocks(model)]
    try:
        yield trace
    finally:
        for h in handles:
            h.remove()


def randomise(model, seed):
    """Seeded values under which no part is an identity, all maps keep a sensible size, and attention is neither flat nor one-hot."""
    g = torch.Generator().manual_seed(seed)
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.GroupNorm)}
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g, dtype=torch.float32)
            if name.rpartition(".")[0] in norms:
                r = 0.1 * r if name.endswith("bias") else 1 + 0.3 * r
            else:
                r *= 0.1 if p.dim() == 1 else p[0].numel() ** -0.5
            p.copy_(r)
    return model


def psnr(a, b):
    """Of pictures with values in [0,1], in decibels, one a picture."""
    return -10 * torch.log10((a.double() - b.double()).square().flatten(1).mean(dim=1))


def read_picture(path):
    """[1,3,H,W] in [0,1]."""
    import numpy
    from PIL import Image
    pixels = torch.from_numpy(numpy.array(Image.open(path).convert("RGB")))
    return pixels.permute(2, 0, 1).unsqueeze(0).float() / 255


def published_names(folder):
    """Weight file names of `folder` as (encoder, decoder), for the TAESD family."""
    found = {half: sorted(pathlib.Path(folder).glob(f"*_{half}.pth")) for half in ("encoder", "decoder")}
    return found["encoder"][0], found["decoder"][0]
