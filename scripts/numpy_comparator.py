#!/usr/bin/env python3
"""Compares two float32 captures under the profiles `paper` and `seed` with NumPy alone, and says how long that takes.

    numpy_comparator.py SUBJECT REFERENCE [--repetitions 3]

The same definitions as docs/metrics.md: pooled chunks of 32 positions for `paper`, cells for `seed`, and the sums, partition and counts that
`concord compare` reports beside them. It leaves out the ulp histogram, so it computes less. Vectorised over blocks of 32 positions, which fit a cache.
Prints one JSON object: the median and all seconds, and the counts by which the two programs are held against each other.
"""
import argparse
import json
import os
import statistics
import struct
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
import numpy as np

CHUNK = 32
TAU_M, TAU_W = 0.5, 1 / 16
PAPER = {"pe": 0.05, "pm": 0.75, "pm_min_count": 30, "pw": 0.80, "mean": 0.01}


def open_capture(path):
    """[(layer, float32 array of positions x hidden)] in the file's order, mapped."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    header.pop("__metadata__")
    out = []
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if len(tensor["shape"]) != 2:
            continue  # the lists of tokens and positions
        if tensor["dtype"] != "F32":
            raise SystemExit(f"{path}: {name}: expected F32, found {tensor['dtype']}")
        shape, begin = tensor["shape"], 8 + size + tensor["data_offsets"][0]
        out.append((name, np.memmap(path, dtype=np.float32, mode="r", offset=begin, shape=tuple(shape))))
    return out


def paper(a, b, totals):
    """One chunk, pooled. Differences and sums in float64."""
    a, b = a.ravel(), b.ravel()
    u, v = a.view(np.uint32), b.view(np.uint32)
    finite = np.isfinite(a) & np.isfinite(b)
    special = 0 if finite.all() else np.count_nonzero(~finite & ~((np.isnan(a) & np.isnan(b)) | (a == b)))
    changed = u ^ v
    flips = (changed >= 0x80000000) & (a != 0) & (b != 0)
    x = ((changed & 0x7F800000) != 0) | flips
    d = np.abs((u & 0x7FFFFF).astype(np.int32) - (v & 0x7FFFFF).astype(np.int32))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    delta = wide_a - wide_b
    size = np.abs(delta)
    mismatches = int(np.count_nonzero(x))
    large = int(np.count_nonzero(x & (d >= TAU_M * 2**23)))
    small = int(np.count_nonzero(~x & (d <= TAU_W * 2**23)))
    counts = {
        "count": a.size, "special": int(special), "bit_equal": int(np.count_nonzero(changed == 0)), "sign_flips": int(np.count_nonzero(flips)),
        "exponent_mismatch": mismatches, "mismatch_large": large, "match_small": small,
        "exact": int(np.count_nonzero(~x & (size == 0))), "match_near": int(np.count_nonzero(~x & (size <= 0.2))),
        "mismatch_near": int(np.count_nonzero(x & (size <= 5)))}
    sums = [delta.sum(), size.sum(), delta @ delta, np.abs(wide_b).sum(), wide_b @ wide_b, wide_a @ wide_a, wide_a @ wide_b, size.max()]
    for key, value in counts.items():
        totals[key] = totals.get(key, 0) + value
    pm_ok = mismatches < PAPER["pm_min_count"] or large / mismatches > PAPER["pm"]
    matches = a.size - special - mismatches
    pw_ok = matches > 0 and small / matches > PAPER["pw"]
    return special == 0 and mismatches / a.size < PAPER["pe"] and pm_ok and pw_ok and abs(sums[0] / a.size) <= PAPER["mean"]


def seed(a, b):
    """The cells of one chunk (rows), in float32 as the original does."""
    delta = np.abs(a - b)
    exponents = [(x.view(np.uint32) & 0x7F800000) >> 23 for x in (a, b)]
    mean = np.mean(delta, axis=1)
    largest = np.max(delta, axis=1)
    share = lambda mask: np.sum(mask, axis=1) / a.shape[1]
    pe, pm, pw = share(exponents[0] != exponents[1]), share(delta > 1e-5), share(delta < 1e-7)
    counts = [np.sum(mask, axis=1) for mask in (delta == 0, delta > 0.2, (delta > 0) & (delta <= 0.2), delta > 5, (delta > 0.2) & (delta <= 5))]
    accepted = (mean < 1e-6) | ((mean < 0.01) & (pe < 0.05)) | ((pe < 0.05) & (pm > 0.75) & (pw > 0.50) & (mean < 0.01))
    assert largest.shape == counts[0].shape
    return int(np.count_nonzero(accepted))


def compare(subject, reference):
    out = {"totals": {}, "paper_chunks": 0, "paper_accepted": 0, "seed_cells": 0, "seed_accepted": 0}
    for (_, a), (_, b) in zip(subject, reference):
        for first in range(0, len(a), CHUNK):
            part_a, part_b = np.asarray(a[first:first + CHUNK]), np.asarray(b[first:first + CHUNK])
            out["paper_chunks"] += 1
            out["paper_accepted"] += bool(paper(part_a, part_b, out["totals"]))
            out["seed_cells"] += len(part_a)
            out["seed_accepted"] += seed(part_a, part_b)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject")
    parser.add_argument("reference")
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    subject, reference = open_capture(args.subject), open_capture(args.reference)
    result, seconds = None, []
    for _, values in subject + reference:
        float(np.max(values))  # the pages are in memory
    for _ in range(args.repetitions):
        start = time.perf_counter()
        outcome = compare(subject, reference)
        seconds.append(time.perf_counter() - start)
        if result not in (None, outcome):
            raise SystemExit("two repetitions gave different counts")
        result = outcome
    size = sum(v.nbytes for _, v in subject + reference)
    print(json.dumps({"numpy": np.__version__, "bytes": size, "median_seconds": statistics.median(seconds), "seconds": seconds, **result}))


if __name__ == "__main__":
    main()
