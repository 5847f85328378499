#!/usr/bin/env bash
# A rank that is killed or stopped in each phase, and ranks that are not alike: it is named, all are gone in time, nobody is left
# behind, and the last checkpoint is good.
#   test_rank_failures.sh MSD MSD_STRIKES TMP
# REPEATS=n: so many times over, with the strike at another moment and another rank each time, from turn FIRST (1) on.
# STRIKES="killed stopped", or one of them: those in each phase, instead of a kill in each and a stop in one of them.
set -eu
msd=$1
strikes=$2
tmp=$3
repeats=${REPEATS:-1}
first=${FIRST:-1}
watchdog=5
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
fail() {
  echo "FAIL $*"
  exit 1
}
command -v mpirun >/dev/null || { echo "skip: no mpirun"; exit 77; }

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 6 --quiet
head -n 4 data/data.jsonl >data/fewer.jsonl
cat >run.yaml <<YAML
device: {kind: cpu}
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, validation: data/fewer.jsonl, resolution: 64}
train: {steps: 6, batch_size: 1, watchdog: $watchdog}
optimizer: {lr: 1e-3}
output: {dir: out, checkpoint_every: 1, validate_every: 1}
YAML
ranks() { # COUNT PROGRAM ARGS
  timeout -k 5 120 mpirun --oversubscribe -np "$@" --threads 1 --quiet
}

# the checkpoint that all start from
for n in 2 3 4; do
  "$msd" train run.yaml --quiet --threads 1 --set output.dir="start-$n" --set train.batch_size=$n --set train.steps=2
done
worst_killed=0
worst_stopped=0
runs=0

# Seconds from the strike until the last of the ranks was gone, in $gone.
wait_gone() {
  local struck now pids pid alive
  struck=$(sed -n 's/^struck //p' notes)
  [ -n "$struck" ] || fail "$name: nobody struck: $(cat log)"
  pids=$(sed -n 's/^rank //p' notes)
  for _ in $(seq 300); do
    alive=""
    for pid in $pids; do
      # a thread that is no zombie: it may still hold files when the first one is
      if grep -qs '^State:[[:space:]]*[^ZX]' /proc/"$pid"/task/*/status; then alive="$alive $pid"; fi
    done
    now=$(date +%s.%N)
    [ -n "$alive" ] || break
    sleep 0.05
  done
  [ -z "$alive" ] || fail "$name: left behind:$alive"
  gone=$(awk "BEGIN{printf \"%.2f\", $now - $struck}")
}

larger() { # THAN
  awk "BEGIN{print ($gone > $1) ? $gone : $1}"
}

within() { # LIMIT
  awk "BEGIN{exit !($gone <= $1)}" || fail "$name: gone after $gone s, allowed $1: $(cat log)"
}

# NAME COUNT RANK PHASE STEP SIGNAL MILLISECONDS SAID
strike() {
  local count=$2 said=$8 code=0
  name="$1 of rank $3 of $2, +$7 ms"
  rm -rf out notes
  cp -r "start-$count" out
  MSD_STRIKE="$3 $4 $5 $6 $7" MSD_STRIKE_NOTES=$PWD/notes ranks "$count" "$strikes" train run.yaml --resume auto >log 2>&1 || code=$?
  wait_gone
  [ "$code" -ne 0 ] && [ "$code" -ne 124 ] || fail "$name: exit $code: $(cat log)"
  grep -q "$said" log || fail "$name: not named ($said): $(cat log)"
  if [ "$6" = 9 ]; then
    within 10
    worst_killed=$(larger "$worst_killed")
  else
    within $((watchdog + 5))
    worst_stopped=$(larger "$worst_stopped")
    [ "$code" -eq 9 ] || fail "$name: exit $code: $(cat log)"
  fi
  # the last checkpoint is good: a single process goes on with it
  "$msd" train run.yaml --quiet --threads 1 --resume auto --set train.batch_size="$count" --set train.steps=7 \
    --set output.validate_every=0 --allow-change train.batch_size >resumed 2>&1 || fail "$name: resumed: $(cat resumed)"
  grep -q warning resumed && fail "$name: resumed: $(cat resumed)"
  runs=$((runs + 1))
}

KILL=9
STOP=19
phases=(start forward all-reduce validation save)
number=(0 1 2 4 6) # of enum rank_phase
for turn in $(seq "$first" $((first + repeats - 1))); do
  for i in 0 1 2 3 4; do
    count=$(((turn + i) % 3 + 2))
    rank=$(((turn * 7 + i) % count))
    case ${phases[i]} in
    start) step=$((turn % 3 + 1)) ;;
    validation | save) step=4 rank=0 ;; # rank 0's work
    *) step=4 ;;
    esac
    # odd turns: held back in the phase, so that it is the one named; even ones: anywhere from its beginning on
    delay=-300
    in=" ${phases[i]}"
    if [ $((turn % 2)) -eq 0 ]; then
      delay=$(((turn * 13 + i * 5) % 25))
      in=""
    fi
    if [[ ${STRIKES:-killed} = *killed* ]]; then
      strike "${phases[i]} killed" $count $rank "${number[i]}" $step $KILL $delay "rank $rank (.*) died in$in"
    fi
    if [[ ${STRIKES:-} = *stopped* ]] || { [ -z "${STRIKES:-}" ] && [ $((turn % 5)) -eq $i ]; }; then
      strike "${phases[i]} stopped" $count $rank "${number[i]}" $step $STOP $delay "rank $rank (.*) hangs.* it was in$in"
    fi
  done
  [ "$repeats" -eq 1 ] || echo "turn $turn: $runs runs, killed: all gone within $worst_killed s, stopped: within $worst_stopped s"
done
echo "ok   a rank killed or stopped in each phase: $runs runs, all gone $worst_killed s after a kill, $worst_stopped s after a stop"

# not alike
refused() { # NAME RANK TEXT ARGS-OF-THE-ODD-ONE
  local code=0 common
  rm -rf out
  common="$msd train run.yaml --threads 1 --quiet"
  # shellcheck disable=SC2086
  timeout -k 5 60 mpirun --oversubscribe -np "$2" $common : -np 1 $common "${@:4}" : -np 1 $common >log 2>&1 || code=$?
  [ $code -eq 9 ] && grep -q "rank $2 (.*): $3" log || fail "$1: exit $code: $(cat log)"
  [ ! -e out/config.yaml ] || fail "$1: began"
}
"$msd" train run.yaml --quiet --threads 1 --set output.dir=adapter --set train.steps=1
"$msd" train run.yaml --quiet --threads 1 --set output.dir=other --set train.steps=1 --set train.seed=5
refused seed 1 'train.seed is 7, the others have 0' --set train.seed=7
refused dataset 2 'data.manifest is a file of SHA-256 .*, the others have a file of' --set data.manifest=data/fewer.jsonl
refused adapter 1 'model.adapter is weights .*, the others have null' --set model.adapter=other/adapter.safetensors
cp adapter/adapter.safetensors one.safetensors
cp other/adapter.safetensors two.safetensors
sed -i 's|image_encoder}|image_encoder, adapter: one.safetensors}|' run.yaml
refused 'adapter of the same kind' 2 'model.adapter is weights .*, the others have weights' --set model.adapter=two.safetensors
echo "ok   ranks that are not alike"
