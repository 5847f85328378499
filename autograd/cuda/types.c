#include "autograd/cuda/cuda.h"

err cuda_one_type_strided(bool *bf16, const char *primitive, int count, const tensor *const *t)
{
    for (int i = 0; i < count; i++) {
        if (!t[i])
            continue;
        if (t[i]->type != DT_F32 && t[i]->type != DT_BF16)
            return err_set(E_DEVICE, "cuda %s: %s is %s, expected f32 or bf16; leave --dtype at auto", primitive,
                           t[i]->name, dtype_name(t[i]->type));
        if (t[i]->type != t[0]->type)
            return err_set(E_DEVICE, "cuda %s: %s is %s, %s is %s; expected one type for both; cast the inputs",
                           primitive, t[i]->name, dtype_name(t[i]->type), t[0]->name, dtype_name(t[0]->type));
    }
    *bf16 = t[0]->type == DT_BF16;
    return OK;
}

static void check_dense(const char *primitive, const tensor *t)
{
    CHECK(!t || tensor_contiguous(t), "cuda %s: %s is strided", primitive, t->name);
}

err cuda_one_type(bool *bf16, const char *primitive, int count, const tensor *const *t)
{
    TRY(cuda_one_type_strided(bf16, primitive, count, t));
    for (int i = 0; i < count; i++)
        check_dense(primitive, t[i]);
    return OK;
}

err cuda_gradient_type(bool *wide, const char *primitive, const tensor *dx, bool bf16)
{
    if (dx->type != DT_F32 && (dx->type != DT_BF16 || !bf16))
        return err_set(E_DEVICE, "cuda %s: the gradient of %s is %s, expected %s", primitive, dx->name,
                       dtype_name(dx->type), bf16 ? "bf16 or f32" : "f32");
    check_dense(primitive, dx);
    *wide = dx->type == DT_F32;
    return OK;
}

err cuda_need_f32(const char *primitive, const tensor *x)
{
    if (x && x->type != DT_F32)
        return err_set(E_DEVICE, "cuda %s: %s is %s, expected f32", primitive, x->name, dtype_name(x->type));
    check_dense(primitive, x);
    return OK;
}
