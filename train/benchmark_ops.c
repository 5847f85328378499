/* Single ops at the sizes that cost most in SDXL at 512 x 512. */
#include "train/benchmark.h"

static err open_conv(benchmark *b)
{
    TRY(benchmark_input(b, "x", DIMS(1, 64, 64, 320)));
    TRY(benchmark_input(b, "w", DIMS(320, 3, 3, 320)));
    return benchmark_input(b, "b", DIMS(320));
}

static err run_conv(benchmark *b, ag *g)
{
    ag_conv2d(g, b->input[0], b->input[1], b->input[2], NULL, (conv_geometry){1, 1, 1, 1, 1});
    return ag_status(g);
}

static err run_conv_dx(benchmark *b, ag *g)
{
    conv_geometry same = {1, 1, 1, 1, 1};
    tensor       *dx = NULL;
    TRY(tensor_new(&dx, ag_arena(g), ag_device(g), LIFE_STEP, "dx", DT_F32, 4, b->input[0]->dim));
    err e = ag_device(g)->p->conv2d_dx(ag_device(g), dx, b->input[0], b->input[1], &same, false);
    tensor_release(dx);
    return e;
}

static err open_conv_small(benchmark *b)
{
    TRY(benchmark_input(b, "x", DIMS(1, 16, 16, 1280)));
    TRY(benchmark_input(b, "w", DIMS(1280, 3, 3, 1280)));
    return benchmark_input(b, "b", DIMS(1280));
}

static err open_attention(benchmark *b)
{
    for (int i = 0; i < 3; i++)
        TRY(benchmark_input(b, "qkv", DIMS(1, 4096, 10, 64)));
    return OK;
}

static err run_attention(benchmark *b, ag *g)
{
    ag_attention(g, b->input[0], b->input[1], b->input[2], 0.125f, false);
    return ag_status(g);
}

static err open_linear(benchmark *b)
{
    TRY(benchmark_input(b, "x", DIMS(1024, 1280)));
    return benchmark_input(b, "w", DIMS(10240, 1280));
}

static err run_linear(benchmark *b, ag *g)
{
    ag_linear(g, b->input[0], b->input[1], NULL, NULL);
    return ag_status(g);
}

static err open_geglu(benchmark *b)
{
    return benchmark_input(b, "x", DIMS(4096, 5120));
}

static err run_geglu(benchmark *b, ag *g)
{
    ag_geglu(g, b->input[0]);
    return ag_status(g);
}

static err open_group_norm(benchmark *b)
{
    TRY(benchmark_input(b, "x", DIMS(1, 64, 64, 640)));
    TRY(benchmark_input(b, "w", DIMS(640)));
    return benchmark_input(b, "b", DIMS(640));
}

static err run_group_norm(benchmark *b, ag *g)
{
    ag_group_norm(g, b->input[0], NULL, b->input[1], b->input[2], 32, 1e-5f, true);
    return ag_status(g);
}

static err open_layer_norm(benchmark *b)
{
    TRY(benchmark_input(b, "x", DIMS(4096, 640)));
    TRY(benchmark_input(b, "w", DIMS(640)));
    return benchmark_input(b, "b", DIMS(640));
}

static err run_layer_norm(benchmark *b, ag *g)
{
    ag_layer_norm(g, b->input[0], b->input[1], b->input[2], 1e-5f);
    return ag_status(g);
}

const benchmark_part benchmark_ops[] = {
    {"conv 3x3 320 at 64x64", " ops conv ", open_conv, run_conv, .times = 0},
    {"conv 3x3 320 at 64x64, data gradient", " ops ", open_conv, run_conv_dx, .times = 0},
    {"conv 3x3 1280 at 16x16", " ops ", open_conv_small, run_conv, .times = 0},
    {"attention 10 x 4096 x 64", " ops attention ", open_attention, run_attention, .times = 0},
    {"linear 1024 x 1280 -> 10240", " ops linear ", open_linear, run_linear, .times = 0},
    {"geglu 4096 x 5120", " ops ", open_geglu, run_geglu, .times = 0},
    {"group norm + SiLU 64 x 64 x 640", " ops ", open_group_norm, run_group_norm, .times = 0},
    {"layer norm 4096 x 640", " ops ", open_layer_norm, run_layer_norm, .times = 0},
    {0},
};
