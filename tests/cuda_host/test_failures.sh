#!/usr/bin/env bash
# A training that goes on from a checkpoint, and a generation, with --device cuda on the host layer, while each of CUDA's calls
# fails: once, as a fault of the card that every later call meets too ("sticky"), and for memory also "from there on"
# ("always"). Each run ends with exit code 6 and one line that says what failed, nothing half-written stands under a final
# name, the last checkpoint is what it was, and going on from it gives the bits of a run without failures. A run may end with
# 0 only where its result is that of a run without failures: giving memory back may fail, say.
# For each function that is called, one of its N calls is tried in one of the commands, another one each day;
# MSD_TEST_FULL=1 tries the first, the last, some between, in every mode and in both. MSD_TEST_DAY=N: that day of the year.
set -u
msd=$1 dir=$2
rm -rf "$dir" && mkdir -p "$dir" && cd "$dir" || exit 1
export MSD_CUDA_CACHE=off XDG_CACHE_HOME=$dir/cache # off: of the training; the generation begins with an empty one
full=${MSD_TEST_FULL:-0} day=${MSD_TEST_DAY:-$(date +%j | sed 's/^0*//')}
failures=0 tried=0 refused=0 same=0
exec 2> shell.txt # where bash says "Killed"

bad() { echo "FAIL $*"; failures=$((failures + 1)); }

"$msd" synth tiny -o tiny --quiet && "$msd" demo-data data --count 3 --quiet || exit 1
cat > run.yaml <<YAML
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: data/data.jsonl, resolution: 64}
train: {steps: 3, batch_size: 1}
output: {dir: run, checkpoint_every: 1, keep: 3}
YAML
train=(train run.yaml --device cuda --resume auto --quiet)
generate=(generate --model tiny --image-encoder tiny/image_encoder -p "a cat" -o out.png -W 64 -H 64 --steps 2 --quiet --device cuda --dtype f32)

# What a command finds, and whether what it leaves is whole; same_*: whether it is what a run without failures leaves.
fresh_train() { rm -rf run && mkdir run && cp -r first/step-000001 run/; }
whole_train() {
    diff -r first/step-000001 run/step-000001 > /dev/null || { echo "the checkpoint is another"; return 1; }
    for step in run/step-000002 run/step-000003; do
        [ ! -e $step ] || cmp -s $step/adapter.safetensors good/$step/adapter.safetensors || { echo "$step is not whole"; return 1; }
    done
    [ ! -e run/adapter.safetensors ] || cmp -s run/adapter.safetensors good/run/adapter.safetensors || { echo "the adapter is not whole"; return 1; }
}
same_train() { cmp -s run/adapter.safetensors good/run/adapter.safetensors; }
again_train() { "$msd" "${train[@]}" > said 2>&1 && same_train; }
fresh_generate() { rm -rf out.png cache; }
whole_generate() { [ ! -e out.png ] || same_generate || { echo "the picture is not whole"; return 1; }; }
same_generate() { cmp -s out.png good/out.png; }
again_generate() { "$msd" "${generate[@]}" > said 2>&1 && same_generate; }

# NAME CALL N MODE: one failing run.
one() {
    local name=$1 fault=$2:$3${4:+:$4} code words why
    local -n command=$name
    "fresh_$name"
    MSD_CUDA_HOST_FAIL=$fault timeout 60 "$msd" "${command[@]}" > said 2> errors
    code=$?
    tried=$((tried + 1))
    words=$(grep -v '^cuda_host: ' errors)
    grep -q '^cuda_host: .*seeded failure' errors || bad "$name $fault: the call was not made"
    why=$("whole_$name") || bad "$name $fault (exit $code) left something broken: $why: $words"
    if [ $code = 0 ]; then
        "same_$name" || bad "$name $fault: exit 0 with another result: $words"
        same=$((same + 1)) passed[$2${4:+:$4}]=1
        return
    fi
    refused=$((refused + 1))
    [ $code = 6 ] || bad "$name $fault: exit $code: $(tail -c 300 errors)"
    [ "$(wc -l <<< "$words")" = 1 ] && [[ $words =~ ^error\[E_(DEVICE|MEMORY)\] ]] || bad "$name $fault: not one line that says why: $words"
    [[ $4 = sticky || $2 != cudaHostAlloc || $words =~ E_MEMORY.*cannot\ get\ [0-9]+\ MiB\ of\ pinned\ memory:\ the\ host\ has\ [0-9]+ ]] ||
        bad "$name $fault: need and have are not said: $words"
    [[ $4 = sticky || $2 != cudaMalloc || $words =~ E_MEMORY.*cannot\ get\ [0-9]+\ MiB.*[0-9]+\ MiB\ are\ free ]] ||
        bad "$name $fault: need and have are not said: $words"
    [ $((tried % 9)) != 0 ] || "again_$name" || bad "$name $fault: going on afterwards: $(cat said)"
}

sweep() {
    local name=$1 call n count mode modes at
    local -n command=$name
    "fresh_$name"
    rm -f counts
    MSD_CUDA_HOST_REPORT=counts "$msd" "${command[@]}" > said 2>&1 || { bad "$name without failures: $(cat said)"; return; }
    if [ "$name" = train ]; then mkdir -p good && cp -r run good/; else cp out.png good/; fi
    local before=$tried job=0 turn=$2
    while read -r _ call count <&3; do
        modes=("" sticky)
        [[ $call = cudaMalloc || $call = cudaHostAlloc ]] && modes+=(always)
        if [ "$full" = 1 ]; then
            at=$(printf '%s\n' 1 2 $((count / 3)) $((count / 2)) $((count * 3 / 4)) $((count - 1)) "$count" | awk -v most="$count" '$1 > 0 && $1 <= most' | sort -nu)
            for n in $at; do for mode in "${modes[@]}"; do one "$name" "$call" "$n" "$mode"; done; done
        elif [ $(((job + day + turn) % 2)) = 0 ] || [[ $call = cudaMalloc || $call = cudaLaunchKernel ]]; then
            n=$(((day * 7919 + job * 104729) % count + 1))
            one "$name" "$call" "$n" "${modes[$(((job / 2 + day) % ${#modes[@]}))]}"
        fi
        job=$((job + 1))
    done 3< <(grep '^call ' counts)
    echo "$name: $((tried - before)) failures in $(awk '/^call / {n += $3} END {print n}' counts) calls of $job functions"
}

declare -A passed
"$msd" "${train[@]}" --set train.steps=1 > said 2>&1 || { bad "the first step: $(cat said)"; exit 1; }
cp -r run first
sweep train 0
unset MSD_CUDA_CACHE
sweep generate 1

export MSD_CUDA_CACHE=off

# A machine that is not fit, and one line of what it has and needs.
unfit() { # WORDS SETTING
    "fresh_train"
    env "$2" timeout 60 "$msd" "${train[@]}" > said 2> errors
    local code=$?
    [ $code = 6 ] && [ "$(grep -cv '^cuda_host: ' errors)" = 1 ] && grep -q "$1" errors || bad "$2: exit $code: $(cat errors)"
    whole_train > /dev/null || bad "$2: the checkpoint is gone"
}
unfit 'no NVIDIA driver.*CUDA 13.* or newer' MSD_CUDA_HOST_DRIVER=0
unfit 'driver knows CUDA up to 12.8, this build needs 13' MSD_CUDA_HOST_DRIVER=12080
unfit 'sees 0 cards' MSD_CUDA_HOST_DEVICES=0
unfit 'capability 7.5, expected 8.0' MSD_CUDA_HOST_CAPABILITY=75
unfit 'cannot get 32 MiB: 8 of the card.s 8 MiB are free' MSD_CUDA_HOST_MEMORY=8
unfit 'cannot get .* in use: .* of the card.s 45 MiB are free' MSD_CUDA_HOST_MEMORY=45

echo "result as without failures although these failed: ${!passed[*]}"
echo "$tried failures: $refused refused with one line, $same without harm, $failures mistakes"
[ $failures = 0 ] && [ $refused -gt 20 ] && rm -rf "$dir"
