/* The attention kernels of autograd/cuda/ against the CPU's primitives: heads of every engine and register size, sizes that
 * tiles do and do not divide, strided heads, masks that leave queries, subjects and samples uncovered. */
#include <math.h>

#include "support_kernels.h"

#include "autograd/cpu/cpu.h"

#define CPU(call) assert_int_equal(call, OK)
#define ON(t) world_mirror(&w, t)
#define HEADS(t, on) world_heads(t, on)

/* (B,T,H,D), T, S: sizes; packed: q, k, v side by side in one tensor. */
typedef struct attention_case {
    int64_t b, t, s, h, d;
    bool    causal;
} attention_case;

static const attention_case cases[] = {
    {2, 5, 7, 2, 8, false},  {1, 77, 77, 2, 64, true},   {1, 40, 100, 1, 104, false}, {1, 33, 65, 1, 40, false},
    {1, 70, 35, 2, 3, true}, {1, 34, 66, 1, 160, false}, {1, 33, 65, 1, 512, false},  {2, 16, 16, 3, 128, true},
};

static void one_attention(const attention_case *c, int bf16, int add)
{
    kernel_world w;
    dtype        type = bf16 ? DT_BF16 : DT_F32;
    float        scale = 1.0f / sqrtf((float)c->d);
    cuda_attention_shape shape = {c->b, c->t, c->s, c->h, c->d, scale, c->causal, bf16};
    world_open(&w);
    tensor *q = world_tensor(&w, type, 0, 2, DIMS(c->b, c->t, c->h, c->d)), *kv = world_tensor(&w, type, 0, 2, DIMS(c->b, c->s, 2 * c->h, c->d));
    tensor  k = *kv, v = *kv; /* halves of a merged projection */
    k.dim[2] = v.dim[2] = c->h;
    v.data = (char *)kv->data + (size_t)(c->h * c->d) * dtype_bytes(type);
    tensor *y = world_output(&w, type, false, 4, q->dim), *lse = world_output(&w, DT_F32, false, DIMS(c->b, c->h, c->t));
    tensor *dy = world_tensor(&w, type, 0, 2, 4, q->dim), *dq = world_output(&w, type, add, 4, q->dim);
    tensor *dk = world_output(&w, type, add, DIMS(c->b, c->s, c->h, c->d)), *dv = world_output(&w, type, add, 4, dk->dim);
    char *on_kv = ON(kv);
    void *on_y = ON(y), *on_lse = ON(lse), *on_dq = ON(dq), *on_dk = ON(dk), *on_dv = ON(dv);
    cuda_heads on_q = HEADS(q, ON(q)), on_k = HEADS(&k, on_kv), on_v = HEADS(&v, on_kv + ((char *)v.data - (char *)kv->data));
    CPU(cpu_attention(w.cpu, y, lse, q, &k, &v, scale, c->causal));
    launched(cuda_attention_launch(HEADS(y, on_y), on_lse, on_q, on_k, on_v, &shape, NULL));
    assert_mirror(&w, "attention", y, on_y, bf16);
    assert_mirror(&w, "attention lse", lse, on_lse, false);
    CPU(cpu_attention_backward(w.cpu, dq, dk, dv, dy, y, lse, q, &k, &v, scale, c->causal, add, add, add));
    launched(cuda_attention_backward_launch(HEADS(dq, on_dq), HEADS(dk, on_dk), HEADS(dv, on_dv), HEADS(dy, ON(dy)), on_lse, on_q,
                                            on_k, on_v, &shape, add, add, add,
                                            world_scratch(&w, cuda_attention_backward_scratch_bytes(&shape)), NULL));
    assert_mirror(&w, "attention dq", dq, on_dq, bf16);
    assert_mirror(&w, "attention dk", dk, on_dk, bf16);
    assert_mirror(&w, "attention dv", dv, on_dv, bf16);
    world_close(&w);
}

static void test_attention(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 4; k++)
            one_attention(&cases[i], k & 1, k >> 1);
}

typedef struct subjects_case {
    int64_t b, a, subjects, tokens, t, h, d;
    float   most; /* of the mask's values: below 1 nothing is covered */
    bool    scales, base;
} subjects_case;

static const subjects_case subjects_cases[] = {
    {2, 2, 2, 16, 90, 2, 64, 1.7f, false, true}, {3, 2, 3, 16, 37, 1, 64, 1.3f, true, true}, {2, 1, 2, 4, 30, 2, 8, 1.5f, true, false},
    {1, 1, 3, 5, 20, 1, 12, 1.6f, false, true},  {2, 2, 2, 16, 40, 2, 128, 1.5f, true, true}, {1, 1, 2, 8, 600, 1, 32, 1.2f, false, false},
    {2, 2, 2, 16, 20, 1, 64, 0.9f, false, true}, {1, 1, 1, 16, 33, 1, 176, 2.0f, false, true}, {1, 1, 2, 24, 21, 1, 80, 1.5f, true, true},
    {1, 1, 2, 5, 25, 1, 100, 1.5f, false, true},
};

static void one_subjects(const subjects_case *c, int bf16, int add)
{
    kernel_world w;
    dtype        type = bf16 ? DT_BF16 : DT_F32;
    cuda_subjects_shape g = {c->b, c->a, c->subjects, c->tokens, c->t, c->h, c->d, 0.6f, bf16};
    world_open(&w);
    int64_t n = c->subjects * c->tokens;
    tensor *q = world_tensor(&w, type, 0, 2, DIMS(c->b, c->t, c->h, c->d)), *k = world_tensor(&w, type, 0, 2, DIMS(c->a, n, c->h, c->d));
    tensor *v = world_tensor(&w, type, 0, 2, 4, k->dim), *base = c->base ? world_tensor(&w, type, 0, 2, 4, q->dim) : NULL;
    tensor *mask = world_tensor(&w, DT_U8, c->most / 2, c->most / 2, DIMS(c->a, c->subjects, c->t));
    tensor *scales = c->scales ? world_tensor(&w, DT_F32, 1, 0.5f, DIMS(c->subjects)) : NULL;
    tensor *y = world_output(&w, type, false, 4, q->dim), *lse = world_output(&w, DT_F32, false, DIMS(c->a, c->h, c->t));
    tensor *dy = world_tensor(&w, type, 0, 2, 4, q->dim), *dq = world_output(&w, type, add, 4, q->dim);
    tensor *dk = world_output(&w, type, add, 4, k->dim), *dv = world_output(&w, type, add, 4, k->dim);
    void *on_y = ON(y), *on_lse = ON(lse), *on_dq = ON(dq), *on_dk = ON(dk), *on_dv = ON(dv), *on_mask = ON(mask), *on_scales = ON(scales);
    cuda_heads on_q = HEADS(q, ON(q)), on_k = HEADS(k, ON(k)), on_v = HEADS(v, ON(v));
    CPU(cpu_multi_subject_attention(w.cpu, y, lse, base, q, k, v, mask, scales, g.scale));
    launched(cuda_subjects_launch(HEADS(y, on_y), on_lse, HEADS(base, ON(base)), on_q, on_k, on_v, on_mask, on_scales, &g,
                                  world_scratch(&w, cuda_subjects_scratch_bytes(&g)), NULL));
    assert_mirror(&w, "subjects", y, on_y, bf16);
    assert_mirror(&w, "subjects lse", lse, on_lse, false);
    CPU(cpu_multi_subject_attention_backward(w.cpu, dq, dk, dv, dy, lse, q, k, v, mask, scales, g.scale, add, add, add));
    launched(cuda_subjects_backward_launch(HEADS(dq, on_dq), HEADS(dk, on_dk), HEADS(dv, on_dv), HEADS(dy, ON(dy)), on_lse, on_q, on_k,
                                           on_v, on_mask, on_scales, &g, add, add, add,
                                           world_scratch(&w, cuda_subjects_backward_scratch_bytes(&g)), NULL));
    assert_mirror(&w, "subjects dq", dq, on_dq, bf16);
    assert_mirror(&w, "subjects dk", dk, on_dk, bf16);
    assert_mirror(&w, "subjects dv", dv, on_dv, bf16);
    world_close(&w);
}

static void test_subjects(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof subjects_cases / sizeof *subjects_cases; i++)
        for (int k = 0; k < 4; k++)
            one_subjects(&subjects_cases[i], k & 1, k >> 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_subjects)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
