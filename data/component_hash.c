#include "data/component_hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/hf_folder.h"
#include "data/weights.h"

static err add_file(hash_state *h, file_stamps *s, const char *path)
{
    char hex[65];
    TRY(file_stamps_hash(hex, s, path));
    hash_add(h, hex, sizeof hex);
    return OK;
}

/* A missing file is a part of what the network is, too. */
static err add_named(hash_state *h, file_stamps *s, const char *folder, const char *component, const char *name)
{
    char *path = hf_path(folder, component, name);
    err e = OK;
    hash_add(h, name, strlen(name) + 1);
    if (file_exists(path))
        e = add_file(h, s, path);
    free(path);
    return e;
}

static err add_weights(hash_state *h, file_stamps *s, const char *folder, const char *component)
{
    weights *w = NULL;
    TRY(weights_open_component(&w, folder, component));
    err e = OK;
    for (size_t i = 0; i < w->files && e == OK; i++)
        e = add_file(h, s, w->file_path[i]);
    weights_close(w);
    return e;
}

err component_hash(char hex[65], file_stamps *s, const char *folder, const char *component, const char *tokenizer)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json"};
    hash_state *h = hash_start();
    err e = add_named(h, s, folder, component, "config.json");
    if (e == OK)
        e = add_weights(h, s, folder, component);
    for (size_t i = 0; tokenizer && i < sizeof names / sizeof *names && e == OK; i++)
        e = add_named(h, s, folder, tokenizer, names[i]);
    hash_end(hex, h);
    if (e != OK)
        hex[0] = 0;
    return e;
}
