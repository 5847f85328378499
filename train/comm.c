#include "train/comm.h"

#include <string.h>

static void count(comm *c, int64_t bytes)
{
    c->begun++;
    c->bytes += bytes;
}

static int64_t part_size(int64_t elements, int part, int parts)
{
    return comm_part_begin(elements, part + 1, parts) - comm_part_begin(elements, part, parts);
}

/* Parts are equal where they can be: what is left over goes to the first ones. */
int64_t comm_part_begin(int64_t elements, int part, int parts)
{
    int64_t each = elements / parts, left = elements % parts;
    return part * each + (part < left ? part : left);
}

int64_t comm_sum_part_bytes(int64_t elements, dtype type, int rank, int all)
{
    return (elements - part_size(elements, rank, all)) * (int64_t)dtype_bytes(type);
}

int64_t comm_gather_bytes(int64_t elements, dtype type, int rank, int all)
{
    return (all - 1) * part_size(elements, rank, all) * (int64_t)dtype_bytes(type);
}

static void check(const tensor *t)
{
    CHECK(tensor_contiguous(t) && (t->type == DT_F32 || t->type == DT_BF16), "%s of %s is nothing to send", t->name,
          dtype_name(t->type));
}

err comm_sum(comm *c, tensor *flat)
{
    if (!c)
        return OK;
    check(flat);
    int64_t n = tensor_count(flat);
    count(c, comm_sum_part_bytes(n, flat->type, c->rank, c->count) + comm_gather_bytes(n, flat->type, c->rank, c->count));
    return c->calls->sum(c, flat);
}

err comm_sum_part(comm *c, tensor *flat)
{
    if (!c)
        return OK;
    check(flat);
    count(c, comm_sum_part_bytes(tensor_count(flat), flat->type, c->rank, c->count));
    return c->calls->sum_part(c, flat);
}

err comm_gather(comm *c, tensor *flat)
{
    if (!c)
        return OK;
    check(flat);
    count(c, comm_gather_bytes(tensor_count(flat), flat->type, c->rank, c->count));
    return c->calls->gather(c, flat);
}

err comm_wait(comm *c)
{
    return c ? c->calls->wait(c) : OK;
}

void comm_close(comm *c)
{
    if (c)
        c->calls->close(c);
}

err comm_open(comm **out, ranks *r, const device *dev)
{
    *out = NULL;
    if (!r)
        return OK;
    if (strcmp(dev->kind, "cpu"))
        return comm_open_nccl(out, r, dev);
    if (ranks_how(r) != RANKS_MPI)
        return err_set(E_DISTRIBUTED, "%d ranks on the CPU without MPI; start them with mpirun", ranks_count(r));
    return comm_open_mpi(out);
}
