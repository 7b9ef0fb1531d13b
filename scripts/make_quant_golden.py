#!/usr/bin/env python3
"""Golden vectors for weight quantisation: fixtures/golden/quantize/quantize.safetensors.

Owns a second implementation of docs/quantisation.md in NumPy, written from the formulas and not from
the C++. Knows nothing of models. Needs numpy and safetensors (scripts/requirements-golden.txt):

    scripts/make_quant_golden.py [--out FILE]

The file holds, for every matrix M and precision P: "M/weights" F32, "M/P/data" U8 (raw bytes),
"M/P/scales" U8 (raw bytes, where P has scales), "M/P/zeros" U8 (asymmetric), "M/P/dequantized" F32.
Its metadata has "cases" (JSON list of [M, P]) and "refused" (JSON list of [M, P, error code]).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PRECISIONS = ["f32", "f16", "bf16", "int8", "int4-g32-sym", "int4-g32-asym", "int4-g128-sym", "int4-g128-asym"]
DEFAULT = Path(__file__).resolve().parent.parent / "fixtures/golden/quantize/quantize.safetensors"


class Refused(Exception):
    """The error code that a matrix must be refused with."""


def raw(array):
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def as_bf16(w):
    bits = w.view(np.uint32).astype(np.uint64)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return upper, (upper.astype(np.uint32) << 16).view(np.float32)


def floats(w, precision):
    with np.errstate(over="ignore"):
        stored, value = {
            "f32": lambda: (w, w),
            "f16": lambda: (w.astype(np.float16), w.astype(np.float16).astype(np.float32)),
            "bf16": lambda: as_bf16(w),
        }[precision]()
    if not np.isfinite(value).all():
        raise Refused("quantize.overflow")
    return {"data": raw(stored), "dequantized": value}


def int8(w):
    wide = w.astype(np.float64)
    scale = (np.abs(wide).max(axis=1) / 127.0).astype(np.float32)
    with np.errstate(over="ignore"):
        if np.isinf(np.float32(127) * scale).any():
            raise Refused("quantize.overflow")
    divisor = np.where(scale == 0, 1, scale).astype(np.float64)[:, None]
    q = np.where(scale[:, None] == 0, 0, np.clip(np.rint(wide / divisor), -127, 127)).astype(np.int8)
    return {"data": raw(q), "scales": raw(scale), "dequantized": q.astype(np.float32) * scale[:, None]}


def int4_group(w, symmetric):
    """One group of one row: scale (float16), zero point, q per weight."""
    wide = w.astype(np.float64)
    low, high = min(0.0, wide.min()), max(0.0, wide.max())
    with np.errstate(over="ignore"):
        scale = np.float16(max(high, -low) / 7.0) if symmetric else np.float16((high - low) / 15.0)
    if np.isinf(scale):
        raise Refused("quantize.scale_overflow")
    step = np.float64(scale)
    if symmetric:
        zero = 8
    else:
        zero = int(np.clip(np.rint(-low / step), 0, 15)) if step else 0
    if step == 0:
        return scale, zero, np.full(w.size, zero)
    return scale, zero, np.clip(np.rint(wide / step) + zero, 1 if symmetric else 0, 15).astype(np.int64)


def int4(w, group, symmetric):
    rows, cols = w.shape
    data, scales, zeros, values = [], [], [], np.zeros_like(w)
    for r in range(rows):
        nibbles = []
        for first in range(0, cols, group):
            scale, zero, q = int4_group(w[r, first : first + group], symmetric)
            scales.append(scale)
            zeros.append(zero)
            nibbles += q.tolist()
            values[r, first : first + group] = (q - zero).astype(np.float32) * np.float32(scale)
        nibbles += [0] * (cols % 2)
        data += [low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2])]
    out = {"data": np.array(data, np.uint8), "scales": raw(np.array(scales, np.float16)), "dequantized": values}
    return out if symmetric else out | {"zeros": np.array(zeros, np.uint8)}


def quantize(w, precision):
    if precision == "int8":
        return int8(w)
    if precision.startswith("int4"):
        _, group, kind = precision.split("-")
        return int4(w, int(group[1:]), kind == "sym")
    return floats(w, precision)


def matrices():
    rng = np.random.default_rng(20240613)
    normal = lambda *shape: rng.normal(0, 0.05, shape).astype(np.float32)
    ties = np.arange(-14, 15, dtype=np.float32) / 2  # with 7 in the group the scale is 1: every odd half is a tie
    mixed = normal(4, 70)
    mixed[1, :32] = 0
    mixed[2, :] = -0.0
    mixed[3, 33] = 40.0
    constant = np.repeat(np.array([[0.3], [-0.3], [1e-3]], np.float32), 40, axis=1)
    return {
        "normal": normal(6, 64),
        "smollm2-width": normal(2, 576),  # 576 = 4 * 128 + 64
        "odd": normal(3, 33),
        "one-column": normal(4, 1),
        "zeros-and-outlier": mixed,
        "constant": constant,
        "one-sided": np.abs(normal(2, 48)) + np.float32(1.0),
        "ties": np.stack([np.pad(ties, (0, 3)), np.pad(-ties, (3, 0))]),
        "int8-ties": np.stack([np.append(np.arange(-63.5, 63.5), 127).astype(np.float32)]),
        "f16-subnormal-scale": normal(2, 40) * np.float32(2e-5),
        "f16-underflow": normal(2, 40) * np.float32(1e-9),
        "f32-subnormal": normal(2, 40) * np.float32(2e-40),
        "f32-smallest": np.full((1, 3), 2.0**-149, np.float32),
        "largest-f16-scale": np.array([[65504 * 7, -1, 3, 458752 * 0.9]], np.float32),
        "scale-overflow": np.array([[0.5, 1.0], [1e30, -1.0]], np.float32),
        "largest-f32": np.array([[3.4028235e38, -3.4028235e38, 1.0]], np.float32),
    }


def build():
    tensors, cases, refused = {}, [], []
    for name, w in matrices().items():
        tensors[f"{name}/weights"] = w
        for precision in PRECISIONS:
            try:
                parts = quantize(w, precision)
            except Refused as error:
                refused.append([name, precision, str(error)])
                continue
            cases.append([name, precision])
            tensors |= {f"{name}/{precision}/{part}": value for part, value in parts.items()}
    return tensors, {"cases": json.dumps(cases), "refused": json.dumps(refused), "numpy": np.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    args = parser.parse_args()
    tensors, metadata = build()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out, metadata)
    args.out.chmod(0o644)
    print(f"{args.out}: {len(json.loads(metadata['cases']))} cases, {len(json.loads(metadata['refused']))} refused")


if __name__ == "__main__":
    main()
