#include "train/schedule.h"

#include <math.h>

double schedule_rate(schedule s, int64_t step)
{
    double k = (double)(step - 1), warmup = (double)s.warmup, steps = (double)s.steps;
    if (k < warmup)
        return s.lr * k / warmup;
    double left = steps > warmup ? steps - warmup : 1; /* of the decay; a run as long as its warm-up has none */
    switch (s.kind) {
    case SCHEDULE_CONSTANT: return s.lr;
    case SCHEDULE_LINEAR: return s.lr * fmax(0, steps - k) / left;
    case SCHEDULE_COSINE: return s.lr * 0.5 * (1 + cos(3.14159265358979323846 * fmin(1, (k - warmup) / left)));
    }
    return s.lr;
}
