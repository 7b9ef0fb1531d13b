#!/usr/bin/env python3
"""The measuring half of scripts/bench_peers.sh: concord beside llama.cpp and NumPy, alternating, medians over rounds.

In every round each program runs once, in a process of its own, after its own warm-up; who begins changes from round to round. llama.cpp runs with flash
attention off and on, and for each figure the better median of the two counts. A ratio is the median of the rounds' own ratios. A program that fails,
counts that differ between concord and NumPy, and a machine that other programs use meanwhile end the run without a table.
"""
import argparse
import json
import pathlib
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

# Class, llama.cpp's file type, concord's device and precision. Both read files made from one float32 master; concord reads the master itself and rounds
# or quantises it when loading.
CLASSES = [
    ("f32", "F32", "cpu:avx512", "f32"),
    ("f16", "F16", "cpu:avx512", "f16/f32"),
    ("bf16", "BF16", "cpu:bf16", "bf16"),
    ("int8", "Q8_0", "cpu:bf16", "int8/bf16"),
    ("int4", "Q4_0", "cpu:bf16", "int4-g32-sym/bf16"),
]
# Name, files, prefill, decode.
MODELS = {"random": ("qwen2-0.5b-random", 512, 64), "smollm": ("smollm", 512, 64), "stories": ("stories", 512, 128)}
ELEMENTS = 64 * 1024 * 1024
BUSY = 0.05  # share of all processors that other programs may take, median over the measured programs


class Failed(Exception):
    pass


others = []  # per program that ran: share of all processors that anybody else used meanwhile


def busy_seconds():
    """Seconds all processors together were not idle since the machine started, time stolen by the host included."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(v) for v in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def run(command):
    start, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    wall = max(time.monotonic() - start, 1e-3)
    others.append(max(0.0, busy_seconds() - busy - (own_seconds() - own)) / (wall * os.cpu_count()))
    if done.returncode != 0:
        raise Failed(f"exit code {done.returncode} of: {' '.join(str(c) for c in command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- one run of each program -----------------------------------------------------------------------------------------

def run_llama(args, file, prefill, decode):
    """{"prefill off": tokens/s, "prefill on": ..., "decode off": ..., "decode on": ...}"""
    out = run([args.llama_bench, "-m", file, "-p", prefill, "-n", decode, "-t", args.threads, "-r", 1, "-ngl", 0, "-fa", "off,on", "-o", "json"])
    rates = {}
    for test in json.loads(out):
        what = "prefill" if test["n_prompt"] > 0 else "decode"
        rates[f"{what} {'on' if test['flash_attn'] == 1 else 'off'}"] = test["avg_ts"]
    if len(rates) != 4:
        raise Failed(f"llama-bench reported {sorted(rates)}, expected prefill and decode with flash attention off and on")
    return rates


def run_concord(args, file, device, precision, prefill, decode):
    report = args.scratch / "model.json"
    run([args.concord, "bench", "model", "--model", file, "--device", device, "--precision", precision, "--threads", args.threads, "--prefill", prefill,
         "--decode", decode, "--repetitions", 1, "--json", report])
    return json.loads(report.read_text())


# --- one model in one class -----------------------------------------------------------------------------------------

def measure_class(args, model, row):
    name, llama_type, device, precision = row
    stem, prefill, decode = MODELS[model]
    llama_file, master = args.models / f"{stem}.{llama_type}.gguf", args.models / f"{stem}.F32.gguf"
    llama, concord = [], []
    for round_number in range(args.rounds):
        progress(f"{model} {name}: round {round_number + 1} of {args.rounds}")
        steps = [lambda: llama.append(run_llama(args, llama_file, prefill, decode)),
                 lambda: concord.append(run_concord(args, master, device, precision, prefill, decode))]
        for step in steps if round_number % 2 == 0 else reversed(steps):
            step()
    result = {"model": model, "class": name, "llama_type": llama_type, "device": device, "precision": precision, "prefill": prefill, "decode": decode,
              "llama": llama, "concord": concord}
    for what in ("prefill", "decode"):
        result[what + "_result"] = summary(what, llama, concord)
    last = concord[-1]
    result["load_seconds"] = statistics.median(c["load"]["seconds"]["median"] for c in concord)
    result["peak_over_needed"] = last["memory"]["peak_over_needed"]
    return result


def summary(what, llama, concord):
    best = max(("off", "on"), key=lambda flash: statistics.median(r[f"{what} {flash}"] for r in llama))
    theirs = [r[f"{what} {best}"] for r in llama]
    blocks = [next(b for b in c["blocks"] if b["name"] == what) for c in concord]
    ours = [b["tokens_per_second"] for b in blocks]
    ratios = [o / t for o, t in zip(ours, theirs)]
    share = "share_of_flops_peak" if what == "prefill" else "share_of_read_peak"
    shares = [b[share] for b in blocks if share in b]
    return {"flash_attention": best, "llama": statistics.median(theirs), "concord": statistics.median(ours), "ratio": statistics.median(ratios),
            "ratio_low": min(ratios), "ratio_high": max(ratios), "share_of_peak": statistics.median(shares) if shares else None}


# --- the comparator ---------------------------------------------------------------------------------------------------

def counts_of_concord(args, subject, reference):
    report = json.loads(run([args.concord, "compare", subject, reference, "--profile", "paper,seed", "--json", "--threads", 1]))
    paper, seed = report["comparisons"]
    stats = [layer["stats"] for layer in paper["layers"]]
    add = lambda field: sum(s[field] for s in stats)
    part = lambda field: sum(s["partition"][field] for s in stats)
    return {"count": add("elements"), "special": add("special"), "exponent_mismatch": add("exponent_mismatches"), "exact": part("exact"),
            "match_near": part("exact") + part("match_small"), "mismatch_near": part("mismatch_small"), "paper_chunks": paper["cells"],
            "paper_accepted": paper["accepted"], "seed_cells": seed["cells"], "seed_accepted": seed["accepted"]}


def check_counts(concord, numpy):
    found = {**numpy["totals"], **{k: v for k, v in numpy.items() if k.startswith(("paper_", "seed_"))}}
    different = {k: (v, found[k]) for k, v in concord.items() if found[k] != v}
    if different:
        raise Failed(f"concord and NumPy count differently (concord, NumPy): {different}")


def measure_numpy(args):
    subject, reference = args.scratch / "subject", args.scratch / "reference"
    progress("making two captures of 64 Mi elements")
    run([args.concord, "bench", "compare", "--elements", ELEMENTS, "--dtype", "f32", "--repetitions", 1, "--keep", args.scratch])
    concord, numpy = [], []
    try:
        expected = counts_of_concord(args, subject, reference)
        for round_number in range(args.rounds):
            progress(f"comparator: round {round_number + 1} of {args.rounds}")
            steps = [lambda: numpy.append(run_numpy(subject, reference)), lambda: concord.append(run_compare(args, subject, reference))]
            for step in steps if round_number % 2 == 0 else reversed(steps):
                step()
            check_counts(expected, numpy[-1])
    finally:
        for file in (subject, reference):
            file.unlink(missing_ok=True)
    ours, theirs = [c["bytes_per_second"] for c in concord], [n["bytes"] / n["median_seconds"] for n in numpy]
    ratios = [o / t for o, t in zip(ours, theirs)]
    return {"concord": concord, "numpy": numpy, "concord_bytes_per_second": statistics.median(ours), "numpy_bytes_per_second": statistics.median(theirs),
            "ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios),
            "share_of_reading": statistics.median(c["share_of_reading"]["median"] for c in concord)}


def run_numpy(subject, reference):
    script = pathlib.Path(__file__).with_name("numpy_comparator.py")
    return json.loads(run([sys.executable, script, subject, reference, "--repetitions", 1]))


def run_compare(args, subject, reference):
    report = args.scratch / "compare.json"
    run([args.concord, "bench", "compare", subject, reference, "--profiles", "paper,seed", "--threads", 1, "--repetitions", 3, "--json", report])
    return json.loads(report.read_text())


# --- results ------------------------------------------------------------------------------------------------------------

def busy_lines(share):
    text = f"Other programs used {100 * share:.1f} % of the processors meanwhile (median)."
    return [text] if share <= BUSY else [text + " **The machine was not idle: these ratios are not valid.**"]


def header_lines(result):
    program = result["provenance"]["program"]
    machine = result["provenance"]["machine"]
    return [f"Measured {result['date']} on {machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, {machine['os']}; "
            f"concord {program['commit']} ({program['compiler']}); {result['llama_source']}; {result['threads']} threads, {result['rounds']} rounds, medians.",
            *busy_lines(result["others_share"]), ""]


def model_lines(results):
    lines = ["| model | class | what | llama.cpp tokens/s | concord tokens/s | ratio | range of the rounds | share of peak |", "|---|---|---|---|---|---|---|---|"]
    for r in results:
        for what in ("prefill", "decode"):
            s = r[what + "_result"]
            peak = "-" if s["share_of_peak"] is None else f"{100 * s['share_of_peak']:.0f} %"
            lines.append(f"| {r['model']} | {r['class']} ({r['llama_type']}; {r['precision']} on {r['device']}) | {what} {r[what]} | "
                         f"{s['llama']:.1f} (flash attention {s['flash_attention']}) | {s['concord']:.1f} | **{s['ratio']:.2f}** | "
                         f"{s['ratio_low']:.2f} to {s['ratio_high']:.2f} | {peak} |")
    return lines + [""]


def numpy_lines(r):
    return ["| comparator, two float32 arrays of 64 Mi elements, one thread | GB/s |", "|---|---|",
            f"| NumPy {r['numpy'][0]['numpy']} | {r['numpy_bytes_per_second'] / 1e9:.2f} |", f"| concord | {r['concord_bytes_per_second'] / 1e9:.2f} |",
            f"| ratio | **{r['ratio']:.1f}** ({r['ratio_low']:.1f} to {r['ratio_high']:.1f}) |",
            f"| concord over a plain reading of the same bytes | {r['share_of_reading']:.2f} |", ""]


def markdown(result):
    lines = header_lines(result)
    if result["models"]:
        lines += model_lines(result["models"])
    if result["comparator"]:
        lines += numpy_lines(result["comparator"])
    return "\n".join(lines)


def provenance_of(result):
    if result["models"]:
        return result["models"][0]["concord"][0]["provenance"]
    return result["comparator"]["concord"][0]["provenance"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--concord", "--llama-bench", "--models", "--out", "--scratch"):
        parser.add_argument(name, required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-source", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--allow-busy", action="store_true")
    parser.add_argument("--smollm", action="store_true")
    parser.add_argument("--stories", action="store_true")
    args = parser.parse_args()
    known = [*MODELS, "numpy", *(row[0] for row in CLASSES)]
    args.only = [name for name in args.only.split(",") if name]
    for name in args.only:
        if name not in known:
            parser.error(f"--only: unknown name {name}; known are {', '.join(known)}")
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return args


def selected(args):
    """The models and classes to measure, and whether the comparator is."""
    models = ["random"] + ["smollm"] * args.smollm + ["stories"] * args.stories
    subjects = [name for name in args.only if name in MODELS or name == "numpy"]
    classes = [name for name in args.only if name not in subjects]
    rows = [row for row in CLASSES if not classes or row[0] in classes]
    return [m for m in models if not subjects or m in subjects], rows, not subjects and not classes or "numpy" in subjects


def main():
    args = parse()
    args.scratch.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    models, rows, numpy = selected(args)
    result = {"schema": "concord.bench.peers/1", "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "host": platform.platform(),
              "llama_source": args.llama_source, "threads": args.threads, "rounds": args.rounds, "models": [], "comparator": None}
    try:
        if numpy:
            result["comparator"] = measure_numpy(args)
        for model in models:
            for row in rows:
                result["models"].append(measure_class(args, model, row))
    except Failed as error:
        print(f"bench_peers: {error}", file=sys.stderr)
        return 1
    result["others_share"] = statistics.median(others)
    if result["others_share"] > BUSY and not args.allow_busy:
        print(f"bench_peers: other programs used {100 * result['others_share']:.1f} % of the processors (median; at most {100 * BUSY:.0f} %): "
              "no table is written. Wait for an idle machine, or use --allow-busy", file=sys.stderr)
        return 1
    result["provenance"] = provenance_of(result)
    text = markdown(result)
    (args.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "peers.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
