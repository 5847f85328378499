#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "data/clip_text.h"
#include "data/tokenizer_files.h"

struct tokenizer {
    tokenizer_files     files;
    clip_text_splitter *splitter;
};

/* The text of tokens that are looked for in normalised text is normalised itself. */
static err normalize_special(tokenizer_files *f)
{
    for (size_t i = 0; i < f->special_count; i++) {
        special_token *s = &f->special[i];
        if (!s->normalized)
            continue;
        char *text;
        size_t size;
        TRY(clip_text_check(s->text, s->size));
        TRY(clip_text_normalize(&text, &size, s->text, s->size));
        s->text = arena_copy_string(&f->memory, text);
        s->size = size;
        free(text);
    }
    return OK;
}

err tokenizer_open(tokenizer **out, const char *folder)
{
    tokenizer *t = heap_get(sizeof *t);
    *t = (tokenizer){0};
    *out = NULL;
    err result = tokenizer_files_read(&t->files, folder);
    if (result == OK)
        result = normalize_special(&t->files);
    if (result == OK)
        result = clip_text_splitter_new(&t->splitter);
    if (result == OK)
        *out = t;
    else
        tokenizer_close(t);
    return result;
}

void tokenizer_close(tokenizer *t)
{
    if (!t)
        return;
    tokenizer_files_free(&t->files);
    clip_text_splitter_free(t->splitter);
    free(t);
}

int32_t tokenizer_size(const tokenizer *t)
{
    return t->files.size;
}

int32_t tokenizer_start(const tokenizer *t)
{
    return t->files.start;
}

int32_t tokenizer_end(const tokenizer *t)
{
    return t->files.end;
}

int32_t tokenizer_pad(const tokenizer *t)
{
    return t->files.pad;
}

typedef struct encoding {
    const tokenizer *t;
    token_list      *out;
    bpe_scratch      scratch;
} encoding;

static void encode_word(void *context, const char *word, size_t size)
{
    encoding *e = context;
    bpe_encode(e->out, &e->scratch, &e->t->files.merges, (const uint8_t *)word, size);
}

/* The longest special token of the kind that begins at `text`, or NULL. */
static const special_token *special_at(const tokenizer_files *f, bool normalized, const char *text, size_t size)
{
    const special_token *longest = NULL;
    for (size_t i = 0; i < f->special_count; i++) {
        const special_token *s = &f->special[i];
        if (s->normalized == normalized && s->size && s->size <= size && s->text[0] == text[0] &&
            memcmp(s->text, text, s->size) == 0 && (!longest || s->size > longest->size))
            longest = s;
    }
    return longest;
}

static err encode_plain(encoding *e, bool normalized, const char *text, size_t size);

/* Special tokens first, from the left; what lies between them goes on to encode_plain. */
static err encode_special(encoding *e, bool normalized, const char *text, size_t size)
{
    size_t from = 0;
    for (size_t at = 0; at < size;) {
        const special_token *s = special_at(&e->t->files, normalized, text + at, size - at);
        if (!s) {
            at++;
            continue;
        }
        TRY(encode_plain(e, normalized, text + from, at - from));
        token_list_add(e->out, s->id);
        at += s->size;
        from = at;
    }
    return encode_plain(e, normalized, text + from, size - from);
}

/* Raw text is normalised and searched again; normalised text is cut into words. */
static err encode_plain(encoding *e, bool normalized, const char *text, size_t size)
{
    if (!size)
        return OK;
    if (normalized)
        return clip_text_split(e->t->splitter, text, size, encode_word, e);
    char *normal;
    size_t normal_size;
    TRY(clip_text_normalize(&normal, &normal_size, text, size));
    err result = encode_special(e, true, normal, normal_size);
    free(normal);
    return result;
}

err tokenizer_encode(token_list *out, const tokenizer *t, const char *text, size_t size)
{
    TRY(clip_text_check(text, size));
    encoding e = {.t = t, .out = out};
    err result = encode_special(&e, false, text, size);
    bpe_scratch_free(&e.scratch);
    return result;
}

err tokenizer_encode_padded(int32_t ids[TOKENIZER_LENGTH], size_t *cut, const tokenizer *t, const char *text,
                            size_t size)
{
    token_list tokens = {0};
    err result = tokenizer_encode(&tokens, t, text, size);
    size_t kept = tokens.count < TOKENIZER_LENGTH - 2 ? tokens.count : TOKENIZER_LENGTH - 2;
    if (result == OK) {
        size_t at = 0;
        ids[at++] = t->files.start;
        for (size_t i = 0; i < kept; i++)
            ids[at++] = tokens.id[i];
        ids[at++] = t->files.end;
        while (at < TOKENIZER_LENGTH)
            ids[at++] = t->files.pad;
        if (cut)
            *cut = tokens.count - kept;
    }
    token_list_free(&tokens);
    return result;
}

err tokenizer_count(size_t *count, const tokenizer *t, const char *text, size_t size)
{
    token_list tokens = {0};
    err result = tokenizer_encode(&tokens, t, text, size);
    *count = tokens.count;
    token_list_free(&tokens);
    return result;
}
