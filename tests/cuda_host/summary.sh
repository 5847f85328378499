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
  printf '%-22s %30s    %30s    %21s\n' "" "------- f32, against CPU ------" "------ bf16, against CPU ------" "bf16, from exact"
  printf '%-22s %10s %10s %9s    %10s %10s %9s    %10s %10s\n' "" rows worst bound rows worst bound CPU CUDA
  cat "$folder"/*.errors | awk -F'\t' '
    !($1 in at) { at[$1] = ++n; name[n] = $1 }
    { rows[$1, $2] = $3; worst[$1, $2] = $6; bound[$1, $2] = $7; cpu[$1] = $9; cuda[$1] = $10 }
    function cell(k, t) { return (k, t) in rows ? sprintf("%10d %10s %9s", rows[k, t], worst[k, t], bound[k, t]) : sprintf("%10s %10s %9s", "-", "", "") }
    END { for (i = 1; i <= n; i++) {
      k = name[i]
      line = sprintf("%-22s %s    %s    %10s %10s", k, cell(k, "f32"), cell(k, "bf16"), (k, "bf16") in rows ? cpu[k] : "", (k, "bf16") in rows ? cuda[k] : "")
      sub(/ +$/, "", line)
      print line
    } }'
}
runs() {
  printf '\n%-58s %12s  %s\n' "whole runs, CUDA against the CPU" "" "bound"
  cat "$folder"/*.runs | awk -F'\t' '{ printf "%-58s %12s  %s\n", $1, $2, $3 }'
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
