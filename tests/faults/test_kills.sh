#!/usr/bin/env bash
# kill -9 at random moments while checkpoints are saved and rotated; after each the folder is judged, and the next saver goes on
# from it. KILLS=1000 for a release; a few here.
set -u
saver=$2 dir=$3
rm -rf "$dir" && mkdir -p "$dir"
kills=${KILLS:-60}
for ((i = 0; i < kills; i++)); do
    "$saver" save "$dir/run" > "$dir/said" 2> "$dir/errors" &
    pid=$!
    sleep "0.0$((RANDOM % 90 + 10))"
    kill -9 "$pid" 2> /dev/null || { echo "the saver ended by itself: $(cat "$dir/errors")"; exit 1; }
    wait "$pid" 2> /dev/null
    least=$(tail -n 1 "$dir/said")
    [ -n "$least" ] && newest=$least
    "$saver" verify "$dir/run" "${newest:-0}" || { echo "kill $i: lost or damaged"; exit 1; }
done
[ "${newest:-0}" -ge $((kills / 10)) ] || { echo "only ${newest:-0} saves in $kills lives: nothing was tested"; exit 1; }
echo "$kills kills, $newest saves acknowledged, 0 lost, 0 damaged"
rm -rf "$dir"
