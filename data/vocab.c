#include "data/vocab.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/byte_alphabet.h"

enum { BYTE_TOKENS = 512, SPECIAL_TOKENS = 2, MERGES = VOCAB_TOKENS - BYTE_TOKENS - SPECIAL_TOKENS, LONGEST_WORD = 15 };

/* Each becomes one token; in this order, so that earlier words stay whole whatever follows. */
static const char words[] =
    "the a an of in on and with to at is by for from it as two three one "
    "dog cat man woman boy girl child person people bird horse cow sheep bear lion tiger fox wolf rabbit fish "
    "toy plushie stuffed animal teddy duck robot doll car bus train bike boat plane truck "
    "hat cap coat jacket shirt sweater dress jeans shorts trousers shoes sneaker glasses scarf bag backpack "
    "clock teapot lantern flower vase cup bowl book chair table lamp candle mirror guitar camera phone "
    "beach snow jungle forest mountain waterfall barn grass street room house city garden river lake sea sky sun moon "
    "red green blue yellow black white brown grey orange purple pink gold silver "
    "wearing holding sitting standing running jumping sleeping playing looking walking flying swimming eating "
    "best quality high low worst bad anatomy monochrome lowres photo picture painting drawing portrait background "
    "small big large old new young happy sad cute beautiful colorful bright dark wooden cobblestone "
    "left right top bottom front back side under over near between behind inside outside "
    "detailed realistic style art film light shadow morning evening night winter summer rain wind fire water stone "
    "tree leaf "
    "not no his her their its this that these those some many very "
    "apple bread cheese cake coffee milk lemon banana window door wall floor roof bridge tower castle church school "
    "market "
    "eye face hand hair head tail wing foot nose mouth smile "
    "start text end he she they we you all out up down off";

typedef struct builder {
    arena       memory;
    json_t     *ids; /* token: id */
    const char *merges[MERGES][2];
    int         merge_count;
} builder;

static void add_token(builder *b, const char *token)
{
    json_object_set_new(b->ids, token, json_integer((json_int_t)json_object_size(b->ids)));
}

static void add_byte_tokens(builder *b, const char *suffix)
{
    for (int pass = 0; pass < 2; pass++) { /* first the bytes that stand for themselves: in CLIP's order 0 is "!" */
        for (int byte = 0; byte < 256; byte++) {
            char token[8];
            if ((byte_alphabet_letter((uint8_t)byte) >= 256) != (pass == 1))
                continue;
            byte_alphabet_text(token, (uint8_t)byte, suffix);
            add_token(b, token);
        }
    }
}

static int merge_rank(const builder *b, const char *left, const char *right)
{
    for (int i = 0; i < b->merge_count; i++) {
        if (!strcmp(b->merges[i][0], left) && !strcmp(b->merges[i][1], right))
            return i;
    }
    return MERGES;
}

/* The pair of neighbours that is merged first, or the first pair when none is. */
static int best_pair(const builder *b, const char *const *parts, int count, bool *known)
{
    int best = 0, best_rank = MERGES;
    for (int i = 0; i + 1 < count; i++) {
        int rank = merge_rank(b, parts[i], parts[i + 1]);
        if (rank < best_rank) {
            best_rank = rank;
            best = i;
        }
    }
    *known = best_rank < MERGES;
    return best;
}

/* Merges `word` as far as the merges go, then adds merges until it is one token. */
static void add_word(builder *b, const char *word, size_t length)
{
    const char *parts[LONGEST_WORD];
    int count = (int)length;
    CHECK(count >= 1 && count <= LONGEST_WORD, "word of %d letters", count);
    for (int i = 0; i < count; i++)
        parts[i] = arena_print(&b->memory, "%c%s", word[i], i + 1 == count ? "</w>" : "");
    while (count > 1) {
        bool known;
        int at = best_pair(b, parts, count, &known);
        const char *joined = arena_print(&b->memory, "%s%s", parts[at], parts[at + 1]);
        if (!known) {
            CHECK(b->merge_count < MERGES, "merge %d of %d, at '%.*s'", b->merge_count, MERGES, (int)length, word);
            b->merges[b->merge_count][0] = parts[at];
            b->merges[b->merge_count++][1] = parts[at + 1];
            if (!json_object_get(b->ids, joined))
                add_token(b, joined);
        }
        parts[at] = joined;
        memmove(parts + at + 1, parts + at + 2, (size_t)(count - at - 2) * sizeof *parts);
        count--;
    }
}

static void add_words(builder *b)
{
    for (const char *at = words; *at;) {
        size_t length = strcspn(at, " ");
        add_word(b, at, length);
        at += length + (at[length] == ' ');
    }
}

static err write_text(const char *folder, const char *name, const char *text)
{
    char *path = path_join(folder, name);
    file_writer *file;
    err result = file_create(&file, path);
    if (result == OK) {
        file_write(file, text, strlen(text));
        result = file_publish(file);
    }
    free(path);
    return result;
}

static err write_json(const char *folder, const char *name, const json_t *value, size_t flags)
{
    char *text = json_dumps(value, flags);
    if (!text)
        return err_set(E_MEMORY, "no memory to write %s", name);
    err result = write_text(folder, name, text);
    free(text);
    return result;
}

static err write_merges(const builder *b, const char *folder)
{
    size_t room = 32;
    for (int i = 0; i < b->merge_count; i++)
        room += strlen(b->merges[i][0]) + strlen(b->merges[i][1]) + 2;
    char *text = heap_get(room);
    int used = snprintf(text, room, "#version: 0.2\n");
    for (int i = 0; i < b->merge_count; i++)
        used += snprintf(text + used, room - (size_t)used, "%s %s\n", b->merges[i][0], b->merges[i][1]);
    err result = write_text(folder, "merges.txt", text);
    free(text);
    return result;
}

/* As transformers writes and reads them. */
static err write_settings(const char *folder, const char *pad)
{
    const char *bos = "<|startoftext|>", *eos = "<|endoftext|>";
    json_t *map =
        json_pack("{s:s, s:s, s:s, s:s}", "bos_token", bos, "eos_token", eos, "pad_token", pad, "unk_token", eos);
    json_t *settings = json_pack("{s:b, s:s, s:b, s:s, s:s, s:i, s:s, s:s, s:s}", "add_prefix_space", 0, "bos_token",
                                 bos, "do_lower_case", 1, "eos_token", eos, "errors", "replace", "model_max_length", 77,
                                 "pad_token", pad, "tokenizer_class", "CLIPTokenizer", "unk_token", eos);
    CHECK(map && settings, "pad token '%s'", pad);
    err result = write_json(folder, "special_tokens_map.json", map, JSON_INDENT(2));
    if (result == OK)
        result = write_json(folder, "tokenizer_config.json", settings, JSON_INDENT(2));
    json_decref(map);
    json_decref(settings);
    return result;
}

err vocab_write(const char *folder, const char *pad)
{
    builder *b = heap_get(sizeof *b);
    *b = (builder){.ids = json_object()};
    add_byte_tokens(b, "");
    add_byte_tokens(b, "</w>");
    add_words(b);
    CHECK(b->merge_count == MERGES && json_object_size(b->ids) == BYTE_TOKENS + MERGES, "%d merges, %zu tokens",
          b->merge_count, json_object_size(b->ids));
    add_token(b, "<|startoftext|>");
    add_token(b, "<|endoftext|>");
    err result = write_json(folder, "vocab.json", b->ids, JSON_COMPACT);
    if (result == OK)
        result = write_merges(b, folder);
    if (result == OK)
        result = write_settings(folder, pad);
    json_decref(b->ids);
    arena_free(&b->memory);
    free(b);
    return result;
}
