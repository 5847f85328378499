#include "base/text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD = 63 };

/* Optimal string alignment distance: insert, delete, replace, swap neighbours cost 1 each. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t row[3][LONGEST_WORD + 1];
    for (size_t j = 0; j <= m; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = up[j - 1] + (a[i - 1] != b[j - 1]);
            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *text_nearest(const char *word, const char *const *names, size_t count)
{
    size_t n = strlen(word), best = SIZE_MAX;
    const char *nearest = NULL;
    if (n > LONGEST_WORD)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t m = strlen(names[i]);
        if (m > LONGEST_WORD)
            continue;
        size_t longer = n > m ? n : m, limit = longer / 3 > 2 ? longer / 3 : 2, d = distance(word, n, names[i], m);
        if (d < best && d <= limit && d < longer) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}

/* Bytes of the UTF-8 character at `s`, 0 when it is none. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (!length || length > left)
        return 0;
    uint32_t point = s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        point = point << 6 | (s[i] & 0x3Fu);
    }
    return point < least[length] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) ? 0 : length;
}

bool text_utf8_valid(size_t *bad, const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t at = 0;
    while (at < size) {
        size_t length = utf8_length(s + at, size - at);
        if (!length)
            break;
        at += length;
    }
    if (bad)
        *bad = at;
    return at == size;
}

const char *text_escaped(char *out, size_t room, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t used = 0, left = strlen(text);
    while (left) {
        size_t length = utf8_length(s, left);
        bool plain = length > 1 || (length == 1 && *s >= 0x20 && *s != 0x7F);
        size_t need = plain ? length : 4;
        if (used + need + 4 > room) { /* always leaves room for the dots */
            if (room >= 4)
                memcpy(out + used, "...", 3);
            used += room >= 4 ? 3 : 0;
            break;
        }
        if (plain)
            memcpy(out + used, s, length);
        else
            snprintf(out + used, 5, "\\x%02X", *s);
        used += need;
        s += plain ? length : 1;
        left -= plain ? length : 1;
    }
    if (room)
        out[used] = 0;
    return out;
}

bool text_bytes_read(uint64_t *out, const char *text)
{
    char  *end = NULL;
    double value = strtod(text, &end), unit = 1;
    if (end == text || !(value > 0) || strspn(text, "0123456789.eE+") < (size_t)(end - text))
        return false;
    while (*end == ' ')
        end++;
    const char *const letters = "KMGT", *found = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (found) {
        bool thousands = toupper((unsigned char)end[1]) == 'B';
        for (long i = found - letters; i >= 0; i--)
            unit *= thousands ? 1000 : 1024;
        end += end[1] == 'i' ? 2 : 1;
    }
    if (toupper((unsigned char)*end) == 'B')
        end++;
    if (*end || !(value * unit < 9e18))
        return false;
    *out = (uint64_t)(value * unit);
    return *out > 0;
}

const char *text_bytes(char out[32], uint64_t bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, 32, "%llu bytes", (unsigned long long)bytes);
        return out;
    }
    double value = (double)bytes / 1024;
    int i = 0;
    for (; value >= 1023.95 && i < 5; i++)
        value /= 1024;
    snprintf(out, 32, value < 99.95 ? "%.1f %s" : "%.0f %s", value, unit[i]);
    return out;
}

const char *text_duration(char out[32], double seconds)
{
    if (!(seconds >= 0 && seconds < 1e9)) {
        snprintf(out, 32, "?");
        return out;
    }
    long long s = llround(seconds);
    if (s >= 3600)
        snprintf(out, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 32, "%lld:%02lld", s / 60, s % 60);
    return out;
}

const char *text_number(char out[32], double value)
{
    if (fabs(value) < 1e15 && value == floor(value)) { /* 10, not 1e+01 */
        snprintf(out, 32, "%.0f", value);
        return out;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    return out;
}
