#include "data/tensor_file.h"

static err parse(tensor_file *f, const char *path)
{
    f->kind = file_kind_of(f->map.bytes, f->map.size);
    switch (f->kind) {
    case FILE_ZIP:
        TRY(torch_bin_parse(&f->torch, f->map.bytes, f->map.size, path));
        f->tensors = &f->torch->tensors;
        return OK;
    case FILE_SAFETENSORS:
    case FILE_UNKNOWN: /* a damaged header says more than "unknown" */
        TRY(safetensors_parse(&f->safetensors, f->map.bytes, f->map.size, path));
        f->kind = FILE_SAFETENSORS;
        f->tensors = &f->safetensors->tensors;
        f->metadata = f->safetensors->metadata;
        f->metadata_count = f->safetensors->metadata_count;
        return OK;
    default:
        return err_prefix(file_kind_refuse(f->kind, "weights (.safetensors, or a .bin of torch.save)"), "%s", path);
    }
}

err tensor_file_open(tensor_file *out, const char *path)
{
    tensor_file f = {0};
    TRY(file_map_open(&f.map, path));
    err e = parse(&f, path);
    if (e)
        tensor_file_close(&f);
    *out = f;
    return e;
}

void tensor_file_close(tensor_file *f)
{
    safetensors_close(f->safetensors);
    torch_bin_close(f->torch);
    file_map_close(&f->map);
    *f = (tensor_file){0};
}

const char *tensor_file_metadata(const tensor_file *f, const char *key)
{
    return f->safetensors ? safetensors_metadata(f->safetensors, key) : NULL;
}
