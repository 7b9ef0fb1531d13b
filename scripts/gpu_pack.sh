#!/usr/bin/env bash
# For a machine with a GPU but without this project's libraries: puts a built program, its plug-ins and the libraries they need into .gpu/pack.tar.gz, where
# scripts/gpu_check.sh finds them. The C and C++ libraries, CUDA's and ROCm's are not taken: they must be the other machine's, and no older than this one's.
#   scripts/gpu_pack.sh BUILD_FOLDER     for example build-cuda, made here by: cmake --preset cuda && cmake --build --preset cuda
set -euo pipefail
cd "$(dirname "$0")/.."
build="${1:-}"
[ -x "$build/bin/concord" ] || { echo "gpu_pack.sh: expected a build folder with bin/concord, found \"$build\"" >&2; exit 2; }
[ -f "$build/bin/libconcord_backend_cuda.so" ] || [ -f "$build/bin/libconcord_backend_hip.so" ] || {
  echo "gpu_pack.sh: expected a CUDA or HIP plug-in in $build/bin, found neither; build with the preset cuda or hip" >&2; exit 2; }
rm -rf .gpu
pack=$(mktemp -d)
trap 'rm -rf "$pack"' EXIT
mkdir -p .gpu "$pack/bin" "$pack/lib"
cp "$build"/bin/concord "$build"/bin/libconcord_backend_*.so "$pack/bin/"
strip --strip-unneeded "$pack"/bin/*
for file in "$pack"/bin/*; do
  ldd "$file" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(libc|libm|libstdc\+\+|libgcc_s|libdl|librt|libpthread|libresolv|ld-linux[^/]*)\.so|/lib(cuda|cudart|cublas|cublasLt|nvrtc|amdhip64|hsa-runtime64|amd_comgr|rocblas|hipblaslt)[.-]' |
  while read -r library; do cp -L "$library" "$pack/lib/"; done
tar -C "$pack" -czf .gpu/pack.tar.gz bin lib
ls -lh .gpu/pack.tar.gz
