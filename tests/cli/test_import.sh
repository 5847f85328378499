#!/usr/bin/env bash
# Every kind of import from a tiny dataset made here: the lines of the manifest, what is left out and why, `msd check` of the result.
#   test_import.sh MSD TMP
set -eu
msd=$1
tmp=$2
rm -rf "$tmp"
mkdir -p "$tmp"
cd "$tmp"
fail() {
  echo "FAIL $*"
  exit 1
}
imports() { "$msd" import "$@" >said 2>&1 || fail "import $*: exit $?: $(cat said)"; }
refused() { # CODE TEXT ARGS...
  local code=0
  "$msd" import "${@:3}" >said 2>&1 || code=$?
  [ $code -eq "$1" ] && grep -q -- "$2" said || fail "import ${*:3}: exit $code, expected $1 and '$2': $(cat said)"
}
says() { grep -qE -- "$1" said || fail "no '$1' in: $(cat said)"; }
holds() { # FILE LINE TEXT: line LINE of FILE is exactly TEXT
  [ "$(sed -n "$2p" "$1")" = "$3" ] || fail "$1:$2 is $(sed -n "$2p" "$1"), expected $3"
}
lines() { [ "$(wc -l <"$1")" -eq "$2" ] || fail "$1 has $(wc -l <"$1") lines, expected $2: $(cat "$1")"; }
sound() { # the manifest passes msd check
  "$msd" check run.yaml --set data.manifest="$1" --quiet 2>said || fail "check of $1: $(cat said)"
}

"$msd" synth tiny -o tiny --quiet
"$msd" demo-data made --count 3 --quiet
printf 'model: {base: tiny, image_encoder: tiny/image_encoder}\ndata: {manifest: x, resolution: 64}\n' >run.yaml
mkdir -p f/sub out
for i in 0 1 2; do cp made/images/00000$i.png f/sub/p$i.png; done

# folder: captions beside the pictures, paths relative to the manifest, one skip of each reason
printf '\xef\xbb\xbf\n  a dog, sitting \nmore\n' >f/sub/p0.txt
echo 'a bull-dog' >f/sub/p1.caption
echo 'a text' >f/bad.txt
echo 'no picture' >f/bad.jpg
: >f/old.gif
cp f/sub/p0.png f/$'wrong\xff.png'
echo 'a dog' >f/$'wrong\xff.txt'
mkfifo f/pipe.png
echo 'a dog' >f/pipe.txt
imports folder f --phrase dog --box 0,0.25,1,1 -o out/folder.jsonl
lines out/folder.jsonl 2
holds out/folder.jsonl 1 '{"image":"../f/sub/p0.png","text":"a dog, sitting","subjects":[{"phrase":"dog","box":[0.0,0.25,1.0,1.0]}],"box_units":"normalized"}'
holds out/folder.jsonl 2 '{"image":"../f/sub/p1.png","text":"a bull-dog","subjects":[{"phrase":"dog","box":[0.0,0.25,1.0,1.0]}],"box_units":"normalized"}'
says 'skipped +1  a picture that is not PNG, JPEG or WebP: f/old.gif'
says 'skipped +2  a picture that cannot be read: f/bad.jpg: found text'
says 'skipped +1  a picture without a caption beside it: f/sub/p2.png'
says 'skipped +1  a file name that is not UTF-8.*wrong.xFF.png'
says '2 samples with 2 subjects imported; 5 skipped'
sound out/folder.jsonl
imports folder f --phrase cat --caption 'a cat' -o out/again.jsonl --json
says '"samples": 3'
says '"reason": "a phrase that is not in its caption"'
refused 2 'phrase is missing' folder f -o out/none.jsonl
refused 2 "is no box" folder f --phrase dog --box 1,1,0,0 -o out/none.jsonl
refused 2 'did you mean folder' foldr f -o out/none.jsonl
refused 3 'no such file or folder' folder nowhere --phrase dog -o out/none.jsonl
mkdir empty
refused 3 'nothing to import' folder empty --phrase dog -o out/none.jsonl
rm f/bad.* f/old.gif f/wrong* f/pipe.*
echo "ok   folder"

# metadata: xywh boxes clipped, classes by name and number, each kind of mistake
cat >f/metadata.jsonl <<'JSON'
{"file_name":"sub/p0.png","text":"a dog and a cat","objects":{"bbox":[[10,10,50,60],[200,200,100,100],[5,5,0,10]],"categories":["dog","cat","x"]}}
{"file_name":"sub/p1.png","text":"a bird","objects":[{"bbox":[0,0,64,64],"category":1}]}
{"file_name":"sub/p2.png","text":"nothing"}
{"file_name":"sub/none.png","text":"x"}
{"file_name":"sub/p2.png","text":"x","objects":{"bbox":[[1,1,9,9]],"categories":[]}}
{"file_name":7}
[]
{"file_name":
JSON
printf 'dog\nbird\n' >classes
imports metadata f --classes classes -o out/metadata.jsonl
lines out/metadata.jsonl 4
holds out/metadata.jsonl 1 '{"image":"../f/sub/p0.png","text":"a dog and a cat","subjects":[{"phrase":"dog","box":[10.0,10.0,60.0,70.0]},{"phrase":"cat","box":[200.0,200.0,256.0,256.0]}],"box_units":"pixel"}'
holds out/metadata.jsonl 2 '{"image":"../f/sub/p1.png","text":"a bird","subjects":[{"phrase":"bird","box":[0.0,0.0,64.0,64.0]}],"box_units":"pixel"}'
holds out/metadata.jsonl 3 '{"image":"../f/sub/p2.png","text":"nothing","subjects":[],"box_units":"pixel"}'
for reason in 'a box without width or height' 'a picture that cannot be read' 'a line without file_name' 'a line that is no object' \
  'a line that is not JSON' 'objects without as many categories'; do says "skipped +1  $reason"; done
sound out/metadata.jsonl
imports metadata f/metadata.jsonl --classes classes --bbox-format xyxy --phrase thing -o out/xyxy.jsonl
grep -q '"dog","box":\[10.0,10.0,50.0,60.0\]' out/xyxy.jsonl || fail "xyxy: $(cat out/xyxy.jsonl)"
grep -q '"thing","box":\[0.0,0.0,1.0,1.0\]' out/xyxy.jsonl || fail "--phrase: $(cat out/xyxy.jsonl)"
echo "ok   metadata"

# bbox: a JSON array, JSON Lines, YOLO; a mask; at most two subjects, the largest
cp made/images/000000.png f/sub/mask.png
printf '[{"label":"dog","bbox":[0.1,0.1,0.5,0.5],"mask":"mask.png"},{"label":"cat","bbox":[10,10,50,50]}]' >f/sub/p0.bbox
printf '{"label":"a","bbox":[0,0,0.2,0.2]}\n{"label":"b","bbox":[0,0,0.9,0.9]}\n{"label":"c","bbox":[0,0,0.5,0.5]}\n' >f/sub/p1.bbox
printf '0 0.5 0.5 0.25 0.5\n7 0.5 0.5 0.1 0.1\nnonsense\n' >f/sub/p2.bbox
imports bbox f --classes classes --max-subjects 2 -o out/bbox.jsonl
lines out/bbox.jsonl 3
holds out/bbox.jsonl 1 '{"image":"../f/sub/p0.png","text":"a dog, sitting","subjects":[{"phrase":"dog","box":[0.1,0.1,0.5,0.5],"mask":"../f/sub/mask.png"}],"box_units":"normalized"}'
holds out/bbox.jsonl 2 '{"image":"../f/sub/p1.png","text":"a bull-dog","subjects":[{"phrase":"b","box":[0.0,0.0,0.9,0.9]},{"phrase":"c","box":[0.0,0.0,0.5,0.5]}],"box_units":"normalized"}'
holds out/bbox.jsonl 3 '{"image":"../f/sub/p2.png","text":"a dog","subjects":[{"phrase":"dog","box":[0.375,0.25,0.625,0.75]}],"box_units":"normalized"}'
for reason in 'a box in pixels where numbers from 0 to 1 are expected' 'more subjects than --max-subjects: a of' \
  'a class number that --classes does not name: f/sub/p2.bbox:2: 7' 'a line that is neither JSON nor YOLO' \
  'a picture without a .bbox beside it: f/sub/mask.png'; do says "skipped +1  $reason"; done
sound out/bbox.jsonl
echo "ok   bbox"

# coco: the largest first, crowds and boxes without a side left out, polygons and run lengths as masks
# (30,40)..(130,140) of 256 x 256, column by column
runs=7720
for _ in $(seq 99); do runs+=",100,156"; done
runs+=",100,32372"
cat >instances.json <<JSON
{"info":{"x":[1,{"a":"]}\\""}]},
"images":[{"id":7,"file_name":"p0.png","width":256,"height":256},{"id":8,"file_name":"p1.png"},{"id":9,"file_name":"p2.png","width":300,"height":256},
 {"id":10,"file_name":"gone.png"},{"id":11},5],
"annotations":[
 {"id":1,"image_id":7,"category_id":1,"bbox":[10,20,100,50],"iscrowd":0,"segmentation":[[10,20,110,20,110,70,10,70]]},
 {"id":2,"image_id":7,"category_id":3,"bbox":[30,40,100,100],"iscrowd":0,"segmentation":{"size":[256,256],"counts":[$runs]}},
 {"id":3,"image_id":8,"category_id":3,"bbox":[30,40,100,0],"iscrowd":0,"segmentation":[]},
 {"id":4,"image_id":8,"category_id":3,"bbox":[0,0,100,200],"iscrowd":1},
 {"id":5,"image_id":8,"category_id":1,"bbox":[0,0,120,200],"segmentation":[[1,2]]},
 {"id":6,"image_id":8,"category_id":99,"bbox":[0,0,120,200]},
 {"id":7,"image_id":8,"category_id":1,"bbox":[0,0,3,2]},
 {"id":8,"image_id":99,"category_id":1,"bbox":[0,0,3,2]},
 {"id":9,"image_id":9,"category_id":1,"bbox":[0,0,90,90]},
 {"id":10,"image_id":8,"category_id":1,"bbox":[1,2,3]}],
"categories":[{"id":1,"name":"dog"},{"id":3,"name":"elephant"}]}
JSON
echo '{"annotations":[{"image_id":7,"caption":"two animals"},{"image_id":7,"caption":"an elephant and a dog"}]}' >captions.json
imports coco instances.json --images f/sub --captions captions.json --masks -o out/coco.jsonl
lines out/coco.jsonl 2
holds out/coco.jsonl 1 '{"image":"../f/sub/p0.png","text":"an elephant and a dog","subjects":[{"phrase":"elephant","box":[30.0,40.0,130.0,140.0],"mask":"coco-masks/000000000007-1.png"},{"phrase":"dog","box":[10.0,20.0,110.0,70.0],"mask":"coco-masks/000000000007-0.png"}],"box_units":"pixel"}'
holds out/coco.jsonl 2 '{"image":"../f/sub/p1.png","text":"a dog","subjects":[{"phrase":"dog","box":[0.0,0.0,120.0,200.0]}],"box_units":"pixel"}'
for reason in 'a crowd' 'a box without width or height' 'a box without a name' 'a box smaller than --min-area' \
  'a picture of another size than its annotations' 'a picture without annotated objects' 'an annotation of a picture that images'; do
  says "skipped +1  $reason"
done
says 'skipped +3  an entry of the JSON'
says 'taken +1  a subject without a mask: instances.json: annotations\[4\]'
sound out/coco.jsonl
refused 2 'is there already' coco instances.json --images f/sub --masks -o out/coco.jsonl
head -c 600 instances.json >cut.json
refused 3 'ends in the middle' coco cut.json -o out/none.jsonl
echo '{"images":[]}' >few.json
refused 3 'has no list annotations' coco few.json -o out/none.jsonl
(printf '{"images":['; head -c 1000000 /dev/zero | tr '\0' '[') >deep.json
refused 3 'ends in the middle' coco deep.json -o out/none.jsonl
echo "ok   coco"

# clips: other frames as references, the same for the same seed, at least --min-gap apart
mkdir -p clips/one clips/two clips/none
for i in 0 1 2 3 4; do
  cp made/images/00000$((i % 3)).png clips/one/f$i.png
  cp made/images/000001.png clips/two/g$i.png
  echo "{\"frame\":\"f$i.png\",\"subjects\":[{\"phrase\":\"dog\",\"box\":[$((i + 1)),10,100,200]},{\"id\":3,\"label\":\"cat\",\"bbox\":[20,20,50,60]}]}" >>clips/one/boxes.jsonl
  echo "{\"box_units\":\"normalized\",\"text\":\"a bird $i\",\"subjects\":[{\"phrase\":\"bird\",\"box\":[0.1,0.1,0.5,0.$((5 + i))]}]}" >clips/two/g$i.json
done
echo 'a dog and a cat' >clips/one.txt
cp made/images/000000.png clips/none/x.png
imports clips clips/ --pairs 3 --min-gap 2 -o out/clips.jsonl
lines out/clips.jsonl 6
says 'skipped +1  a clip without two frames of one subject: clips/none'
sound out/clips.jsonl
while read -r target reference; do
  gap=$((target - reference))
  [ "${gap#-}" -ge 2 ] || fail "target $target and reference $reference are $gap frames apart"
done < <(sed -nE 's/.*"image":"[^"]*[fg]([0-9]).png".*"reference":"[^"]*[fg]([0-9]).png".*/\1 \2/p' out/clips.jsonl)
grep -q '"text":"a dog and a cat"' out/clips.jsonl && grep -qE '"text":"a bird [0-4]"' out/clips.jsonl || fail "captions: $(cat out/clips.jsonl)"
# a reference box is that of the reference's own frame: f3 has 4, 10, 100, 200
grep -oE '"reference":"[^"]*f[0-9].png","reference_box":\[[0-9]+\.0,10' out/clips.jsonl |
  sed -E 's/.*f([0-9]).png.*\[([0-9]+).*/\1 \2/' | while read -r frame x0; do [ "$x0" -eq $((frame + 1)) ] || exit 1; done ||
  fail "reference boxes: $(cat out/clips.jsonl)"
imports clips clips --pairs 3 --min-gap 2 -o out/same.jsonl
cmp out/clips.jsonl out/same.jsonl
imports clips clips --pairs 3 --min-gap 2 --seed 1 -o out/other.jsonl
if cmp -s out/clips.jsonl out/other.jsonl; then fail "another seed draws the same pairs"; fi
refused 2 'min-gap' clips clips --min-gap 0 -o out/none.jsonl
refused 3 'not one usable sample' clips clips --min-gap 9 -o out/none.jsonl
echo "ok   clips"

# what check says of a dataset: one file is a copy, one phrase is not in its caption
cp f/sub/p1.png f/sub/copy.png
printf '%s\n' '{"image": "f/sub/p1.png", "text": "a dog", "box_units": "normalized", "subjects": [{"phrase": "dog", "box": [0, 0, 0.5, 0.5]}]}' \
  '{"image": "f/sub/copy.png", "text": "a cat", "box_units": "normalized", "subjects": [{"phrase": "dog", "box": [0, 0, 1, 1]}]}' >check.jsonl
"$msd" check run.yaml --set data.manifest=check.jsonl >said 2>&1 || fail "check: $(cat said)"
says 'width of pictures +256 to 256, median 256'
says '256..511 +2  #'
says 'box, of the picture +25 to 100 %, median 100 %'
says 'phrases not in their caption: 1 \(lines 2\)'
says 'files with the content of another: 1'
"$msd" check run.yaml --set data.manifest=check.jsonl --json >said 2>/dev/null || fail "check --json: $(cat said)"
says '"phrases_not_in_caption": 1'
says '"files_with_content_of_another": 1'
echo "ok   statistics"

[ ! -e out/none.jsonl ] || fail "a refused import left a manifest"
[ -z "$(ls -A out | grep -vE '^(folder|again|metadata|xyxy|bbox|coco|clips|same|other).jsonl$|^coco-masks$')" ] || fail "left: $(ls -A out)"
