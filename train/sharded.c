#include "train/sharded.h"

/* ---- pieces ---- */

static tensor *stretch(arena *owner, tensor *t, const char *name, int64_t from, int64_t count)
{
    tensor *view = tensor_view(owner, t, name);
    view->data = (char *)t->data + (size_t)from * dtype_bytes(t->type);
    tensor_set_shape(view, 1, &count);
    return view;
}

typedef struct span {
    int64_t begin, end;
} span;

/* This rank's part of a bucket. */
static span own_part(const reduction *r, const gradient_bucket *b)
{
    const comm *c = r->comm;
    return (span){comm_part_begin(b->count, c->rank, c->count), comm_part_begin(b->count, c->rank + 1, c->count)};
}

/* Where parameter i lies in bucket b; end <= begin: it does not. */
static span place_of(const sharded *s, int i, const gradient_bucket *b)
{
    const parameter *p = &s->of->param[i];
    const tensor *read = p->copy ? p->copy : p->t, *whole = parameter_whole(p);
    for (int k = 0; k < b->members; k++)
        if (b->member[k].whole == whole) {
            int64_t begin = b->member[k].offset + (read == whole ? 0 : read->offset);
            return (span){begin, begin + tensor_count(read)};
        }
    return (span){0, 0};
}

static span within(span a, span b)
{
    return (span){a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

static void add_pieces(sharded *s, arena *owner, int number)
{
    const gradient_bucket *b = &s->gradients->bucket[number];
    span own = own_part(s->gradients, b);
    for (int i = 0; i < s->of->count; i++) {
        span at = place_of(s, i, b), mine = within(at, own);
        int64_t count = mine.end - mine.begin;
        if (at.end <= at.begin || count <= 0)
            continue;
        const parameter *p = &s->of->param[i];
        s->piece[s->pieces++] = (shard_piece){
            .parameter = i,
            .weight = stretch(owner, p->t, p->name, mine.begin - at.begin, count),
            .m = stretch(owner, s->m[number], p->name, mine.begin - own.begin, count),
            .v = stretch(owner, s->v[number], p->name, mine.begin - own.begin, count),
            .gradient = stretch(owner, b->flat, p->name, mine.begin, count),
        };
    }
}

static err make_moments(sharded *s, arena *owner, int number)
{
    span own = own_part(s->gradients, &s->gradients->bucket[number]);
    int64_t count = own.end - own.begin;
    TRY(tensor_new(&s->m[number], owner, s->dev, LIFE_STATE, "first moments", DT_F32, 1, &count));
    TRY(s->dev->p->fill(s->dev, s->m[number], 0.0f));
    TRY(tensor_new(&s->v[number], owner, s->dev, LIFE_STATE, "second moments", DT_F32, 1, &count));
    return s->dev->p->fill(s->dev, s->v[number], 0.0f);
}

err sharded_new(sharded **out, arena *owner, reduction *r, optimizer *of)
{
    CHECK(r->sharded && of->how.elsewhere && !of->how.eight_bits, "an optimizer that is not shared out");
    sharded *s = ARENA_NEW(owner, sharded);
    *s = (sharded){.dev = r->dev, .gradients = r, .of = of, .m = ARENA_ARRAY(owner, tensor *, r->buckets),
                   .v = ARENA_ARRAY(owner, tensor *, r->buckets),
                   .piece = ARENA_ARRAY(owner, shard_piece, of->count + r->buckets)};
    *out = s;
    for (int b = 0; b < r->buckets; b++) {
        TRY(make_moments(s, owner, b));
        add_pieces(s, owner, b);
    }
    return OK;
}

void sharded_free(sharded *s)
{
    for (int i = 0; s && i < s->pieces; i++) {
        tensor_release(s->piece[i].weight);
        tensor_release(s->piece[i].m);
        tensor_release(s->piece[i].v);
        tensor_release(s->piece[i].gradient);
    }
    for (int b = 0; s && b < s->gradients->buckets; b++) {
        tensor_release(s->m[b]);
        tensor_release(s->v[b]);
    }
}

/* ---- a step ---- */

err sharded_squares(double *sum, const sharded *s)
{
    *sum = 0;
    for (int i = 0; i < s->pieces; i++) {
        double part = 0;
        TRY(s->dev->p->sum_squares(s->dev, &part, s->piece[i].gradient));
        *sum += part;
    }
    return OK;
}

static err update_piece(sharded *s, const shard_piece *p, float factor, double lr)
{
    const parameter *of = &s->of->param[p->parameter];
    const adamw *how = &s->of->how;
    return s->dev->p->adamw(s->dev, p->weight, p->m, p->v, NULL, p->gradient, factor, lr * of->rate, how->beta1, how->beta2,
                            how->eps, of->no_decay ? 0 : how->weight_decay, s->of->updates);
}

/* The gradients have served: their buffers carry what is to be gathered. */
static err gather_all(sharded *s)
{
    for (int b = 0; b < s->gradients->buckets; b++)
        TRY(comm_gather(s->gradients->comm, s->gradients->bucket[b].flat));
    s->under_way = true;
    return OK;
}

err sharded_update(sharded *s, double norm, double max_norm, double lr)
{
    float factor = optimizer_clip(norm, max_norm);
    s->of->updates++;
    for (int i = 0; i < s->pieces; i++)
        TRY(update_piece(s, &s->piece[i], factor, lr));
    for (int i = 0; i < s->pieces; i++)
        TRY(s->dev->p->copy(s->dev, s->piece[i].gradient, s->piece[i].weight, false));
    return gather_all(s);
}

/* Parameter i as it lies in the bucket's buffer, flat. NULL: it lies in another. */
static tensor *gathered(arena *owner, const sharded *s, int i, const gradient_bucket *b)
{
    span at = place_of(s, i, b);
    return at.end > at.begin ? stretch(owner, b->flat, s->of->param[i].name, at.begin, at.end - at.begin) : NULL;
}

static err put_weight(const sharded *s, arena *views, int i, const gradient_bucket *b)
{
    const parameter *p = &s->of->param[i];
    tensor *from = gathered(views, s, i, b);
    if (!from)
        return OK;
    tensor to = *p->t;
    int64_t count = tensor_count(from);
    tensor_set_shape(&to, 1, &count);
    err e = s->dev->p->copy(s->dev, &to, from, false);
    tensor_release(from);
    TRY(e);
    return p->copy ? s->dev->p->copy(s->dev, p->copy, p->t, false) : OK;
}

err sharded_settle(sharded *s)
{
    if (!s || !s->under_way)
        return OK;
    arena views = {0};
    s->under_way = false;
    err e = comm_wait(s->gradients->comm);
    for (int b = 0; b < s->gradients->buckets && e == OK; b++)
        for (int i = 0; i < s->of->count && e == OK; i++)
            e = put_weight(s, &views, i, &s->gradients->bucket[b]);
    arena_free(&views);
    return e;
}

/* ---- checkpoints ---- */

err sharded_whole(optimizer **out, arena *owner, const sharded *s, device *host)
{
    const optimizer *of = s->of;
    optimizer *o = ARENA_NEW(owner, optimizer);
    *o = (optimizer){.dev = host, .param = of->param, .count = of->count, .how = of->how, .updates = of->updates,
                     .m = ARENA_ARRAY(owner, tensor *, of->count), .v = ARENA_ARRAY(owner, tensor *, of->count),
                     .m_absmax = ARENA_ARRAY(owner, tensor *, of->count), .v_absmax = ARENA_ARRAY(owner, tensor *, of->count)};
    *out = o;
    for (int i = 0; i < of->count; i++) {
        const parameter *p = &of->param[i];
        TRY(tensor_new(&o->m[i], owner, host, LIFE_STATE, p->name, DT_F32, p->t->ndim, p->t->dim));
        TRY(tensor_new(&o->v[i], owner, host, LIFE_STATE, p->name, DT_F32, p->t->ndim, p->t->dim));
    }
    return OK;
}

void sharded_free_whole(optimizer *o)
{
    for (int i = 0; o && i < o->count; i++) {
        tensor_release(o->m[i]);
        tensor_release(o->v[i]);
    }
}

/* Bucket by bucket, as a stretch of the parameter on the host and one on the device. */
static const float *on_host(const tensor *whole, const shard_piece *p, const tensor *t)
{
    return (const float *)whole->data + ((const float *)p->weight->data - (const float *)t->data);
}

err sharded_take(sharded *s, const optimizer *whole)
{
    s->of->updates = whole->updates;
    for (int i = 0; i < s->pieces; i++) {
        shard_piece *p = &s->piece[i];
        const tensor *t = s->of->param[p->parameter].t;
        TRY(tensor_upload(p->m, on_host(whole->m[p->parameter], p, t), DT_F32));
        TRY(tensor_upload(p->v, on_host(whole->v[p->parameter], p, t), DT_F32));
    }
    return OK;
}

/* The moments of one kind, through the gradients' buffers. */
static err collect(tensor **to, sharded *s, bool second)
{
    arena views = {0};
    err   e = OK;
    for (int i = 0; i < s->pieces && e == OK; i++) {
        const shard_piece *p = &s->piece[i];
        e = s->dev->p->copy(s->dev, p->gradient, second ? p->v : p->m, false);
    }
    if (e == OK)
        e = gather_all(s);
    if (e == OK)
        e = comm_wait(s->gradients->comm);
    s->under_way = false;
    for (int b = 0; to && b < s->gradients->buckets && e == OK; b++)
        for (int i = 0; i < s->of->count && e == OK; i++) {
            tensor *from = gathered(&views, s, i, &s->gradients->bucket[b]);
            if (from)
                e = tensor_download(to[i]->data, DT_F32, from);
            tensor_release(from);
        }
    arena_free(&views);
    return e;
}

err sharded_collect(optimizer *whole, sharded *s)
{
    TRY(sharded_settle(s));
    if (whole)
        whole->updates = s->of->updates;
    TRY(collect(whole ? whole->m : NULL, s, false));
    return collect(whole ? whole->v : NULL, s, true);
}
