/* The function of msd.h that takes other people's datasets. */
#include "data/import.h"
#include "train/libmsd_status.h"

msd_import_options msd_import_defaults(void)
{
    import_options d = IMPORT_DEFAULTS;
    return (msd_import_options){.min_area = d.min_area, .max_subjects = d.max_subjects, .pairs = d.pairs,
                                .min_gap = d.min_gap};
}

int msd_import(const msd_import_options *o, FILE *out)
{
    logger log = logger_start(o->run.quiet);
    if (o->seed < 0)
        return msd_usage_error("--seed: %lld is negative; give 0 or more", (long long)o->seed);
    import_options i = {.kind = o->kind, .source = o->source, .output = o->output, .images = o->images,
                        .captions = o->captions, .classes = o->classes, .phrase = o->phrase, .caption = o->caption,
                        .box = o->box, .bbox_format = o->bbox_format, .box_units = o->box_units,
                        .min_area = o->min_area, .max_subjects = o->max_subjects, .pairs = o->pairs,
                        .min_gap = o->min_gap, .seed = (uint64_t)o->seed, .masks = o->masks, .headers = o->headers};
    import_report report;
    err e = import_run(&report, &i, &log);
    if (o->run.json && (e == OK || report.reasons))
        import_print_json(out, &report, o->output);
    else if (!o->run.quiet && (e == OK || report.reasons))
        import_print(e == OK ? out : stderr, &report, o->output);
    int status = libmsd_status(e);
    arena_free(&report.memory);
    return status;
}
