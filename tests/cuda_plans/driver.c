/* What cuDNN's engines that compile at run time want of the driver's library while they make a plan, for a machine that has
 * none: kernels are "loaded" and none is ever run. The names that the library is linked against or looks up, without
 * cuInit: so the runtime inside the library sees that there is no driver and leaves this one alone. */
#include <stddef.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 801, VERSION = 13000, CLUSTERS = 132 };

static char place[64]; /* what handles point to */

/* ---- asked for and answered ---- */

int cuDriverGetVersion(int *version);
int cuGetErrorString(int error, const char **text);
int cuGetErrorName(int error, const char **text);
int cuModuleLoadData(void **module, const void *image);
int cuModuleGetFunction(void **function, void *module, const char *name);
int cuModuleUnload(void *module);
int cuLibraryLoadData(void **library, const void *code, void *options, void *values, unsigned count, void *more, void *more_values,
                      unsigned more_count);
int cuLibraryGetKernel(void **kernel, void *library, const char *name);
int cuLibraryUnload(void *library);
int cuKernelGetFunction(void **function, void *kernel);
int cuKernelSetAttribute(int attribute, int value, void *kernel, int device);
int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device);
int cuOccupancyMaxActiveClusters(int *clusters, void *function, const void *configuration);

int cuDriverGetVersion(int *version)
{
    *version = VERSION;
    return SUCCESS;
}

int cuGetErrorString(int error, const char **text)
{
    *text = error ? "there is no driver" : "no error";
    return SUCCESS;
}

int cuGetErrorName(int error, const char **text)
{
    return cuGetErrorString(error, text);
}

int cuModuleLoadData(void **module, const void *image)
{
    *module = place;
    return image ? SUCCESS : NOT_SUPPORTED;
}

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    *function = place;
    return module && name ? SUCCESS : NOT_SUPPORTED;
}

int cuModuleUnload(void *module)
{
    return module ? SUCCESS : NOT_SUPPORTED;
}

int cuLibraryLoadData(void **library, const void *code, void *options, void *values, unsigned count, void *more, void *more_values,
                      unsigned more_count)
{
    (void)options, (void)values, (void)count, (void)more, (void)more_values, (void)more_count;
    return cuModuleLoadData(library, code);
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    return cuModuleGetFunction(kernel, library, name);
}

int cuLibraryUnload(void *library)
{
    return cuModuleUnload(library);
}

int cuKernelGetFunction(void **function, void *kernel)
{
    *function = place;
    return kernel ? SUCCESS : NOT_SUPPORTED;
}

int cuKernelSetAttribute(int attribute, int value, void *kernel, int device)
{
    (void)attribute, (void)value, (void)device;
    return kernel ? SUCCESS : NOT_SUPPORTED;
}

int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device)
{
    (void)attribute, (void)device;
    *value = 0;
    return kernel ? SUCCESS : NOT_SUPPORTED;
}

int cuOccupancyMaxActiveClusters(int *clusters, void *function, const void *configuration)
{
    (void)function, (void)configuration;
    *clusters = CLUSTERS;
    return SUCCESS;
}

/* ---- only looked up: calling one is an error ---- */

#define ABSENT(name)          \
    int name(void);           \
    int name(void)            \
    {                         \
        return NOT_SUPPORTED; \
    }

ABSENT(cuTensorMapEncodeTiled)
ABSENT(cuTensorMapEncodeIm2col)
ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuStreamGetCtx)
ABSENT(cuLinkCreate)
ABSENT(cuLinkAddData)
ABSENT(cuLinkComplete)
ABSENT(cuLinkDestroy)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuDeviceGet)
ABSENT(cuDeviceGetCount)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuOccupancyMaxPotentialClusterSize)
