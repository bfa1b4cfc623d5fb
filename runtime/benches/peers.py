#!/usr/bin/env python3
"""FCDM in `fcdm` beside the same network in other engines, in turn, in one run.

    peers.py S XL                       # batches 1 and 2 at 32x32; see --help

The other engines, the models and the reference come from the folder `bench` beside this repository (../shared/bench, or what FCDM_SHARED names
in place of ../shared), and its README says what Python packages they need. Without that folder there is nothing to compare with: the
script says so and ends with code 0.

Each round times every contender once, in a process of its own, ours first in even rounds and last in odd ones; what counts is the median over the
rounds of each round's median. A measurement during which other processes took more than --busy of the processors counts only where a
contender has no better one, and is marked. Ours is one evaluation of the denoiser and its share of the condition: the others compute both every time.
Working files go to FCDM_BENCH (default: fcdm-bench in the temporary folder), and every measurement is appended there to peers.jsonl.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("FCDM_SHARED") or ROOT.parent / "shared")
BENCH = SHARED / "bench"
WORK = pathlib.Path(os.environ.get("FCDM_BENCH") or pathlib.Path(tempfile.gettempdir()) / "fcdm-bench")
THREADS = int(os.environ.get("FCDM_THREADS", "2"))
OURS = "fcdm"
PEERS = "torch-f32,torch-f32-cl,ort-f32,ov-f32"
MIB = 1 << 20


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sizes", nargs="+", choices=["S", "B", "L", "XL"], metavar="SIZE", help="S, B, L, XL")
    p.add_argument("--batches", default="1,2", help="comma-separated [1,2]")
    p.add_argument("--side", type=int, default=32, help="height and width of the input [32]")
    p.add_argument("--peers", default=PEERS, help=f"comma-separated [{PEERS}]; at 32x32 any that bench/peers.py knows")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--busy", type=float, default=0.05, help="share of the processors in other hands that spoils a measurement [0.05]")
    p.add_argument("--limit", type=float, default=1200, help="seconds for one measurement, set-up included [1200]")
    p.add_argument("--fcdm", type=pathlib.Path, default=ROOT / "target/release/fcdm", help="our binary [target/release/fcdm]")
    p.add_argument("--compile", default="", metavar="ARGS", help='further arguments of `fcdm compile`, such as "--precision bf16"')
    p.add_argument("--json", type=pathlib.Path, default=WORK / "peers.jsonl", help="where measurements are appended")
    return p.parse_args()


def run(command, limit=None):
    """Standard output of a command that has to succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=limit,
                          env=dict(os.environ, OMP_NUM_THREADS=str(THREADS), FCDM_BENCH=str(WORK)))
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}")
    return done.stdout


def own_mode(mode, *args, limit=None):
    """This script in another process, which may import torch: the result that it prints."""
    lines = run([sys.executable, __file__, mode, *args], limit).splitlines()
    return json.loads(next(l for l in reversed(lines) if l.startswith("RESULT "))[7:])


def reference_path(size, batch, side):
    return WORK / (f"ref-{size}{batch}.npy" if side == 32 else f"ref-{size}{batch}-{side}.npy")  # the first is bench/peers.py's own


def artifact(a, size, batches):
    """Our compiled model, made anew where the binary or the arguments are others than it was made with."""
    model = WORK / f"FCDM-{size}.safetensors"
    if not model.exists():
        run([sys.executable, BENCH / "make_model.py", WORK, size, "--no-pt"])
    key = hashlib.sha256(f"{a.compile} {batches}".encode()).hexdigest()[:8]
    out = WORK / f"ours-{size}-{a.side}-{key}.fcdm"
    newest = max(model.stat().st_mtime, a.fcdm.stat().st_mtime)
    if not out.exists() or out.stat().st_mtime < newest:
        numbers = ",".join(map(str, sorted(set(batches) | {1})))
        run([a.fcdm, "compile", model, "-o", out, "--size", f"{a.side}x{a.side}", "--batch", numbers, *a.compile.split()])
    return out


def our_error(a, model, size, batch):
    """Relative L2 distance of our output from PyTorch's."""
    prepared = own_mode("prepare", size, batch, a.side)
    outputs = WORK / f"ours-{size}{batch}-{a.side}.safetensors"
    run([a.fcdm, "run", model, "--inputs", prepared["inputs"], "--outputs", outputs, "-t", THREADS])
    return own_mode("distance", outputs, reference_path(size, batch, a.side))


def ours(a, model, batch):
    import common
    common.wait_quiet()
    common.urgent(True)     # as the others ask for in their measured part
    try:
        r = json.loads(run([a.fcdm, "bench", model, "--batch", batch, "-t", THREADS, "--runs", 9, "--seconds", 1, "--json"], a.limit))
    finally:
        common.urgent(False)
    condition = r["condition"]["median_s"] * batch / r["condition"]["rows"]
    seconds = r["evaluation"]["median_s"] + condition
    macs = r["evaluation"]["macs"] + r["condition"]["macs"] * batch / r["condition"]["rows"]
    peak = (r["memory"]["peak_bytes"] or 0) / MIB
    return dict(ms=seconds * 1e3, gflops=2 * macs / seconds / 1e9, others=r["others_share"] or 0.0, rss=peak, setup_rss=peak,
                setup_s=r["start"]["total_s"], note=f"{r['isa']}, condition {condition * 1e3:.2f} ms", ceiling=r["ceiling"])


def theirs(a, size, batch, peer):
    if a.side != 32:
        return own_mode("one", size, batch, peer, a.side, limit=a.limit)
    out = run([sys.executable, BENCH / "peers.py", "one", size, batch, peer, "infer"], a.limit)
    return json.loads(next(l for l in out.splitlines() if l.startswith("RESULT "))[7:])


def measure(a, size, batch, model):
    """All contenders in turn; a list of rows each."""
    error = our_error(a, model, size, batch)
    peers = a.peers.split(",")
    rows = {name: [] for name in [OURS, *peers]}
    for turn in range(a.rounds):
        for name in [OURS, *peers] if turn % 2 == 0 else [*peers, OURS]:
            try:
                row = dict(ours(a, model, batch), err=error) if name == OURS else theirs(a, size, batch, name)
            except (RuntimeError, subprocess.TimeoutExpired, StopIteration) as e:
                row = {"error": str(e)[:200] or "no result"}
            row |= dict(contender=name, size=size, batch=batch, side=a.side, threads=THREADS, round=turn, compile=a.compile)
            rows[name].append(row)
            with open(a.json, "a") as f:
                f.write(json.dumps(row) + "\n")
            print(f"# {size} batch {batch} round {turn}: {name}: {row.get('error') or '%.1f ms, others %.0f %%' % (row['ms'], 100 * row['others'])}", file=sys.stderr)
    return rows


def judge(a, rows):
    """Medians over the quiet rounds of each contender, or over all where none was quiet."""
    judged = {}
    for name, all_rows in rows.items():
        good = [r for r in all_rows if "error" not in r]
        quiet = [r for r in good if r["others"] <= a.busy]
        used = quiet or good
        if used:
            middle = {k: statistics.median(r[k] for r in used) for k in ("ms", "gflops", "rss", "setup_rss", "setup_s", "err", "others")}
            judged[name] = middle | dict(rounds=len(used), noisy=not quiet, note=used[-1].get("note", ""))
        else:
            judged[name] = {"error": all_rows[-1]["error"]}
    return judged


def table(a, size, batch, judged):
    print(f"\nFCDM-{size}, {a.side}x{a.side}, batch {batch}, {THREADS} threads{', `' + a.compile + '`' if a.compile else ''}\n")
    print("| engine | ms | GFLOP/s | ours is faster by | peak MiB, set-up / run | set-up s | relative L2 | others' CPU | rounds | note |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    mine = judged[OURS].get("ms")
    for name, r in judged.items():
        if "error" in r:
            print(f"| {name} | failed: {r['error']} | | | | | | | | |")
            continue
        ratio = f"{r['ms'] / mine:.2f}" if mine and name != OURS else ""
        print(f"| {name} | {r['ms']:.1f}{' (noisy)' if r['noisy'] else ''} | {r['gflops']:.0f} | {ratio} | {r['setup_rss']:.0f} / {r['rss']:.0f} | {r['setup_s']:.1f} "
              f"| {r['err']:.1e} | {100 * r['others']:.0f} % | {r['rounds']} | {r['note']} |")
    best = min(((r["ms"], n) for n, r in judged.items() if n != OURS and "ms" in r), default=None)
    if best and mine:
        print(f"\nbest opponent over ours: {best[0] / mine:.2f} ({best[1]})")
    sys.stdout.flush()


def heading():
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown CPU")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    import importlib.metadata as versions
    found = [f"{n} {versions.version(n)}" for n in ("torch", "onnxruntime", "openvino", "tract") if has(versions, n)]
    print(f"{datetime.date.today()}, {model}, {os.cpu_count()} processors, fcdm {commit}, {', '.join(found)}\n\n    {' '.join(sys.argv)}", flush=True)


def has(versions, name):
    try:
        return bool(versions.version(name))
    except versions.PackageNotFoundError:
        return False


def main():
    if not (BENCH / "peers.py").exists():
        print(f"NOTHING MEASURED: {BENCH} has no peers.py. The other engines come from there; FCDM_SHARED names another place.")
        return
    a = arguments()
    if not a.fcdm.exists():
        sys.exit(f"error: {a.fcdm}: no such file; `cargo build --release` makes it")
    WORK.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(BENCH))
    heading()
    batches = [int(b) for b in a.batches.split(",")]
    for size in a.sizes:
        model = artifact(a, size, batches)
        for batch in batches:
            table(a, size, batch, judge(a, measure(a, size, batch, model)))


# What follows runs in processes of its own, with torch.

def prepare(size, batch, side):
    """The inputs as a file for `fcdm run`, and PyTorch's output for them."""
    import numpy, torch, common
    from safetensors.torch import save_file
    x, t, y = common.sample_inputs(batch, side)
    inputs, reference = WORK / f"inputs-{batch}-{side}.safetensors", reference_path(size, batch, side)
    save_file({"x": x, "t": t, "y": y}, inputs)
    if not reference.exists():
        with torch.inference_mode():
            numpy.save(reference, common.build(size)(x, t, y).numpy())
    return {"inputs": str(inputs)}


def distance(outputs, reference):
    import numpy
    from safetensors.numpy import load_file
    got, want = load_file(outputs)["output"], numpy.load(reference)
    return float(numpy.linalg.norm(got - want) / numpy.linalg.norm(want))


def one(size, batch, peer, side):
    """As bench/peers.py's `one`, which knows 32x32 only, for the engines that need no calibration."""
    import contextlib, time
    import numpy, torch, common, export_onnx
    from fcdm_torch import PRESETS, macs
    torch.set_num_threads(THREADS)
    start = time.perf_counter()
    x, t, y = common.sample_inputs(batch, side)
    feed = {"x": x.numpy(), "t": t.numpy(), "y": y.numpy()}
    engine, _, variant = peer.partition("-")
    if engine in ("torch", "compile"):
        export_onnx.R.channel_norm = export_onnx.fused_norm
        m = common.build(size)
        if variant.endswith("-cl"):
            m, x = m.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        m = torch.compile(m) if engine == "compile" else m

        def evaluate():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if "bf16" in variant else contextlib.nullcontext():
                return m(x, t, y).float().numpy()
    else:
        path = WORK / f"{size}{batch}-{side}.onnx"
        if not path.exists():
            run([sys.executable, BENCH / "export_onnx.py", size, batch, path, "--hw", side])
        if peer == "ort-f32":
            import onnxruntime
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = THREADS
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            evaluate = lambda: session.run(None, feed)[0]
        elif peer in ("ov-f32", "ov-bf16"):
            import openvino
            settings = {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": variant}
            compiled = openvino.Core().compile_model(str(path), "CPU", settings)
            request = compiled.create_infer_request()
            evaluate = lambda: request.infer(feed)[compiled.output(0)]
        else:
            sys.exit(f"{peer}: not at {side}x{side}")
    out, want = numpy.array(evaluate()), numpy.load(reference_path(size, batch, side))
    setup, whole = time.perf_counter() - start, common.peak_mib()
    common.reset_peak()
    median, best, others = common.timeit(evaluate)
    work = 2 * macs(PRESETS[size], side, side)["total"] * batch
    return dict(ms=median * 1e3, best=best * 1e3, gflops=work / median / 1e9, rss=common.peak_mib(), setup_s=setup, setup_rss=whole,
                err=float(numpy.linalg.norm(out - want) / numpy.linalg.norm(want)), others=others, note="")


if __name__ == "__main__":
    modes = {"prepare": (prepare, (str, int, int)), "distance": (distance, (str, str)), "one": (one, (str, int, str, int))}
    if len(sys.argv) > 1 and sys.argv[1] in modes:
        sys.path[:0] = [str(BENCH), str(SHARED / "reference")]
        mode, kinds = modes[sys.argv[1]]
        print("RESULT " + json.dumps(mode(*(kind(v) for kind, v in zip(kinds, sys.argv[2:], strict=True)))))
    else:
        main()
