#!/usr/bin/env bash
# The world of scripts/demo.sh (configs/demo.yaml) on the CUDA device of the host layer and on the CPU.
#   demo_on_cuda.sh PART MSD COMPARE_WEIGHTS COMPARE_PICTURES FOLDER WORK
# PART: train-f32 (the first 20 steps of training, and the same resumed in the middle), train-bf16 (the first 20), pictures.
# In FOLDER: PART.counts, PART.runs (for summary.sh). WORK is made anew, and removed when all is well.
set -euo pipefail
part=$1 msd=$2 compare_weights=$3 compare_pictures=$4 folder=$5 work=$6
repository=$(cd "$(dirname "$0")/../.." && pwd)
steps=20
mkdir -p "$folder"
rm -rf "$work" "$folder/$part".*
mkdir -p "$work/configs" "$work/demo"
export MSD_CUDA_HOST_REPORT="$folder/$part.counts"
failures=0

# say NAME MEASURED BOUND: a line of the summary; measured may be at most the bound.
say() {
  local good=ok
  awk -v a="$2" -v b="$3" 'BEGIN { exit !(a == a + 0 && a <= b) }' || { good=FAIL; failures=$((failures + 1)); }
  printf '%-4s %-58s %12s  bound %s\n' "$good" "$1" "$2" "$3"
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$folder/$part.runs"
}
# The largest relative difference of two runs' losses.
losses() {
  awk -F'[:,]' 'FNR == NR { loss[FNR] = $4; n = FNR; next }
    { d = ($4 - loss[FNR]) / loss[FNR]; if (d < 0) d = -d; if (!(d <= most)) most = d }
    END { if (FNR == n && n > 0) printf "%.2e", most; else print "nan" }' "$work/$1/log.jsonl" "$work/$2/log.jsonl"
}
weights() { "$compare_weights" "$work/$1/adapter.safetensors" "$work/$2/adapter.safetensors"; }
# train DEVICE TYPE STEPS DIR ARGS...
train() {
  "$msd" train configs/demo.yaml --quiet --device "$1" --dtype "$2" --set train.steps="$3" --set output.dir="$work/$4" \
    --set output.checkpoint_every=10 "${@:5}"
}

# The first steps on both devices: the config is the demo's own.
train_on_both() { # TYPE BOUND
  local start=$SECONDS cpu_done
  train cpu "$1" $steps "cpu-$1"
  cpu_done=$SECONDS
  train cuda "$1" $steps "cuda-$1"
  echo "$steps steps in $1: $((cpu_done - start)) s on the CPU, $((SECONDS - cpu_done)) s on the host layer"
  say "demo, $steps steps of training, $1: losses" "$(losses "cpu-$1" "cuda-$1")" "$2"
  say "demo, $steps steps of training, $1: weights" "$(weights "cpu-$1" "cuda-$1")" "$2"
}
resume() {
  train cuda f32 $((steps / 2)) resumed
  train cuda f32 $steps resumed --resume auto
  if cmp resumed/adapter.safetensors cuda-f32/adapter.safetensors && [ "$(losses cuda-f32 resumed)" = 0.00e+00 ]; then
    echo "ok   a run resumed after $((steps / 2)) steps: the bits of the uninterrupted one"
    printf '%s\t%s\t%s\n' "demo, resumed after $((steps / 2)) of $steps steps" "same bits" "same bits" >>"$folder/$part.runs"
  else
    failures=$((failures + 1))
  fi
}
draw() { # DEVICE TYPE
  local first second
  first=$(head -n 1 demo/data/subjects.txt) second=$(sed -n 2p demo/data/subjects.txt)
  "$msd" generate --model demo/tiny --image-encoder demo/tiny/image_encoder --adapter cpu-f32/adapter.safetensors --quiet \
    --subject "image=demo/data/${first#*=},phrase=${first%%=*},box=0,0.2,0.5,0.9" \
    --subject "image=demo/data/${second#*=},phrase=${second%%=*},box=0.5,0.2,1,0.9" \
    -p "a ${first%%=*} and a ${second%%=*}" --steps 8 --seed 1 --device "$1" --dtype "$2" -o "$1-$2.png"
}
draw_on_both() { # TYPE BOUND
  local apart
  draw cpu "$1"
  draw cuda "$1"
  apart=$("$compare_pictures" "cpu-$1.png" "cuda-$1.png")
  echo "the demo's picture, $1: $apart"
  say "demo, picture of 8 steps, $1: mean of 255" "$(awk '{ print $2 }' <<<"$apart")" "$2"
}

# How far CUDA's bf16 is from f32: at most twice as far as the CPU's is.
from_f32() { # WHAT CPU CUDA
  say "$1, CUDA's bf16 from f32" "$3" "$(awk -v a="$2" 'BEGIN { printf "%.2e", 2 * a }')"
}
mean_of() { awk '{ print $2 }' <<<"$("$compare_pictures" "$1.png" "$2.png")"; }

cd "$work"
"$msd" synth tiny -o demo/tiny --quiet
"$msd" demo-data demo/data --quiet
cp "$repository/configs/demo.yaml" configs/demo.yaml
case $part in
train-f32)
  train_on_both f32 1e-4
  resume
  ;;
train-bf16)
  train_on_both bf16 1e-2
  train cpu f32 $steps cpu-f32
  from_f32 "demo, $steps steps of training, losses" "$(losses cpu-f32 cpu-bf16)" "$(losses cpu-f32 cuda-bf16)"
  from_f32 "demo, $steps steps of training, weights" "$(weights cpu-f32 cpu-bf16)" "$(weights cpu-f32 cuda-bf16)"
  ;;
pictures)
  train cpu f32 $steps cpu-f32
  draw_on_both f32 0.01
  draw_on_both bf16 4
  from_f32 "demo, picture of 8 steps" "$(mean_of cpu-f32 cpu-bf16)" "$(mean_of cpu-f32 cuda-bf16)"
  ;;
esac
[ $failures -eq 0 ]
rm -rf "$work"
