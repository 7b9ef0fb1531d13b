#!/usr/bin/env python3
"""Checks and measures Concord on a GPU: what scripts/gpu_check.sh runs. docs/gpu.md describes the steps and the targets.

Every step is a program of its own with a time limit. What a step says comes from the JSON that the program wrote; a step
that wrote none has no number. Nothing here judges a tensor.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_check_report  # noqa: E402
from gpu_check_steps import FAIL, NOT_RUN, PASS, ROOT, Check, NotRun, Stop, driver_text, gpu_is_here  # noqa: E402

NO_DEVICE, NOTHING_RUN = 3, 5
PACKED_MIB = 15
EXPERIMENTS = ["exp1", "exp2", "exp3", "exp4", "exp5"]
CPU_PREFERENCE = ["cpu:avx512", "cpu:avx2", "cpu:strict"]


# --- building and finding devices -------------------------------------------------------------------------------------

def find_preset():
    nvcc = shutil.which("nvcc") or (os.path.exists("/usr/local/cuda/bin/nvcc") and "/usr/local/cuda/bin/nvcc")
    if nvcc:
        return "cuda", nvcc
    hip = shutil.which("hipcc") or shutil.which("amdclang++")
    return ("hip", hip) if hip else (None, None)


def use_packed(check):
    """A program that scripts/gpu_pack.sh brought from another machine, with the libraries it needs."""
    archive = ROOT / ".gpu" / "pack.tar.gz"
    if not archive.exists():
        return False
    packed = check.scratch / "pack"
    with tarfile.open(archive) as tar:
        tar.extractall(packed)
    check.environment["LD_LIBRARY_PATH"] = f"{packed / 'lib'}:{check.environment.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    check.environment.setdefault("CONCORD_SUITES", str(ROOT / "suites"))
    check.environment.setdefault("CONCORD_FIXTURES", str(ROOT / "fixtures"))
    check.program = packed / "bin" / "concord"
    return True


def build(check):
    if check.args.program:
        check.program = pathlib.Path(check.args.program).resolve()
        check.add("build", PASS, note=f"not built here: {check.program}")
        return
    if use_packed(check):
        check.add("build", PASS, note="not built here: .gpu/pack.tar.gz, by scripts/gpu_pack.sh")
        return
    preset, compiler = find_preset()
    if preset is None:
        raise NotRun("neither nvcc nor a HIP compiler is here; --program PATH names a program built elsewhere")
    code = check.run("configure", ["cmake", "--preset", preset], 60)
    if not check.ended("configure", code):
        return
    code = check.run("build", ["cmake", "--build", "--preset", preset, "-j", str(os.cpu_count())], 300)
    if check.ended("build", code):
        check.program = ROOT / f"build-{preset}" / "bin" / "concord"
        check.add("build", PASS, note=f"preset {preset}, {compiler}")


def find_devices(check):
    code = check.concord("doctor", "doctor", "--json", limit=30)
    text = (check.logs / "doctor.log").read_text(errors="replace")
    doctor = json.loads(text[text.index("{"):]) if code == 0 and "{" in text else None
    if doctor is None:
        check.add("devices", FAIL, note=f"concord doctor ended with {code}: {check.last_line('doctor')}")
        return
    (check.out / "doctor.json").write_text(json.dumps(doctor, indent=2))
    devices = {d["id"]: d for d in doctor["devices"]}
    there = [i for i, d in devices.items() if d["available"]]
    check.facts = devices
    check.cpu = next((i for i in CPU_PREFERENCE if i in there), None)
    wanted = os.environ.get("CONCORD_GPU_CHECK_DEVICES", "").split()
    if wanted:
        check.devices = [i for i in wanted if i in there]
        missing = [i for i in wanted if i not in there]
        if missing:
            check.add("devices", FAIL, note="not available: " + ", ".join(missing))
    else:
        gpus = [i for i in there if re.fullmatch(r"(cuda|hip):\d+", i)]
        check.devices = gpus[:1] + [i for i in there if gpus and i == gpus[0] + ":portable"]
    if not check.devices:
        why = "; ".join(f"{i}: {d['why']}" for i, d in devices.items() if i.startswith(("cuda", "hip")) and d.get("why"))
        failures = "; ".join(f"{pathlib.Path(f['path']).name}: {f['why']}" for f in doctor.get("plugin_failures", []))
        raise Stop(NO_DEVICE, "no GPU device is available: " + ("; ".join(filter(None, [why, failures])) or "no plug-in offers one"))
    check.add("devices", PASS, note=", ".join(f"{i} ({devices[i]['name']})" for i in check.devices))


# --- conformance ------------------------------------------------------------------------------------------------------

def statuses(folder):
    counts = {}
    try:
        with open(folder / "cases.jsonl") as lines:
            for line in lines:
                status = json.loads(line)["status"]
                counts[status] = counts.get(status, 0) + 1
    except (OSError, ValueError, KeyError):
        pass
    return counts


def conform(tier, device, limit):
    def body(check):
        name = f"conform-{tier}-{device.replace(':', '-')}"
        folder = check.out / "records" / name
        extra = ["-p", check.args.pattern] if check.args.pattern else []
        code = check.concord(name, "conform", "--tier", tier, "--backends", device, *extra, "--out", folder, limit=limit)
        counts = statuses(folder)
        number = f"{counts.get('PASS', 0)} of {sum(counts.values())} PASS"
        bad = {k: v for k, v in counts.items() if k not in ("PASS", "WAIVED", "UNSUPPORTED")}
        text = ", ".join(f"{v} {k}" for k, v in sorted(counts.items()) if k != "PASS")
        step = f"conform {tier} {device}"
        if code == 0 and counts.get("PASS"):
            check.add(step, check.whole(extra), number, "all required", "PARTIAL: part of the tier" if extra else text)
        elif code == 5 and counts.get("PASS") and not bad:
            check.add(step, FAIL, number, "all required", f"not GREEN: {check.last_line(name)}")
        else:
            why = "out of time" if code is None else f"exit {code}: {text or check.last_line(name)}"
            check.add(step, FAIL, number, "all required", why)
    return body


PLANTED = r"""
#include <cstdio>
#include <cuda_runtime.h>
__global__ void out_of_bounds(int* p) { p[1 << 20] = 1; }
__global__ void race(int* p) {
  __shared__ int s;
  s = threadIdx.x;
  p[threadIdx.x] = s;
}
int main(int argc, char**) {
  int* p = nullptr;
  cudaMalloc(&p, 4096);
  if (argc > 1) race<<<1, 64>>>(p); else out_of_bounds<<<1, 1>>>(p);
  return cudaDeviceSynchronize() == cudaSuccess ? 0 : 1;
}
"""


def sanitizer_path():
    found = shutil.which("compute-sanitizer")
    near = "/usr/local/cuda/bin/compute-sanitizer"
    return found or (near if os.path.exists(near) else None)


def sanitize(check, name, tool, command, limit):
    """Runs a command under the sanitizer. Returns exit code, processes that it watched, those whose end it did not see, and what
    its summaries add up to."""
    for old in check.logs.glob(f"{name}.[0-9]*.txt"):
        old.unlink()
    code = check.run(name, [sanitizer_path(), "--tool", tool, "--target-processes", "all", "--require-cuda-init=no",
                            "--log-file", check.logs / f"{name}.%p.txt", *command], limit)
    processes, cut_off, found = 0, 0, 0
    for log in check.logs.glob(f"{name}.[0-9]*.txt"):
        text = log.read_text(errors="replace")
        summaries = re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+) (?:error|hazard)", text)
        processes += bool(summaries)
        idle = "before first instrumented API call" in text  # a process that never asked for the GPU
        cut_off += not (summaries or idle) or "didn't terminate successfully" in text
        found += sum(int(n) for n in summaries)
    return code, processes, cut_off, found


def sanitizer(tool, device, limit):
    def body(check):
        if not re.match(r"cuda\b", device):
            raise NotRun("compute-sanitizer is for CUDA devices")
        if sanitizer_path() is None:
            raise NotRun("compute-sanitizer is not installed")
        tag = f"{tool}-{device.replace(':', '-')}"
        planted = check.scratch / f"planted-{tag}"
        source = check.scratch / f"planted-{tag}.cu"
        source.write_text(PLANTED)
        _, nvcc = find_preset()
        if nvcc is None or not str(nvcc).endswith("nvcc") or check.run(f"planted-build-{tag}", [nvcc, "-o", planted, source], 60) != 0:
            raise NotRun("no nvcc to build the planted fault with: nothing would show that the sanitizer sees one")
        arguments = [planted] + (["race"] if tool == "racecheck" else [])
        # Through a shell, because the program's kernels run in its child processes, too.
        _, watched, _, seen = sanitize(check, f"planted-{tag}", tool, ["sh", "-c", '"$@"; exit 0', "sh", *arguments], 60)
        if seen == 0:
            check.add(f"{tool} smoke {device}", FAIL, note=f"the sanitizer is blind here: a planted fault was not reported ({watched} processes watched)")
            return
        name = tag
        folder = check.out / "records" / name
        extra = ["-p", check.args.pattern] if check.args.pattern else []
        code, watched, cut_off, found = sanitize(check, name, tool, [check.program, "conform", "--tier", "smoke", "--backends", device, "--timeout", "600", *extra,
                                                            "--out", folder], limit)
        counts = statuses(folder)
        number = f"{found} findings, {sum(counts.values())} cases, {watched} processes"
        bad = {k: v for k, v in counts.items() if k not in ("PASS", "WAIVED", "UNSUPPORTED")}
        if code is None:
            check.add(f"{tool} smoke {device}", NOT_RUN if found == 0 else FAIL, number, "0 findings", "out of time before the tier ended")
        elif code != 0 or found or bad or cut_off or watched == 0 or not counts.get("PASS"):
            ended = f"; {cut_off} processes ended before the sanitizer's summary" if cut_off else ""
            check.add(f"{tool} smoke {device}", FAIL, number, "0 findings", f"exit {code}{ended}; {bad or check.last_line(name)}")
        else:
            check.add(f"{tool} smoke {device}", check.whole(extra), number, "0 findings", "PARTIAL: part of the tier" if extra else "")
    return body


# --- experiments and speed --------------------------------------------------------------------------------------------

def experiments(check):
    if check.cpu is None:
        raise NotRun("no CPU device for the other side")
    pair = [check.devices[0], check.cpu if check.cpu != check.devices[0] else next((d for d in check.devices if d != check.cpu), None)]
    if pair[1] is None:
        raise NotRun("there is no second device")
    names = [name for name in check.args.experiments.split(",") if name]
    if not names:
        raise NotRun("none was asked for (--experiments)")
    folder = check.out / "records" / "experiments"
    code = check.concord("experiments", "run", *names, "--backends", ",".join(pair), "--require-backends", ",".join(pair), "--out", folder, limit=150)
    counts = {}
    try:
        for line in (folder / "records.jsonl").read_text().splitlines():
            record = json.loads(line)
            of = counts.setdefault(record["experiment"], {})
            of[record["status"]] = of.get(record["status"], 0) + 1
    except (OSError, ValueError, KeyError):
        pass
    red = False
    for name in names:
        of = next((v for k, v in counts.items() if k == name or k.startswith(name)), {})
        good = bool(of) and set(of) == {"PASS"} and code in (0, 1)
        red = red or not good
        note = ", ".join(f"{v} {k}" for k, v in sorted(of.items()) if k != "PASS") or ("" if of else f"no record; exit {code}: {check.last_line('experiments')}")
        check.add(f"{name} {' x '.join(pair)}", PASS if good else FAIL, f"{of.get('PASS', 0)} of {sum(of.values())} PASS", "all", note)
    if code != 0 and not red:
        check.add("experiments", FAIL, note="out of time" if code is None else f"exit {code}: {check.last_line('experiments')}")


def bench(name, device, arguments, limit):
    def body(check):
        if device >= len(check.devices):
            raise NotRun("there is no second device")
        a, file, there = check.args, check.out / f"{name}.json", check.devices[device]
        code = check.concord(name, "bench", "model", "--shape", a.shape, "--seed", a.seed, "--precision", a.precision, "--device", there,
                             "--json", file, *arguments(check), limit=limit)
        if not check.ended(name, code):
            return
        report = check.json_of(file)
        on = ((report or {}).get("device") or {}).get("id")
        if on != there:
            check.add(name, FAIL, note=f"the report is of the device {on}, not of {there}" if report else "no report was written")
            return
        check.peers[name] = report
        check.add(name, PASS, note=f"{a.shape}, {a.precision}, {there}")
    return body


def speed_arguments(check):
    a = check.args
    return ["--prefill", a.prefill, "--decode", a.decode, "--prompt", a.prefill, "--capture", "every8", "--repetitions", a.repetitions,
            "--states", check.out / "states.json"]


def verify_arguments(check):
    a = check.args
    return ["--prefill", 0, "--decode", 0, "--verify", a.verify, "--verify-prompt", 128, "--repetitions", 3]


def portable_arguments(check):
    return ["--prefill", check.args.prefill, "--decode", min(16, int(check.args.decode)), "--repetitions", 3]


def model_folder(check):
    """Memory rather than disk, where there is room for the weights twice."""
    shm = pathlib.Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free > 40 << 30 and not check.dry:
        return pathlib.Path(tempfile.mkdtemp(prefix="concord-gpu-check-", dir=shm))
    return check.scratch


def transformers(check):
    have = subprocess.run([sys.executable, "-c", "import torch, transformers; print(torch.cuda.is_available())"], capture_output=True, text=True)
    if have.returncode != 0:
        raise NotRun("torch and transformers are not both there: " + (have.stderr.strip().splitlines() or ["?"])[-1])
    if not check.dry and have.stdout.split()[-1:] != ["True"]:
        raise NotRun("torch is there, but sees no GPU: its times on the processor are nothing to be faster than")
    if not (check.out / "states.json").exists():
        raise NotRun("there are no tokens and states of Concord's run to hold against")
    folder = model_folder(check)
    try:
        code = check.concord("write", "bench", "model", "--shape", check.args.shape, "--seed", check.args.seed, "--write", folder / "model",
                             "--prefill", 0, "--decode", 0, limit=90)
        if not check.ended("write", code):
            return
        file = check.out / "transformers.json"
        code = check.run("transformers", [sys.executable, ROOT / "scripts" / "gpu_transformers.py", folder / "model", "--states", check.out / "states.json",
                                          "--device", "cpu" if check.dry else "cuda", "--repetitions", check.args.repetitions, "--json", file], 120, dict(os.environ))  # with this machine's libraries
        if check.ended("transformers", code):
            check.peers["transformers"] = check.json_of(file)
            check.add("transformers", PASS, note="the same weights; last state's cosine {:.5f}".format(check.peers["transformers"]["cosine"]))
    finally:
        shutil.rmtree(folder / "model", ignore_errors=True)
        if folder != check.scratch:
            shutil.rmtree(folder, ignore_errors=True)


# --- the whole --------------------------------------------------------------------------------------------------------

def run_steps(check):
    full = not check.args.quick
    first, second = check.devices[0], (check.devices[1] if len(check.devices) > 1 else None)
    check.step(f"conform smoke {first}", conform("smoke", first, 60))
    if second:
        check.step(f"conform smoke {second}", conform("smoke", second, 60))
    else:
        check.add(f"{first}:portable", NOT_RUN, note="it is not available: no tier, no sanitizer and no time of the portable kernels")
    check.step("speed", bench("speed", 0, speed_arguments, 120))
    check.step("verify", bench("verify", 0, verify_arguments, 90))
    check.step("transformers", transformers)
    check.step("speed-portable", bench("speed-portable", 1, portable_arguments, 60), full)
    check.step("experiments", experiments)
    later = [(f"memcheck smoke {first}", sanitizer("memcheck", first, 240)), (f"racecheck smoke {first}", sanitizer("racecheck", first, 240), full)]
    if second:
        later += [(f"{tool} smoke {second}", sanitizer(tool, second, 240), full) for tool in ("memcheck", "racecheck")]
    later += [(f"conform full {device}", conform("full", device, 300), full) for device in filter(None, [first, second])]
    check.side_by_side(later)


def pack(check):
    """Few small files: report.md, table.json, records.tar.gz; the largest files are left out where the archive would be too large."""
    files = sorted((p for p in check.out.rglob("*") if p.is_file() and p.name not in ("report.md", "table.json", "records.tar.gz")),
                   key=lambda p: p.stat().st_size)
    room, taken, left_out = PACKED_MIB << 23, [], []  # eight times the limit before compression: JSON lines shrink at least so much
    for p in files:
        room -= p.stat().st_size
        (taken if room >= 0 else left_out).append(p)
    archive = check.out / "records.tar.gz"
    while True:
        with tarfile.open(archive, "w:gz") as tar:
            for p in sorted(taken):
                tar.add(p, p.relative_to(check.out))
        if archive.stat().st_size <= PACKED_MIB << 20 or not taken:
            return [str(p.relative_to(check.out)) for p in left_out]
        left_out.append(taken.pop())


def exit_code(rows):
    results = {row["result"] for row in rows}
    if FAIL in results:
        return 1
    return NOTHING_RUN if NOT_RUN in results else 0


def header(check):
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    first = check.facts.get(check.devices[0], {}) if check.devices else {}
    made = next((r["provenance"]["program"] for r in check.peers.values() if "provenance" in r), {})  # it may come from another commit
    return {"schema": "concord.gpu_check/1", "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "commit": commit or "unknown",
            "program": f"{made['version']} {made['commit']}" if made else "", "device": first.get("name", ""), "architecture": first.get("architecture", ""), "driver": first.get("driver", ""),
            "libraries": first.get("libraries", ""), "nvidia_smi": driver_text(), "devices": check.devices,
            "on_a_gpu": not check.dry, "shape": check.args.shape, "quick": check.args.quick}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="smoke tiers, speed, memcheck of the first device; no full tiers, no racecheck")
    p.add_argument("--out", default=None, help="results folder (default: results/gpu-<date>)")
    p.add_argument("--budget", type=float, default=570, help="seconds for everything (default 570)")
    p.add_argument("--program", help="a concord that is already built")
    p.add_argument("--shape", default="qwen2.5-7b")
    p.add_argument("--seed", default="1")
    p.add_argument("--precision", default="bf16")
    p.add_argument("--prefill", default="2048")
    p.add_argument("--decode", default="64")
    p.add_argument("--verify", default="1000")
    p.add_argument("--repetitions", default="5")
    p.add_argument("--experiments", default=",".join(EXPERIMENTS))
    p.add_argument("--pattern", default="", help="conformance cases whose id holds this regular expression, for trying the script out")
    args = p.parse_args()
    if args.out is None:
        args.out = ROOT / "results" / f"gpu-{datetime.date.today().isoformat()}"
    args.out = pathlib.Path(args.out).resolve()
    return args


def prepare_folder(out):
    if out.exists() and any(out.iterdir()):
        raise Stop(2, f"{out} is not empty; name another folder with --out")
    (out / "logs").mkdir(parents=True, exist_ok=True)
    (out / "records").mkdir(exist_ok=True)


def main():
    args = parse()
    check = Check(args)
    try:
        if not check.dry and not gpu_is_here():
            raise Stop(NO_DEVICE, "no GPU: there is no /dev/nvidia*, no /dev/kfd, and no nvidia-smi that lists one; nothing was run")
        prepare_folder(check.out)
        with tempfile.TemporaryDirectory(prefix="concord-gpu-check-") as scratch:
            check.scratch = pathlib.Path(scratch)
            check.step("build", build)
            if check.program:
                find_devices(check)
            if check.devices:
                run_steps(check)
    except Stop as stop:
        print(f"gpu_check.sh: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        check.add("interrupted", NOT_RUN, note="Ctrl-C: the steps behind were not run")
    gpu_check_report.add_targets(check)
    left_out = pack(check)
    head = header(check)
    report = gpu_check_report.render(head, check.rows, left_out, time.monotonic() - check.start)
    (check.out / "table.json").write_text(json.dumps({**head, "rows": check.rows, "left_out_of_archive": left_out}, indent=2) + "\n")
    (check.out / "report.md").write_text(report)
    print(report)
    return exit_code(check.rows)


if __name__ == "__main__":
    sys.exit(main())
