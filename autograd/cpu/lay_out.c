#include "autograd/cpu/conv_layout.h"
#include "autograd/cpu/cpu.h"

/* Linear weights stay plain: the products read (m,k) as it lies. */
err cpu_lay_out(device *d, tensor *w, weight_use use)
{
    (void)use;
    CHECK(!w->layout, "%s is laid out twice", w->name);
    return w->ndim == 4 ? conv_lay_out(d, w) : OK;
}
