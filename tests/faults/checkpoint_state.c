#include "checkpoint_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/counter.h"
#include "train/checkpoint_list.h"

enum { ROWS = 3000, WIDTH = 30 }; /* a file of several of the writer's buffers */

static const text_pair metadata[] = {{"format", "msd-adapter-1"}};

static void fill(tensor *t, const char *what, int64_t step)
{
    char key[64];
    snprintf(key, sizeof key, "%s#%lld", what, (long long)step);
    counter_uniform(t->data, key, 0, tensor_count(t));
}

void state_open(state *s)
{
    tensor *t = NULL;
    adamw   how = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    *s = (state){0};
    err e = device_open_cpu(&s->dev, 1);
    if (e == OK)
        e = tensor_new(&t, &s->memory, s->dev, LIFE_STATE, "w", DT_F32, DIMS(ROWS, WIDTH));
    CHECK(e == OK, "%s", err_message());
    t->needs_grad = true;
    s->parameter = (parameter){.name = "image_proj.w", .t = t, .rate = 1};
    e = optimizer_new(&s->o, &s->memory, s->dev, &s->parameter, 1, how);
    CHECK(e == OK, "%s", err_message());
    s->c = (checkpoint){.tensor = &s->parameter, .tensors = 1, .metadata = metadata, .metadata_count = 1, .optimizer = s->o,
                        .config = "train: {steps: 3}\n"};
}

void state_close(state *s)
{
    optimizer_free(s->o);
    tensor_release(s->parameter.t);
    device_close(s->dev);
    arena_free(&s->memory);
}

void state_of_step(state *s, int64_t step)
{
    fill(s->parameter.t, "w", step);
    fill(s->o->m[0], "m", step);
    fill(s->o->v[0], "v", step);
    s->o->updates = step;
    s->c.step = step;
}

bool state_holds(const state *s, int64_t step)
{
    float *expected = heap_get((size_t)(ROWS * WIDTH) * sizeof *expected);
    char   key[64];
    snprintf(key, sizeof key, "w#%lld", (long long)step);
    counter_uniform(expected, key, 0, ROWS * WIDTH);
    bool same = !memcmp(expected, s->parameter.t->data, (size_t)(ROWS * WIDTH) * sizeof *expected);
    free(expected);
    return same && s->c.step == step && s->o->updates == step;
}

err state_save(state *s, const char *run, int64_t step)
{
    state_of_step(s, step);
    TRY(checkpoint_save(run, &s->c));
    checkpoint_rotate(run, STATE_KEEP, step);
    return OK;
}
