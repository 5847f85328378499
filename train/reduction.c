#include "train/reduction.h"

#include <math.h>
#include <string.h>

#include "base/progress.h"

enum { FLOATS = 2 * REDUCTION_NUMBERS, LEAST_BUCKETS = 8, ALIGNMENT = 16 };
static const int64_t LEAST_ELEMENTS = (int64_t)4 << 20; /* 16 MiB: below it a link is busy with beginning */

/* ---- layout ---- */

/* A bucket is closed once it is large enough; small models are cut into about LEAST_BUCKETS, so that they overlap too. */
int reduction_layout(int *bucket, int64_t *elements, const int64_t *size, int count, int all, bool riding)
{
    int64_t sum = 0, unit = (int64_t)all * ALIGNMENT;
    int     at = 0;
    for (int i = 0; i < count; i++)
        sum += size[i];
    int64_t enough = sum / LEAST_BUCKETS < LEAST_ELEMENTS ? sum / LEAST_BUCKETS : LEAST_ELEMENTS;
    if (count)
        elements[0] = 0;
    for (int i = 0; i < count; i++) {
        bucket[i] = at;
        elements[at] += (size[i] + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (elements[at] >= enough && i + 1 < count)
            elements[++at] = 0;
    }
    if (count && riding)
        elements[at] += FLOATS;
    for (int b = 0; count && b <= at; b++)
        elements[b] = (elements[b] + unit - 1) / unit * unit;
    return count ? at + 1 : 0;
}

static int64_t numbers_bytes(int rank, int all)
{
    return comm_sum_part_bytes(FLOATS, DT_F32, rank, all) + comm_gather_bytes(FLOATS, DT_F32, rank, all);
}

int64_t reduction_bytes(const int64_t *count, int buckets, dtype type, bool sharded, int rank, int all)
{
    int64_t bytes = type == DT_F32 && !sharded ? 0 : numbers_bytes(rank, all);
    for (int b = 0; b < buckets; b++)
        bytes += comm_sum_part_bytes(count[b], type, rank, all) + comm_gather_bytes(count[b], sharded ? DT_F32 : type, rank, all);
    return bytes;
}

/* ---- opening ---- */

static err make_flat(reduction *r, arena *owner, gradient_bucket *b, dtype type)
{
    TRY(tensor_new(&b->flat, owner, r->dev, LIFE_STATE, "gradients", DT_F32, DIMS(b->count)));
    TRY(r->dev->p->fill(r->dev, b->flat, 0.0f)); /* what fills it up stays 0 */
    return type == DT_F32 ? OK : tensor_new(&b->wire, owner, r->dev, LIFE_STATE, "gradients to send", type, DIMS(b->count));
}

static tensor *slice_of(arena *owner, tensor *flat, const char *name, int64_t offset, int ndim, const int64_t *dim)
{
    tensor *view = tensor_view(owner, flat, name);
    view->data = (char *)flat->data + (size_t)offset * dtype_bytes(flat->type);
    tensor_set_shape(view, ndim, dim);
    return view;
}

static void add_member(arena *owner, gradient_bucket *b, tensor *whole, int64_t *offset)
{
    CHECK(!whole->grad, "%s has a gradient already", whole->name);
    b->member[b->members++] = (bucket_member){whole, *offset};
    whole->grad = slice_of(owner, b->flat, whole->name, *offset, whole->ndim, whole->dim);
    *offset += (tensor_count(whole) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static err fill_buckets(reduction *r, arena *owner, tensor *const *order, int count, dtype type)
{
    int     *bucket = ARENA_ARRAY(owner, int, count);
    int64_t *elements = ARENA_ARRAY(owner, int64_t, count), *size = ARENA_ARRAY(owner, int64_t, count), offset = 0;
    for (int i = 0; i < count; i++)
        size[i] = tensor_count(order[i]);
    r->buckets = reduction_layout(bucket, elements, size, count, r->comm->count, r->riding);
    r->bucket = ARENA_ARRAY(owner, gradient_bucket, r->buckets);
    for (int b = 0; b < r->buckets; b++) {
        r->bucket[b] = (gradient_bucket){.count = elements[b], .member = ARENA_ARRAY(owner, bucket_member, count)};
        TRY(make_flat(r, owner, &r->bucket[b], type));
    }
    for (int i = 0; i < count; i++) {
        if (i && bucket[i] != bucket[i - 1])
            offset = 0;
        add_member(owner, &r->bucket[bucket[i]], order[i], &offset);
    }
    if (!r->riding)
        return tensor_new(&r->numbers, owner, r->dev, LIFE_STATE, "numbers of a step", DT_F32, DIMS(FLOATS));
    r->numbers = slice_of(owner, r->bucket[r->buckets - 1].flat, "numbers of a step", offset, DIMS(FLOATS));
    return OK;
}

err reduction_open(reduction **out, arena *owner, device *dev, comm *c, tensor *const *order, int count, dtype type, bool sharded)
{
    CHECK(count > 0, "%d gradients", count);
    reduction *r = ARENA_NEW(owner, reduction);
    *r = (reduction){.dev = dev, .comm = c, .sharded = sharded, .riding = type == DT_F32 && !sharded};
    err e = fill_buckets(r, owner, order, count, type);
    *out = r;
    return e;
}

void reduction_free(reduction *r)
{
    for (int b = 0; r && b < r->buckets; b++) {
        for (int i = 0; i < r->bucket[b].members; i++) { /* where no optimizer has done so */
            tensor_release(r->bucket[b].member[i].whole->grad);
            r->bucket[b].member[i].whole->grad = NULL;
        }
        tensor_release(r->bucket[b].flat);
        tensor_release(r->bucket[b].wire);
    }
    if (r)
        tensor_release(r->numbers);
}

/* ---- a step ---- */

void reduction_begin(reduction *r)
{
    r->sent = r->early = 0;
    for (int b = 0; b < r->buckets; b++)
        r->bucket[b].waiting = r->bucket[b].members;
}

/* What no sample of this rank has reached is 0, and all of it counts as written from here on. */
static err settle_members(reduction *r, const gradient_bucket *b)
{
    for (int i = 0; i < b->members; i++) {
        tensor *whole = b->member[i].whole;
        if (whole->grad_fresh)
            TRY(r->dev->p->fill(r->dev, whole->grad, 0.0f));
        whole->grad_fresh = false;
    }
    return OK;
}

static err send_next(reduction *r)
{
    gradient_bucket *b = &r->bucket[r->sent++];
    TRY(settle_members(r, b));
    if (b->wire)
        TRY(r->dev->p->copy(r->dev, b->wire, b->flat, false));
    tensor *what = b->wire ? b->wire : b->flat;
    return r->sharded ? comm_sum_part(r->comm, what) : comm_sum(r->comm, what);
}

static gradient_bucket *bucket_of(const reduction *r, const tensor *whole)
{
    for (int b = 0; b < r->buckets; b++)
        for (int i = 0; i < r->bucket[b].members; i++)
            if (r->bucket[b].member[i].whole == whole)
                return &r->bucket[b];
    return NULL;
}

/* The last bucket stays for reduction_end, which knows the numbers. */
err reduction_whole(void *user, tensor *whole)
{
    reduction *r = user;
    gradient_bucket *b = bucket_of(r, whole);
    if (!b)
        return OK;
    b->waiting--;
    while (r->sent < r->buckets - 1 && !r->bucket[r->sent].waiting) {
        TRY(send_next(r));
        r->early++;
    }
    return OK;
}

/* ---- numbers ---- */

/* As two floats, the second of which is what the first leaves. */
static err put_numbers(reduction *r, const double *number)
{
    float part[FLOATS];
    for (int i = 0; i < REDUCTION_NUMBERS; i++) {
        part[2 * i] = (float)number[i];
        part[2 * i + 1] = isfinite(part[2 * i]) ? (float)(number[i] - (double)part[2 * i]) : 0;
    }
    return tensor_upload(r->numbers, part, DT_F32);
}

static err take_numbers(double *number, const reduction *r)
{
    float part[FLOATS];
    TRY(tensor_download(part, DT_F32, r->numbers));
    for (int i = 0; i < REDUCTION_NUMBERS; i++)
        number[i] = (double)part[2 * i] + (double)part[2 * i + 1];
    return OK;
}

err reduction_add(double *number, reduction *r)
{
    TRY(put_numbers(r, number));
    TRY(comm_sum(r->comm, r->numbers));
    TRY(comm_wait(r->comm));
    return take_numbers(number, r);
}

/* ---- the end ---- */

static err unwrap(reduction *r)
{
    for (int b = 0; b < r->buckets; b++)
        if (r->bucket[b].wire)
            TRY(r->dev->p->copy(r->dev, r->bucket[b].flat, r->bucket[b].wire, false));
    return OK;
}

err reduction_end(double *number, reduction *r)
{
    if (r->riding)
        TRY(put_numbers(r, number));
    while (r->sent < r->buckets)
        TRY(send_next(r));
    if (!r->riding && !r->sharded) {
        TRY(put_numbers(r, number));
        TRY(comm_sum(r->comm, r->numbers));
    }
    double started = clock_seconds();
    TRY(comm_wait(r->comm));
    r->waited += clock_seconds() - started;
    TRY(unwrap(r));
    return r->sharded ? OK : take_numbers(number, r);
}
