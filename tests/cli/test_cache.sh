#!/usr/bin/env bash
# The encoder cache as a user meets it: the same bits with and without it, nothing stale or damaged used, kills survived.
# MSD_KILLS: how many kill -9 while it is filled (default 40).
set -euo pipefail
msd=$1 work=$2
kills=${MSD_KILLS:-40}
rm -rf "$work" && mkdir -p "$work" && cd "$work"

fail() { echo "FAILED: $*" >&2; exit 1; }
# exits CODE TEXT COMMAND...: the command's exit code, and one line of stderr with the text
exits() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" >out.txt 2>err.txt || got=$?
  [ "$got" = "$code" ] || { cat err.txt >&2; fail "exit $got, expected $code: $*"; }
  grep -q -- "$text" err.txt out.txt || { cat err.txt >&2; fail "no '$text' from: $*"; }
}
train() { rm -rf out; "$msd" train run.yaml -q "$@" || fail "train $*"; }
prepare() { "$msd" prepare run.yaml --set data.cache=cache "$@"; }
flip() { # FILE OFFSET: one bit of a byte
  local byte
  byte=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
  printf "\\$(printf %03o $((byte ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
losses() { sed 's/"seconds.*//' out/log.jsonl; }

"$msd" synth tiny -o tiny -q
"$msd" demo-data data --count 8 -q
cat >run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 32, depth: 1, heads: 2, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64, drop: {text: 0.2, image: 0.2, both: 0.1, grounding: 0.2}}
train: {steps: 4, batch_size: 2, accumulation: 2, seed: 3}
output: {dir: out}
YAML

echo "== the same bits with and without a cache, for every type and kind of crop"
for how in "f32 center" "bf16 center" "f16 center" "f32 random"; do
  read -r type crop <<<"$how"
  set="--set data.cache_dtype=$type --set data.crop=$crop"
  rm -rf cache
  prepare -q $set
  train $set && losses >plain.txt && cp out/adapter.safetensors "plain-$type-$crop"
  train $set --set data.cache=cache && losses >cached.txt
  cmp plain.txt cached.txt && cmp "plain-$type-$crop" out/adapter.safetensors || fail "$how: the cache changes bits"
done
cmp -s plain-f32-center plain-bf16-center && fail "cache_dtype bf16 rounds nothing"

echo "== no encoder is loaded: without its folders training goes on"
rm -rf cache && prepare -q
mkdir bare && for part in unet scheduler; do cp -r tiny/$part bare/; done
sed 's,{base: tiny,{base: bare,' run.yaml >bare.yaml
rm -rf out && exits 0 "not compared with the files of vae" "$msd" train bare.yaml --set data.cache=cache
cmp plain-f32-center out/adapter.safetensors

echo "== a resumed run, and one that goes on without the cache"
train --set data.cache=cache --set train.steps=2
"$msd" train run.yaml -q --resume auto --set train.steps=4
cmp plain-f32-center out/adapter.safetensors || fail "data.cache may change on resume"

echo "== a changed caption encodes one sample"
exits 0 " 0 encoded now" prepare
cp data/data.jsonl kept.jsonl
sed -i '3s/"text": *"/&quite another: /' data/data.jsonl
cmp -s kept.jsonl data/data.jsonl && fail "the caption did not change"
exits 5 "lacks 1 of 8 samples.*data.jsonl:3.*msd prepare" "$msd" train run.yaml --resume auto --set train.steps=9 --set data.cache=cache
exits 0 " 1 encoded now" prepare
exits 0 "every entry is whole" prepare --verify

echo "== gc drops what is no longer used, and says how much"
cp kept.jsonl data/data.jsonl
exits 0 "2 entries dropped" prepare --gc
grep -q "freed" out.txt
exits 0 " 0 entries dropped, 0 bytes freed" prepare --gc
exits 0 "^prompt  " prepare --stat
exits 0 '"latent": {"entries": 8' prepare --stat --json
train --set data.cache=cache && cmp plain-f32-center out/adapter.safetensors

echo "== stale: another encoder, another type, another size"
rm -rf out
weights=$(ls tiny/vae/*.safetensors)
cp "$weights" kept.safetensors
flip "$weights" $(($(stat -c %s "$weights") / 2))
exits 5 "stale.*vae.*msd prepare" "$msd" train run.yaml --set data.cache=cache
cp kept.safetensors "$weights"
exits 5 "stale.*cache_dtype.*msd prepare" "$msd" train run.yaml --set data.cache=cache --set data.cache_dtype=f16
exits 5 "lacks 8 of 8.*msd prepare" "$msd" train run.yaml --set data.cache=cache --set data.resolution=128
exits 5 "no such file.*msd prepare" "$msd" train run.yaml --set data.cache=nowhere
exits 2 "data.cache" "$msd" prepare run.yaml

echo "== damaged: every kind is refused, and encoded again"
shard=$(ls cache/shard-*.h5 | head -1)
size=$(stat -c %s "$shard")
for damage in truncate flip empty foreign remove; do
  cp "$shard" kept.h5
  case $damage in
    truncate) truncate -s $((size / 3)) "$shard" ;;
    flip) flip "$shard" $((size / 2)) ;;
    empty) : >"$shard" ;;
    foreign) cp tiny/unet/config.json "$shard" ;;
    remove) rm "$shard" ;;
  esac
  exits 5 "$(basename "$shard").*msd prepare" "$msd" train run.yaml --set data.cache=cache
  exits 5 "$(basename "$shard").*msd prepare" prepare --verify
  [ "$(wc -l <err.txt)" = 1 ] || fail "$damage: more than one line"
  cp kept.h5 "$shard"
done
flip cache/manifest.json 100
exits 5 "manifest.json.*msd prepare" "$msd" train run.yaml --set data.cache=cache
flip cache/manifest.json 100
flip "$shard" $((size / 2))
exits 0 "8 encoded now" prepare
train --set data.cache=cache && cmp plain-f32-center out/adapter.safetensors

echo "== bad pictures: named, or skipped in the same way with and without the cache"
cp data/data.jsonl kept.jsonl
picture=$(ls data/images/* | sed -n 2p)
cp "$picture" kept.picture
truncate -s $(($(stat -c %s "$picture") / 2)) "$picture"
rm -rf out
exits 3 "data.jsonl:.*$(basename "$picture")" prepare
exits 3 "data.jsonl:.*could not be decoded" "$msd" train run.yaml --set data.cache=cache
exits 3 "data.jsonl:.*$(basename "$picture")" "$msd" train run.yaml
exits 0 "warning.*could not be decoded before" prepare --set data.bad_samples=skip
rm -rf out && exits 0 "the next good sample of the manifest stands in" "$msd" train run.yaml --set data.bad_samples=skip
[ "$(grep -c "stands in" err.txt)" = 1 ] || fail "a bad sample is named once"
losses >plain.txt && cp out/adapter.safetensors skipped
train --set data.bad_samples=skip --set data.cache=cache 2>/dev/null && losses >cached.txt
cmp plain.txt cached.txt && cmp skipped out/adapter.safetensors || fail "bad samples: the cache changes bits"
cmp -s skipped plain-f32-center && fail "nothing was skipped"
cp kept.picture "$picture"

echo "== a disk too small: said before, or when it is full; then it goes on"
rm -rf cache
got=0
(ulimit -f 64; exec "$msd" prepare run.yaml -q --set data.cache=cache) 2>err.txt || got=$?
[ "$got" = 7 ] || { cat err.txt; fail "file size limit: exit $got"; }
prepare -q
train --set data.cache=cache && cmp plain-f32-center out/adapter.safetensors
if mkdir small && mount -t tmpfs -o size=1m tmpfs small 2>/dev/null; then
  got=0
  "$msd" prepare run.yaml -q --set data.cache=small/cache 2>err.txt || got=$?
  umount small
  [ "$got" = 7 ] && grep -q "needs .* free" err.txt || { cat err.txt; fail "a disk of 1 MiB: exit $got"; }
fi

echo "== $kills times kill -9"
rm -rf cache
before=0
for ((i = 0; i < kills; i++)); do
  "$msd" prepare run.yaml -q --set data.cache=cache 2>/dev/null &
  job=$!
  sleep "0.$(printf %03d $((RANDOM % 60 + (i % 4) * 40)))"
  kill -9 $job 2>/dev/null || true
  wait $job 2>/dev/null || true
  if [ -e cache/manifest.json ]; then
    exits 0 "every entry is whole" prepare --verify -q
    whole=$((${whole:-0} + 1))
    [ $((i % 3)) = 0 ] && rm -rf cache && before=0 && continue
  fi
  after=$(stat -c %s cache/journal 2>/dev/null || echo 0)
  [ -e cache/manifest.json ] || [ "$after" -ge $((before - 200000)) ] || fail "the journal shrank from $before to $after"
  before=$after
done
prepare -q
exits 0 "every entry is whole" prepare --verify -q
train --set data.cache=cache && cmp plain-f32-center out/adapter.safetensors || fail "after kills: other bits"
echo "kills: $kills, whole caches seen: ${whole:-0}"
