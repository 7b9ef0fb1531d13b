#!/usr/bin/env python3
"""Trains the embedded model fixtures/models/concord-byte-3m from scratch.

A byte-level (token id = byte) Qwen2-architecture decoder of about 3.3 M
parameters, trained on the six Jane Austen novels of Debian's
r-cran-janeaustenr package (the novels are in the public domain).

    apt-get download r-cran-janeaustenr
    python3 scripts/train_embedded_model.py --deb r-cran-janeaustenr_1.0.0-1_all.deb \
        --out out/model --state out/state.pt --steps 10000 --compile

The README beside the released weights has the commands that made them.
Needs torch, numpy and safetensors. The run is seeded and resumable: with an
existing --state file it carries on at the stored step. Batches depend on the
seed, the step and their shape only, so an interrupted run sees the same data as an unbroken one;
floating-point results still vary with the CPU, the threads and the torch build.
"""
import argparse
import hashlib
import json
import math
import os
import platform
import struct
import subprocess
import tempfile
import time
import zlib

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "use_cache": True,
    "initializer_range": 0.02,
    "bos_token_id": None,
    "eos_token_id": None,
    "torch_dtype": "bfloat16",
    "concord_tokenizer": "bytes",
}
GENERATION_CONFIG = {"do_sample": False, "bos_token_id": None, "eos_token_id": None,
                     "pad_token_id": None}
RDATA = "usr/lib/R/site-library/janeaustenr/data/Rdata"
HEAD_DIM = CONFIG["hidden_size"] // CONFIG["num_attention_heads"]
N_HEADS, N_KV = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]


# ---------------------------------------------------------------- the text

def r_strings(blob):
    """Every element of one serialised R character vector (XDR format 2 or 3)."""
    assert blob[:2] == b"X\n"
    version, = struct.unpack(">i", blob[2:6])
    pos = 14
    if version == 3:
        pos += 4 + struct.unpack(">i", blob[pos:pos + 4])[0]
    flags, count = struct.unpack(">ii", blob[pos:pos + 8])
    assert flags & 0xFF == 16, "not a character vector"
    pos += 8
    out = []
    for _ in range(count):
        flags, size = struct.unpack(">ii", blob[pos:pos + 8])
        assert flags & 0xFF == 9
        pos += 8
        out.append(b"" if size < 0 else blob[pos:pos + size])
        pos += max(size, 0)
    return out


def novels_from_deb(deb):
    """The novels, as bytes, in the order in which the package stores them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg", "-x", deb, folder], check=True)
        with open(os.path.join(folder, RDATA + ".rdb"), "rb") as handle:
            data = handle.read()
    novels = []
    while data:  # each record: big-endian plain size, then a zlib stream
        stream = zlib.decompressobj()
        plain = stream.decompress(data[4:])
        assert len(plain) == struct.unpack(">I", data[:4])[0]
        data = stream.unused_data
        lines = r_strings(plain)
        novels.append(b"\n".join(lines).strip() + b"\n\n\n")
    return novels


def load_text(deb):
    """(train bytes, held-out bytes): the last 2 % of every novel is held out."""
    novels = novels_from_deb(deb)
    cuts = [len(n) - len(n) // 50 for n in novels]
    return (b"".join(n[:c] for n, c in zip(novels, cuts)),
            b"".join(n[c:] for n, c in zip(novels, cuts)))


# ---------------------------------------------------------------- the model

def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


class Layer(nn.Module):
    """One decoder layer; q|k|v and gate|up are fused here and split on saving."""

    def __init__(self):
        super().__init__()
        h, m = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.qkv = nn.Linear(h, (N_HEADS + 2 * N_KV) * HEAD_DIM, bias=True)
        self.o = nn.Linear(N_HEADS * HEAD_DIM, h, bias=False)
        self.gate_up = nn.Linear(h, 2 * m, bias=False)
        self.down = nn.Linear(m, h, bias=False)
        self.norm1 = nn.Parameter(torch.ones(h))
        self.norm2 = nn.Parameter(torch.ones(h))

    def forward(self, x, cos, sin):
        b, t, h = x.shape
        y = F.rms_norm(x, (h,), self.norm1, CONFIG["rms_norm_eps"])
        qkv = self.qkv(y).view(b, t, N_HEADS + 2 * N_KV, HEAD_DIM).transpose(1, 2)
        qk = rotate(qkv[:, :N_HEADS + N_KV], cos, sin)
        q, k, v = qk[:, :N_HEADS], qk[:, N_HEADS:], qkv[:, N_HEADS + N_KV:]
        group = N_HEADS // N_KV
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(group, 1),
                                           v.repeat_interleave(group, 1), is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, h))
        y = F.rms_norm(x, (h,), self.norm2, CONFIG["rms_norm_eps"])
        gate, up = self.gate_up(y).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(CONFIG["hidden_size"]))
        freq = CONFIG["rope_theta"] ** (-torch.arange(0, HEAD_DIM, 2).double() / HEAD_DIM)
        angle = torch.outer(torch.arange(CONFIG["max_position_embeddings"]).double(), freq)
        angle = torch.cat((angle, angle), dim=-1)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        self.initialise()

    def initialise(self):
        deep = 0.02 / math.sqrt(2 * CONFIG["num_hidden_layers"])
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif p.dim() == 2:
                std = deep if name.endswith(("o.weight", "down.weight")) else 0.04
                nn.init.normal_(p, std=0.02 if name.startswith("embed") else std)

    def forward(self, ids):
        x = self.embed(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        x = F.rms_norm(x, (x.shape[-1],), self.norm, CONFIG["rms_norm_eps"])
        return F.linear(x, self.embed.weight)


def hf_tensors(model):
    """The weights under Hugging Face's Qwen2 names, rounded to bfloat16."""
    q, kv, m = N_HEADS * HEAD_DIM, N_KV * HEAD_DIM, CONFIG["intermediate_size"]
    out = {"model.embed_tokens.weight": model.embed.weight, "model.norm.weight": model.norm}
    for i, layer in enumerate(model.layers):
        base = f"model.layers.{i}."
        for kind in ("weight", "bias"):
            parts = torch.split(getattr(layer.qkv, kind), [q, kv, kv])
            for name, part in zip("qkv", parts):
                out[f"{base}self_attn.{name}_proj.{kind}"] = part
        gate, up = torch.split(layer.gate_up.weight, [m, m])
        out[base + "self_attn.o_proj.weight"] = layer.o.weight
        out[base + "mlp.gate_proj.weight"], out[base + "mlp.up_proj.weight"] = gate, up
        out[base + "mlp.down_proj.weight"] = layer.down.weight
        out[base + "input_layernorm.weight"] = layer.norm1
        out[base + "post_attention_layernorm.weight"] = layer.norm2
    return {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in out.items()}


def write_atomically(path, writer):
    writer(path + ".tmp")
    os.replace(path + ".tmp", path)


def write_json(path, value):
    def writer(target):
        with open(target, "w", encoding="utf-8") as handle:
            json.dump(value, handle, indent=2)
            handle.write("\n")
    write_atomically(path, writer)


def save_checkpoint(model, folder):
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "config.json"), CONFIG)
    write_json(os.path.join(folder, "generation_config.json"), GENERATION_CONFIG)

    def writer(path):
        save_file(hf_tensors(model), path, metadata={"format": "pt"})
        os.chmod(path, 0o644)  # save_file leaves it readable by the owner only
    write_atomically(os.path.join(folder, "model.safetensors"), writer)


# ---------------------------------------------------------------- training

def batch_at(data, step, args):
    rng = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
    starts = torch.randint(0, len(data) - args.seq - 1, (args.batch,), generator=rng)
    rows = torch.stack([data[s:s + args.seq + 1] for s in starts.tolist()]).long()
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def loss_of(model, ids, targets):
    return F.cross_entropy(model(ids).flatten(0, 1).float(), targets.flatten())


@torch.no_grad()
def evaluate(model, data, seq=512, windows=None):
    """Mean nats per byte over consecutive non-overlapping windows."""
    count = (len(data) - 1) // seq
    picks = range(count) if windows is None else range(0, count, max(1, count // windows))
    total = [loss_of(model, data[i * seq:(i + 1) * seq][None].long(),
                     data[i * seq + 1:(i + 1) * seq + 1][None].long()).item() for i in picks]
    return sum(total) / len(total)


@torch.no_grad()
def sample(model, prompt, count, temperature=0.0, seed=0):
    rng, ids = torch.Generator().manual_seed(seed), list(prompt.encode())
    for _ in range(count):
        logits = model(torch.tensor([ids[-512:]]))[0, -1].float()
        ids.append(int(logits.argmax()) if temperature == 0 else int(torch.multinomial(
            torch.softmax(logits / temperature, -1), 1, generator=rng)))
    return bytes(ids).decode("utf-8", "replace")


def make_optimizer(model, args):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": args.weight_decay},
                              {"params": vectors, "weight_decay": 0.0}],
                             lr=args.lr, betas=(0.9, 0.98), fused=True)


def learning_rate(step, args):
    """Warm-up, constant, then linear decay to 2 % over the last --decay of the steps.

    Until the decay begins the rate does not depend on --steps, so a run may be
    resumed with another --steps and equal one started with it.
    """
    decay = max(1, int(args.steps * args.decay))
    left = min(1.0, max(0.0, (args.steps - step) / decay))
    return args.lr * min(1.0, (step + 1) / args.warmup) * (0.02 + 0.98 * left)


def save_state(path, model, optimizer, step):
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    write_atomically(path, lambda p: torch.save(state, p))


def train(model, train_data, held_data, args):
    optimizer, step = make_optimizer(model, args), 0
    if args.state and os.path.exists(args.state):
        state = torch.load(args.state)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        print(f"resumed at step {step}", flush=True)
    run = torch.compile(model, dynamic=False) if args.compile else model
    first, began, recent = step, time.time(), []
    while step < min(args.steps, args.stop_at or args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        ids, targets = batch_at(train_data, step, args)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.autocast):
            loss = loss_of(run, ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        step += 1
        if step == first + 3:  # leave the compilation out of the rate
            began, first_timed = time.time(), step
        if step % args.log == 0 and step > first + 3:
            rate = (step - first_timed) * args.batch * args.seq / (time.time() - began)
            print(f"step {step} loss {sum(recent) / len(recent):.4f} lr "
                  f"{learning_rate(step, args):.2e} {rate:.0f} tokens/s", flush=True)
            recent = []
        if args.state and (step % args.save == 0 or step == args.stop_at):
            save_state(args.state, model, optimizer, step)
        if step % args.save == 0 and args.out:
            save_checkpoint(model, args.out)
            print(f"saved at {step}; held-out {evaluate(model, held_data, windows=8):.4f}; "
                  + repr(sample(model, "She was ", 60)), flush=True)


def report(model, train_data, held_data, args):
    """Final figures, measured with the weights as stored (rounded to bfloat16)."""
    for p in model.parameters():
        p.data = p.data.to(torch.bfloat16).float()
    print(f"final (bf16-rounded weights, windows of 512): train "
          f"{evaluate(model, train_data, windows=100):.4f} "
          f"held-out {evaluate(model, held_data):.4f} nats/byte")
    for prompt in ("It was a truth ", "She had been "):
        print("greedy:", repr(sample(model, prompt, 200)))
        print("t=0.7 :", repr(sample(model, prompt, 300, 0.7, args.seed)))
    with open(os.path.join(args.out, "model.safetensors"), "rb") as handle:
        print("sha256 model.safetensors", hashlib.sha256(handle.read()).hexdigest())


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--deb", required=True, help="r-cran-janeaustenr .deb")
    parser.add_argument("--out", default="", help="folder of the checkpoint")
    parser.add_argument("--state", default="", help="resumable training state")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--stop-at", type=int, default=0, metavar="STEP",
                        help="store the state at this step and stop, to resume otherwise")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--decay", type=float, default=0.4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log", type=int, default=100)
    parser.add_argument("--save", type=int, default=400)
    parser.add_argument("--compile", action="store_true", help="torch.compile (needs a C++ compiler)")
    parser.add_argument("--autocast", action="store_true", help="bfloat16 matrix products")
    return parser.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train_text, held_text = load_text(args.deb)
    digest = hashlib.sha256(train_text + held_text).hexdigest()
    model = Decoder()
    print(f"seed {args.seed}; torch {torch.__version__}; Python {platform.python_version()}")
    print(f"text: {len(train_text)} train + {len(held_text)} held-out bytes, sha256 {digest}")
    print(f"parameters {sum(p.numel() for p in model.parameters())}; steps {args.steps}; "
          f"tokens per step {args.batch * args.seq}", flush=True)
    as_tensor = lambda text: torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())
    train_data, held_data = as_tensor(train_text), as_tensor(held_text)
    train(model, train_data, held_data, args)
    if args.out and not args.stop_at:
        save_checkpoint(model, args.out)
        report(model, train_data, held_data, args)


if __name__ == "__main__":
    main()
