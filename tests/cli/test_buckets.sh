#!/usr/bin/env bash
# Aspect buckets as a user meets them: check counts them, each step has one size, the cache and a resume change no bit.
set -euo pipefail
msd=$1 work=$2
rm -rf "$work" && mkdir -p "$work" && cd "$work"

fail() { echo "FAILED: $*" >&2; exit 1; }
losses() { sed 's/"seconds.*//' out/log.jsonl; }
train() { rm -rf out; "$msd" train run.yaml -q "$@" || fail "train $*"; }

"$msd" synth tiny -o tiny -q
for size in 128x64:1 128x72:2 64x128:3 96x96:4 80x96:5; do # the photographs: noise of five forms
  form=${size%:*} seed=${size#*:}
  "$msd" generate --model tiny -p noise -W "${form%x*}" -H "${form#*x}" --steps 1 -s "$seed" -o "p$seed.png" -q
  for text in one two; do
    echo '{"image":"p'$seed'.png","text":"a shape '$text'","box_units":"normalized","subjects":[{"phrase":"shape","box":[0.1,0.2,0.8,0.9]}]}'
  done
done >data.jsonl
cat >run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 32, depth: 1, heads: 2, queries: 4}
data: {manifest: data.jsonl, resolution: 64, buckets: on, drop: {text: 0.2, image: 0.2, both: 0.1, grounding: 0.2}}
train: {steps: 8, batch_size: 2, accumulation: 2, seed: 3}
output: {dir: out}
YAML

echo "== check says how many samples a bucket has"
"$msd" check run.yaml >said.txt
[ "$(grep -c "bucket .*: 2 samples, fewer" said.txt)" = 5 ] || fail "$(cat said.txt)"
grep -q "bucket   64 x   64: 2 samples" said.txt || fail "$(cat said.txt)"

echo "== a step has one size, and all sizes come"
train --dump-batches batches
for step in 1 2 3 4 5 6 7 8; do
  sizes=$(for f in batches/step-00000$step-*; do "$msd" inspect "$f" | grep -w latents; done | sort -u | wc -l)
  [ "$sizes" = 1 ] || fail "step $step has $sizes sizes"
done
[ "$(for f in batches/*; do "$msd" inspect "$f" | grep -w latents; done | sort -u | wc -l)" = 5 ] || fail "not all buckets were drawn"
losses >plain.txt && cp out/adapter.safetensors plain

echo "== the same bits from a cache"
for how in "" "--set data.crop=random"; do
  train $how && losses >plain.txt && cp out/adapter.safetensors plain
  rm -rf cache && "$msd" prepare run.yaml -q --set data.cache=cache $how
  train $how --set data.cache=cache && losses >cached.txt
  cmp plain.txt cached.txt && cmp plain out/adapter.safetensors || fail "$how: the cache changes bits"
done

echo "== a cache of squares is not one of buckets"
rm -rf cache out && "$msd" prepare run.yaml -q --set data.cache=cache --set data.buckets=off
code=0; "$msd" train run.yaml -q --set data.cache=cache 2>err.txt || code=$?
[ "$code" = 5 ] && grep -q "lacks" err.txt || { cat err.txt >&2; fail "exit $code"; }

echo "== a resumed run"
train && cp out/adapter.safetensors plain
train --set train.steps=3 && "$msd" train run.yaml -q --resume auto
cmp plain out/adapter.safetensors || fail "a resume changes bits"

echo "== augmented references: other losses, the same after a resume, not from a cache"
augment=(--set "data.augment={flip: 0.5, rotate: 20, crop: 0.3, colour: 0.2}")
train "${augment[@]}" && cp out/adapter.safetensors augmented
cmp -s plain augmented && fail "augmentation changes nothing"
train "${augment[@]}" --set train.steps=3 && "$msd" train run.yaml -q --resume auto "${augment[@]}"
cmp augmented out/adapter.safetensors || fail "a resume changes bits"
rm -rf out; code=0; "$msd" train run.yaml -q --set data.cache=cache --set data.augment.flip=0.5 2>err.txt || code=$?
[ "$code" = 2 ] && grep -q "data.augment.flip: 0.5 together with data.cache" err.txt || fail "exit $code: $(cat err.txt)"

echo "== plan takes the largest bucket"
"$msd" plan run.yaml -q >/dev/null
echo "all is well"
