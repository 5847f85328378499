#!/usr/bin/env bash
# Eight ranks on one machine (GPUs, or parts of its CPU), started again where that helps:
#     configs/8-gpus.sh RUN.yaml [more arguments of msd train]
#     RANKS=4 MSD=build/release/msd configs/8-gpus.sh RUN.yaml --set train.batch_size=2
# Goes on from the newest checkpoint each time. What a person has to mend (a config, a dataset, a full disk) is not tried again.
# SIGTERM, SIGINT to this script: all ranks save once, and it ends with 143.
set -u
[ $# -ge 1 ] || { echo "usage: $0 RUN.yaml [arguments of msd train]" >&2; exit 2; }
run=$1
shift
msd=${MSD:-msd}
most=${MOST_RESTARTS:-20} # in a row
job=
stopping=

# To the ranks, not to mpirun, which would kill them a second later: one that is told is enough.
stop() {
  stopping=1
  [ -z "$job" ] || pkill -TERM -P "$job"
}
trap stop TERM INT

restarts=0
while :; do
  # setsid: Ctrl-C comes to this script alone
  setsid mpirun -np "${RANKS:-8}" --bind-to none ${MPIRUN_ARGS:-} "$msd" train "$run" --resume auto "$@" &
  job=$!
  code=0
  wait "$job" || code=$?
  while kill -0 "$job" 2>/dev/null; do # a signal ended the wait: the ranks still save
    code=0
    wait "$job" || code=$?
  done
  case $code in
    0 | 130 | 143) exit "$code" ;;
    9) ;;                       # a rank died or hung: it is named above, the last checkpoint is good
    134 | 135 | 136 | 137 | 139) ;; # one was killed or crashed, and mpirun was first to see it
    *) exit "$code" ;;          # 2 config, 3 dataset, 4 model, 5 checkpoint, 6 device, 7 disk, 8 numbers: for a person
  esac
  [ -z "$stopping" ] || exit "$code"
  restarts=$((restarts + 1))
  [ "$restarts" -le "$most" ] || { echo "$0: $most restarts, that is enough" >&2; exit "$code"; }
  echo "$0: exit $code; restart $restarts of $most" >&2
  sleep "${RESTART_SECONDS:-10}"
done
