/* Memory planned before it is taken: the allocations of a step, whose births and deaths a run on the meta device tells,
 * laid out in one block so that what lives at the same time never overlaps. And an allocator that hands out those
 * places while the step runs. */
#ifndef MSD_AUTOGRAD_PLANNER_H
#define MSD_AUTOGRAD_PLANNER_H

#include "autograd/device.h"

#define PLAN_ALIVE INT64_MAX /* death of what is never put back */

typedef struct allocation {
    size_t   bytes;
    lifetime life;
    int64_t  birth, death; /* alive in [birth, death), in any unit of time; birth < death */
} allocation;

typedef struct memory_plan {
    allocation *item;    /* in the order given, which is that of the gets */
    size_t     *offset;  /* of each in the block, a multiple of 64 */
    size_t      count;
    size_t      peak;    /* bytes of the block */
    size_t      largest; /* bytes alive at once at most, sizes rounded up to 64: no plan is smaller */
} memory_plan;

/* Places by the best of several greedy orders (by size, by size x lifetime, by lifetime, by birth), each allocation in
 * the smallest gap that it fits between those alive with it. The same plan for the same input. Heap memory of *out is
 * released by plan_free. E_MEMORY: the block would overflow size_t. */
err  plan_make(memory_plan *out, const allocation *item, size_t count);
void plan_free(memory_plan *p);

/* An allocator that gives the n-th get of a lifetime the place of the n-th allocation of that lifetime in the plan, in
 * `block`, p->peak bytes aligned to 64. A get that the plan does not foresee (other size, beyond its end, a place
 * still in use) goes to `inner` and is counted by strays; lifetimes that the plan has none of go there uncounted. What
 * inner gave before may be put back here. p, block and inner outlive it. */
void planned_allocator_open(allocator **out, const memory_plan *p, void *block, allocator *inner);
void planned_allocator_close(allocator *a);    /* nothing of the plan may be in use; NULL is fine */
/* Gets count from the plan's start again: for the next step, or for the calls of a noted one, when what lives now keeps its
 * place but is not in the way of what the plan puts there before it. */
void planned_allocator_restart(allocator *a);
int64_t planned_allocator_strays(const allocator *a);
int64_t planned_allocator_outside(const allocator *a); /* gets that went to inner, foreseen or not */
/* The plan and its block: what the same gets are given follows from these two. */
void planned_allocator_place(const void *place[2], const allocator *a);

#endif
