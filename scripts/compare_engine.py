#!/usr/bin/env python3
"""Compares Concord with another engine's capture of the same model: tokens, and every hidden state.

Owns the comparison with foreign engines. Knows nothing about how they were run: it reads the file that
scripts/llamacpp_capture.py describes (tokens, n_prompt, hidden.0 .. hidden.L, and logits if they are there).

Two runs of `concord capture`, all layers and positions:
  as generated   the engine's prompt, continued greedily as far as the engine did. The continuations are
                 compared, and the hidden states of every position before the first difference: a prefill
                 and then one decode step per token.
  replayed       the engine's whole sequence as one prefill, so that all its positions can be compared even
                 where the continuations part. (One token is generated after it, and ignored.)
A file without n_prompt holds no continuation: only the replay is done.

The figure is the relative L2 distance of a row, |concord - engine| / |engine|, in float64; NaN and infinity
count as infinite. Exit code 0 when everything was within the limits, 1 when not, 2 for bad input.

Needs: NumPy.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError as error:
    sys.exit(f"compare_engine.py: {error}; try: apt install python3-numpy, or pip install numpy")

PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I32": "<i4"}
HEADER_LIMIT = 100_000_000


class EngineError(Exception):
    """What is wrong with the input or the run; printed without a traceback."""


# ---- safetensors --------------------------------------------------------------------


def decode(raw, entry, name):
    if entry["dtype"] == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in PLAIN:
        values = np.frombuffer(raw, PLAIN[entry["dtype"]])
    else:
        raise EngineError(f"{name}: type {entry['dtype']} is not read here")
    return values.reshape(entry["shape"])


def read_safetensors(path):
    data = Path(path).read_bytes()
    if len(data) < 8:
        raise EngineError(f"{path}: shorter than 8 bytes")
    (size,) = struct.unpack("<Q", data[:8])
    if size > HEADER_LIMIT or 8 + size > len(data):
        raise EngineError(f"{path}: a header of {size} bytes does not fit")
    try:
        header = json.loads(data[8 : 8 + size])
        metadata, body = header.pop("__metadata__", {}), memoryview(data)[8 + size :]
        tensors = {n: decode(body[slice(*e["data_offsets"])], e, f"{path}: {n}") for n, e in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{path}: not a readable safetensors file ({error})") from error
    return metadata, tensors


# ---- the engine's side --------------------------------------------------------------


class EngineCapture:
    """What the other engine computed, checked for completeness."""

    def __init__(self, path):
        self.path = path
        self.metadata, tensors = read_safetensors(path)
        if "tokens" not in tensors or "hidden.0" not in tensors:
            raise EngineError(f"{path}: holds no tokens, or no hidden.0")
        self.tokens = [int(t) for t in tensors["tokens"].reshape(-1)]
        self.hidden = hidden_in_order(path, tensors, (len(self.tokens),))
        self.prompt = self.prompt_length(tensors)
        self.logits = tensors.get("logits")

    def prompt_length(self, tensors):
        if "n_prompt" not in tensors:
            return None
        count = int(tensors["n_prompt"].reshape(-1)[0])
        if not 0 < count < len(self.tokens):
            raise EngineError(f"{self.path}: {count} prompt tokens of {len(self.tokens)}")
        return count

    def margin(self, position, other):
        """A sentence: how far the engine preferred its own token at `position` to another one."""
        if self.logits is None:
            return "the engine's logits were not recorded"
        row = self.logits[position - 1].astype(np.float64)
        gap, rank = row[self.tokens[position]] - row[other], int(np.count_nonzero(row > row[other])) + 1
        return f"the engine's one-pass logits prefer its own token by {gap:.4g}; Concord's is its number {rank}"


def hidden_in_order(path, tensors, leading):
    count = sum(name.startswith("hidden.") for name in tensors)
    missing = [f"hidden.{i}" for i in range(count) if f"hidden.{i}" not in tensors]
    if missing:
        raise EngineError(f"{path}: {count} hidden states, but no {missing[0]}")
    states = [tensors[f"hidden.{i}"] for i in range(count)]
    for i, state in enumerate(states):
        if state.ndim != 2 or state.shape[:1] != leading or state.shape != states[0].shape:
            raise EngineError(f"{path}: hidden.{i} has shape {list(state.shape)}, expected [{leading[0]}, width]")
    return states


# ---- Concord's side -----------------------------------------------------------------


def workload(tokens, new_tokens):
    # No "model" object: the ids are the engine's, and the engine was told no tokenizer.
    prompt = {"id": "engine", "token_ids": tokens, "new_tokens": new_tokens}
    return {"schema": "concord.workload/1", "name": "engine", "sampler": {"kind": "greedy"}, "prompts": [prompt]}


def concord(args, tokens, new_tokens):
    """(tokens, hidden states by layer) of one prover run; rows are the positions 0, 1, 2, ..."""
    with tempfile.TemporaryDirectory(prefix="compare-engine-") as folder:
        job, out = Path(folder) / "workload.json", Path(folder) / "capture.safetensors"
        job.write_text(json.dumps(workload(tokens, new_tokens)), encoding="utf-8")
        command = [args.concord, "capture", "--model", args.model, "--workload", str(job), "--backend", args.backend,
                   "--precision", args.precision, "--layers", "all", "--positions", "all", "--out", str(out)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise EngineError(f"concord capture ended with {result.returncode}: {result.stderr.strip()}")
        _, tensors = read_safetensors(out)
    positions = tensors["positions"]
    if not np.array_equal(positions, np.arange(len(positions))):
        raise EngineError("concord captured other positions than 0, 1, 2, ...")
    return [int(t) for t in tensors["tokens"]], hidden_in_order("concord's capture", tensors, positions.shape)


# ---- comparison ---------------------------------------------------------------------


def row_errors(ours, theirs):
    """Relative L2 per row; a zero row counts by its absolute distance."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    norm = np.linalg.norm(b, axis=1)
    errors = np.linalg.norm(a - b, axis=1) / np.where(norm > 0, norm, 1.0)
    return np.where(np.isfinite(errors), errors, np.inf)


def compare_states(ours, engine, rows):
    """Row errors of every layer, for the first `rows` positions."""
    if len(ours) != len(engine.hidden) or ours[0].shape[1] != engine.hidden[0].shape[1]:
        raise EngineError(f"another model: Concord has {len(ours)} hidden states of width {ours[0].shape[1]}, "
                          f"the engine {len(engine.hidden)} of width {engine.hidden[0].shape[1]}")
    if not 0 < rows <= len(ours[0]):
        raise EngineError(f"{rows} positions to compare, Concord captured {len(ours[0])}")
    return [row_errors(a[:rows], b[:rows]) for a, b in zip(ours, engine.hidden)]


def first_difference(ours, theirs):
    """Index of the first differing token, or the common length."""
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def as_generated(args, engine):
    """(tokens equal?, row errors per layer before the first difference)"""
    tokens, hidden = concord(args, engine.tokens[: engine.prompt], len(engine.tokens) - engine.prompt)
    common, new = first_difference(tokens, engine.tokens), len(engine.tokens) - engine.prompt
    equal = tokens == engine.tokens
    place = "" if equal else "before the first difference"
    print(f"tokens       {common - engine.prompt} of {new} generated ids equal", place)
    if not equal:
        same = sum(a == b for a, b in zip(tokens[engine.prompt :], engine.tokens[engine.prompt :]))
        print(f"             generated id {common - engine.prompt} (counted from 0): engine {engine.tokens[common]}, "
              f"Concord {tokens[common]}; {same} of {new} equal place by place")
        print(f"             {engine.margin(common, tokens[common])}")
    return equal, compare_states(hidden, engine, min(common, len(hidden[0])))


def replayed(args, engine):
    tokens, hidden = concord(args, engine.tokens, 1)
    if tokens[:-1] != engine.tokens:
        raise EngineError("Concord did not run the engine's tokens")
    return compare_states(hidden, engine, len(engine.tokens))


def print_table(runs):
    """One line per hidden state, one pair of columns per run."""
    print(f"\n{'hidden':>8}" + "".join(f"{name + ' worst':>20}{'at':>6}{'median':>12}" for name in runs))
    for layer in range(len(next(iter(runs.values())))):
        cells = ((e[layer].max(), int(e[layer].argmax()), np.median(e[layer])) for e in runs.values())
        print(f"{layer:>8}" + "".join(f"{worst:>20.3e}{at:>6}{median:>12.3e}" for worst, at, median in cells))
    for name, errors in runs.items():
        layer = int(np.argmax([e.max() for e in errors]))
        place = f"hidden {layer}, position {int(errors[layer].argmax())}; {sum(len(e) for e in errors)} rows"
        print(f"worst, {name}: {errors[layer].max():.3e} ({place})")


def compare(args):
    engine = EngineCapture(args.engine)
    told = [engine.metadata[key] for key in ("model_file", "model_desc", "llama_cpp_commit") if key in engine.metadata]
    print(f"engine       {Path(args.engine).name}", f"({', '.join(told)})" if told else "")
    print(f"concord      {Path(args.model).name}, {args.backend}, {args.precision}")
    equal, runs = True, {}
    if engine.prompt is not None:
        equal, runs["as generated"] = as_generated(args, engine)
    runs["replayed"] = replayed(args, engine)
    print_table(runs)
    return verdict(args, equal, max(e.max() for errors in runs.values() for e in errors))


def verdict(args, equal, worst):
    failures = []
    if not worst <= args.max_rel_l2:
        failures.append(f"relative L2 {worst:.3e} is over the limit {args.max_rel_l2:g}")
    if args.require_tokens and not equal:
        failures.append("the continuations differ")
    print("\nFAIL: " + "; ".join(failures) if failures else f"\nok: within {args.max_rel_l2:g}")
    return 1 if failures else 0


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", metavar="ENGINE_CAPTURE.safetensors")
    parser.add_argument("--concord", required=True, metavar="PATH", help="the concord program")
    parser.add_argument("--model", required=True, help="the model that the engine ran")
    parser.add_argument("--backend", default="cpu", help="default cpu")
    parser.add_argument("--precision", default="f32", help="default f32")
    parser.add_argument("--max-rel-l2", type=float, default=1e-5, metavar="X", help="limit for every row, default 1e-5")
    parser.add_argument("--require-tokens", action="store_true", help="fail when the continuations differ")
    args = parser.parse_args(argv)
    if args.require_tokens and "n_prompt" not in read_safetensors(args.engine)[1]:
        raise EngineError(f"{args.engine}: --require-tokens, but it holds no continuation (no n_prompt)")
    return args


def main(argv=None):
    try:
        return compare(parse_args(argv))
    except (EngineError, OSError) as error:
        print(f"compare_engine.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
