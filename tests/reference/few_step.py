"""DPM-Solver++(2M) and UniPC-2 for diffusion checkpoints (T = 1000, linear betas), from the papers' formulas.

Independent of the Rust sources, which are held against what this writes:

    python tests/reference/few_step.py            writes tests/golden/few_step.json
    python tests/reference/few_step.py --check    compares with what is there

Needs numpy alone. `fn(x, t)` predicts eps. Arrays may be numpy's or torch's: nothing but arithmetic is done with them.
Everything is float64; with `rounded=True` the state is rounded to float32 once a step, and fn's result where it is made,
as a sampler does whose states are float32. Every solver returns [start, state after step 1, ..., result].

Notation: abar of timestep t, alpha = sqrt(abar), sigma = sqrt(1 - abar), lambda = log(alpha / sigma), h a step in lambda.
"""
from __future__ import annotations

import json
import pathlib
import sys

import numpy as np

T_TRAIN = 1000
ABAR = np.cumprod(1.0 - np.linspace(1e-4, 2e-2, T_TRAIN, dtype=np.float64))
LAMBDA = 0.5 * np.log(ABAR / (1.0 - ABAR))


# --------------------------------------------------------------------------- timesteps, ascending

def even(n):
    """Both ends; the position is accumulated."""
    stride, out, pos = (1.0 if n == 1 else 999 / (n - 1)), [], 0.0
    for _ in range(n):
        out.append(round(pos))
        pos += stride
    return out


def strided(n):
    return next(list(range(0, T_TRAIN, s)) for s in range(1, T_TRAIN) if -(-T_TRAIN // s) == n)


def distinct(places):
    """The nearest whole timesteps to ascending places, each at least one above the last and none above 999."""
    n, out = len(places), []
    for i, p in enumerate(places):
        low = out[-1] + 1 if out else 0
        out.append(min(max(round(float(p)), low), T_TRAIN - n + i))
    return out


def at_lambda(values):
    """Places on the axis of timesteps at which lambda, linear between timesteps, has the given (descending) values."""
    return np.interp(-np.asarray(values), -LAMBDA, np.arange(T_TRAIN))


def log_snr(n):
    return distinct(at_lambda(np.linspace(LAMBDA[0], LAMBDA[-1], n))) if n > 1 else [0]


# --------------------------------------------------------------------------- solvers

class Grid:
    """The points that a run goes through: the kept timesteps from the noisiest on, then clean data (sigma = 0)."""

    def __init__(self, timesteps):
        self.t = list(reversed(timesteps))
        abar = ABAR[self.t]
        self.alpha, self.sigma, self.lam = np.sqrt(abar), np.sqrt(1 - abar), LAMBDA[self.t]

    def __len__(self):
        return len(self.t)


def round32(x):
    return x.astype(np.float32).astype(np.float64)


def _data(grid, fn, x, k):
    """Data prediction: x0 = (x - sigma eps) / alpha."""
    return (x - float(grid.sigma[k]) * fn(x, grid.t[k])) / float(grid.alpha[k])


def ddim(fn, x, timesteps, rounded=False):
    g, keep = Grid(timesteps), (round32 if rounded else lambda x: x)
    states = [x]
    for k in range(len(g)):
        m = _data(g, fn, x, k)
        if k + 1 == len(g):
            x = keep(m)
        else:
            eps = (x - float(g.alpha[k]) * m) / float(g.sigma[k])
            x = keep(float(g.alpha[k + 1]) * m + float(g.sigma[k + 1]) * eps)
        states.append(x)
    return states


def dpm_pp_2m(fn, x, timesteps, rounded=False, first=0):
    """Lu et al. 2022 (DPM-Solver++), algorithm 2. The first step has no history and the last no finite h: first order."""
    g, keep = Grid(timesteps), (round32 if rounded else lambda x: x)
    states, before = [x], None
    for k in range(first, len(g)):
        m = _data(g, fn, x, k)
        if k + 1 == len(g):
            x = m
        else:
            h = g.lam[k + 1] - g.lam[k]
            d = m
            if before is not None:
                r = (g.lam[k] - g.lam[k - 1]) / h
                d = float(1 + 1 / (2 * r)) * m - float(1 / (2 * r)) * before
            x = float(g.sigma[k + 1] / g.sigma[k]) * x - float(g.alpha[k + 1] * np.expm1(-h)) * d
        x, before = keep(x), m
        states.append(x)
    return states


def _phi(j, z):
    """phi_j(z) = integral_0^1 exp((1 - s) z) s^(j-1) / (j-1)! ds, by its series: sum z^i / (i + j)!."""
    term = total = 1.0 / np.prod(np.arange(1.0, j + 1))
    for i in range(1, 200):
        term *= z / (i + j)
        total += term
    return total


def unipc(fn, x, timesteps, rounded=False, first=0):
    """Zhao et al. 2023, algorithms 5 to 8 (multistep, data prediction), p = 2, B(h) = exp(h) - 1 at the h of data prediction,
    which is minus the step in lambda. The state between steps is the predictor's; the corrector of a step runs when the
    next step has evaluated the network at it, which costs no further evaluation."""
    g, keep = Grid(timesteps), (round32 if rounded else lambda x: x)
    states = [x]
    base, m1, m2 = None, None, None             # corrected state at k - 1; data predictions at k - 1 and k - 2
    for k in range(first, len(g)):
        m0 = _data(g, fn, x, k)
        if k > first and k + 1 < len(g):
            h = g.lam[k] - g.lam[k - 1]
            b = np.expm1(-h)
            if m2 is None:
                residual = 0.5 * (m0 - m1)
            else:
                r = (g.lam[k - 2] - g.lam[k - 1]) / h
                # Unknown weights a of D = (m - m1) / r: sum a r^(j-1) B = h^j-scaled j! phi_{j+1}(h), j = 1, 2 (eq. 10).
                z = -h
                right = np.array([z * _phi(2, z) / b, 2 * z * _phi(3, z) / b])
                a = np.linalg.solve(np.array([[1.0, 1.0], [r, 1.0]]), right)
                residual = float(a[0] / r) * (m2 - m1) + float(a[1]) * (m0 - m1)
            x = float(g.sigma[k] / g.sigma[k - 1]) * base - float(g.alpha[k] * b) * (m1 + residual)
        base = x
        if k + 1 == len(g):
            x = m0
        else:
            h = g.lam[k + 1] - g.lam[k]
            b, residual = np.expm1(-h), 0.0
            if m1 is not None:
                r = (g.lam[k - 1] - g.lam[k]) / h
                residual = 0.5 * (m1 - m0) / float(r)   # the single weight of order 2: 1/2, for every B
            x = float(g.sigma[k + 1] / g.sigma[k]) * x - float(g.alpha[k + 1] * b) * (m0 + residual)
        x = keep(x)
        m1, m2 = m0, m1
        states.append(x)
    return states


# --------------------------------------------------------------------------- golden file

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "few_step.json"
START = np.array([-2.0, -1.25, -0.5, 0.0625, 0.375, 1.0, 1.5, 2.75])
SPACINGS = {"even": even, "strided": strided, "log_snr": log_snr}

RUNS = (("even", 10, 0), ("even", 10, 4), ("even", 1, 0), ("even", 2, 0), ("strided", 10, 0), ("log_snr", 10, 0), ("even", 100, 90))


def made_up(x, t):
    """A prediction that depends on state and time as no linear one does; the same operations in the same order in Rust."""
    s = t / 1000.0
    return round32((0.25 + 0.75 * s) * x + (1.0 - s) * x / (1.0 + x * x) - 0.125 * s * s)


def golden():
    timesteps = {"log_snr": {str(n): log_snr(n) for n in (1, 2, 5, 10, 20, 50, 250, 1000)}}
    runs = []
    for solver in (dpm_pp_2m, unipc):
        for spacing, n, first in RUNS:
            states = solver(made_up, START, SPACINGS[spacing](n), rounded=True, first=first)
            run = {"solver": solver.__name__, "spacing": spacing, "steps": n, "first": first}
            runs.append(run | {"states": [list(map(float, s)) for s in states[1:]]})
    return {"about": "written by tests/reference/few_step.py", "start": list(START), "timesteps": timesteps, "runs": runs}


if __name__ == "__main__":
    text = json.dumps(golden()) + "\n"
    if "--check" in sys.argv:
        sys.exit(0 if GOLDEN.read_text() == text else f"{GOLDEN} differs")
    GOLDEN.write_text(text)
