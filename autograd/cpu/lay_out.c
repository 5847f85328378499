#include "autograd/cpu/conv_layout.h"
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/linear_layout.h"

/* Weights of linear layers whose data gradient is asked for stay plain: both products read (m,k) as it lies. */
err cpu_lay_out(device *d, tensor *w, weight_use use)
{
    CHECK(!w->layout, "%s is laid out twice", w->name);
    if (w->ndim == 4)
        return conv_lay_out(d, w);
    return use == USE_FORWARD ? linear_lay_out(d, w) : OK;
}
