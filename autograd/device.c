#include "autograd/device.h"

void device_close(device *d)
{
    if (d)
        d->close(d);
}
