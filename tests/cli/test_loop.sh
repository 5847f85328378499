#!/usr/bin/env bash
# The training loop as a person meets it: signals, averaged weights, training on from an adapter or another run's step, steps
# that are not finite.
#   test_loop.sh MSD TMP
set -eu
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 6 --quiet
cat >run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64}
train: {steps: 4, batch_size: 1}
optimizer: {lr: 1e-3}
output: {checkpoint_every: 2}
YAML
fail() {
  echo "FAIL $*"
  exit 1
}
train() { "$msd" train run.yaml "$@"; }
refused() { # CODE TEXT [ARGS]
  local code=0
  train "${@:3}" --quiet 2>refused || code=$?
  [ $code -eq "$1" ] && grep -q -- "$2" refused || fail "${*:3}: exit $code: $(cat refused)"
}
until_there() { # FILE CHILD
  for _ in $(seq 3000); do
    [ -e "$1" ] && return
    kill -0 "$2" 2>/dev/null || return 0
    sleep 0.01
  done
}

# averaged weights: in every step's folder, exported by --ema, and only where there are any
train --quiet --set output.dir=plain
train --quiet --set output.dir=ema --set train.ema=0.5
cmp plain/adapter.safetensors ema/adapter.safetensors # they take no part in training
"$msd" export ema -o averaged.safetensors --ema
cmp averaged.safetensors ema/step-000004/ema.safetensors
"$msd" export ema/step-000002 -o averaged.bin --ema
if cmp -s averaged.safetensors ema/adapter.safetensors; then fail "the averaged weights are the weights"; fi
for from in plain plain/adapter.safetensors; do
  code=0
  "$msd" export $from -o none.safetensors --ema 2>refused || code=$?
  [ $code -eq 5 ] && [ ! -e none.safetensors ] && grep -q 'no averaged weights' refused || fail "export $from --ema: exit $code"
done
printf 'xxxx' | dd of=ema/step-000004/ema.safetensors bs=1 seek=20000 conv=notrunc status=none
refused 5 'ema.safetensors: its SHA-256 differs' --resume ema/step-000004 --set output.dir=ema --set train.ema=0.5 --set train.steps=6
echo "ok   averaged weights"

# --device and --dtype are the config's keys
train --quiet --set output.dir=flags --set train.steps=1 --device cpu --dtype bf16
grep -q 'kind: cpu' flags/config.yaml && grep -q 'dtype: bf16' flags/config.yaml || fail "flags: $(tail -3 flags/config.yaml)"
echo "ok   --device, --dtype"

# training on from an adapter, with other subjects: it begins as that adapter (but for the number of the step) and moves
train --quiet --set output.dir=tuned --set model.adapter=plain/adapter.safetensors --set data.max_subjects=2 --set train.seed=5 \
  --dump-batches dumped
differ=$(cmp -l plain/adapter.safetensors dumped/adapter-000000.safetensors | wc -l)
[ "$differ" -eq 1 ] || fail "an adapter trained on from differs in $differ bytes"
if cmp -s plain/adapter.safetensors tuned/adapter.safetensors; then fail "training on from an adapter changes nothing"; fi
echo "ok   from an adapter"

# another run's step: said, held to the base model, and not mixed with steps of one's own
train --set output.dir=forked --resume plain/step-000002 2>said
grep -q 'plain/step-000002 of another run' said || fail "another run's step is not said: $(cat said)"
cmp forked/adapter.safetensors plain/adapter.safetensors
refused 2 'belongs to another run' --resume plain/step-000002 --set output.dir=forked
"$msd" synth tiny -o other --seed 3 --quiet
mkdir -p moved
mv tiny moved/tiny
cp -r other tiny
refused 5 'trained on another UNet' --resume plain/step-000002 --set output.dir=replaced
rm -r tiny
mv moved/tiny tiny
echo "ok   another run's step"

# steps that are not finite: counted, then stopped with the samples' lines; checkpoints from before stay and can be resumed,
# which ends at the same step
bad=(--set optimizer.lr=10 --set optimizer.weight_decay=100 --set train.steps=300 --set train.max_bad_steps=3 --set output.dir=bad --set output.checkpoint_every=1)
refused 8 'that is 3 such steps in a row' "${bad[@]}"
grep -qE 'of the samples in lines [0-9]+ of .*data.jsonl' refused || fail "no samples named: $(cat refused)"
skipped=$(grep -c 'the update is skipped' refused)
[ "$skipped" -ge 2 ] || fail "skipped steps are not said: $(cat refused)"
stopped=$(grep -oE 'error.*step [0-9]+' refused | grep -oE '[0-9]+$')
tail -n 1 bad/log.jsonl | grep -q "\"skipped\": $skipped," || fail "skipped steps are not logged: $(tail -n 1 bad/log.jsonl)"
newest=$(ls bad | grep '^step-' | tail -n 1)
[ "$((10#${newest#step-}))" -eq $((stopped - 3)) ] || fail "the newest step is $newest, the run stopped at $stopped"
"$msd" export bad -o finite.safetensors
refused 8 "step $stopped: " --resume auto "${bad[@]}"
echo "ok   steps that are not finite"

# signals
long=(--set train.steps=100000 --set output.checkpoint_every=0)
"$msd" train run.yaml "${long[@]}" --set output.dir=asked --quiet & # not by the function: the signal is for msd
child=$!
until_there asked/log.jsonl $child
for _ in $(seq 500); do [ -s asked/log.jsonl ] && break; sleep 0.01; done
kill -USR1 $child
for _ in $(seq 500); do ls asked | grep -q '^step-' && break; sleep 0.01; done
ls asked | grep -q '^step-' || fail "SIGUSR1 saves nothing"
kill -0 $child || fail "SIGUSR1 ends the run"
kill -TERM $child
code=0
wait $child || code=$?
[ $code -eq 143 ] || fail "SIGTERM: exit $code"
[ "$(ls asked | grep -c '^step-')" -eq 2 ] || fail "SIGTERM saves nothing"
lines=$(wc -l <asked/log.jsonl)
[ -d "asked/$(printf 'step-%06d' "$lines")" ] || fail "the last of $lines steps was not saved"

# a second SIGINT leaves at once; whichever state it meets, what was saved before is whole
"$msd" train run.yaml "${long[@]}" --set output.dir=twice --set output.checkpoint_every=1 --quiet &
child=$!
until_there twice/step-000002 $child
kill -INT $child
kill -INT $child 2>/dev/null || true
code=0
wait $child || code=$?
[ $code -eq 130 ] || fail "two SIGINT: exit $code"
"$msd" export twice -o twice.safetensors
echo "ok   signals"

# the line of progress
train --set output.dir=shown 2>said
grep -qE 'train 4/4 100% loss [0-9.]+, average [0-9.]+, norm [0-9.]+, lr 1.00e-03, [0-9.]+ pictures/s, wait [0-9]+ %, [0-9.]+ GiB, ' said ||
  fail "the progress line: $(cat said)"
grep -q '"wait": .*"images_per_second": ' shown/log.jsonl || fail "the log: $(head -n 1 shown/log.jsonl)"
echo "ok   progress and log"
