#!/usr/bin/env bash
# A test program on the CUDA device of the host layer and on the CPU: both have to pass, and what they compared has to agree.
#   on_both.sh PROGRAM COMPARE_VALUES FOLDER NAME F32 BF16
# In FOLDER: NAME.errors (compare_values' lines), NAME.counts (launches and calls of the host layer).
set -euo pipefail
program=$1 compare=$2 folder=$3 name=$4 f32=$5 bf16=$6
mkdir -p "$folder"
rm -f "$folder/$name".*
MSD_TEST_DEVICE=cpu MSD_TEST_VALUES="$folder/$name.cpu" "$program" >/dev/null
MSD_TEST_DEVICE=cuda MSD_TEST_VALUES="$folder/$name.cuda" MSD_CUDA_HOST_REPORT="$folder/$name.counts" "$program"
[ -s "$folder/$name.counts" ] || { echo "FAIL $name ran nothing on the CUDA device"; exit 1; }
if [ -e "$folder/$name.cuda" ]; then
  "$compare" "$name" "$folder/$name.cpu" "$folder/$name.cuda" "$f32" "$bf16" | tee "$folder/$name.errors"
fi
rm -f "$folder/$name.cpu" "$folder/$name.cuda"
