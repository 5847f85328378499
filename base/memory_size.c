#include "base/memory_size.h"

#include <stdio.h>
#include <unistd.h>

uint64_t memory_size(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char text[256];
    unsigned long long kib = 0;
    while (f && fgets(text, sizeof text, f))
        if (sscanf(text, "MemAvailable: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return (uint64_t)kib << 10;
}
