#include "base/threads.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"

enum { MOST_CPUS = 1 << 16, FILE_LIMIT = 1 << 16 };

/* The CPUs of this process, *size bytes, to be freed by CPU_FREE; NULL when the kernel does not say. */
static cpu_set_t *affinity(size_t *size)
{
    for (size_t cpus = 1024; cpus <= MOST_CPUS; cpus *= 2) { /* the kernel refuses a mask smaller than its own */
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            break;
        *size = CPU_ALLOC_SIZE(cpus);
        if (sched_getaffinity(0, *size, set) != 0 || CPU_COUNT_S(*size, set) == 0) {
            CPU_FREE(set);
            continue;
        }
        for (int place = 0; place < omp_get_num_places(); place++) {
            int count = omp_get_place_num_procs(place);
            int *cpu = heap_get((size_t)(count + 1) * sizeof *cpu);
            omp_get_place_proc_ids(place, cpu);
            for (int i = 0; i < count; i++)
                if (cpu[i] >= 0)
                    CPU_SET_S((size_t)cpu[i], *size, set);
            free(cpu);
        }
        return set;
    }
    return NULL;
}

static int count_cpus(void)
{
    size_t size;
    cpu_set_t *set = affinity(&size);
    int count = set ? CPU_COUNT_S(size, set) : 0;
    long online = count > 0 ? count : sysconf(_SC_NPROCESSORS_ONLN);
    CPU_FREE(set);
    return online > 0 && online < MOST_CPUS ? (int)online : 1;
}

int threads_start(pthread_t *out, void *(*run)(void *), void *user)
{
    size_t size;
    pthread_attr_t how;
    int code = pthread_attr_init(&how);
    if (code)
        return code;
    cpu_set_t *set = omp_get_num_places() > 0 ? affinity(&size) : NULL;
    if (set)
        code = pthread_attr_setaffinity_np(&how, size, set);
    if (!code)
        code = pthread_create(out, &how, run, user);
    CPU_FREE(set);
    pthread_attr_destroy(&how);
    return code;
}

/* Two numbers of one file ("50000 100000") or one; how many were read. "max" is no number. */
static int read_numbers(double number[2], const char *folder, const char *name)
{
    char *path = path_join(folder, name), *text = NULL;
    size_t size;
    int count = file_exists(path) && file_read(&text, &size, path, FILE_LIMIT) == OK
                    ? sscanf(text, "%lf %lf", &number[0], &number[1])
                    : 0;
    free(text);
    free(path);
    return count;
}

static double quota_of(const char *folder, bool v2)
{
    double a[2], b[2];
    if (v2)
        return read_numbers(a, folder, "cpu.max") == 2 && a[0] > 0 && a[1] > 0 ? a[0] / a[1] : 0;
    if (read_numbers(a, folder, "cpu.cfs_quota_us") < 1 || read_numbers(b, folder, "cpu.cfs_period_us") < 1)
        return 0;
    return a[0] > 0 && b[0] > 0 ? a[0] / b[0] : 0; /* a quota of -1 is none */
}

/* The strictest quota from `mount`/`group` up to `mount`. Inside a container the group may not be visible; its root
 * is. */
static double strictest(const char *mount, const char *group, bool v2)
{
    char *folder = path_join(mount, group[0] == '/' ? group + 1 : group);
    size_t top = strlen(mount);
    double least = 0;
    for (size_t length = strlen(folder); length >= top; length--) {
        if (folder[length] != '/' && folder[length] != 0)
            continue;
        folder[length] = 0;
        double quota = quota_of(folder, v2);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
    }
    free(folder);
    return least;
}

static double smaller_limit(double a, double b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

static bool has_controller(const char *list, size_t length, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i + n <= length; i++)
        if ((i == 0 || list[i - 1] == ',') && !memcmp(list + i, name, n) && (i + n == length || list[i + n] == ','))
            return true;
    return false;
}

double threads_quota(const char *membership, const char *root)
{
    double least = 0;
    for (const char *line = membership; *line;) { /* "0::/group" or "4:cpu,cpuacct:/group" */
        const char *end = strchr(line, '\n');
        size_t length = end ? (size_t)(end - line) : strlen(line);
        const char *first = memchr(line, ':', length);
        const char *second = first ? memchr(first + 1, ':', length - (size_t)(first + 1 - line)) : NULL;
        if (second) {
            size_t names = (size_t)(second - first - 1);
            arena text = {0};
            char *group = arena_print(&text, "%.*s", (int)(length - (size_t)(second + 1 - line)), second + 1);
            if (names == 0)
                least = smaller_limit(least, strictest(root, group, true));
            else if (has_controller(first + 1, names, "cpu")) {
                char *mount = arena_print(&text, "%s/%.*s", root, (int)names, first + 1);
                least = smaller_limit(least, strictest(mount, group, false));
                least = smaller_limit(least, strictest(arena_print(&text, "%s/cpu", root), group, false));
            }
            arena_free(&text);
        }
        line += length + (end != NULL);
    }
    return least;
}

int threads_usable(void)
{
    int cpus = count_cpus();
    char *membership = NULL;
    size_t size;
    double quota = 0;
    if (file_exists("/proc/self/cgroup") && file_read(&membership, &size, "/proc/self/cgroup", FILE_LIMIT) == OK)
        quota = threads_quota(membership, "/sys/fs/cgroup");
    free(membership);
    if (quota > 0 && ceil(quota) < cpus)
        cpus = (int)ceil(quota);
    return cpus;
}
