#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/importer.h"

static void note(importer *im, bool remark, const char *reason, const char *format, va_list arguments)
{
    import_report *r = im->report;
    char text[512], shown[600];
    int i = 0;
    while (i < r->reasons && (r->reason[i].remark != remark || strcmp(r->reason[i].text, reason) != 0))
        i++;
    CHECK(i < IMPORT_REASONS, "more than %d reasons", (int)IMPORT_REASONS);
    if (i == r->reasons)
        r->reason[r->reasons++] = (import_reason){.text = arena_copy_string(&r->memory, reason), .remark = remark};
    import_reason *one = &r->reason[i];
    r->skipped += !remark;
    if (one->count++ >= IMPORT_NAMED)
        return;
    vsnprintf(text, sizeof text, format, arguments);
    one->named[one->count - 1] = arena_copy_string(&r->memory, text_escaped(shown, sizeof shown, text));
}

void import_skip(importer *im, const char *reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(im, false, reason, format, arguments);
    va_end(arguments);
}

void import_remark(importer *im, const char *reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(im, true, reason, format, arguments);
    va_end(arguments);
}

static void print_reasons(FILE *out, const import_report *r, bool remark)
{
    for (int i = 0; i < r->reasons; i++) {
        const import_reason *one = &r->reason[i];
        if (one->remark != remark)
            continue;
        fprintf(out, "  %s %8lld  %s:", remark ? "taken  " : "skipped", (long long)one->count, one->text);
        for (int j = 0; j < IMPORT_NAMED && one->named[j]; j++)
            fprintf(out, "%s %s", j ? "," : "", one->named[j]);
        fprintf(out, "%s\n", one->count > IMPORT_NAMED ? ", ..." : "");
    }
}

void import_print(FILE *out, const import_report *r, const char *output)
{
    fprintf(out, "%s: %lld samples with %lld subjects imported; %lld skipped\n", output, (long long)r->samples,
            (long long)r->subjects, (long long)r->skipped);
    print_reasons(out, r, false);
    print_reasons(out, r, true);
}

static json_t *reasons_json(const import_report *r, bool remark)
{
    json_t *list = json_array();
    for (int i = 0; i < r->reasons; i++) {
        const import_reason *one = &r->reason[i];
        if (one->remark != remark)
            continue;
        json_t *named = json_array();
        for (int j = 0; j < IMPORT_NAMED && one->named[j]; j++)
            json_array_append_new(named, json_string(one->named[j]));
        json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "reason", one->text, "count",
                                              (json_int_t)one->count, "first", named));
    }
    return list;
}

void import_print_json(FILE *out, const import_report *r, const char *output)
{
    char shown[4096];
    json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:o, s:o}", "manifest",
                            text_escaped(shown, sizeof shown, output), "samples", (json_int_t)r->samples, "subjects",
                            (json_int_t)r->subjects, "skipped", (json_int_t)r->skipped, "reasons",
                            reasons_json(r, false), "remarks", reasons_json(r, true));
    json_dumpf(all, out, JSON_INDENT(2));
    fprintf(out, "\n");
    json_decref(all);
}
