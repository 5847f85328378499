#include "train/doctor.h"

#include <dnnl.h>
#include <jansson.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/device.h"
#include "base/memory_size.h"
#include "base/text.h"
#include "base/threads.h"
#include "train/comm.h"
#include "train/ranks_mpi.h"

#define DOCTOR_ITEMS(X)                                                     \
    X(msd, "msd") X(cpu, "CPU") X(features, "CPU features") X(threads, "threads") X(memory, "memory") \
    X(free_memory, "memory available") X(onednn, "oneDNN") X(png, "libpng") X(jansson, "jansson")      \
    X(devices, "devices") X(cuda, "CUDA") X(mpi, "MPI") X(nccl, "NCCL")

enum { ITEM = 400 }; /* the longest says what is missing and how to get it */

typedef struct report {
#define X(key, label) char key[ITEM];
    DOCTOR_ITEMS(X)
#undef X
} report;

static void cpu_name(char out[ITEM])
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char text[512];
    snprintf(out, ITEM, "unknown");
    while (f && fgets(text, sizeof text, f)) {
        const char *colon = strchr(text, ':');
        if (strncmp(text, "model name", 10) || !colon)
            continue;
        snprintf(out, ITEM, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

static void cpu_features(char out[ITEM])
{
    out[0] = 0;
#if defined(__x86_64__)
    static const char *const names[] = {"AVX2", "AVX-512", "AVX-512 BF16"};
    const int has[] = {__builtin_cpu_supports("avx2"), __builtin_cpu_supports("avx512f"),
                       __builtin_cpu_supports("avx512bf16")};
    for (int i = 0; i < 3; i++)
        if (has[i])
            snprintf(out + strlen(out), ITEM - strlen(out), "%s%s", out[0] ? ", " : "", names[i]);
#endif
    if (!out[0])
        snprintf(out, ITEM, "none that matter here: it will be slow");
}

static void memory_sizes(report *r)
{
    char text[32];
    snprintf(r->memory, sizeof r->memory, "%s", text_bytes(text, memory_size()));
    snprintf(r->free_memory, sizeof r->free_memory, "%s", text_bytes(text, memory_available()));
}

static void fill(report *r)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(r->msd, sizeof r->msd, "%s", MSD_VERSION);
    cpu_name(r->cpu);
    cpu_features(r->features);
    snprintf(r->threads, sizeof r->threads, "%d usable by this process", threads_usable());
    memory_sizes(r);
    snprintf(r->onednn, sizeof r->onednn, "%d.%d.%d", v->major, v->minor, v->patch);
    snprintf(r->png, sizeof r->png, "%s", png_get_libpng_ver(NULL));
    snprintf(r->jansson, sizeof r->jansson, "%s", JANSSON_VERSION);
    snprintf(r->devices, sizeof r->devices, device_has_cuda() ? "cpu, cuda (f32, bf16)" : "cpu (f32, bf16)");
    device_describe_cuda(r->cuda, sizeof r->cuda);
    ranks_mpi_describe(r->mpi, sizeof r->mpi);
    comm_describe_nccl(r->nccl, sizeof r->nccl);
}

static void print_json(const report *r, FILE *out)
{
    json_t *o = json_object();
#define X(key, label) json_object_set_new(o, #key, json_string(r->key));
    DOCTOR_ITEMS(X)
#undef X
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    fprintf(out, "%s\n", text ? text : "{}");
    free(text);
}

err doctor_print(bool json, FILE *out)
{
    report r;
    device *dev = NULL;
    fill(&r);
    err e = device_open_cpu(&dev, 0);
    device_close(dev);
    if (json) {
        print_json(&r, out);
        return e;
    }
#define X(key, label) fprintf(out, "%-16s %s\n", label, r.key);
    DOCTOR_ITEMS(X)
#undef X
    return e;
}
