#!/usr/bin/env bash
# The same set-up as run.sh, then the whole CTest run: release build, then the sanitizer and fuzzing builds' short runs.
#   scripts/test.sh             everything
#   scripts/test.sh --release   the release build's tests alone
set -euo pipefail
cd "$(dirname "$0")/.."

presets=(ci asan fuzz)
case "${1:-}" in
  "") ;;
  --release) presets=(ci) ;;
  *) echo "test.sh: unknown argument: $1 (expected nothing or --release)" >&2; exit 2 ;;
esac

scripts/setup.sh --dev
jobs=$(nproc)
failed=()
for preset in "${presets[@]}"; do
  echo "== $preset: configure, build, test"
  cmake --preset "$preset" | grep -E '^--   |Concord' || true
  cmake --build --preset "$preset" -j "$jobs"
  ctest --preset "$preset" -j "$jobs" || failed+=("$preset")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "test.sh: FAILED: ${failed[*]}" >&2
  exit 1
fi
echo "test.sh: all of ${presets[*]} passed"
