/* cuDNN's plans, made once per key. */
#include "autograd/cuda/dnn.h"

err cuda_plan(const dnn_plan **out, cuda_state *s, const int64_t *key, int words, bool exact, dnn_builder build,
              const void *what)
{
    keyed_entry *entry = keyed_at(&s->plans, key, words);
    if (!entry->value && !entry->absent) {
        dnn_graph g;
        dnn_plan *made;
        dnn_open(&g, s, exact);
        build(&g, what);
        TRY(dnn_make_plan(&made, &g));
        entry->value = made;
        entry->absent = !made;
    }
    *out = entry->value;
    return OK;
}
