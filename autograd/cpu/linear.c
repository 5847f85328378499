/* Products of linear layers, f32 and bf16, through oneDNN. */
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/linear_layout.h"
#include "autograd/cpu/onednn.h"

static matrix plain(const tensor *t)
{
    CHECK(!t->layout, "%s is laid out for the forward product alone", t->name);
    return (matrix){t->data, t->type, t->dim[1], 1, false};
}

static matrix transposed(const tensor *t)
{
    CHECK(!t->layout || t->layout == LAYOUT_LINEAR, "%s: layout %d is none of a linear layer", t->name, t->layout);
    return t->layout ? (matrix){t->data, t->type, 0, 0, true} : (matrix){t->data, t->type, 1, t->dim[1], false};
}

/* ---- bf16 where oneDNN has only f32: operands widened to the side, the sum in f32, rounded once ---- */

static err widened(device *d, tensor *wide, const tensor *x, bool fill)
{
    *wide = *x;
    wide->type = DT_F32;
    TRY(d->memory->get(d->memory, &wide->data, (size_t)tensor_count(x) * sizeof(float), LIFE_SCRATCH));
    return fill && !d->dataless ? cpu_copy(d, wide, x, false) : OK;
}

static void put_back(device *d, tensor *wide)
{
    if (wide->data)
        d->memory->put(d->memory, wide->data, (size_t)tensor_count(wide) * sizeof(float), LIFE_SCRATCH);
}

/* One product of tensors: y (m,n) = [y +] op(a) @ op(b) [+ bias]. */
typedef struct product {
    tensor       *y;
    const tensor *a, *b, *bias; /* bias may be NULL */
    bool          a_transposed, b_transposed, add;
} product;

static err multiply(device *d, const product *p)
{
    matrix a = p->a_transposed ? transposed(p->a) : plain(p->a);
    matrix b = p->b_transposed ? transposed(p->b) : plain(p->b);
    int64_t m = p->a->dim[p->a_transposed], k = p->a->dim[!p->a_transposed], n = p->b->dim[!p->b_transposed];
    return onednn_matmul(d, p->y->data, p->y->type, a, b, p->bias ? p->bias->data : NULL, m, k, n, p->add);
}

static err multiply_widened(device *d, const product *p)
{
    tensor y = {0}, a = {0}, b = {0}, bias = {0};
    bool narrow = p->y->type == DT_BF16;
    err e = widened(d, &a, p->a, true);
    e = e ? e : widened(d, &b, p->b, true);
    e = e || !p->bias ? e : widened(d, &bias, p->bias, true);
    e = e || !narrow ? e : widened(d, &y, p->y, p->add);
    product wide = *p;
    wide.y = narrow ? &y : p->y;
    wide.a = &a;
    wide.b = &b;
    wide.bias = p->bias ? &bias : NULL;
    e = e ? e : multiply(d, &wide);
    e = e || !narrow || d->dataless ? e : cpu_copy(d, p->y, &y, false);
    put_back(d, &y), put_back(d, &a), put_back(d, &b), put_back(d, &bias);
    return e;
}

static err run(device *d, const product *p)
{
    return p->a->type == DT_BF16 && !onednn_has_bf16() ? multiply_widened(d, p) : multiply(d, p);
}

/* ---- the primitives ---- */

err cpu_linear(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "linear", CPU_TENSORS(x, y, w, bias, residual)));
    if (residual && residual->data != y->data && !d->dataless)
        memcpy(y->data, residual->data, (size_t)tensor_count(y) * dtype_bytes(y->type));
    return run(d, &(product){.y = y, .a = x, .b = w, .bias = bias, .b_transposed = true, .add = residual != NULL});
}

err cpu_linear_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add)
{
    bool bf16, wide;
    TRY(cpu_one_type(&bf16, "linear_dx", CPU_TENSORS(dy, w)));
    TRY(cpu_gradient_type(&wide, "linear_dx", dx, bf16));
    return run(d, &(product){.y = dx, .a = dy, .b = w, .add = add});
}

err cpu_linear_dw(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add)
{
    bool bf16, wide; /* an activation may stand where a parameter does: then its gradient is bf16 */
    TRY(cpu_one_type(&bf16, "linear_dw", CPU_TENSORS(dy, x)));
    TRY(cpu_gradient_type(&wide, "linear_dw", dw, bf16));
    return run(d, &(product){.y = dw, .a = dy, .b = x, .a_transposed = true, .add = add});
}

err cpu_sum_rows(device *d, tensor *db, const tensor *dy, bool add)
{
    return cpu_reduce_to(d, db, dy, NULL, add);
}
