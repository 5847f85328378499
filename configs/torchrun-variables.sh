#!/usr/bin/env bash
# One rank a GPU without MPI, by the variables that torchrun and the operators of Kubernetes set. On each machine:
#     NODES=2 NODE=0 MASTER_ADDR=first-machine configs/torchrun-variables.sh RUN.yaml [more arguments of msd train]
# torchrun itself serves too: torchrun --no-python --nnodes 2 --nproc-per-node 8 ... msd train RUN.yaml --resume auto
# GPUs only: on the CPU ranks need mpirun. Restarts as in 8-gpus.sh are up to whoever starts this on all machines.
set -u
run=${1:?usage: NODES=N NODE=I MASTER_ADDR=HOST $0 RUN.yaml}
shift
per_node=${GPUS:-8}
export WORLD_SIZE=$((per_node * ${NODES:-1})) MASTER_ADDR=${MASTER_ADDR:-127.0.0.1} MASTER_PORT=${MASTER_PORT:-29400}
pids=()
for ((local = 0; local < per_node; local++)); do
  RANK=$((per_node * ${NODE:-0} + local)) LOCAL_RANK=$local "${MSD:-msd}" train "$run" --resume auto "$@" &
  pids+=($!)
done
trap 'kill -TERM "${pids[0]}"' TERM INT # one is enough: all save once
code=0
for pid in "${pids[@]}"; do
  while :; do
    one=0
    wait "$pid" || one=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  [ "$code" -ne 0 ] || code=$one
done
exit "$code"
