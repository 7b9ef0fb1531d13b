#!/usr/bin/env python3
"""Writes a GGUF file of the shape of Qwen2-0.5B with random float32 weights from a fixed seed, for measuring speed.

    make_peer_model.py OUT.gguf [--seed 1]

24 layers, hidden 896, 14 heads, 2 key-value heads of 64, intermediate 4864, vocabulary 151936, tied embeddings, biases on q, k and v. No vocabulary is
stored: speed does not depend on one. Needs the PyPI packages gguf and numpy.
"""
import argparse
import os

import gguf
import numpy as np

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, INTERMEDIATE, VOCAB = 24, 896, 14, 2, 64, 4864, 151936
SCALE = 0.02


def tensors():
    """Name, shape (slowest axis first), kind: matrix, gain or bias."""
    yield "token_embd.weight", (VOCAB, HIDDEN), "matrix"
    for i in range(LAYERS):
        at = f"blk.{i}."
        yield at + "attn_norm.weight", (HIDDEN,), "gain"
        yield at + "ffn_norm.weight", (HIDDEN,), "gain"
        for name, rows in (("q", HEADS * HEAD), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            yield at + f"attn_{name}.weight", (rows, HIDDEN), "matrix"
            yield at + f"attn_{name}.bias", (rows,), "bias"
        yield at + "attn_output.weight", (HIDDEN, HEADS * HEAD), "matrix"
        yield at + "ffn_gate.weight", (INTERMEDIATE, HIDDEN), "matrix"
        yield at + "ffn_up.weight", (INTERMEDIATE, HIDDEN), "matrix"
        yield at + "ffn_down.weight", (HIDDEN, INTERMEDIATE), "matrix"
    yield "output_norm.weight", (HIDDEN,), "gain"


def values(seed, index, shape, kind):
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(SCALE)
    return noise + np.float32(1) if kind == "gain" else noise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    partial = args.out + ".partial"
    writer = gguf.GGUFWriter(partial, "qwen2")
    writer.add_name(f"random weights in the shape of Qwen2-0.5B, seed {args.seed}")
    writer.add_context_length(32768)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    for index, (name, shape, kind) in enumerate(tensors()):
        writer.add_tensor(name, values(args.seed, index, shape, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, args.out)


if __name__ == "__main__":
    main()
