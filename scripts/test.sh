#!/usr/bin/env bash
# The same set-up as run.sh, then the whole CTest run: release build, then short runs of the build with sanitizers and fuzzers.
#   scripts/test.sh             everything
#   scripts/test.sh --release   the release build's tests alone
set -euo pipefail
cd "$(dirname "$0")/.."

presets=(ci asan)
case "${1:-}" in
  "") ;;
  --release) presets=(ci) ;;
  *) echo "test.sh: unknown argument: $1 (expected nothing or --release)" >&2; exit 2 ;;
esac

scripts/setup.sh --dev --hip
jobs=$(nproc)
failed=()
for preset in "${presets[@]}"; do
  echo "== $preset: configure, build, test"
  log=$(mktemp)  # a failed configure must stop the run: the output is filtered behind it, not in a pipe that would hide its exit code
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; exit 2; }
  grep -E '^--   |Concord' "$log" || true
  rm -f "$log"
  cmake --build --preset "$preset" -j "$jobs"
  ctest --preset "$preset" -j "$jobs" || failed+=("$preset")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "test.sh: FAILED: ${failed[*]}" >&2
  exit 1
fi
echo "test.sh: all of ${presets[*]} passed"
