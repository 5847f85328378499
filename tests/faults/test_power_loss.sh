#!/usr/bin/env bash
# Power loss: checkpoints are saved on an ext4 file system in a file; at random moments the saver is stopped and the file, which
# holds what has reached the "disk", is copied, mounted (the journal replays, as after a power cut) and judged. Needs root and
# loop devices; skipped without. SNAPSHOTS=100 for a release; a few here.
set -u
saver=$2 dir=$3
[ "$(id -u)" = 0 ] && command -v mkfs.ext4 > /dev/null || { echo "skipped: needs root and mkfs.ext4"; exit 77; }
umount "$dir/disk" "$dir/found" 2> /dev/null
rm -rf "$dir" && mkdir -p "$dir/disk" "$dir/found"
truncate -s 48M "$dir/image" && mkfs.ext4 -q -F "$dir/image"
mount -o loop "$dir/image" "$dir/disk" 2> /dev/null || { rm -rf "$dir"; echo "skipped: no loop mounts here"; exit 77; }
"$saver" save "$dir/disk/run" > "$dir/said" 2> "$dir/errors" &
pid=$!
cleanup() { kill -9 "$pid" 2> /dev/null; wait "$pid" 2> /dev/null; umount "$dir/found" 2> /dev/null; umount "$dir/disk"; rm -rf "$dir"; }
trap cleanup EXIT
snapshots=${SNAPSHOTS:-12}
while [ "$(wc -l < "$dir/said")" -lt 2 ]; do sleep 0.02; done
for ((i = 0; i < snapshots; i++)); do
    sleep "0.$((RANDOM % 30 + 10))"
    kill -STOP "$pid" || { echo "the saver ended by itself: $(cat "$dir/errors")"; exit 1; }
    least=$(tail -n 1 "$dir/said")
    cp --sparse=always "$dir/image" "$dir/snapshot"
    kill -CONT "$pid"
    mount -o loop "$dir/snapshot" "$dir/found" || { echo "snapshot $i cannot be mounted"; exit 1; }
    "$saver" verify "$dir/found/run" "$least" || { echo "snapshot $i: lost or damaged"; exit 1; }
    umount "$dir/found"
done
echo "$snapshots power cuts, $(wc -l < "$dir/said") saves acknowledged, 0 lost, 0 damaged"
