#!/usr/bin/env bash
# Whole commands while each call of their file layer fails: the exit code is one of the documented, the reason is one line that
# names a file, no half-written file stands under a final name, and the command run again does its work. Every STRIDE-th fault
# (STRIDE=1 for a release); which ones are tried moves with the date, so that runs of many days see them all.
set -u
msd=$1 dir=$3
rm -rf "$dir" && mkdir -p "$dir" && cd "$dir" || exit 1
stride=${STRIDE:-43}
failures=0 tried=0 refused=0
exec 2> shell.txt # where bash says "Killed"

bad() { echo "FAIL $*"; failures=$((failures + 1)); }

"$msd" synth tiny -o tiny --quiet && "$msd" demo-data data --count 3 --quiet || exit 1
cat > run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64}
train: {steps: 2, batch_size: 1}
output: {dir: run, checkpoint_every: 1, keep: 2}
YAML
"$msd" train run.yaml --quiet || exit 1
cp -r run good && cp run/adapter.safetensors adapter.safetensors
mkdir pictures && for i in 0 1 2; do cp "$(ls data/*/*.png data/*.png 2> /dev/null | sed -n "$((i + 1))p")" pictures/$i.png; echo "a picture" > pictures/$i.txt; done

# What a command leaves: fresh prepares for it, whole says that its result, if there is one, is all there.
fresh_export() { rm -f out.bin out.safetensors; }
whole_export() { [ ! -e out.bin ] || "$msd" inspect out.bin > /dev/null 2>&1; }
fresh_train() { rm -rf run && mkdir run && cp -r good/step-000001 run/; }
whole_train() {
    for step in run/step-*; do "$msd" export "$step" -o check.safetensors > /dev/null 2>&1 || return 1; done
    [ ! -e run/adapter.safetensors ] || cmp -s run/adapter.safetensors good/adapter.safetensors
}
fresh_import() { rm -f imported.jsonl; }
# A picture that cannot be read is left out and counted: fewer lines, each whole.
whole_import() { [ ! -e imported.jsonl ] || { [ "$(wc -l < imported.jsonl)" -ge 1 ] && [ "$(grep -c '}$' imported.jsonl)" = "$(wc -l < imported.jsonl)" ]; }; }
fresh_prepare() { rm -rf cache; }
whole_prepare() { "$msd" prepare run.yaml --set data.cache=cache --quiet > again.txt 2>&1 && "$msd" prepare run.yaml --set data.cache=cache --verify --quiet > again.txt 2>&1; }
fresh_generate() { rm -f out.png; }
whole_generate() { [ ! -e out.png ] || [ "$(tail -c 12 out.png | head -c 8 | tail -c 4)" = IEND ]; }

sweep() { # NAME COMMAND...
    local name=$1 calls at kind mode code
    shift
    "fresh_$name"
    MSD_FAULT_COUNT=count "$msd" "$@" > said 2>&1 || { bad "$name without faults: $(cat said)"; return; }
    calls=$(cat count)
    local here=0 begin=$(( ($(date +%j | sed 's/^0*//') * 7) % stride + 1 )) job=0
    for kind in EIO ENOSPC EINTR short kill; do
        for mode in once sticky; do
            [ $kind = kill ] && [ $mode = sticky ] && continue
            for ((at = (begin + job * 5) % stride + 1; at <= calls; at += stride)); do
                "fresh_$name"
                MSD_FAULT="$at:$kind:$mode" timeout 20 "$msd" "$@" > said 2> errors
                code=$?
                tried=$((tried + 1)) here=$((here + 1))
                case $code in
                    0) ;;
                    137) [ $kind = kill ] || bad "$name $at:$kind:$mode died: $(head -c 300 errors)" ;;
                    2 | 3 | 4 | 5 | 6 | 7 | 8)
                        refused=$((refused + 1))
                        [ "$(grep -c '^error\[' errors)" -ge 1 ] || bad "$name $at:$kind:$mode: exit $code without a reason: $(head -c 300 errors)" ;;
                    *) bad "$name $at:$kind:$mode: exit $code: $(head -c 300 errors)" ;;
                esac
                "whole_$name" || bad "$name $at:$kind:$mode left something broken (exit $code): $(head -c 300 errors)"
            done
            job=$((job + 1))
        done
    done
    "fresh_$name"
    "$msd" "$@" > said 2>&1 || bad "$name after the faults: $(cat said)"
    echo "$name: $here of $((calls * 9)) faults in $calls calls"
}

sweep export export adapter.safetensors -o out.bin
sweep train train run.yaml --resume auto --quiet
sweep generate generate --model tiny --image-encoder tiny/image_encoder -p "a cat" -o out.png -W 64 -H 64 --steps 1 --quiet
"$msd" import --help > /dev/null 2>&1 && sweep import import folder pictures --phrase "a picture" -o imported.jsonl --quiet
"$msd" prepare --help > /dev/null 2>&1 && sweep prepare prepare run.yaml --set data.cache=cache --quiet

# A full disk, for real where tmpfs can be mounted.
mkdir -p small && if mount -t tmpfs -o size=1m tmpfs small 2> /dev/null; then
    "$msd" train run.yaml --set output.dir=small/run --quiet > said 2> errors
    code=$?
    [ $code = 7 ] && grep -q '^error\[E_DISK_FULL\]' errors || bad "train on a disk of 1 MiB: exit $code: $(cat errors)"
    [ "$(ls -d small/run/step-* 2> /dev/null | wc -l)" = 0 ] || bad "a step folder on the full disk"
    "$msd" export adapter.safetensors -o small/adapter.bin > said 2> errors
    code=$?
    [ $code = 7 ] && [ ! -e small/adapter.bin ] || bad "export to a disk of 1 MiB: exit $code: $(cat errors)"
    umount small
    echo "a disk of 1 MiB: refused, nothing left"
fi

echo "$tried faults, $refused refused with a reason, $failures failures"
[ $failures = 0 ] && [ $refused -gt 20 ] && rm -rf "$dir"
