#!/usr/bin/env bash
# The tables of docs/SCALING.md, from `msd plan --ranks`: computed, nothing is measured and no GPU is needed. Only the headers
# of the model's files are read.
#   usage: scripts/scaling-tables.sh MSD MODEL [IMAGE_ENCODER = MODEL/image_encoder]
#   e.g.   build/release/msd synth sdxl -o sdxl && scripts/scaling-tables.sh build/release/msd sdxl
set -euo pipefail
[ $# -ge 2 ] && [ -x "$1" ] || { sed -n '2,5p' "$0" >&2; exit 2; }
msd=$(realpath "$1")
model=$(realpath "$2")
encoder=$(realpath "${3:-$2/image_encoder}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/run.yaml" <<YAML
model: {base: "$model", image_encoder: "$encoder"}
data: {manifest: none.jsonl, cache: none}
YAML

# plan SIZE BATCH RANKS LINK [--set ...]: the cells of a row
plan() {
  local size=$1 batch=$2 ranks=$3 link=$4
  shift 4
  "$msd" plan "$work/run.yaml" --ranks "$ranks" --link "$link" --set data.resolution="$size" --set train.batch_size="$batch" \
    "$@" | awk '
      /backward ends at/ {left = $7; for (i = 1; i <= NF; i++) if ($i == "gathering") gather = $(i + 1)}
      /of one GPU alone/ {sub("%;", "", $0)
        for (i = 1; i <= NF; i++) {
          if ($i == "step" && $(i + 2) ~ /^ms/) step = $(i + 1)
          if ($i == "efficiency") efficiency = $(i + 1)
          if ($i ~ /^pictures/) pictures = $(i - 1)
          if ($i == "sends") sent = $(i + 1)
        }}
      END {printf "%.1f | %.1f | %.1f | %.1f %% | %.0f | %.2f\n", step, left, gather, efficiency, pictures, sent / 1000}'
}

row() { printf '| %s | %s\n' "$1" "$(plan "${@:2}") |"; }
head_row() {
  printf '\n| GPUs, link | step ms | sums left over ms | gathering ms | efficiency | pictures/s | GB a rank sends |\n'
  printf '|---|---|---|---|---|---|---|\n'
}

for shape in "1024 4" "1024 1" "512 8"; do
  read -r size batch <<<"$shape"
  for how in "f32" "bf16" "bf16 sharded"; do
    set=(--set "train.reduce_dtype=${how%% *}")
    [ "$how" = "${how% sharded}" ] || set+=(--set train.shard_optimizer=on)
    printf '\n### %s pixels, batch %s a GPU, gradients in %s\n' "$size" "$batch" "${how/ sharded/, optimizer sharded}"
    head_row
    row "8, nvlink" "$size" "$batch" 8 nvlink "${set[@]}"
    for ranks in 64 512; do
      for link in ib400x8 ib400 eth100; do
        row "$ranks, $link" "$size" "$batch" "$ranks" "$link" "${set[@]}"
      done
    done
  done
done
