#!/usr/bin/env python3
"""Golden vectors for the metrics, made with other people's arithmetic: NumPy and the PyPI package `toploc`.

  make_metric_golden.py numpy OUT_DIR     write numpy.json (any NumPy)
  make_metric_golden.py toploc OUT_DIR    write toploc.json (needs torch and toploc)
  make_metric_golden.py check OUT_DIR     recompute the results in numpy.json from the inputs stored there with the NumPy
                                          at hand, and fail on any difference

The committed files were written with NumPy 2.4.6 and checked with NumPy 1.24.2; toploc 0.1.6 with torch 2.15.0.
Bits are stored as hexadecimal words, most significant digit first, so that no reader has to round anything.
"""
import argparse
import json
import math
import pathlib
import struct
import sys

import numpy as np

LENGTHS = [1, 7, 8, 9, 127, 128, 129, 130, 576, 1000, 3584]
WORD = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
FLOAT = {"F32": np.float32, "F16": np.float16}
TAU_M, TAU_W = 0.5, 1 / 16


def to_hex(bits):
    return "".join(f"{int(v):0{bits.itemsize * 2}x}" for v in bits)


def from_hex(text, dtype):
    width = np.dtype(WORD[dtype]).itemsize * 2
    return np.array([int(text[i:i + width], 16) for i in range(0, len(text), width)], dtype=WORD[dtype])


def as_float(bits, dtype):
    """The array as NumPy sees it; bf16, which NumPy does not have, widened to float32."""
    if dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view(FLOAT[dtype])


def to_bits(values, dtype):
    """float64 -> bits of dtype."""
    with np.errstate(over="ignore"):
        if dtype != "BF16":
            return values.astype(FLOAT[dtype]).view(WORD[dtype])
        u = values.astype(np.float32).view(np.uint32)
    rounded = u + np.uint32(0x7FFF) + ((u >> 16) & 1)
    return np.where((u & 0x7FFFFFFF) > 0x7F800000, (u >> 16) | 0x40, rounded >> 16).astype(np.uint16)


# --- inputs -------------------------------------------------------------------------------------------------------

def noisy(rng, n, dtype, relative, scale=1.0):
    a = rng.standard_normal(n) * scale
    b = a * (1 + relative * rng.standard_normal(n)) + relative * scale * rng.standard_normal(n)
    return to_bits(a, dtype), to_bits(b, dtype)


def denormal(rng, n, dtype):
    top = {"F32": 1 << 23, "F16": 1 << 10, "BF16": 1 << 7}[dtype]
    sign = {"F32": 31, "F16": 15, "BF16": 15}[dtype]
    make = lambda: (rng.integers(0, top + top // 8, n) | (rng.integers(0, 2, n) << sign)).astype(WORD[dtype])
    return make(), make()


def literals(rng, n, dtype):
    """Differences that land on, just below and just above the thresholds of the seed rules."""
    base = np.array([0, 1e-7, 1e-5, 0.2, 5, 1e-6, 0.01, 6e-8, 1.2e-7, 1.1e-5])
    d = to_bits(base[rng.integers(0, len(base), n)], dtype)
    step = rng.integers(-1, 2, n)
    d = np.where((d == 0) & (step < 0), d, d.astype(np.int64) + step).astype(WORD[dtype])
    return np.zeros(n, WORD[dtype]), d


def planted(rng, n, dtype):
    """Signed zeros, sign flips, both-negative pairs, the same infinities on both sides, large values."""
    a, b = (as_float(x, dtype).astype(np.float64) for x in noisy(rng, n, dtype, 1e-3))
    for i in range(n):
        k = i % 11
        if k == 0:
            a[i], b[i] = 0.0, -0.0
        elif k == 1:
            b[i] = -b[i]
        elif k == 2:
            a[i], b[i] = -abs(a[i]), -abs(b[i])
        elif k == 3:
            a[i], b[i] = 0.0, b[i] * 1e-5
        elif k == 4:
            a[i], b[i] = a[i] * 50, b[i] * 20
    return to_bits(a, dtype), to_bits(b, dtype)


def infinite(rng, n, dtype):
    a, b = planted(rng, n, dtype)
    a[0] = b[-1] = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[dtype]
    return a, b


def on_a_tie(rng, n):
    """A float16 array whose mean lies on a tie between two float16 values, so that the order of summation decides how it is rounded. Tried until
    NumPy's own float16 mean, which sums in buffers of 8192, differs from the sum of the whole array (true of NumPy 2)."""
    while True:
        d = np.abs(rng.standard_normal(n)).astype(np.float16)
        d[:6] = 0
        below = np.float16(d.astype(np.float64).mean())
        tie = (float(below) + float(np.nextafter(below, np.float16(np.inf)))) / 2
        for i in range(6):  # the missing part of the sum, in pieces that float16 holds
            d[i] = np.float16(tie * n - math.fsum(d.astype(np.float64)))
        d = np.abs(d)
        if np.mean(d) != np.float16(np.add.reduce(d.astype(np.float32)) / np.float64(n)):
            return d.view(np.uint16), np.zeros(n, np.uint16)


def inputs():
    rng = np.random.Generator(np.random.PCG64(20260))
    for dtype in ("F32", "F16", "BF16"):
        for n in LENGTHS if dtype != "BF16" else [1, 9, 130, 576]:
            yield f"noise/{n}", dtype, *noisy(rng, n, dtype, 2.0 ** -9)
        a, _ = noisy(rng, 129, dtype, 0)
        yield "equal/129", dtype, a, a.copy()
        yield "tiny-noise/576", dtype, *noisy(rng, 576, dtype, 2.0 ** -22, 0.01)
        yield "unrelated/576", dtype, noisy(rng, 576, dtype, 0, 30)[0], noisy(rng, 576, dtype, 0)[0]
        yield "denormal/130", dtype, *denormal(rng, 130, dtype)
        yield "literals/200", dtype, *literals(rng, 200, dtype)
        yield "planted/130", dtype, *planted(rng, 130, dtype)
        yield "infinite/33", dtype, *infinite(rng, 33, dtype)
    # Longer than NumPy's cast buffer of 8192 elements, which splits the float16 mean.
    yield "buffer/8300", "F16", *noisy(rng, 8300, "F16", 2.0 ** -8)
    yield "buffer-tie/8320", "F16", *on_a_tie(rng, 8320)


# --- the seed profile: NumPy in the array's own dtype ----------------------------------------------------------------

def float_hex(v):
    return struct.pack(">d", float(v)).hex()


def seed_result(a, b):
    with np.errstate(all="ignore"):
        delta = np.abs(a - b)
        exponents = [(x.astype(np.float32).view(np.uint32) & 0x7F800000) >> 23 for x in (a, b)]
        n = delta.size
        result = {"mean_error": float_hex(np.mean(delta)), "max_error": float_hex(np.max(delta)),
                  "pe": float_hex(np.sum(exponents[0] != exponents[1]) / n),
                  "pm": float_hex(np.sum(delta > 1e-5) / n), "pw": float_hex(np.sum(delta < 1e-7) / n)}
        counts = {"exact": delta == 0, "match_large": delta > 0.2, "match_small": (delta > 0) & (delta <= 0.2),
                  "mismatch_large": delta > 5, "mismatch_small": (delta > 0.2) & (delta <= 5)}
    return result | {k: int(np.sum(v)) for k, v in counts.items()}


# --- the bit-level quantities, in plain float64 and Python integers -----------------------------------------------------

def fields(bits, dtype):
    p, width = {"F32": (23, 32), "F16": (10, 16), "BF16": (7, 16)}[dtype]
    v = bits.astype(np.int64)
    magnitude = v & ((1 << (width - 1)) - 1)
    return v >> (width - 1), magnitude, magnitude >> p, magnitude & ((1 << p) - 1), p, ((1 << (width - 1)) - 1) >> p << p


def element_result(bits_a, bits_b, dtype):
    sa, ga, ea, ma, p, inf = fields(bits_a, dtype)
    sb, gb, eb, mb, _, _ = fields(bits_b, dtype)
    kind = lambda s, g: np.where(g < inf, 0, np.where(g > inf, 3, 1 + s))
    ka, kb = kind(sa, ga), kind(sb, gb)
    ok = (ka == 0) & (kb == 0)
    same = (ka == kb) & ~ok
    flip = ok & (sa != sb) & (ga != 0) & (gb != 0)
    x = ok & ((ea != eb) | flip)
    o = ~x & (ka == kb)
    d = np.where(ok, np.abs(ma - mb) / 2.0 ** p, 0.0)
    a = np.where(ok, as_float(bits_a, dtype), 0).astype(np.float64)
    b = np.where(ok, as_float(bits_b, dtype), 0).astype(np.float64)
    delta = a - b
    size = np.abs(delta)
    ulp = np.sort(np.where(ok, np.abs(np.where(sa == 1, -ga, ga) - np.where(sb == 1, -gb, gb)), 0)[ka == kb])
    rank = lambda q: int(ulp[max(1, math.ceil(q * len(ulp))) - 1]) if len(ulp) else 0
    count = lambda m: int(np.count_nonzero(m))
    return {
        "count": len(bits_a), "special": count(ka != kb), "both_nonfinite": count(same), "bit_equal": count(bits_a == bits_b),
        "sign_flips": count(flip), "exponent_mismatch": count(x), "mismatch_large": count(x & (d >= TAU_M)),
        "match_small": count(o & (d <= TAU_W)),
        "partition": [count(o & (delta == 0)), count(o & (delta != 0) & (size <= 0.2)), count(o & (size > 0.2)),
                      count(x & (size <= 5)), count(x & (size > 5))],
        "sums": {"delta": math.fsum(delta), "abs_delta": math.fsum(size), "sq_delta": math.fsum(delta * delta),
                 "abs_b": math.fsum(np.abs(b)), "sq_b": math.fsum(b * b), "sq_a": math.fsum(a * a), "ab": math.fsum(a * b)},
        "max_abs_delta": float_hex(np.max(size)), "ulp_p50": rank(0.5), "ulp_p99": rank(0.99), "ulp_max": rank(1.0)}


# --- TOPLOC -----------------------------------------------------------------------------------------------------------

def toploc_cases(torch):
    generator = torch.Generator().manual_seed(65497)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    for rows, width, k in ((32, 288, 128), (32, 64, 128), (5, 64, 128), (32, 48, 16), (7, 16, 4)):
        base = normal(rows, width) * (1 + 4 * (normal(1, width).abs() > 2))
        for name, other in (("identical", base), ("small", base * (1 + 0.004 * normal(rows, width))),
                            ("large", base + 0.3 * normal(rows, width)), ("unrelated", normal(rows, width))):
            yield f"{name}/{rows}x{width}/{k}", k, base.bfloat16(), other.bfloat16()
    # Two of the largest indices are a multiple of the prime apart, so that the modulus has to be searched for.
    base = torch.zeros(32, 2100)
    flat = base.view(-1)
    for i in range(128):
        flat[(i * 65497 if i < 2 else 2 + i * 517)] = (-1.0) ** i * (3 + i / 64 * 7)
    yield "modulus/32x2100/128", 128, base.bfloat16(), (base * (1 + 0.01 * normal(32, 2100))).bfloat16()
    # Many equal magnitudes at the border of the top k.
    base = torch.round(normal(32, 288) * 2)
    yield "ties/32x288/128", 128, base.bfloat16(), base.bfloat16()
    yield "ties/32x64/128", 128, base[:, :64].contiguous().bfloat16(), base[:, :64].contiguous().bfloat16()


def toploc_text(tensor):
    import torch
    bits = tensor.contiguous().view(torch.uint16).reshape(-1).numpy()
    if np.count_nonzero(bits) * 4 > bits.size:
        return {"length": int(bits.size), "bits": to_hex(bits)}
    return {"length": int(bits.size), "sparse": [[int(i), int(bits[i])] for i in np.flatnonzero(bits)]}


def make_toploc(out):
    import torch
    import toploc
    import importlib.metadata
    cases, chunks = [], {}

    def chunk(tensor):  # each one is stored once
        text = toploc_text(tensor)
        for key, known in chunks.items():
            if known == text:
                return key
        chunks[f"chunk{len(chunks)}"] = text
        return f"chunk{len(chunks) - 1}"

    for name, k, prover, verifier in toploc_cases(torch):
        rows = prover.shape[0]
        proof = toploc.build_proofs_bytes(prover, decode_batching_size=rows, topk=k, skip_prefill=True)[0]
        # The C++ path takes the modulus into account and the upper median; the list path (pure Python) neither.
        fast = toploc.verify_proofs_bytes(verifier, [proof], decode_batching_size=rows, topk=k, skip_prefill=True)[0]
        slow = toploc.verify_proofs_bytes(list(verifier), [proof], decode_batching_size=rows, topk=k, skip_prefill=True)[0]
        row = lambda r: {"exponent_mismatches": r.exp_mismatches, "mean": float_hex(r.mant_err_mean),
                     "median": float_hex(r.mant_err_median)}
        cases.append({"name": name, "topk": k, "prover": chunk(prover), "verifier": chunk(verifier),
                      "proof": proof.hex(), "cpp": row(fast), "python": row(slow)})
        print(name, fast, slow, file=sys.stderr)
    versions = {"toploc": importlib.metadata.version("toploc"), "torch": torch.__version__.split("+")[0]}
    write(out / "toploc.json", {"made_with": versions, "chunks": chunks, "cases": cases})


# --- files ------------------------------------------------------------------------------------------------------------

def write(path, document):
    text = json.dumps(document, indent=0, allow_nan=False)
    path.write_text(text + "\n")
    print(f"{path}: {len(document['cases'])} cases, {len(text)} bytes")


def make_numpy(out):
    cases = []
    for name, dtype, a, b in inputs():
        case = {"name": f"{dtype}/{name}", "dtype": dtype, "a": to_hex(a), "b": to_hex(b)}
        cases.append(case | {"seed": seed_result(as_float(a, dtype), as_float(b, dtype)),
                             "elements": element_result(a, b, dtype)})
    write(out / "numpy.json", {"made_with": {"numpy": np.__version__}, "cases": cases})


def check_numpy(out):
    document = json.loads((out / "numpy.json").read_text())
    bad = 0
    for case in document["cases"]:
        a, b = (from_hex(case[k], case["dtype"]) for k in "ab")
        fa, fb = (as_float(v, case["dtype"]) for v in (a, b))
        for key, got in (("seed", seed_result(fa, fb)), ("seed", seed_result(fa[None], fb[None])),
                         ("elements", element_result(a, b, case["dtype"]))):
            for field, value in got.items():
                if value != case[key][field]:
                    bad += 1
                    print(f"{case['name']}: {key}.{field}: {value} here, {case[key][field]} in the file")
    print(f"NumPy {np.__version__} against {document['made_with']['numpy']}: {len(document['cases'])} cases, {bad} differences")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["numpy", "toploc", "check"])
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    if args.mode == "check":
        return check_numpy(args.out)
    (make_numpy if args.mode == "numpy" else make_toploc)(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
