#!/usr/bin/env python3
"""Golden rotary frequencies: fixtures/golden/rope/rope.json.

Owns a float64 implementation of the four scaling rules, written from the formulas in docs/models.md and
not from the C++, and checks each case against Transformers' own float32 result (relative 1e-6; attention
factors to 1e-12) before writing it. Knows nothing of models. Needs torch and transformers
(scripts/requirements-golden.txt):

    scripts/make_rope_golden.py [--out FILE]
"""

import argparse
import json
import math
from pathlib import Path

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

DEFAULT = Path(__file__).resolve().parent.parent / "fixtures/golden/rope/rope.json"

# name, head size, max_position_embeddings, rope_parameters. "low_equals_high" meets the guard against a
# division by zero; "clamped" has its lower bound above its upper one after clamping.
CASES = [
    ("default", 64, 2048, {"rope_type": "default", "rope_theta": 10000.0}),
    ("default_small", 12, 64, {"rope_type": "default", "rope_theta": 1000000.0}),
    ("linear", 16, 64, {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
    ("llama3", 64, 131072, {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }),
    ("llama3_small", 16, 64, {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
        "low_freq_factor": 0.25, "high_freq_factor": 2.0, "original_max_position_embeddings": 16,
    }),
    ("yarn_qwen", 128, 131072, {
        "rope_type": "yarn", "rope_theta": 1000000.0,
        "factor": 4.0, "original_max_position_embeddings": 32768,
    }),
    ("yarn_no_truncate", 64, 16384, {
        "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0,
        "original_max_position_embeddings": 4096, "truncate": False,
    }),
    ("yarn_low_equals_high", 16, 64, {
        "rope_type": "yarn", "rope_theta": 500.0,
        "factor": 4.0, "original_max_position_embeddings": 6,
    }),
    ("yarn_clamped", 16, 8192, {
        "rope_type": "yarn", "rope_theta": 2.0,
        "factor": 8.0, "original_max_position_embeddings": 1024,
    }),
    ("yarn_betas", 64, 65536, {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "original_max_position_embeddings": 4096,
        "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.707, "mscale_all_dim": 1.0,
    }),
    ("yarn_given_factor", 32, 65536, {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0,
        "original_max_position_embeddings": 4096, "attention_factor": 1.25,
    }),
    ("yarn_null_factor", 32, 65536, {
        "rope_type": "yarn", "rope_theta": 10000.0,
        "factor": None, "original_max_position_embeddings": 4096,
    }),
]


def get_mscale(scale, mscale=1.0):
    return 1.0 if scale <= 1 else 0.1 * mscale * math.log(scale) + 1.0


def llama3(c, f):
    wavelength = 2 * math.pi / f
    original, low, high = c["original_max_position_embeddings"], c["low_freq_factor"], c["high_freq_factor"]
    if wavelength > original / low:
        return f / c["factor"]
    if wavelength < original / high:
        return f
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * f / c["factor"] + smooth * f


def yarn_bounds(c, dim):
    original, base = c["original_max_position_embeddings"], c["rope_theta"]

    def dimension(rotations):
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(c.get("beta_fast") or 32), dimension(c.get("beta_slow") or 1)
    if c.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    return low, high + (0.001 if low == high else 0)


def yarn(c, dim, frequencies, max_positions):
    factor = c["factor"] if c["factor"] is not None else max_positions / c["original_max_position_embeddings"]
    low, high = yarn_bounds(c, dim)
    out = []
    for i, f in enumerate(frequencies):
        ramp = min(max((i - low) / (high - low), 0), 1)
        out.append(f / factor * ramp + f * (1 - ramp))
    if c.get("attention_factor") is not None:
        return out, c["attention_factor"]
    if c.get("mscale") and c.get("mscale_all_dim"):
        return out, get_mscale(factor, c["mscale"]) / get_mscale(factor, c["mscale_all_dim"])
    return out, get_mscale(factor)


def expected(c, dim, max_positions):
    frequencies = [c["rope_theta"] ** (-2 * i / dim) for i in range(dim // 2)]
    kind = c["rope_type"]
    if kind == "linear":
        return [f / c["factor"] for f in frequencies], 1.0
    if kind == "llama3":
        return [llama3(c, f) for f in frequencies], 1.0
    if kind == "yarn":
        return yarn(c, dim, frequencies, max_positions)
    return frequencies, 1.0


def check(c, dim, max_positions, frequencies, attention):
    """Raises when Transformers says something else. It has no function for "default"."""
    if c["rope_type"] == "default":
        return
    config = LlamaConfig(
        hidden_size=4 * dim, num_attention_heads=4, head_dim=dim, max_position_embeddings=max_positions
    )
    config.rope_parameters = dict(c)
    theirs, their_attention = ROPE_INIT_FUNCTIONS[c["rope_type"]](config, "cpu")
    worst = max(abs(float(a) - b) / b for a, b in zip(theirs, frequencies))
    if worst > 1e-6 or abs(their_attention - attention) > 1e-12 or len(theirs) != len(frequencies):
        raise SystemExit(f"{c}: differs from Transformers by {worst}, {their_attention} and {attention}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    args = parser.parse_args()
    cases = []
    for name, dim, max_positions, c in CASES:
        frequencies, attention = expected(c, dim, max_positions)
        check(c, dim, max_positions, frequencies, attention)
        cases.append({"name": name, "head_dim": dim, "max_positions": max_positions, "rope_parameters": c,
                      "attention_factor": attention, "frequencies": frequencies})  # fmt: skip
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join(" " + json.dumps(case) for case in cases)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(f'{{"checked_against": {json.dumps(versions)}, "cases": [\n{lines}\n]}}\n')
    print(f"{args.out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
