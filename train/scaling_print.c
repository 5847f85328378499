#include <inttypes.h>

#include "train/scaling.h"

void scaling_print(FILE *out, const scaling *s)
{
    const scaling_options *o = &s->how;
    fprintf(out,
            "scaling, COMPUTED, nothing measured: %d ranks on %d node%s, --link %s: %.0f GB/s a rank; gradients in %s%s\n"
            "  %7s %10s %10s %10s %10s   sums of gradients; ms since the step began\n",
            o->ranks, s->nodes, s->nodes > 1 ? "s" : "", o->link, 1e-9 * s->rate, dtype_name(o->sent),
            o->sharded ? ", optimizer sharded" : "", "bucket", "MB", "ready", "begun", "done");
    for (int b = 0; b < s->buckets; b++)
        fprintf(out, "  %7d %10.1f %10.3f %10.3f %10.3f%s\n", b, 1e-6 * s->bucket[b].bytes, 1e3 * s->bucket[b].ready,
                1e3 * s->bucket[b].begin, 1e3 * s->bucket[b].end, s->bucket[b].end > s->backward_end ? "   after backward" : "");
    fprintf(out, "  backward ends at %.3f ms, sums %.3f ms later; optimizer %.3f ms", 1e3 * s->backward_end, 1e3 * s->exposed,
            1e3 * s->optimizer);
    if (s->gather > 0)
        fprintf(out, ", gathering %.3f ms", 1e3 * s->gather);
    if (s->numbers > 0)
        fprintf(out, ", numbers %.3f ms", 1e3 * s->numbers);
    fprintf(out,
            "\n  a step %.3f ms, of one GPU alone %.3f ms: efficiency %.1f %%; %.1f pictures/s; a rank sends %.1f MB a step\n",
            1e3 * s->step, 1e3 * s->alone, 100.0 * s->efficiency, (double)(o->ranks * o->pictures) / s->step, 1e-6 * s->bytes);
}

void scaling_print_json(FILE *out, const scaling *s)
{
    const scaling_options *o = &s->how;
    fprintf(out,
            ", \"scaling\": {\"ranks\": %d, \"nodes\": %d, \"link\": \"%s\", \"bytes_per_second\": %.0f, \"sent\": \"%s\","
            " \"sharded\": %s, \"alone_seconds\": %.9f, \"backward_seconds\": %.9f, \"exposed_seconds\": %.9f,"
            " \"optimizer_seconds\": %.9f, \"gather_seconds\": %.9f, \"numbers_seconds\": %.9f, \"step_seconds\": %.9f,"
            " \"efficiency\": %.6f, \"pictures_per_second\": %.4f, \"sent_bytes\": %.0f, \"buckets\": [",
            o->ranks, s->nodes, o->link, s->rate, dtype_name(o->sent), o->sharded ? "true" : "false", s->alone, s->backward_end,
            s->exposed, s->optimizer, s->gather, s->numbers, s->step, s->efficiency,
            (double)(o->ranks * o->pictures) / s->step, s->bytes);
    for (int b = 0; b < s->buckets; b++)
        fprintf(out, "%s{\"bytes\": %.0f, \"ready\": %.9f, \"begun\": %.9f, \"done\": %.9f}", b ? ", " : "", s->bucket[b].bytes,
                s->bucket[b].ready, s->bucket[b].begin, s->bucket[b].end);
    fprintf(out, "]}");
}
