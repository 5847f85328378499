#!/usr/bin/env bash
# The main job on the tiny folder: synth, data, check, train, export, generate; then what must be equal to the bit:
# 20 steps = 10 + 10 resumed = killed at random and resumed, and one picture from three forms of the adapter.
set -eu
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
steps=8
half=4

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 6 --quiet
config() { # NAME
  cat >"$1.yaml" <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64, drop: {text: 0.2, image: 0.2, both: 0.1, grounding: 0.2}}
train: {steps: $steps, batch_size: 1, accumulation: 2}
optimizer: {lr: 1e-3, warmup: 3}
output: {dir: $1, checkpoint_every: 1, keep: 2}
YAML
}
same() { # FOLDER FOLDER
  for file in adapter.safetensors optimizer.safetensors; do
    cmp "$1/$(printf 'step-%06d' $steps)/$file" "$2/$(printf 'step-%06d' $steps)/$file"
  done
  cmp "$1/adapter.safetensors" "$2/adapter.safetensors"
  losses() { sed 's/, "seconds".*//' "$1/log.jsonl"; }
  [ "$(losses "$1")" = "$(losses "$2")" ] || { echo "FAIL the logs of $1 and $2 differ"; exit 1; }
  [ "$(wc -l <"$2/log.jsonl")" -eq $steps ]
}

config whole
"$msd" check whole.yaml --quiet
"$msd" plan whole.yaml | grep -q "of them trained" || { echo "FAIL plan whole.yaml"; exit 1; }
"$msd" train whole.yaml --quiet
[ "$(ls whole | grep -c '^step-')" -eq 2 ] || { echo "FAIL keep: 2 kept $(ls whole | grep -c '^step-')"; exit 1; }
echo "ok   trained"

config parts
"$msd" train parts.yaml --set train.steps=$half --quiet
"$msd" train parts.yaml --resume auto --quiet
same whole parts
echo "ok   $half + the rest resumed: the same bits"

config killed
for attempt in 1 2 3 4 5 6; do
  "$msd" train killed.yaml --resume auto --quiet >/dev/null 2>&1 &
  child=$!
  sleep "0.$((RANDOM % 9 + 1))"
  kill -9 $child 2>/dev/null || true
  wait $child 2>/dev/null || true
done
"$msd" train killed.yaml --resume auto --quiet
same whole killed
echo "ok   killed -9 at random, resumed: the same bits"

config stopped
"$msd" train stopped.yaml --quiet >/dev/null 2>stopped.err &
child=$!
while [ ! -e stopped/step-000001 ] && kill -0 $child 2>/dev/null; do sleep 0.05; done
kill -INT $child
code=0
wait $child || code=$?
if [ $code -ne 0 ]; then
  [ $code -eq 130 ] || { echo "FAIL SIGINT: exit $code: $(cat stopped.err)"; exit 1; }
  grep -q 'resume auto' stopped.err || { echo "FAIL SIGINT does not say how to go on"; exit 1; }
  "$msd" train stopped.yaml --resume auto --quiet
fi
same whole stopped
echo "ok   SIGINT saved (exit $code), resumed: the same bits"

# a negative control: another seed gives other bits
config other
"$msd" train other.yaml --set train.seed=1 --quiet
if cmp -s whole/adapter.safetensors other/adapter.safetensors; then
  echo "FAIL another seed gives the same weights: the comparison sees nothing"
  exit 1
fi

code=0
"$msd" train whole.yaml --quiet 2>refused || code=$?
[ $code -eq 2 ] && grep -q -- '--resume auto' refused || { echo "FAIL a folder with checkpoints: exit $code: $(cat refused)"; exit 1; }
code=0
"$msd" train whole.yaml --resume auto --set optimizer.lr=1e-2 --set train.steps=9 --quiet 2>refused || code=$?
[ $code -eq 2 ] && grep -q 'optimizer.lr' refused || { echo "FAIL a changed key: exit $code: $(cat refused)"; exit 1; }
"$msd" train whole.yaml --resume auto --quiet 2>/dev/null
echo "ok   refusals"

"$msd" export whole -o ms_adapter.bin
"$msd" export whole -o exported.safetensors
cmp exported.safetensors whole/adapter.safetensors
draw() { # ADAPTER OUT [ARGS]
  "$msd" generate --quiet --model tiny --image-encoder tiny/image_encoder --adapter "$1" -W 64 -H 64 --steps 2 -p 'a red circle and a blue ring' \
    --subject 'image=data/references/red_circle.png,phrase=red circle,box=0,0,0.5,1' \
    --subject 'image=data/references/blue_ring.png,phrase=blue ring,box=0.5,0,1,1,scale=0.9' -o "$2" "${@:3}"
}
draw "whole/$(printf 'step-%06d' $steps)" checkpoint.png
draw ms_adapter.bin bin.png
draw exported.safetensors safetensors.png
cmp checkpoint.png bin.png
cmp checkpoint.png safetensors.png
draw exported.safetensors seeds.png --seed 0 -b 2
cmp seeds_0.png checkpoint.png
draw exported.safetensors one.png --seed 1
cmp seeds_1.png one.png
if cmp -s seeds_0.png seeds_1.png; then echo "FAIL two seeds give one picture"; exit 1; fi
draw exported.safetensors dropped.png --drop-grounding
if cmp -s dropped.png checkpoint.png; then echo "FAIL --drop-grounding changes nothing"; exit 1; fi
echo "ok   one picture from the checkpoint, the .bin and the .safetensors"

# a damaged newest checkpoint: export passes over it and says so; named itself it is refused
last=whole/$(printf 'step-%06d' $steps)
before=whole/$(printf 'step-%06d' $((steps - 1)))
printf 'xxxx' | dd of="$last/adapter.safetensors" bs=1 seek=20000 conv=notrunc status=none
"$msd" export whole -o older.safetensors 2>passed_over
grep -q 'passed over' passed_over || { echo "FAIL a damaged step is not said: $(cat passed_over)"; exit 1; }
cmp older.safetensors "$before/adapter.safetensors"
code=0
"$msd" export "$last" -o damaged.safetensors 2>refused || code=$?
[ $code -eq 5 ] && [ ! -e damaged.safetensors ] || { echo "FAIL a damaged step: exit $code: $(cat refused)"; exit 1; }
echo "ok   a damaged checkpoint is not exported"

# a closed pipe and a limit on file sizes are errors, not deaths
"$msd" generate --model tiny -W 64 -H 64 --steps 1 -p x -o piped.png 2>&1 | true
[ -e piped.png ] || { echo "FAIL a closed pipe killed generate"; exit 1; }
code=0
(ulimit -f 1; "$msd" generate --quiet --model tiny -W 64 -H 64 --steps 1 -p x -o limited.png 2>refused) || code=$?
[ $code -eq 7 ] && [ ! -e limited.png ] || { echo "FAIL ulimit -f: exit $code: $(cat refused)"; exit 1; }
echo "ok   closed pipes, file size limits"
