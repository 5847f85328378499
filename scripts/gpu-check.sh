#!/usr/bin/env bash
# Checks msd on a GPU, each stage in at most nine minutes. No GPU has run this yet: what it prints first is news.
#   scripts/gpu-check.sh correct [BUILD]   op rows, modules, encoders, sampler, training step on the device; compute-sanitizer on the
#                                          own kernels; training, resume, pictures against the CPU; NCCL with two ranks on one GPU
#   scripts/gpu-check.sh full [BUILD]      SDXL's sizes: the UNet against PyTorch in f32 and bf16, training steps, a picture
#   scripts/gpu-check.sh speed [BUILD]     against PyTorch, eager and compiled, in the same run; memory beside the plan
# BUILD: a build folder of preset cuda, or an unpacked bundle (scripts/bundle.sh). Default: build/cuda, else the bundle that this
# script lies in. A line for each check; what there was no time or no tool for is said. In ${MSD_GPU_OUT:-gpu-check}: logs,
# STAGE.tsv (check, ok|FAIL|not run, seconds, note), speed.json, speed.md. Exit: 0 all ran well, 1 something failed, 3 nothing
# failed but something was not run, 6 no usable GPU. CUDA's libraries are found beside the program, or where PyTorch has them.
#
# MSD_GPU_CHECK_TRY=1 tries the script itself without a GPU, on a build of preset cudahost: tiny models, PyTorch on the CPU.
# MSD_GPU_SECONDS: another time limit. PYTHON: the one with torch.
set -euo pipefail

stage=${1:-}
here=$(cd "$(dirname "$0")/.." && pwd)
build=${2:-$([ -x "$here/build/cuda/msd" ] && echo "$here/build/cuda" || echo "$here")}
case $stage in correct | full | speed) ;; *)
  sed -n '2,16p' "$0" >&2
  exit 2 ;;
esac
[ -x "$build/msd" ] || { echo "gpu-check: $build/msd: not found; build preset cuda first, or unpack a bundle" >&2; exit 2; }
build=$(cd "$build" && pwd)
mkdir -p "${MSD_GPU_OUT:-gpu-check}"
out=$(cd "${MSD_GPU_OUT:-gpu-check}" && pwd)
trying=${MSD_GPU_CHECK_TRY:-}
deadline=$((SECONDS + ${MSD_GPU_SECONDS:-525}))
summary=$out/$stage.tsv
python=${PYTHON:-python3}
msd=$build/msd
model=$out/${MSD_GPU_SIZE:-$([ "$trying" ] && echo tiny || echo sdxl)}
torch_on=$([ "$trying" ] && echo cpu || echo cuda)
: >"$summary"

# ---- one line for each check ----

# record NAME RESULT SECONDS NOTE
record() {
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$summary"
  printf '%-7s %-28s %4s s  %s\n' "$2" "$1" "$3" "$4"
}

# check NAME LIMIT COMMAND... | check NAME LIMIT shell FUNCTION...: its output in NAME.log; the last line of that is the note.
check() {
  local name=$1 limit=$2 start=$SECONDS left=$((deadline - SECONDS)) code=0 note
  shift 2
  # A function runs in a shell of its own, so that it has a time limit.
  if [ "$1" = shell ]; then set -- bash -euo pipefail -c '"$@"' - "${@:2}"; fi
  if [ $left -lt 3 ]; then
    record "$name" "not run" 0 "no time left"
    return
  fi
  [ "$limit" -lt $left ] || limit=$left
  timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
  note=$(grep -v '^[[:space:]]*$' "$out/$name.log" | tail -n 1 | tr '\t' ' ' | cut -c1-160) || true # it may have said nothing
  case $code in
  0) record "$name" ok $((SECONDS - start)) "$note" ;;
  77) record "$name" "not run" $((SECONDS - start)) "$note" ;;
  124 | 137) record "$name" FAIL $((SECONDS - start)) "longer than $limit s; $name.log: $note" ;;
  *) record "$name" FAIL $((SECONDS - start)) "exit $code; $name.log: $note" ;;
  esac
}

below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a == a + 0 && a <= b) }'; } # a number, its bound
# The largest relative difference of the losses of two runs, step by step.
losses() {
  awk -F'[:,]' 'FNR == NR { loss[FNR] = $4; n = FNR; next }
    { d = ($4 - loss[FNR]) / loss[FNR]; if (d < 0) d = -d; if (!(d <= most)) most = d }
    END { print (FNR == n && n > 0) ? most + 0 : "nan" }' "$1/log.jsonl" "$2/log.jsonl"
}
# alike A B LOSSES WEIGHTS: two runs, their bounds
alike() {
  local loss weights
  loss=$(losses "$1" "$2")
  weights=$("$build/tests/ranks/compare_weights" "$1/adapter.safetensors" "$2/adapter.safetensors")
  echo "losses $loss apart (bound $3), weights $weights (bound $4)"
  below "$loss" "$3" && below "$weights" "$4"
}
absent() { # WHY
  echo "$*"
  exit 77
}

# ---- correct ----

write_world() {
  rm -rf "$out/world"
  mkdir "$out/world"
  cd "$out/world"
  "$msd" synth tiny -o tiny --quiet
  "$msd" demo-data data --count 8 --quiet
  cat >run.yaml <<'YAML'
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 128, depth: 2, heads: 2, queries: 8}
data: {manifest: data/data.jsonl, resolution: 64}
train: {steps: 20, batch_size: 2}
optimizer: {lr: 1e-4}
output: {checkpoint_every: 10}
YAML
  if [ "$trying" ]; then sed -i 's/steps: 20/steps: 4/; s/checkpoint_every: 10/checkpoint_every: 2/' run.yaml; fi
  echo "the tiny model, a dataset, run.yaml"
}
train() { # DIR ARGS...
  "$msd" train run.yaml --quiet --set output.dir="$1" "${@:2}"
}
# 20 steps of training on both devices: f32 within 1e-4, bf16 as far from f32 as bf16 is.
train_on_both() { # f32|bf16 LOSSES WEIGHTS
  cd "$out/world"
  train "cpu-$1" --device cpu --dtype "$1"
  train "cuda-$1" --device cuda --dtype "$1"
  alike "cpu-$1" "cuda-$1" "$2" "$3"
}
resume_on_device() {
  cd "$out/world"
  local half=$([ "$trying" ] && echo 2 || echo 10)
  train resumed --device cuda --dtype f32 --set train.steps="$half"
  train resumed --device cuda --dtype f32 --resume auto
  cmp resumed/adapter.safetensors cuda-f32/adapter.safetensors
  echo "a run resumed in the middle: the uninterrupted one's bits"
}
picture_on() { # DEVICE TYPE
  local first second
  first=$(head -n 1 data/subjects.txt) second=$(sed -n 2p data/subjects.txt)
  "$msd" generate --model tiny --image-encoder tiny/image_encoder --adapter cpu-f32/adapter.safetensors --quiet \
    --subject "image=data/${first#*=},phrase=${first%%=*},box=0,0.2,0.5,0.9" \
    --subject "image=data/${second#*=},phrase=${second%%=*},box=0.5,0.2,1,0.9" \
    -p "a ${first%%=*} and a ${second%%=*}" --steps "$([ "$trying" ] && echo 2 || echo 8)" --seed 1 \
    --device "$1" --dtype "$2" -o "$1-$2.png"
}
pictures_on_both() { # TYPE MOST: the mean difference of 8-bit samples
  cd "$out/world"
  picture_on cpu "$1"
  picture_on cuda "$1"
  "$build/tests/compare_pictures" "cpu-$1.png" "cuda-$1.png" "$2"
}
# Two ranks share the card, each a host of its own for NCCL (tests/ranks/one_gpu.c says why), against one with the same samples.
train_two_ranks() {
  cd "$out/world"
  rm -rf two-ranks
  export NCCL_SOCKET_IFNAME=lo NCCL_NET=Socket NCCL_NET_PLUGIN=none NCCL_IB_DISABLE=1 NCCL_MNNVL_ENABLE=0 NCCL_NVLS_ENABLE=0
  export NCCL_MULTI_RANK_GPU_ENABLE=1 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + $$ % 20000))
  NCCL_HOSTID=rank1 RANK=1 train two-ranks --device cuda --dtype f32 --set train.batch_size=1 "$@" >rank1.log 2>&1 &
  local other=$!
  NCCL_HOSTID=rank0 RANK=0 train two-ranks --device cuda --dtype f32 --set train.batch_size=1 "$@"
  wait $other
  alike cuda-f32 two-ranks 1e-5 1e-4
}
run_test() { # PROGRAM ARGS...
  cd "$build/tests"
  mkdir -p tmp
  MSD_TEST_DEVICE=cuda "./$1" "${@:2}" 2>&1
  echo "$1 on the device"
}
# Every line that a test prints ends in what cmocka counted.
sanitize() { # TOOL
  local tool
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer "$build"/compute-sanitizer/compute-sanitizer \
    2>/dev/null | head -n 1) || true
  [ "$tool" ] || absent "no compute-sanitizer on this machine"
  cd "$build/tests"
  mkdir -p tmp
  # Own kernels lie in anonymous namespaces, which is in their names; the libraries' are not looked at. No memory is kept,
  # so that what was given back is freed.
  MSD_TEST_DEVICE=cuda MSD_CUDA_CACHE=off MSD_CUDA_MEMORY=direct "$tool" --tool "$1" --error-exitcode 1 \
    --kernel-name kernel_substring=_GLOBAL__N_ ./autograd_test_ops 2>&1
  echo "$1: no complaint"
}

correct() {
  local test
  check world 60 shell write_world
  for test in "$build"/tests/autograd_test_ops "$build"/tests/model_test_* "$build"/tests/infer_test_* \
    "$build"/tests/train_test_train_step; do
    [ -f "$test" ] && [ -x "$test" ] || continue
    check "$(basename "$test")" 240 shell run_test "$(basename "$test")"
  done
  if [ -x "$build/tests/ranks/one_gpu" ]; then
    check nccl-two-ranks-one-gpu 130 "$build/tests/ranks/one_gpu"
  else
    record nccl-two-ranks-one-gpu "not run" 0 "built without NCCL"
  fi
  check train-f32 240 shell train_on_both f32 1e-4 1e-3
  check train-bf16 240 shell train_on_both bf16 5e-2 5e-2
  check resume 120 shell resume_on_device
  if [ -x "$build/tests/ranks/one_gpu" ]; then
    check train-two-ranks 120 shell train_two_ranks
    check train-two-ranks-zero1 120 shell train_two_ranks --set train.shard_optimizer=on
  fi
  check picture-f32 120 shell pictures_on_both f32 0.5
  check picture-bf16 120 shell pictures_on_both bf16 12
  # The tools slow the rows down by tens; they share what time is left.
  local tool
  for tool in memcheck racecheck initcheck synccheck; do
    check "sanitizer-$tool" 240 shell sanitize $tool &
  done
  wait
}

# ---- full ----

have_torch() { "$python" -c 'import torch' 2>/dev/null; }
bench() { # SCRIPT ARGS...
  have_torch || absent "$python has no torch"
  "$python" "$here/tests/bench/$1" "${@:2}"
}
write_model() {
  if [ ! -f "$model/model_index.json" ]; then
    rm -rf "$model"
    "$msd" synth "$(basename "$model")" -o "$model"
  fi
  du -sh "$model"
}
large() { [ "$trying" ] && echo 64 || echo "$1"; } # pixels
write_large_run() {
  cd "$out"
  rm -rf large large.yaml
  [ -d large-data ] || "$msd" demo-data large-data --count 4 --quiet
  cat >large.yaml <<YAML
model: {base: $model, image_encoder: $model/image_encoder}
data: {manifest: large-data/data.jsonl, resolution: $(large 512)}
train: {steps: 3, batch_size: 1}
output: {dir: large, checkpoint_every: 0}
YAML
  if [ "$trying" ]; then echo 'adapter: {dim: 64, depth: 1, heads: 1, queries: 4}' >>large.yaml; fi
}
# Three steps of a run, encoders included: losses are finite.
train_large() {
  write_large_run
  "$msd" train large.yaml --device cuda --dtype bf16 --dump-batches large-batches
  awk -F'[:,]' '{ if (!($4 + 0 > 0 && $4 + 0 < 100)) bad = 1; n++; last = $4 } END { print n " steps, the last loss" last; exit bad || n != 3 }' \
    large/log.jsonl
}
# One training step of the same batch in both types: the loss differs by bf16's rounding.
step_large() {
  local type loss
  cd "$out"
  for type in f32 bf16; do
    "$msd" probe train_step --model "$model" --adapter large-batches/adapter-000000.safetensors \
      --in large-batches/step-000001-0.safetensors --out "step-$type.safetensors" --device cuda --dtype $type --quiet
    loss=$("$msd" inspect "step-$type.safetensors" | sed -n 's/.*loss = \([-0-9.e+]*\).*/\1/p' | head -n 1)
    echo "$type: loss $loss"
    [ $type = f32 ] && exact=$loss
  done
  apart=$(awk -v a="$exact" -v b="$loss" 'BEGIN { d = (a - b) / a; print d < 0 ? -d : d }')
  echo "loss of one step: f32 $exact, bf16 $loss: $apart apart (bound 2e-2)"
  below "$apart" 2e-2
}
draw_large() {
  local first
  cd "$out"
  first=$(head -n 1 large-data/subjects.txt)
  "$msd" generate --model "$model" --image-encoder "$model/image_encoder" --adapter large/adapter.safetensors \
    --subject "image=large-data/${first#*=},phrase=${first%%=*},box=0.2,0.2,0.8,0.9" -p "a ${first%%=*}" --device cuda --dtype bf16 \
    -W "$(large 1024)" -H "$(large 1024)" --steps "$([ "$trying" ] && echo 2 || echo 30)" -o large.png
  ls -l large.png
}

full() {
  check model 150 shell write_model
  check unet-against-pytorch 200 shell bench compare_unet.py --msd "$msd" --model "$model" --out "$out" --device "$torch_on" \
    --size "$(large 1024)"
  check train-steps 150 shell train_large
  check one-step-f32-bf16 120 shell step_large
  check picture 120 shell draw_large
}

# ---- speed ----

# The most that was in use on the card during a command, in MiB: its last line.
with_memory() {
  local watch=
  if [ ! "$trying" ]; then
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 200 >"$out/memory.txt" &
    watch=$!
  fi
  "$@"
  if [ "$watch" ]; then
    kill $watch
    sort -n "$out/memory.txt" | tail -n 1 | sed 's/^/card: at most MiB /' >&2
  fi
}
measure_ours() { # ROW PART SIZE BATCH
  with_memory "$msd" benchmark "$2" --random "$(basename "$model")" --device cuda --dtype bf16 --size "$3" --batch "$4" \
    --repeats "$([ "$trying" ] && echo 1 || echo 5)" --json --quiet >"$out/ours-$1.json"
  bench rival_cuda.py line "$out/ours-$1.json"
}
measure_theirs() { # ROW PART SIZE BATCH eager|compile
  bench rival_cuda.py measure "$2" --size "$3" --batch "$4" --mode "$5" --device "$torch_on" --model-size "$(basename "$model")" \
    --calls "$([ "$trying" ] && echo 1 || echo 3)" --out "$out/$5-$1.json"
}
one_row() { # SIDE ROW
  local part size=${2%-*} batch=1
  part=${size%%-*} size=${size#*-}
  [ "$part" = train ] && batch=${2##*-}
  case $1 in
  ours) check "$1-$2" 200 shell measure_ours "$2" "$part" "$size" "$batch" ;;
  *) check "$1-$2" 240 shell measure_theirs "$2" "$part" "$size" "$batch" "$1" ;;
  esac
}

speed() {
  local row rows="generate-1024-1 train-1024-4 train-1024-1 train-512-8"
  [ "$trying" ] && rows="generate-64-1" # a training step has SDXL's adapter: too much for the host layer, as compiling is for a CPU
  rm -f "$out"/ours-*.json "$out"/eager-*.json "$out"/compile-*.json
  for row in $rows; do
    one_row eager "$row"
    one_row ours "$row"
  done
  [ "$trying" ] || for row in $rows; do one_row compile "$row"; done
  deadline=$((deadline + 10)) check table 10 shell bench rival_cuda.py table "$out"
  [ ! -f "$out/speed.md" ] || cat "$out/speed.md"
}

# ---- the machine ----

# Where the NVIDIA libraries are, if they do not lie beside the program.
find_libraries() {
  ldd "$msd" | grep -q 'not found' || return 0
  local folder
  for folder in $("$python" -c 'import os, nvidia; print(*[os.path.join(p, d, "lib") for p in nvidia.__path__ for d in os.listdir(p)])' \
    2>/dev/null) /usr/local/cuda/lib64; do
    [ -d "$folder" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
  done
  export LD_LIBRARY_PATH
  if ldd "$msd" | grep 'not found'; then
    echo "gpu-check: these libraries are neither beside msd nor in PyTorch's packages nor in /usr/local/cuda" >&2
    exit 6
  fi
}

find_libraries
if [ "$trying" ]; then
  export MSD_CUDA_CACHE=off
else
  nvidia-smi >"$out/nvidia-smi.log" 2>&1 || { echo "gpu-check: nvidia-smi fails: no driver here" >&2; exit 6; }
  export XDG_CACHE_HOME=$out/cache # what is timed once on this card is kept for all checks
  chmod 755 "$out"
fi
"$msd" doctor | tee "$out/doctor.log"
export build out msd here model trying python torch_on
export -f below losses alike absent train write_world train_on_both resume_on_device picture_on pictures_on_both train_two_ranks \
  run_test sanitize have_torch bench write_model large write_large_run train_large step_large draw_large with_memory measure_ours \
  measure_theirs

$stage
count() { awk -F'\t' -v r="$1" '$2 == r' "$summary" | wc -l; }
echo "gpu-check $stage: $(count ok) ok, $(count FAIL) failed, $(count 'not run') not run, $SECONDS s; $summary"
tar -C "$out" -czf "$out/logs.tar.gz.part" $(cd "$out" && ls -- *.log *.tsv *.json *.md *.csv 2>/dev/null) && mv "$out/logs.tar.gz.part" "$out/logs.tar.gz"
[ "$(count FAIL)" -eq 0 ] || exit 1
[ "$(count 'not run')" -eq 0 ] || exit 3
