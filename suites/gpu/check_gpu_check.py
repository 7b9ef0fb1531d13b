#!/usr/bin/env python3
"""scripts/gpu_check.sh without a GPU: a CPU device and an emulated one in the GPU's place, a tiny model.

    check_gpu_check.py PROGRAM BACKEND_PATH SCRATCH

Checks the whole flow: which steps ran, which say that they did not, where their numbers come from, and the exit codes.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
SHAPE = ROOT / "suites" / "gpu" / "tiny-shape.json"


def check(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


def run(program, backends, devices, out, *arguments):
    environment = {**os.environ, "CONCORD_BACKEND_PATH": backends}
    if devices is not None:
        environment["CONCORD_GPU_CHECK_DEVICES"] = devices
    return subprocess.run([ROOT / "scripts" / "gpu_check.sh", "--program", program, "--out", out, "--shape", SHAPE, "--prefill", "8", "--decode", "4", "--verify", "4",
                           "--repetitions", "2", "--experiments", "", "--pattern", "softmax/N=1,R=1,in=shift", *arguments], env=environment,
                          capture_output=True, text=True)


def check_flow(program, backends, out):
    done = run(program, backends, "gpu:tiles gpu:emulated", out)
    table = json.loads((out / "table.json").read_text())
    rows = {row["step"]: row for row in table["rows"]}
    text = done.stdout + done.stderr
    for step in ("devices", "conform smoke gpu:tiles", "conform smoke gpu:emulated", "speed", "verify", "speed-portable", "conform full gpu:tiles"):
        check(rows.get(step, {}).get("result") == "PASS", f"{step}: {rows.get(step)}\n{text}")
    check("1 of 1 PASS" == rows["conform smoke gpu:tiles"]["number"], rows["conform smoke gpu:tiles"])
    for step in ("memcheck smoke gpu:tiles", "racecheck smoke gpu:tiles"):
        check(rows[step]["result"] == "NOT RUN" and f"- {step}: compute-sanitizer is for CUDA devices" in done.stdout, f"{step}: {rows[step]}")
    for step in ("prefill 8", "decode 4 after 8", "states of every 8th layer to host memory", "states of every 8th layer to a committed file"):
        check(rows.get(step, {}).get("result") == "measured" and rows[step]["target"], f"{step}: {rows.get(step)}\n{text}")
    check("through Concord's operators" in rows["prefill 8"]["note"], rows["prefill 8"])
    speed = json.loads((out / "speed.json").read_text())
    matrices = speed["device_weights"]["matrices"]
    check(matrices > 0 and rows["weights in device memory"]["number"] == f"{matrices} of {matrices} matrices", rows["weights in device memory"])
    check(table["program"].endswith(speed["provenance"]["program"]["commit"]), table["program"])
    peaks = speed["blocks"][0]["peaks"]["before"]
    check(peaks["device"] == "gpu:tiles" and peaks["matmul_flops_per_second"] > 0 and peaks["copy_bytes_per_second"] > 0, peaks)
    share = 100 * speed["blocks"][0]["flops_per_second"] / max(speed["blocks"][0]["peaks"][when]["matmul_flops_per_second"] for when in ("before", "after"))
    peer = (out / "transformers.json").exists()
    check(peer or f"= {share:.1f} % of" in rows["prefill 8"]["number"], f"{share}: {rows['prefill 8']}")
    if not peer:
        check(rows["transformers"]["result"] == "NOT RUN" and rows["beside Transformers"]["number"] == "unmeasured", rows["transformers"])
    check(done.returncode == 5, f"exit {done.returncode}, expected 5: the sanitizers did not run\n{text}")
    check("Not on a GPU" in done.stdout and not table["on_a_gpu"], "the report must say that this was no GPU")
    with tarfile.open(out / "records.tar.gz") as tar:
        names = tar.getnames()
    check("speed.json" in names and any(n.endswith("cases.jsonl") for n in names), names)


def check_failure(program, backends, out):
    """A step that fails is red, its numbers are unmeasured, and the others run."""
    done = run(program, backends, "cpu:strict", out, "--quick", "--precision", "f33")
    rows = {row["step"]: row for row in json.loads((out / "table.json").read_text())["rows"]}
    check(done.returncode == 1, f"exit {done.returncode}, expected 1\n{done.stdout}{done.stderr}")
    check(rows["speed"]["result"] == "FAIL" and "precision.unknown" in rows["speed"]["note"], rows["speed"])
    check(rows["prefill"]["number"] == "unmeasured" and rows["verification"]["number"] == "unmeasured", rows["prefill"])
    check(rows["conform smoke cpu:strict"]["result"] == "PASS", rows)
    check(rows["racecheck smoke cpu:strict"]["result"] == "left out", rows)


FAKE_SANITIZER = """#!/usr/bin/env python3
import os, subprocess, sys
a = sys.argv[1:]
log = a[a.index("--log-file") + 1].replace("%p", str(os.getpid()))
command = a[a.index("--log-file") + 2:]
planted = any("planted" in c for c in command)
found = int(os.environ["FAKE_PLANTED" if planted else "FAKE_FOUND"])
words = "ERROR SUMMARY: {} errors" if a[a.index("--tool") + 1] == "memcheck" else "RACECHECK SUMMARY: {} hazards displayed ({} errors, 0 warnings)"
open(log, "w").write("========= COMPUTE-SANITIZER\\n========= " + words.format(found, found) + "\\n")
if "FAKE_CUT_OFF" in os.environ and not planted:
    open(log.replace(str(os.getpid()), "1"), "w").write("========= COMPUTE-SANITIZER\\n")
sys.exit(subprocess.run(command).returncode)
"""


def check_sanitizer_reading(scratch):
    """What gpu_check.py makes of a sanitizer's words, with one that is made here: blind, finding something, clean, cases that
    fail, a tier that did not come to its end, a process that did not."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import gpu_check

    tools = scratch / "tools"
    tools.mkdir()
    for name, text in (("compute-sanitizer", FAKE_SANITIZER), ("nvcc", "#!/bin/sh\nprintf '#!/bin/sh\\n' >$2; chmod +x $2\n"),
                       ("concord", '#!/bin/sh\nfor last; do :; done; mkdir -p $last; echo "{\\"status\\": \\"$FAKE_STATUS\\"}" >$last/cases.jsonl; exit ${FAKE_EXIT:-0}\n')):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    clean = {"FAKE_PLANTED": "1", "FAKE_FOUND": "0", "FAKE_STATUS": "PASS"}
    expected = (({}, "", "PASS"), ({}, "softmax", "NOT RUN"), ({"FAKE_PLANTED": "0"}, "", "FAIL"), ({"FAKE_FOUND": "2"}, "", "FAIL"),
                ({"FAKE_STATUS": "FAIL"}, "", "FAIL"), ({"FAKE_EXIT": "5"}, "", "FAIL"), ({"FAKE_CUT_OFF": "1"}, "", "FAIL"))
    for tool in ("memcheck", "racecheck"):
        for i, (other, pattern, result) in enumerate(expected):
            args = argparse.Namespace(out=scratch / f"{tool}{i}", budget=100, pattern=pattern)
            one = gpu_check.Check(args)
            gpu_check.prepare_folder(one.out)
            one.scratch, one.program = one.out, tools / "concord"
            one.environment.update({"PATH": os.environ["PATH"], **clean, **other})
            one.step("sanitizer", gpu_check.sanitizer(tool, "cuda:0", 30))
            check([row["result"] for row in one.rows] == [result], f"{tool} {other} {pattern}: expected {result}: {one.rows}")


def check_shares(scratch):
    """A share of a GPU is held against a rate of the GPU alone, and one that cannot be is red."""
    import gpu_check
    import gpu_check_report

    def row(share, **peaks):
        one = gpu_check.Check(argparse.Namespace(out=scratch, budget=100))
        block = {"name": "prefill", "title": "prefill 8", "tokens_per_second": 1.0, "flops_per_second": share, "peaks": {"before": peaks, "after": peaks}}
        gpu_check_report.share_row(one, {"blocks": [block]}, "prefill", "flops_per_second", "FLOP/s", 1, ("matmul_flops_per_second", "flops_per_second"), "")
        return one.rows[0]["result"]

    check(row(0.8, matmul_flops_per_second=1.0) == "PASS", "80 % of the device's rate reaches the target")
    check(row(0.6, matmul_flops_per_second=1.0) == "FAIL", "60 % does not")
    check(row(0.8, flops_per_second=0.01, matmul_flops_per_second=None) == "NOT RUN", "the processor's rate says nothing about a GPU")
    check(row(8.0, matmul_flops_per_second=1.0) == "FAIL", "eight times the rate was measured wrongly")


def main():
    program, backends, scratch = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    check_flow(program, backends, scratch / "flow")
    check_failure(program, backends, scratch / "failure")
    check_sanitizer_reading(scratch)
    check_shares(scratch / "shares")
    done = run(program, backends, "cuda:77", scratch / "absent")
    check(done.returncode == 3 and "no GPU device is available" in done.stderr, f"exit {done.returncode}: {done.stderr}")
    done = run(program, backends, "cpu:strict", scratch / "flow")
    check(done.returncode == 2 and "not empty" in done.stderr, f"exit {done.returncode}: {done.stderr}")
    print("gpu_check.sh: the flow, a failure, an absent device and a used folder end as documented")


if __name__ == "__main__":
    main()
