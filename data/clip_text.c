#include "data/clip_text.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/arena.h"
#include "base/text.h"

static err stacked_marks(const char *text, size_t size)
{
    int marks = 0;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code_point;
        at += (size_t)utf8proc_iterate((const uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &code_point);
        marks = code_point >= 0x300 && utf8proc_get_property(code_point)->combining_class ? marks + 1 : 0;
        if (marks > CLIP_TEXT_MAX_MARKS)
            return err_set(E_FORMAT, "text: more than %d combining marks on one letter, up to byte %zu; shorten it",
                           CLIP_TEXT_MAX_MARKS, at);
    }
    return OK;
}

err clip_text_check(const char *text, size_t size)
{
    size_t bad;
    if (size > CLIP_TEXT_MAX)
        return err_set(E_FORMAT, "text of %zu bytes, at most %d are read; shorten it", size, CLIP_TEXT_MAX);
    if (!text_utf8_valid(&bad, text, size))
        return err_set(E_FORMAT, "text: byte %zu (0x%02x) is not UTF-8; save the text as UTF-8", bad,
                       (unsigned)(uint8_t)text[bad]);
    return stacked_marks(text, size);
}

bool clip_text_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Writes the lower case of a code point and returns its bytes, at most 4. U+0130 is the one letter whose lower case is
 * two code points whatever stands around it; utf8proc maps one to one. */
static size_t put_lower(uint8_t *out, int32_t code_point)
{
    if (code_point == 0x130) {
        memcpy(out, "i\xCC\x87", 3);
        return 3;
    }
    return (size_t)utf8proc_encode_char(utf8proc_tolower(code_point), out);
}

err clip_text_normalize(char **out, size_t *out_size, const char *text, size_t size)
{
    uint8_t *composed = NULL;
    *out = NULL;
    utf8proc_ssize_t length = utf8proc_map((const uint8_t *)text, (utf8proc_ssize_t)size, &composed,
                                           (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (length < 0)
        return err_set(length == UTF8PROC_ERROR_NOMEM ? E_MEMORY : E_FORMAT, "text of %zu bytes: %s", size,
                       utf8proc_errmsg(length));
    uint8_t *lower = heap_get(2 * (size_t)length + 5), *end = lower; /* 2 bytes may become 3, and 4 stay 4 */
    bool in_space = false;
    for (utf8proc_ssize_t at = 0; at < length;) {
        utf8proc_int32_t code_point;
        at += utf8proc_iterate(composed + at, length - at, &code_point);
        bool space = clip_text_is_space(code_point);
        if (!space)
            end += put_lower(end, code_point);
        else if (!in_space)
            *end++ = ' ';
        in_space = space;
    }
    *end = 0;
    free(composed);
    *out = (char *)lower;
    *out_size = (size_t)(end - lower);
    return OK;
}

struct clip_text_splitter {
    pcre2_code *pattern;
};

/* The reference's expression. Its \s is written as the one space that normalisation leaves: PCRE2's own \s also takes
 * U+180E, which Unicode no longer counts as white space. */
static const char expression[] =
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^ \\p{L}\\p{N}]+";

err clip_text_splitter_new(clip_text_splitter **out)
{
    int code;
    PCRE2_SIZE at;
    clip_text_splitter *s = heap_get(sizeof *s);
    s->pattern = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (!s->pattern) {
        free(s);
        return err_set(E_MEMORY, "PCRE2 cannot compile the tokenizer's expression (code %d at %zu)", code, at);
    }
    pcre2_jit_compile(s->pattern, PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter does the same */
    *out = s;
    return OK;
}

void clip_text_splitter_free(clip_text_splitter *s)
{
    if (s)
        pcre2_code_free(s->pattern);
    free(s);
}

typedef struct receiver {
    void (*each)(void *context, const char *word, size_t size);
    void *context;
} receiver;

/* The byte-level step behind the expression splits once more, by an expression that knows no special tokens: only for
 * their spelling (which the expression keeps whole) does that change anything. */
static void deliver(const receiver *r, const char *word, size_t size)
{
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    if ((size == sizeof start - 1 && memcmp(word, start, size) == 0) ||
        (size == sizeof end - 1 && memcmp(word, end, size) == 0)) {
        r->each(r->context, word, 2);
        r->each(r->context, word + 2, size - 4);
        r->each(r->context, word + size - 2, 2);
        return;
    }
    r->each(r->context, word, size);
}

err clip_text_split(const clip_text_splitter *s, const char *text, size_t size,
                    void (*each)(void *context, const char *word, size_t size), void *context)
{
    receiver r = {each, context};
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match)
        return err_set(E_MEMORY, "no memory to split a text of %zu bytes", size);
    int found = 0;
    size_t at = 0;
    while (at < size) {
        found = pcre2_match(s->pattern, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, match, NULL);
        if (found < 0)
            break;
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
        deliver(&r, text + range[0], range[1] - range[0]);
        at = range[1];
    }
    pcre2_match_data_free(match);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return err_set(E_FORMAT, "text of %zu bytes: PCRE2 fails at byte %zu (code %d)", size, at, found);
    return OK;
}
