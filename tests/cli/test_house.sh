#!/usr/bin/env bash
# The rules of the house that a program can see (CONTRIBUTING.md): who may include whom, one public header, lengths,
# no assert() in the product, every op in one file with the names that its list gives.
set -u
cd "$(dirname "$0")/../.."
failures=0
fail() {
  echo "FAIL $*"
  failures=$((failures + 1))
}

# allowed FOLDER "FOLDERS IT MAY INCLUDE"
allowed() {
  local folder=$1 may=" $2 "
  while IFS=: read -r file line; do
    local target=${line#*\"}
    target=${target%%/*}
    [[ $may == *" $target "* ]] || fail "$file includes $line: $folder may include only:$may"
  done < <(grep -rHoE '#include "[a-z_]+/[^"]+"' --include='*.[ch]' "$folder")
}
allowed base "base"
allowed autograd "autograd base"
allowed model "model autograd base"
allowed data "data autograd base"
allowed infer "infer model data autograd base"
allowed train "train infer model data autograd base"
allowed cli "cli"

while read -r header; do
  [ "$header" = msd.h ] || fail "cli includes $header: msd.h is its one header of the library"
done < <(grep -rhoE '#include "[^/"]+"' cli | sed 's/.*"\(.*\)"/\1/')

while read -r lines file; do
  [ "$file" = total ] || [ "$lines" -le 600 ] || fail "$file has $lines lines: a room with more than one noun"
done < <(find base autograd model data infer train cli tests scripts -name '*.[ch]' -o -name '*.py' -o -name '*.sh' | xargs wc -l)

while read -r place; do
  fail "assert() in the product: $place"
done < <(grep -rnE '(^|[^_a-z])assert\(' --include='*.[ch]' base autograd model data infer train cli | grep -v static_assert)

for op in $(sed -n '/define OP_LIST/,/^$/p' autograd/op.h | grep -oE 'X\([a-z0-9_]+\)' | sed 's/X(\(.*\))/\1/' | grep -v '^n$'); do
  file=autograd/ops/$op.c
  [ -e "$file" ] || { fail "op $op has no $file"; continue; }
  grep -q "^const op op_$op = " "$file" || fail "$file does not define op_$op"
  grep -q "^tensor \*ag_$op(" "$file" || fail "$file does not define ag_$op"
done

[ $failures -eq 0 ] && echo "ok   the house"
exit $((failures > 0))
