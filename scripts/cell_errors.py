#!/usr/bin/env python3
"""Per-cell relative L2 between pairs of capture files, for calibrating a profile.

    cell_errors.py SUBJECT REFERENCE [SUBJECT REFERENCE ...]

Prints, for each hidden-state index above 0 and for all of them, the number of cells, the median, the nearest-rank 99th percentile and the largest relative L2
||a - b|| / ||b|| in float64. Reads F32, F16 and BF16 captures with json and NumPy alone.
"""
import json
import sys

import numpy as np


def read_states(path):
    """{hidden-state index: float64 [positions, hidden]} of one capture."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    size = int(raw[:8].view("<u8")[0])
    header = json.loads(bytes(raw[8:8 + size]))
    states = {}
    for name, info in header.items():
        if not name.startswith("hidden."):
            continue
        begin, end = (8 + size + x for x in info["data_offsets"])
        data = raw[begin:end]
        if info["dtype"] == "BF16":
            values = (data.view("<u2").astype(np.uint32) << 16).view("<f4")
        else:
            values = data.view({"F32": "<f4", "F16": "<f2"}[info["dtype"]])
        states[int(name[7:])] = values.astype(np.float64).reshape(info["shape"])
    return states


def nearest_rank(values, q):
    ordered = np.sort(values)
    return ordered[max(0, int(np.ceil(q * len(ordered))) - 1)]


def main(paths):
    if len(paths) < 2 or len(paths) % 2:
        raise SystemExit(__doc__)
    errors = {}
    for subject, reference in zip(paths[::2], paths[1::2]):
        a, b = read_states(subject), read_states(reference)
        if a.keys() != b.keys():
            raise SystemExit(f"{subject} and {reference} hold different hidden states")
        for layer in a:
            if layer > 0:
                errors.setdefault(layer, []).append(np.linalg.norm(a[layer] - b[layer], axis=1) / np.linalg.norm(b[layer], axis=1))
    pooled = {layer: np.concatenate(values) for layer, values in errors.items()}
    pooled["all"] = np.concatenate(list(pooled.values()))
    print("hidden state   cells     median        p99        max")
    for layer, values in pooled.items():
        print(f"{layer!s:>12} {len(values):7} {np.median(values):10.3e} {nearest_rank(values, 0.99):10.3e} {values.max():10.3e}")


if __name__ == "__main__":
    main(sys.argv[1:])
