# Of tests that compare runs, to be sourced: how far apart two of them are. $compare is compare_weights, fail ends the test.

below() { # A B: a number, its bound
  awk -v a="$1" -v b="$2" 'BEGIN { exit !(a == a + 0 && a <= b) }'
}
losses() { # A B: the largest relative difference of their losses, step by step
  awk -F'[:,]' 'FNR == NR { loss[FNR] = $4; n = FNR; next }
    { d = ($4 - loss[FNR]) / loss[FNR]; if (d < 0) d = -d; if (!(d <= most)) most = d }
    END { print (FNR == n && n > 0) ? most + 0 : "nan" }' "$1/log.jsonl" "$2/log.jsonl"
}
# Gradients of the same samples, rounded in another order: losses within 1e-6, weights within 1e-5 (measured: 3e-7, 3e-6).
alike() { # A B [LOSSES WEIGHTS]: two runs, their bounds
  local loss weights
  loss=$(losses "$1" "$2")
  weights=$("$compare" "$1/adapter.safetensors" "$2/adapter.safetensors")
  below "$loss" "${3:-1e-6}" && below "$weights" "${4:-1e-5}" || fail "$1 and $2: losses $loss, weights $weights apart"
  echo "ok   $1 and $2: losses $loss, weights $weights apart"
}
