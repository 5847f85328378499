#include "data/phrase.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/clip_text.h"

typedef struct word {
    const char *text; /* within the prompt or phrase */
    size_t      size;
} word;

typedef struct word_list {
    word  *item;
    size_t count, capacity;
} word_list;

/* Python's str.split: Unicode's white space and the four separators of ASCII. */
static bool separates(int32_t code_point)
{
    return clip_text_is_space(code_point) || (code_point >= 0x1C && code_point <= 0x1F);
}

static void add_word(word_list *l, const char *text, size_t size)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 32;
        l->item = heap_grow(l->item, l->capacity * sizeof *l->item);
    }
    l->item[l->count++] = (word){text, size};
}

/* The text is UTF-8. */
static word_list split(const char *text)
{
    word_list words = {0};
    size_t size = strlen(text), from = 0;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code_point;
        size_t length =
            (size_t)utf8proc_iterate((const uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &code_point);
        if (separates(code_point)) {
            if (at > from)
                add_word(&words, text + from, at - from);
            from = at + length;
        }
        at += length;
    }
    if (size > from)
        add_word(&words, text + from, size - from);
    return words;
}

static word without_punctuation(word w)
{
    if (w.size && strchr(".!?,:", w.text[w.size - 1]))
        w.size--;
    return w;
}

static bool word_matches(word in_prompt, word wanted)
{
    word clean = without_punctuation(in_prompt);
    if (clean.size == wanted.size && memcmp(clean.text, wanted.text, wanted.size) == 0)
        return true;
    for (size_t i = 0; i + 1 + wanted.size <= in_prompt.size; i++) {
        if (in_prompt.text[i] == '-' && memcmp(in_prompt.text + i + 1, wanted.text, wanted.size) == 0)
            return true;
    }
    return false;
}

static bool matches_at(const word_list *prompt, size_t at, const word_list *phrase)
{
    if (!phrase->count || phrase->count > prompt->count - at)
        return false;
    for (size_t i = 0; i < phrase->count; i++) {
        if (!word_matches(prompt->item[at + i], phrase->item[i]))
            return false;
    }
    return true;
}

static const char *joined(arena *owner, const word *words, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += words[i].size + 1;
    char *text = arena_get(owner, size), *end = text;
    for (size_t i = 0; i < count; i++) {
        word w = without_punctuation(words[i]);
        if (i)
            *end++ = ' ';
        memcpy(end, w.text, w.size);
        end += w.size;
    }
    *end = 0;
    return text;
}

/* tokens[i]: tokens of word i alone. */
static err count_tokens(size_t *tokens, const tokenizer *t, const word_list *prompt)
{
    for (size_t i = 0; i < prompt->count; i++)
        TRY(tokenizer_count(&tokens[i], t, prompt->item[i].text, prompt->item[i].size));
    return OK;
}

/* The `mention`-th place (from 0) of one phrase: the number of its first word, or -1. */
static int64_t place_of(size_t *length, const word_list *prompt, const char *phrase, int mention)
{
    word_list wanted = split(phrase);
    int64_t at = -1;
    for (size_t i = 0; i < prompt->count && at < 0; i++)
        if (matches_at(prompt, i, &wanted) && mention-- == 0)
            at = (int64_t)i;
    *length = wanted.count;
    free(wanted.item);
    return at;
}

static err find_one(phrase_match *out, arena *owner, const tokenizer *t, const word_list *prompt, const size_t *tokens,
                    const char *phrase, int mention)
{
    size_t length, start = 1, count = 0;
    int64_t at = place_of(&length, prompt, phrase, mention);
    *out = (phrase_match){.words = arena_copy_string(owner, phrase)};
    if (at < 0)
        return OK;
    for (int64_t i = 0; i < at; i++)
        start += tokens[i];
    word last = without_punctuation(prompt->item[(size_t)at + length - 1]);
    TRY(tokenizer_count(&count, t, last.text, last.size));
    for (size_t k = 0; k + 1 < length; k++)
        count += tokens[(size_t)at + k];
    *out = (phrase_match){count > 0, (int)start, (int)(start + count), joined(owner, prompt->item + at, length)};
    return OK;
}

static int earlier_mentions(const char *const *phrases, int at)
{
    int count = 0;
    for (int i = 0; i < at; i++)
        count += strcmp(phrases[i], phrases[at]) == 0;
    return count;
}

err phrase_find(phrase_match *out, arena *owner, const tokenizer *t, const char *prompt, const char *const *phrases,
                int count)
{
    TRY(clip_text_check(prompt, strlen(prompt)));
    for (int i = 0; i < count; i++)
        TRY(clip_text_check(phrases[i], strlen(phrases[i])));
    word_list words = split(prompt);
    size_t *tokens = heap_get(words.count * sizeof *tokens);
    err result = count_tokens(tokens, t, &words);
    for (int i = 0; i < count && result == OK; i++)
        result = find_one(&out[i], owner, t, &words, tokens, phrases[i], earlier_mentions(phrases, i));
    free(tokens);
    free(words.item);
    return result;
}

err phrase_words(const char **words, arena *owner, const char *prompt, const char *const *phrases, int count)
{
    TRY(clip_text_check(prompt, strlen(prompt)));
    for (int i = 0; i < count; i++)
        TRY(clip_text_check(phrases[i], strlen(phrases[i])));
    word_list list = split(prompt);
    for (int i = 0; i < count; i++) {
        size_t length;
        int64_t at = place_of(&length, &list, phrases[i], earlier_mentions(phrases, i));
        words[i] = at < 0 ? arena_copy_string(owner, phrases[i]) : joined(owner, list.item + at, length);
    }
    free(list.item);
    return OK;
}

err phrase_present(bool *found, const char *prompt, const char *const *phrases, int count)
{
    TRY(clip_text_check(prompt, strlen(prompt)));
    for (int i = 0; i < count; i++)
        TRY(clip_text_check(phrases[i], strlen(phrases[i])));
    word_list list = split(prompt);
    for (int i = 0; i < count; i++) {
        size_t length;
        found[i] = place_of(&length, &list, phrases[i], earlier_mentions(phrases, i)) >= 0;
    }
    free(list.item);
    return OK;
}
