#!/usr/bin/env bash
# Checks msd on a GPU, each stage in at most nine minutes. No GPU has run this yet: what it prints first is news.
#   scripts/gpu-check.sh correct [BUILD]   the op rows on the device, own kernels under compute-sanitizer, runs against the CPU
#   scripts/gpu-check.sh full [BUILD]      synth sdxl on the device: one UNet call in bf16 and f32, a training step, pictures
#   scripts/gpu-check.sh speed [BUILD]     milliseconds of training steps and pictures, memory beside the plan
# BUILD: a build folder of preset cuda, or an unpacked bundle (scripts/bundle.sh). Default: build/cuda, else the bundle that
# this script lies in. Everything is written to ${MSD_GPU_OUT:-gpu-check}; the exit code is 1 when a line says FAIL.
set -euo pipefail

stage=${1:-}
here=$(cd "$(dirname "$0")/.." && pwd)
build=${2:-$([ -x "$here/build/cuda/msd" ] && echo "$here/build/cuda" || echo "$here")}
msd=$build/msd
out=${MSD_GPU_OUT:-gpu-check}
failed=0

case $stage in correct | full | speed) ;; *)
  sed -n '2,8p' "$0" >&2
  exit 2 ;;
esac
[ -x "$msd" ] || { echo "gpu-check: $msd: not found; build preset cuda first" >&2; exit 2; }
mkdir -p "$out"

# run NAME COMMAND...: a line with its seconds; its output in $out/NAME.log.
run() {
  local name=$1 start=$SECONDS code=0
  shift
  timeout 300 "$@" >"$out/$name.log" 2>&1 || code=$?
  if [ $code -eq 0 ]; then
    echo "ok    $name ($((SECONDS - start)) s)"
  else
    echo "FAIL  $name: exit $code, $out/$name.log: $(tail -n 1 "$out/$name.log")"
    failed=1
  fi
}

# same NAME TOLERANCE A B: the largest difference of two safetensors files over the largest number of A.
same() {
  run "$1" python3 - "$2" "$3" "$4" <<'PYTHON'
import json, struct, sys
import numpy as np
def read(path):
    raw = open(path, "rb").read()
    size, = struct.unpack("<Q", raw[:8])
    for name, t in json.loads(raw[8:8 + size]).items():
        if name != "__metadata__":
            assert t["dtype"] == "F32", (path, name, t["dtype"])
            yield name, np.frombuffer(raw[8 + size:][slice(*t["data_offsets"])], np.float32)
a, b, worst = dict(read(sys.argv[2])), dict(read(sys.argv[3])), 0.0
assert a.keys() == b.keys(), (sorted(a), sorted(b))
for name in a:
    error = float(np.abs(a[name] - b[name]).max() / max(np.abs(a[name]).max(), 1e-30))
    print(name, error)
    worst = max(worst, error) if error == error else float("inf")
sys.exit(not worst <= float(sys.argv[1]))
PYTHON
}

nvidia-smi >"$out/nvidia-smi.log" 2>&1 || { echo "gpu-check: nvidia-smi fails: no driver here" >&2; exit 6; }
"$msd" doctor | tee "$out/doctor.log"

correct() {
  for test in test_ops test_attention test_graph; do
    [ -x "$build/tests/autograd_$test" ] && run "$test" env MSD_TEST_DEVICE=cuda "$build/tests/autograd_$test"
  done
  if command -v compute-sanitizer >/dev/null && [ -x "$build/tests/autograd_test_ops" ]; then
    for tool in memcheck racecheck initcheck; do
      run "sanitizer-$tool" env MSD_TEST_DEVICE=cuda compute-sanitizer --tool "$tool" --error-exitcode 1 \
          --kernel-name-exclude kernel_substring=cudnn --kernel-name-exclude kernel_substring=cublas \
          "$build/tests/autograd_test_ops"
    done
  fi
  run synth "$msd" synth tiny -o "$out/tiny"
  for part in unet vae vision text; do
    run "random-$part" "$msd" benchmark $part --random tiny --device cuda --repeats 2
  done
}

full() {
  run synth "$msd" synth sdxl -o "$out/sdxl"
  for type in f32 bf16; do
    run "unet-$type" "$msd" benchmark unet --model "$out/sdxl" --device cuda --dtype $type --size 1024 --repeats 2
    run "train-$type" "$msd" benchmark train --model "$out/sdxl" --device cuda --dtype $type --size 512 --repeats 1
  done
  if [ -n "${MSD_PROBE_IN:-}" ]; then # inputs of `msd probe unet` as a safetensors file
    run probe-f32 "$msd" probe unet --model "$out/sdxl" --in "$MSD_PROBE_IN" --out "$out/f32.safetensors" --device cuda --dtype f32
    run probe-bf16 "$msd" probe unet --model "$out/sdxl" --in "$MSD_PROBE_IN" --out "$out/bf16.safetensors" --device cuda --dtype bf16
    same bf16-beside-f32 3e-2 "$out/f32.safetensors" "$out/bf16.safetensors"
  fi
}

speed() {
  for size in 512 1024; do
    run "plan-$size" "$msd" plan --random sdxl --size $size --dtype bf16
    for what in train generate unet; do
      run "$what-$size" "$msd" benchmark $what --random sdxl --device cuda --dtype bf16 --size $size --repeats 5 --json
    done
  done
  nvidia-smi --query-gpu=name,memory.used,memory.total,clocks.sm,power.draw --format=csv | tee "$out/card.csv"
}

$stage
exit $failed
