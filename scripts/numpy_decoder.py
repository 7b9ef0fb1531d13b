#!/usr/bin/env python3
"""An independent float64 decoder for Hugging Face checkpoint folders, in plain NumPy.

Reads config.json and model.safetensors (or the shards that
model.safetensors.index.json names) of model_type llama, qwen2 or qwen3, runs one
causal forward pass in float64 and writes every hidden state and the logits:

    numpy_decoder.py MODEL_DIR --tokens 1,2,3 --out out.safetensors
    numpy_decoder.py MODEL_DIR --tokens-file workload.json:ID --out out.safetensors
    numpy_decoder.py MODEL_DIR --text "It was" --greedy 20     (byte-level models)
    numpy_decoder.py out.safetensors --compare other.safetensors --max-rel-l2 1e-5

Indexing follows Transformers' output_hidden_states: hidden.0 is the embedding,
hidden.i the residual stream after layer i, and the last one, hidden.L, is taken
after the final norm. Only json, math and numpy are used; nothing is shared with
the C++ code or with torch.
"""
import argparse
import json
import math
import os
import struct
import sys

import numpy as np

# ------------------------------------------------------------- safetensors

PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4",
         "I16": "<i2", "I8": "i1", "U8": "u1"}
STORED = {"float64": "F64", "float32": "F32", "int32": "I32", "int64": "I64"}


def decode(raw, dtype, shape):
    """The tensor's exact values: float64 for every float type, else int64."""
    if dtype == "BF16":
        bits = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64).reshape(shape)
    if dtype not in PLAIN:
        raise ValueError(f"tensor type {dtype} is not supported")
    values = np.frombuffer(raw, PLAIN[dtype])
    return values.astype(np.float64 if dtype[0] == "F" else np.int64).reshape(shape)


def read_safetensors(path):
    with open(path, "rb") as handle:
        data = handle.read()
    size, = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + size]), memoryview(data)[8 + size:]
    header.pop("__metadata__", None)
    return {name: decode(body[e["data_offsets"][0]:e["data_offsets"][1]], e["dtype"], e["shape"])
            for name, e in header.items()}


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": STORED[str(value.dtype)], "shape": list(value.shape),
                        "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            handle.write(np.ascontiguousarray(value).tobytes())


def load_weights(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(folder, "model.safetensors"))
    with open(index, encoding="utf-8") as handle:
        weight_map = json.load(handle)["weight_map"]
    shards = {f: read_safetensors(os.path.join(folder, f)) for f in set(weight_map.values())}
    return {name: shards[file][name] for name, file in weight_map.items()}


# ------------------------------------------------------------- configuration

class Config:
    """The values of config.json that the arithmetic needs."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as handle:
            c = json.load(handle)
        self.kind = c["model_type"]
        if self.kind not in ("llama", "qwen2", "qwen3"):
            raise ValueError(f"model_type {self.kind} is not supported")
        if c.get("hidden_act", "silu") != "silu":
            raise ValueError("only the silu activation is supported")
        if c.get("use_sliding_window") or c.get("mlp_bias"):
            raise ValueError("sliding windows and mlp_bias are not supported")
        self.hidden, self.layers = c["hidden_size"], c["num_hidden_layers"]
        self.heads = c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads") or self.heads
        default_dim = 128 if self.kind == "qwen3" else self.hidden // self.heads
        self.head_dim = c.get("head_dim") or default_dim
        bias = bool(c.get("attention_bias", False))
        self.qkv_bias, self.o_bias = bias or self.kind == "qwen2", bias and self.kind != "qwen2"
        self.eps = c.get("rms_norm_eps", 1e-6)
        self.tied = c.get("tie_word_embeddings", False)
        self.max_position = c.get("max_position_embeddings", 2048)
        rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
        self.theta = rope.get("rope_theta", c.get("rope_theta", 10000.0))
        if rope.get("partial_rotary_factor", c.get("partial_rotary_factor", 1.0)) != 1.0:
            raise ValueError("partial rotary embeddings are not supported")
        self.rope, self.rope_kind = rope, rope.get("rope_type", rope.get("type", "default"))
        self.original_position = (rope.get("original_max_position_embeddings")
                                  or c.get("original_max_position_embeddings")
                                  or self.max_position)


# ------------------------------------------------------------- rotary embedding

def plain_frequencies(cfg):
    return cfg.theta ** -(np.arange(0, cfg.head_dim, 2, dtype=np.float64) / cfg.head_dim)


def llama3_frequencies(cfg):
    freq, rope = plain_frequencies(cfg), cfg.rope
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = cfg.original_position * freq / (2 * math.pi)  # over the original context
    # the weight of the unscaled frequency: 0 for slow ones, 1 for fast ones
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return freq * (keep + (1.0 - keep) / rope["factor"])


def yarn_frequencies(cfg):
    freq, rope, half = plain_frequencies(cfg), cfg.rope, cfg.head_dim // 2

    def dimension(turns):  # the (fractional) pair that turns so often in the context
        return (cfg.head_dim * math.log(cfg.original_position / (turns * 2 * math.pi))
                / (2 * math.log(cfg.theta)))
    low = dimension(rope.get("beta_fast") or 32)
    high = dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, cfg.head_dim - 1)
    if low == high:
        high += 0.001
    stretch = np.clip((np.arange(half) - low) / (high - low), 0.0, 1.0)
    return freq * (1.0 - stretch) + freq / rope["factor"] * stretch


def yarn_attention_factor(rope):
    def scale(factor, mscale=1.0):
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
    if rope.get("attention_factor") is not None:
        return rope["attention_factor"]
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["factor"], rope["mscale"]) / scale(rope["factor"], rope["mscale_all_dim"])
    return scale(rope["factor"])


def rope_tables(cfg, count):
    """cos and sin, [count, head_dim / 2] each."""
    factor = 1.0
    if cfg.rope_kind in ("default", None):
        freq = plain_frequencies(cfg)
    elif cfg.rope_kind == "linear":
        freq = plain_frequencies(cfg) / cfg.rope["factor"]
    elif cfg.rope_kind == "llama3":
        freq = llama3_frequencies(cfg)
    elif cfg.rope_kind == "yarn":
        freq, factor = yarn_frequencies(cfg), yarn_attention_factor(cfg.rope)
    else:
        raise ValueError(f"rope type {cfg.rope_kind} is not supported")
    angle = np.arange(count, dtype=np.float64)[:, None] * freq
    return np.cos(angle) * factor, np.sin(angle) * factor


def rotate(x, cos, sin):
    """x is [heads, T, head_dim]; pair j is made of the elements j and j + head_dim / 2."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


# ------------------------------------------------------------- the decoder

def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1.0 + np.exp(-np.clip(x, -700.0, None)))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Decoder:
    def __init__(self, folder):
        self.cfg, self.w = Config(folder), load_weights(folder)

    def linear(self, x, name, bias=False):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if bias else y

    def heads(self, x, name, count):
        """Project, split into heads ([count, T, head_dim]) and apply the q/k norm."""
        y = self.linear(x, name, self.cfg.qkv_bias)
        y = y.reshape(len(x), count, self.cfg.head_dim).transpose(1, 0, 2)
        if self.cfg.kind != "qwen3" or name.endswith("v_proj"):
            return y
        return rms_norm(y, self.w[name.replace("_proj", "_norm") + ".weight"], self.cfg.eps)

    def attention(self, x, base, cos, sin):
        cfg, count = self.cfg, len(x)
        q = rotate(self.heads(x, base + "q_proj", cfg.heads), cos, sin)
        k = rotate(self.heads(x, base + "k_proj", cfg.kv_heads), cos, sin)
        v = self.heads(x, base + "v_proj", cfg.kv_heads)
        group = cfg.heads // cfg.kv_heads
        k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(cfg.head_dim)
        scores[:, np.triu(np.ones((count, count), bool), 1)] = -np.inf
        mixed = (softmax(scores) @ v).transpose(1, 0, 2)
        return self.linear(mixed.reshape(count, -1), base + "o_proj", cfg.o_bias)

    def mlp(self, x, base):
        gate, up = self.linear(x, base + "gate_proj"), self.linear(x, base + "up_proj")
        return self.linear(silu(gate) * up, base + "down_proj")

    def forward(self, tokens):
        """({hidden.0 .. hidden.L}, logits) for one sequence of token ids."""
        cfg, w = self.cfg, self.w
        if not all(0 <= t < len(w["model.embed_tokens.weight"]) for t in tokens):
            raise ValueError("a token id is outside the vocabulary")
        cos, sin = rope_tables(cfg, len(tokens))
        x = w["model.embed_tokens.weight"][np.asarray(tokens)]
        hidden = [x]
        for i in range(cfg.layers):
            base = f"model.layers.{i}."
            y = rms_norm(x, w[base + "input_layernorm.weight"], cfg.eps)
            x = x + self.attention(y, base + "self_attn.", cos, sin)
            y = rms_norm(x, w[base + "post_attention_layernorm.weight"], cfg.eps)
            x = x + self.mlp(y, base + "mlp.")
            hidden.append(x)
        hidden[-1] = rms_norm(x, w["model.norm.weight"], cfg.eps)
        head = "model.embed_tokens.weight" if cfg.tied else "lm_head.weight"
        return {f"hidden.{i}": h for i, h in enumerate(hidden)}, hidden[-1] @ w[head].T

    def greedy(self, tokens, count):
        tokens = list(tokens)
        for _ in range(count):  # no cache: the whole prefix every time
            tokens.append(int(np.argmax(self.forward(tokens)[1][-1])))
        return tokens[-count:]


# ------------------------------------------------------------- comparison

def row_errors(ours, other):
    """Relative L2 distance per row; a zero row counts by its absolute distance."""
    norm = np.linalg.norm(other, axis=-1)
    return np.linalg.norm(ours - other, axis=-1) / np.where(norm > 0, norm, 1.0)


def compare(ours, other, limit):
    """Prints the worst row of every tensor; True if all are within the limit."""
    names = sorted((n for n in set(ours) | set(other) if n.startswith("hidden.")),
                   key=lambda n: int(n.split(".")[1]))
    names += ["logits"] if "logits" in ours and "logits" in other else []
    good, compared, worst = True, 0, ("-", 0, 0.0)
    if "tokens" in ours and "tokens" in other and not np.array_equal(ours["tokens"], other["tokens"]):
        print("the tokens differ")
        good = False
    for name in names:
        if name not in ours or name not in other or ours[name].shape != other[name].shape:
            print(f"{name}: missing on one side, or of another shape")
            good = False
            continue
        errors = np.atleast_1d(row_errors(ours[name], other[name]))
        if errors.size == 0:
            continue
        errors = np.where(np.isfinite(errors), errors, np.inf)
        row = int(np.argmax(errors))
        print(f"{name}: worst row {row}, relative L2 {errors[row]:.3e}")
        worst = max(worst, (name, row, errors[row]), key=lambda x: x[2])
        compared += errors.size
        good = good and errors[row] <= limit
    print(f"worst {worst[0]} row {worst[1]}: {worst[2]:.3e} (limit {limit:g}, {compared} rows)")
    return bool(good and compared > 0)


# ------------------------------------------------------------- command line

def tokens_from_file(spec):
    """FILE:ID; the entry with that "id" must hold a list "tokens" (or token_ids, or
    "prompt_tokens"), or else a string "text" or "prompt", which is taken as bytes."""
    path, _, wanted = spec.rpartition(":")
    with open(path, encoding="utf-8") as handle:
        root = json.load(handle)
    entries = root if isinstance(root, list) else next(
        v for v in root.values() if isinstance(v, list) and v and isinstance(v[0], dict))
    entry = next((e for e in entries if str(e.get("id")) == wanted), None)
    if entry is None:
        raise ValueError(f"{path} has no entry {wanted}")
    for key in ("tokens", "token_ids", "prompt_tokens"):
        if isinstance(entry.get(key), list):
            return [int(t) for t in entry[key]]
    for key in ("text", "prompt"):
        if isinstance(entry.get(key), str):
            return list(entry[key].encode())
    raise ValueError(f"entry {wanted} of {path} holds no tokens")


def parse_args():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("source", metavar="MODEL_DIR", help="model folder (or an output, with --compare)")
    given = p.add_mutually_exclusive_group()
    given.add_argument("--tokens", help="comma-separated token ids")
    given.add_argument("--tokens-file", metavar="FILE:ID", help="an entry of a workload file")
    given.add_argument("--text", help="text, taken as UTF-8 bytes")
    p.add_argument("--out", help="write the tensors here (safetensors)")
    p.add_argument("--greedy", type=int, default=0, metavar="N", help="print N greedy tokens")
    p.add_argument("--compare", metavar="OTHER", help="compare with these tensors; a model"
                   " without given tokens takes the tokens that OTHER holds")
    p.add_argument("--max-rel-l2", type=float, default=1e-5)
    return p.parse_args()


def given_tokens(args, other):
    if args.tokens is not None:
        return [int(t) for t in args.tokens.split(",")]
    if args.tokens_file is not None:
        return tokens_from_file(args.tokens_file)
    if args.text is not None:
        return list(args.text.encode())
    if other is not None and "tokens" in other:
        return other["tokens"].tolist()
    raise SystemExit("give --tokens, --tokens-file or --text")


def main():
    args = parse_args()
    other = read_safetensors(args.compare) if args.compare else None
    if os.path.isfile(args.source):
        result = read_safetensors(args.source)
    else:
        decoder = Decoder(args.source)
        tokens = given_tokens(args, other)
        if not tokens:
            raise SystemExit("no tokens")
        hidden, logits = decoder.forward(tokens)
        result = {"tokens": np.asarray(tokens, np.int32), **hidden, "logits": logits}
        if args.out:
            write_safetensors(args.out, result)
        if args.greedy:
            ids = decoder.greedy(tokens, args.greedy)
            print("greedy", ",".join(map(str, ids)))
            if args.text is not None and max(ids) < 256:
                print("text", repr(bytes(ids).decode("utf-8", "replace")))
    if other is not None:
        sys.exit(0 if compare(result, other, args.max_rel_l2) else 1)


if __name__ == "__main__":
    main()
