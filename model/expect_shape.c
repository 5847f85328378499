#include "model/expect_shape.h"

#include <inttypes.h>

err expect_shape(const char *name, const tensor *t, int ndim, const int64_t *dim)
{
    bool  fits = t->ndim == ndim;
    arena text = {0};
    char *expected = arena_copy_string(&text, "(");
    err   e = OK;
    for (int i = 0; i < ndim; i++) {
        fits = fits && (dim[i] < 0 ? t->dim[i] > 0 : t->dim[i] == dim[i]);
        expected = dim[i] < 0 ? arena_print(&text, "%s%s*", expected, i ? "," : "")
                              : arena_print(&text, "%s%s%" PRId64, expected, i ? "," : "", dim[i]);
    }
    if (!fits)
        e = err_set(E_SHAPE, "%s: got %s, expected %s)", name, tensor_shape_text(&text, t), expected);
    arena_free(&text);
    return e;
}
