/* Byte-level BPE writes every byte as one printable character: bytes that are printable in Latin-1 stand for
 * themselves, the other 68 for U+0100.. in order (GPT-2's table, which CLIP's vocabulary keeps). */
#ifndef MSD_DATA_BYTE_ALPHABET_H
#define MSD_DATA_BYTE_ALPHABET_H

#include <stdint.h>
#include <string.h>

static inline uint32_t byte_alphabet_letter(uint8_t byte)
{
    if (byte <= 32)
        return 256u + byte;
    if (byte >= 127 && byte <= 160)
        return 256u + 33 + (byte - 127u);
    return byte == 173 ? 256u + 67 : byte;
}

/* The letter as UTF-8, with `suffix` behind it; out needs 3 bytes and the suffix's. */
static inline void byte_alphabet_text(char *out, uint8_t byte, const char *suffix)
{
    uint32_t letter = byte_alphabet_letter(byte);
    if (letter < 0x80) {
        *out++ = (char)letter;
    } else {
        *out++ = (char)(0xC0 | letter >> 6);
        *out++ = (char)(0x80 | (letter & 0x3F));
    }
    memcpy(out, suffix, strlen(suffix) + 1);
}

#endif
