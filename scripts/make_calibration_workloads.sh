#!/usr/bin/env bash
# Makes the honest prompts that profiles are calibrated with: the paragraphs of LICENSE cut into prompts of about 100 characters, 8 new tokens each.
# The text is in no training set of ours and in none of the experiments' prompts.
#   scripts/make_calibration_workloads.sh MODEL.gguf    the ids for a GGUF's vocabulary (needs `pip install tokenizers gguf`); without an argument the byte-level file
set -euo pipefail
cd "$(dirname "$0")/.."
prompts=$(mktemp --suffix=.json)
trap 'rm -f "$prompts"' EXIT
python3 - "$prompts" <<'PY'
import json, re, sys
text = re.sub(r"\s+", " ", open("LICENSE", encoding="utf-8").read()).strip()
cuts = [text[i:i + 100] for i in range(0, len(text) - 100, 100)][:100]
json.dump([{"id": f"c{i:03d}", "text": t, "new_tokens": 8} for i, t in enumerate(cuts)], open(sys.argv[1], "w"))
PY
if [ $# -eq 0 ]; then
  python3 scripts/make_workload.py --bytes --prompts "$prompts" --model-name concord-byte-3m --name byte-calibration --out suites/workloads/calibration/byte.json
else
  python3 scripts/make_workload.py --tokenizer "$1" --prompts "$prompts" --model-name "$(basename "$1" .gguf)" --name "$(basename "$1" .gguf)-calibration" \
    --out "suites/workloads/calibration/$(basename "$1" .gguf).json"
fi
