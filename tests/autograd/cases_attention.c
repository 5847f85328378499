/* Rows of the op test for attention, layout, embeddings, views, selection and the loss.
 * Goldens: tests/reference/make_ops_attention.py. */
#include "support_ops.h"

static tensor *run_attention(ag *g, tensor **in, const op_case *c)
{
    return ag_attention(g, in[0], in[1], in[2], c->with.p.attention.scale, c->with.p.attention.causal);
}

/* in (B,T,3*H*D): q, k and v are strided views of one tensor, which gets the three gradients. */
static tensor *run_packed(ag *g, tensor **in, const op_case *c)
{
    tensor *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = ag_reshape(g, ag_slice(g, in[0], 2, 24 * i, 24), DIMS(in[0]->dim[0], in[0]->dim[1], 3, 8));
    return run_attention(g, part, c);
}

static tensor *run_box_mask(ag *g, tensor **in, const op_case *c)
{
    return ag_box_mask(g, in[0], c->with.p.grid.h, c->with.p.grid.w);
}

/* in: base, q, k, v, boxes, subject_scales */
static tensor *run_subjects(ag *g, tensor **in, const op_case *c)
{
    tensor *mask = ag_box_mask(g, in[4], c->with.p.grid.h, c->with.p.grid.w);
    return ag_multi_subject_attention(g, in[0], in[1], in[2], in[3], mask, in[5], 0.6f);
}

static tensor *run_embedding(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_embedding(g, in[0], in[1]);
}

static tensor *run_time_embedding(ag *g, tensor **in, const op_case *c)
{
    return ag_time_embedding(g, in[0], c->with.p.embedding.size);
}

static tensor *run_box_embedding(ag *g, tensor **in, const op_case *c)
{
    return ag_box_embedding(g, in[0], c->with.p.embedding.freqs);
}

static tensor *run_concat(ag *g, tensor **in, const op_case *c)
{
    return ag_concat(g, in[0], in[1], c->with.p.slice.dim);
}

static tensor *run_concat_same(ag *g, tensor **in, const op_case *c)
{
    return ag_concat(g, in[0], in[0], c->with.p.slice.dim);
}

static tensor *run_select(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_select(g, in[0], in[1], in[2]);
}

static tensor *run_upsample(ag *g, tensor **in, const op_case *c)
{
    return ag_upsample(g, in[0], c->with.p.grid.h, c->with.p.grid.w);
}

static tensor *run_reshape(ag *g, tensor **in, const op_case *c)
{
    return ag_reshape(g, in[0], c->with.p.shape.ndim, c->with.p.shape.dim);
}

static tensor *run_reshape_view(ag *g, tensor **in, const op_case *c)
{
    return ag_reshape(g, ag_slice(g, in[0], 2, 2, 4), c->with.p.shape.ndim, c->with.p.shape.dim);
}

static tensor *run_reshape_twice(ag *g, tensor **in, const op_case *c)
{
    return ag_add(g, run_reshape(g, in, c), run_reshape(g, in, c));
}

static tensor *run_slice(ag *g, tensor **in, const op_case *c)
{
    return ag_slice(g, in[0], c->with.p.slice.dim, c->with.p.slice.start, c->with.p.slice.length);
}

static tensor *run_slice_overlapping(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    tensor *a = ag_cast(g, ag_slice(g, in[0], 1, 0, 4), DT_F32), *b = ag_cast(g, ag_slice(g, in[0], 1, 2, 4), DT_F32);
    return ag_add(g, a, b);
}

static tensor *run_cast(ag *g, tensor **in, const op_case *c)
{
    return ag_cast(g, run_slice(g, in, c), DT_F32);
}

static tensor *run_mse(ag *g, tensor **in, const op_case *c)
{
    (void)c;
    return ag_mse(g, in[0], in[1]);
}

/* Gradients of scores are differences of like numbers, and p is made again from a rounded log-sum-exp: 4e-6. */
#define ATTENTION(name, inputs, scale, causal) \
    {name, &op_attention, inputs, run_attention, 4e-6, .with.p.attention = {scale, causal}}
#define SUBJECTS(name, inputs, h, w) {name, &op_multi_subject_attention, inputs, run_subjects, .with.p.grid = {h, w}, .stays = 48}

static const op_case cases[] = {
    ATTENTION("attention_d8", "(2,70,3,8) (2,33,3,8) (2,33,3,8)", 1.5f, false),
    ATTENTION("attention_d40", "(1,65,1,40) (1,77,1,40) (1,77,1,40)", 0.625f, false),
    ATTENTION("attention_tiles", "(1,130,1,16) (1,300,1,16) (1,300,1,16)", 1.0f, false),
    /* dk is a fiftieth of the 1 to which it is added, and each of the product's 20 terms rounds at the size of the 1 */
    {"attention_d64", &op_attention, "(1,20,1,64) (1,257,1,64) (1,257,1,64)", run_attention, 2e-5,
     .with.p.attention = {0.5f, false}},
    ATTENTION("attention_d80", "(1,9,3,80) (1,77,3,80) (1,77,3,80)", 0.4375f, false),
    ATTENTION("attention_d512", "(1,14,1,512) (1,21,1,512) (1,21,1,512)", 0.1875f, false),
    ATTENTION("attention_one", "(1,1,1,8) (1,2,1,8) (1,2,1,8)", 1.5f, false),
    ATTENTION("attention_d9", "(3,5,7,9) (3,6,7,9) (3,6,7,9)", 1.25f, false),
    ATTENTION("causal_clip", "(1,77,3,8) (1,77,3,8) (1,77,3,8)", 1.5f, true),
    ATTENTION("causal_tiles", "(1,300,1,8) (1,300,1,8) (1,300,1,8)", 1.5f, true),
    ATTENTION("causal_more_keys", "(2,5,1,8) (2,9,1,8) (2,9,1,8)", 1.5f, true),
    ATTENTION("causal_more_queries", "(1,70,1,8) (1,6,1,8) (1,6,1,8)", 1.5f, true),
    ATTENTION("causal_unseen_tile", "(1,3,1,8) (1,260,1,8) (1,260,1,8)", 1.5f, true),
    {"attention_packed", &op_attention, "(2,11,72)", run_packed, 4e-6, .with.p.attention = {1.5f, false}},

    {"box_mask_edges_10x10", &op_box_mask, "stored", run_box_mask, .with.p.grid = {10, 10}, .stays = 1},
    {"box_mask_edges_9x30", &op_box_mask, "stored", run_box_mask, .with.p.grid = {9, 30}, .stays = 1},
    {"box_mask_many_10x10", &op_box_mask, "stored", run_box_mask, .with.p.grid = {10, 10}, .stays = 1},
    {"box_mask_many_9x30", &op_box_mask, "stored", run_box_mask, .with.p.grid = {9, 30}, .stays = 1},

    SUBJECTS("subjects_reference", "(2,49,3,8) (2,49,3,8) (2,8,3,8) (2,8,3,8) stored -", 7, 7),
    SUBJECTS("subjects_scales", "(1,100,1,40) (1,100,1,40) (1,6,1,40) (1,6,1,40) stored stored", 10, 10),
    SUBJECTS("subjects_wide", "(3,66,2,8) (3,66,2,8) (2,9,2,8) (2,9,2,8) stored -", 6, 11),
    SUBJECTS("subjects_tall", "(2,65,1,8) (2,65,1,8) (1,48,1,8) (1,48,1,8) stored stored", 13, 5),
    SUBJECTS("subjects_no_base", "- (1,16,5,6) (1,5,5,6) (1,5,5,6) stored -", 4, 4),

    {"embedding", &op_embedding, "(7,70) stored", .run = run_embedding},
    {"embedding_row", &op_embedding, "(3,5) stored", .run = run_embedding},
    /* torch's exp is an ulp away from libm's at 3 of 128 frequencies, and t multiplies that: 999 * 6e-8, in RMS 0.7 */
    {"time_unet", &op_time_embedding, "stored", run_time_embedding, 9e-5, .with.p.embedding.size = 320, .stays = 1},
    {"time_ids", &op_time_embedding, "stored", run_time_embedding, 9e-5, .with.p.embedding.size = 256, .stays = 1},
    {"time_two", &op_time_embedding, "stored", run_time_embedding, .with.p.embedding.size = 2, .stays = 1},
    {"box_8", &op_box_embedding, "stored", run_box_embedding, .with.p.embedding.freqs = 8, .stays = 1},
    {"box_3", &op_box_embedding, "stored", run_box_embedding, .with.p.embedding.freqs = 3, .stays = 1},

    {"concat_last", &op_concat, "(2,3,4) (2,3,5)", run_concat, .with.p.slice.dim = 2},
    {"concat_first", &op_concat, "(2,3) (1,3)", run_concat, .with.p.slice.dim = 0},
    {"concat_middle", &op_concat, "(2,3,2,2) (2,4,2,2)", run_concat, .with.p.slice.dim = 1},
    {"concat_same", &op_concat, "(2,3)", run_concat_same, .with.p.slice.dim = 1},
    {"select_one_row", &op_select, "stored (1,3,5) (4,3,5)", .run = run_select},
    {"select_rows", &op_select, "stored (4,6) (4,6)", .run = run_select},
    {"upsample_6x10", &op_upsample, "(2,3,5,4)", run_upsample, .with.p.grid = {6, 10}},
    {"upsample_5x9", &op_upsample, "(2,3,5,4)", run_upsample, .with.p.grid = {5, 9}},
    {"upsample_7x13", &op_upsample, "(2,3,5,4)", run_upsample, .with.p.grid = {7, 13}},
    {"upsample_2x5", &op_upsample, "(2,3,5,4)", run_upsample, .with.p.grid = {2, 5}},
    {"reshape", &op_reshape, "(2,3,4)", run_reshape, .with.p.shape = {3, {6, 1, 4}}},
    {"reshape_view", &op_reshape, "(2,3,8)", run_reshape_view, .with.p.shape = {4, {2, 3, 2, 2}}},
    {"reshape_twice", &op_reshape, "(4,3)", run_reshape_twice, .with.p.shape = {1, {12}}},
    {"slice_first", &op_slice, "(5,3)", run_slice, .with.p.slice = {0, 1, 2}},
    {"slice_last", &op_slice, "(2,3,5)", run_slice, .with.p.slice = {2, 4, 1}},
    {"slice_overlapping", &op_slice, "(2,6)", .run = run_slice_overlapping},
    {"cast", &op_cast, "(3,4,5)", run_cast, .with.p.slice = {1, 1, 2}},
    {"mse", &op_mse, "(3,4,5) (3,4,5)", .run = run_mse},
    {"mse_long", &op_mse, "(16400) stored", .run = run_mse},
};

const op_suite suite_attention = {"ops_attention.safetensors", cases, sizeof cases / sizeof *cases};
