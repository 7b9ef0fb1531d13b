"""The targets and the table of scripts/gpu_check.py. Numbers come from the programs' JSON files alone."""

TARGETS = {"prefill": 0.70, "decode": 0.70, "capture": 0.02, "verify": 0.01, "transformers": 1.0}
# Above it the rate is no ceiling, but was measured wrongly. Not 1: decoding reads nearly alone, and the copy rate reads and writes.
LARGEST_SHARE = 1.2


def block(report, name):
    return next((b for b in (report or {}).get("blocks", []) if b["name"] == name), None)


def rate(check, b, own, host):
    """The larger of the rates measured before and after a block, of the device through its operators. Without a GPU also that of
    this processor: what a GPU does is never held against it."""
    return max((b["peaks"][when].get(own) or (check.dry and b["peaks"][when].get(host)) or 0) for when in ("before", "after"))


def judged(check, reached):
    if check.dry:
        return "measured"
    return "PASS" if reached else "FAIL"


def unmeasured(check, step, target, why):
    check.add(step, "NOT RUN", "unmeasured", target, why)


def share_row(check, speed, name, work, unit, scale, keys, torch_key):
    target = f"at least {100 * TARGETS[name]:.0f} %"
    b = block(speed, name)
    if b is None or not b.get(work):
        unmeasured(check, name, target, "the step speed gave no such number")
        return
    own, torch = rate(check, b, *keys), (check.peers.get("transformers") or {}).get(torch_key) or 0
    ceiling = max(own, torch)
    if ceiling <= 0:
        unmeasured(check, name, target, "no rate to hold it against was measured")
        return
    share = b[work] / ceiling
    number = f"{b['tokens_per_second']:.1f} tokens/s, {b[work] / scale:.2f} {unit} = {100 * share:.1f} % of {ceiling / scale:.2f}"
    reached = TARGETS[name] <= share <= LARGEST_SHARE
    against = f"rate: {own / scale:.2f} through Concord's operators, " + (f"{torch / scale:.2f} through PyTorch; the larger counts" if torch else "PyTorch's not measured")
    if share > LARGEST_SHARE:
        against += "; no device is so much faster than its own rate: that was measured wrongly"
    check.add(f"{b['title']}", judged(check, reached), number, target, against)


def capture_rows(check, speed):
    for name, what in (("copy_out", "states of every 8th layer to host memory"), ("capture", "states of every 8th layer to a committed file")):
        b = block(speed, name)
        target = f"under {100 * TARGETS['capture']:.0f} % of prefill"
        if b is None:
            unmeasured(check, what, target, "the step speed gave no such number")
            continue
        cost = b["time_with_over_without"]["median"] - 1
        spread = f"{100 * (b['time_with_over_without']['least'] - 1):+.2f} to {100 * (b['time_with_over_without']['most'] - 1):+.2f} %"
        check.add(what, judged(check, cost < TARGETS["capture"]), f"{100 * cost:+.2f} %", target, spread)


def weights_row(check, speed):
    """What the device computed over its own memory; a device that offers no digest has shown nothing."""
    step, target, of = "weights in device memory", "every digest is the host's", (speed or {}).get("device_weights")
    if not of:
        unmeasured(check, step, target, "the step speed gave no such number")
        return
    whole = of["matrices"] > 0 and of["digests_checked"] == of["matrices"]
    check.add(step, judged(check, whole), f"{of['digests_checked']} of {of['matrices']} matrices", target,
              f"{of['digests']}; {of['vectors_read_back']} gains and biases were read back")


def verify_row(check):
    report = check.peers.get("verify")
    b = block(report, "verify")
    target = f"under {100 * TARGETS['verify']:.0f} % of generating"
    if b is None:
        unmeasured(check, "verification", target, "the step verify gave no such number")
        return
    share = 1 / b["times_as_fast_as_generating"]["median"]
    check.add(b["title"], judged(check, share < TARGETS["verify"]), f"{100 * share:.2f} % ({1 / share:.1f} times as fast)", target, report.get("verification", ""))


def transformers_row(check, speed):
    peer, target = check.peers.get("transformers"), "faster than Transformers"
    b, plain = block(speed, "copy_out"), block(speed, "prefill")
    if not peer or b is None or plain is None:
        unmeasured(check, "beside Transformers", target, "one of the two sides was not measured")
        return
    ours, theirs = b["seconds"]["median"], peer["with_states_seconds"]["median"]
    number = f"{1e3 * ours:.1f} ms against {1e3 * theirs:.1f} ms: {theirs / ours:.2f} times as fast"
    check.add("beside Transformers", judged(check, theirs / ours > TARGETS["transformers"]), number, target,
              f"ours: states of every 8th layer to host memory; theirs: all states kept on the device; without states {1e3 * plain['seconds']['median']:.1f} "
              f"against {1e3 * peer['plain_seconds']['median']:.1f} ms; Transformers {peer['transformers']}, torch {peer['torch']}, {peer['attention']}")


def add_targets(check):
    speed = check.peers.get("speed")
    share_row(check, speed, "prefill", "flops_per_second", "TFLOP/s", 1e12, ("matmul_flops_per_second", "flops_per_second"), "matmul_flops_per_second")
    share_row(check, speed, "decode", "bytes_per_second", "GB/s", 1e9, ("copy_bytes_per_second", "read_bytes_per_second"), "copy_bytes_per_second")
    capture_rows(check, speed)
    weights_row(check, speed)
    verify_row(check)
    transformers_row(check, speed)
    portable = block(check.peers.get("speed-portable"), "prefill")
    if portable:
        check.add(f"{portable['title']} {check.devices[1]}", "measured", f"{portable['tokens_per_second']:.1f} tokens/s", "none")


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def render(head, rows, left_out, seconds):
    where = "" if head["on_a_gpu"] else "**Not on a GPU**: devices were named by CONCORD_GPU_CHECK_DEVICES. This tries the script out and says nothing about a GPU.\n\n"
    out = f"# GPU check, {head['date'][:10]}\n\n{where}"
    for key in ("date", "commit", "program", "device", "architecture", "driver", "libraries", "nvidia_smi", "shape"):
        out += f"- {key}: {head[key] or 'unknown'}\n"
    out += "\n| step | result | time | number | target | note |\n|---|---|---|---|---|---|\n"
    for r in rows:
        time = "" if r["seconds"] is None else f"{r['seconds']:.0f} s"
        out += f"| {cell(r['step'])} | {r['result']} | {time} | {cell(r['number'])} | {cell(r['target'])} | {cell(r['note'])} |\n"
    missing = [r for r in rows if r["result"] in ("NOT RUN", "left out")]
    out += f"\nIn all {seconds:.0f} s. "
    out += "Everything ran.\n" if not missing else f"What did not run ({len(missing)}):\n\n" + "".join(f"- {r['step']}: {r['note']}\n" for r in missing)
    if left_out:
        out += "\nToo large for records.tar.gz: " + ", ".join(left_out) + "\n"
    return out
