#include "infer/png_metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "infer/sampler.h"

/* A value that holds a separator is quoted as JSON, as A1111 does. */
static const char *value_text(arena *memory, const char *value)
{
    if (!strpbrk(value, ",:\n"))
        return value;
    json_t     *text = json_string(value);
    char       *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    const char *kept = quoted ? arena_copy_string(memory, quoted) : "";
    free(quoted);
    json_decref(text);
    return kept;
}

static const char *parameters(arena *memory, const job *j, uint64_t seed, const char *model)
{
    char        guidance[32];
    const char *line = arena_print(memory,
                                   "Steps: %" PRId64 ", Sampler: %s, CFG scale: %s, Seed: %" PRIu64 ", Size: %" PRId64
                                   "x%" PRId64 ", Model: %s",
                                   j->steps, sampler_title(j->sampling_method), text_number(guidance, j->cfg_scale),
                                   seed, j->width, j->height, value_text(memory, model));
    if (!*j->negative_prompt)
        return arena_print(memory, "%s\n%s", j->prompt, line);
    return arena_print(memory, "%s\nNegative prompt: %s\n%s", j->prompt, j->negative_prompt, line);
}

static json_t *subject_json(const job_subject *s, double job_scale)
{
    const double *b = s->box;
    return json_pack("{s:s, s:[f,f,f,f], s:f}", "phrase", s->phrase, "box", b[0], b[1], b[2], b[3], "scale",
                     isfinite(s->scale) ? s->scale : job_scale);
}

static const char *fields(arena *memory, const job *j, uint64_t seed, const char *model, const char *adapter_hash)
{
    json_t *subjects = json_array();
    for (int i = 0; i < j->subjects; i++)
        json_array_append_new(subjects, subject_json(&j->subject[i], j->scale));
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:s, s:b, s:o, s:s, s:s}", "version",
                          MSD_VERSION, "prompt", j->prompt, "negative_prompt", j->negative_prompt, "width",
                          (json_int_t)j->width, "height", (json_int_t)j->height, "steps", (json_int_t)j->steps, "seed",
                          (json_int_t)seed, "cfg_scale", j->cfg_scale, "scale", j->scale, "sampling_method",
                          j->sampling_method, "scheduler", j->scheduler, "drop_grounding", (int)j->drop_grounding,
                          "subjects", subjects, "model", model, "adapter", adapter_hash);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    const char *kept = text ? arena_copy_string(memory, text) : NULL;
    free(text);
    json_decref(o);
    return kept;
}

int png_metadata(image_text texts[PNG_METADATA_TEXTS], arena *memory, const job *j, uint64_t seed, const char *model,
                 const char *adapter_hash)
{
    texts[0] = (image_text){"parameters", parameters(memory, j, seed, model)};
    texts[1] = (image_text){"msd", fields(memory, j, seed, model, adapter_hash)};
    return texts[1].text ? 2 : 1; /* no JSON of texts that are not UTF-8; those are refused before a picture is drawn */
}
