/* How far two .safetensors of f32 are apart: prints ||a - b|| / ||a|| over all of their tensors, which have to have the same
 * names and sizes.
 *     compare_weights A B */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/safetensors.h"

static float at(const stored_tensor *t, size_t i)
{
    float x;
    memcpy(&x, (const char *)t->data + 4 * i, sizeof x);
    return x;
}

static int compare(const safetensors *a, const safetensors *b)
{
    double apart = 0, all = 0;
    if (a->tensors.count != b->tensors.count)
        return fprintf(stderr, "%zu and %zu tensors\n", a->tensors.count, b->tensors.count), 1;
    for (size_t i = 0; i < a->tensors.count; i++) {
        const stored_tensor *x = &a->tensors.at[i], *y = tensor_table_find(&b->tensors, x->name);
        if (!y || y->bytes != x->bytes || x->type != STORED_F32 || y->type != STORED_F32)
            return fprintf(stderr, "%s differs in kind\n", x->name), 1;
        for (size_t k = 0; k < (size_t)x->count; k++) {
            double d = (double)at(x, k) - (double)at(y, k);
            apart += d * d;
            all += (double)at(x, k) * (double)at(x, k);
        }
    }
    printf("%.3e\n", sqrt(apart / all));
    return 0;
}

int main(int count, char **argument)
{
    safetensors *a = NULL, *b = NULL;
    if (count != 3 || safetensors_open(&a, argument[1]) != OK || safetensors_open(&b, argument[2]) != OK)
        return fprintf(stderr, "%s\n", count == 3 ? err_message() : "compare_weights A B"), 2;
    int code = compare(a, b);
    safetensors_close(a);
    safetensors_close(b);
    return code;
}
