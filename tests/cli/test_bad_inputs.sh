#!/usr/bin/env bash
# Datasets as they should not be: each row a mistake, a command, the exit code, a piece of the message; within five seconds, one
# "error[E_...]" line that ends what is printed, and no crash. The table is printed.
#   test_bad_inputs.sh MSD TMP
set -u
export OMP_WAIT_POLICY=passive
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp" || exit 1
failures=0
fail() {
  echo "FAIL $*"
  failures=$((failures + 1))
}
"$msd" synth tiny -o tiny --quiet || exit 1
"$msd" demo-data data --count 2 --quiet || exit 1
good=data/images/000000.png
cat >run.yaml <<'YAML'
model: {base: tiny, image_encoder: tiny/image_encoder}
adapter: {dim: 64, depth: 1, heads: 1, queries: 4}
data: {manifest: m.jsonl, resolution: 64}
train: {steps: 1, batch_size: 1}
output: {dir: run, checkpoint_every: 0}
YAML

# row NAME CODE TEXT ARGS...: runs msd
row() {
  local name=$1 code=$2 text=$3 from=$EPOCHREALTIME got=0 seconds said
  shift 3
  timeout 60 "$msd" "$@" >out 2>&1 </dev/null || got=$?
  seconds=$(awk "BEGIN {printf \"%.2f\", $EPOCHREALTIME - $from}")
  said=$(grep -aE -m 1 -- "$text" out)
  printf '%-44s exit %-3d %5s s  %s\n' "$name" $got "$seconds" "${said:0:150}"
  [ $got -eq "$code" ] || fail "$name: exit $got, expected $code: $(head -c 400 out)"
  [ -n "$said" ] || fail "$name: no '$text' in: $(head -c 400 out)"
  [ "$code" -ne 0 ] && awk "BEGIN {exit !($seconds > 5)}" && fail "$name: $seconds s, at most 5"
  [ "$code" -eq 0 ] || tail -n 1 out | grep -qaE '^error\[E_[A-Z_]+\] ' || fail "$name: the last line is no error: $(tail -n 1 out)"
  grep -qaP '[\x00-\x08\x0b\x0c\x0e-\x1f]' out && fail "$name: control characters are printed"
  return 0
}
check() { row "$1" "$2" "$3" check run.yaml --threads 1; } # NAME CODE TEXT
subject() { # SUBJECT [IMAGE] [UNITS]: a manifest of one line
  printf '{"image": "%s", "text": "a dog", "box_units": "%s", "subjects": [%s]}\n' "${2:-$good}" "${3:-normalized}" "$1" >m.jsonl
}
dog='{"phrase": "dog", "box": [0, 0, 1, 1]}'
picture() { subject "$dog" "$1"; } # PATH

# ---- manifest and folder
rm -f m.jsonl
check 'manifest missing' 3 'm.jsonl: no such file'
: >m.jsonl
check 'manifest empty' 3 'no samples in it'
printf '\n \n\n' >m.jsonl
check 'manifest of blank lines' 3 'no samples in it'
rm m.jsonl && mkdir m.jsonl
check 'manifest is a folder' 3 'm.jsonl'
rmdir m.jsonl && mkfifo m.jsonl
check 'manifest is a pipe' 3 'm.jsonl'
rm m.jsonl
picture $good
cat m.jsonl >two && head -c -20 m.jsonl >>two && mv two m.jsonl
check 'last line truncated' 3 'm.jsonl:2: not JSON'
(printf '{"image": "'; head -c 100000000 /dev/zero | tr '\0' a) >m.jsonl
check 'a line of 100 MB' 3 'm.jsonl:1: a line longer than 1048576 bytes'
truncate -s 1T m.jsonl
check 'a sparse manifest of 1 TB' 3 'm.jsonl:1: a line longer than'
rm m.jsonl
(head -c 100000 /dev/zero | tr '\0' '[') >m.jsonl
check 'nested 100,000 deep' 3 'm.jsonl:1: nested too deep'
printf '\xef\xbb\xbf{}\n' >m.jsonl
check 'byte order mark' 3 'byte order mark'
printf '{"image": "\xff.png", "text": "", "box_units": "pixel"}\n' >m.jsonl
check 'file name not UTF-8' 3 'm.jsonl:1: not JSON'
printf '{"image": "a\\nb.png", "text": "", "box_units": "pixel"}\n' >m.jsonl
check 'file name with a line break' 3 'm.jsonl:1: image: found'
picture "$(head -c 300 /dev/zero | tr '\0' n).png"
check 'file name of 304 bytes' 3 'm.jsonl:1: image:'
long=$(head -c 251 /dev/zero | tr '\0' n).png
cp $good "$long"
picture "$long"
check 'file name of 255 bytes' 0 'nothing wrong'
picture "$PWD/$good"
check 'absolute path' 0 'nothing wrong'
picture "data/../$good"
check 'path with ..' 0 'nothing wrong'
ln -s loop.png loop.png
picture loop.png
check 'link to itself' 3 'm.jsonl:1: image: .*loop.png'
picture data/images
check 'picture is a folder' 3 'm.jsonl:1: image: .*data/images'
mkfifo pipe.png
picture pipe.png
check 'picture is a pipe' 3 'm.jsonl:1: image: .*pipe.png: found a device, pipe or socket'
picture /dev/zero
check 'picture is a device' 3 'm.jsonl:1: image: /dev/zero: found a device'
picture nowhere.png
check 'picture missing' 3 'm.jsonl:1: image: .*nowhere.png'
row 'picture missing, in training' 3 'nowhere.png' train run.yaml --quiet
picture $good
cat m.jsonl >>m.jsonl.2 && cat m.jsonl m.jsonl.2 >two && mv two m.jsonl
check 'the same sample twice' 0 'm.jsonl:2: the same image and text as on line 1'
echo '{"text": "a", "box_units": "pixel"}' >m.jsonl
check 'image missing in the line' 3 'm.jsonl:1: image: missing'
echo '{"image": null, "text": 5, "box_units": "inch"}' >m.jsonl
check 'null, wrong types: image' 3 'm.jsonl:1: image: found null'
check 'null, wrong types: text' 3 'm.jsonl:1: text: found 5'
check 'null, wrong types: units' 3 'm.jsonl:1: box_units: found "inch"'
echo '{"image": "'$good'", "caption": "a", "box_units": "pixel"}' >m.jsonl
check 'a key that is none' 3 'm.jsonl:1: caption: unknown key'
echo '[1]' >m.jsonl
check 'a line that is a list' 3 'm.jsonl:1: sample: found a list'
picture $good
row 'fewer samples than a batch' 0 '.*' train run.yaml --set train.batch_size=3 --set output.dir=few
for i in $(seq 100); do cat m.jsonl; done >hundred
for i in $(seq 1000); do cat hundred; done >m.jsonl
check '100,000 lines' 0 '100000 samples'

# ---- pictures
: >empty.png
picture empty.png
check 'picture of 0 bytes' 3 'm.jsonl:1: image: .*empty.png: '
size=$(stat -c %s $good)
for bytes in 1 7 8 20 32 33 40 100 $((size / 2)) $((size - 13)) $((size - 12)) $((size - 1)); do
  head -c $bytes $good >cut.png
  picture cut.png
  check "PNG cut to $bytes of $size bytes" 3 'm.jsonl:1: image: .*cut.png: '
done
row 'PNG cut, in training' 3 'cut.png' train run.yaml --quiet
base64 -d >small.jpg <<'TEXT'
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAKBueIx4ZKCMgoy0qqC+8P//8Nzc8P//////////////////////////////////////////////////////////2wBDAaq0
tPDS8P//////////////////////////////////////////////////////////////////////////////wAARCAAQABgDASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAA
AAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RF
RkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3
+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYk
NOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU
1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwAbHUdaM8cHijP59vx5pfr/AJ/z6/jQAY6f5/z/AJNFJ1xmigD/2Q==
TEXT
picture small.jpg
check 'a whole JPEG' 0 'nothing wrong'
size=$(stat -c %s small.jpg)
for bytes in 2 3 20 160 300 600 630 640 $((size - 10)); do
  head -c $bytes small.jpg >cut.jpg
  picture cut.jpg
  check "JPEG cut to $bytes of $size bytes" 3 'm.jsonl:1: image: .*cut.jpg: '
done
cp $good png.jpg
picture png.jpg
check 'PNG named .jpg' 0 'nothing wrong'
mislabelled() { # NAME TEXT: standard input is the file
  cat >wrong.png
  picture wrong.png
  check "$1 named .png" 3 "m.jsonl:1: image: .*wrong.png: found $2"
}
printf '<!DOCTYPE html><html><body>404</body></html>' | mislabelled 'HTML page' 'an HTML page'
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n' | mislabelled 'text' '.*expected a PNG'
printf 'GIF89a\1\0\1\0\0\0\0;' | mislabelled 'GIF' 'a GIF'
printf '<svg xmlns="http://www.w3.org/2000/svg"/>' | mislabelled 'SVG' '.*expected a PNG'
printf 'II*\0\10\0\0\0' | mislabelled 'TIFF' 'a TIFF'
printf 'BM\0\0\0\0\0\0\0\0' | mislabelled 'BMP' '.*expected a PNG'
printf '\0\0\0\30ftypheic\0\0\0\0' | mislabelled 'HEIC' '.*expected a PNG'
head -c 4096 /dev/zero | mislabelled 'zeros' '.*expected a PNG'
header() { # NAME TEXT BASE64 of a PNG's header
  echo "$3" | base64 -d >header.png
  picture header.png
  check "$1" 3 "m.jsonl:1: image: .*header.png: .*$2"
}
header '1-bit PNG of 60000 x 60000' '60000 x 60000' iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgAQAAAACoqUjv
header 'PNG of 8000 x 8001: 64 million' '8000 x 8001' iVBORw0KGgoAAAANSUhEUgAAH0AAAB9BCAIAAABCz+kG
header 'PNG of 1 x 20000' '1 x 20000' iVBORw0KGgoAAAANSUhEUgAAAAEAAE4gCAIAAABIs4tp
header 'PNG of width 0' '' iVBORw0KGgoAAAANSUhEUgAAAAAAAAAFCAIAAADkJHr2
echo iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNITEoGAAJOASfAYZ4ZAAAAAElFTkSuQmCC | base64 -d >one.png
picture one.png
check 'PNG of 1 x 1' 0 'nothing wrong'
truncate -s 1T sparse.png
picture sparse.png
check 'a sparse picture of 1 TB' 3 'm.jsonl:1: image: .*sparse.png'
cp $good flipped.png
printf '\377\0\377\0' | dd of=flipped.png bs=1 seek=200 conv=notrunc status=none
picture flipped.png
check 'PNG with four bytes changed' 3 'm.jsonl:1: image: .*flipped.png: '
subject '{"phrase": "dog", "box": [0, 0, 1, 1], "reference": "cut.png", "mask": "one.png"}'
check 'a reference that is cut' 3 'm.jsonl:1: subjects.0..reference: .*cut.png'
subject '{"phrase": "dog", "box": [0, 0, 1, 1], "mask": "one.png"}'
check 'a mask of another size' 3 'm.jsonl:1: subjects.0..mask: .*found 1 x 1, expected the 256 x 256'

# ---- boxes
box() { # NAME CODE TEXT BOX [UNITS]
  subject "{\"phrase\": \"dog\", \"box\": $4}" $good "${5:-normalized}"
  check "$1" "$2" "$3"
}
box 'box of NaN' 3 'm.jsonl:1: not JSON' '[NaN, 0, 1, 1]'
box 'box of Infinity' 3 'm.jsonl:1: not JSON' '[0, 0, Infinity, 1]'
box 'box of 1e400' 3 'm.jsonl:1: not JSON' '[0, 0, 1e400, 1]'
box 'box with x0 > x1' 3 'box: found \[0.5, 0, 0.1, 1\], expected x0 < x1' '[0.5, 0, 0.1, 1]'
box 'box of width 0' 3 'expected x0 < x1' '[0.5, 0, 0.5, 1]'
box 'box of height 0' 3 'expected x0 < x1 and y0 < y1' '[0, 0.5, 1, 0.5]'
box 'box beside the picture' 3 'box: found .*outside of the picture' '[1.1, 0, 1.2, 1]'
box 'box beside the picture, in pixels' 3 'box: .*outside of the picture of 256 x 256' '[300, 0, 400, 50]' pixel
box 'box partly outside' 0 'warning: .*m.jsonl:1: .*reaches outside of the picture and is clipped' '[0.5, 0, 1.2, 1]'
box 'box partly outside, in pixels' 0 'warning: .*m.jsonl:1: .*is clipped' '[100, 0, 300, 50]' pixel
box 'negative box' 0 'warning: .*is clipped' '[-0.2, 0, 0.5, 1]'
box 'wholly negative box' 3 'outside of the picture' '[-2, -2, -1, -1]'
box 'pixels as normalised' 3 'if these are pixels, set box_units to "pixel"' '[10, 20, 200, 250]'
box 'normalised as pixels' 3 'if these are from 0 to 1, set box_units to "normalized"' '[0.1, 0.1, 0.9, 0.9]' pixel
box 'xywh as xyxy' 3 'not x, y, width, height' '[100, 120, 50, 60]' pixel
box 'box of 1e308' 3 'expected numbers from 0 to 1' '[0, 0, 1e308, 1e308]'
box 'box of denormal width' 0 'nothing wrong' '[0, 0, 5e-324, 1]'
box 'box below one latent cell' 0 'nothing wrong' '[0.5, 0.5, 0.501, 0.501]'
box 'box of three numbers' 3 'expected a list of four numbers' '[0, 0, 1]'
box 'box of strings' 3 'expected a list of four numbers' '["0", "0", "1", "1"]'
box 'box that is null' 3 'expected a list of four numbers' null
subject "$dog, $dog, $dog, $dog, $dog"
check 'more subjects than data.max_subjects' 3 'subjects: found 5, expected at most the 4'
subject ''
check 'no subjects' 0 'nothing wrong'
subject "$dog, $dog"
check 'equal boxes' 0 'nothing wrong'
subject '{"phrase": "dog"}'
check 'phrase without box' 3 'subjects.0..box: missing'
subject '{"box": [0, 0, 1, 1]}'
check 'box without phrase' 3 'subjects.0..phrase: missing'
subject '{"phrase": "", "box": [0, 0, 1, 1]}'
check 'empty phrase' 3 'subjects.0..phrase: found ""'
subject '{"phrase": "dog", "box": [0, 0, 1, 1], "reference_box": [0, 0, 1, 1]}'
check 'reference_box without reference' 3 'subjects.0..reference_box: given without a reference'
subject '"dog"'
check 'a subject that is a string' 3 'subjects.0.: found "dog"'
box 'in training too: box of width 0' 3 'expected x0 < x1' '[0.5, 0, 0.5, 1]'
row 'the same, in training' 3 'm.jsonl:1: .*expected x0 < x1' train run.yaml --quiet

# ---- all at once
{
  echo '{"image": "nowhere.png", "text": "a", "box_units": "pixel"}'
  echo 'nonsense'
  echo '{"image": "cut.png", "text": "a", "box_units": "pixel"}'
} >m.jsonl
check 'three mistakes: the first' 3 'm.jsonl:1: image: .*nowhere.png'
check 'three mistakes: the second' 3 'm.jsonl:2: not JSON'
check 'three mistakes: the third' 3 'm.jsonl:3: image: .*cut.png'

# ---- one bad picture among 1,000 that share a few files. Which line is drawn first, training says itself.
thousand() { # LINE or 0 for all: a manifest where that line's picture is bad
  for i in $(seq 1000); do
    echo "{\"image\": \"data/images/00000$((i % 2)).png\", \"text\": \"a dog $i\", \"box_units\": \"normalized\", \"subjects\": [$dog]}"
  done | if [ "$1" = 0 ]; then sed 's#data/images/00000[01].png#cut.png#'; else sed "$1s#data/images/00000[01].png#cut.png#"; fi >m.jsonl
}
thousand 0
row '1,000 bad pictures, in training' 3 'cut.png' train run.yaml --quiet
line=$(grep -oaE 'm.jsonl:[0-9]+|line [0-9]+' out | head -n 1 | grep -oE '[0-9]+$')
thousand "${line:-1}"
check 'one bad of 1,000: check' 3 "m.jsonl:$line: image: .*cut.png"
row 'one bad of 1,000: train, fatal' 3 "m.jsonl:$line: .*cut.png" train run.yaml --quiet
row 'one bad of 1,000: train, skip' 0 "warning: .*m.jsonl:$line: .*cut.png.*stands in for it" train run.yaml \
  --set data.bad_samples=skip --set output.dir=skipped
grep -qE '1 bad sample' out || fail "the skipped sample is not counted: $(cat out)"
[ -e skipped/adapter.safetensors ] || fail "with data.bad_samples=skip training did not end"

[ ! -e run/adapter.safetensors ] || fail "a run that failed left an adapter"
echo "$failures failures"
exit $((failures > 0))
