/* AdamW: the kernels of optimizer.cu. */
#include "autograd/cuda/cuda.h"
#include "autograd/moment_code.h"

err cuda_adamw(device *d, tensor *p, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
               double beta1, double beta2, double eps, double decay, int64_t step)
{
    const tensor *wide[] = {p, m, v, g};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        TRY(cuda_need_f32("adamw", wide[i]));
    CHECK(!copy || copy->type == DT_BF16, "adamw: the copy of %s is %s", p->name, dtype_name(copy->type));
    CUDA_TRY(cuda_adamw_launch(p->data, m->data, v->data, copy ? copy->data : NULL, g ? g->data : NULL, tensor_count(p),
                               clip, lr, beta1, beta2, eps, decay, step, cuda_stream_of(d)));
    return OK;
}

/* The codes' tables, on the card from the first call on. */
static err need_maps(device *d)
{
    cuda_state *s = cuda_state_of(d);
    if (s->maps)
        return OK;
    float host[4 * MOMENT_CODES];
    void *memory = NULL;
    for (int i = 0; i < 2; i++) {
        moment_map map;
        moment_map_make(&map, i == 0);
        for (int j = 0; j < MOMENT_CODES; j++) {
            host[2 * i * MOMENT_CODES + j] = map.value[j];
            host[(2 * i + 1) * MOMENT_CODES + j] = map.middle[j];
        }
    }
    TRY(cuda_card_get(&memory, sizeof host));
    s->maps = memory;
    CUDA_TRY(cudaMemcpy(s->maps, host, sizeof host, cudaMemcpyHostToDevice));
    return OK;
}

err cuda_adamw8(device *d, tensor *p, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy,
                const tensor *g, float clip, double lr, double beta1, double beta2, double eps, double decay,
                int64_t step)
{
    TRY(cuda_need_f32("adamw8", p));
    TRY(cuda_need_f32("adamw8", g));
    if (m->type != DT_U8 || v->type != DT_U8 || (copy && copy->type != DT_BF16))
        return err_set(E_SHAPE, "adamw8: the moments of %s are %s and %s, its copy %s; expected u8, u8 and bf16",
                       p->name, dtype_name(m->type), dtype_name(v->type), copy ? dtype_name(copy->type) : "none");
    TRY(need_maps(d));
    CUDA_TRY(cuda_adamw8_launch(p->data, m->data, m_absmax->data, v->data, v_absmax->data, copy ? copy->data : NULL,
                                g ? g->data : NULL, cuda_state_of(d)->maps, tensor_count(p), clip, lr, beta1, beta2,
                                eps, decay, step, cuda_stream_of(d)));
    return OK;
}
