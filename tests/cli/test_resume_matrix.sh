#!/usr/bin/env bash
# 20 steps = 10 + 10 = killed -9 at each of the 20 and resumed: the same bits of weights, moments, averages and log, with the
# optimizers adamw and adamw8bit, EMA on, with encoders in every step and from the cache of `msd prepare`. Another seed (other draws) gives other bits.
#   test_resume_matrix.sh MSD TMP
# MSD_TEST_FULL=1 kills at every step of every variant; else at a sample of them.
set -eu
msd=$1
tmp=$2
full=${MSD_TEST_FULL:-}
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
steps=20
last=step-000020

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 6 --quiet
cat >run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64, drop: {text: 0.2, image: 0.2, both: 0.1, grounding: 0.2}}
train: {steps: $steps, batch_size: 1, ema: 0.9, min_snr: 5, noise_offset: 0.05}
optimizer: {lr: 1e-3, warmup: 3}
output: {checkpoint_every: 1, keep: 2}
YAML
fail() {
  echo "FAIL $*"
  exit 1
}
train() { # DIR [ARGS]: of the variant
  "$msd" train run.yaml --quiet --set output.dir="$1" "${variant[@]}" "${@:2}"
}
losses() { sed 's/, "seconds".*//' "$1/log.jsonl"; }
same() { # DIR DIR
  for file in adapter.safetensors optimizer.safetensors ema.safetensors; do
    cmp "$1/$last/$file" "$2/$last/$file" || fail "${variant[*]}: $file of $1 and $2"
  done
  cmp "$1/adapter.safetensors" "$2/adapter.safetensors"
  [ "$(losses "$1")" = "$(losses "$2")" ] || fail "${variant[*]}: the logs of $1 and $2"
  [ "$(wc -l <"$2/log.jsonl")" -eq $steps ] || fail "${variant[*]}: the log of $2"
}
# Kills a run -9 as soon as the log has the line of a step, which is before that step is saved or while it is.
kill_at() { # DIR STEP
  "$msd" train run.yaml --quiet --set output.dir="$1" "${variant[@]}" >/dev/null 2>&1 &
  local child=$!
  for _ in $(seq 3000); do
    [ -e "$1/log.jsonl" ] && [ "$(wc -l <"$1/log.jsonl")" -ge "$2" ] && break
    kill -0 $child 2>/dev/null || break
    sleep 0.005
  done
  kill -9 $child 2>/dev/null || true
  wait $child 2>/dev/null || true
}

matrix() { # NAME STEPS... ; variant is set
  local name=$1
  train "$name-whole"
  train "$name-parts" --set train.steps=10
  train "$name-parts" --resume auto
  same "$name-whole" "$name-parts"
  for at in "${@:2}"; do
    rm -rf killed
    kill_at killed "$at"
    [ -d killed/$last ] && [ "$at" -lt $((steps - 3)) ] && fail "the run was over before it could be killed at $at"
    train killed --resume auto
    same "$name-whole" killed
  done
  echo "ok   $name: 20 = 10 + 10 = killed at ${*:2}"
}

every=$(seq $steps)
common=(--set train.seed=0)
variant=("${common[@]}" --set optimizer.kind=adamw)
if [ "$full" ]; then matrix adamw $every; else matrix adamw 3 18; fi
variant=("${common[@]}" --set optimizer.kind=adamw8bit)
if [ "$full" ]; then matrix adamw8bit $every; else matrix adamw8bit 12; fi
variant=("${common[@]}" --set optimizer.kind=adamw --set train.activation_checkpointing=on)
if [ "$full" ]; then matrix checkpointed $every; else matrix checkpointed 9; fi
same adamw-whole checkpointed-whole
variant=("${common[@]}" --set data.cache=cache)
"$msd" prepare run.yaml --quiet "${variant[@]}"
if [ "$full" ]; then matrix cached $every; else matrix cached 6; fi

# negative control: draws that are off
variant=(--set train.seed=1 --set optimizer.kind=adamw)
train other
for file in adapter optimizer ema; do
  cmp -s "adamw-whole/$last/$file.safetensors" "other/$last/$file.safetensors" && fail "another seed gives the same $file"
done
cmp -s "adamw-whole/$last/optimizer.safetensors" "adamw8bit-whole/$last/optimizer.safetensors" && fail "8-bit moments are not used"
echo "ok   another seed differs"
