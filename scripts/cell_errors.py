#!/usr/bin/env python3
"""Relative L2 per cell between pairs of capture files, and the limit that honest pairs support.

    cell_errors.py SUBJECT REFERENCE [SUBJECT REFERENCE ...]
    cell_errors.py RUN_FOLDER            every pair that `concord run --keep-captures` left there

Prints, for each hidden-state index above 0 and for all of them, the number of cells, the median, the nearest-rank 99th percentile and the largest relative L2
||a - b|| / ||b|| in float64. Then, as a comparison is refused for its worst cell: the largest cell of each prompt, over all its pairs; the limit 1.5 x nearest-rank p99
of these over the prompts at even places; how many prompts at odd places are above it, and the false-reject rate that this many prompts can bound (95 %).
Reads F32, F16 and BF16 captures with json and NumPy alone.
"""
import json
import os
import sys

import numpy as np


def read_states(path):
    """(workload id, {hidden-state index: float64 [positions, hidden]}) of one capture."""
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
    return header["__metadata__"]["workload_id"], states


def pairs_of(folder):
    """Pairs as `concord run --keep-captures` names them: KEY.prover.safetensors and KEY.CASE.vN.safetensors."""
    captures = os.path.join(folder, "captures")
    names = sorted(n for n in os.listdir(captures) if not n.endswith(".prover.safetensors"))
    return [os.path.join(captures, x) for n in names for x in (n.split(".")[0] + ".prover.safetensors", n)]


def print_limit(worst):
    prompts = sorted(worst)
    held_out = [worst[p] for p in prompts[1::2]]
    limit = 1.5 * nearest_rank(np.array([worst[p] for p in prompts[::2]]), 0.99)
    above = sum(w > limit for w in held_out)
    print(f"worst cell of a prompt: smallest {min(worst.values()):.3e}, largest {max(worst.values()):.3e}, {len(worst)} prompts")
    print(f"limit from {len(prompts[::2])} prompts: {limit:.3e}; held out: {above} of {len(held_out)} prompts above it")
    if held_out and above == 0:
        print(f"no false reject in {len(held_out)} prompts bounds the rate at {1 - 0.05 ** (1 / len(held_out)):.3f}")


def nearest_rank(values, q):
    ordered = np.sort(values)
    return ordered[max(0, int(np.ceil(q * len(ordered))) - 1)]


def main(paths):
    if len(paths) == 1 and os.path.isdir(paths[0]):
        paths = pairs_of(paths[0])
    if len(paths) < 2 or len(paths) % 2:
        raise SystemExit(__doc__)
    errors, worst = {}, {}
    for subject, reference in zip(paths[::2], paths[1::2]):
        (prompt, a), (_, b) = read_states(subject), read_states(reference)
        if a.keys() != b.keys():
            raise SystemExit(f"{subject} and {reference} hold different hidden states")
        for layer in a:
            if layer > 0:
                cells = np.linalg.norm(a[layer] - b[layer], axis=1) / np.linalg.norm(b[layer], axis=1)
                errors.setdefault(layer, []).append(cells)
                worst[prompt] = max(worst.get(prompt, 0.0), float(cells.max()))
    pooled = {layer: np.concatenate(values) for layer, values in errors.items()}
    pooled["all"] = np.concatenate(list(pooled.values()))
    print("hidden state   cells     median        p99        max")
    for layer, values in pooled.items():
        print(f"{layer!s:>12} {len(values):7} {np.median(values):10.3e} {nearest_rank(values, 0.99):10.3e} {values.max():10.3e}")
    print_limit(worst)


if __name__ == "__main__":
    main(sys.argv[1:])
