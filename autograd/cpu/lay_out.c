#include "autograd/cpu/cpu.h"

/* Every weight stays plain: the products read (m,k) and (O,KH,KW,I) as they lie. */
err cpu_lay_out(device *d, tensor *w, weight_use use)
{
    (void)d, (void)use;
    CHECK(!w->layout, "%s is laid out twice", w->name);
    return OK;
}
