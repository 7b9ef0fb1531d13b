#!/usr/bin/env python3
"""Transformers beside Concord: the prefill of one model with output_hidden_states, and this device's rates through PyTorch.

    gpu_transformers.py FOLDER --states STATES.json --json OUT.json [--device cuda] [--repetitions 5]

FOLDER holds config.json and model.safetensors, as `concord bench model --shape ... --write` makes them; STATES.json is what
its --states wrote: the token ids, and the final-norm state of the last one. The cosine between that state and Transformers'
shows that both ran the same model on the same tokens: states of unrelated models of this width have a cosine near 0. It does
not judge accuracy. Times are medians; the device is waited for before each clock reading.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import transformers

LEAST_COSINE = 0.99


def clock(device, body, repetitions):
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    body(), body()
    wait()
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        body()
        wait()
        seconds.append(time.perf_counter() - begin)
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds), "samples": seconds}


def matmul_rate(device, dtype):
    """Floating-point operations per second of the largest product; small on a CPU, which is for trying the script out."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    calls = 10 if device.type == "cuda" else 1

    def body():
        for _ in range(calls):
            torch.matmul(a, b)

    return 2 * n**3 * calls / clock(device, body, 5)["least"]


def copy_rate(device, dtype):
    """Bytes read and written per second: the better of a copy and an addition."""
    n = (1 << 29) if device.type == "cuda" else (1 << 20)
    a, b = (torch.randn(n, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    y, calls = torch.empty_like(a), 10
    size = a.element_size() * n

    def repeat(body):
        return lambda: [body() for _ in range(calls)]

    copy = 2 * size * calls / clock(device, repeat(lambda: y.copy_(a)), 5)["least"]
    add = 3 * size * calls / clock(device, repeat(lambda: torch.add(a, b, out=y)), 5)["least"]
    return max(copy, add)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--states", required=True)
    parser.add_argument("--json", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    device, dtype = torch.device(args.device), torch.bfloat16
    with open(args.states) as file:
        ours = json.load(file)
    rates = {"matmul_flops_per_second": matmul_rate(device, dtype), "copy_bytes_per_second": copy_rate(device, dtype)}
    if device.type == "cuda":
        torch.cuda.empty_cache()
    model = transformers.AutoModelForCausalLM.from_pretrained(args.folder, torch_dtype=dtype, local_files_only=True).to(device).eval()
    ids = torch.tensor([ours["tokens"]], device=device)

    def run(states):
        with torch.inference_mode():
            return model(input_ids=ids, output_hidden_states=states, use_cache=True, logits_to_keep=1)

    theirs = run(True).hidden_states[-1][0, -1].double().cpu()
    mine = torch.tensor(ours["final_state"], dtype=torch.float64)
    cosine = float(torch.dot(theirs, mine) / (theirs.norm() * mine.norm()))
    report = {"schema": "concord.gpu_transformers/1", "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
              "torch": torch.__version__, "transformers": transformers.__version__, "attention": str(getattr(model.config, "_attn_implementation", "unknown")),
              "tokens": len(ours["tokens"]), "cosine": cosine, "relative_rms": float((theirs - mine).norm() / theirs.norm()),
              "with_states_seconds": clock(device, lambda: run(True), args.repetitions), "plain_seconds": clock(device, lambda: run(False), args.repetitions), **rates}
    with open(args.json, "w") as file:
        json.dump(report, file, indent=2)
    print(json.dumps({k: v for k, v in report.items() if not isinstance(v, dict)}))
    if not cosine >= LEAST_COSINE:
        print(f"the final states differ: cosine {cosine:.4f}, expected at least {LEAST_COSINE}: not the same model or not the same tokens", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
