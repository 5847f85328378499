#!/usr/bin/env bash
# configs/: every file is accepted by `msd check`, on a tiny model and dataset by --set; demo.yaml runs as it stands on the
# folder that scripts/demo.sh makes.
#   test_configs.sh MSD TMP
set -eu
msd=$1
tmp=$2
here=$(cd "$(dirname "$0")/../.." && pwd)
rm -rf "$tmp"
mkdir -p "$tmp/demo"
cp -r "$here/configs" "$tmp/configs"
cd "$tmp"
"$msd" synth tiny -o demo/tiny --quiet
"$msd" demo-data demo/data --count 4 --quiet
count=0
for config in configs/*.yaml; do
  "$msd" check "$config" --quiet --set model.base="$tmp/demo/tiny" --set model.image_encoder="$tmp/demo/tiny/image_encoder" \
    --set data.manifest="$tmp/demo/data/data.jsonl" || { echo "FAIL $config"; exit 1; }
  count=$((count + 1))
done
[ $count -ge 4 ] || { echo "FAIL only $count configs"; exit 1; }
"$msd" check configs/demo.yaml --quiet
"$msd" train configs/demo.yaml --quiet --set train.steps=6
[ -e demo/config-run/step-000006/ema.safetensors ] || { echo "FAIL demo.yaml made no averaged weights"; exit 1; }
# a file that is not accepted is seen
sed 's/accumulation/acumulation/' configs/sdxl-512.yaml >configs/wrong.yaml
code=0
"$msd" check configs/wrong.yaml --quiet 2>refused || code=$?
[ $code -eq 2 ] && grep -q 'did you mean train.accumulation' refused || { echo "FAIL a wrong key: exit $code"; exit 1; }
echo "ok   $count configs; demo.yaml ran"
