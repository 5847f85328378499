#include "data/adapter_file.h"

#include <stdlib.h>
#include <string.h>

static err open_checked(adapter_file *a, const char *path)
{
    TRY(tensor_file_open(&a->file, path));
    err e = adapter_layout_read(&a->sizes, &a->tensors, a->file.tensors);
    if (e)
        return err_prefix(e, "%s", path);
    return weights_from_table(&a->weights, &a->tensors, path);
}

err adapter_file_open(adapter_file **out, const char *path)
{
    adapter_file *a = heap_get(sizeof *a);
    *a = (adapter_file){0};
    err e = open_checked(a, path);
    if (e) {
        adapter_file_close(a);
        return err_as(e, E_MODEL);
    }
    *out = a;
    return OK;
}

void adapter_file_close(adapter_file *a)
{
    if (!a)
        return;
    weights_close(a->weights);
    tensor_table_free(&a->tensors);
    tensor_file_close(&a->file);
    free(a);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const text_pair *)a)->key, ((const text_pair *)b)->key);
}

size_t adapter_file_metadata(const text_pair **out, arena *memory, const adapter_file_sizes *sizes, const char *base,
                             const char *step)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"cross_width", sizes->cross_width}, {"depth", sizes->depth}, {"dim", sizes->dim},
        {"ff_width", sizes->ff_width}, {"heads", sizes->heads}, {"image_width", sizes->image_width},
        {"pairs", sizes->pairs}, {"phrase_width", sizes->phrase_width}, {"queries", sizes->queries},
    };
    text_pair *list = ARENA_ARRAY(memory, text_pair, sizeof numbers / sizeof *numbers + 3);
    size_t count = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        list[count++] = (text_pair){numbers[i].key, arena_print(memory, "%lld", (long long)numbers[i].value)};
    list[count++] = (text_pair){"format", "ms_adapter"};
    if (base)
        list[count++] = (text_pair){"base", arena_copy_string(memory, base)};
    if (step)
        list[count++] = (text_pair){"step", arena_copy_string(memory, step)};
    qsort(list, count, sizeof *list, compare_keys);
    *out = list;
    return count;
}

/* ---- writing ---- */

static bool ends(const char *path, const char *ending)
{
    size_t length = strlen(path), tail = strlen(ending);
    return length > tail && strcmp(path + length - tail, ending) == 0;
}

/* One of the two, behind the same four calls. */
typedef struct adapter_writer {
    safetensors_writer *safetensors;
    torch_bin_writer *torch;
} adapter_writer;

static err create(adapter_writer *w, const char *path)
{
    *w = (adapter_writer){0};
    if (ends(path, ".safetensors"))
        return safetensors_create(&w->safetensors, path);
    if (ends(path, ".bin"))
        return torch_bin_create(&w->torch, path);
    return err_set(E_USAGE, "%s: the ending says the form of an adapter file; expected .safetensors or .bin", path);
}

/* "image_proj.proj_in.weight" is proj_in.weight of the inner dict image_proj; dummy_image_tokens is outside. */
static void declare(adapter_writer *w, const stored_tensor *t, stored_type type)
{
    if (w->safetensors) {
        safetensors_declare(w->safetensors, t->name, type, t->ndim, t->dim);
        return;
    }
    static const char *const groups[] = {"image_proj", "ms_adapter"};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        size_t length = strlen(groups[i]);
        if (strncmp(t->name, groups[i], length) == 0 && t->name[length] == '.') {
            torch_bin_declare(w->torch, groups[i], t->name + length + 1, type, t->ndim, t->dim);
            return;
        }
    }
    torch_bin_declare(w->torch, NULL, t->name, type, t->ndim, t->dim);
}

static err check_fits(const stored_tensor *t, const float *values)
{
    for (int64_t i = 0; i < t->count; i++) {
        float magnitude = values[i] < 0 ? -values[i] : values[i];
        if (magnitude >= 65520 && magnitude <= 3.4028234e38f)
            return err_set(E_NUMERIC, "%s: element %lld is %g, which does not fit f16; use bf16 or f32", t->name,
                           (long long)i, (double)values[i]);
    }
    return OK;
}

static err write_converted(adapter_writer *w, const stored_tensor *t, stored_type type)
{
    float *values = NULL;
    TRY(stored_read_f32(&values, t));
    err e = type == STORED_F16 ? check_fits(t, values) : OK;
    if (!e)
        e = w->safetensors ? safetensors_write_f32(w->safetensors, values) : torch_bin_write_f32(w->torch, values);
    free(values);
    return e;
}

static err write_all(adapter_writer *w, const stored_tensor *tensors, size_t count, stored_type type)
{
    for (size_t i = 0; i < count; i++)
        declare(w, &tensors[i], type == STORED_TYPE_COUNT ? tensors[i].type : type);
    for (size_t i = 0; i < count; i++) {
        const stored_tensor *t = &tensors[i];
        if (type != STORED_TYPE_COUNT && type != t->type)
            TRY(write_converted(w, t, type));
        else if (w->safetensors)
            TRY(safetensors_write(w->safetensors, t->data, t->bytes));
        else
            TRY(torch_bin_write(w->torch, t->data));
    }
    return OK;
}

err adapter_file_write(const char *path, const stored_tensor *tensors, size_t count, stored_type type,
                       const text_pair *metadata, size_t metadata_count)
{
    adapter_writer w;
    TRY(create(&w, path));
    for (size_t i = 0; w.safetensors && i < metadata_count; i++)
        safetensors_note(w.safetensors, metadata[i].key, metadata[i].value);
    err e = write_all(&w, tensors, count, type);
    if (!e)
        return w.safetensors ? safetensors_publish(w.safetensors) : torch_bin_publish(w.torch);
    safetensors_discard(w.safetensors);
    torch_bin_discard(w.torch);
    return err_prefix(e, "%s", path);
}
