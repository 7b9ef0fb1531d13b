#!/usr/bin/env bash
# Installs what is missing, builds, runs the five verification experiments on the embedded model on every device found, and leaves a report in results/local/.
# Arguments go to `concord run`, for example: scripts/run.sh --model models/smollm2-135m-instruct.gguf --backends cpu:avx2,cpu:strict
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset release >build-release.log 2>&1 || { cat build-release.log >&2; exit 2; }
grep -E 'backends built|BACKEND NOT BUILT' build-release.log || true
cmake --build --preset release
rm -f build-release.log

exec build-release/bin/concord run "$@"
