#!/usr/bin/env bash
# Whole runs with --device cuda on the host layer, their steps launched as CUDA graphs and done call by call: the same bits. A
# run with all that shares its device (validation, pictures, averages, buckets of several shapes), resumed in the middle.
#   test_graphs.sh MSD TMP
set -eu
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
export MSD_CUDA_CACHE=off

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 6 --quiet
"$msd" demo-data held --count 2 --seed 9 --quiet
cat >run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64}
train: {steps: 4, batch_size: 1, accumulation: 2}
optimizer: {lr: 1e-3}
output: {checkpoint_every: 2}
device: {kind: cuda}
YAML
cat >jobs.jsonl <<JSONL
{"prompt": "a red square", "seed": 3, "steps": 3, "width": 64, "height": 64, "subjects": [{"image": "data/references/red_square.png", "phrase": "red square", "box": [0.1, 0.1, 0.5, 0.9]}]}
JSONL
fail() {
  echo "FAIL $*"
  exit 1
}
train() { "$msd" train run.yaml --set output.dir="$@" 2>said || fail "$(cat said)"; }
same_bits() { # RUN RUN STEP
  for file in step-00000$3/adapter.safetensors step-00000$3/optimizer.safetensors; do
    cmp "$1/$file" "$2/$file"
  done
  losses() { grep -o '"step".*"skipped"\|"validation": {[^}]*}' "$1/log.jsonl" | sed 's/, "seconds.*//'; }
  [ "$(losses "$1" | head -n $3)" = "$(losses "$2" | head -n $3)" ] || fail "the logs of $1 and $2 differ"
}
launched() { # as said: "N of M steps launched whole, as K graphs"
  sed -n 's/^cuda graphs: //p' said | head -n 1
}

# 8 micro-batches of one shape: the first of each step writes the gradients, the other adds to them
train graphs --dtype f32
[ "$(launched)" = "6 of 8 steps launched whole, as 2 graphs" ] || fail "graphs: $(cat said)"
train calls --dtype f32 --no-graphs
[ -z "$(launched)" ] || fail "graphs that are off: $(cat said)"
same_bits graphs calls 4
train resumed --dtype f32 --set train.steps=2
train resumed --dtype f32 --resume auto --set device.graphs=on
same_bits graphs resumed 4
echo "ok   training, f32"

all="--set train.steps=2 --set data.validation=held/data.jsonl --set output.validate_every=2 --set output.samples=jobs.jsonl --set output.sample_every=2
  --set data.buckets=on --set train.ema=0.5 --set train.activation_checkpointing=on --set optimizer.kind=adamw8bit"
train all $all
[ -n "$(launched)" ] || fail "no graphs: $(cat said)"
echo "     $(launched)"
train all_calls $all --set device.graphs=off
same_bits all all_calls 2
cmp all/samples/step-000002_00.png all_calls/samples/step-000002_00.png
echo "ok   buckets, checkpointing, validation, pictures, averages and 8-bit moments beside it, bf16"

draw() { # NAME TYPE ARGS...
  "$msd" generate --model tiny --image-encoder tiny/image_encoder --adapter graphs/adapter.safetensors -p "a red square" --steps 3 \
    -W 64 -H 64 -b 2 --subject image=data/references/red_square.png,phrase="red square",box=0.1,0.1,0.5,0.9 -o "$1.png" \
    --device cuda --dtype "$2" "${@:3}" 2>said || fail "$(cat said)"
}
draw graphs f32
[ "$(launched)" = "5 of 6 steps launched whole, as 1 graph" ] || fail "pictures: $(cat said)"
draw calls f32 --no-graphs
cmp graphs_0.png calls_0.png
cmp graphs_1.png calls_1.png
echo "ok   pictures"

# a card that does not make a graph: one line, and the same bits
MSD_CUDA_HOST_FAIL=cudaGraphInstantiate:1 train refused --dtype f32 --set train.steps=2
[ "$(grep -c 'keeps no graph of this step.*cudaGraphInstantiate' said)" = 1 ] || fail "refused: $(cat said)"
same_bits graphs refused 2
echo "ok   no graph, the same bits"
rm -rf "$tmp"
