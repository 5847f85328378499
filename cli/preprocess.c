#include "cli/args.h"

typedef struct options {
    const char *kind, *image, *out;
    int64_t     size;
} options;

static int run(const void *opaque)
{
    const options *o = opaque;
    return msd_preprocess(o->kind, o->image, o->size, o->out);
}

static const argument arguments[] = {
    {"KIND", 0, ARG_TEXT, offsetof(options, kind), NULL, true, "clip (CLIP's preprocessing) or train (a training target)"},
    {"IMAGE", 0, ARG_TEXT, offsetof(options, image), NULL, true, "PNG, JPEG or WebP; turned upright by its EXIF"},
    {"--out", 'o', ARG_TEXT, offsetof(options, out), "FILE", true, "safetensors with pixel_values (and time_ids for train)"},
    {"--size", 0, ARG_WHOLE, offsetof(options, size), "N", false, "side in pixels (default 224 for clip, 512 for train)"},
    {0},
};

const command command_preprocess = {
    .name = "preprocess",
    .summary = "a picture as the networks see it",
    .about = "Writes pixel_values (1,3,N,N) exactly as CLIP, or training, gets them.",
    .arguments = arguments,
    .examples = "  msd preprocess clip dog.jpg --out dog.safetensors\n"
                "  msd preprocess train dog.jpg --size 1024 --out dog.safetensors\n",
    .options_size = sizeof(options),
    .run = run,
};
