/* cuDNN's plans, made once per key: from the store of this card, else from the library's heuristics, and then put there. */
#include <stdlib.h>

#include "autograd/cuda/dnn.h"

static const char KIND[] = "cudnn plan";

static dnn_plan *kept_plan(cuda_state *s, const int64_t *key, int words)
{
    void  *text;
    size_t bytes;
    if (!cuda_store_get(&text, &bytes, s->store, KIND, key, words))
        return NULL;
    dnn_plan *plan = dnn_plan_of_text(s, text, bytes);
    if (!plan && cudaPeekAtLastError() == cudaSuccess) /* a broken card's word on it is none */
        cuda_store_refuse(s->store, KIND, key, words);
    free(text);
    return plan;
}

static void keep_plan(cuda_state *s, const int64_t *key, int words, const dnn_plan *plan)
{
    size_t bytes;
    char  *text = s->store ? dnn_plan_text(&bytes, plan) : NULL;
    if (text)
        cuda_store_put(s->store, KIND, key, words, text, bytes);
    free(text);
}

/* The store's key is the graph's print: what a key means may change with the program, a graph says all. */
static err make_plan(dnn_plan **out, cuda_state *s, bool exact, dnn_builder build, const void *what)
{
    dnn_graph g;
    dnn_open(&g, s, exact);
    build(&g, what);
    const int64_t key[] = {(int64_t)g.print, exact};
    const int     words = sizeof key / sizeof *key;
    *out = kept_plan(s, key, words);
    if (*out) {
        dnn_abandon(&g);
        return OK;
    }
    TRY(dnn_make_plan(out, &g));
    if (*out)
        keep_plan(s, key, words, *out);
    return OK;
}

err cuda_plan(const dnn_plan **out, cuda_state *s, const int64_t *key, int words, bool exact, dnn_builder build,
              const void *what)
{
    keyed_entry *entry = keyed_at(&s->plans, key, words);
    if (!entry->value && !entry->absent) {
        dnn_plan *made;
        TRY(make_plan(&made, s, exact, build, what));
        entry->value = made;
        entry->absent = !made;
    }
    *out = entry->value;
    return OK;
}
