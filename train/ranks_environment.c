#include "train/ranks_environment.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 65536 };

/* A whole number within [low, high] and nothing else. */
static bool read_whole(int *out, const char *text, int low, int high)
{
    char *end;
    if (!text || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || value < low || value > high)
        return false;
    *out = (int)value;
    return true;
}

/* What is wrong, gathered into one line. */
typedef struct faults {
    char   text[2048];
    size_t used;
} faults;

__attribute__((format(printf, 2, 3))) static void add_fault(faults *f, const char *format, ...)
{
    va_list arguments;
    if (f->used && f->used + 2 < sizeof f->text)
        f->used += (size_t)snprintf(f->text + f->used, sizeof f->text - f->used, "; ");
    va_start(arguments, format);
    int more = vsnprintf(f->text + f->used, sizeof f->text - f->used, format, arguments);
    va_end(arguments);
    f->used += more > 0 ? (size_t)more : 0;
    f->used = f->used < sizeof f->text ? f->used : sizeof f->text - 1;
}

static void read_variable(int *out, faults *f, const char *name, int low, int high)
{
    const char *text = getenv(name);
    if (!text)
        add_fault(f, "%s is not set", name);
    else if (!read_whole(out, text, low, high))
        add_fault(f, "%s: found \"%.40s\", expected a whole number from %d to %d", name, text, low, high);
}

/* More than one process of this launcher? Variables that are set and say 1, or nothing, are those of a single one. */
static bool several(const char *name)
{
    int count = 0;
    return read_whole(&count, getenv(name), 0, MOST_RANKS) && count > 1;
}

static bool is_mpi(void)
{
    return several("OMPI_COMM_WORLD_SIZE") || several("PMI_SIZE") ||
           ((getenv("PMIX_RANK") || getenv("PMI_RANK")) && several("SLURM_STEP_NUM_TASKS"));
}

static void read_master(ranks_place *p, faults *f)
{
    const char *address = getenv("MASTER_ADDR"), *agent = getenv("TORCHELASTIC_USE_AGENT_STORE");
    if (!address || !address[0])
        add_fault(f, "MASTER_ADDR is not set");
    else if (strlen(address) >= sizeof p->address)
        add_fault(f, "MASTER_ADDR: %zu letters, expected a host name or address", strlen(address));
    else
        snprintf(p->address, sizeof p->address, "%s", address);
    read_variable(&p->port, f, "MASTER_PORT", 1, 65534);
    if (agent && !strcmp(agent, "True"))
        p->port++;
}

static err read_variables(ranks_place *p)
{
    faults f = {.used = 0};
    p->found = RANKS_ENVIRONMENT;
    p->count = MOST_RANKS;
    read_variable(&p->count, &f, "WORLD_SIZE", 1, MOST_RANKS);
    read_variable(&p->rank, &f, "RANK", 0, p->count - 1);
    if (getenv("LOCAL_RANK"))
        read_variable(&p->local, &f, "LOCAL_RANK", 0, p->count - 1);
    if (p->count > 1)
        read_master(p, &f);
    if (f.used)
        return err_set(E_DISTRIBUTED, "%s; set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun does, or unset "
                                      "RANK and WORLD_SIZE for one process", f.text);
    if (p->count == 1)
        *p = (ranks_place){.found = RANKS_NONE, .count = 1};
    return OK;
}

err ranks_place_read(ranks_place *p)
{
    *p = (ranks_place){.found = RANKS_NONE, .count = 1};
    if (is_mpi()) {
        p->found = RANKS_MPI;
        return OK;
    }
    if (getenv("RANK") || getenv("WORLD_SIZE"))
        return read_variables(p);
    if (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID") && several("SLURM_STEP_NUM_TASKS"))
        return err_set(E_DISTRIBUTED, "srun started %s tasks without MPI: each would train alone; start them with srun --mpi=pmix (or "
                                      "pmi2), or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT from Slurm's variables",
                       getenv("SLURM_STEP_NUM_TASKS"));
    return OK;
}
