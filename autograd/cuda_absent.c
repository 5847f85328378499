/* In the place of autograd/cuda/ where the build found no CUDA toolkit (CMake: MSD_CUDA). MSD_CUDA_LACKS: what it looked for
 * and did not find, empty when it was told not to look. */
#include <stdio.h>

#include "autograd/device.h"

static const char *reason(void)
{
    return MSD_CUDA_LACKS[0] ? "not found when it was built: " MSD_CUDA_LACKS : "switched off when it was built, by -DMSD_CUDA=OFF";
}

#define TO_GET "scripts/setup-cuda.sh DIR gets what it needs; then build with preset cuda and -DCMAKE_CUDA_COMPILER=DIR/bin/nvcc"

err device_open_cuda(device **out, int index)
{
    *out = NULL;
    return err_set(E_DEVICE, "cuda:%d: this program has no CUDA (%s); " TO_GET ", or leave the device at auto", index, reason());
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
    snprintf(text, bytes, "not built in (%s); " TO_GET, reason());
}
