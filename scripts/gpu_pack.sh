#!/usr/bin/env bash
# For a machine with a GPU but without this project's libraries: puts a built program, its plug-ins and the libraries they need into .gpu/, where
# scripts/gpu_check.sh finds them. The C library, CUDA's and ROCm's own libraries are not taken: they must be the other machine's.
#   scripts/gpu_pack.sh BUILD_FOLDER     for example build-cuda, made here by: cmake --preset cuda && cmake --build --preset cuda
set -euo pipefail
cd "$(dirname "$0")/.."
build="${1:-}"
[ -x "$build/bin/concord" ] || { echo "gpu_pack.sh: expected a build folder with bin/concord, found \"$build\"" >&2; exit 2; }
rm -rf .gpu
mkdir -p .gpu/bin .gpu/lib
cp "$build"/bin/concord "$build"/bin/libconcord_backend_*.so .gpu/bin/
strip --strip-unneeded .gpu/bin/* 2>/dev/null || true
for file in .gpu/bin/*; do
  ldd "$file" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*)\.so|/lib(cuda|cudart|cublas|cublasLt|nvrtc|amdhip64|hsa-runtime64|amd_comgr|rocblas|hipblaslt)[.-]' |
  while read -r library; do cp -L "$library" .gpu/lib/; done
du -sh .gpu
