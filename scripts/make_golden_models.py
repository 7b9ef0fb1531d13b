#!/usr/bin/env python3
"""Makes the small random checkpoints of fixtures/golden/models and their goldens.

For every architecture variant: config.json and model.safetensors with seeded
random weights, and golden.safetensors with what Hugging Face Transformers
computes from that very folder (loaded back from disk, float32, eager attention,
CPU): tokens I32 [T], hidden.0 .. hidden.L F32 [T, hidden] as in
output_hidden_states, logits F32 [T, vocab]. Afterwards scripts/numpy_decoder.py
is run on each folder; the measured agreement goes into README.md.

    python3 scripts/make_golden_models.py [--out fixtures/golden/models]

Needs torch, transformers, safetensors and numpy (scripts/requirements-golden.txt).
"""
import argparse
import json
import os
import platform
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy_decoder  # noqa: E402  (the independent decoder that is checked here)

TOKENS = 40
LIMIT = 1e-5
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def llama(**changes):
    return dict({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                 "vocab_size": 96, "hidden_size": 32, "intermediate_size": 72,
                 "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
                 "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
                 "rope_theta": 10000.0, "tie_word_embeddings": True, "attention_bias": False,
                 "mlp_bias": False, "torch_dtype": "float32"}, **changes)


def qwen(version, **changes):
    name = f"qwen{version}"
    return dict({"architectures": [f"Qwen{version}ForCausalLM"], "model_type": name,
                 "vocab_size": 96, "hidden_size": 48, "intermediate_size": 72,
                 "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
                 "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
                 "rope_theta": 10000.0, "tie_word_embeddings": True,
                 "use_sliding_window": False, "torch_dtype": "float32"}, **changes)


# The scaled variants use all three spellings in circulation: rope_scaling with
# "type", rope_scaling with "rope_type", and the newer rope_parameters.
YARN = llama(rope_parameters={"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0,
                              "original_max_position_embeddings": 16})
del YARN["rope_theta"]
MODELS = {
    "llama-default": llama(num_key_value_heads=2),
    "llama-linear": llama(rope_scaling={"type": "linear", "factor": 4.0},
                          torch_dtype="bfloat16"),
    "llama-llama3": llama(rope_scaling={"rope_type": "llama3", "factor": 8.0,
                                        "low_freq_factor": 0.25, "high_freq_factor": 2.0,
                                        "original_max_position_embeddings": 16},
                          torch_dtype="float16"),
    "llama-yarn": YARN,
    "llama-gqa-untied": llama(hidden_size=48, intermediate_size=112, num_attention_heads=6,
                              num_key_value_heads=2, tie_word_embeddings=False,
                              torch_dtype="float16"),
    "llama-sharded": llama(tie_word_embeddings=False),
    "qwen2-tied-bias": qwen(2),
    "qwen3-headdim": qwen(3, intermediate_size=112, head_dim=16, attention_bias=False,
                          rope_theta=1000000.0, tie_word_embeddings=False,
                          torch_dtype="bfloat16"),
}


def randomise(model, seed):
    """Weights large enough that every layer, bias and norm weight matters."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=rng)
        if name.endswith("bias"):
            p.data = 0.3 * noise
        elif p.dim() == 1:
            p.data = 1.0 + 0.25 * noise.clamp(-2, 2)
        else:
            p.data = (0.6 if "embed_tokens" in name else 0.18) * noise


def save(tensors, path):
    save_file(tensors, path, {"format": "pt"})
    os.chmod(path, 0o644)  # save_file leaves it readable by the owner only


def save_weights(model, config, folder, shards):
    tensors = {n: p.detach().to(DTYPES[config["torch_dtype"]]).contiguous()
               for n, p in model.named_parameters()}  # names a tied head only once
    if shards == 1:
        return save(tensors, os.path.join(folder, "model.safetensors"))
    names = sorted(tensors)
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    weight_map = {n: files[i * shards // len(names)] for i, n in enumerate(names)}
    for file in files:
        part = {n: tensors[n] for n in names if weight_map[n] == file}
        save(part, os.path.join(folder, file))
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=2)
        handle.write("\n")


@torch.no_grad()
def reference(folder, tokens):
    """{hidden.i, logits} in float32 as Transformers computes them from the folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    out = model(torch.tensor([tokens]), output_hidden_states=True, use_cache=False)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    result = {f"hidden.{i}": h[0].contiguous() for i, h in enumerate(out.hidden_states)}
    return {**result, "logits": out.logits[0].contiguous()}


def make(name, config, seed, out):
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_json(os.path.join(folder, "config.json"), config)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder),
                                             attn_implementation="eager").float()
    randomise(model, seed)
    save_weights(model, config, folder, 2 if name == "llama-sharded" else 1)
    rng = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(0, config["vocab_size"], (TOKENS,), generator=rng).tolist()
    golden = {"tokens": torch.tensor(tokens, dtype=torch.int32), **reference(folder, tokens)}
    save(golden, os.path.join(folder, "golden.safetensors"))
    return folder


def agreement(folder):
    """(worst hidden row, worst logits row): relative L2 of the NumPy decoder."""
    golden = numpy_decoder.read_safetensors(os.path.join(folder, "golden.safetensors"))
    hidden, logits = numpy_decoder.Decoder(folder).forward(golden["tokens"])
    assert set(hidden) == {n for n in golden if n.startswith("hidden.")}
    worst = max(numpy_decoder.row_errors(h, golden[n]).max() for n, h in hidden.items())
    return worst, numpy_decoder.row_errors(logits, golden["logits"]).max()


def layer_effect(folder):
    """The smallest relative change that a layer makes to the residual stream."""
    golden = numpy_decoder.read_safetensors(os.path.join(folder, "golden.safetensors"))
    count = sum(n.startswith("hidden.") for n in golden)
    return min(np.linalg.norm(golden[f"hidden.{i + 1}"] - golden[f"hidden.{i}"])
               / np.linalg.norm(golden[f"hidden.{i}"]) for i in range(count - 2))


README = """# Golden models

Small random checkpoints in Hugging Face layout and what Transformers computes
from them. Made by `scripts/make_golden_models.py`; nothing here is trained, and
nothing is downloaded. Released under the project's licence.

    pip install -r scripts/requirements-golden.txt
    python3 scripts/make_golden_models.py

- Made with torch {torch}, transformers {transformers}, numpy {numpy}, Python {python}.
- Weights: seed {seed} + 10 x position in the table; tokens: that seed + 1.
- `golden.safetensors`: `tokens` I32 [{count}]; `hidden.0` .. `hidden.L` F32
  [{count}, hidden], indexed as `output_hidden_states` (0 = embeddings, i = residual
  stream after layer i, L = after the final norm); `logits` F32 [{count}, vocab].
- Computed from the folder as stored, the weights widened to float32, eager
  attention, on the CPU. For the BF16 and F16 checkpoints this means: from the
  rounded weights, in float32 arithmetic.
- A tied checkpoint stores no `lm_head.weight`.

The last three columns: the worst relative L2 distance per row between the golden
and `scripts/numpy_decoder.py` (independent, float64) over all hidden states and
over the logits (limit {limit:g}), and the smallest relative change which any layer
but the last makes to the residual stream (so that a skipped layer cannot pass).

| model | stored | what it exercises | hidden | logits | layer effect |
| --- | --- | --- | --- | --- | --- |
{rows}

To check one folder again:

    python3 scripts/numpy_decoder.py fixtures/golden/models/llama-yarn \\
        --compare fixtures/golden/models/llama-yarn/golden.safetensors --max-rel-l2 1e-5
"""
EXERCISES = {
    "llama-default": "as many K/V heads as heads, tied head",
    "llama-linear": "linear RoPE scaling, legacy key `type`; one K/V head",
    "llama-llama3": "llama3 RoPE scaling, key `rope_type`, all three frequency bands",
    "llama-yarn": "YaRN under `rope_parameters`, default betas and attention factor",
    "llama-gqa-untied": "6 heads over 2 K/V heads, head_dim 8, untied head",
    "llama-sharded": "two shards with an index file, untied head",
    "qwen2-tied-bias": "non-zero q/k/v biases, tied head, head_dim 12",
    "qwen3-headdim": "head_dim 16 (hidden / heads is 12), q/k norm, untied head",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--out", default=os.path.join(here, "fixtures/golden/models"))
    parser.add_argument("--seed", type=int, default=4100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, good = [], True
    for i, (name, config) in enumerate(MODELS.items()):
        folder = make(name, config, args.seed + 10 * i, args.out)
        hidden, logits = agreement(folder)
        good = good and hidden <= LIMIT and logits <= LIMIT  # NaN fails
        rows.append(f"| {name} | {config['torch_dtype']} | {EXERCISES[name]} | {hidden:.1e} | "
                    f"{logits:.1e} | {layer_effect(folder):.2f} |")
        print(rows[-1], flush=True)
    text = README.format(torch=torch.__version__, transformers=transformers.__version__,
                         numpy=np.__version__, python=platform.python_version(), seed=args.seed,
                         count=TOKENS, limit=LIMIT, rows="\n".join(rows))
    with open(os.path.join(args.out, "README.md"), "w", encoding="utf-8") as handle:
        handle.write(text)
    sys.exit(0 if good else "the NumPy decoder and Transformers disagree")


if __name__ == "__main__":
    main()
