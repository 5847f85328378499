#include "train/plan_part.h"

#include <inttypes.h>

static const double MEBIBYTE = 1048576.0, GIBIBYTE = 1073741824.0;

double part_plan_bytes(const part_plan *p)
{
    return (double)p->weights + (double)p->state + (double)p->planned;
}

/* ---- a table ---- */

static void print_estimate(FILE *out, const part_plan *p)
{
    const roofline *r = &p->estimate;
    double          need = part_plan_bytes(p);
    fprintf(out, "  estimate on %s: %.3f ms at least; memory %.2f of %.2f GiB%s\n", r->card->title, 1e3 * r->seconds,
            need / GIBIBYTE, r->card->memory / GIBIBYTE, need > r->card->memory ? ": DOES NOT FIT" : "");
    fprintf(out, "  %10s %6s %7s %12s %10s  primitive; share of its time bound by memory\n", "ms", "share", "calls", "TFLOP",
            "GB");
    for (int i = 0; i < r->rows; i++) {
        const roofline_row *row = &r->row[i];
        fprintf(out, "  %10.3f %5.1f%% %7" PRId64 " %12.6f %10.3f  %s, %.0f %%\n", 1e3 * row->seconds,
                100.0 * row->seconds / r->seconds, row->calls, 1e-12 * row->operations, 1e-9 * row->bytes, row->primitive,
                row->seconds > 0 ? 100.0 * row->seconds_by_bytes / row->seconds : 0.0);
    }
}

void part_plan_print(FILE *out, const part_plan *p, double rate)
{
    fprintf(out, "%s%s\n  %.1f M parameters", p->name, p->recompute ? ", activation checkpointing" : "",
            1e-6 * (double)p->parameters);
    if (p->trained)
        fprintf(out, ", %.1f M of them trained", 1e-6 * (double)p->trained);
    fprintf(out, "; %.4f T multiply-adds, %.*f s at the matrix rate\n", 1e-12 * p->multiply_adds, p->estimate.card ? 5 : 2,
            2.0 * p->multiply_adds / rate);
    fprintf(out, "  MiB: %.1f weights, %.1f state and inputs, %.1f step (planned; %.1f alive at once): %.1f\n",
            (double)p->weights / MEBIBYTE, (double)p->state / MEBIBYTE, (double)p->planned / MEBIBYTE,
            (double)p->largest / MEBIBYTE, part_plan_bytes(p) / MEBIBYTE);
    if (p->estimate.card) {
        print_estimate(out, p);
        return;
    }
    for (int k = 0; k < META_KIND_COUNT; k++)
        if (p->by_kind[k].multiply_adds > 0)
            fprintf(out, "  %12.4f T in %5" PRId64 " x %s\n", 1e-12 * p->by_kind[k].multiply_adds, p->by_kind[k].calls,
                    meta_kind_name((meta_kind)k));
}

/* ---- JSON ---- */

static void print_estimate_json(FILE *out, const part_plan *p)
{
    const roofline *r = &p->estimate;
    fprintf(out, ", \"estimate\": {\"seconds\": %.9f, \"memory_bytes\": %.0f, \"fits\": %s, \"primitives\": {", r->seconds,
            part_plan_bytes(p), part_plan_bytes(p) <= r->card->memory ? "true" : "false");
    for (int i = 0; i < r->rows; i++)
        fprintf(out,
                "%s\"%s\": {\"calls\": %" PRId64 ", \"operations\": %.0f, \"bytes\": %.0f, \"seconds\": %.9f,"
                " \"seconds_bound_by_bytes\": %.9f}",
                i ? ", " : "", r->row[i].primitive, r->row[i].calls, r->row[i].operations, r->row[i].bytes,
                r->row[i].seconds, r->row[i].seconds_by_bytes);
    fprintf(out, "}}");
}

void part_plan_print_json(FILE *out, const part_plan *p, const scaling *many, double rate, bool first)
{
    fprintf(out,
            "%s\n {\"name\": \"%s\", \"parameters\": %" PRId64 ", \"trained\": %" PRId64 ", \"multiply_adds\": %.0f,"
            " \"seconds\": %.6f, \"weights_bytes\": %zu, \"state_bytes\": %zu, \"step_bytes\": %zu,"
            " \"step_live_bytes\": %zu, \"allocations\": %zu, \"activation_checkpointing\": %s, \"kinds\": {",
            first ? "" : ",", p->name, p->parameters, p->trained, p->multiply_adds, 2.0 * p->multiply_adds / rate,
            p->weights, p->state, p->planned, p->largest, p->allocations, p->recompute ? "true" : "false");
    for (int k = 0; k < META_KIND_COUNT; k++)
        fprintf(out,
                "%s\"%s\": {\"calls\": %" PRId64 ", \"multiply_adds\": %.0f, \"read_bytes\": %.0f,"
                " \"written_bytes\": %.0f}",
                k ? ", " : "", meta_kind_name((meta_kind)k), p->by_kind[k].calls, p->by_kind[k].multiply_adds,
                p->by_kind[k].read, p->by_kind[k].written);
    fprintf(out, "}");
    if (p->estimate.card)
        print_estimate_json(out, p);
    if (many)
        scaling_print_json(out, many);
    fprintf(out, "}");
}
