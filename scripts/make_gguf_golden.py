#!/usr/bin/env python3
"""Makes fixtures/golden/gguf: small GGUF files and what they must decode to.

all-types.gguf        one tensor per type that Concord decodes, with random block
                      bytes and scales that include zeros, subnormals, the largest
                      half, infinities and NaN; metadata of every value type
all-types.safetensors the same tensors as F32, decoded by the Python package `gguf`
                      (gguf.quants) or by NumPy's casts
permuted.gguf         a llama-architecture file whose Q and K (weights and biases) are
                      permuted as llama.cpp's converter permutes them
permuted.safetensors  the unpermuted originals under their Hugging Face names

    python3 scripts/make_gguf_golden.py [--out fixtures/golden/gguf]

Needs gguf and numpy (scripts/requirements-gguf.txt). The same versions give the
same bytes.
"""
import argparse
import json
import os
import struct

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import quants

SEED = 20240607
BLOCK_TYPES = [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K]
# Byte positions of the half-precision scales inside one block.
SCALES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
          Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}
SPECIAL_HALVES = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF,
                           0x7C00, 0xFC00, 0x7E00, 0x3C00], dtype=np.uint16)


def random_halves(rng, n):
    """Finite halves of ordinary size, then every special one."""
    ordinary = (rng.standard_normal(n) * 0.1).astype(np.float16).view(np.uint16)
    k = min(n, len(SPECIAL_HALVES))
    ordinary[:k] = rng.permutation(SPECIAL_HALVES)[:k]
    return ordinary


def random_blocks(rng, qtype, rows, blocks_per_row):
    elements, size = gguf.GGML_QUANT_SIZES[qtype]
    data = rng.integers(0, 256, (rows * blocks_per_row, size), dtype=np.uint8)
    for position in SCALES[qtype]:
        data[:, position:position + 2] = random_halves(rng, len(data)).view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, blocks_per_row * size)


def plain_tensors(rng):
    """name -> stored array (or raw bytes with a type), expected float32."""
    bits = rng.integers(0, 1 << 16, (4, 32), dtype=np.uint16)
    floats = rng.standard_normal((4, 33)).astype(np.float32) * np.float32(1e-3)
    floats.flat[:6] = [0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4028235e38]
    doubles = rng.standard_normal((3, 11))
    doubles.flat[:4] = [1 + 2.0**-24, 1 + 3 * 2.0**-24, 1e-310, 1e300]  # ties, subnormal, overflow
    with np.errstate(over="ignore", invalid="ignore"):
        out = {
            "f32": (floats, None, floats),
            "f16": (bits.view(np.float16), None, bits.view(np.float16).astype(np.float32)),
            "bf16": (bits.view(np.uint8).reshape(4, 64), Q.BF16, (bits.astype(np.uint32) << 16).view(np.float32)),
            "f64": (doubles, None, doubles.astype(np.float32)),
        }
    for kind in (np.int8, np.int16, np.int32, np.int64):
        info = np.iinfo(kind)
        values = rng.integers(info.min, info.max, (2, 9), dtype=kind, endpoint=True)
        values.flat[:2] = [info.min, info.max]
        out[np.dtype(kind).name.replace("int", "i")] = (values, None, values.astype(np.float32))
    return out


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name], dtype="<f4")
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def add_metadata(w):
    for kind, value in [("uint8", 255), ("int8", -128), ("uint16", 65535), ("int16", -32768), ("uint32", 4294967295),
                        ("int32", -2147483648), ("uint64", 2**64 - 1), ("int64", -2**63), ("float32", 0.1), ("float64", 0.1)]:
        getattr(w, "add_" + kind)("golden." + kind, value)
    w.add_float32("golden.nan", float("nan"))
    w.add_float32("golden.infinity", float("inf"))
    w.add_bool("golden.true", True)
    w.add_string("golden.string", "Grüße \u2713")
    w.add_array("golden.strings", ["a", "", "\u00e9"])
    w.add_array("golden.integers", [1, -2, 3])
    w.add_array("golden.floats", [0.5, -1.5])


def write_all_types(out):
    rng = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(os.path.join(out, "all-types.gguf"), "golden")
    add_metadata(writer)
    expected = {}
    for name, (array, raw, floats) in plain_tensors(rng).items():
        writer.add_tensor(name, array, raw_dtype=raw)
        expected[name] = floats
    for qtype in BLOCK_TYPES:
        data = random_blocks(rng, qtype, 4, 6)
        with np.errstate(all="ignore"):
            expected[qtype.name.lower()] = quants.dequantize(data, qtype)
        writer.add_tensor(qtype.name.lower(), data, raw_dtype=qtype)
    finish(writer)
    write_safetensors(os.path.join(out, "all-types.safetensors"), expected, {"source": "gguf.quants.dequantize"})


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def permute(weights, heads):
    """llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute: halves of a head become neighbouring pairs."""
    return (weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
            .swapaxes(1, 2).reshape(weights.shape))


def write_permuted(out):
    rng = np.random.default_rng(SEED + 1)
    heads, kv_heads, d, hidden = 4, 2, 8, 32
    plain = {f"model.layers.0.self_attn.{n}_proj.{s}": rng.standard_normal(shape).astype(np.float32)
             for n, rows in [("q", heads * d), ("k", kv_heads * d), ("v", kv_heads * d)]
             for s, shape in [("weight", (rows, hidden)), ("bias", (rows,))]}
    writer = gguf.GGUFWriter(os.path.join(out, "permuted.gguf"), "llama")
    for name, array in plain.items():
        letter, suffix = name.split("self_attn.")[1][0], name.rsplit(".", 1)[1]
        stored = array if letter == "v" else permute(array, heads if letter == "q" else kv_heads)
        writer.add_tensor(f"blk.0.attn_{letter}.{suffix}", np.ascontiguousarray(stored))
    finish(writer)
    write_safetensors(os.path.join(out, "permuted.safetensors"), plain, {"heads": str(heads), "kv_heads": str(kv_heads)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(os.path.dirname(__file__), "..", "fixtures", "golden", "gguf"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    write_all_types(out)
    write_permuted(out)
    for name in sorted(os.listdir(out)):
        print(f"{os.path.getsize(os.path.join(out, name)):8d}  {name}")


if __name__ == "__main__":
    main()
