#!/usr/bin/env bash
# Setup, build, and every test.
#   scripts/test.sh [PRESET]     release (default), debug or asan
#   scripts/test.sh cudahost     the CUDA device on tests/cuda_host, against the CPU; prints what was run and how far apart
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
start=$SECONDS

scripts/setup.sh
cmake --preset "$preset"
if [ "$preset" = cudahost ]; then
  cmake --build --preset cudahost --target cudahost
else
  cmake --build --preset "$preset"
fi
ctest --preset "$preset" -j "$(nproc)"
if [ "$preset" = cudahost ]; then
  cat build/cudahost/tests/tmp/cuda_host/summary.txt
fi
echo "test.sh: $preset passed in $(( (SECONDS - start + 59) / 60 )) minutes"
