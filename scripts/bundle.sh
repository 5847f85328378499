#!/usr/bin/env bash
# Packs a build into one tarball that runs on another x86-64 Linux: the program, the test programs, the
# libraries beside it (CUDA's too), gpu-check.sh. Only libc and the NVIDIA driver are the other machine's.
#   scripts/bundle.sh BUILD OUT.tar.gz        e.g. scripts/bundle.sh build/cuda msd-bundle.tar.gz
# The programs find their libraries in lib/ beside them, wherever it is unpacked; the op rows read their goldens where they
# were at build time.
set -euo pipefail

[ $# -eq 2 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1
out=$2
[ -x "$build/msd" ] || { echo "bundle: $build/msd: not found; build it first" >&2; exit 2; }
command -v patchelf >/dev/null || { echo "bundle: patchelf is missing; apt-get install patchelf" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/msd
mkdir -p "$top/lib" "$top/tests" "$top/scripts"
cp "$build/msd" "$top/"
for test in "$build"/tests/autograd_test_*; do
  [ -x "$test" ] && [ -f "$test" ] && cp "$test" "$top/tests/"
done
cp "$root/scripts/gpu-check.sh" "$top/scripts/"
cp "$root/LICENSE" "$root/README.md" "$top/" 2>/dev/null || true

# What the programs load, but for libc's own and the driver's.
keep_out='^(ld-linux.*|libc|libm|libdl|librt|libpthread|libcuda|libnvidia.*)\.so'
for program in "$top/msd" "$top"/tests/*; do
  [ -f "$program" ] && ldd "$program"
done | awk '$3 ~ /^\// {print $3}' | sort -u | while read -r library; do
  name=$(basename "$library")
  [[ $name =~ $keep_out ]] || cp -L "$library" "$top/lib/$name"
done
# cuDNN loads its parts by name when they are needed.
cudnn=$(ldd "$top/msd" | awk '/libcudnn\.so/ {print $3}')
if [ -n "$cudnn" ]; then
  for part in "$(dirname "$cudnn")"/libcudnn_*.so.*; do
    [ -f "$part" ] && cp -L "$part" "$top/lib/"
  done
fi
patchelf --set-rpath '$ORIGIN/lib' "$top/msd"
for test in "$top"/tests/*; do
  [ -f "$test" ] && patchelf --set-rpath '$ORIGIN/../lib' "$test"
done
for library in "$top"/lib/*; do
  patchelf --set-rpath '$ORIGIN' "$library"
done
tar -C "$work" -czf "$out.part" msd
mv "$out.part" "$out"
echo "bundle: $out: $(du -h "$out" | cut -f1), $(find "$top/lib" -type f | wc -l) libraries"
