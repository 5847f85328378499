#!/usr/bin/env bash
# Packs a build into one tarball that runs on another x86-64 Linux: the program, the test programs and their goldens, the libraries
# beside them (CUDA's too), compute-sanitizer where the toolkit has it, gpu-check.sh with what it starts. Only libc and NVIDIA's
# driver are the other machine's.
#   scripts/bundle.sh BUILD OUT.tar.gz        e.g. scripts/bundle.sh build/cuda msd-bundle.tar.gz
#   there: tar -xzf msd-bundle.tar.gz && msd/scripts/gpu-check.sh correct
# BUILD has preset cuda or cuda-release (-DMSD_MOVABLE_TESTS=ON). Programs find their libraries in lib/ beside them, wherever they are unpacked.
# BUNDLE_LIBRARIES=system leaves NVIDIA's libraries out (3 GB): gpu-check.sh takes those of PyTorch's packages or of /usr/local/cuda.
set -euo pipefail

[ $# -eq 2 ] || { sed -n '2,9p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
build=$1
out=$2
[ -x "$build/msd" ] || { echo "bundle: $build/msd: not found; build it first" >&2; exit 2; }
grep -q '^MSD_MOVABLE_TESTS:BOOL=ON' "$build/CMakeCache.txt" ||
  { echo "bundle: $build: its tests look for their goldens in this checkout; configure it with -DMSD_MOVABLE_TESTS=ON" >&2; exit 2; }
command -v patchelf >/dev/null || { echo "bundle: patchelf is missing; apt-get install patchelf" >&2; exit 2; }

work=$(mktemp -d "$(dirname "$out")/bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
top=$work/msd
mkdir -p "$top/lib" "$top/tests/ranks" "$top/tests/tmp" "$top/scripts"
cp "$build/msd" "$top/"
for test in "$build"/tests/{autograd,model,infer,train}_test_* "$build/tests/compare_pictures" "$build"/tests/ranks/{compare_weights,one_gpu}; do
  if [ -f "$test" ] && [ -x "$test" ]; then cp "$test" "$top/${test#"$build"/}"; fi
done
cp -r "$root/tests/goldens" "$root/tests/bench" "$top/tests/"
cp -r "$root/configs" "$root/docs" "$root/README.md" "$top/"
cp "$root/LICENSE" "$top/" 2>/dev/null || true
cp "$root/scripts/gpu-check.sh" "$top/scripts/"

# What the programs load, but for libc's own and the driver's.
keep_out='^(ld-linux.*|libc|libm|libdl|librt|libpthread|libcuda|libnvidia.*)\.so'
[ "${BUNDLE_LIBRARIES:-}" != system ] || keep_out="$keep_out|^lib(cudart|cublas|cublasLt|cudnn.*|nccl)\.so"
programs=()
while read -r program; do programs+=("$program"); done < <(find "$top/msd" "$top/tests" -type f -perm -100 ! -name '*.py' ! -name '*.sh')
for program in "${programs[@]}"; do
  ldd "$program"
done | awk '$2 == "=>" && $3 == "not" {print "bundle: " $1 " is not found" >"/dev/stderr"; bad = 1} $3 ~ /^\// {print $3} END {exit bad}' |
  sort -u >"$work/libraries"
while read -r library; do
  name=$(basename "$library")
  [[ $name =~ $keep_out ]] || cp -L "$library" "$top/lib/$name"
  # cuDNN loads its parts by name when they are needed.
  if [[ $name == libcudnn.so* && ! $name =~ $keep_out ]]; then
    for part in "$(dirname "$(readlink -f "$library")")"/libcudnn_*.so.[0-9]; do
      [ -f "$part" ] && cp -L "$part" "$top/lib/"
    done
  fi
done <"$work/libraries"
for program in "${programs[@]}"; do
  case ${program#"$top"/} in
  tests/ranks/*) place=../../lib ;;
  tests/*) place=../lib ;;
  *) place=lib ;;
  esac
  patchelf --set-rpath "\$ORIGIN/$place" "$program"
done
for library in "$top"/lib/*; do
  patchelf --set-rpath '$ORIGIN' "$library"
done

# The toolkit that the build was made with may have compute-sanitizer: its folder as a whole.
nvcc=$(sed -n 's/^CMAKE_CUDA_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
if [ -n "$nvcc" ]; then
  for folder in "$(dirname "$nvcc")/../compute-sanitizer" "$(dirname "$(readlink -f "$nvcc")")/../compute-sanitizer"; do
    if [ -x "$folder/compute-sanitizer" ]; then
      cp -rL "$folder" "$top/compute-sanitizer"
      break
    fi
  done
fi
tar -C "$work" -I "$(command -v pigz || echo gzip)" -cf "$out.part" msd
mv "$out.part" "$out"
echo "bundle: $out: $(du -h "$out" | cut -f1), ${#programs[@]} programs, $(find "$top/lib" -type f | wc -l) libraries"
