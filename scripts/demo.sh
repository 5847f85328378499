#!/usr/bin/env bash
# The main job, end to end, in minutes: a small random SDXL, a dataset of pictures with two subjects
# each, a trained adapter, its export, and a picture drawn with it.
#   scripts/demo.sh [PHOTOS [OUT]]
# PHOTOS: a folder of photographs, one subject each, named after it (dog.jpg, cat2.png, duck_toy.jpg;
# subfolders too). Without it the demo draws its own. OUT (default: demo) must not exist.
# STEPS=60 scripts/demo.sh ... trains longer or shorter.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
photos=${1:-}
out=${2:-demo}
steps=${STEPS:-60}
msd=$repository/build/release/msd

if [ -n "$photos" ] && [ ! -d "$photos" ]; then
  echo "demo: $photos: no such folder" >&2
  exit 2
fi
if [ -e "$out" ]; then
  echo "demo: $out exists; remove it or name another: scripts/demo.sh '${photos}' OUT" >&2
  exit 2
fi
if [ ! -x "$msd" ]; then
  "$repository/scripts/setup.sh"
  (cd "$repository" && cmake --preset release && cmake --build --preset release --target msd)
fi

say() { printf '\n== %s\n' "$*"; }
start=$SECONDS
mkdir -p "$out"

say "a small random pipeline folder"
"$msd" synth tiny -o "$out/tiny"

say "a dataset: two subjects a picture"
"$msd" demo-data "$out/data" ${photos:+--photos "$photos"}

cat > "$out/run.yaml" <<YAML
model:
  base: tiny
  image_encoder: tiny/image_encoder
adapter: {dim: 128, depth: 2, heads: 2, queries: 8}
data:
  manifest: data/data.jsonl
  resolution: 64
train:
  steps: $steps
  batch_size: 2
  accumulation: 1
optimizer:
  lr: 1e-3
output:
  dir: run
  checkpoint_every: 20
YAML

say "check"
"$msd" check "$out/run.yaml"

say "train"
"$msd" train "$out/run.yaml" --dump-batches "$out/batches"

say "the loss on the first batch, before and after"
batch=$out/batches/step-000001-0.safetensors
for which in before after; do
  adapter=$out/batches/adapter-000000.safetensors
  [ $which = after ] && adapter=$out/run/adapter.safetensors
  "$msd" probe train_step --model "$out/tiny" --adapter "$adapter" --in "$batch" --out "$out/$which.safetensors" --quiet
  printf '%s: %s\n' "$which" "$("$msd" inspect "$out/$which.safetensors" | grep -oE 'loss = .*')"
done

say "export"
"$msd" export "$out/run" -o "$out/ms_adapter.bin"
"$msd" export "$out/run" -o "$out/adapter.safetensors"

say "generate, from the checkpoint and both exports"
first=$(head -n 1 "$out/data/subjects.txt")
second=$(sed -n 2p "$out/data/subjects.txt")
draw() { # ADAPTER OUT.png
  "$msd" generate --model "$out/tiny" --image-encoder "$out/tiny/image_encoder" --adapter "$1" \
    --subject "image=$out/data/${first#*=},phrase=${first%%=*},box=0,0.2,0.5,0.9" \
    --subject "image=$out/data/${second#*=},phrase=${second%%=*},box=0.5,0.2,1,0.9" \
    -p "a ${first%%=*} and a ${second%%=*}" --steps 8 --seed 1 -o "$2"
}
draw "$out/run/$(ls "$out/run" | grep '^step-' | tail -n 1)" "$out/picture.png"
draw "$out/ms_adapter.bin" "$out/from-bin.png"
draw "$out/adapter.safetensors" "$out/from-safetensors.png"
cmp "$out/picture.png" "$out/from-bin.png"
cmp "$out/picture.png" "$out/from-safetensors.png"
rm "$out/from-bin.png" "$out/from-safetensors.png"

printf '\ndemo: done in %d seconds. The adapter: %s  The picture to look at: %s\n' \
  $((SECONDS - start)) "$out/adapter.safetensors" "$out/picture.png"
echo "demo: the base model is random, so the picture shows that everything runs, not what SDXL can do."
