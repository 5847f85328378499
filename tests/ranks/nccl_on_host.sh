#!/usr/bin/env bash
# Many ranks by NCCL on the host layer of CUDA (tests/cuda_host): that they train what one trains, by mpirun and by torchrun's
# variables, that gradients are sent while backward goes on, and that a call of NCCL which fails, hangs or differs ends all.
#   nccl_on_host.sh exact|failures MSD TMP COMPARE_WEIGHTS        STEPS=n: of the runs that are compared (3)
set -euo pipefail
part=$1 msd=$2 tmp=$3 compare=$4
. "$(dirname "$0")/compare_runs.sh"
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
steps=${STEPS:-3}
last=step-$(printf %06d "$steps")
watchdog=6
patience=$((150 * (1 + steps / 10))) # seconds, of one run
fail() {
  echo "FAIL $*"
  exit 1
}
port=$((20000 + $$ % 20000))
pids=()
trap 'for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done' EXIT

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 8 --quiet
cat >run.yaml <<YAML
device: {kind: cuda, dtype: f32}
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64, cache: cache}
train: {steps: $steps, batch_size: 4, watchdog: $watchdog}
optimizer: {lr: 1e-4}
output: {checkpoint_every: 0}
YAML
"$msd" prepare run.yaml --quiet --set device.kind=cpu

# Every run is of $steps x 4 samples: batch_size is what is left of 4 for each rank.
alone() { # DIR ARGS
  timeout $patience "$msd" train run.yaml --quiet --set output.dir="$1" "${@:2}"
}
by_mpi() { # COUNT DIR ARGS
  timeout -k 5 $patience mpirun --oversubscribe --bind-to none -np "$1" "$msd" train run.yaml --set output.dir="$2" \
    --set train.batch_size=$((4 / $1)) "${@:3}" 2>said || fail "$*: exit $?: $(cat said)"
}
start_ranks() { # COUNT DIR ARGS: what rank r says is in said.r, its process in pids
  local rank
  pids=()
  port=$((port + 1)) # one that was just used may not be free yet
  for ((rank = 0; rank < $1; rank++)); do
    RANK=$rank WORLD_SIZE=$1 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port timeout -k 5 $patience "$msd" train run.yaml \
      --set output.dir="$2" --set train.batch_size=$((4 / $1)) "${@:3}" 2>said.$rank &
    pids+=($!)
  done
}
wait_ranks() { # their exit codes, in codes
  local pid code
  codes=()
  for pid in "${pids[@]}"; do
    code=0
    wait "$pid" || code=$?
    codes+=("$code")
  done
  pids=()
}
by_variables() { # COUNT DIR ARGS
  start_ranks "$@"
  wait_ranks
  [[ "${codes[*]}" =~ ^0( 0)*$ ]] || fail "$*: exits ${codes[*]}: $(cat said.*)"
}

exact() {
  local sent planned between
  alone one
  alone one-cpu --device cpu
  MSD_CUDA_HOST_TRACE=$PWD/trace by_mpi 2 two
  alike one two
  sent=$(sed -n 's/.* by NCCL: \([0-9]*\) bytes.*/\1/p' said)
  planned=$("$msd" plan run.yaml --ranks 2 --set train.batch_size=2 --json 2>/dev/null | sed -n 's/.*"sent_bytes": \([0-9]*\).*/\1/p')
  [ -n "$sent" ] && [ "$sent" = "$planned" ] || fail "sent $sent bytes a step, planned $planned"
  echo "ok   $sent bytes sent by each a step, as planned"

  # Calls in the order in which a rank asked for them: before each sum but a step's last there was, and behind it there still
  # is, a product of backward; the first kernel of the norm ends it.
  between=$(awk -v pid="$(awk '{ print $1; exit }' trace)" '$1 == pid { what = $2
      if (what == "ncclAllReduce") { sums++; if (seen && products) overlapped++; products = 0; seen = 1; total++ }
      else if (what == "cublasLtMatmul") products++
      else if (what ~ /^square_parts/) { seen = products = 0 } } END { print overlapped + 0, total + 0 }' trace)
  [ "${between% *}" -ge $((steps * 3)) ] && [ "${between#* }" -eq $((steps * 4)) ] || fail "products between sums, sums: $between"
  echo "ok   overlap: backward went on behind ${between% *} of ${between#* } sums"

  by_mpi 2 two-cpu --device cpu
  alike two-cpu two
  by_variables 4 four
  alike one four
  by_variables 4 again
  cmp four/adapter.safetensors again/adapter.safetensors
  cmp four/$last/optimizer.safetensors again/$last/optimizer.safetensors
  echo "ok   two runs are equal to the bit"
  by_variables 4 shared --set train.shard_optimizer=on
  alike four shared
  [ "$(stat -c %s shared/$last/optimizer.safetensors)" = "$(stat -c %s one/$last/optimizer.safetensors)" ] ||
    fail "the optimizer's file of shared state has another size"
  by_mpi 2 half --set train.reduce_dtype=bf16
  alike one half 1e-4 1e-3
  by_mpi 2 mixed --set train.steps=1 --set train.shard_optimizer=on
  by_variables 4 mixed --resume auto --set train.steps=2
  alone mixed --resume auto
  alike one mixed

  # SIGTERM to one rank: saved once, all leave with 143; the run goes on as if nothing had been.
  start_ranks 2 stopped --set train.steps=40
  for _ in $(seq 1000); do
    [ "$(wc -l 2>/dev/null <stopped/log.jsonl || echo 0)" -ge 1 ] && break
    sleep 0.05
  done
  kill -TERM "$(pgrep -P "${pids[1]}")"
  wait_ranks
  [ "${codes[*]}" = "143 143" ] || fail "SIGTERM to one rank: exits ${codes[*]}: $(cat said.*)"
  [ "$(cat said.* | grep -c 'saved .*stopped/step')" -eq 1 ] || fail "saved not once: $(cat said.*)"
  [ "$(find stopped -maxdepth 1 -name 'step-*' | wc -l)" -eq 1 ] || fail "saved not once: $(ls stopped)"
  echo "ok   SIGTERM to one rank"

  start_ranks 2 refused --device cpu
  wait_ranks
  [ "${codes[*]}" = "9 9" ] && grep -q 'mpirun -np 2' said.0 || fail "a CPU run under the variables: exits ${codes[*]}: $(cat said.*)"
  echo "ok   a CPU run under torchrun's variables is told to use mpirun"
}

# injected KIND SAID LIMIT: rank 1's sixth collective call, which is in the second step; all leave with 9 within the limit and the
# checkpoint of the first step is good.
injected() {
  local start
  rm -rf out
  cp -r start out
  start=$SECONDS
  MSD_CUDA_HOST_NCCL=$1 start_ranks 2 out --resume auto
  wait_ranks
  [ "${codes[*]}" = "9 9" ] || fail "$1: exits ${codes[*]}: $(cat said.*)"
  [ $((SECONDS - start)) -le "$3" ] || fail "$1: all gone after $((SECONDS - start)) s, allowed $3: $(cat said.*)"
  grep -Eq "$2" said.* || fail "$1: not named ($2): $(cat said.*)"
  echo "ok   $1: all gone after $((SECONDS - start)) s: $(grep -Eh "$2" said.* | head -n 1 | cut -c1-150)"
  by_variables 2 out --resume auto
  cmp out/adapter.safetensors unharmed/adapter.safetensors
}

failures() {
  local limit=$((watchdog + 20)) # the start of two ranks on a busy machine, and the watchdog
  by_variables 2 start --set train.steps=1
  cp -r start unharmed
  by_variables 2 unharmed --resume auto
  cp -r start out
  MSD_CUDA_HOST_NCCL=delay:1:2:1500 by_variables 2 out --resume auto
  cmp out/adapter.safetensors unharmed/adapter.safetensors
  echo "ok   a call that takes 1.5 s longer: the same bits"
  injected error:1:6 'rank 1 .*|seeded failure' $limit
  injected remote:1:6 'rank 1 .*' $limit
  injected hang:1:6 'rank [01] .*' $limit
  injected size:1:6 'rank [01] .*' $limit
  rm -rf out
  cp -r start out
  MSD_CUDA_HOST_NCCL=init:1:1 start_ranks 2 out --resume auto
  wait_ranks
  [ "${codes[*]}" = "9 9" ] || fail "init: exits ${codes[*]}: $(cat said.*)"
  echo "ok   a communicator that never comes to be: $(cat said.* | grep error | head -n 1 | cut -c1-150)"
}

case $part in
exact) exact ;;
failures) failures ;;
*) fail "$part: exact or failures" ;;
esac
rm -rf "$tmp"
