#include "autograd/device.h"

#include <string.h>

err device_finish(device *d)
{
    return d->finish ? d->finish(d) : OK;
}

void device_close(device *d)
{
    if (d)
        d->close(d);
}

err device_open(device **out, const char *kind, int threads)
{
    if (!strcmp(kind, "cuda") || (!strcmp(kind, "auto") && device_has_cuda()))
        return device_open_cuda(out, 0);
    CHECK(!strcmp(kind, "auto") || !strcmp(kind, "cpu"), "no device is called %s", kind);
    return device_open_cpu(out, threads);
}
