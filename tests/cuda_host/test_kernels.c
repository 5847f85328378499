/* Each launcher of autograd/cuda/kernels.h against the CPU's primitive, f32 and bf16, at sizes that packs of 16 bytes do and
 * do not divide. Outputs and scratch begin as NaN patterns. Tolerances: support_kernels.h. */
#include <string.h>

#include "support_kernels.h"

#include "autograd/cpu/cpu.h"
#include "autograd/moment_code.h"

static dtype float_type(int bf16)
{
    return bf16 ? DT_BF16 : DT_F32;
}

static cuda_walk walk_of(const tensor *shape, const tensor *to, const tensor *from)
{
    cuda_walk w = {.ndim = shape->ndim};
    for (int i = 0; i < shape->ndim; i++) {
        w.dim[i] = shape->dim[i];
        int t = to ? i - (shape->ndim - to->ndim) : -1, f = from ? i - (shape->ndim - from->ndim) : -1;
        w.to[i] = t >= 0 && to->dim[t] == shape->dim[i] ? to->stride[t] : 0;
        w.from[i] = f >= 0 && from->dim[f] == shape->dim[i] ? from->stride[f] : 0;
    }
    return w;
}

#define CPU(call) assert_int_equal(call, OK)
#define TENSOR(...) world_tensor(&w, type, 0.0f, 2.0f, DIMS(__VA_ARGS__))
#define OUTPUT(...) world_output(&w, type, add, DIMS(__VA_ARGS__))
#define FLOATS(...) world_output(&w, DT_F32, add, DIMS(__VA_ARGS__))
#define ON(t) world_mirror(&w, t)
#define SAME(t, mirror) assert_mirror(&w, __func__, t, mirror, bf16)
#define FOR_BOTH_TYPES                                     \
    for (int bf16 = 0; bf16 < 2; bf16++)                   \
        for (int add = 0; add < 2; add++)
#define WORLD                               \
    dtype        type = float_type(bf16);   \
    kernel_world w;                         \
    world_open(&w);                         \
    (void)type

static void test_elementwise(void **state)
{
    (void)state;
    FOR_BOTH_TYPES {
        for (int64_t n = 1; n < 4000; n = n * 7 + 5) {
            WORLD;
            w.odd = n == 89;
            tensor *x = TENSOR(n), *dy = TENSOR(n), *y = world_output(&w, type, false, DIMS(n)), *dx = OUTPUT(n);
            void *on_x = ON(x), *on_dy = ON(dy), *on_y = ON(y), *on_dx = ON(dx), *on_scaled;
            for (int f = 0; f < 3; f++) {
                CPU(cpu_unary(w.cpu, y, x, (unary)f));
                launched(cuda_unary_launch(on_y, on_x, n, (cuda_function)f, bf16, NULL));
                SAME(y, on_y);
                CPU(cpu_unary_dx(w.cpu, dx, dy, x, (unary)f, add));
                launched(cuda_unary_dx_launch(on_dx, on_dy, on_x, n, (cuda_function)f, add, bf16, NULL));
                SAME(dx, on_dx);
            }
            tensor *scaled = OUTPUT(n), *dloss = world_tensor(&w, DT_F32, 2.0f, 1.0f, DIMS(1)), *da = OUTPUT(n);
            on_scaled = ON(scaled);
            CPU(cpu_scale(w.cpu, scaled, x, 0.37f, add));
            launched(cuda_scale_launch(on_scaled, on_x, 0.37f, n, add, bf16, NULL));
            SAME(scaled, on_scaled);
            void *on_da = ON(da);
            CPU(cpu_mse_backward(w.cpu, da, dloss, x, dy, -1.0f, add));
            launched(cuda_mse_backward_launch(on_da, ON(dloss), on_x, on_dy, n, -1.0f, add, bf16, NULL));
            SAME(da, on_da);
            world_close(&w);
        }
        for (int64_t m = 5; m < 50; m += 19) {
            WORLD;
            tensor *x = TENSOR(7, 2 * m), *dy = TENSOR(7, m), *y = world_output(&w, type, false, DIMS(7, m)), *dx = OUTPUT(7, 2 * m);
            void *on_x = ON(x), *on_y = ON(y), *on_dx = ON(dx);
            CPU(cpu_geglu(w.cpu, y, x));
            launched(cuda_geglu_launch(on_y, on_x, 7, m, bf16, NULL));
            SAME(y, on_y);
            CPU(cpu_geglu_dx(w.cpu, dx, dy, x, add));
            launched(cuda_geglu_dx_launch(on_dx, ON(dy), on_x, 7, m, add, bf16, NULL));
            SAME(dx, on_dx);
            world_close(&w);
        }
    }
}

typedef struct pair {
    int     a_ndim, b_ndim;
    int64_t a[5], b[5];
} pair;

static const pair pairs[] = {
    {3, 3, {2, 5, 9}, {2, 5, 9}},      {3, 1, {2, 5, 16}, {16}},       {3, 2, {4, 6, 7}, {6, 7}}, {3, 3, {2, 70, 24}, {2, 1, 24}},
    {3, 3, {3, 5, 8}, {3, 5, 1}},      {4, 4, {2, 3, 4, 8}, {1, 3, 1, 8}}, {2, 1, {300, 65}, {65}}, {2, 1, {33, 10}, {1}},
    {4, 4, {2, 3, 4, 5}, {2, 1, 4, 1}}, {1, 1, {9000}, {1}},
    {2, 2, {4200, 40}, {4200, 1}}, /* more outputs than blocks */
};

static void test_broadcast(void **state)
{
    (void)state;
    FOR_BOTH_TYPES {
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            const pair *p = &pairs[i];
            WORLD;
            tensor *a = world_tensor(&w, type, 0, 2, p->a_ndim, p->a), *b = world_tensor(&w, type, 0, 2, p->b_ndim, p->b);
            tensor *y = world_output(&w, type, false, p->a_ndim, p->a);
            void *on_a = ON(a), *on_b = ON(b), *on_y = ON(y);
            cuda_walk from_b = walk_of(a, NULL, b), to_b = walk_of(a, b, NULL);
            CPU(cpu_add(w.cpu, y, a, b));
            launched(cuda_add_launch(on_y, on_a, on_b, &from_b, bf16, NULL));
            SAME(y, on_y);
            CPU(cpu_mul(w.cpu, y, a, b));
            launched(cuda_mul_launch(on_y, on_a, on_b, &from_b, bf16, NULL));
            SAME(y, on_y);
            for (int wide = !bf16; wide < 2; wide++) {
                for (int other = 0; other < 2; other++) {
                    tensor *db = world_output(&w, wide ? DT_F32 : type, add, p->b_ndim, p->b);
                    void *on_db = ON(db), *scratch = world_scratch(&w, cuda_reduce_to_scratch_bytes(&to_b));
                    CPU(cpu_reduce_to(w.cpu, db, a, other ? y : NULL, add));
                    launched(cuda_reduce_to_launch(on_db, on_a, other ? on_y : NULL, &to_b, add, wide, bf16, scratch, NULL));
                    SAME(db, on_db);
                }
            }
            world_close(&w);
        }
        WORLD;
        tensor *dy = TENSOR(301, 67), *db = FLOATS(67);
        void *on_db = ON(db);
        CPU(cpu_sum_rows(w.cpu, db, dy, add));
        launched(cuda_sum_rows_launch(on_db, ON(dy), 301, 67, add, bf16, world_scratch(&w, cuda_sum_rows_scratch_bytes(301, 67)), NULL));
        SAME(db, on_db);
        world_close(&w);
    }
}

static void test_sums(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (int64_t n = 3; n < 100000; n = n * 19) {
            int add = 0;
            WORLD;
            tensor *a = TENSOR(n), *b = TENSOR(n), *loss = FLOATS(1), *x = world_tensor(&w, DT_F32, 0, 2, DIMS(n));
            void *on_loss = ON(loss), *on_sum = world_scratch(&w, sizeof(double));
            CPU(cpu_mse(w.cpu, loss, a, b));
            launched(cuda_mse_launch(on_loss, ON(a), ON(b), n, bf16, world_scratch(&w, cuda_mse_scratch_bytes(n)), NULL));
            assert_mirror(&w, "mse", loss, on_loss, false);
            double expected, sum;
            CPU(cpu_sum_squares(w.cpu, &expected, x));
            launched(cuda_sum_squares_launch(on_sum, ON(x), n, world_scratch(&w, cuda_sum_squares_scratch_bytes(n)), NULL));
            assert_int_equal(cudaMemcpy(&sum, on_sum, sizeof sum, cudaMemcpyDeviceToHost), cudaSuccess);
            assert_true(sum >= expected * (1 - 1e-12) && sum <= expected * (1 + 1e-12));
            world_close(&w);
        }
    }
}

static void test_copy(void **state)
{
    (void)state;
    static const dtype from[] = {DT_F32, DT_BF16, DT_F16, DT_I32, DT_U8}, to[] = {DT_F32, DT_BF16, DT_F16, DT_I32, DT_U8};
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < 5; j++) {
            for (int add = 0; add < (to[j] <= DT_BF16 ? 2 : 1); add++) {
                for (int turned = 0; turned < 3; turned++) {
                    kernel_world w;
                    world_open(&w);
                    tensor *x = world_tensor(&w, from[i], 60, 50, DIMS(6, turned == 2 ? 7 : 8, 16));
                    tensor *y = world_output(&w, to[j], to[j] > DT_F16 || add, 3, x->dim);
                    void *on_x = ON(x), *on_y = ON(y);
                    tensor views = *x, part = *y;
                    if (turned == 1) { /* a transposition */
                        part.dim[0] = x->dim[2], part.dim[2] = x->dim[0];
                        part.stride[0] = 1, part.stride[2] = 128;
                        views.dim[0] = part.dim[0], views.dim[2] = part.dim[2];
                        views.stride[0] = 48, views.stride[1] = 6, views.stride[2] = 1;
                    }
                    cuda_walk walk = {.ndim = 3};
                    for (int d = 0; d < 3; d++) {
                        walk.dim[d] = views.dim[d];
                        walk.to[d] = part.stride[d];
                        walk.from[d] = views.stride[d];
                    }
                    CPU(cpu_copy(w.cpu, &part, &views, add));
                    launched(cuda_copy_launch(on_y, (int)to[j], on_x, (int)from[i], &walk, add, NULL));
                    assert_mirror(&w, "copy", y, on_y, false);
                    if (turned == 0) {
                        CPU(cpu_fill(w.cpu, y, 3.25f));
                        launched(cuda_fill_launch(on_y, (int)to[j], &walk, 3.25f, NULL));
                        assert_mirror(&w, "fill", y, on_y, false);
                    }
                    world_close(&w);
                }
            }
        }
    }
}

static void test_group_norm(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{2, 5, 12, 4}, {2, 70, 64, 8}, {1, 600, 80, 8}, {2, 33, 320, 32}, {1, 1200, 6, 3}};
    FOR_BOTH_TYPES {
        for (int i = 0; i < 20; i++) {
            const int64_t *s = sizes[i / 4];
            int silu = i & 1, with_vec = i >> 1 & 1, groups = (int)s[3];
            WORLD;
            tensor *x = world_tensor(&w, type, 3, 1, DIMS(s[0], s[1], s[2])), *dy = TENSOR(s[0], s[1], s[2]);
            tensor *vec = with_vec ? TENSOR(s[0], s[2]) : NULL, *weight = TENSOR(s[2]), *b = TENSOR(s[2]);
            tensor *y = world_output(&w, type, false, 3, x->dim), *dx = world_output(&w, type, add, 3, x->dim);
            tensor *mean = world_output(&w, DT_F32, false, DIMS(s[0], s[3])), *rstd = world_output(&w, DT_F32, false, DIMS(s[0], s[3]));
            void *on_x = ON(x), *on_vec = ON(vec), *on_w = ON(weight), *on_b = ON(b), *on_y = ON(y), *on_dx = ON(dx);
            void *on_mean = ON(mean), *on_rstd = ON(rstd);
            CPU(cpu_group_norm(w.cpu, y, mean, rstd, x, vec, weight, b, groups, 1e-5f, silu));
            launched(cuda_group_norm_launch(on_y, on_mean, on_rstd, on_x, on_vec, on_w, on_b, s[0], s[1], s[2], groups, 1e-5f,
                                            silu, bf16, world_scratch(&w, cuda_group_norm_scratch_bytes(s[0], s[1], s[2], groups)),
                                            NULL));
            SAME(y, on_y);
            assert_mirror(&w, "group_norm mean", mean, on_mean, false);
            assert_mirror(&w, "group_norm rstd", rstd, on_rstd, false);
            CPU(cpu_group_norm_dx(w.cpu, dx, dy, x, vec, weight, b, mean, rstd, groups, silu, add));
            launched(cuda_group_norm_dx_launch(on_dx, ON(dy), on_x, on_vec, on_w, on_b, on_mean, on_rstd, s[0], s[1], s[2], groups,
                                               silu, add, bf16,
                                               world_scratch(&w, cuda_group_norm_dx_scratch_bytes(s[0], s[1], s[2], groups)), NULL));
            SAME(dx, on_dx);
            world_close(&w);
        }
    }
}

static void test_layer_norm(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{3, 5}, {130, 72}, {7, 1288}};
    FOR_BOTH_TYPES {
        for (int i = 0; i < 6; i++) {
            int64_t rows = sizes[i / 2][0], n = sizes[i / 2][1];
            WORLD;
            tensor *x = world_tensor(&w, type, 3, 1, DIMS(rows, n)), *dy = TENSOR(rows, n), *weight = i % 2 ? TENSOR(n) : NULL;
            tensor *b = i % 2 ? TENSOR(n) : NULL, *y = world_output(&w, type, false, 2, x->dim), *dx = world_output(&w, type, add, 2, x->dim);
            tensor *mean = world_output(&w, DT_F32, false, DIMS(rows)), *rstd = world_output(&w, DT_F32, false, DIMS(rows));
            tensor *dw = FLOATS(n), *db = FLOATS(n);
            void *on_x = ON(x), *on_dy = ON(dy), *on_w = ON(weight), *on_y = ON(y), *on_dx = ON(dx), *on_mean = ON(mean), *on_rstd = ON(rstd);
            void *on_dw = ON(dw), *on_db = ON(db), *scratch = world_scratch(&w, cuda_layer_norm_dwb_scratch_bytes(rows, n));
            CPU(cpu_layer_norm(w.cpu, y, mean, rstd, x, weight, b, 1e-5f));
            launched(cuda_layer_norm_launch(on_y, on_mean, on_rstd, on_x, on_w, ON(b), rows, n, 1e-5f, bf16, NULL));
            SAME(y, on_y);
            assert_mirror(&w, "layer_norm mean", mean, on_mean, false);
            assert_mirror(&w, "layer_norm rstd", rstd, on_rstd, false);
            CPU(cpu_layer_norm_dx(w.cpu, dx, dy, x, weight, mean, rstd, add));
            launched(cuda_layer_norm_dx_launch(on_dx, on_dy, on_x, on_w, on_mean, on_rstd, rows, n, add, bf16, NULL));
            SAME(dx, on_dx);
            CPU(cpu_layer_norm_dwb(w.cpu, dw, db, dy, x, mean, rstd, add, add));
            launched(cuda_layer_norm_dwb_launch(on_dw, on_db, on_dy, on_x, on_mean, on_rstd, rows, n, add, add, bf16, scratch, NULL));
            SAME(dw, on_dw);
            SAME(db, on_db);
            world_close(&w);
        }
    }
}

static void test_embeddings(void **state)
{
    (void)state;
    FOR_BOTH_TYPES {
        for (int64_t width = 5; width < 50; width += 19) {
            WORLD;
            tensor *table = TENSOR(11, width), *ids = world_tensor(&w, DT_I32, 5, 5, DIMS(40)), *dy = TENSOR(40, width);
            tensor *y = world_output(&w, type, false, DIMS(40, width)), *dtable = FLOATS(11, width);
            void *on_ids = ON(ids), *on_y = ON(y), *on_dtable = ON(dtable);
            CPU(cpu_embedding(w.cpu, y, table, ids));
            launched(cuda_embedding_launch(on_y, NULL, ON(table), on_ids, 40, 11, width, bf16, NULL));
            SAME(y, on_y);
            CPU(cpu_embedding_dtable(w.cpu, dtable, dy, ids, add));
            launched(cuda_embedding_dtable_launch(on_dtable, ON(dy), on_ids, 40, 11, width, add, bf16, NULL));
            SAME(dtable, on_dtable);
            world_close(&w);
        }
    }
    int bf16 = 0, add = 0;
    WORLD;
    tensor *t = world_tensor(&w, DT_F32, 500, 499, DIMS(9)), *y = OUTPUT(9, 20), *boxes = world_tensor(&w, DT_F32, 0.5f, 0.5f, DIMS(9, 4));
    tensor *box = OUTPUT(9, 64), *mask = world_tensor(&w, DT_U8, 7, 1, DIMS(9, 7 * 12));
    void *on_y = ON(y), *on_boxes = ON(boxes), *on_box = ON(box), *on_mask = ON(mask);
    CPU(cpu_time_embedding(w.cpu, y, t));
    launched(cuda_time_embedding_launch(on_y, ON(t), 9, 20, NULL));
    SAME(y, on_y);
    CPU(cpu_box_embedding(w.cpu, box, boxes, 8));
    launched(cuda_box_embedding_launch(on_box, on_boxes, 9, 8, NULL));
    SAME(box, on_box);
    CPU(cpu_box_mask(w.cpu, mask, boxes, 7, 12));
    launched(cuda_box_mask_launch(on_mask, on_boxes, 9, 7, 12, NULL));
    SAME(mask, on_mask);
    world_close(&w);
}

static void test_pictures(void **state)
{
    (void)state;
    FOR_BOTH_TYPES {
        for (int i = 0; i < 4; i++) {
            int64_t one = i & 1, size = i & 2 ? 21 : 48, channels = i & 2 ? 5 : 16;
            WORLD;
            tensor *a = TENSOR(one ? 1 : 6, size), *b = TENSOR(6, size), *pick = world_tensor(&w, DT_I32, 1, 1, DIMS(6));
            tensor *y = world_output(&w, type, false, DIMS(6, size)), *da = OUTPUT(one ? 1 : 6, size), *db = FLOATS(6, size);
            void *on_pick = ON(pick), *on_y = ON(y), *on_da = ON(da), *on_db = ON(db), *on_b = ON(b);
            CPU(cpu_select(w.cpu, y, pick, a, b));
            launched(cuda_select_launch(on_y, on_pick, ON(a), on_b, 6, size, one, bf16, NULL));
            SAME(y, on_y);
            CPU(cpu_select_backward(w.cpu, da, db, b, pick, add, add));
            launched(cuda_select_backward_launch(on_da, on_b, on_pick, 6, size, one, true, add, false, bf16, NULL));
            launched(cuda_select_backward_launch(on_db, on_b, on_pick, 6, size, false, false, add, true, bf16, NULL));
            SAME(da, on_da);
            SAME(db, on_db);
            tensor *x = TENSOR(2, 3, 4, channels), *up = world_output(&w, type, false, DIMS(2, 5, 8, channels));
            tensor *dup = TENSOR(2, 5, 8, channels), *dx = OUTPUT(2, 3, 4, channels);
            void *on_up = ON(up), *on_dx = ON(dx);
            CPU(cpu_upsample(w.cpu, up, x));
            launched(cuda_upsample_launch(on_up, ON(x), 2, 3, 4, 5, 8, channels, bf16, NULL));
            SAME(up, on_up);
            CPU(cpu_upsample_dx(w.cpu, dx, dup, add));
            launched(cuda_upsample_dx_launch(on_dx, ON(dup), 2, 3, 4, 5, 8, channels, add, bf16, NULL));
            SAME(dx, on_dx);
            world_close(&w);
        }
    }
}

static void test_adamw(void **state)
{
    (void)state;
    int bf16 = 0, add = 1;
    for (int k = 0; k < 4; k++) {
        bool with_g = k & 1;
        WORLD;
        w.odd = k >> 1;
        tensor *p = TENSOR(1003), *m = TENSOR(1003), *v = world_tensor(&w, DT_F32, 1, 1, DIMS(1003)), *g = with_g ? TENSOR(1003) : NULL;
        tensor *copy = world_output(&w, DT_BF16, false, DIMS(1003)), *m8 = world_tensor(&w, DT_U8, 127, 120, DIMS(1003));
        tensor *v8 = world_tensor(&w, DT_U8, 127, 120, DIMS(1003)), *m_most = FLOATS(4), *v_most = FLOATS(4), *maps = FLOATS(4, 256);
        moment_map map[2];
        moment_map_make(&map[0], true);
        moment_map_make(&map[1], false);
        memcpy(maps->data, map, sizeof map);
        void *on_p = ON(p), *on_m = ON(m), *on_v = ON(v), *on_g = ON(g), *on_copy = ON(copy), *on_m8 = ON(m8), *on_v8 = ON(v8);
        void *on_m_most = ON(m_most), *on_v_most = ON(v_most);
        CPU(cpu_adamw(w.cpu, p, m, v, copy, g, 0.7f, 1e-2, 0.9, 0.999, 1e-8, 0.01, 3));
        launched(cuda_adamw_launch(on_p, on_m, on_v, on_copy, on_g, 1003, 0.7f, 1e-2, 0.9, 0.999, 1e-8, 0.01, 3, NULL));
        SAME(p, on_p);
        SAME(m, on_m);
        SAME(v, on_v);
        assert_mirror(&w, "adamw's copy", copy, on_copy, true);
        CPU(cpu_adamw8(w.cpu, p, m8, m_most, v8, v_most, copy, g, 0.7f, 1e-2, 0.9, 0.999, 1e-8, 0.01, 3));
        launched(cuda_adamw8_launch(on_p, on_m8, on_m_most, on_v8, on_v_most, on_copy, on_g, ON(maps), 1003, 0.7f, 1e-2, 0.9, 0.999,
                                    1e-8, 0.01, 3, NULL));
        SAME(p, on_p);
        SAME(m_most, on_m_most);
        SAME(v_most, on_v_most);
        assert_mirror(&w, "adamw8's m", m8, on_m8, true); /* a number on the border of two codes may take either */
        assert_mirror(&w, "adamw8's v", v8, on_v8, true);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise), cmocka_unit_test(test_broadcast),  cmocka_unit_test(test_sums),
        cmocka_unit_test(test_copy),        cmocka_unit_test(test_group_norm), cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_embeddings),  cmocka_unit_test(test_pictures),   cmocka_unit_test(test_adamw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
