#!/usr/bin/env bash
# The program as a person meets it: help, version, misspelt words, exit codes, one line for each mistake.
set -u
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
failures=0

# expect CODE PATTERN ARGS...: the exit code, and the pattern in what is printed
expect() {
  local code=$1 pattern=$2
  shift 2
  "$msd" "$@" >"$tmp/out" 2>&1 </dev/null
  local got=$?
  if [ $got -ne "$code" ]; then
    echo "FAIL msd $*: exit $got, expected $code: $(head -c 300 "$tmp/out")"
    failures=$((failures + 1))
  elif ! grep -qE -- "$pattern" "$tmp/out"; then
    echo "FAIL msd $*: no '$pattern' in: $(head -c 300 "$tmp/out")"
    failures=$((failures + 1))
  else
    echo "ok   msd $*"
  fi
}

# one_line CODE PATTERN ARGS...: the same, and nothing but that line is printed
one_line() {
  expect "$@"
  if [ "$(wc -l <"$tmp/out")" -ne 1 ]; then
    echo "FAIL msd ${*:3}: $(wc -l <"$tmp/out") lines"
    failures=$((failures + 1))
  fi
}

expect 0 'Commands:' --help
expect 0 '^msd [0-9]+\.[0-9]+\.[0-9]+$' --version
expect 2 'Commands:'
for command in train check generate export inspect synth probe tokenize preprocess doctor demo-data benchmark plan import; do
  expect 0 'Examples:' "$command" --help
done
expect 0 'oneDNN' doctor
expect 0 '"onednn":' doctor --json

one_line 2 "unknown command 'trian', did you mean train" trian
one_line 2 'unknown option --promt, did you mean --prompt' generate --promt x
one_line 2 '--steps: .ten. is not a whole number' generate --model a -p b -o c --steps ten
one_line 2 '--steps needs a value' generate --steps
one_line 2 '--prompt is given twice' generate -p a --prompt b
one_line 2 '--model is missing' generate -p a -o b
one_line 2 'RUN.yaml is missing' train
one_line 2 "unexpected 'more'" train run.yaml more
one_line 2 'takes no value' train run.yaml --quiet=1
one_line 2 'huge' synth huge -o "$tmp/x"
one_line 2 'there are train, generate, ops' benchmark nonsense
one_line 2 'either --model DIR or --random' benchmark unet
one_line 2 'RUN.yaml, --model DIR or --random' plan
one_line 2 'nowhere.yaml' plan "$tmp/nowhere.yaml"
one_line 2 'there are tiny, half, sdxl' plan --random huge
one_line 2 'multiple of 64' plan --random tiny --size 100
expect 0 '2567.5 M parameters; 3.3806 T multiply-adds' plan --random sdxl
expect 0 '459.7 M of them trained' plan --random sdxl
expect 0 '"multiply_adds"' plan --random tiny --size 64 --json
one_line 2 'there are h100, a100, 4090' plan --random tiny --card h1
expect 0 'ESTIMATE, nothing measured' plan --random sdxl --size 512 --card h100
expect 0 'adamw, 100 %' plan --random sdxl --size 512 --card 4090
expect 0 'estimate on NVIDIA A100' plan generate --random half --size 512 --card a100
one_line 2 'RUN.yaml, whose step' plan --random tiny --ranks 8
one_line 2 'is of --ranks' plan --random tiny --link ib400
expect 0 '"estimate_seconds"' plan generate --random tiny --size 64 --card a100 --json
expect 0 'GFLOP/s' benchmark text --random tiny --repeats 1
expect 0 'GFLOP/s' benchmark encode --random tiny --size 64 --repeats 1
expect 0 'GFLOP/s' benchmark unet --random tiny --size 64 --repeats 1
expect 0 '"slowest"' benchmark train --random tiny --size 64 --repeats 1 --json
one_line 2 "module" probe nonsense --out "$tmp/x"
one_line 4 'nowhere' generate --model "$tmp/nowhere" -p a -o "$tmp/a.png"
one_line 4 'nothing.safetensors' inspect "$tmp/nothing.safetensors"
one_line 3 'nothing.jpg' preprocess clip "$tmp/nothing.jpg" --out "$tmp/x"
one_line 2 'box' generate --model m -p a -o b --subject 'image=a,phrase=b,box=1,2'
one_line 2 'given twice' generate --model m -p a -o b --subject 'image=a,phrase=b,image=c'
one_line 2 'not pixels' generate --model m -p a -o b --subject 'image=a,phrase=b,box=0,0,100,100'

# nothing half-written
[ -e "$tmp/x" ] || [ -e "$tmp/a.png" ] && { echo "FAIL a failed command left a file"; failures=$((failures + 1)); }

exit $((failures > 0))
