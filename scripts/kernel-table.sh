#!/usr/bin/env bash
# Registers, shared memory and spills of each CUDA kernel as ptxas reports them, and the occupancy that follows: the share of
# an SM's 64 warps (sm_80, sm_90) that blocks of the kernel's size fill. Compiles each file for one architecture; exit 1
# where a kernel spills.
#   usage: scripts/kernel-table.sh TOOLKIT [ARCHITECTURE = 90] [FILE.cu ...]
#          scripts/kernel-table.sh TOOLKIT doc >docs/KERNELS.md      # sm_80 and sm_90, some minutes
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 1 ] || [ ! -x "$1/bin/nvcc" ]; then
  echo "usage: scripts/kernel-table.sh TOOLKIT [ARCHITECTURE] [FILE.cu ...]   (TOOLKIT/bin/nvcc: scripts/setup-cuda.sh)" >&2
  exit 2
fi
nvcc=$1/bin/nvcc
arch=${2:-90}
shift $(($# < 2 ? 1 : 2))
files=("$@")

# The two tables as one of Markdown; the many kernels that run an elementwise function over a tensor as one line.
doc() {
  cat <<'TEXT'
# Kernels, from the compiler

Registers, static shared memory (bytes), bytes spilled and the occupancy that follows (of an SM's 64 warps) of every kernel of autograd/cuda, as
TEXT
  echo "ptxas $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p') reports them. No GPU is needed: \`scripts/kernel-table.sh TOOLKIT doc >docs/KERNELS.md\` makes this page."
  printf '\n| kernel | threads | registers sm_80 / sm_90 | shared | spilled | occupancy sm_80 / sm_90 |\n|---|---|---|---|---|---|\n'
  # Rows are keyed by name and block; columns are counted from the end, since names have blanks.
  awk 'FNR == 1 {file++; next}
       / kernels, [0-9]+ with spills$/ {total[file] = $0; next}
       {occupancy = $NF + 0; spill = $(NF - 1); shared = $(NF - 2); regs = $(NF - 3) + 0; block = $(NF - 4); NF -= 5
        key = $0 "|" block
        if ($1 ~ /^each_kernel/) {
          many[file]++
          if (regs > most[file]) most[file] = regs
          if (many[file] == 1 || occupancy < least[file]) least[file] = occupancy
          next
        }
        if (file == 1) {order[++n] = key; r[key] = regs; o[key] = occupancy}
        else printf "| `%s` | %d | %d / %d | %d | %d | %d %% / %d %% |\n", $0, block, r[key], regs, shared, spill, o[key], occupancy}
       END {printf "| `each_kernel`: %d elementwise functions | 256 | at most %d / %d | 0 | 0 | at least %d %% / %d %% |\n", many[2],
                   most[1], most[2], least[1], least[2]
            printf "\nsm_80: %s; sm_90: %s.\n", total[1], total[2]}' "$1" "$2"
  cat <<'TEXT'

`cuobjdump --list-elf` and `--list-ptx`, of the linked program or of the objects of autograd/cuda:

| preset | machine code | PTX | seen in |
|---|---|---|---|
| `cuda`, and `release` where CUDA is found | sm_80, sm_90 | sm_80, sm_90 | the linked program: 12 of 12 files |
| `cuda-release` | sm_80, sm_86, sm_89, sm_90, sm_100, sm_120 | sm_120 | 9 of 12 files, all but those and attention_backward.cu |
TEXT
}
if [ "$arch" = doc ]; then
  tables=$(mktemp -d)
  trap 'rm -rf "$tables"' EXIT
  for one in 80 90; do "$0" "${nvcc%/bin/nvcc}" $one >"$tables/$one"; done
  doc "$tables/80" "$tables/90"
  exit
fi
[ $# -gt 0 ] || files=(autograd/cuda/*.cu)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in "${files[@]}"; do
  "$nvcc" -std=c++17 "-arch=sm_$arch" --Werror all-warnings -Xptxas -v --keep --keep-dir "$work" -I. -c "$file" \
    -o "$work/kernel.o" 2>>"$work/log"
done
printf '%-78s %5s %6s %7s %7s %6s\n' "kernel (sm_$arch)" "block" "regs" "shared" "spills" "occup."
# One line for each kernel: mangled name, registers, bytes of shared memory, bytes spilled, threads of its launch bound.
awk 'FILENAME ~ /ptx$/ {
       if (match($0, /\.entry [^( ]+/)) entry = substr($0, RSTART + 7, RLENGTH - 7)
       if ($1 == ".maxntid") {sub(",", "", $2); block[entry] = $2}
       next
     }
     /Compiling entry function/ {match($0, /\047[^\047]*\047/); name = substr($0, RSTART + 1, RLENGTH - 2)}
     /spill stores/ {for (i = 1; i <= NF; i++) if ($i == "spill") spill[name] += $(i - 2)}
     /Used [0-9]+ registers/ {
       shared = 0
       for (i = 1; i <= NF; i++) {if ($i == "Used") regs = $(i + 1); if ($i ~ /^smem/) shared = $(i - 2)}
       print name, regs, shared, spill[name], block[name]
     }' "$work"/*.ptx "$work/log" | c++filt -p | sed 's/(anonymous namespace):://g; s/__nv_bfloat16/bf16/g' | sort | awk -v arch="$arch" '
  {
    block = $NF; spill = $(NF - 1); shared = $(NF - 2); regs = $(NF - 3); NF -= 4; name = $0; sub(/^void /, "", name)
    warps = block / 32
    per_warp = int((regs * 32 + 255) / 256) * 256
    blocks = int(int(65536 / per_warp) / warps)
    if (shared) {by_shared = int((arch == 90 ? 227 : 163) * 1024 / (shared + 1024)); if (by_shared < blocks) blocks = by_shared}
    if (blocks > 32) blocks = 32
    if (blocks * warps > 64) blocks = int(64 / warps)
    printf "%-78s %5d %6d %7d %7d %5d%%\n", substr(name, 1, 78), block, regs, shared, spill, 100 * blocks * warps / 64
    if (spill > 0) spilled++
  }
  END {printf "%d kernels, %d with spills\n", NR, spilled; exit spilled > 0}'
