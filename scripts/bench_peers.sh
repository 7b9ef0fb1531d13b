#!/usr/bin/env bash
# Measures concord beside llama.cpp and NumPy, alternating in one session, and writes peers.md and peers.json. CPU only.
#   scripts/bench_peers.sh --out FOLDER [options]
#     --work FOLDER         tools, test models and llama.cpp's build (default: ${XDG_CACHE_HOME:-~/.cache}/concord-peers; several GB)
#     --concord PROGRAM     default: build-release/bin/concord, built when it is not there
#     --llama-build FOLDER  a build of llama.cpp with bin/llama-bench and bin/llama-quantize (or set LLAMA_BUILD); default: built in the work folder
#     --smollm FILE         SmolLM2 as a GGUF file, measured too
#     --stories FILE        stories15M as a GGUF file, measured too
#     --rounds N            rounds of each measurement (default 7)
#     --threads N           default 2
#     --only NAMES          comma-separated models (random, smollm, stories, numpy) and classes (f32, f16, bf16, int8, int4) to measure
#     --allow-busy          write the table although other programs used the processor meanwhile; it says so
#     --prepare             fetch, build and make the models, measure nothing
#     --jobs N              parallel jobs of the build (default: all)
# llama.cpp's source is the copy inside PyPI's llama-cpp-python. Run it on an idle machine: llama.cpp's threads spin while they wait for each other, so a
# neighbour that takes a core disturbs it far more than concord, and the ratios then flatter concord. A busy machine ends in exit code 1.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
usage() { sed -n '2,17p' "$0" | sed 's/^# \{0,1\}//'; }

work=${XDG_CACHE_HOME:-$HOME/.cache}/concord-peers
concord= out= smollm= stories= only= prepare=0 busy=0
llama_build=${LLAMA_BUILD:-}
rounds=7 threads=2 jobs=$(nproc)
peer_version=0.3.36

while [ $# -gt 0 ]; do
  case $1 in
    --prepare) prepare=1; shift; continue ;;
    --allow-busy) busy=1; shift; continue ;;
    -h|--help) usage; exit 0 ;;
    --out|--work|--concord|--llama-build|--smollm|--stories|--rounds|--threads|--only|--jobs) ;;
    *) echo "bench_peers.sh: unknown argument: $1" >&2; usage >&2; exit 2 ;;
  esac
  [ $# -ge 2 ] || { echo "bench_peers.sh: $1 needs a value" >&2; exit 2; }
  name=${1#--}; name=${name//-/_}
  printf -v "$name" '%s' "$2"
  shift 2
done
[ $prepare -eq 1 ] || [ -n "$out" ] || { echo "bench_peers.sh: --out FOLDER is required" >&2; usage >&2; exit 2; }
for name in ${only//,/ }; do
  case $name in
    random|smollm|stories|numpy|f32|f16|bf16|int8|int4) ;;
    *) echo "bench_peers.sh: --only: unknown name: $name" >&2; usage >&2; exit 2 ;;
  esac
done
for number in "$rounds" "$threads" "$jobs"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "bench_peers.sh: expected a positive number, found: $number" >&2; exit 2; }
done
for file in "$smollm" "$stories"; do
  [ -z "$file" ] || [ -f "$file" ] || { echo "bench_peers.sh: no such file: $file" >&2; exit 2; }
done

mkdir -p "$work"
work=$(cd "$work" && pwd)
python=$work/venv/bin/python

make_venv() {
  [ -x "$python" ] || python3 -m venv "$work/venv"
  "$python" -c 'import gguf, numpy, scikit_build_core' 2>/dev/null && [ -x "$work/venv/bin/cmake" ] && [ -x "$work/venv/bin/ninja" ] ||
    "$python" -m pip install --quiet -r "$root/scripts/requirements-peers.txt"
}

# pip only makes the package's metadata here; the program is built by hand, because the package builds the library alone.
fetch_llama() {
  local source=$work/llama_cpp_python-$peer_version/vendor/llama.cpp
  if [ ! -f "$source/CMakeLists.txt" ]; then
    mkdir -p "$work/sdist"
    PATH=$work/venv/bin:$PATH "$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary llama-cpp-python \
      -d "$work/sdist" "llama-cpp-python==$peer_version" >&2
    tar -xzf "$work/sdist/llama_cpp_python-$peer_version.tar.gz" -C "$work" "llama_cpp_python-$peer_version/vendor"
  fi
  [ -f "$source/tools/llama-bench/CMakeLists.txt" ] || { echo "bench_peers.sh: $source has no tools/llama-bench; name a build with --llama-build" >&2; exit 2; }
  echo "$source"
}

build_llama() {
  local source
  source=$(fetch_llama)
  llama_build=$work/llama-build
  [ -x "$llama_build/bin/llama-bench" ] && [ -x "$llama_build/bin/llama-quantize" ] && return
  echo "building llama.cpp in $llama_build" >&2
  PATH=$work/venv/bin:$PATH cmake -S "$source" -B "$llama_build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_CURL=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$work/llama-configure.log" 2>&1 || { tail -20 "$work/llama-configure.log" >&2; exit 2; }
  "$work/venv/bin/ninja" -C "$llama_build" -j "$jobs" llama-bench llama-quantize >"$work/llama-build.log" 2>&1 || { tail -20 "$work/llama-build.log" >&2; exit 2; }
}

# derive MASTER PREFIX [OPTION...]: PREFIX.{F32,F16,BF16,Q8_0,Q4_0}.gguf; the file itself is never changed.
derive() {
  local type options=("${@:3}")
  for type in F32 F16 BF16 Q8_0 Q4_0; do
    [ -f "$2.$type.gguf" ] && continue
    "$llama_build/bin/llama-quantize" --allow-requantize "${options[@]}" "$1" "$2.partial" "$type" "$threads" >"$2.$type.log" 2>&1 || { tail -5 "$2.$type.log" >&2; exit 2; }
    mv "$2.partial" "$2.$type.gguf"
  done
}

make_models() {
  mkdir -p "$work/models"
  local random=$work/models/qwen2-0.5b-random
  [ -f "$random.F32.gguf" ] || "$python" "$root/scripts/make_peer_model.py" "$random.F32.gguf"
  derive "$random.F32.gguf" "$random"
  [ -z "$smollm" ] || derive "$smollm" "$work/models/smollm"
  # stories15M was made for fewer positions than a prefill of 512 needs. Concord refuses more than a model declares; the derived files declare more.
  [ -z "$stories" ] || derive "$stories" "$work/models/stories" --override-kv llama.context_length=int:2048
}

make_venv
if [ -n "$llama_build" ]; then
  llama_build=$(cd "$llama_build" && pwd)
  for tool in llama-bench llama-quantize; do
    [ -x "$llama_build/bin/$tool" ] || { echo "bench_peers.sh: no $llama_build/bin/$tool" >&2; exit 2; }
  done
else
  build_llama
fi
make_models
[ $prepare -eq 0 ] || { echo "prepared: $work"; exit 0; }

if [ -z "$concord" ]; then
  concord=$root/build-release/bin/concord
  (cd "$root" && cmake --preset release >/dev/null && cmake --build --preset release >/dev/null) || { echo "bench_peers.sh: concord does not build" >&2; exit 2; }
fi
arguments=(--concord "$concord" --llama-bench "$llama_build/bin/llama-bench" --models "$work/models" --out "$out" --rounds "$rounds" --threads "$threads"
           --scratch "$work/scratch" --llama-source "llama-cpp-python $peer_version")
[ -z "$smollm" ] || arguments+=(--smollm)
[ -z "$stories" ] || arguments+=(--stories)
[ -z "$only" ] || arguments+=(--only "$only")
[ $busy -eq 0 ] || arguments+=(--allow-busy)
exec "$python" "$root/scripts/bench_peers.py" "${arguments[@]}"
