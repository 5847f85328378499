#!/usr/bin/env bash
# Setup, build, and every test.
#   scripts/test.sh [PRESET]     release (default), debug or asan
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
start=$SECONDS

scripts/setup.sh
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --preset "$preset" -j "$(nproc)"
echo "test.sh: $preset passed in $(( (SECONDS - start + 59) / 60 )) minutes"
