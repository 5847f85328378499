#include <omp.h>
#include <stdlib.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/memory.h"
#include "autograd/cpu/onednn.h"
#include "base/threads.h"

static const primitives cpu_primitives = {
    .upload = cpu_upload,
    .download = cpu_download,
    .fill = cpu_fill,
    .copy = cpu_copy,
    .lay_out = cpu_lay_out,
    .linear = cpu_linear,
    .linear_dx = cpu_linear_dx,
    .linear_dw = cpu_linear_dw,
    .sum_rows = cpu_sum_rows,
    .conv2d = cpu_conv2d,
    .conv2d_dx = cpu_conv2d_dx,
    .group_norm = cpu_group_norm,
    .group_norm_dx = cpu_group_norm_dx,
    .layer_norm = cpu_layer_norm,
    .layer_norm_dx = cpu_layer_norm_dx,
    .layer_norm_dwb = cpu_layer_norm_dwb,
    .unary = cpu_unary,
    .unary_dx = cpu_unary_dx,
    .geglu = cpu_geglu,
    .geglu_dx = cpu_geglu_dx,
    .add = cpu_add,
    .mul = cpu_mul,
    .reduce_to = cpu_reduce_to,
    .scale = cpu_scale,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
    .box_mask = cpu_box_mask,
    .multi_subject_attention = cpu_multi_subject_attention,
    .multi_subject_attention_backward = cpu_multi_subject_attention_backward,
    .embedding = cpu_embedding,
    .embedding_dtable = cpu_embedding_dtable,
    .time_embedding = cpu_time_embedding,
    .box_embedding = cpu_box_embedding,
    .select = cpu_select,
    .select_backward = cpu_select_backward,
    .upsample = cpu_upsample,
    .upsample_dx = cpu_upsample_dx,
    .mse = cpu_mse,
    .mse_backward = cpu_mse_backward,
    .sum_squares = cpu_sum_squares,
    .adamw = cpu_adamw,
    .adamw8 = cpu_adamw8,
};

/* Those that take scratch. */
static const primitives cpu_dry = {
    .linear = cpu_linear,
    .linear_dx = cpu_linear_dx,
    .linear_dw = cpu_linear_dw,
    .conv2d = cpu_conv2d,
    .conv2d_dx = cpu_conv2d_dx,
    .group_norm = cpu_group_norm,
    .group_norm_dx = cpu_group_norm_dx,
    .layer_norm = cpu_layer_norm,
    .layer_norm_dx = cpu_layer_norm_dx,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
    .multi_subject_attention = cpu_multi_subject_attention,
    .multi_subject_attention_backward = cpu_multi_subject_attention_backward,
    .mse = cpu_mse,
    .sum_squares = cpu_sum_squares,
};

static void close_cpu(device *d)
{
    onednn_close(d->state);
    cpu_allocator_free(d->memory);
    free(d);
}

err device_open_cpu(device **out, int threads)
{
    device *d = heap_get(sizeof *d);
    *d = (device){.kind = "cpu", .p = &cpu_primitives, .dry = &cpu_dry, .memory = cpu_allocator_new(),
                  .threads = threads > 0 ? threads : threads_usable(), .close = close_cpu};
    omp_set_num_threads(d->threads); /* for oneDNN, which has no thread count of its own */
    onednn *state = NULL;
    err e = onednn_open(&state);
    d->state = state;
    if (e != OK) {
        device_close(d);
        return e;
    }
    *out = d;
    return OK;
}
