/* libmsd: MS-Diffusion in C. Everything the program `msd` does, as functions.
 *
 *     msd_generate_options o = msd_generate_defaults();
 *     o.model = "sdxl/"; o.prompt = "a dog on the beach"; o.output = "dog.png";
 *     int status = msd_generate(&o);
 *     if (status) fprintf(stderr, "%s\n", msd_message());
 *
 * Every function returns the exit code of docs: 0 done, 2 usage or config, 3 dataset, 4 model files,
 * 5 checkpoint or cache, 6 device, 7 I/O or disk full, 8 numeric, 9 distributed, 130/143 interrupted
 * after a clean save; msd_message() then holds one line that says what, where, and what to do.
 * Strings stay the caller's. Paths may be relative to the working directory unless said otherwise.
 * Text results go to `out`; progress and warnings go to stderr. */
#ifndef MSD_H
#define MSD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

const char *msd_version(void); /* "0.1.0" */
const char *msd_message(void); /* "error[E_SHAPE] ..."; this thread's last failure */

/* The entry of `names` (ended by NULL) that a misspelt `word` most likely means, or NULL. */
const char *msd_nearest(const char *word, const char *const *names);
/* Composes the message of a usage error and returns 2. */
int msd_usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Where and how to compute. Zero or NULL: automatic. */
typedef struct msd_run {
    const char *device;  /* "auto" (default), "cpu" */
    const char *dtype;   /* "auto" (default: f32 on the cpu), "f32" */
    int64_t     threads; /* 0: as many as this process may use */
    bool        no_graphs; /* a GPU does every step call by call */
    bool        quiet;   /* no progress, no information lines; warnings stay */
    bool        json;    /* machine-readable text on `out` where a command prints some */
} msd_run;

typedef struct msd_list { /* strings, e.g. every --set in order */
    const char **item;
    int          count;
} msd_list;

typedef struct msd_train_options {
    msd_run     run;
    const char *config;       /* RUN.yaml */
    msd_list    set;          /* "train.steps=100" */
    const char *resume;       /* "none" (default), "auto", or a step folder */
    msd_list    allow_change; /* keys that may differ from the checkpoint's config */
    const char *dump_batches; /* folder for every micro-batch as train_step's inputs, or NULL */
} msd_train_options;
int msd_train(const msd_train_options *o);

typedef struct msd_prepare_options {
    msd_run     run;
    const char *config;           /* RUN.yaml; data.cache names the folder */
    msd_list    set;
    bool        verify, stat, gc; /* look after the cache instead of filling it */
} msd_prepare_options;
/* Encodes the dataset of a run into its cache. */
int msd_prepare(const msd_prepare_options *o, FILE *out);

/* Validates config, model folder and dataset; prints everything that is wrong at once. headers: pictures are
 * not decoded. */
int msd_check(const char *config, const msd_list *set, bool headers, const msd_run *run, FILE *out);

typedef struct msd_preview_options {
    msd_run     run;
    const char *config; /* RUN.yaml */
    msd_list    set;
    const char *output; /* folder for the pages */
    int64_t     count;  /* samples; 0: 16 */
} msd_preview_options;
/* Draws the first samples of a run as the trainer sees them: OUTPUT/step-NNNNNN-P.png each, OUTPUT/sheet.png all. */
int msd_preview(const msd_preview_options *o);

typedef struct msd_generate_options {
    msd_run     run;
    const char *model, *image_encoder, *adapter; /* the last two NULL: plain SDXL */
    msd_list    subjects;                        /* "image=F,phrase=T,box=x0,y0,x1,y1[,mask=F][,scale=S]" */
    const char *prompt;
    const char *negative_prompt;                 /* NULL: the reference's */
    const char *output;                          /* OUT.png */
    int64_t     width, height;                   /* 0: 1024, or the UNet's sample_size x VAE factor */
    int64_t     steps, seed, batch_count;
    double      cfg_scale, scale;
    const char *sampling_method, *scheduler;
    bool        drop_grounding;
} msd_generate_options;
msd_generate_options msd_generate_defaults(void);
int msd_generate(const msd_generate_options *o);

typedef struct msd_report_options {
    msd_run     run;
    const char *run_folder;
    const char *output; /* NULL: RUN/report.html */
} msd_report_options;
/* One self-contained HTML page of a run: curves, samples over time, dataset, config. */
int msd_report(const msd_report_options *o);

/* Writes an adapter file from a step folder, a run folder (its newest step) or an adapter file.
 * The form follows dst's ending: .safetensors or .bin. dtype NULL: as stored. ema: the averaged weights of a step. */
int msd_export(const char *dst, const char *src, const char *dtype, bool ema);
/* Tensors, shapes, dtypes, metadata, and what kind of model it seems to be. */
int msd_inspect(const char *path, bool json, FILE *out);

/* A random pipeline folder with image encoder; size "tiny", "half" or "sdxl"; dtype "f32", "f16", "bf16". */
int msd_synth(const char *folder, const char *size, uint64_t seed, const char *dtype, bool quiet);

typedef struct msd_import_options {
    msd_run     run;
    const char *kind;                     /* "coco", "bbox", "folder", "metadata", "clips": docs/FORMATS.md */
    const char *source, *output;          /* output: the manifest */
    const char *images, *captions;        /* folder of the pictures; captions JSON (coco); NULL: none */
    const char *classes;                  /* file with the names of numbered classes, or NULL */
    const char *phrase, *caption, *box;   /* of the one subject (folder, metadata); of pictures without caption */
    const char *bbox_format, *box_units;  /* "xywh" or "xyxy"; "pixel" or "normalized" */
    double      min_area;                 /* share of the picture; negative: 0.01 for coco, else 0 */
    int64_t     max_subjects, pairs, min_gap, seed;
    bool        masks, headers;
} msd_import_options;
msd_import_options msd_import_defaults(void);
/* Other people's datasets into a manifest; says what was left out, and why. Status 3: not one usable sample. */
int msd_import(const msd_import_options *o, FILE *out);

/* A small dataset with two subjects a picture: of photographs in `photos`, or (NULL) of drawn shapes. */
int msd_demo_data(const char *folder, const char *photos, int64_t count, uint64_t seed, bool quiet);

typedef struct msd_probe_options {
    msd_run     run;
    const char *module; /* "unet", "resampler", "train_step", ...: docs/FORMATS.md */
    const char *model, *image_encoder, *adapter, *controlnet, *in, *out;
    msd_list    set;    /* "key=value" */
} msd_probe_options;
int msd_probe(const msd_probe_options *o);

/* One JSON array of 77 ids per line of `in`. which: 1 or 2, the tokenizer. */
int msd_tokenize(const char *model, int64_t which, FILE *in, FILE *out);
/* kind "clip" or "train"; writes pixel_values (and time_ids) to the safetensors file dst. size 0: 224 or 512. */
int msd_preprocess(const char *kind, const char *image, int64_t size, const char *dst);

typedef struct msd_benchmark_options {
    msd_run     run;
    const char *what;                         /* "train", "generate", "ops", or a part: "unet", "vae", "conv" ... */
    const char *model, *image_encoder, *random; /* model or random ("sdxl", "half", "tiny"), not both */
    int64_t     repeats, size;
    int64_t     batch;                        /* pictures of the training step */
    bool        activation_checkpointing;     /* of the training step */
} msd_benchmark_options;
msd_benchmark_options msd_benchmark_defaults(void);
int msd_benchmark(const msd_benchmark_options *o, FILE *out);

typedef struct msd_plan_options {
    msd_run     run;
    const char *config;                         /* RUN.yaml, instead of all below; "generate": one picture */
    msd_list    set;                            /* "train.batch_size=4", for config */
    const char *model, *image_encoder, *random; /* model or random ("sdxl", "half", "tiny"), not both */
    int64_t     size;                           /* pixels a side; 0: what the UNet was made for */
    int64_t     steps;                          /* of "generate"; 0: 30 */
    const char *card;                           /* "h100", "a100", "4090": an estimate for that GPU; NULL: this machine */
    int64_t     ranks;                          /* of config: the step on so many GPUs too; 0: not */
    const char *link;                           /* between them: "nvlink", "ib400", "ib400x8", "eth100"; NULL: nvlink */
} msd_plan_options;
/* Parameters, memory and operations, from shapes alone: of one optimizer step of a run, or of every part of training
 * and generating. */
int msd_plan(const msd_plan_options *o, FILE *out);

/* Devices, library versions, memory, what is missing and how to get it. */
int msd_doctor(bool json, FILE *out);

#endif
