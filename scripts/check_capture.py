#!/usr/bin/env python3
"""Checks a capture, or an opening, without any code of Concord.

Owns a second reading of docs/captures.md: the standard library only (json, hashlib, struct),
so that a stranger can audit it in a few minutes and need not trust the program that wrote the file.

    check_capture.py CAPTURE.safetensors               structure and Merkle root
    check_capture.py --opening FILE.json --root HEX    one opened chunk against a root

Exit code: 0 when everything holds, 2 when not.
"""

import argparse
import base64
import binascii
import hashlib
import json
import os
import struct
import sys

SCHEMA, OPENING_SCHEMA, LEAF_RULE, CHUNK = "concord.capture/1", "concord.opening/1", "concord.leaf/1", 32
DTYPES = {"F16": (9, 2), "BF16": (10, 2), "F32": (11, 4)}  # tag in the context leaf, bytes per element
HEADER_LIMIT = 100_000_000


class Bad(Exception):
    """What is wrong with the file, in one sentence."""


def need(condition, message):
    if not condition:
        raise Bad(message)


def strict_json(text):
    def no_duplicates(pairs):
        keys = [k for k, _ in pairs]
        need(len(set(keys)) == len(keys), "a JSON object holds one key twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError) as error:
        raise Bad(f"not JSON: {error}") from None


# ---- hashes -------------------------------------------------------------------------


def sha(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.digest()


def text(value):
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw


def numbers(values):
    return struct.pack("<Q", len(values)) + struct.pack(f"<{len(values)}I", *values)


def context_leaf(c):
    return sha(b"\0concord.context/1", text(c["workload_digest"]), text(c["nonce"]), text(c["weights_digest"]),
               bytes([DTYPES[c["dtype"]][0]]), struct.pack("<Q", c["hidden"]),
               numbers(c["layers"]), numbers(c["positions"]), numbers(c["tokens"]))


def data_leaf(layer, chunk, data):
    return sha(b"\0concord.leaf/1", struct.pack("<IIQ", layer, chunk, len(data)), data)


def node(left, right):
    return sha(b"\1", left, right)


def split(n):
    """The largest power of two smaller than n."""
    return 1 << (n - 1).bit_length() - 1


def root_of(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node(root_of(leaves[:k]), root_of(leaves[k:]))


def root_from_proof(leaf, index, count, proof):
    """Walks from the root to the leaf, then hashes back up: the definition, not the usual bit trick."""
    if count == 1:
        need(not proof, "the proof is longer than the tree is high")
        return leaf
    need(proof, "the proof is shorter than the tree is high")
    k = split(count)
    if index < k:
        return node(root_from_proof(leaf, index, k, proof[:-1]), proof[-1])
    return node(proof[-1], root_from_proof(leaf, index - k, count - k, proof[:-1]))


# ---- captures -----------------------------------------------------------------------


def read_safetensors(path):
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        prefix = f.read(8)
        need(len(prefix) == 8, "shorter than 8 bytes")
        (length,) = struct.unpack("<Q", prefix)
        need(length <= HEADER_LIMIT and 8 + length <= size, f"header of {length} bytes does not fit")
        header = strict_json(f.read(length))
    need(isinstance(header, dict), "the header is not an object")
    metadata = header.pop("__metadata__", {})
    end = 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = t["data_offsets"]
        need(begin == end and stop >= begin, f"{name}: hole or overlap at {begin}")
        end = stop
    need(8 + length + end == size, "the tensors do not end where the file ends")
    return metadata, header, 8 + length


def ascending(values, limit):
    return bool(values) and 0 <= values[0] and values[-1] < limit and all(a < b for a, b in zip(values, values[1:]))


def check_context(c):
    need(c["dtype"] in DTYPES, f"dtype {c['dtype']}")
    need(c["hidden"] > 0 and ascending(c["layers"], 4097), "layers must ascend")
    need(ascending(c["positions"], len(c["tokens"])), "positions must ascend below the number of tokens")
    need(all(t >= 0 for t in c["tokens"]), "negative token id")


def check_capture(path):
    metadata, tensors, data = read_safetensors(path)
    need(metadata.get("schema") == SCHEMA, f"schema {metadata.get('schema')!r}, expected {SCHEMA!r}")
    need(metadata["leaf_rule"] == LEAF_RULE and metadata["chunk_positions"] == str(CHUNK), "unknown leaf rule")
    layers = strict_json(metadata["layers"])
    names = {f"hidden.{i}" for i in layers} | {"tokens", "positions"}
    need(set(tensors) == names and len(names) == int(metadata["expected_tensors"]), "missing or unexpected tensors")

    with open(path, "rb") as f:

        def read(name, begin, size):
            f.seek(data + tensors[name]["data_offsets"][0] + begin)
            raw = f.read(size)
            need(len(raw) == size, f"{name} is cut short")
            return raw

        def integers(name):
            t = tensors[name]
            need(t["dtype"] == "I32" and len(t["shape"]) == 1, f"{name} must be I32 with one dimension")
            return list(struct.unpack(f"<{t['shape'][0]}i", read(name, 0, 4 * t["shape"][0])))

        context = {k: metadata[k] for k in ("workload_digest", "nonce", "weights_digest", "dtype")}
        context |= {"hidden": int(metadata["hidden"]), "layers": layers, "tokens": integers("tokens"),
                    "positions": integers("positions")}
        check_context(context)
        rows, row = len(context["positions"]), context["hidden"] * DTYPES[context["dtype"]][1]
        leaves = [context_leaf(context)]
        for layer in layers:
            t = tensors[f"hidden.{layer}"]
            need(t["dtype"] == context["dtype"] and t["shape"] == [rows, context["hidden"]], f"hidden.{layer}: dtype or shape")
            need(t["data_offsets"][1] - t["data_offsets"][0] == rows * row, f"hidden.{layer}: size")
            for chunk, first in enumerate(range(0, rows, CHUNK)):
                leaves.append(data_leaf(layer, chunk, read(f"hidden.{layer}", first * row, min(CHUNK, rows - first) * row)))
    root = root_of(leaves).hex()
    need(root == metadata["merkle_root"], f"Merkle root: stated {metadata['merkle_root']}, computed {root}")
    return f"{path}: {len(layers)} layers, {rows} positions, {len(leaves)} leaves, root {root}"


# ---- openings -----------------------------------------------------------------------


def check_opening(path, root):
    with open(path, "rb") as f:
        o = strict_json(f.read())
    need(o.get("schema") == OPENING_SCHEMA, f"schema {o.get('schema')!r}, expected {OPENING_SCHEMA!r}")
    need(o["leaf_rule"] == LEAF_RULE and o["chunk_positions"] == CHUNK, "unknown leaf rule")
    need(o["root"] == root, f"the opening is for root {o['root']}, expected {root}")
    c = o["context"]
    check_context(c)
    chunks = -(-len(c["positions"]) // CHUNK)
    count = 1 + len(c["layers"]) * chunks
    need(o["leaf_count"] == count, "leaf_count does not follow from the context")

    def under_root(leaf, index, proof):
        return root_from_proof(leaf, index, count, [bytes.fromhex(p) for p in proof]).hex() == root

    need(under_root(context_leaf(c), 0, c["proof"]), "the context does not lie under the root")
    leaf = o.get("leaf")
    if leaf is None:
        return f"{path}: the context lies under root {root}"
    need(leaf["layer"] in c["layers"] and 0 <= leaf["chunk"] < chunks, "no such leaf")
    index = 1 + c["layers"].index(leaf["layer"]) * chunks + leaf["chunk"]
    positions = c["positions"][leaf["chunk"] * CHUNK:(leaf["chunk"] + 1) * CHUNK]
    raw = base64.b64decode(leaf["bytes"], validate=True)
    need(leaf["index"] == index and leaf["positions"] == positions, "index or positions do not follow from the context")
    need(len(raw) == len(positions) * c["hidden"] * DTYPES[c["dtype"]][1], "the chunk has the wrong size")
    need(under_root(data_leaf(leaf["layer"], leaf["chunk"], raw), index, leaf["proof"]), "the chunk does not lie under the root")
    return f"{path}: layer {leaf['layer']}, positions {positions[0]} to {positions[-1]} lie under root {root}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", nargs="?")
    parser.add_argument("--opening")
    parser.add_argument("--root")
    args = parser.parse_args()
    if (args.capture is None) == (args.opening is None) or (args.opening is None) != (args.root is None):
        parser.error("give a capture, or --opening together with --root")
    path = args.capture or args.opening
    try:
        print("ok:", check_capture(path) if args.capture else check_opening(path, args.root.lower()))
    except Bad as bad:
        sys.exit(report(path, bad))
    except KeyError as missing:
        sys.exit(report(path, f"field {missing} is missing"))
    except (OSError, TypeError, ValueError, AttributeError, IndexError, struct.error, binascii.Error) as error:
        sys.exit(report(path, f"malformed: {error}"))


def report(path, message):
    print(f"check_capture.py: {path}: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
