#!/usr/bin/env bash
# seeded_faults.sh [DIR] [PATTERN]   Faults of the kinds that a GPU hides, put one by one into a copy of autograd/cuda: is each
# found by the tests on the host layer? Prints a table: the fault, the test, and the first line that tells. Exits 1 if one is
# not found, or if a test fails without any. Builds in DIR (a temporary folder by default; one that is there is used again);
# PATTERN: only faults whose name it is part of; "every barrier": each one of autograd/cuda, instead. About ten minutes on two
# cores, most of them the compiler's.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-$(mktemp -d)} pattern=${2:-}
source=$dir/source build=$dir/build
export MSD_CUDA_CACHE=off OMP_WAIT_POLICY=passive

# kind and place | file of autograd/cuda | sed script | test and its argument; freed memory is seen where none is kept
faults() { cat <<'TABLE'
barrier: group norm's sums read before all are written|group_norm.cu|/shared\[row\]\[lane \* W + j\] = k/,/if (threadIdx.x < TILE/ s/__syncthreads();/;/|cuda_host_test_kernels
barrier: group norm's sums overwritten while read|group_norm.cu|/to\[k \* g.channels + mine\] = all;/,/^}/ s/__syncthreads();/;/|cuda_host_test_kernels
barrier: columns' sums read before all are written|columns.cuh|s/__syncthreads();/;/|cuda_host_test_kernels
barrier: AdamW8's tables read before they are whole|optimizer.cu|s/__syncthreads();/;/|cuda_host_test_kernels
barrier: attention's slab overwritten while read|attention_tile.cuh|/from += SLAB/,/load_slab<ROWS>/ s/__syncthreads();/;/|cuda_host_test_attention_kernels
barrier: attention's values read before all are written|attention_tile.cuh|/memory.values\[i\]\[j\] =/,/pragma/ s/__syncthreads();/;/|cuda_host_test_attention_kernels
barrier: list of covered queries read before it is counted|subjects.cu|s/__syncthreads();/;/|cuda_host_test_attention_kernels
barrier: of a warp, before tensor cores load what lanes wrote|subjects_tile.cuh|/void add(const bfloat/,/left x;/ s/__syncwarp();/;/|cuda_host_test_attention_kernels
barrier: of a warp, after tensor cores' store|subjects_tile.cuh|/store_matrix_sync(s, all/,/^    }/ s/__syncwarp();/;/|cuda_host_test_attention_kernels
stride: leading dimension of A|blas.c|s/(uint64_t)columns_a, rows_a)/(uint64_t)columns_a, columns_a)/|autograd_test_ops linear
stride: leading dimension of D, one too large|blas.c|s/(uint64_t)p->n, p->m)/(uint64_t)p->n, p->m + 1)/|autograd_test_ops linear
stride: rows of a picture as if it were square|conv.c|s/{h \* w \* c, 1, w \* c, c}/{h * w * c, 1, h * c, c}/|autograd_test_ops conv2d
stride: heads and rows of fused attention exchanged|attention.c|s/t->stride\[0\], t->stride\[2\], t->stride\[1\], 1/t->stride[0], t->stride[1], t->stride[2], 1/|autograd_test_ops attention
epilogue: a product without its bias|blas.c|s/p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT/CUBLASLT_EPILOGUE_DEFAULT/|autograd_test_ops linear
epilogue: a product that forgets what it is added to|blas.c|s/p->c ? &one : &zero/\&zero/|autograd_test_ops linear
epilogue: the bias said to be of the other type|blas.c|s/cudaDataType_t type = type_of(p->d_bf16);/cudaDataType_t type = type_of(!p->d_bf16);/|autograd_test_ops linear
epilogue: a convolution's residual multiplied|conv.c|s/CUDNN_POINTWISE_ADD, to, dnn_tensor(g, ID_RESIDUAL/CUDNN_POINTWISE_MUL, to, dnn_tensor(g, ID_RESIDUAL/|autograd_test_ops conv2d
mask: causal attention sees one key too many|attention.cu|s/column <= from + ty \* ROWS_EACH + r)/column <= from + ty * ROWS_EACH + r + 1)/|cuda_host_test_attention_kernels
mask: attention sees one key behind the last|attention.cu|s/bool    seen = column < end/bool    seen = column <= end/|cuda_host_test_attention_kernels
mask: causal gradient misses the diagonal|attention_backward.cu|s/key <= query);/key < query);/|cuda_host_test_attention_kernels
mask: a box covers one row too many|embedding.cu|s/y < bottom/y <= bottom/|autograd_test_ops box_mask
mask: subjects see one token behind the last|subjects_tile.cuh|s/first + j < end \&\&/first + j <= end \&\&/|cuda_host_test_attention_kernels
freed: a convolution's workspace|conv.c|s/^    err e = d->dataless ? OK : dnn_run(\(.*\), s.data);/    void *early = s.data;\n    cuda_scratch_put(d, \&s);\n    err e = d->dataless ? OK : dnn_run(\1, early);/|autograd_test_ops conv2d
freed: group norm's sums|norm.c|/cuda_group_norm_scratch_bytes/a\    void *early = s.data;\n    cuda_scratch_put(d, \&s);\n    s.data = early;|autograd_test_ops group_norm
freed: the products' workspace|device.c|/cuda_card_get(&s->staging/a\    cudaFree(s->workspace);|autograd_test_ops linear
event: pinned memory filled again before the card has read it|copy.c|/^static err upload_piece/,/^}/ s/^    CUDA_TRY(cudaEventSynchronize.*/    (void)turn;/|autograd_test_ops add
TABLE
}

every_barrier() {
    local file line text test
    while IFS=: read -r file line text; do
        test=cuda_host_test_kernels
        [[ $file = attention* || $file = subjects* ]] && test=cuda_host_test_attention_kernels
        echo "every barrier: $file:$line|$file|$line s/__sync[a-z]*();/;/|$test"
    done < <(cd "$root/autograd/cuda" && grep -nE '__sync(threads|warp)\(\);' -- *.cu *.cuh)
}

test_says() { # FILE TEST [ARGUMENT]: its output into FILE
    local file=$1
    shift
    (cd "$build/tests" && MSD_TEST_DEVICE=cuda MSD_CUDA_MEMORY=direct timeout 300 ./"$@") > "$file" 2>&1
}

make_test() { cmake --build "$build" -j "$(nproc)" --target "$@" > "$dir/build.txt" 2>&1 || { tail -20 "$dir/build.txt"; exit 1; }; }

telling() { grep -m1 -E '^cuda_host: ' "$1" || grep -m1 -E '^FAIL' "$1" || grep -m1 -iE 'not within|assert|error|signal' "$1" || tail -1 "$1"; }

mkdir -p "$source" || exit 1
for part in CMakeLists.txt CMakePresets.json msd.h autograd base cli cmake data infer model tests train; do
    cp -ru "$root/$part" "$source/" || exit 1
done
cp "$root"/autograd/cuda/* "$source/autograd/cuda/"
cmake -S "$source" -B "$build" -G Ninja -DMSD_CUDA=HOST -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O2 -DCMAKE_CXX_FLAGS_RELEASE=-O2 \
    > "$dir/configure.txt" 2>&1 || { tail -5 "$dir/configure.txt"; exit 1; }
list=faults
[[ $pattern != "every barrier"* ]] || list=every_barrier
make_test $($list | cut -d'|' -f4 | cut -d' ' -f1 | sort -u)

exec 2> "$dir/shell.txt" # where bash says "Aborted"
lost=0 found=0
declare -A passes
while IFS='|' read -r -u3 name file script test; do
    [[ $name == *"$pattern"* ]] || continue
    if [ -z "${passes[$test]:-}" ]; then # without a fault
        make_test "${test%% *}"
        test_says "$dir/said.txt" $test || { echo "FAIL $test without a fault: $(telling "$dir/said.txt")"; exit 1; }
        passes[$test]=1
    fi
    sed -i "$script" "$source/autograd/cuda/$file"
    if [ "$(diff "$root/autograd/cuda/$file" "$source/autograd/cuda/$file" | grep -c '^[0-9]')" != 1 ]; then
        echo "FAIL $name: the change does not fit $file any more"
        lost=$((lost + 1))
    else
        make_test "${test%% *}"
        if test_says "$dir/said.txt" $test; then
            echo "LOST  | $name | $test |"
            lost=$((lost + 1))
        else
            echo "found | $name | $test | $(telling "$dir/said.txt" | cut -c1-200)"
            found=$((found + 1))
        fi
    fi
    cp "$root/autograd/cuda/$file" "$source/autograd/cuda/$file"
done 3< <($list)
echo "$found of $((found + lost)) faults found"
[ $lost = 0 ]
