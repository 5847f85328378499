#include "data/tokenizer_files.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/byte_alphabet.h"

enum { MAX_FILE_BYTES = 64 * 1024 * 1024, MAX_ID = 10000000, MAX_SPECIAL = 4096, NAMES = 4 };

static const char *const name_keys[NAMES] = {"bos_token", "eos_token", "unk_token", "pad_token"};
enum { BOS, EOS, UNK, PAD };

/* While reading: every path and document; borrowed strings stay valid until the end. */
typedef struct reading {
    tokenizer_files *out;
    char            *vocab_path, *merges_path, *whole_path, *config_path, *map_path;
    json_t          *vocab;                /* token: id */
    json_t          *whole;                /* tokenizer.json; NULL: not read */
    json_t          *config, *map;         /* tokenizer_config.json, special_tokens_map.json; NULL: no such file */
    const char      *vocab_name;           /* the file the vocabulary is from, for messages */
    const char      *names[NAMES];
} reading;

/* These hold model_max_length, which transformers writes as 10^30 where there is none: beyond any integer, and of no
 * use here. */
static err read_settings(json_t **out, const char *path)
{
    char *text;
    size_t size;
    json_error_t problem;
    *out = NULL;
    if (!file_exists(path))
        return OK;
    TRY(file_read(&text, &size, path, MAX_FILE_BYTES));
    *out = json_loadb(text, size, JSON_DECODE_INT_AS_REAL, &problem);
    free(text);
    if (!*out)
        return err_set(E_FORMAT, "%s:%d:%d: %s; get the file again", path, problem.line, problem.column, problem.text);
    if (json_is_object(*out))
        return OK;
    json_decref(*out);
    *out = NULL;
    return err_set(E_FORMAT, "%s: found no object, expected {\"pad_token\": ...}; get the file again", path);
}

static err find_id(int32_t *out, const reading *r, const char *token, const char *what)
{
    char shown[64];
    const json_t *id = json_object_get(r->vocab, token);
    if (!id)
        return err_set(E_FORMAT, "%s: %s '%s' is not in it; take all tokenizer files from one place", r->vocab_name,
                       what, text_escaped(shown, sizeof shown, token));
    *out = (int32_t)json_integer_value(id);
    return OK;
}

/* Every id a whole number, in range, and of one token. */
static err check_vocab(reading *r)
{
    const char *token;
    json_t *value;
    char shown[64];
    uint8_t *taken = calloc(MAX_ID, 1);
    if (!taken)
        return err_set(E_MEMORY, "%s: no memory to check it", r->vocab_name);
    err result =
        json_object_size(r->vocab) ? OK : err_set(E_FORMAT, "%s: no tokens; get the file again", r->vocab_name);
    json_object_foreach(r->vocab, token, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= MAX_ID) {
            char found[96];
            result = err_set(E_FORMAT, "%s: token '%s': found %s, expected an id from 0 to %d; get the file again",
                             r->vocab_name, text_escaped(shown, sizeof shown, token), json_text_describe(found, value),
                             MAX_ID - 1);
            break;
        }
        if (taken[id]) {
            result = err_set(E_FORMAT, "%s: token '%s': id %lld is another token's too; get the file again",
                             r->vocab_name, text_escaped(shown, sizeof shown, token), (long long)id);
            break;
        }
        taken[id] = 1;
        if (id >= r->out->size)
            r->out->size = (int32_t)id + 1;
    }
    free(taken);
    return result;
}

static err read_vocab(reading *r)
{
    if (file_exists(r->vocab_path) || !file_exists(r->whole_path)) {
        r->vocab_name = r->vocab_path;
        TRY(json_file_parse(&r->vocab, r->vocab_path, MAX_FILE_BYTES, JSON_REFUSE_DUPLICATES));
        if (!json_is_object(r->vocab))
            return err_set(E_FORMAT, "%s: found no object, expected {\"token\": id, ...}; get the file again",
                           r->vocab_path);
        if (file_exists(r->whole_path) && file_exists(r->merges_path)) /* only for the flags of its special tokens */
            return json_file_parse(&r->whole, r->whole_path, MAX_FILE_BYTES, JSON_KEEP_LAST);
        return OK;
    }
    const json_t *model, *vocab;
    r->vocab_name = r->whole_path;
    TRY(json_file_parse(&r->whole, r->whole_path, MAX_FILE_BYTES, JSON_REFUSE_DUPLICATES));
    TRY(json_get_object(&model, r->whole, "model", r->whole_path));
    TRY(json_get_object(&vocab, model, "vocab", r->whole_path));
    r->vocab = json_incref(json_object_get(model, "vocab"));
    return OK;
}

/* One merge: the ids of both parts and of what they become. */
static err add_merge(reading *r, const char *left, const char *right, int32_t rank, const char *where)
{
    int32_t left_id = 0, right_id = 0, joined_id = 0;
    size_t left_size = strlen(left), right_size = strlen(right);
    char *joined = heap_get(left_size + right_size + 1);
    memcpy(joined, left, left_size);
    memcpy(joined + left_size, right, right_size + 1);
    err result = find_id(&left_id, r, left, where);
    if (result == OK)
        result = find_id(&right_id, r, right, where);
    if (result == OK)
        result = find_id(&joined_id, r, joined, where);
    if (result == OK)
        bpe_add(&r->out->merges, left_id, right_id, rank, joined_id);
    free(joined);
    return result;
}

/* "left right"; cuts `line` in two. False when it is not two words. */
static bool cut_merge(char *line, const char **left, const char **right)
{
    char *space = strchr(line, ' ');
    if (!space || space == line || !space[1] || strchr(space + 1, ' '))
        return false;
    *space = 0;
    *left = line;
    *right = space + 1;
    return true;
}

static err add_merge_line(reading *r, char *line, int32_t rank, int number)
{
    const char *left, *right;
    char where[96];
    snprintf(where, sizeof where, "the token of merge %d", number);
    if (!cut_merge(line, &left, &right))
        return err_set(E_FORMAT, "%s:%d: found no two tokens with a space between them; get the file again",
                       r->merges_path, number);
    return add_merge(r, left, right, rank, where);
}

static err read_merges_text(reading *r)
{
    char *text, *next;
    size_t size;
    TRY(file_read(&text, &size, r->merges_path, MAX_FILE_BYTES));
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    bpe_reserve(&r->out->merges, lines);
    err result = strlen(text) == size
                     ? OK
                     : err_set(E_FORMAT, "%s: NUL byte at %zu; get the file again", r->merges_path, strlen(text));
    int32_t rank = 0;
    int number = 0;
    for (char *line = text; result == OK && *line; line = next) {
        size_t length = strcspn(line, "\n");
        next = line + length + (line[length] == '\n');
        line[length] = 0;
        if (length && line[length - 1] == '\r')
            line[length - 1] = 0;
        number++;
        if (strncmp(line, "#version", 8) != 0)
            result = add_merge_line(r, line, rank++, number);
    }
    free(text);
    return result;
}

/* tokenizer.json: "left right", or since tokenizers 0.20 ["left", "right"]. */
static err add_merge_value(reading *r, const json_t *value, int32_t rank)
{
    const char *left = json_string_value(json_array_get(value, 0)),
               *right = json_string_value(json_array_get(value, 1));
    char where[96];
    snprintf(where, sizeof where, "the token of merge %d", rank);
    if (left && right && json_array_size(value) == 2)
        return add_merge(r, left, right, rank, where);
    char *line = json_is_string(value) ? strdup(json_string_value(value)) : NULL;
    err result =
        line && cut_merge(line, &left, &right)
            ? add_merge(r, left, right, rank, where)
            : err_set(E_FORMAT, "%s: model.merges[%d]: found no two tokens; get the file again", r->whole_path, rank);
    free(line);
    return result;
}

static err read_merges(reading *r)
{
    if (r->vocab_name == r->vocab_path)
        return read_merges_text(r);
    const json_t *merges;
    TRY(json_get_list(&merges, json_object_get(r->whole, "model"), "merges", r->whole_path));
    bpe_reserve(&r->out->merges, json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++)
        TRY(add_merge_value(r, json_array_get(merges, i), (int32_t)i));
    return OK;
}

/* A special token's text: a string, or an object with "content". */
static const char *token_text(const json_t *value)
{
    return json_is_object(value) ? json_string_value(json_object_get(value, "content")) : json_string_value(value);
}

/* A token given again takes the place of the former, as in transformers. */
static err add_special(reading *r, const json_t *flags, const char *text, int32_t id, const char *where)
{
    static const char *const refused[] = {"lstrip", "rstrip", "single_word"};
    tokenizer_files *out = r->out;
    char shown[64];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (json_is_true(json_object_get(flags, refused[i])))
            return err_set(E_FORMAT, "%s: token '%s' with %s, which CLIP's tokenizer does not use; set it to false",
                           where, text_escaped(shown, sizeof shown, text), refused[i]);
    }
    special_token token = {arena_copy_string(&out->memory, text), strlen(text), id,
                           json_is_true(json_object_get(flags, "normalized"))};
    size_t at = 0;
    while (at < out->special_count && strcmp(out->special[at].text, text) != 0)
        at++;
    if (!token.size || at == MAX_SPECIAL)
        return err_set(E_FORMAT, "%s: %s; get the file again", where,
                       token.size ? "more than 4096 special tokens" : "an empty special token");
    if (at == out->special_count)
        out->special = heap_grow(out->special, ++out->special_count * sizeof *out->special);
    out->special[at] = token;
    if (id >= out->size)
        out->size = id + 1;
    return OK;
}

/* An id from the files; a token that is in the vocabulary keeps its id there. */
static err special_id(int32_t *out, const reading *r, const char *text, double id, const char *where)
{
    const json_t *known = json_object_get(r->vocab, text);
    char shown[64];
    if (!known && !(id >= 0 && id < MAX_ID))
        return err_set(E_FORMAT, "%s: token '%s': found id %g, expected one from 0 to %d", where,
                       text_escaped(shown, sizeof shown, text), id, MAX_ID - 1);
    *out = known ? (int32_t)json_integer_value(known) : (int32_t)id;
    return OK;
}

/* tokenizer_config.json: added_tokens_decoder: {"49406": {"content": ...}}. */
static err add_decoder_tokens(reading *r, json_t *decoder)
{
    const char *key;
    json_t *value;
    json_object_foreach(decoder, key, value) {
        const char *text = token_text(value);
        int32_t id = 0;
        if (!text)
            return err_set(E_FORMAT, "%s: added_tokens_decoder: %s: no content; get the file again", r->config_path,
                           key);
        TRY(special_id(&id, r, text, strtod(key, NULL), r->config_path));
        TRY(add_special(r, value, text, id, r->config_path));
    }
    return OK;
}

/* tokenizer.json: added_tokens: [{"id": 49406, "content": ...}]. */
static err add_listed_tokens(reading *r, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i), *number = json_object_get(value, "id");
        const char *text = token_text(value);
        int32_t id = 0;
        if (!text || !json_is_number(number))
            return err_set(E_FORMAT, "%s: added_tokens[%zu]: expected an id and a content; get the file again",
                           r->whole_path, i);
        TRY(special_id(&id, r, text, json_number_value(number), r->whole_path));
        TRY(add_special(r, value, text, id, r->whole_path));
    }
    return OK;
}

static bool known_special(const tokenizer_files *f, const char *text)
{
    for (size_t i = 0; i < f->special_count; i++) {
        if (strcmp(f->special[i].text, text) == 0)
            return true;
    }
    return false;
}

/* start, end, unknown and padding: from special_tokens_map.json, then tokenizer_config.json, then CLIP's own names.
 * Where tokenizer_config.json lists all added tokens, or they are in tokenizer.json, the flags are from there and the
 * map is not read. */
static err add_named_tokens(reading *r, bool listed)
{
    for (int i = 0; i < NAMES; i++) {
        const json_t *value = listed ? NULL : json_object_get(r->map, name_keys[i]);
        const char *where = value ? r->map_path : r->config_path;
        if (!value || json_is_null(value)) {
            value = json_object_get(r->config, name_keys[i]);
            where = r->config_path;
        }
        bool named = value && !json_is_null(value);
        r->names[i] = named ? token_text(value) : i == BOS ? "<|startoftext|>" : "<|endoftext|>";
        if (!r->names[i])
            return err_set(E_FORMAT, "%s: %s: found neither a string nor an object with content; get the file again",
                           where, name_keys[i]);
        if (listed && known_special(r->out, r->names[i]))
            continue;
        int32_t id = 0;
        TRY(find_id(&id, r, r->names[i], name_keys[i]));
        TRY(add_special(r, named && json_is_object(value) ? value : NULL, r->names[i], id, where));
    }
    return OK;
}

static int32_t id_of_special(const tokenizer_files *f, const char *text)
{
    for (size_t i = 0; i < f->special_count; i++) {
        if (strcmp(f->special[i].text, text) == 0)
            return f->special[i].id;
    }
    CHECK(false, "special token '%s'", text);
}

static err read_special(reading *r)
{
    TRY(read_settings(&r->config, r->config_path));
    TRY(read_settings(&r->map, r->map_path));
    json_t *decoder = json_object_get(r->config, "added_tokens_decoder");
    const json_t *list = json_object_get(r->whole, "added_tokens");
    bool listed = json_object_size(decoder) || json_array_size(list);
    if (json_object_size(decoder))
        TRY(add_decoder_tokens(r, decoder));
    else
        TRY(add_listed_tokens(r, list));
    TRY(add_named_tokens(r, listed));
    r->out->start = id_of_special(r->out, r->names[BOS]);
    r->out->end = id_of_special(r->out, r->names[EOS]);
    r->out->pad = id_of_special(r->out, r->names[PAD]);
    return OK;
}

/* A byte that the vocabulary lacks (CLIP's has all; small test vocabularies do not) is the unknown token. */
static void set_byte_tokens(reading *r)
{
    int32_t unknown = id_of_special(r->out, r->names[UNK]);
    for (int byte = 0; byte < 256; byte++) {
        char token[8];
        byte_alphabet_text(token, (uint8_t)byte, "");
        const json_t *inside = json_object_get(r->vocab, token);
        byte_alphabet_text(token, (uint8_t)byte, "</w>");
        const json_t *last = json_object_get(r->vocab, token);
        r->out->merges.byte_id[byte] = inside ? (int32_t)json_integer_value(inside) : unknown;
        r->out->merges.last_byte_id[byte] = last ? (int32_t)json_integer_value(last) : unknown;
    }
}

static err read_all(reading *r)
{
    TRY(read_vocab(r));
    TRY(check_vocab(r));
    TRY(read_merges(r));
    TRY(read_special(r));
    set_byte_tokens(r);
    return OK;
}

err tokenizer_files_read(tokenizer_files *out, const char *folder)
{
    *out = (tokenizer_files){0};
    reading r = {
        .out = out,
        .vocab_path = path_join(folder, "vocab.json"),
        .merges_path = path_join(folder, "merges.txt"),
        .whole_path = path_join(folder, "tokenizer.json"),
        .config_path = path_join(folder, "tokenizer_config.json"),
        .map_path = path_join(folder, "special_tokens_map.json"),
    };
    err result = read_all(&r);
    json_t *documents[] = {r.vocab, r.whole, r.config, r.map};
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
        json_decref(documents[i]);
    char *paths[] = {r.vocab_path, r.merges_path, r.whole_path, r.config_path, r.map_path};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        free(paths[i]);
    if (result != OK)
        tokenizer_files_free(out);
    return result;
}

void tokenizer_files_free(tokenizer_files *f)
{
    bpe_free(&f->merges);
    free(f->special);
    arena_free(&f->memory);
    *f = (tokenizer_files){0};
}
