#!/usr/bin/env bash
# Installs what Concord needs on Debian 12. The only place that installs anything. Safe to run again; does nothing, and needs no network, once all is there.
#   scripts/setup.sh            compiler, CMake, libraries: what run.sh and test.sh need
#   scripts/setup.sh --dev      also clang-19 with libFuzzer, clang-tidy, clang-format, ccache
#   scripts/setup.sh --check    installs nothing; exit 1 and the list when something is missing
set -euo pipefail

usage() { sed -n '2,5p' "$0" | sed 's/^# \{0,1\}//'; }

packages=(build-essential cmake ninja-build git libtbb-dev libdnnl-dev libfmt-dev nlohmann-json3-dev libcli11-dev libssl-dev
          libgtest-dev libgmock-dev libbenchmark-dev python3 python3-numpy)
check=0
for argument in "$@"; do
  case $argument in
    --dev) packages+=(clang-19 libclang-rt-19-dev clang-tidy-19 clang-format-19 ccache) ;;
    --check) check=1 ;;
    -h|--help) usage; exit 0 ;;
    *) echo "setup.sh: unknown argument: $argument" >&2; usage >&2; exit 2 ;;
  esac
done

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this is not a Debian system. Install these by hand, then build with: cmake --preset release && cmake --build --preset release" >&2
  printf '  %s\n' "${packages[@]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi
if [ $check -eq 1 ]; then
  echo "setup.sh: missing: ${missing[*]}" >&2
  exit 1
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup.sh: these packages are missing and neither root nor sudo is there to install them: ${missing[*]}" >&2; exit 1; }
  root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
  echo "setup.sh: apt-get could not install: ${missing[*]}" >&2
  exit 1
}
echo "setup: installed ${#missing[@]} packages"
