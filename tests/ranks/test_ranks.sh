#!/usr/bin/env bash
# Many processes train what one trains: 2, 3 and 4 ranks against 1 with the same samples a step, with the optimizer's state shared
# out and without, two runs to the bit, resumes with other numbers of ranks, signals, and what the ranks share.
#   test_ranks.sh MSD MSD_STRIKES TMP COMPARE_WEIGHTS
# LONG=1: also in bf16, with averaged weights, accumulation, aspect buckets and skipped steps.
set -eu
msd=$1
tmp=$3
compare=$4
. "$(dirname "$0")/compare_runs.sh"
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
fail() {
  echo "FAIL $*"
  exit 1
}
command -v mpirun >/dev/null || { echo "skip: no mpirun"; exit 77; }

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 14 --quiet
head -n 3 data/data.jsonl >data/held.jsonl
cat >jobs.jsonl <<'JOBS'
{"prompt": "a dog", "seed": 1, "width": 64, "height": 64, "steps": 1}
{"prompt": "a cat", "seed": 2, "width": 64, "height": 64, "steps": 1}
JOBS
cat >run.yaml <<'YAML'
device: {kind: cpu}
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64, cache: cache}
train: {steps: 20, batch_size: 12}
optimizer: {lr: 1e-4}
output: {checkpoint_every: 0}
YAML
"$msd" prepare run.yaml --quiet --set data.validation=data/held.jsonl
alone() { # DIR ARGS
  timeout 100 "$msd" train run.yaml --threads 1 --quiet --set output.dir="$1" "${@:2}"
}
ranks() { # COUNT DIR ARGS: batch_size is what is left of 12 for each
  timeout -k 5 100 mpirun --oversubscribe --bind-to none -np "$1" "$msd" train run.yaml --threads 1 --set output.dir="$2" \
    --set train.batch_size=$((12 / $1)) "${@:3}" 2>said || fail "$*: exit $?: $(cat said)"
}
ranks_of() { # JOB, a timeout of an mpirun: the processes of its ranks
  pgrep -P "$(pgrep -P "$1")"
}

alone one
for n in 2 3 4; do
  ranks $n "ranks-$n"
  alike one "ranks-$n"
  sent=$(sed -n 's/.* by MPI: \([0-9]*\) bytes.*/\1/p' said)
  planned=$("$msd" plan run.yaml --ranks $n --set train.batch_size=$((12 / n)) --json 2>/dev/null |
    sed -n 's/.*"sent_bytes": \([0-9]*\).*/\1/p')
  [ -n "$sent" ] && [ "$sent" = "$planned" ] || fail "$n ranks: sent $sent bytes a step, planned $planned"
done
echo "ok   bytes sent are those of msd plan --ranks"
grep -q '4 ranks by MPI: .* sent by each a step' said || fail "what travelled is not said: $(cat said)"
buckets=$(sed -n 's/.* \([0-9]*\) of \([0-9]*\) buckets.*/\1 \2/p' said)
[ "${buckets% *}" -eq $((${buckets#* } - 1)) ] && [ "${buckets% *}" -ge 3 ] || fail "buckets sent in backward: $buckets"
echo "ok   overlap: ${buckets% *} of ${buckets#* } buckets sent while backward went on"

ranks 4 again
cmp ranks-4/adapter.safetensors again/adapter.safetensors
cmp ranks-4/step-000020/optimizer.safetensors again/step-000020/optimizer.safetensors
echo "ok   two runs are equal to the bit"

# ZeRO-1: the same files
for n in 3 4; do
  ranks $n "shared-$n" --set train.shard_optimizer=on
  alike "ranks-$n" "shared-$n"
done
[ "$(stat -c %s shared-4/step-000020/optimizer.safetensors)" = "$(stat -c %s one/step-000020/optimizer.safetensors)" ] ||
  fail "the optimizer's file of shared state has another size"
below "$("$compare" one/step-000020/optimizer.safetensors shared-4/step-000020/optimizer.safetensors)" 1e-4 || fail "shared moments"

# any number of ranks goes on from any checkpoint, and sees the samples that one sees
alone seen --dump-batches seen-one --set train.steps=9
ranks 4 mixed --set train.steps=4 --set train.shard_optimizer=on --dump-batches seen-mixed
code=0
timeout 100 mpirun --oversubscribe -np 2 "$msd" train run.yaml --threads 1 --quiet --set output.dir=mixed --resume auto \
  --set train.batch_size=3 2>said || code=$?
[ $code -eq 2 ] && grep -q 'has 3 x 1 x 4 samples a step, this run 3 x 1 x 2' said || fail "another product: exit $code: $(cat said)"
ranks 2 mixed --resume auto --set train.steps=9 --dump-batches seen-mixed
alone mixed --resume auto
alike one mixed
[ "$(find seen-mixed -name 'step-*' | wc -l)" -eq 26 ] || fail "batches of 4 steps by 4 ranks and 5 by 2: $(ls seen-mixed)"
# A step of one rank has all samples in one file: its rows are those of the ranks' files, one behind the other.
"$msd" inspect seen-one/step-000004-0.safetensors >/dev/null
echo "ok   4, 2, 1 ranks on one run"

# SIGTERM to any rank: saved once, all leave with 143; the run goes on as if nothing had been
timeout -k 5 100 mpirun --oversubscribe --bind-to none -np 3 "$msd" train run.yaml --threads 1 --set output.dir=stopped \
  --set train.batch_size=4 2>said &
job=$!
for _ in $(seq 600); do
  [ "$(wc -l 2>/dev/null <stopped/log.jsonl || echo 0)" -ge 2 ] && break
  sleep 0.02
done
kill -TERM "$(ranks_of $job | tail -1)"
code=0
wait $job || code=$?
[ $code -eq 143 ] || fail "SIGTERM to one rank: exit $code: $(cat said)"
[ "$(find stopped -maxdepth 1 -name 'step-*' | wc -l)" -eq 1 ] || fail "saved more than once: $(ls stopped)"
[ "$(grep -c 'saved .*stopped/step' said)" -eq 1 ] || fail "saved not once: $(cat said)"
ranks 3 stopped --resume auto
cmp stopped/adapter.safetensors ranks-3/adapter.safetensors
echo "ok   SIGTERM to one rank"

# validation and pictures, shared by the ranks
watch=(--set train.steps=2 --set data.validation=data/held.jsonl --set output.validate_every=2 --set output.samples=jobs.jsonl
  --set output.sample_every=2)
alone watched-1 "${watch[@]}"
ranks 2 watched-2 "${watch[@]}" --set train.shard_optimizer=on
for file in step-000002_00.png step-000002_01.png; do [ -s watched-2/samples/$file ] || fail "no samples/$file"; done
validation() { sed -n 's/.*"validation": {"loss": \([0-9.]*\), "samples": \([0-9]*\).*/\1 \2/p' "$1/log.jsonl"; }
read -r loss1 count1 <<<"$(validation watched-1)"
read -r loss2 count2 <<<"$(validation watched-2)"
[ "$count1" -eq 3 ] && [ "$count2" -eq 3 ] || fail "validated $count1 and $count2 samples"
below "$(awk -v a="$loss1" -v b="$loss2" 'BEGIN { d = (a - b) / a; print d < 0 ? -d : d }')" 1e-6 || fail "validation: $loss1, $loss2"
echo "ok   validation and pictures"

# the dataset encoded by three: the same cache, also when they are killed in between
encode() { timeout -k 5 100 mpirun --oversubscribe --bind-to none -np 3 "$msd" prepare run.yaml --set data.cache="$1" --threads 1; }
whole() { # CACHE
  "$msd" prepare run.yaml --set data.cache="$1" --verify --quiet >/dev/null || fail "$1 is not whole"
  [ "$(find "$1" -name 'journal-*' | wc -l)" -eq 0 ] || fail "$1: journals are left: $(ls "$1")"
  [ "$("$msd" prepare run.yaml --set data.cache="$1" --stat --json | sed 's/"shards.*//')" = "$stat" ] || fail "$1 holds something else"
  alone "by-$1" --set data.cache="$1" --set train.steps=2
  cmp by-cache/adapter.safetensors "by-$1/adapter.safetensors"
}
"$msd" prepare run.yaml --quiet --set data.cache=fresh # without the held samples
stat=$("$msd" prepare run.yaml --set data.cache=fresh --stat --json | sed 's/"shards.*//')
alone by-cache --set train.steps=2
encode cache-3 2>said || fail "prepare by three: $(cat said)"
grep -q '14 samples ready' said || fail "prepare by three says: $(cat said)"
whole cache-3
timeout -k 5 100 mpirun --oversubscribe -np 3 "$msd" prepare run.yaml --set data.cache=cache-killed --threads 1 >said 2>&1 &
job=$!
for _ in $(seq 600); do
  [ -s cache-killed/journal-2 ] && break
  kill -0 $job 2>/dev/null || break
  sleep 0.01
done
for pid in $(ranks_of $job); do kill -KILL "$pid" 2>/dev/null || true; done
wait $job || true
"$msd" prepare run.yaml --quiet --set data.cache=cache-killed
whole cache-killed
echo "ok   prepare by three ranks"

[ -n "${LONG:-}" ] || exit 0
ranks 4 half --set train.reduce_dtype=bf16
alike one half 1e-4 1e-3 # gradients rounded to 8 bits
ranks 4 half-shared --set train.reduce_dtype=bf16 --set train.shard_optimizer=on
alike half half-shared
ranks 2 parts --set train.batch_size=2 --set train.accumulation=3
alike one parts
alone averaged --set train.ema=0.9
ranks 3 averaged-3 --set train.ema=0.9 --set train.shard_optimizer=on
alike averaged averaged-3
below "$("$compare" averaged/step-000020/ema.safetensors averaged-3/step-000020/ema.safetensors)" 1e-5 || fail "averaged weights"
alone mixed-type --set device.dtype=bf16 --set data.cache=off --set train.steps=6
ranks 2 mixed-type-2 --set device.dtype=bf16 --set data.cache=off --set train.steps=6
alike mixed-type mixed-type-2 1e-3 1e-3
code=0
timeout 100 mpirun --oversubscribe -np 2 "$msd" train run.yaml --threads 1 --quiet --set output.dir=codes \
  --set optimizer.kind=adamw8bit --set train.shard_optimizer=on 2>said || code=$?
[ $code -eq 2 ] && grep -q 'train.shard_optimizer' said || fail "8-bit moments shared out: exit $code: $(cat said)"
ranks 3 codes-3 --set optimizer.kind=adamw8bit
bad=(--set optimizer.lr=10 --set optimizer.weight_decay=100 --set train.steps=60 --set train.max_bad_steps=3)
code=0
timeout 100 mpirun --oversubscribe -np 3 "$msd" train run.yaml --threads 1 --quiet --set output.dir=bad --set train.batch_size=4 \
  "${bad[@]}" 2>said || code=$?
[ $code -eq 8 ] || fail "steps that are not finite: exit $code: $(cat said)"
echo "ok   the long part"
