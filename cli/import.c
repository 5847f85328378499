#include "cli/args.h"

static void defaults(void *opaque)
{
    *(msd_import_options *)opaque = msd_import_defaults();
}

static int run(const void *opaque)
{
    return msd_import(opaque, stdout);
}

#define AT(member) offsetof(msd_import_options, member)

static const argument arguments[] = {
    {"KIND", 0, ARG_TEXT, AT(kind), NULL, true, "coco, bbox, folder, metadata or clips"},
    {"SRC", 0, ARG_TEXT, AT(source), NULL, true, "the dataset: a folder, or coco's instances JSON"},
    {"--output", 'o', ARG_TEXT, AT(output), "FILE", true, "the manifest to write, e.g. data.jsonl"},
    {"--phrase", 0, ARG_TEXT, AT(phrase), "TEXT", false, "folder, metadata: what captions call the one subject"},
    {"--caption", 0, ARG_TEXT, AT(caption), "TEXT", false, "of pictures that have none"},
    {"--box", 0, ARG_TEXT, AT(box), "X0,Y0,X1,Y1", false,
     "folder, metadata: where the one subject is, 0 to 1 (default: the whole picture)"},
    {"--bbox-format", 0, ARG_TEXT, AT(bbox_format), "FORM", false, "metadata: xywh or xyxy, in pixels (default xywh)"},
    {"--classes", 0, ARG_TEXT, AT(classes), "FILE", false, 
     "bbox, metadata: names of numbered classes, one a line, from 0"},
    {"--images", 0, ARG_TEXT, AT(images), "DIR", false, "coco, metadata: where the pictures are (default: beside SRC)"},
    {"--captions", 0, ARG_TEXT, AT(captions), "FILE", false, "coco: captions JSON (default: made of the categories)"},
    {"--masks", 0, ARG_FLAG, AT(masks), NULL, false, "coco: segmentations as PNGs, which cut the references"},
    {"--max-subjects", 0, ARG_WHOLE, AT(max_subjects), "N", false, "a picture; the largest are kept (default 4)"},
    {"--min-area", 0, ARG_NUMBER, AT(min_area), "SHARE", false,
     "of the picture that a box must cover (default 0.01 for coco, else 0)"},
    {"--pairs", 0, ARG_WHOLE, AT(pairs), "N", false, "clips: samples a clip (default 4)"},
    {"--min-gap", 0, ARG_WHOLE, AT(min_gap), "N", false, "clips: frames between target and reference (default 1)"},
    {"--box-units", 0, ARG_TEXT, AT(box_units), "UNITS", false, "clips: pixel or normalized (default pixel)"},
    {"--seed", 0, ARG_WHOLE, AT(seed), "N", false, "clips: other pairs for another seed (default 0)"},
    {"--headers", 0, ARG_FLAG, AT(headers), NULL, false,
     "looks at the headers of pictures only, without decoding them"},
    {"--quiet", 'q', ARG_FLAG, AT(run.quiet), NULL, false, "no progress, no summary"},
    {"--json", 0, ARG_FLAG, AT(run.json), NULL, false, "the summary as JSON"},
    {0},
};

const command command_import = {
    .name = "import",
    .summary = "makes a manifest of a dataset in another form: COCO, .bbox files, folders, clips",
    .about =
        "Writes a manifest (data.manifest of a run) with paths relative to it; pictures stay where they are.\n"
        "  folder    pictures with captions of the same name (a.jpg, a.txt), one subject in each: --phrase\n"
        "  metadata  Hugging Face: metadata.jsonl with file_name, text, and perhaps objects {bbox, categories}\n"
        "  bbox      SimpleTuner: beside each picture a.jpg a sidecar a.bbox (and a caption a.txt)\n"
        "  coco      instances JSON: largest objects first, categories as phrases; crowds are left out\n"
        "  clips     a folder of frames per clip, with boxes: target and reference are different frames\n"
        "docs/FORMATS.md describes each form. What cannot be used is left out, counted by reason, the first of each\n"
        "named. Without a reference of its own a subject's reference is the picture cropped at its box.\n"
        "Exit code 3: not one sample is usable; nothing is written then.",
    .arguments = arguments,
    .examples = "  msd import folder photos/ --phrase dog -o data.jsonl\n"
                "  msd import metadata hf-dataset/ -o data.jsonl\n"
                "  msd import bbox pictures/ -o data.jsonl\n"
                "  msd import coco instances_train2017.json --images train2017 --captions captions_train2017.json \\\n"
                "      --masks -o coco.jsonl\n"
                "  msd import clips clips/ --pairs 8 --min-gap 12 --seed 1 -o clips.jsonl\n",
    .options_size = sizeof(msd_import_options),
    .defaults = defaults,
    .run = run,
};
