/* In the place of autograd/cuda/ where the build found no CUDA toolkit (CMake: MSD_CUDA). */
#include <stdio.h>

#include "autograd/device.h"

err device_open_cuda(device **out, int index)
{
    *out = NULL;
    return err_set(E_DEVICE, "cuda:%d: this build has no CUDA; build with -DMSD_CUDA=ON (CUDA toolkit and cuDNN 9), or "
                             "leave the device at auto", index);
}

int device_cuda_cards(void)
{
    return 0;
}

bool device_has_cuda(void)
{
    return false;
}

void device_describe_cuda(char *text, size_t bytes)
{
    snprintf(text, bytes, "not built in: configure with -DMSD_CUDA=ON (CUDA toolkit and cuDNN 9)");
}
