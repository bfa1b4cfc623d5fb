#!/usr/bin/env python3
"""Autoencoders and whole generations in `fcdm` beside other engines, in turn, in one run.

    autoencoder_peers.py decode                 # Stable Diffusion's decoder at 256 px, batch 1; see --help
    autoencoder_peers.py end-to-end             # labels to PNG files by clothing-latent.pt and TAEF2: one picture, ten pictures
    autoencoder_peers.py psnr                   # TAEF2's reconstructions by PyTorch, one figure a photo

What peers.py says about rounds, quiet and noisy measurements, FCDM_SHARED, FCDM_BENCH, FCDM_THREADS holds here too. `psnr` also needs pillow.
--without-ours measures the other engines alone. End-to-end times are of whole processes, from their start to their end; PyTorch's also
without what its imports take, and of sampling and decoding alone, with all weights read. Memory is the operating system's peak of the
process, and that without what PyTorch's imports left in it.
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import peers
from peers import BENCH, MIB, ROOT, SHARED, THREADS, WORK, run

# Our commands, all of them. Fields in braces are filled in.
OUR_VAE = "{fcdm} compile --vae {vae} -o {out} --size {side}x{side}"
OUR_DECODE = "{fcdm} bench {model} --entry decode -t {threads} --runs 9 --seconds 1 --json"
OUR_CLOTHING = "{fcdm} compile {data}/checkpoints/clothing-latent.pt --vae {data}/taef2 -o {out} --size 16x16 --batch 1,2,20"
OUR_GENERATE = "{fcdm} generate {model} --class-labels {labels} -b {n} --steps {steps} --cfg-scale {scale} --cfg-channels all -t {threads} --seed 0 -o {out} --json"


def our_decode_seconds(report):
    """Median of one evaluation of the entry point in the JSON of OUR_DECODE."""
    return report["evaluation"]["median_s"]


DATA = SHARED / "data"
REFERENCE = [str(BENCH), str(SHARED / "reference"), str(ROOT / "tests" / "reference")]
VAE = WORK / "vae"
OURS = peers.OURS
DECODE_PEERS = "torch-f32,torch-f32-cl,ort-f32,ov-f32"
GENERATE_PEERS = "torch,torch-cl"
STEPS, SCALE = 50, 2


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["decode", "end-to-end", "psnr"])
    p.add_argument("--side", type=int, default=32, help="height and width of the decoder's latents [32]")
    p.add_argument("--peers", help=f"comma-separated [decode: {DECODE_PEERS}; end-to-end: {GENERATE_PEERS}]")
    p.add_argument("--pictures", default="1,10", help="of end-to-end [1,10]")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--busy", type=float, default=0.05, help="share of the processors in other hands that spoils a measurement [0.05]")
    p.add_argument("--limit", type=float, default=1200, help="seconds for one measurement, set-up included [1200]")
    p.add_argument("--fcdm", type=pathlib.Path, default=ROOT / "target/release/fcdm", help="our binary [target/release/fcdm]")
    p.add_argument("--without-ours", action="store_true", help="measure the other engines alone")
    p.add_argument("--json", type=pathlib.Path, default=WORK / "autoencoder-peers.jsonl", help="where measurements are appended")
    return p.parse_args()


def own_mode(mode, *args, limit=None):
    """This script in another process, which may import torch: the result that it prints."""
    return result_of(run([sys.executable, __file__, mode, *args], limit))


def result_of(text):
    return json.loads(next(l for l in reversed(text.splitlines()) if l.startswith("RESULT "))[7:])


def ours(template, **fields):
    return template.format(threads=THREADS, data=DATA, steps=STEPS, scale=SCALE, **fields).split()


def artifact(a, template, out, **fields):
    """Our compiled model, made anew where the binary is newer."""
    if not out.exists() or out.stat().st_mtime < a.fcdm.stat().st_mtime:
        run(ours(template, fcdm=a.fcdm, out=out, **fields), a.limit)
    return out


def busy_seconds():
    """Seconds that the processors have been at work, all of them together."""
    v = list(map(int, open("/proc/stat").readline().split()[1:9]))
    return (sum(v) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def wait_quiet(limit=float(os.environ.get("FCDM_WAIT", "20"))):
    """As bench/common.py's, without the torch that it imports."""
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = busy_seconds()
        time.sleep(0.5)
        if busy_seconds() - before < 0.08:
            return


@contextlib.contextmanager
def urgent():
    """As bench/common.py's: the scheduler prefers this session's processes while they are measured."""
    def ask(nice):
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/autogroup").write_text(nice)
    ask(os.environ.get("FCDM_NICE", "-10"))
    try:
        yield
    finally:
        ask("0")


def in_turn(a, names, measure, **about):
    """All contenders in turn, ours first in even rounds and last in odd ones: a list of rows each."""
    rows = {name: [] for name in names}
    for turn in range(a.rounds):
        for name in names if turn % 2 == 0 else [*names[1:], names[0]]:
            try:
                row = measure(name)
            except (RuntimeError, subprocess.TimeoutExpired, StopIteration, KeyError) as e:
                row = {"error": (str(e) or repr(e))[:200]}
            row |= dict(contender=name, threads=THREADS, round=turn, **about)
            rows[name].append(row)
            with open(a.json, "a") as f:
                f.write(json.dumps(row) + "\n")
            figure = row.get("error") or ", ".join(f"{k} {row[k]:.4g}" for k in ("ms", "whole_s", "rss", "others") if k in row)
            print(f"# {about} round {turn}: {name}: {figure}", file=sys.stderr)
    return rows


def middle(a, rows):
    """Medians of all numbers over the quiet rounds of a contender, or over all where none was quiet."""
    good = [r for r in rows if "error" not in r]
    quiet = [r for r in good if r["others"] <= a.busy]
    used = quiet or good
    if not used:
        return {"error": rows[-1]["error"]}
    numbers = [k for k, v in used[0].items() if isinstance(v, float)]
    return {k: statistics.median(r[k] for r in used) for k in numbers} | dict(rounds=len(used), noisy=not quiet, note=used[-1].get("note", ""))


def table(judged, columns, ratios):
    """`columns`: heading and format of a row. `ratios`: heading and key; each contender's figure over ours."""
    print("| engine | " + " | ".join(h for h, _ in [*columns, *ratios]) + " | others' CPU | rounds |")
    print("| --- " * (len(columns) + len(ratios) + 3) + "|")
    mine = judged.get(OURS, {})
    for name, r in judged.items():
        if "error" in r:
            print(f"| {name} | failed: {r['error']} " + "| " * (len(columns) + len(ratios) + 1) + "|")
            continue
        over = [f"{r[k] / mine[k]:.2f}" if k in mine and name != OURS else "" for _, k in ratios]
        cells = [name + (" (noisy)" if r["noisy"] else ""), *(f(r) for _, f in columns), *over, f"{100 * r['others']:.0f} %", str(r["rounds"])]
        print("| " + " | ".join(cells) + " |")
    for heading, key in ratios:
        best = min(((r[key], n) for n, r in judged.items() if n != OURS and key in r), default=None)
        if best and key in mine:
            print(f"\n{heading}, best opponent: {best[0] / mine[key]:.2f} ({best[1]})")
    sys.stdout.flush()


def contenders(a, default):
    return ([] if a.without_ours else [OURS]) + (a.peers or default).split(",")


# Decoding.

def decode(a):
    known = own_mode("make-vae", a.side)
    names = contenders(a, DECODE_PEERS)
    model = None if a.without_ours else artifact(a, OUR_VAE, WORK / f"vae-{a.side}.fcdm", vae=VAE, side=a.side)

    def measure(name):
        if name != OURS:
            return own_mode("decode-one", name, a.side, limit=a.limit)
        wait_quiet()
        with urgent():      # as the others ask for in their measured part
            r = json.loads(run(ours(OUR_DECODE, fcdm=a.fcdm, model=model), a.limit))
        peak = (r["memory"]["peak_bytes"] or 0) / MIB
        return dict(ms=our_decode_seconds(r) * 1e3, others=r["others_share"] or 0.0, rss=peak, setup_rss=peak, setup_s=r["start"]["total_s"], err=float("nan"))

    rows = in_turn(a, names, measure, what="decode", side=a.side)
    print(f"\nStable Diffusion's decoder, {8 * a.side} px, batch 1, f32, {THREADS} threads, {known['macs'] / 1e9:.1f} GMAC\n")
    table({n: middle(a, r) for n, r in rows.items()}, [
        ("ms", lambda r: f"{r['ms']:.0f}"), ("GFLOP/s", lambda r: f"{2 * known['macs'] / r['ms'] / 1e6:.0f}"),
        ("peak MiB, set-up / run", lambda r: f"{r['setup_rss']:.0f} / {r['rss']:.0f}"), ("set-up s", lambda r: f"{r['setup_s']:.1f}"),
        ("relative L2", lambda r: f"{r['err']:.1e}")], [("ours is faster by", "ms")])


# Whole generations.

def process(command):
    """Runs a process: its output, its time, its peak memory, and the share of the processors that others took meanwhile.

    Linux counts the parent's memory into the peak of a process that it starts: this process must stay small, and imports no torch."""
    wait_quiet()
    with open(WORK / "stdout.txt", "w+") as out, open(WORK / "stderr.txt", "w+") as err, urgent():
        busy, start = busy_seconds(), time.perf_counter()
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err, env=dict(os.environ, OMP_NUM_THREADS=str(THREADS), FCDM_BENCH=str(WORK)))
        _, status, usage = os.wait4(child.pid, 0)
        seconds, busy = time.perf_counter() - start, busy_seconds() - busy
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if child.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {(err.read().strip().splitlines() or [f'exit code {child.returncode}'])[-1]}")
        others = max(0.0, busy - usage.ru_utime - usage.ru_stime) / (seconds * os.cpu_count())
        return out.read(), dict(whole_s=seconds, cpu_s=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss / 1024, others=others)


def generate(a, name, model, labels):
    """One measurement of one contender."""
    text, out = ",".join(map(str, labels)), WORK / f"clothing-{name}-{len(labels)}"
    if name == OURS:
        printed, row = process(ours(OUR_GENERATE, fcdm=a.fcdm, model=model, n=len(labels), labels=text, out=out))
        return row | dict(no_imports_s=row["whole_s"], sampling_s=float(json.loads(printed)["seconds"]), own_mib=row["rss"])
    printed, row = process([sys.executable, __file__, "generate-one", name, text, out])
    inner = result_of(printed)
    return row | dict(no_imports_s=inner["no_imports_s"], sampling_s=inner["sampling_s"], own_mib=row["rss"] - inner["imports_mib"])


def end_to_end(a):
    names = contenders(a, GENERATE_PEERS)
    model = None if a.without_ours else artifact(a, OUR_CLOTHING, WORK / "clothing.fcdm")
    for n in map(int, a.pictures.split(",")):
        labels = [k % 10 for k in range(4, 4 + n)]
        rows = in_turn(a, names, lambda name: generate(a, name, model, labels), what="end-to-end", pictures=n)
        print(f"\nclothing-latent and TAEF2, {n} picture{'s' if n > 1 else ''} of 128 px, {STEPS} Euler steps, guidance {SCALE}, f32, {THREADS} threads\n")
        table({k: middle(a, r) for k, r in rows.items()}, [
            ("whole process s", lambda r: f"{r['whole_s']:.2f}"), ("without imports s", lambda r: f"{r['no_imports_s']:.2f}"),
            ("sampling and decoding s", lambda r: f"{r['sampling_s']:.2f}"),
            ("peak MiB", lambda r: f"{r['rss']:.0f}"), ("without imports MiB", lambda r: f"{r['own_mib']:.0f}")],
            [("ours is faster by", "whole_s"), ("without imports", "no_imports_s"), ("sampling and decoding", "sampling_s")])


def psnr(a):
    r = own_mode("psnr-all", limit=None)
    print(f"\nTAEF2 over {r['photos']} photos of {DATA / 'clothing256'}, PyTorch f32: mean PSNR {r['rounded']:.3f} dB from 8-bit pictures, "
          f"{r['unrounded']:.3f} dB unrounded; per photo in {r['file']}")


def main():
    if not (BENCH / "peers.py").exists():
        print(f"NOTHING MEASURED: {BENCH} has no peers.py. The other engines come from there; FCDM_SHARED names another place.")
        return
    a = arguments()
    if not a.without_ours and a.what != "psnr" and not a.fcdm.exists():
        sys.exit(f"error: {a.fcdm}: no such file; `cargo build --release` makes it")
    WORK.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(BENCH))
    peers.heading()
    {"decode": decode, "end-to-end": end_to_end, "psnr": psnr}[a.what](a)


# What follows runs in processes of its own, with torch.

def vae():
    from autoencoder import AutoencoderKL
    return AutoencoderKL.open(VAE).eval()


def latents(side):
    import torch
    return torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(5))


def make_vae(side):
    """A full-size autoencoder with random weights, its decoder as ONNX, PyTorch's picture and the decoder's multiply-accumulates."""
    import numpy, torch
    from autoencoder import AutoencoderKL, Config, randomise
    from make_autoencoder_golden import save_directory
    known = WORK / f"vae-{side}.json"
    if known.exists():
        return json.loads(known.read_text())
    torch.set_num_threads(THREADS)
    model = randomise(AutoencoderKL(Config()), 91).eval()
    if not VAE.exists():
        save_directory(model, VAE)
    model.forward = model.decode
    with torch.no_grad():
        numpy.save(WORK / f"vae-{side}.npy", model.decode(latents(side)).numpy())
        numpy.save(WORK / f"vae-latents-{side}.npy", latents(side).numpy())
        torch.onnx.export(model, (latents(side),), str(WORK / f"vae-{side}.onnx"), input_names=["latents"], output_names=["picture"],
                          opset_version=18, dynamo=False)
    known.write_text(json.dumps({"macs": decode_macs(model, side)}))
    return json.loads(known.read_text())


def decode_macs(model, side):
    """Multiply-accumulates of convolutions, linear layers and attention's two products."""
    import torch
    from torch import nn
    from autoencoder import Attention
    total = 0

    def count(module, args, out):
        nonlocal total
        if isinstance(module, Attention):
            positions = out.shape[2] * out.shape[3]
            total += 2 * positions * positions * out.shape[1]
        else:
            width = module.weight[0].numel()
            total += out.numel() * width
    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear, Attention))]
    with torch.no_grad():
        model.decode(latents(side))
    for h in handles:
        h.remove()
    return total


def peak_mib():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024


def timed(evaluate, runs=9, most=20.0):
    """As bench/common.py's `timeit`: median seconds, and the share of the processors that others took."""
    evaluate()
    wait_quiet()
    with urgent():
        evaluate()
        busy, own, begin, times = busy_seconds(), time.process_time(), time.perf_counter(), []
        while len(times) < 3 or len(times) < runs and time.perf_counter() - begin < most:
            start = time.perf_counter()
            evaluate()
            times.append(time.perf_counter() - start)
        wall = time.perf_counter() - begin
        others = max(0.0, busy_seconds() - busy - (time.process_time() - own)) / (wall * os.cpu_count())
    return statistics.median(times), others


def decode_one(peer, side):
    """Imports torch only for torch's own figures: its 0.5 GB are not the other engines'."""
    import numpy
    start = time.perf_counter()
    z, want = numpy.load(WORK / f"vae-latents-{side}.npy"), numpy.load(WORK / f"vae-{side}.npy")
    onnx = str(WORK / f"vae-{side}.onnx")
    if peer in ("torch-f32", "torch-f32-cl"):
        import torch
        torch.set_num_threads(THREADS)
        form = torch.channels_last if peer.endswith("-cl") else torch.contiguous_format
        model, given = vae().to(memory_format=form), torch.from_numpy(z).to(memory_format=form)

        def evaluate():
            with torch.inference_mode():
                return model.decode(given).numpy()
    elif peer == "ort-f32":
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        evaluate = lambda: session.run(None, {"latents": z})[0]
    elif peer == "ov-f32":
        import openvino
        compiled = openvino.Core().compile_model(onnx, "CPU", {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        evaluate = lambda: request.infer({"latents": z})[compiled.output(0)]
    else:
        sys.exit(f"{peer}: not known")
    out = numpy.array(evaluate())
    setup, whole = time.perf_counter() - start, peak_mib()
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")       # the peak begins anew
    median, others = timed(evaluate)
    return dict(ms=median * 1e3, others=others, rss=peak_mib(), setup_rss=whole, setup_s=setup,
                err=float(numpy.linalg.norm(out - want) / numpy.linalg.norm(want)))


def generate_one(peer, labels, out):
    """Class labels to PNG files in one process."""
    import torch, common
    from export_onnx import fused_norm, R
    from autoencoder import TAESD, published_names
    from make_autoencoder_golden import fcdm
    from sampling import bind, flow_ode
    imported, begin = common.rss_mib(), time.perf_counter()
    R.channel_norm = fused_norm
    torch.set_num_threads(THREADS)
    network, decoder = fcdm(), TAESD.open(*published_names(DATA / "taef2")).eval()
    ready = time.perf_counter()
    y = torch.tensor([int(k) for k in labels.split(",")])
    x = torch.randn(len(y), network.cfg.in_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    if peer == "torch-cl":
        network, decoder, x = (v.to(memory_format=torch.channels_last) for v in (network, decoder, x))
    with torch.no_grad():
        states = flow_ode(bind(network, y, float(SCALE), network.cfg.in_channels), x, STEPS)
        pictures = (255 * decoder.decode(states[-1])).round().to(torch.uint8)
    folder = pathlib.Path(out)
    folder.mkdir(exist_ok=True)
    for k, p in enumerate(pictures):
        (folder / f"{k}.png").write_bytes(png(p.permute(1, 2, 0).contiguous().numpy()))
    end = time.perf_counter()
    return dict(no_imports_s=end - begin, sampling_s=end - ready, imports_mib=imported)


def png(pixels):
    """[H,W,3] of bytes as a PNG file."""
    import struct, zlib
    h, w, _ = pixels.shape
    rows = b"".join(b"\0" + r.tobytes() for r in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def psnr_all():
    """Rounded: of the picture as 8-bit values. The photos' pixels are also written as PNG, for programs with another JPEG decoder."""
    import torch
    from autoencoder import TAESD, psnr as decibels, published_names, read_picture
    torch.set_num_threads(THREADS)
    model = TAESD.open(*published_names(DATA / "taef2")).eval()
    figures, pixels = {}, WORK / "clothing256-png"
    for path in sorted((DATA / "clothing256").rglob("*.jpg")):
        name = path.relative_to(DATA / "clothing256").with_suffix("")
        x = read_picture(path)
        (pixels / name).parent.mkdir(parents=True, exist_ok=True)
        (pixels / f"{name}.png").write_bytes(png((255 * x[0]).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()))
        with torch.no_grad():
            y = model.decode(model.encode(x))
        figures[str(name)] = {"unrounded": decibels(y, x).item(), "rounded": decibels((255 * y).round().double() / 255, x).item()}
    file = WORK / "taef2-psnr.json"
    file.write_text(json.dumps(figures, indent=1))
    mean = {k: statistics.fmean(f[k] for f in figures.values()) for k in ("rounded", "unrounded")}
    return mean | {"photos": len(figures), "file": str(file)}


if __name__ == "__main__":
    modes = {"make-vae": (make_vae, (int,)), "decode-one": (decode_one, (str, int)), "generate-one": (generate_one, (str, str, str)), "psnr-all": (psnr_all, ())}
    if len(sys.argv) > 1 and sys.argv[1] in modes:
        sys.path[:0] = REFERENCE
        mode, kinds = modes[sys.argv[1]]
        print("RESULT " + json.dumps(mode(*(kind(v) for kind, v in zip(kinds, sys.argv[2:], strict=True)))))
    else:
        main()
