#!/usr/bin/env bash
# Previews: the samples of the first steps in their order, the same bytes twice, bad samples as in training.
set -euo pipefail
msd=$1 work=$2
rm -rf "$work" && mkdir -p "$work" && cd "$work"

fail() { echo "FAILED: $*" >&2; exit 1; }

"$msd" demo-data data --count 8 -q
cat >run.yaml <<YAML
model: {base: none, image_encoder: none}
data: {manifest: data/data.jsonl, resolution: 64, crop: random}
train: {batch_size: 2, accumulation: 2}
YAML

echo "== the first places of the run, without any model"
"$msd" preview run.yaml -o look --count 6 -q
[ "$(ls look | tr '\n' ' ')" = "sheet.png step-000001-0.png step-000001-1.png step-000001-2.png step-000001-3.png step-000002-0.png step-000002-1.png " ] || fail "$(ls look)"
"$msd" preview run.yaml -o again --count 6 -q && diff -r look again || fail "not the same bytes twice"
"$msd" preview run.yaml -o other --count 6 -q --set train.seed=1
diff -rq look other >/dev/null && fail "another seed draws the same samples"

echo "== sizes that are not square, and no subjects"
echo '{"image":"images/000000.png","text":"","box_units":"pixel"}' >>data/data.jsonl
"$msd" preview run.yaml -o buckets --count 9 -q --set data.buckets=on --set data.resolution=512
[ "$(ls buckets | wc -l)" = 10 ] || fail "$(ls buckets)"

echo "== a damaged picture"
head -c 300 data/images/000003.png >short.png && mv short.png data/images/000003.png
code=0; "$msd" preview run.yaml -o bad --count 9 -q 2>err.txt || code=$?
[ "$code" = 3 ] && grep -q "data.jsonl:4: " err.txt || fail "exit $code: $(cat err.txt)"
"$msd" preview run.yaml -o bad --count 9 -q --set data.bad_samples=skip 2>err.txt || fail "skip: $(cat err.txt)"
grep -q "data.jsonl:4: .*left out here" err.txt || fail "$(cat err.txt)"

echo "== wrong usage"
code=0; "$msd" preview run.yaml -o x --count 0 2>err.txt || code=$?
[ "$code" = 2 ] || fail "exit $code"
code=0; "$msd" preview run.yaml -o /dev/null/x -q 2>err.txt || code=$?
[ "$code" = 7 ] || fail "exit $code: $(cat err.txt)"
echo "all is well"
