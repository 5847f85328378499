#include "train/card.h"

#include <string.h>

/* H100: what large bf16 products (800 of the data sheet's 989 TFLOP/s) and large copies (3.0 of 3.35 TB/s) reach on it in
 * public measurements; f32 and memory: NVIDIA's H100 SXM5 data sheet, and 84,929,347,584 bytes as the driver reports.
 * A100: NVIDIA's A100 80GB SXM data sheet (312, 19.5 TFLOP/s, 2039 GB/s); 4090: NVIDIA's Ada architecture paper (165.2 with
 * sums in f32, 82.6 TFLOP/s, 1008 GB/s); memory as PyTorch reports it: 79.15 and 23.65 GiB. NVLink: what
 * nccl-tests' all_reduce_perf gives as bus bandwidth of 8, about 370 and 235 GB/s. */
static const card cards[] = {
    {.name = "h100", .title = "NVIDIA H100 SXM, 80 GB", .basis = "the most that large products and copies reach",
     .bf16 = 800e12, .f32 = 66.9e12, .bandwidth = 3.0e12, .memory = 84929347584.0,
     .nvlink = 370e9},
    {.name = "a100", .title = "NVIDIA A100 SXM, 80 GB", .basis = "data sheet", .bf16 = 312e12, .f32 = 19.5e12,
     .bandwidth = 2.039e12, .memory = 79.15 * 1073741824.0, .nvlink = 235e9},
    {.name = "4090", .title = "NVIDIA RTX 4090, 24 GB", .basis = "data sheet", .bf16 = 165.2e12, .f32 = 82.6e12,
     .bandwidth = 1.008e12, .memory = 23.65 * 1073741824.0},
};

const card *card_find(const char *name)
{
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
        if (!strcmp(cards[i].name, name))
            return &cards[i];
    return NULL;
}

const char *card_names(void)
{
    return "h100, a100, 4090";
}

double card_rate(const card *c, dtype type)
{
    return type == DT_F32 ? c->f32 : c->bf16;
}
