#!/usr/bin/env bash
# Installs what Concord needs on Debian 12. The only place that installs anything. Safe to run again; does nothing, and needs no network, once all is there.
#   scripts/setup.sh            compiler, CMake, libraries: what run.sh and test.sh need
#   scripts/setup.sh --dev      also clang-19 with libFuzzer, clang-tidy, clang-format, ccache
#   scripts/setup.sh --hip      also what compiles the HIP backend
#   scripts/setup.sh --cuda     also what compiles the CUDA backend, where Debian has it; else says what to do
#   scripts/setup.sh --check    installs nothing; exit 1 and the list when something is missing
set -euo pipefail

usage() { sed -n '2,7p' "$0" | sed 's/^# \{0,1\}//'; }

packages=(build-essential cmake ninja-build git libtbb-dev libdnnl-dev libfmt-dev nlohmann-json3-dev libcli11-dev libssl-dev
          libgtest-dev libgmock-dev libbenchmark-dev libboost-context1.74-dev python3 python3-numpy)
check=0
cuda=0
for argument in "$@"; do
  case $argument in
    --dev) packages+=(clang-19 libclang-rt-19-dev clang-tidy-19 clang-format-19 ccache) ;;
    --hip) packages+=(hipcc libamdhip64-dev) ;;  # with clang-15, lld-15 and AMD's device libraries, which they depend on
    --cuda) cuda=1 ;;
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

# The CUDA backend is C++20, which nvcc compiles since 12.0. Debian 12 has 11.8 (in non-free), Debian 13 has 12.4.
least_cuda=12.0
new_enough() { [ -n "$1" ] && [ "$(printf '%s\n' "$least_cuda" "$1" | sort -V | head -n 1)" = "$least_cuda" ]; }
if [ $cuda -eq 1 ]; then
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  have=$("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p' || true)
  offered=$(apt-cache policy nvidia-cuda-toolkit 2>/dev/null | sed -n 's/^ *Candidate: \([0-9.]*\).*/\1/p' || true)
  if new_enough "$have"; then
    echo "setup: CUDA $have is there ($nvcc); nothing to install for it"
  elif new_enough "$offered"; then
    packages+=(nvidia-cuda-toolkit)
  else
    cat >&2 <<EOF
setup.sh: no CUDA toolkit $least_cuda or newer${have:+ (found: $have at $nvcc)}; apt offers ${offered:-no nvidia-cuda-toolkit}. Install NVIDIA's, then run this again:
  Debian 12   https://developer.nvidia.com/cuda-downloads (Linux, x86_64, Debian, 12, deb (network)); packages cuda-nvcc-13-0 cuda-cudart-dev-13-0 libcublas-dev-13-0
  Debian 13   add "contrib non-free" to the sources of apt, then: apt-get update && apt-get install nvidia-cuda-toolkit
nvcc is looked for in PATH and in /usr/local/cuda/bin. To run, not to compile, the NVIDIA driver is needed too.
EOF
    exit 1
  fi
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
