#!/usr/bin/env python3
"""Shows what llama.cpp rounds in a matrix product: evidence for docs/conformance.md.

Runs a GGUF in llama.cpp over the tokens of one of its captures (scripts/llamacpp_capture.py) and records the inputs
and outputs of the matrix products of one layer. Each product is then computed again in NumPy float64, from
llama.cpp's own input and the file's weights, twice:
  exact     the input as it is
  rounded   the input rounded to the companion type that ggml pairs with the weight type:
              F16 weights    f16
              Q8_0 weights   blocks of 32: q = rint(x * 127 / max|x|), scale max|x| / 127 stored as f16
              Q4_1 weights   the same q and scale for the part with the weight's scale; the part with the weight's
                             minimum uses the block's sum of q times the scale (before its rounding), stored as f16
Where the second agrees with llama.cpp to float32 rounding and the first does not, the rounding is the cause.

Needs: pip install llama-cpp-python gguf numpy
"""

import argparse
import sys

import llamacpp_capture as engine_side  # says what to install
import numpy as np
from compare_engine import EngineCapture, EngineError, row_errors

try:
    from gguf import GGMLQuantizationType as Type
    from gguf import GGUFReader, dequantize
except ImportError as error:
    sys.exit(f"llamacpp_rounding.py: {error}; try: pip install gguf")

# Input tensor, weight, output tensor. Query and key are left out: llama.cpp names their products alike before and
# after the rotation.
PRODUCTS = [
    ("attn_norm", "attn_v", "Vcur"),
    ("kqv_out", "attn_output", "attn_out"),
    ("ffn_norm", "ffn_gate", "ffn_gate"),
    ("ffn_norm", "ffn_up", "ffn_up"),
    ("ffn_swiglu", "ffn_down", "ffn_out"),
]


class Probe:
    """Evaluation callback that keeps the first tensor of each wanted name, as [rows, width]."""

    def __init__(self, names, rows):
        self.names, self.rows, self.seen, self.failure = names, rows, {}, ""

    def on_tensor(self, tensor, ask, _user):
        # An exception cannot cross the C frames above, so it is kept for later.
        try:
            name = engine_side.tensor_name(tensor).decode()
            if ask or name not in self.names:
                return name in self.names
            width = engine_side.tensor_elements(tensor) // self.rows
            self.seen.setdefault(name, engine_side.read_f32(tensor, width).astype(np.float64))
        except Exception as error:  # noqa: BLE001
            self.failure = self.failure or str(error)
        return True


class ProbedEngine(engine_side.Engine):
    """An engine whose evaluation callback is a Probe's."""

    def __init__(self, path, positions, threads, probe):
        self.probe = probe
        super().__init__(path, positions, threads)

    def make_context(self, positions, threads):
        self.callback = engine_side.api.ggml_backend_sched_eval_callback(self.probe.on_tensor)
        return super().make_context(positions, threads)


def llamacpp_tensors(args, tokens):
    names = {f"{n}-{args.layer}" for row in PRODUCTS for n in (row[0], row[2])}
    probe = Probe(names, len(tokens))
    with ProbedEngine(args.model, len(tokens), args.threads, probe) as engine:
        engine.decode(tokens, 0, all_logits=True)
    missing = sorted(names - set(probe.seen))
    if probe.failure or missing:
        raise EngineError(probe.failure or f"llama.cpp computed no tensor named {', '.join(missing)}")
    return probe.seen


def int8_blocks(x):
    """Blocks of 32 in float32, as ggml's: (q, scale), both with a last axis of 32 and 1."""
    blocks = x.astype(np.float32).reshape(len(x), -1, 32)
    largest = np.abs(blocks).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(blocks * inverse), largest / np.float32(127)


def as_stored_f16(values):
    return values.astype(np.float16).astype(np.float64)


def dense(tensor):
    return dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape([int(n) for n in tensor.shape][::-1])


def rounded_product(x, tensor):
    """What ggml computes, in float64 but for the roundings above."""
    weights = dense(tensor)
    if tensor.tensor_type == Type.F32:
        return x @ weights.T
    if tensor.tensor_type == Type.F16:
        return as_stored_f16(x.astype(np.float32)) @ weights.T
    q, scale = int8_blocks(x)
    rounded = (q * as_stored_f16(scale)).reshape(x.shape)
    if tensor.tensor_type == Type.Q8_0:
        return rounded @ weights.T
    if tensor.tensor_type != Type.Q4_1:
        raise EngineError(f"{tensor.name}: the companion of {tensor.tensor_type.name} is not modelled here")
    # A block of 20 bytes: scale (f16), minimum (f16), 32 nibbles.
    blocks = np.ascontiguousarray(tensor.data.reshape(len(weights), -1, 20)[:, :, 2:4])
    minima = blocks.view(np.float16)[..., 0].astype(np.float64)
    sums = as_stored_f16(scale[..., 0] * q.sum(-1, dtype=np.float32))
    return rounded @ (weights - np.repeat(minima, 32, axis=1)).T + sums @ minima.T


def report(args, weights, seen):
    print("relative L2 per row")
    print(f"{'product':<14}{'weights':<9}{'exact: worst':>14}{'median':>10}{'rounded: worst':>18}{'median':>10}")
    for source, name, target in PRODUCTS:
        tensor = weights[f"blk.{args.layer}.{name}.weight"]
        x, y = seen[f"{source}-{args.layer}"], seen[f"{target}-{args.layer}"]
        exact, rounded = row_errors(x @ dense(tensor).T, y), row_errors(rounded_product(x, tensor), y)
        figures = f"{exact.max():>14.1e}{np.median(exact):>10.1e}{rounded.max():>18.1e}{np.median(rounded):>10.1e}"
        print(f"{name:<14}{tensor.tensor_type.name:<9}{figures}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL.gguf")
    parser.add_argument("capture", metavar="CAPTURE.safetensors", help="llama.cpp's capture of it; its tokens are used")
    parser.add_argument("--layer", type=int, default=0, help="default 0")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    args = parser.parse_args()
    log = engine_side.quiet_log()
    engine_side.api.llama_backend_init()
    try:
        seen = llamacpp_tensors(args, EngineCapture(args.capture).tokens)
        report(args, {t.name: t for t in GGUFReader(args.model).tensors}, seen)
        return 0
    except (EngineError, engine_side.CaptureError, OSError, KeyError) as error:
        print(f"llamacpp_rounding.py: {error}", file=sys.stderr)
        return 2
    finally:
        engine_side.api.llama_backend_free()
        del log


if __name__ == "__main__":
    sys.exit(main())
