/* The device that a test runs on: MSD_TEST_DEVICE names it, "cpu" without that. */
#ifndef MSD_TEST_DEVICE_H
#define MSD_TEST_DEVICE_H

#include <stdlib.h>

#include "autograd/device.h"

static inline err test_device_open(device **out, int threads)
{
    const char *kind = getenv("MSD_TEST_DEVICE");
    return device_open(out, kind ? kind : "cpu", threads);
}

#endif
