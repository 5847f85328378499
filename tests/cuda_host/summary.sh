#!/usr/bin/env bash
# What the tests of label cudahost did and how far the devices were apart, from the files that they left in FOLDER:
# *.errors (compare_values.c), *.counts (host.h: MSD_CUDA_HOST_REPORT), *.runs (whole runs: NAME, MEASURED, BOUND with tabs).
#   summary.sh FOLDER        prints a table, also to FOLDER/summary.txt
set -euo pipefail
folder=$1
shopt -s nullglob

# total REGEX: the counts whose name matches, added up over all processes
total() {
  cat "$folder"/*.counts | awk -v name="^($1)\$" '{ n = $NF; sub(/ [0-9]+$/, ""); if ($0 ~ name) all += n } END { printf "%d", all }'
}
kinds() { cat "$folder"/*.counts | sed -n 's/^launches of \(.*\) [0-9]*$/\1/p' | sort -u | wc -l; }

# The errors of both types of a test in one line.
errors() {
  printf '%-26s %9s %11s %9s   %9s %11s %9s\n' "CUDA against the CPU" "f32 rows" "worst" "bound" "bf16 rows" "worst" "bound"
  cat "$folder"/*.errors | awk -F'\t' '
    !($1 in at) { at[$1] = ++n; name[n] = $1 }
    { rows[$1, $2] = $3; worst[$1, $2] = $6; bound[$1, $2] = $7 }
    function cell(k, t) { return (k, t) in rows ? sprintf("%9d %11s %9s", rows[k, t], worst[k, t], bound[k, t]) : sprintf("%9s %11s %9s", "-", "", "") }
    END { for (i = 1; i <= n; i++) printf "%-26s %s   %s\n", name[i], cell(name[i], "f32"), cell(name[i], "bf16") }'
}
runs() {
  printf '\n%-46s %12s  %s\n' "whole runs, CUDA against the CPU" "" "bound"
  cat "$folder"/*.runs | awk -F'\t' '{ printf "%-46s %12s  %s\n", $1, $2, $3 }'
}
calls() {
  printf '\nthrough the host layer\n'
  printf '%12d  %s\n' \
    "$(ls "$folder"/*.counts | wc -l)" "tests" \
    "$(total 'launches')" "kernel launches by the program, of $(kinds) kernels" \
    "$(total 'ran kernel')" "kernels run, those of launched graphs included" \
    "$(total 'ran product')" "products of cuBLASLt run, $(total 'call cublasLt[A-Za-z]*') calls of it" \
    "$(total 'ran graph')" "graphs of cuDNN run, $(total 'call cudnn[A-Za-z]*') calls of it, $(total 'plans of .*') plans" \
    "$(total 'call cuda[A-Z][A-Za-z]*')" "calls of the CUDA runtime" \
    "$(total 'call cudaGraphLaunch')" "CUDA graphs launched, of $(total 'call cudaGraphInstantiate') captured"
}

{
  errors
  runs
  calls
} | tee "$folder/summary.txt"
