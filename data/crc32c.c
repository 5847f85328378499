#include "data/crc32c.h"

static const uint32_t POLYNOMIAL = 0x82F63B78; /* bits reversed */

/* Four bits at a time: records are small, pictures some hundred kilobytes. */
static void make_table(uint32_t table[16])
{
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t r = i;
        for (int bit = 0; bit < 4; bit++)
            r = r & 1 ? r >> 1 ^ POLYNOMIAL : r >> 1;
        table[i] = r;
    }
}

uint32_t crc32c(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint32_t table[16], r = 0xFFFFFFFF;
    make_table(table);
    for (size_t i = 0; i < size; i++) {
        r ^= at[i];
        r = r >> 4 ^ table[r & 15];
        r = r >> 4 ^ table[r & 15];
    }
    return ~r;
}

uint32_t crc32c_masked(const void *bytes, size_t size)
{
    uint32_t r = crc32c(bytes, size);
    return (r >> 15 | r << 17) + 0xA282EAD8;
}
