#!/usr/bin/env bash
# Watching a run: validation, pictures and events change no bit of it; pictures are those of generate from the same step; what
# cannot be used is told before the first step.
#   test_watch.sh MSD TMP
set -eu
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data data --count 6 --quiet
"$msd" demo-data held --count 3 --seed 9 --quiet
cat >run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64}
train: {steps: 6, batch_size: 1}
optimizer: {lr: 1e-3}
output: {checkpoint_every: 2}
YAML
cat >jobs.jsonl <<JSONL
{"prompt": "a red square", "seed": 3, "steps": 3, "width": 64, "height": 64, "subjects": [{"image": "data/references/red_square.png", "phrase": "red square", "box": [0.1, 0.1, 0.5, 0.9]}]}

{"prompt": "plain", "seed": 4, "steps": 2, "width": 72, "height": 64, "batch_count": 2}
JSONL
fail() {
  echo "FAIL $*"
  exit 1
}
watched="--set data.validation=held/data.jsonl --set output.validate_every=3 --set output.samples=jobs.jsonl --set output.sample_every=2"
train() { "$msd" train run.yaml --quiet --set output.dir="$@"; }
same_bits() { # RUN RUN
  for file in step-000006/adapter.safetensors step-000006/optimizer.safetensors adapter.safetensors; do
    cmp "$1/$file" "$2/$file"
  done
}
draw() { # ADAPTER NAME: both jobs
  "$msd" generate --quiet --model tiny --image-encoder tiny/image_encoder --adapter "$1" -p "a red square" -s 3 --steps 3 -W 64 -H 64 \
    --subject image=data/references/red_square.png,phrase="red square",box=0.1,0.1,0.5,0.9 -o "$2_00.png" ${3:-}
  "$msd" generate --quiet --model tiny --image-encoder tiny/image_encoder --adapter "$1" -p plain -s 4 --steps 2 -W 72 -H 64 -b 2 \
    -o "$2_01.png" ${3:-} 2>/dev/null
}
same_pictures() { # NAME RUN STEP
  for n in 00 01_0 01_1; do
    cmp "$1_$n.png" "$2/samples/step-$3_$n.png"
  done
}

# no bit of the training changes, in f32 and bf16, with averages, from the encoders and from a cache
train plain
train watched $watched 2>said
same_bits plain watched
for step in 000002 000004 000006; do
  draw watched/step-$step drawn
  same_pictures drawn watched $step
done
if cmp -s watched/samples/step-000002_00.png watched/samples/step-000006_00.png; then fail "the picture does not follow the weights"; fi
train ema $watched --set train.ema=0.5
same_bits plain ema
"$msd" export ema/step-000004 -o averaged.safetensors --ema
draw averaged.safetensors averaged
same_pictures averaged ema 000004
if cmp -s ema/samples/step-000004_00.png watched/samples/step-000004_00.png; then fail "averaged weights draw as the weights"; fi
train bf16 --set device.dtype=bf16 --set train.ema=0.5
train bf16_watched $watched --set device.dtype=bf16 --set train.ema=0.5
same_bits bf16 bf16_watched
"$msd" export bf16_watched/step-000004 -o bf16.safetensors --ema
draw bf16.safetensors bf16 "--dtype bf16"
same_pictures bf16 bf16_watched 000004
echo "ok   the same bits, watched or not; pictures as generate draws them"

# validation: at its steps and at the end, the same from a cache, the same after a resume
validations() { grep -o '"step": [0-9]*\|"validation": {.*}}' "$1" | grep -B1 validation | tr '\n' ' '; }
[ "$(grep -c '"validation"' watched/log.jsonl)" -eq 2 ] || fail "validations: $(validations watched/log.jsonl)"
sed -n 3p watched/log.jsonl | grep -q '"validation": {"loss": [0-9.]*, "samples": 3, "timesteps": \[0, 250, 500, 750, 1000\], "bins": \[' ||
  fail "$(sed -n 3p watched/log.jsonl)"
"$msd" prepare run.yaml --quiet --set data.validation=held/data.jsonl --set data.cache=cache
train cached $watched --set data.cache=cache
same_bits plain cached
[ "$(validations cached/log.jsonl)" = "$(validations watched/log.jsonl)" ] || fail "cached: $(validations cached/log.jsonl)"
cmp cached/samples/step-000006_00.png watched/samples/step-000006_00.png
train halves $watched --set train.steps=3
train halves $watched --resume auto
same_bits plain halves
[ "$(validations halves/log.jsonl)" = "$(validations watched/log.jsonl)" ] || fail "resumed: $(validations halves/log.jsonl)"
[ "$(ls halves/events.out.tfevents.* | wc -l)" -eq 2 ] || fail "a resumed run begins a file of its own"
train buckets --set data.buckets=on --set data.resolution=128
train buckets_watched $watched --set data.buckets=on --set data.resolution=128
same_bits buckets buckets_watched
grep -c '"samples": 3' buckets_watched/log.jsonl | grep -qx 2 || fail "validation in buckets"
train never $watched --set output.validate_every=0 --set output.sample_every=0
if grep -q validation never/log.jsonl || [ -d never/samples ]; then fail "0 is never"; fi
train ends $watched --set output.validate_every=500 --set output.sample_every=500
[ "$(grep -c '"validation"' ends/log.jsonl)" -eq 1 ] && [ -e ends/samples/step-000006_00.png ] || fail "the last step is watched"
echo "ok   validation"

# told before the first step
refused() { # CODE TEXT SETTINGS
  local code=0
  rm -rf refused
  train refused "${@:3}" 2>said || code=$?
  [ $code -eq "$1" ] && grep -q -- "$2" said && [ ! -e refused/log.jsonl ] || fail "${*:3}: exit $code: $(cat said)"
}
jobs() { printf '%s\n' "$1" >bad.jsonl; }
bad="--set output.samples=bad.jsonl"
refused 2 'none.jsonl' --set output.samples=none.jsonl
jobs '{"prompt": "x", "stepz": 3}'
refused 2 "bad.jsonl:1.*did you mean" $bad
jobs '{"prompt": "x", "steps": 3'
refused 2 "bad.jsonl:1" $bad
jobs ''
refused 2 "no jobs" $bad
jobs '{"prompt": "x", "width": 63}'
refused 2 "multiples" $bad
jobs '{"prompt": "x", "subjects": [{"image": "none.png", "phrase": "x"}]}'
refused 3 "none.png" $bad
checked() { # CODE TEXT SETTINGS: msd check says it too
  local code=0
  "$msd" check run.yaml --quiet "${@:3}" 2>said || code=$?
  [ $code -eq "$1" ] && grep -q -- "$2" said || fail "check ${*:3}: exit $code: $(cat said)"
}
checked 3 'bad.jsonl:1.*none.png' $bad
printf '%s\n' '{"prompt": "x", "stepz": 3}' '{"prompt": "x", "steps": 0}' >bad.jsonl
checked 2 'bad.jsonl:1.*did you mean' $bad
checked 2 'bad.jsonl:2.*steps' $bad
refused 2 'bad.jsonl:2.*steps' $bad
"$msd" check run.yaml --quiet $watched || fail "check $watched"
printf '{"image": "none.png", "text": "x", "subjects": [], "box_units": "pixel"}\n' >held/bad.jsonl
refused 3 'none.png' --set data.validation=held/bad.jsonl
checked 3 'held/bad.jsonl:1.*none.png' --set data.validation=held/bad.jsonl
checked 3 'is a folder' --set data.manifest=held
refused 3 'none of its samples' --set data.validation=held/bad.jsonl --set data.bad_samples=skip
cat held/data.jsonl >>held/bad.jsonl
train skipped $watched --set data.validation=held/bad.jsonl --set data.bad_samples=skip 2>said
grep -q 'bad.jsonl:1.*leaves it out' said && grep -q '"samples": 3' skipped/log.jsonl || fail "a bad sample left out: $(cat said)"
echo "ok   told before the first step"

# a picture that cannot be drawn any more is a warning, not the end of a run
mkdir -p away
(until [ -e gone/samples/step-000002_01_1.png ]; do sleep 0.005; done; mv data/references/red_square.png away) &
train gone $watched --set data.manifest=held/data.jsonl --set train.steps=40 --set data.validation=held/data.jsonl 2>said
wait
mv away/red_square.png data/references
grep -q 'samples: .*red_square.png.*training goes on' said || fail "a reference that went away: $(cat said)"
[ -e gone/adapter.safetensors ] || fail "a picture ended the run"
echo "ok   a failing picture ends no run"

# the report: one page, nothing fetched, no script, strangers' text escaped, the same bytes twice; damaged files are left out
printf '%s\n' '{"prompt": "<script>alert(1)</script> & \"x\"", "seed": 3, "steps": 2, "width": 64, "height": 64}' >evil.jsonl
train page $watched --set output.samples=evil.jsonl --set train.ema=0.5 2>/dev/null
"$msd" report page --quiet
"$msd" report page -o again.html --quiet
cmp page/report.html again.html
if grep -qiE '<script|https?://|<link|@import|url\(' again.html; then fail "the page fetches or runs something"; fi
grep -q '&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;' again.html || fail "the prompt is not in the page"
for part in 'Loss' 'Validation loss' 'Gradient norm' 'Learning rate' 'Speed' 'Waiting for samples' 'Samples over time' 'Dataset' \
  'Checkpoints' 'averaged weights' 'red square' 'batch_size: 1'; do
  grep -q "$part" again.html || fail "the page lacks $part"
done
[ "$(grep -c 'src="data:image/png;base64,' again.html)" -eq 3 ] || fail "pictures in the page"
if grep -q 'Left out' again.html; then fail "something is left out of a whole run"; fi
truncate -s 100 page/samples/step-000004_00.png
printf '{"step": 7, "lo' >>page/log.jsonl
mv data/data.jsonl away
"$msd" report page --quiet
mv away/data.jsonl data
grep -q 'a sample is left out' page/report.html && grep -q 'the dataset is not reachable' page/report.html || fail "damage is not said"
[ "$(grep -c 'src="data:image/png;base64,' page/report.html)" -eq 2 ] || fail "pictures of the damaged run"
code=0
"$msd" report data --quiet 2>said || code=$?
[ $code -eq 2 ] && grep -q 'no run folder' said || fail "a folder that is no run: exit $code: $(cat said)"
"$msd" report never --quiet
echo "ok   the report"
