#!/usr/bin/env bash
# Makes a folder that looks like a CUDA toolkit, from NVIDIA's packages on PyPI: bin/nvcc, include, lib64, with cuBLAS, cuDNN,
# NCCL, cuobjdump and compute-sanitizer. No GPU and no driver are needed to build with it.
#   usage: scripts/setup-cuda.sh DIR
#   then:  cmake --preset cuda -DCMAKE_CUDA_COMPILER=DIR/bin/nvcc -DCUDAToolkit_ROOT=DIR -DCUDNN_ROOT=DIR -DNCCL_ROOT=DIR
set -euo pipefail
if [ $# -ne 1 ] || [ "${1#-}" != "$1" ]; then
  echo "usage: scripts/setup-cuda.sh DIR" >&2
  exit 2
fi
dir=$1
if [ -x "$dir/bin/nvcc" ] && [ -e "$dir/lib64/libcudnn.so" ] && [ -e "$dir/lib64/libnccl.so" ]; then
  echo "$dir has $("$dir/bin/nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/CUDA \1/p')"
  exit 0
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
python3 -m venv "$dir/python"
"$dir/python/bin/pip" --quiet install 'nvidia-cuda-nvcc==13.*' 'nvidia-nvvm==13.*' 'nvidia-cuda-crt==13.*' \
  'nvidia-cuda-runtime==13.*' 'nvidia-cuda-cccl==13.*' 'nvidia-cublas==13.*' \
  'nvidia-cudnn-cu13==9.*' 'nvidia-nccl-cu13==2.*' 'nvidia-cuda-cuobjdump==13.*' 'nvidia-cuda-sanitizer-api==13.*'
packages=$(echo "$dir"/python/lib/python3*/site-packages/nvidia)

# The compiler finds its parts by their places beside itself, so that its folders are linked whole.
for part in bin nvvm; do
  ln -sfn "$packages/cu13/$part" "$dir/$part"
done
mkdir -p "$dir/include" "$dir/lib64"
ln -sfn lib64 "$dir/lib"
for header in "$packages"/cu13/include/* "$packages"/{cudnn,nccl}/include/*; do
  ln -sfn "$header" "$dir/include/${header##*/}"
done
for library in "$packages"/cu13/lib/*.so* "$packages"/cu13/lib/*.a "$packages"/{cudnn,nccl}/lib/*.so*; do
  [ -e "$library" ] || continue
  name=${library##*/}
  ln -sfn "$library" "$dir/lib64/$name"
  case $name in *.so.*) ln -sfn "$name" "$dir/lib64/${name%%.so.*}.so" ;; esac # the name that a linker looks for
done
"$dir/bin/nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/CUDA \1/p'
