#include "train/roofline.h"

#include <stdlib.h>
#include <string.h>

void roofline_open(roofline *r, const card *c)
{
    *r = (roofline){.card = c};
}

static double by_operations(const card *c, const meta_call *call)
{
    return 2.0 * call->multiply_adds / card_rate(c, call->type);
}

static double by_bytes(const card *c, const meta_call *call)
{
    return (call->read + call->written) / c->bandwidth;
}

double roofline_call_seconds(const card *c, const meta_call *call)
{
    double operations = by_operations(c, call), bytes = by_bytes(c, call);
    return operations > bytes ? operations : bytes;
}

static roofline_row *row_of(roofline *r, const char *primitive)
{
    for (int i = 0; i < r->rows; i++)
        if (!strcmp(r->row[i].primitive, primitive))
            return &r->row[i];
    CHECK(r->rows < ROOFLINE_ROWS, "more than %d primitives", r->rows);
    r->row[r->rows] = (roofline_row){.primitive = primitive};
    return &r->row[r->rows++];
}

void roofline_watch(void *user, const meta_call *call)
{
    roofline     *r = user;
    roofline_row *row = row_of(r, call->primitive);
    double        seconds = roofline_call_seconds(r->card, call);
    row->calls++;
    row->operations += 2.0 * call->multiply_adds;
    row->bytes += call->read + call->written;
    row->seconds += seconds;
    if (by_bytes(r->card, call) >= by_operations(r->card, call))
        row->seconds_by_bytes += seconds;
    r->seconds += seconds;
}

static int longer_first(const void *a, const void *b)
{
    const roofline_row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

void roofline_sort(roofline *r)
{
    if (r->rows)
        qsort(r->row, (size_t)r->rows, sizeof *r->row, longer_first);
}
