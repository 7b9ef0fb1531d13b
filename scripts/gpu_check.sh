#!/usr/bin/env bash
# Everything that this project claims about a GPU, checked and measured on this machine's in under ten minutes; docs/gpu.md says what and how.
#   scripts/gpu_check.sh [--quick] [--out FOLDER] [--budget SECONDS] [--program PATH]
# Exit status: 0 all ran and passed, 1 something failed, 2 usage, 3 no GPU here, 5 something that was asked for did not run.
set -euo pipefail
exec python3 "$(dirname "$0")/gpu_check.py" "$@"
